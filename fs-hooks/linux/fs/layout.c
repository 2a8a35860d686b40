// SPDX-License-Identifier: GPL-2.0
/*
 * Pinning the layout of a file.
 *
 * A holder of a pin does I/O to the blocks of a file without the filesystem
 * knowing.  For that it needs the mapping from the filesystem itself, and the
 * promise that the mapping stays as it is until the holder lets go.
 *
 * Lock order:
 *
 *	inode->i_rwsem
 *	  mapping->invalidate_lock	while the page cache is drained
 *	  locks of ->pin_layout()
 *	    layout_pins_lock
 *	    layout_extenders_lock
 */
#include <linux/blkdev.h>
#include <linux/cred.h>
#include <linux/debugfs.h>
#include <linux/export.h>
#include <linux/falloc.h>
#include <linux/fault-inject.h>
#include <linux/file.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/layout.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/ratelimit.h>
#include <linux/sched/signal.h>
#include <linux/security.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/writeback.h>
#include <kunit/visibility.h>

/* Every pin there is.  They are few, so finding one is a walk. */
static LIST_HEAD(layout_pins);
static DEFINE_MUTEX(layout_pins_lock);

/* A task that is extending a file it has pinned. */
struct layout_extender {
	struct list_head	list;
	const struct inode	*inode;
	struct task_struct	*task;
};

static LIST_HEAD(layout_extenders);
static DEFINE_SPINLOCK(layout_extenders_lock);

/**
 * layout_extending - is the running task extending a file it has pinned
 * @inode: the file
 *
 * Return: whether vfs_extend_pinned_layout() is what changes the file.
 */
bool layout_extending(const struct inode *inode)
{
	const struct layout_extender *extender;
	bool found = false;

	/* Racy for others, but a task knows what it has added itself. */
	if (list_empty(&layout_extenders))
		return false;
	spin_lock(&layout_extenders_lock);
	list_for_each_entry(extender, &layout_extenders, list) {
		if (extender->task == current && extender->inode == inode) {
			found = true;
			break;
		}
	}
	spin_unlock(&layout_extenders_lock);
	return found;
}
EXPORT_SYMBOL_GPL(layout_extending);

/**
 * layout_refuse - say why a file cannot be pinned
 * @ctx: context of the pin
 * @error: negative errno
 * @fmt: the reason, as the end of a sentence that begins with the file
 *
 * Return: @error, so that a refusal is one statement.
 */
int layout_refuse(struct layout_context *ctx, int error, const char *fmt, ...)
{
	static DEFINE_RATELIMIT_STATE(limit, DEFAULT_RATELIMIT_INTERVAL,
				      DEFAULT_RATELIMIT_BURST);
	char *buf, *path = ERR_PTR(-ENOMEM);
	struct va_format vaf;
	va_list args;

	if (!__ratelimit(&limit))
		return error;

	buf = kmalloc(PATH_MAX, GFP_KERNEL);
	if (buf)
		path = file_path(ctx->file, buf, PATH_MAX);
	va_start(args, fmt);
	vaf.fmt = fmt;
	vaf.va = &args;
	pr_err("%s: file %s %pV\n", ctx->name,
	       IS_ERR(path) ? "<unknown>" : path, &vaf);
	va_end(args);
	kfree(buf);
	return error;
}
EXPORT_SYMBOL_GPL(layout_refuse);

/**
 * layout_refuse_extent - say which kind of extent a file must not have
 * @ctx: context of the pin
 * @why: as in layout_refuse()
 *
 * For holes, and what is written where nothing may be.  Sets @ctx->unfit.
 *
 * Return: -EINVAL.
 */
int layout_refuse_extent(struct layout_context *ctx, const char *why)
{
	ctx->unfit = true;
	return layout_refuse(ctx, -EINVAL, "%s", why);
}
EXPORT_SYMBOL_GPL(layout_refuse_extent);

