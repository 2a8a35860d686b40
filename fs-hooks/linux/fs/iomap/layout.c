// SPDX-License-Identifier: GPL-2.0
/*
 * ->pin_layout() for filesystems that describe their files by iomaps.
 */
#include <linux/iomap.h>
#include <linux/layout.h>
#include <linux/sched/signal.h>

static int iomap_layout_iter(struct iomap_iter *iter,
		struct layout_context *ctx, bool *again)
{
	struct iomap *iomap = &iter->iomap;
	struct layout_extent extent = {
		.bdev	= iomap->bdev,
		.addr	= iomap->addr,
		.pos	= iomap->offset,
		.len	= iomap->length,
	};
	int ret;

	switch (iomap->type) {
	case IOMAP_MAPPED:
		break;
	case IOMAP_UNWRITTEN:
		extent.flags |= LAYOUT_EXTENT_UNWRITTEN;
		break;
	case IOMAP_INLINE:
		return layout_refuse(ctx, -EINVAL, "is inline");
	default:
		/* A hole, or an allocation that did not take place yet. */
		return layout_refuse_extent(ctx, "has unallocated extents");
	}

	/* Reserved, but not allocated: there is no block yet. */
	if (iomap->addr == IOMAP_NULL_ADDR)
		return layout_refuse_extent(ctx, "has unallocated extents");
	/*
	 * After a crash the blocks could belong to somebody else.  A change of
	 * only the times, which a fault makes before it is refused, may keep a
	 * mapping that is committed from being known as such: commit it, too.
	 */
	if (iomap->flags & IOMAP_F_DIRTY) {
		if (*again)
			return layout_refuse(ctx, -EINVAL, "is not committed");
		*again = true;
		iomap->flags |= IOMAP_F_STALE;
		return vfs_fsync(ctx->file, 0);
	}
	/* What the holder writes would appear in another file. */
	if (iomap->flags & IOMAP_F_SHARED)
		return layout_refuse(ctx, -EINVAL, "has shared extents");

	ret = layout_emit(ctx, &extent);
	if (ret)
		return ret;
	if (fatal_signal_pending(current))
		return -EINTR;
	return iomap_iter_advance_full(iter);
}

/**
 * iomap_pin_layout - hand out the mapping of a file
 * @file: the file that is being pinned
 * @ctx: context that was passed to ->pin_layout()
 * @ops: iomap operations that report the data fork
 *
 * The filesystem has to make sure that nothing but an operation that respects
 * IS_SWAPFILE() can change what @ops report.  Its ->fsync() must not need the
 * inode lock.
 *
 * Context: May sleep.  The inode lock is held exclusively.
 * Return: 0 or a negative errno.
 */
int iomap_pin_layout(struct file *file, struct layout_context *ctx,
		const struct iomap_ops *ops)
{
	struct iomap_iter iter = {
		.inode	= file_inode(file),
		.pos	= ctx->start,
		.len	= ctx->end - ctx->start,
		.flags	= IOMAP_REPORT,
	};
	bool again = false;
	int ret;

	/* What was allocated a moment ago has to survive a crash. */
	ret = vfs_fsync(file, 1);
	if (ret)
		return ret;

	while ((ret = iomap_iter(&iter, ops)) > 0)
		iter.status = iomap_layout_iter(&iter, ctx, &again);
	return ret;
}
EXPORT_SYMBOL_GPL(iomap_pin_layout);
