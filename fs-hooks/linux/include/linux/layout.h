/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pinning the layout of a file: where its blocks lie, and that they stay there.
 * See Documentation/filesystems/layout.rst.
 */
#ifndef _LINUX_LAYOUT_H
#define _LINUX_LAYOUT_H

#include <linux/bits.h>
#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/types.h>

struct block_device;
struct file;
struct layout_context;

/* The filesystem reads these blocks as zeroes, whatever they contain. */
#define LAYOUT_EXTENT_UNWRITTEN		BIT(0)

/**
 * struct layout_extent - where one piece of a file lies
 * @bdev: device that holds it
 * @addr: first byte on @bdev
 * @pos: first byte in the file
 * @len: length in bytes
 * @flags: LAYOUT_EXTENT_*
 */
struct layout_extent {
	struct block_device	*bdev;
	u64			addr;
	loff_t			pos;
	u64			len;
	unsigned int		flags;
};

/*
 * Every extent has to be unwritten, so that nothing the holder stores in the
 * blocks can ever be read through the file.  The file must have no other
 * writer and no shared mapping that could become writable.
 */
#define LAYOUT_REQUIRE_UNWRITTEN	BIT(0)
/* All extents have to lie on the same device. */
#define LAYOUT_REQUIRE_ONE_DEVICE	BIT(1)
/* The holder is swapon: refusals are logged in the words it always used. */
#define LAYOUT_FOR_SWAP			BIT(2)

/**
 * struct layout_context - one pinned layout, embedded in the holder's own data
 * @actor: called for each extent in file order.  Neighbouring extents that are
 *	contiguous on the device and have the same flags arrive as one.  A
 *	negative errno ends the walk and becomes the result of the pin.  It
 *	may sleep and allocate, but must not touch the file.
 * @name: who the holder is, for the kernel log and debugfs
 * @require: LAYOUT_REQUIRE_* and LAYOUT_FOR_SWAP
 * @need: how much of the file the holder uses at most, in bytes; 0 for all of it.
 *	What lies behind that may be left out, for instance because it is a hole.
 * @size: how much of the file is pinned, from its beginning, in bytes
 * @start: first byte of the file that the filesystem has to emit
 * @end: end of what it has to emit, which it may lower to @need or a hole behind
 *	that; both are multiples of PAGE_SIZE
 * @unfit: the file was refused for an extent, which is a hole or is written where
 *	none may be: vfs_make_unwritten() may help
 *
 * The holder sets the first four and zeroes the rest before the first use.  It
 * belongs to the pin from vfs_pin_layout() to vfs_unpin_layout() and must not
 * move or go away between the two.  In between the holder may read @size, and
 * replace @actor before it extends the file.  After a refusal it may read @unfit.
 */
struct layout_context {
	int (*actor)(struct layout_context *ctx,
		     const struct layout_extent *extent);
	const char		*name;
	unsigned int		require;
	loff_t			need;

	loff_t			size;
	loff_t			start;
	loff_t			end;
	bool			unfit;

	/* private: */
	struct file		*file;
	struct list_head	pins;
	struct block_device	*bdev;
	loff_t			next;
	struct layout_extent	pending;
	bool			extending;
#ifdef CONFIG_LAYOUT_DEBUG
	struct layout_extent	*extents;
	size_t			nr_extents;
#endif
};

/* For holders. */
int vfs_pin_layout(struct file *file, struct layout_context *ctx);
int vfs_pin_layout_locked(struct file *file, struct layout_context *ctx);
int vfs_extend_pinned_layout(struct file *file, struct layout_context *ctx,
			     loff_t size);
void vfs_unpin_layout(struct file *file, struct layout_context *ctx);
int vfs_make_unwritten(struct file *file);

/* For filesystems. */
#ifdef CONFIG_LAYOUT_PIN
bool layout_extending(const struct inode *inode);
#else
static inline bool layout_extending(const struct inode *inode)
{
	return false;
}
#endif

/**
 * layout_denied - does a pin keep the running task from changing a file
 * @inode: the file
 *
 * Like IS_SWAPFILE(), but false for the one task that the holder of the pin lets
 * extend the file.  Only checks that an extension has to pass use it.
 *
 * Return: whether to refuse.
 */
static inline bool layout_denied(const struct inode *inode)
{
	return IS_SWAPFILE(inode) && !layout_extending(inode);
}

int layout_emit(struct layout_context *ctx, const struct layout_extent *extent);
#ifdef CONFIG_LAYOUT_PIN
int bmap_pin_layout(struct file *file, struct layout_context *ctx);
int layout_sync_others(struct file *file, struct layout_context *ctx);
__printf(3, 4)
int layout_refuse(struct layout_context *ctx, int error, const char *fmt, ...);
int layout_refuse_extent(struct layout_context *ctx, const char *why);
#else
#define bmap_pin_layout		NULL

static inline int layout_sync_others(struct file *file,
				     struct layout_context *ctx)
{
	return 0;
}

static inline __printf(3, 4)
int layout_refuse(struct layout_context *ctx, int error, const char *fmt, ...)
{
	return error;
}

static inline int layout_refuse_extent(struct layout_context *ctx,
				       const char *why)
{
	return -EINVAL;
}
#endif

#if IS_ENABLED(CONFIG_KUNIT)
void layout_start(struct layout_context *ctx, loff_t start, loff_t end);
int layout_finish(struct layout_context *ctx);
#endif

#endif /* _LINUX_LAYOUT_H */