#ifdef CONFIG_LAYOUT_DEBUG
static int layout_record(struct layout_context *ctx,
			 const struct layout_extent *extent)
{
	size_t nr = ctx->nr_extents;

	/* While a pin is extended, its list may be read. */
	guard(mutex)(&layout_pins_lock);

	/* Full at each power of two: the array doubles. */
	if (!(nr & (nr - 1))) {
		struct layout_extent *extents;

		extents = kvrealloc(ctx->extents,
				    array_size(max(2 * nr, 1), sizeof(*extents)),
				    GFP_KERNEL);
		if (!extents)
			return -ENOMEM;
		ctx->extents = extents;
	}
	ctx->extents[ctx->nr_extents++] = *extent;
	return 0;
}

/* Forget the extents from @start on, which is where one of them starts. */
static void layout_forget(struct layout_context *ctx, loff_t start)
{
	guard(mutex)(&layout_pins_lock);
	while (ctx->nr_extents && ctx->extents[ctx->nr_extents - 1].pos >= start)
		ctx->nr_extents--;
	if (ctx->nr_extents)
		return;
	kvfree(ctx->extents);
	ctx->extents = NULL;
}
#else
static inline int layout_record(struct layout_context *ctx,
				const struct layout_extent *extent)
{
	return 0;
}

static inline void layout_forget(struct layout_context *ctx, loff_t start)
{
}
#endif /* CONFIG_LAYOUT_DEBUG */

#ifdef CONFIG_FAIL_LAYOUT
static DECLARE_FAULT_ATTR(fail_layout);

static int __init setup_fail_layout(char *str)
{
	return setup_fault_attr(&fail_layout, str);
}
__setup("fail_layout=", setup_fail_layout);

static int __init fail_layout_debugfs(void)
{
	struct dentry *dir;

	dir = fault_create_debugfs_attr("fail_layout", NULL, &fail_layout);
	return PTR_ERR_OR_ZERO(dir);
}
late_initcall(fail_layout_debugfs);

/* Every step that can fail for a reason of its own can be made to. */
static int layout_fault(void)
{
	return should_fail(&fail_layout, 1) ? -EIO : 0;
}
#else
static inline int layout_fault(void)
{
	return 0;
}
#endif /* CONFIG_FAIL_LAYOUT */

VISIBLE_IF_KUNIT void layout_start(struct layout_context *ctx, loff_t start,
				   loff_t end)
{
	ctx->start = start;
	ctx->end = end;
	ctx->next = start;
	ctx->pending.len = 0;
}
EXPORT_SYMBOL_IF_KUNIT(layout_start);

/* Hand what was gathered to the holder. */
static int layout_flush(struct layout_context *ctx)
{
	struct layout_extent extent = ctx->pending;
	int error;

	if (!extent.len)
		return 0;
	ctx->pending.len = 0;
	error = layout_record(ctx, &extent) ?: layout_fault();
	if (error)
		return error;
	return ctx->actor(ctx, &extent);
}

VISIBLE_IF_KUNIT int layout_finish(struct layout_context *ctx)
{
	if (ctx->next < ctx->end)
		return layout_refuse_extent(ctx, "has unallocated extents");
	return layout_flush(ctx);
}
EXPORT_SYMBOL_IF_KUNIT(layout_finish);

/**
 * layout_emit - hand over the next extent of a file that is being pinned
 * @ctx: context that was passed to ->pin_layout()
 * @extent: where the next piece of the file lies
 *
 * Filesystems call this from ->pin_layout() in file order, from @ctx->start to
 * @ctx->end at least, once a crash cannot give the blocks to somebody else any
 * more.  What lies outside of the range is cut off here.  A gap in the file is a
 * hole, and refused.
 *
 * Context: May sleep.  The actor of the holder may be called.
 * Return: 0 to go on; anything else has to be returned from ->pin_layout().
 */
int layout_emit(struct layout_context *ctx, const struct layout_extent *extent)
{
	struct layout_extent *pending = &ctx->pending;
	struct layout_extent next = *extent;
	u64 skip;
	int error;

	error = layout_fault();
	if (error)
		return error;
	if (ctx->next >= ctx->end)
		return 0;
	if (next.pos > ctx->next)
		return layout_refuse_extent(ctx, "has unallocated extents");
	skip = ctx->next - next.pos;
	if (skip >= next.len)
		return 0;
	next.pos += skip;
	next.addr += skip;
	next.len = min_t(u64, next.len - skip, ctx->end - next.pos);

	if ((ctx->require & LAYOUT_REQUIRE_UNWRITTEN) &&
	    !(next.flags & LAYOUT_EXTENT_UNWRITTEN))
		return layout_refuse_extent(ctx, "has written extents");

	if (!ctx->bdev)
		ctx->bdev = next.bdev;
	else if ((ctx->require & LAYOUT_REQUIRE_ONE_DEVICE) &&
		 ctx->bdev != next.bdev)
		return layout_refuse(ctx, -EINVAL,
				     "lies on more than one device");

	ctx->next = next.pos + next.len;
	if (pending->len && pending->bdev == next.bdev &&
	    pending->flags == next.flags &&
	    pending->addr + pending->len == next.addr) {
		pending->len += next.len;
		return 0;
	}
	error = layout_flush(ctx);
	*pending = next;
	return error;
}
EXPORT_SYMBOL_GPL(layout_emit);

static int layout_walk_bmap(struct file *file, struct layout_context *ctx)
{
	struct inode *inode = file_inode(file);
	struct layout_extent extent = {
		.bdev	= inode->i_sb->s_bdev,
		.pos	= round_down(ctx->start, i_blocksize(inode)),
		.len	= i_blocksize(inode),
	};
	int error;

	if (!extent.bdev)
		return layout_refuse(ctx, -EINVAL, "is not on a block device");

	for (; extent.pos < ctx->end; extent.pos += extent.len) {
		sector_t block = extent.pos >> inode->i_blkbits;

		if (bmap(inode, &block) || !block) {
			/* The holder has what it needs. */
			if (ctx->need && extent.pos >= ctx->need) {
				ctx->end = round_down(extent.pos, PAGE_SIZE);
				return 0;
			}
			if (!(ctx->require & LAYOUT_FOR_SWAP))
				return layout_refuse(ctx, -EINVAL, "has holes");
			pr_err("swapon: swapfile has holes\n");
			return -EINVAL;
		}
		extent.addr = (u64)block << inode->i_blkbits;
		error = layout_emit(ctx, &extent);
		if (error)
			return error;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/**
 * layout_sync_others - let what other files have given up survive a crash
 * @file: the file that is being pinned
 * @ctx: context that was passed to ->pin_layout()
 *
 * What was allocated a moment ago may have been another file's before: after a
 * crash that one must not have it still.  For ->pin_layout() of filesystems that
 * have no journal to see to that.  What has to be written for the file itself,
 * and the flush of the device, are left to the caller.
 *
 * Context: May sleep.  The inode lock is held exclusively.
 * Return: 0 or a negative errno.
 */
int layout_sync_others(struct file *file, struct layout_context *ctx)
{
	struct super_block *sb = file_inode(file)->i_sb;

	/* Whoever freezes it, or mounts it anew, may wait for the inode lock. */
	if (down_read_trylock(&sb->s_umount)) {
		sync_inodes_sb(sb);
		up_read(&sb->s_umount);
	} else if (!(ctx->require & LAYOUT_FOR_SWAP)) {
		return layout_refuse(ctx, -EAGAIN,
				     "is on a filesystem that is being frozen or mounted anew");
	}
	return sync_blockdev(sb->s_bdev);
}
EXPORT_SYMBOL_GPL(layout_sync_others);

/**
 * bmap_pin_layout - hand out the mapping of a file, block by block
 * @file: the file that is being pinned
 * @ctx: context that was passed to ->pin_layout()
 *
 * Use it as ->pin_layout() of a filesystem that has ->bmap(), that makes an
 * allocation permanent by writing the inode and the buffer cache of the device,
 * and that does not let anybody else change the file.  Such filesystems do not
 * have unwritten extents, or do not show them to bmap(), so all extents count as
 * written.
 *
 * Context: May sleep.  The inode lock is held exclusively.
 * Return: 0 or a negative errno.
 */
int bmap_pin_layout(struct file *file, struct layout_context *ctx)
{
	struct inode *inode = file_inode(file);
	struct block_device *bdev = inode->i_sb->s_bdev;
	int error;

	if (ctx->require & LAYOUT_REQUIRE_UNWRITTEN)
		return layout_refuse(ctx, -EINVAL,
				     "is on a filesystem without unwritten extents");

	error = layout_sync_others(file, ctx);
	if (!error)
		error = write_inode_now(inode, 1);
	if (!error)
		error = sync_blockdev(bdev);
	if (!error)
		error = blkdev_issue_flush(bdev);
	return error ?: layout_walk_bmap(file, ctx);
}
EXPORT_SYMBOL_GPL(bmap_pin_layout);

typedef int (*pin_layout_fn)(struct file *file, struct layout_context *ctx);

/*
 * How the layout of a file can be pinned.  Where another node, a server or a
 * lower filesystem may change the file, the flag does not keep it from doing so.
 * Swap has always taken that chance.
 */
static pin_layout_fn layout_pin_fn(struct file *file, struct layout_context *ctx)
{
	const struct address_space_operations *aops = file->f_mapping->a_ops;

	if (aops->pin_layout)
		return aops->pin_layout;
	if ((ctx->require & LAYOUT_FOR_SWAP) && aops->bmap)
		return layout_walk_bmap;
	return NULL;
}

/*
 * Refuse what can be refused before anything is changed.  The inode lock is
 * held, so the answers stay true, except for mappings and openers, which come
 * and go without it.
 */
static int layout_check(struct file *file, struct layout_context *ctx)
{
	struct address_space *mapping = file->f_mapping;
	struct inode *inode = file_inode(file);

	/* The file and the page cache of a stacked file are not one inode. */
	if (!S_ISREG(inode->i_mode))
		return layout_refuse(ctx, -EINVAL, "is not a regular file");
	/* Stores to a DAX mapping reach the blocks without asking anybody. */
	if (IS_DAX(inode))
		return layout_refuse(ctx, -EINVAL, "uses direct access (DAX)");
	if (mapping->host != inode || !layout_pin_fn(file, ctx))
		return layout_refuse(ctx, ctx->require & LAYOUT_FOR_SWAP ?
						-EINVAL : -EOPNOTSUPP,
				     "cannot be pinned by its filesystem");
	if (!(file->f_mode & FMODE_WRITE))
		return layout_refuse(ctx, -EBADF, "is not open for writing");
	if (IS_RDONLY(inode))
		return layout_refuse(ctx, -EROFS, "is on a read-only filesystem");
	if (IS_SWAPFILE(inode))
		return layout_refuse(ctx, -EBUSY, "is pinned already");
	if (IS_IMMUTABLE(inode) || IS_APPEND(inode))
		return layout_refuse(ctx, -EPERM, "is immutable or append-only");
	/* The filesystem itself writes to it. */
	if (IS_NOQUOTA(inode))
		return layout_refuse(ctx, -ETXTBSY, "is a quota file");

	/* Only the filesystem could make sense of what is in the blocks. */
	if (IS_ENCRYPTED(inode))
		return layout_refuse(ctx, -EINVAL, "is encrypted");
	if (IS_VERITY(inode))
		return layout_refuse(ctx, -EINVAL, "is a verity file");

	if (i_size_read(inode) < PAGE_SIZE)
		return layout_refuse(ctx, -EINVAL, "is smaller than a page");

	/* Somebody else does I/O to the blocks. */
	if (break_layout(inode, false))
		return layout_refuse(ctx, -ETXTBSY, "has a layout lease");
	return 0;
}

/*
 * Keep user space from having a way to the blocks besides the holder.  Writers
 * are turned away under the inode lock as long as the flag is set, so one that
 * has the file open does no harm to the layout: but it means to use the file,
 * which then is not the holder's.  A file without a name is there for whoever
 * created it, and may have been passed on through its descriptor.
 */
static int layout_deny_writers(struct file *file, struct layout_context *ctx)
{
	struct inode *inode = file_inode(file);

	if (!(ctx->require & LAYOUT_REQUIRE_UNWRITTEN))
		return 0;
	if (inode->i_nlink && atomic_read(&inode->i_writecount) > 1)
		return layout_refuse(ctx, -ETXTBSY,
				     "is open for writing elsewhere");
	if (mapping_deny_writable(file->f_mapping))
		return layout_refuse(ctx, -ETXTBSY, "is mapped for writing");
	return 0;
}

static void layout_allow_writers(struct file *file, struct layout_context *ctx)
{
	if (ctx->require & LAYOUT_REQUIRE_UNWRITTEN)
		mapping_allow_writable(file->f_mapping);
}

/* Wait for everything that was let in before the flag was set. */
static int layout_drain(struct file *file, struct layout_context *ctx,
			loff_t start)
{
	int error;

	error = layout_fault() ?: filemap_drain_writes(file->f_mapping, start);
	if (error == -ETXTBSY)
		return layout_refuse(ctx, error,
				     "has pages that are being written to");
	return error;
}

/* Get the mapping of a part of the file.  On error nothing of it is pinned. */
static int layout_map(struct file *file, struct layout_context *ctx,
		      loff_t start, loff_t end)
{
	const struct address_space_operations *aops = file->f_mapping->a_ops;
	int error;

	layout_start(ctx, start, end);
	error = layout_pin_fn(file, ctx)(file, ctx);
	if (error)
		goto out_forget;
	error = layout_fault() ?: layout_finish(ctx);
	if (error)
		goto out_unpin;
	ctx->size = ctx->end;
	return 0;

out_unpin:
	if (aops->unpin_layout)
		aops->unpin_layout(file, ctx);
out_forget:
	layout_forget(ctx, start);
	return error;
}

/**
 * vfs_pin_layout_locked - pin the layout of a file whose inode is locked
 * @file: a regular file, open for writing
 * @ctx: context of the holder
 *
 * Like vfs_pin_layout(), for a caller that has to look at the file under the
 * same lock.  A layout lease is not waited for: the caller should have called
 * break_layout() before it took the lock.
 *
 * Context: May sleep.  The caller holds the inode lock exclusively.
 * Return: 0 or a negative errno; then nothing has changed.
 */
int vfs_pin_layout_locked(struct file *file, struct layout_context *ctx)
{
	struct inode *inode = file_inode(file);
	int error;

	lockdep_assert_held_write(&inode->i_rwsem);
	might_sleep();

	if (WARN_ON_ONCE(ctx->file))
		return -EINVAL;
	ctx->file = file;
	ctx->bdev = NULL;
	ctx->unfit = false;

	error = layout_check(file, ctx);
	if (error)
		goto out;
	error = layout_deny_writers(file, ctx);
	if (error)
		goto out;

	/*
	 * From here on whoever takes the inode lock, or the invalidate lock to
	 * serve a fault, finds the flag.  Only then is it worth waiting for
	 * those who came before, and only after that is the mapping final.
	 */
	inode_set_flags(inode, S_SWAPFILE, S_SWAPFILE);

	error = layout_drain(file, ctx, 0);
	if (error)
		goto out_flag;
	error = layout_map(file, ctx, 0,
			   round_down(i_size_read(inode), PAGE_SIZE));
	if (error)
		goto out_flag;

	get_file(file);
	mutex_lock(&layout_pins_lock);
	list_add_tail(&ctx->pins, &layout_pins);
	mutex_unlock(&layout_pins_lock);
	return 0;

out_flag:
	inode_set_flags(inode, 0, S_SWAPFILE);
	layout_allow_writers(file, ctx);
out:
	ctx->file = NULL;
	return error;
}
EXPORT_SYMBOL_GPL(vfs_pin_layout_locked);

/**
 * vfs_pin_layout - learn where a file lies, and keep it there
 * @file: a regular file, open for writing
 * @ctx: context of the holder
 *
 * On success the actor of @ctx has been called for every extent from the start
 * of the file to its end, rounded down to whole pages, and nobody can move,
 * free, share, write or resize the file until vfs_unpin_layout() is called with
 * the same context.  The pin holds a reference to @file, and with it the mount.
 *
 * Nothing is allocated or unshared to make a file fit: what cannot be pinned as
 * it is, is refused, and the kernel log says why.  On error, extents that the
 * actor got before must not be used.
 *
 * Context: May sleep.  Takes and drops the inode lock.
 * Return: 0, or a negative errno; then nothing has changed.
 */
int vfs_pin_layout(struct file *file, struct layout_context *ctx)
{
	struct inode *inode = file_inode(file);
	int error;

	/*
	 * Who holds a layout lease may need the inode lock to give it back, so
	 * wait without it and look again with it.
	 */
	for (;;) {
		error = break_layout(inode, true);
		if (error)
			return error;
		inode_lock(inode);
		if (!break_layout(inode, false))
			break;
		inode_unlock(inode);
	}
	error = vfs_pin_layout_locked(file, ctx);
	inode_unlock(inode);
	return error;
}
EXPORT_SYMBOL_GPL(vfs_pin_layout);

static bool layout_is_held(struct file *file, struct layout_context *ctx)
{
	struct layout_context *pin;
	bool held = false;

	mutex_lock(&layout_pins_lock);
	list_for_each_entry(pin, &layout_pins, pins) {
		if (pin == ctx) {
			held = pin->file == file;
			break;
		}
	}
	mutex_unlock(&layout_pins_lock);
	return held;
}

static int layout_check_extend(struct file *file, struct layout_context *ctx,
			       loff_t size)
{
	struct inode *inode = file_inode(file);
	unsigned int align = max_t(unsigned int, PAGE_SIZE, i_blocksize(inode));

	if (READ_ONCE(ctx->extending))
		return layout_refuse(ctx, -EBUSY, "is being extended already");
	if (!file->f_op->fallocate)
		return layout_refuse(ctx, -EOPNOTSUPP,
				     "cannot be extended by its filesystem");
	if (IS_RDONLY(inode))
		return layout_refuse(ctx, -EROFS, "is on a read-only filesystem");
	if (IS_IMMUTABLE(inode) || IS_APPEND(inode))
		return layout_refuse(ctx, -EPERM, "is immutable or append-only");
	/*
	 * The filesystem would write zeroes to the rest of a block, which is
	 * pinned in part.
	 */
	if (!IS_ALIGNED(i_size_read(inode), align))
		return layout_refuse(ctx, -EINVAL,
				     "does not end at the end of a block");
	/* What lies behind the part that is pinned is not ours. */
	if (ctx->need)
		return layout_refuse(ctx, -EINVAL, "is not pinned as a whole");
	if (size <= ctx->size || !IS_ALIGNED(size, align))
		return layout_refuse(ctx, -EINVAL,
				     "cannot be extended from %lld to %lld bytes",
				     ctx->size, size);
	if (size > inode->i_sb->s_maxbytes)
		return layout_refuse(ctx, -EFBIG,
				     "cannot be as large as %lld bytes", size);
	return 0;
}

/*
 * Give back what was allocated but cannot be pinned.  None of it has been handed
 * out, or the holder knows not to use it.
 */
static void layout_cut(struct file *file, struct layout_context *ctx)
{
	struct iattr attr = {
		.ia_valid	= ATTR_SIZE | ATTR_FILE,
		.ia_size	= ctx->size,
		.ia_file	= file,
	};
	int error;

	error = layout_fault();
	if (!error)
		error = notify_change(file_mnt_idmap(file), file_dentry(file),
				      &attr, NULL);
	if (error)
		layout_refuse(ctx, error,
			      "keeps the space it was to be extended by (error %d)",
			      error);
}

/**
 * vfs_extend_pinned_layout - make a pinned file larger
 * @file: the file that was pinned
 * @ctx: the context it was pinned with
 * @size: its new size in bytes
 *
 * Allocates space behind what is pinned, as fallocate() would, and pins it for
 * the same holder.  The actor of @ctx, which may be another one than before, is
 * called for each new extent.  What was pinned stays pinned, and stays where it
 * is; for everybody else the file remains as it was to them.
 *
 * Both sizes must be multiples of PAGE_SIZE and of the filesystem's block size.
 * The space is taken in the name of whoever opened @file, with its quota.
 *
 * On error nothing more is pinned than before, the extents that the actor got
 * must not be used, and the file is truncated to what is pinned, which takes
 * along any space that was allocated beyond its end.  The filesystem can be
 * short of space (-ENOSPC), over quota (-EDQUOT), busy (-EBUSY) or frozen
 * (-EAGAIN), and another attempt may succeed.  It is not waited for a frozen
 * one, because the holder may be what its thawing waits for.
 *
 * Context: May sleep.  Takes and drops the inode lock.  Any task may call it, a
 * kernel thread too; the pin must not be released meanwhile.
 * Return: 0 or a negative errno.
 */
int vfs_extend_pinned_layout(struct file *file, struct layout_context *ctx,
			     loff_t size)
{
	struct inode *inode = file_inode(file);
	struct layout_extender extender = {
		.inode	= inode,
		.task	= current,
	};
	int error;

	might_sleep();

	inode_lock(inode);
	if (WARN_ON(!layout_is_held(file, ctx)))
		error = -EINVAL;
	else
		error = layout_check_extend(file, ctx, size);
	if (!error)
		ctx->extending = true;
	inode_unlock(inode);
	if (error)
		return error;

	/* Not logged: the holder will try again and again. */
	if (!file_start_write_trylock(file)) {
		error = -EAGAIN;
		goto out;
	}

	spin_lock(&layout_extenders_lock);
	list_add(&extender.list, &layout_extenders);
	spin_unlock(&layout_extenders_lock);

	scoped_with_creds(file->f_cred) {
		error = layout_fault();
		if (!error)
			error = file->f_op->fallocate(file, 0, ctx->size,
						      size - ctx->size);

		/* The flag is set all the while, so nothing has come between. */
		inode_lock(inode);
		if (!error && i_size_read(inode) < size)
			error = -EIO;
		if (!error)
			error = layout_drain(file, ctx, ctx->size);
		if (!error)
			error = layout_map(file, ctx, ctx->size, size);
		if (error)
			layout_cut(file, ctx);
		inode_unlock(inode);
	}
	if (!error)
		fsnotify_modify(file);
	file_end_write(file);

	spin_lock(&layout_extenders_lock);
	list_del(&extender.list);
	spin_unlock(&layout_extenders_lock);
out:
	/* Last, since the holder may let go of the file from here on. */
	WRITE_ONCE(ctx->extending, false);
	return error;
}
EXPORT_SYMBOL_GPL(vfs_extend_pinned_layout);

/**
 * vfs_make_unwritten - give up what a file contains
 * @file: a regular file, open for writing
 *
 * All of it is allocated and unwritten afterwards, unless others write to it.  A
 * file that does not end with a page, or with a block of its filesystem, is made
 * so much larger.  For a holder whose pin was refused for an extent only, see
 * &layout_context.unfit.
 *
 * A frozen filesystem is not waited for.
 *
 * Context: May sleep.
 * Return: 0, -EAGAIN if the filesystem is frozen, -EOPNOTSUPP if it cannot do
 * this, -EINVAL for an empty file, or what fallocate() fails with.
 */
int vfs_make_unwritten(struct file *file)
{
	struct inode *inode = file_inode(file);
	loff_t size = round_up(i_size_read(inode),
			       max_t(loff_t, PAGE_SIZE, i_blocksize(inode)));
	int error;

	if (!S_ISREG(inode->i_mode) || !file->f_op->fallocate)
		return -EOPNOTSUPP;
	if (!(file->f_mode & FMODE_WRITE))
		return -EBADF;
	if (IS_IMMUTABLE(inode) || IS_APPEND(inode))
		return -EPERM;
	if (IS_SWAPFILE(inode))
		return -ETXTBSY;
	if (!size)
		return -EINVAL;
	if (size > inode->i_sb->s_maxbytes)
		return -EFBIG;
	error = security_file_permission(file, MAY_WRITE);
	if (error)
		return error;

	if (!file_start_write_trylock(file))
		return -EAGAIN;
	error = file->f_op->fallocate(file, FALLOC_FL_ZERO_RANGE, 0, size);
	if (!error)
		fsnotify_modify(file);
	file_end_write(file);
	return error;
}
EXPORT_SYMBOL_GPL(vfs_make_unwritten);

/**
 * vfs_unpin_layout - let go of a file
 * @file: the file that was pinned
 * @ctx: the context it was pinned with
 *
 * The holder must have ended all I/O to the blocks.  Only the context that
 * pinned the file can release it.
 *
 * Context: May sleep.  Takes and drops the inode lock.
 */
void vfs_unpin_layout(struct file *file, struct layout_context *ctx)
{
	struct inode *inode = file_inode(file);
	const struct address_space_operations *aops = file->f_mapping->a_ops;

	inode_lock(inode);
	if (WARN_ON(!layout_is_held(file, ctx) || READ_ONCE(ctx->extending))) {
		inode_unlock(inode);
		return;
	}

	mutex_lock(&layout_pins_lock);
	list_del(&ctx->pins);
	mutex_unlock(&layout_pins_lock);
	layout_forget(ctx, 0);

	ctx->start = 0;
	ctx->size = 0;
	if (aops->unpin_layout)
		aops->unpin_layout(file, ctx);
	inode_set_flags(inode, 0, S_SWAPFILE);
	layout_allow_writers(file, ctx);
	ctx->file = NULL;
	inode_unlock(inode);

	fput(file);
}
EXPORT_SYMBOL_GPL(vfs_unpin_layout);

#ifdef CONFIG_LAYOUT_DEBUG
/*
 * /sys/kernel/debug/layout/pins: a line for each pin, then one for each of its
 * extents.  The position counts lines, so a reader that comes back in the
 * middle of a long list costs a walk over the pins, not over their extents.
 */
struct layout_cursor {
	struct layout_context	*pin;
	size_t			line;
};

static void *layout_pins_start(struct seq_file *m, loff_t *pos)
{
	struct layout_cursor *cursor = m->private;
	loff_t left = *pos;

	mutex_lock(&layout_pins_lock);
	list_for_each_entry(cursor->pin, &layout_pins, pins) {
		if (left <= cursor->pin->nr_extents) {
			cursor->line = left;
			return cursor;
		}
		left -= cursor->pin->nr_extents + 1;
	}
	return NULL;
}

static void *layout_pins_next(struct seq_file *m, void *v, loff_t *pos)
{
	struct layout_cursor *cursor = v;

	++*pos;
	if (cursor->line++ < cursor->pin->nr_extents)
		return cursor;
	cursor->line = 0;
	cursor->pin = list_next_entry(cursor->pin, pins);
	return list_entry_is_head(cursor->pin, &layout_pins, pins) ?
		NULL : cursor;
}

static void layout_pins_stop(struct seq_file *m, void *v)
{
	mutex_unlock(&layout_pins_lock);
}

static int layout_pins_show(struct seq_file *m, void *v)
{
	struct layout_cursor *cursor = v;
	struct layout_context *pin = cursor->pin;

	if (!cursor->line) {
		struct inode *inode = file_inode(pin->file);

		seq_printf(m, "%s %u:%u %llu ", pin->name,
			   MAJOR(inode->i_sb->s_dev), MINOR(inode->i_sb->s_dev),
			   inode->i_ino);
		seq_file_path(m, pin->file, " \t\n\\");
		seq_putc(m, '\n');
	} else {
		struct layout_extent *extent = &pin->extents[cursor->line - 1];
		dev_t dev = extent->bdev->bd_dev;

		seq_printf(m, "%lld %llu %llu %u:%u %s\n", extent->pos,
			   extent->addr, extent->len, MAJOR(dev), MINOR(dev),
			   extent->flags & LAYOUT_EXTENT_UNWRITTEN ?
				"unwritten" : "written");
	}
	return 0;
}

static const struct seq_operations layout_pins_sops = {
	.start	= layout_pins_start,
	.next	= layout_pins_next,
	.stop	= layout_pins_stop,
	.show	= layout_pins_show,
};

static int layout_pins_open(struct inode *inode, struct file *file)
{
	return seq_open_private(file, &layout_pins_sops,
				sizeof(struct layout_cursor));
}

static const struct file_operations layout_pins_fops = {
	.owner		= THIS_MODULE,
	.open		= layout_pins_open,
	.read		= seq_read,
	.llseek		= seq_lseek,
	.release	= seq_release_private,
};

static int __init layout_debug_init(void)
{
	debugfs_create_file("pins", 0400, debugfs_create_dir("layout", NULL),
			    NULL, &layout_pins_fops);
	return 0;
}
late_initcall(layout_debug_init);
#endif /* CONFIG_LAYOUT_DEBUG */
