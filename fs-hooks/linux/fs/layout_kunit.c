// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of pinned layouts: what reaches the actor of a holder, and what a pin
 * does to a file of a filesystem that exists for these tests only.
 */
#include <kunit/test.h>
#include <kunit/visibility.h>
#include <linux/blk_types.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/layout.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/pseudo_fs.h>
#include <linux/sizes.h>
#include <linux/workqueue.h>

#define MAX_EXTENTS	8

static struct block_device bdev_a, bdev_b;

/* A holder that remembers what it got. */
struct holder {
	struct layout_context	ctx;
	struct layout_extent	extents[MAX_EXTENTS];
	unsigned int		nr;
	unsigned int		fail_at;	/* counted from 1 */
};

static int holder_actor(struct layout_context *ctx,
			const struct layout_extent *extent)
{
	struct holder *holder = container_of(ctx, struct holder, ctx);

	if (holder->nr == MAX_EXTENTS)
		return -E2BIG;
	holder->extents[holder->nr++] = *extent;
	return holder->nr == holder->fail_at ? -EXFULL : 0;
}

static struct holder *new_holder(struct kunit *test, unsigned int require)
{
	struct holder *holder = kunit_kzalloc(test, sizeof(*holder), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, holder);
	holder->ctx.actor = holder_actor;
	holder->ctx.name = "layout_kunit";
	holder->ctx.require = require;
	return holder;
}

/* The filesystem: what its files are made of, and what was asked of it. */
struct fake_fs {
	struct vfsmount			*mnt;
	const struct layout_extent	*extents;
	unsigned int			nr;
	int				error;		/* of ->pin_layout() */
	unsigned int			pinned;		/* calls of it */
	unsigned int			unpinned;
	bool				flag_was_set;
	bool				was_locked;

	unsigned int			allocated;	/* calls of ->fallocate() */
	loff_t				space;		/* -ENOSPC beyond it */
	struct layout_context		*unpin;		/* while it allocates */
	struct holder			*extend;	/* the same */
	int				extend_error;
	int				others_error;	/* what others may do then */
	loff_t				undone_from;	/* ->unpin_layout() */
};

static struct fake_fs fake;

static int fake_pin_layout(struct file *file, struct layout_context *ctx)
{
	struct inode *inode = file_inode(file);
	unsigned int i;

	fake.pinned++;
	fake.flag_was_set = inode->i_flags & S_SWAPFILE;
	fake.was_locked = inode_is_locked(inode);
	if (fake.error)
		return fake.error;
	for (i = 0; i < fake.nr; i++) {
		int error = layout_emit(ctx, &fake.extents[i]);

		if (error)
			return error;
	}
	return 0;
}

static void fake_unpin_layout(struct file *file, struct layout_context *ctx)
{
	fake.unpinned++;
	fake.undone_from = ctx->start;
}

struct fake_writer {
	struct work_struct	work;
	struct file		*file;
	int			modify;
	int			resize;
};

static void fake_write(struct work_struct *work)
{
	struct fake_writer *writer = container_of(work, typeof(*writer), work);

	writer->modify = file_modified(writer->file);
	writer->resize = inode_newsize_ok(file_inode(writer->file), SZ_8M);
}

static long fake_fallocate(struct file *file, int mode, loff_t pos, loff_t len)
{
	struct inode *inode = file_inode(file);
	struct fake_writer writer = { .file = file };
	int error;

	fake.allocated++;
	if (mode)
		return -EOPNOTSUPP;

	/* Somebody who comes in the middle of it, without the lock. */
	INIT_WORK_ONSTACK(&writer.work, fake_write);
	schedule_work(&writer.work);
	flush_work(&writer.work);
	destroy_work_on_stack(&writer.work);
	fake.others_error = writer.modify == writer.resize ? writer.modify : 0;
	if (fake.unpin)
		vfs_unpin_layout(file, fake.unpin);
	if (fake.extend)
		fake.extend_error =
			vfs_extend_pinned_layout(file, &fake.extend->ctx, SZ_8M);

	inode_lock(inode);
	error = file_modified(file);
	if (!error)
		error = inode_newsize_ok(inode, pos + len);
	if (!error && fake.space && pos + len > fake.space) {
		i_size_write(inode, fake.space);
		error = -ENOSPC;
	}
	if (!error)
		i_size_write(inode, pos + len);
	inode_unlock(inode);
	return error;
}

static const struct address_space_operations fake_aops = {
	.pin_layout	= fake_pin_layout,
	.unpin_layout	= fake_unpin_layout,
};

static const struct address_space_operations fake_no_pin_aops = { };

/* Blocks 0 to 3 and 4 to 7 are contiguous, and 8 is a hole. */
static sector_t fake_bmap(struct address_space *mapping, sector_t block)
{
	if (block >= 8)
		return 0;
	return block + (block < 4 ? 100 : 300);
}

static const struct address_space_operations fake_bmap_aops = {
	.bmap		= fake_bmap,
};
static const struct file_operations fake_fops = {
	.fallocate	= fake_fallocate,
	.setlease	= generic_setlease,
};

static int fake_init_fs_context(struct fs_context *fc)
{
	return init_pseudo(fc, 0x6c61796f) ? 0 : -ENOMEM;
}

static struct file_system_type fake_fs_type = {
	.owner			= THIS_MODULE,
	.name			= "layout_kunit",
	.init_fs_context	= fake_init_fs_context,
	.kill_sb		= kill_anon_super,
};

static struct file *new_file(struct kunit *test, umode_t mode, loff_t size)
{
	struct inode *inode = new_inode(fake.mnt->mnt_sb);
	struct file *file;

	KUNIT_ASSERT_NOT_NULL(test, inode);
	inode->i_ino = get_next_ino();
	inode->i_mode = mode | 0600;
	inode->i_mapping->a_ops = &fake_aops;
	i_size_write(inode, size);
	file = alloc_file_pseudo(inode, fake.mnt, "file", O_RDWR, &fake_fops);
	if (IS_ERR(file))
		iput(inode);
	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	return file;
}

static int layout_test_init(struct kunit *test)
{
	struct vfsmount *mnt = kern_mount(&fake_fs_type);

	if (IS_ERR(mnt))
		return PTR_ERR(mnt);
	memset(&fake, 0, sizeof(fake));
	fake.mnt = mnt;
	return 0;
}

static void layout_test_exit(struct kunit *test)
{
	if (fake.mnt)
		kern_unmount(fake.mnt);
	fake.mnt = NULL;
}

static void expect_extent(struct kunit *test, const struct layout_extent *got,
			  struct block_device *bdev, u64 addr, loff_t pos,
			  u64 len, unsigned int flags)
{
	KUNIT_EXPECT_PTR_EQ(test, got->bdev, bdev);
	KUNIT_EXPECT_EQ(test, got->addr, addr);
	KUNIT_EXPECT_EQ(test, got->pos, pos);
	KUNIT_EXPECT_EQ(test, got->len, len);
	KUNIT_EXPECT_EQ(test, got->flags, flags);
}

/*
 * What layout_emit() makes of extents.  There is no pin here, only a context
 * that names a file for what is logged.
 */
static int emit_all(struct kunit *test, struct holder *holder, loff_t start,
		    loff_t end, const struct layout_extent *extents,
		    unsigned int nr)
{
	struct file *file = new_file(test, S_IFREG, end);
	unsigned int i;
	int error = 0;

	holder->ctx.file = file;
	layout_start(&holder->ctx, start, end);
	for (i = 0; i < nr && !error; i++)
		error = layout_emit(&holder->ctx, &extents[i]);
	if (!error)
		error = layout_finish(&holder->ctx);
	holder->ctx.file = NULL;
#ifdef CONFIG_LAYOUT_DEBUG
	if (!error)
		KUNIT_EXPECT_EQ(test, holder->ctx.nr_extents, holder->nr);
	kvfree(holder->ctx.extents);
#endif
	__fput_sync(file);
	return error;
}

static void layout_test_merge(struct kunit *test)
{
	static const struct layout_extent extents[] = {
		{ &bdev_a, SZ_1M, 0, SZ_64K, 0 },
		{ &bdev_a, SZ_1M + SZ_64K, SZ_64K, SZ_64K, 0 },
		/* other flags */
		{ &bdev_a, SZ_1M + SZ_128K, SZ_128K, SZ_64K,
		  LAYOUT_EXTENT_UNWRITTEN },
		/* elsewhere */
		{ &bdev_a, SZ_8M, SZ_64K * 3, SZ_64K, LAYOUT_EXTENT_UNWRITTEN },
		/* the same address on another device */
		{ &bdev_b, SZ_8M + SZ_64K, SZ_64K * 4, SZ_64K,
		  LAYOUT_EXTENT_UNWRITTEN },
		/* before the last one */
		{ &bdev_b, SZ_8M, SZ_64K * 5, SZ_64K, LAYOUT_EXTENT_UNWRITTEN },
	};
	struct holder *holder = new_holder(test, 0);

	KUNIT_ASSERT_EQ(test, 0, emit_all(test, holder, 0, SZ_64K * 6, extents,
					  ARRAY_SIZE(extents)));
	KUNIT_ASSERT_EQ(test, holder->nr, 5);
	expect_extent(test, &holder->extents[0], &bdev_a, SZ_1M, 0, SZ_128K, 0);
	expect_extent(test, &holder->extents[1], &bdev_a, SZ_1M + SZ_128K,
		      SZ_128K, SZ_64K, LAYOUT_EXTENT_UNWRITTEN);
	expect_extent(test, &holder->extents[2], &bdev_a, SZ_8M, SZ_64K * 3,
		      SZ_64K, LAYOUT_EXTENT_UNWRITTEN);
	expect_extent(test, &holder->extents[3], &bdev_b, SZ_8M + SZ_64K,
		      SZ_64K * 4, SZ_64K, LAYOUT_EXTENT_UNWRITTEN);
	expect_extent(test, &holder->extents[4], &bdev_b, SZ_8M, SZ_64K * 5,
		      SZ_64K, LAYOUT_EXTENT_UNWRITTEN);
}

static void layout_test_range(struct kunit *test)
{
	static const struct layout_extent extents[] = {
		/* ends before the range */
		{ &bdev_b, SZ_8M, 0, SZ_4K, 0 },
		/* reaches into it */
		{ &bdev_a, SZ_1M, SZ_4K, SZ_64K, 0 },
		/* reported once more, and longer than the rest */
		{ &bdev_a, SZ_1M, SZ_4K, SZ_1M, 0 },
		/* begins behind it: not even looked at */
		{ &bdev_b, SZ_8M, SZ_8M, SZ_4K, 0 },
	};
	struct holder *holder = new_holder(test, LAYOUT_REQUIRE_ONE_DEVICE);

	KUNIT_ASSERT_EQ(test, 0, emit_all(test, holder, SZ_16K, SZ_128K, extents,
					  ARRAY_SIZE(extents)));
	KUNIT_ASSERT_EQ(test, holder->nr, 1);
	expect_extent(test, &holder->extents[0], &bdev_a,
		      SZ_1M + SZ_16K - SZ_4K, SZ_16K, SZ_128K - SZ_16K, 0);
}

static void layout_test_hole(struct kunit *test)
{
	static const struct layout_extent extents[] = {
		{ &bdev_a, SZ_1M, 0, SZ_64K, 0 },
		{ &bdev_a, SZ_2M, SZ_64K + SZ_4K, SZ_64K, 0 },
	};
	struct holder *holder = new_holder(test, 0);

	/* in the middle, at the beginning, at the end, nothing at all */
	KUNIT_EXPECT_EQ(test, -EINVAL, emit_all(test, holder, 0, SZ_128K,
						extents, 2));
	KUNIT_EXPECT_TRUE(test, holder->ctx.unfit);
	KUNIT_EXPECT_EQ(test, -EINVAL, emit_all(test, new_holder(test, 0),
						SZ_64K, SZ_128K, &extents[1], 1));
	KUNIT_EXPECT_EQ(test, -EINVAL, emit_all(test, new_holder(test, 0), 0,
						SZ_64K + SZ_4K, extents, 1));
	KUNIT_EXPECT_EQ(test, -EINVAL, emit_all(test, new_holder(test, 0), 0,
						SZ_64K, extents, 0));
}

static void layout_test_require(struct kunit *test)
{
	static const struct layout_extent extents[] = {
		{ &bdev_a, SZ_1M, 0, SZ_64K, LAYOUT_EXTENT_UNWRITTEN },
		{ &bdev_a, SZ_2M, SZ_64K, SZ_64K, 0 },
		{ &bdev_b, SZ_2M, SZ_128K, SZ_64K, LAYOUT_EXTENT_UNWRITTEN },
	};
	struct holder *holder = new_holder(test, LAYOUT_REQUIRE_UNWRITTEN);

	KUNIT_EXPECT_EQ(test, -EINVAL, emit_all(test, holder, 0, SZ_128K,
						extents, 2));
	KUNIT_EXPECT_TRUE(test, holder->ctx.unfit);
	holder = new_holder(test, LAYOUT_REQUIRE_UNWRITTEN);
	KUNIT_EXPECT_EQ(test, 0, emit_all(test, holder, 0, SZ_64K, extents, 1));
	KUNIT_EXPECT_EQ(test, holder->nr, 1);

	holder = new_holder(test, LAYOUT_REQUIRE_ONE_DEVICE);
	KUNIT_EXPECT_EQ(test, -EINVAL, emit_all(test, holder, 0, SZ_64K * 3,
						extents, 3));
	/* No other content would help. */
	KUNIT_EXPECT_FALSE(test, holder->ctx.unfit);
	holder = new_holder(test, LAYOUT_REQUIRE_ONE_DEVICE);
	KUNIT_EXPECT_EQ(test, 0, emit_all(test, holder, 0, SZ_128K, extents, 2));
}

static void layout_test_actor_error(struct kunit *test)
{
	static const struct layout_extent extents[] = {
		{ &bdev_a, SZ_1M, 0, SZ_64K, 0 },
		{ &bdev_a, SZ_2M, SZ_64K, SZ_64K, 0 },
		{ &bdev_a, SZ_4M, SZ_128K, SZ_64K, 0 },
	};
	unsigned int fail_at;

	for (fail_at = 1; fail_at <= 3; fail_at++) {
		struct holder *holder = new_holder(test, 0);

		holder->fail_at = fail_at;
		KUNIT_EXPECT_EQ(test, -EXFULL,
				emit_all(test, holder, 0, SZ_64K * 3, extents,
					 3));
		KUNIT_EXPECT_EQ(test, holder->nr, fail_at);
	}
}

static const struct layout_extent good_extents[] = {
	{ &bdev_a, SZ_1M, 0, SZ_64K, LAYOUT_EXTENT_UNWRITTEN },
	{ &bdev_a, SZ_4M, SZ_64K, SZ_64K, LAYOUT_EXTENT_UNWRITTEN },
};

static struct file *new_good_file(struct kunit *test)
{
	fake.extents = good_extents;
	fake.nr = ARRAY_SIZE(good_extents);
	return new_file(test, S_IFREG, SZ_128K + 1);
}

static void layout_test_pin(struct kunit *test)
{
	struct holder *holder = new_holder(test, LAYOUT_REQUIRE_UNWRITTEN);
	struct holder *other = new_holder(test, 0);
	struct file *file = new_good_file(test);
	struct inode *inode = file_inode(file);

	KUNIT_ASSERT_EQ(test, 0, vfs_pin_layout(file, &holder->ctx));
	KUNIT_EXPECT_TRUE(test, fake.flag_was_set);
	KUNIT_EXPECT_TRUE(test, fake.was_locked);
	KUNIT_EXPECT_TRUE(test, IS_SWAPFILE(inode));
	KUNIT_EXPECT_FALSE(test, inode_is_locked(inode));
	KUNIT_EXPECT_EQ(test, holder->nr, 2);

	/* One holder at a time. */
	KUNIT_EXPECT_EQ(test, -EBUSY, vfs_pin_layout(file, &other->ctx));
	KUNIT_EXPECT_EQ(test, other->nr, 0);
	KUNIT_EXPECT_TRUE(test, IS_SWAPFILE(inode));

	/* No way to store into it, not even later. */
	KUNIT_EXPECT_EQ(test, -EPERM, mapping_map_writable(file->f_mapping));

	vfs_unpin_layout(file, &holder->ctx);
	KUNIT_EXPECT_FALSE(test, IS_SWAPFILE(inode));
	KUNIT_EXPECT_FALSE(test, inode_is_locked(inode));
	KUNIT_EXPECT_EQ(test, fake.unpinned, 1);

	/* Both the file and the contexts can be used again. */
	KUNIT_EXPECT_EQ(test, 0, mapping_map_writable(file->f_mapping));
	mapping_unmap_writable(file->f_mapping);
	KUNIT_EXPECT_EQ(test, 0, vfs_pin_layout(file, &other->ctx));
	vfs_unpin_layout(file, &other->ctx);
	holder->nr = 0;
	KUNIT_EXPECT_EQ(test, 0, vfs_pin_layout(file, &holder->ctx));
	KUNIT_EXPECT_EQ(test, holder->nr, 2);
	vfs_unpin_layout(file, &holder->ctx);
	__fput_sync(file);
}

/* Nobody but the holder can let go of a file, and only of the one it holds. */
static void layout_test_owner(struct kunit *test)
{
	struct holder *holder = new_holder(test, 0);
	struct holder *other = new_holder(test, 0);
	struct file *file = new_good_file(test);
	struct file *file2 = new_good_file(test);

	KUNIT_ASSERT_EQ(test, 0, vfs_pin_layout(file, &holder->ctx));
	kunit_warning_suppress(test) {
		vfs_unpin_layout(file, &other->ctx);
		vfs_unpin_layout(file2, &holder->ctx);
		/* Nor can a context hold two files. */
		KUNIT_EXPECT_EQ(test, -EINVAL,
				vfs_pin_layout(file2, &holder->ctx));
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 3);
	}
	KUNIT_EXPECT_TRUE(test, IS_SWAPFILE(file_inode(file)));
	KUNIT_EXPECT_FALSE(test, IS_SWAPFILE(file_inode(file2)));
	KUNIT_EXPECT_EQ(test, fake.unpinned, 0);

	vfs_unpin_layout(file, &holder->ctx);
	KUNIT_EXPECT_FALSE(test, IS_SWAPFILE(file_inode(file)));
	__fput_sync(file);
	__fput_sync(file2);
}

/* After a failure at any step, everything is as it was. */
static void layout_test_undo(struct kunit *test)
{
	struct holder *holder = new_holder(test, LAYOUT_REQUIRE_UNWRITTEN);
	struct file *file = new_good_file(test);
	struct inode *inode = file_inode(file);

	/* the filesystem fails, and has to clean up by itself */
	fake.error = -EUCLEAN;
	KUNIT_EXPECT_EQ(test, -EUCLEAN, vfs_pin_layout(file, &holder->ctx));
	KUNIT_EXPECT_EQ(test, fake.unpinned, 0);
	KUNIT_EXPECT_FALSE(test, IS_SWAPFILE(inode));
	fake.error = 0;

	/* the actor fails while the filesystem walks */
	holder->fail_at = 1;
	KUNIT_EXPECT_EQ(test, -EXFULL, vfs_pin_layout(file, &holder->ctx));
	KUNIT_EXPECT_EQ(test, fake.unpinned, 0);
	KUNIT_EXPECT_FALSE(test, IS_SWAPFILE(inode));

	/* the actor fails after the filesystem is done */
	holder->nr = 0;
	holder->fail_at = 2;
	KUNIT_EXPECT_EQ(test, -EXFULL, vfs_pin_layout(file, &holder->ctx));
	KUNIT_EXPECT_EQ(test, fake.unpinned, 1);
	KUNIT_EXPECT_FALSE(test, IS_SWAPFILE(inode));
	KUNIT_EXPECT_FALSE(test, inode_is_locked(inode));

	KUNIT_EXPECT_EQ(test, 0, mapping_map_writable(file->f_mapping));
	mapping_unmap_writable(file->f_mapping);

	holder->nr = 0;
	holder->fail_at = 0;
	KUNIT_EXPECT_EQ(test, 0, vfs_pin_layout(file, &holder->ctx));
	vfs_unpin_layout(file, &holder->ctx);
	__fput_sync(file);
}

static void layout_test_refuse(struct kunit *test)
{
	static const struct {
		unsigned int	flag;
		int		error;
	} flags[] = {
		{ S_SWAPFILE, -EBUSY },
		{ S_IMMUTABLE, -EPERM },
		{ S_APPEND, -EPERM },
		{ S_ENCRYPTED, -EINVAL },
		{ S_VERITY, -EINVAL },
		{ S_DAX, -EINVAL },
	};
	struct holder *holder = new_holder(test, LAYOUT_REQUIRE_UNWRITTEN);
	struct file *file = new_good_file(test);
	struct inode *inode = file_inode(file);
	struct file *fifo;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		/* S_DAX is 0 without CONFIG_FS_DAX */
		if (!flags[i].flag)
			continue;
		inode->i_flags |= flags[i].flag;
		KUNIT_EXPECT_EQ_MSG(test, flags[i].error,
				    vfs_pin_layout(file, &holder->ctx),
				    "flag %#x", flags[i].flag);
		KUNIT_EXPECT_TRUE(test, inode->i_flags & flags[i].flag);
		inode->i_flags &= ~flags[i].flag;
	}

	fifo = new_file(test, S_IFIFO, SZ_128K);
	KUNIT_EXPECT_EQ(test, -EINVAL, vfs_pin_layout(fifo, &holder->ctx));
	__fput_sync(fifo);

	file->f_mode &= ~FMODE_WRITE;
	KUNIT_EXPECT_EQ(test, -EBADF, vfs_pin_layout(file, &holder->ctx));
	file->f_mode |= FMODE_WRITE;

	inode->i_mapping->a_ops = &fake_no_pin_aops;
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, vfs_pin_layout(file, &holder->ctx));
	inode->i_mapping->a_ops = &fake_aops;

	i_size_write(inode, 0);
	KUNIT_EXPECT_EQ(test, -EINVAL, vfs_pin_layout(file, &holder->ctx));
	i_size_write(inode, PAGE_SIZE - 1);
	KUNIT_EXPECT_EQ(test, -EINVAL, vfs_pin_layout(file, &holder->ctx));

	/* None of it got as far as the filesystem. */
	KUNIT_EXPECT_EQ(test, fake.pinned, 0);
	i_size_write(inode, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, 0, vfs_pin_layout(file, &holder->ctx));
	vfs_unpin_layout(file, &holder->ctx);
	__fput_sync(file);
}

static void layout_test_writers(struct kunit *test)
{
	struct holder *holder = new_holder(test, LAYOUT_REQUIRE_UNWRITTEN);
	struct holder *swap = new_holder(test, 0);
	struct file *file = new_good_file(test);
	struct inode *inode = file_inode(file);

	/* @file itself, and somebody else */
	atomic_set(&inode->i_writecount, 2);
	KUNIT_EXPECT_EQ(test, -ETXTBSY, vfs_pin_layout(file, &holder->ctx));
	/* A holder that does not mind written data does not mind writers. */
	KUNIT_EXPECT_EQ(test, 0, vfs_pin_layout(file, &swap->ctx));
	vfs_unpin_layout(file, &swap->ctx);
	/* Without a name, it is the descriptor of whoever passed it on. */
	clear_nlink(inode);
	KUNIT_EXPECT_EQ(test, 0, vfs_pin_layout(file, &holder->ctx));
	vfs_unpin_layout(file, &holder->ctx);
	atomic_set(&inode->i_writecount, 1);

	KUNIT_ASSERT_EQ(test, 0, mapping_map_writable(file->f_mapping));
	KUNIT_EXPECT_EQ(test, -ETXTBSY, vfs_pin_layout(file, &holder->ctx));
	KUNIT_EXPECT_FALSE(test, IS_SWAPFILE(inode));
	mapping_unmap_writable(file->f_mapping);
	holder->nr = 0;
	KUNIT_EXPECT_EQ(test, 0, vfs_pin_layout(file, &holder->ctx));
	vfs_unpin_layout(file, &holder->ctx);

	atomic_set(&inode->i_writecount, 0);
	__fput_sync(file);
}

/* Somebody far away who knows where the file lies, and is asked to forget it. */
struct fake_client {
	struct work_struct	work;
	struct file		*file;
	unsigned int		recalled;
	int			returned;
};

static struct fake_client client;

static void fake_return_lease(struct work_struct *work)
{
	void *owner = &client;

	client.returned = kernel_setlease(client.file, F_UNLCK, NULL, &owner);
}

static bool fake_lease_break(struct file_lease *lease)
{
	client.recalled++;
	return false;
}

static int fake_open_conflict(struct file *file, int type)
{
	return 0;
}

static const struct lease_manager_operations fake_lease_ops = {
	.lm_break		= fake_lease_break,
	.lm_change		= lease_modify,
	.lm_open_conflict	= fake_open_conflict,
};

static void layout_test_lease(struct kunit *test)
{
	struct holder *holder = new_holder(test, 0);
	struct file *file = new_good_file(test);
	struct inode *inode = file_inode(file);
	struct file_lease *lease = locks_alloc_lease();

	KUNIT_ASSERT_NOT_NULL(test, lease);
	memset(&client, 0, sizeof(client));
	INIT_WORK(&client.work, fake_return_lease);
	client.file = file;

	locks_init_lease(lease);
	lease->fl_lmops = &fake_lease_ops;
	lease->c.flc_flags = FL_LAYOUT;
	lease->c.flc_type = F_RDLCK;
	lease->c.flc_owner = &client;
	lease->c.flc_pid = current->tgid;
	lease->c.flc_file = file;
	KUNIT_ASSERT_EQ(test, 0, kernel_setlease(file, F_RDLCK, &lease, NULL));

	/* Who has the inode locked cannot wait for it. */
	inode_lock(inode);
	KUNIT_EXPECT_EQ(test, -ETXTBSY,
			vfs_pin_layout_locked(file, &holder->ctx));
	inode_unlock(inode);
	KUNIT_EXPECT_EQ(test, client.recalled, 1);
	KUNIT_EXPECT_EQ(test, fake.pinned, 0);
	KUNIT_EXPECT_FALSE(test, IS_SWAPFILE(inode));

	/* Others do, until it is given back. */
	schedule_work(&client.work);
	KUNIT_EXPECT_EQ(test, 0, vfs_pin_layout(file, &holder->ctx));
	flush_work(&client.work);
	KUNIT_EXPECT_EQ(test, client.returned, 0);
	KUNIT_EXPECT_EQ(test, fake.pinned, 1);
	vfs_unpin_layout(file, &holder->ctx);
	__fput_sync(file);
}

/* A filesystem that has nothing but ->bmap() is good enough for swap. */
static void layout_test_bmap(struct kunit *test)
{
	struct holder *swap = new_holder(test, LAYOUT_FOR_SWAP);
	struct holder *other = new_holder(test, 0);
	struct file *file = new_file(test, S_IFREG, PAGE_SIZE * 8);
	struct inode *inode = file_inode(file);
	struct super_block *sb = inode->i_sb;

	inode->i_mapping->a_ops = &fake_bmap_aops;
	inode->i_blkbits = PAGE_SHIFT;

	/* but not without a device */
	KUNIT_EXPECT_EQ(test, -EINVAL, vfs_pin_layout(file, &swap->ctx));
	sb->s_bdev = &bdev_a;

	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, vfs_pin_layout(file, &other->ctx));
	KUNIT_EXPECT_EQ(test, 0, vfs_pin_layout(file, &swap->ctx));
	KUNIT_EXPECT_EQ(test, swap->nr, 2);
	expect_extent(test, &swap->extents[0], &bdev_a, PAGE_SIZE * 100, 0,
		      PAGE_SIZE * 4, 0);
	expect_extent(test, &swap->extents[1], &bdev_a, PAGE_SIZE * 304,
		      PAGE_SIZE * 4, PAGE_SIZE * 4, 0);
	vfs_unpin_layout(file, &swap->ctx);

	i_size_write(inode, PAGE_SIZE * 9);
	KUNIT_EXPECT_EQ(test, -EINVAL, vfs_pin_layout(file, &swap->ctx));
	KUNIT_EXPECT_FALSE(test, IS_SWAPFILE(inode));

	/* Behind what the holder needs a hole does no harm. */
	swap->ctx.need = PAGE_SIZE * 9;
	KUNIT_EXPECT_EQ(test, -EINVAL, vfs_pin_layout(file, &swap->ctx));
	swap->ctx.need = PAGE_SIZE * 8;
	swap->nr = 0;
	KUNIT_ASSERT_EQ(test, 0, vfs_pin_layout(file, &swap->ctx));
	KUNIT_EXPECT_EQ(test, swap->nr, 2);
	KUNIT_EXPECT_EQ(test, swap->ctx.size, PAGE_SIZE * 8);
	vfs_unpin_layout(file, &swap->ctx);

	sb->s_bdev = NULL;
	__fput_sync(file);
}

/* The first 64k are pinned, and there is more to come. */
static const struct layout_extent long_extents[] = {
	{ &bdev_a, SZ_1M, 0, SZ_64K, LAYOUT_EXTENT_UNWRITTEN },
	{ &bdev_a, SZ_1M + SZ_64K, SZ_64K, SZ_64K, LAYOUT_EXTENT_UNWRITTEN },
	{ &bdev_a, SZ_4M, SZ_128K, SZ_64K, LAYOUT_EXTENT_UNWRITTEN },
	{ &bdev_b, SZ_4M, SZ_64K * 3, SZ_64K, 0 },
};

static struct file *new_pinned_file(struct kunit *test, struct holder *holder)
{
	struct file *file;

	fake.extents = long_extents;
	fake.nr = ARRAY_SIZE(long_extents);
	file = new_file(test, S_IFREG, SZ_64K);
	KUNIT_ASSERT_EQ(test, 0, vfs_pin_layout(file, &holder->ctx));
	KUNIT_ASSERT_EQ(test, holder->nr, 1);
	KUNIT_ASSERT_EQ(test, holder->ctx.size, SZ_64K);
	return file;
}

static void layout_test_extend(struct kunit *test)
{
	struct holder *holder = new_holder(test, LAYOUT_REQUIRE_UNWRITTEN);
	struct file *file = new_pinned_file(test, holder);
	struct inode *inode = file_inode(file);

	KUNIT_ASSERT_EQ(test, 0, vfs_extend_pinned_layout(file, &holder->ctx,
							  SZ_64K * 3));
	KUNIT_EXPECT_EQ(test, i_size_read(inode), SZ_64K * 3);
	KUNIT_EXPECT_EQ(test, holder->ctx.size, SZ_64K * 3);
	KUNIT_EXPECT_EQ(test, fake.allocated, 1);
	KUNIT_EXPECT_EQ(test, fake.others_error, -ETXTBSY);
	KUNIT_EXPECT_TRUE(test, fake.flag_was_set);
	KUNIT_EXPECT_TRUE(test, fake.was_locked);
	KUNIT_EXPECT_TRUE(test, IS_SWAPFILE(inode));
	KUNIT_EXPECT_FALSE(test, inode_is_locked(inode));

	/* What was pinned is not told again, though it is contiguous. */
	KUNIT_ASSERT_EQ(test, holder->nr, 3);
	expect_extent(test, &holder->extents[1], &bdev_a, SZ_1M + SZ_64K, SZ_64K,
		      SZ_64K, LAYOUT_EXTENT_UNWRITTEN);
	expect_extent(test, &holder->extents[2], &bdev_a, SZ_4M, SZ_128K, SZ_64K,
		      LAYOUT_EXTENT_UNWRITTEN);
#ifdef CONFIG_LAYOUT_DEBUG
	KUNIT_EXPECT_EQ(test, holder->ctx.nr_extents, 3);
#endif

	/* It is over, for this task too. */
	KUNIT_EXPECT_EQ(test, -ETXTBSY, file_modified(file));
	KUNIT_EXPECT_EQ(test, -ETXTBSY, inode_newsize_ok(inode, SZ_8M));
	KUNIT_EXPECT_EQ(test, -EPERM, mapping_map_writable(file->f_mapping));

	vfs_unpin_layout(file, &holder->ctx);
	KUNIT_EXPECT_EQ(test, fake.unpinned, 1);
	KUNIT_EXPECT_EQ(test, fake.undone_from, 0);
	KUNIT_EXPECT_FALSE(test, IS_SWAPFILE(inode));
	KUNIT_EXPECT_EQ(test, 0, file_modified(file));
	__fput_sync(file);
}

/* Whatever fails, the pin is what it was and so is the file. */
static void expect_not_extended(struct kunit *test, struct holder *holder,
				struct file *file, int error, loff_t size)
{
	struct inode *inode = file_inode(file);

	KUNIT_EXPECT_EQ(test, error,
			vfs_extend_pinned_layout(file, &holder->ctx, size));
	KUNIT_EXPECT_EQ(test, holder->ctx.size, SZ_64K);
	KUNIT_EXPECT_EQ(test, i_size_read(inode), SZ_64K);
	KUNIT_EXPECT_TRUE(test, IS_SWAPFILE(inode));
	KUNIT_EXPECT_FALSE(test, inode_is_locked(inode));
	KUNIT_EXPECT_EQ(test, -ETXTBSY, file_modified(file));
#ifdef CONFIG_LAYOUT_DEBUG
	KUNIT_EXPECT_EQ(test, holder->ctx.nr_extents, 1);
#endif
}

static void layout_test_extend_undo(struct kunit *test)
{
	struct holder *holder = new_holder(test, LAYOUT_REQUIRE_UNWRITTEN |
						 LAYOUT_REQUIRE_ONE_DEVICE);
	struct file *file = new_pinned_file(test, holder);

	/* some space, but not enough */
	fake.space = SZ_64K + SZ_4K;
	expect_not_extended(test, holder, file, -ENOSPC, SZ_128K);
	KUNIT_EXPECT_EQ(test, fake.pinned, 1);
	fake.space = 0;

	/* the filesystem cannot map it */
	fake.error = -EUCLEAN;
	expect_not_extended(test, holder, file, -EUCLEAN, SZ_128K);
	KUNIT_EXPECT_EQ(test, fake.unpinned, 0);
	fake.error = 0;

	/* the actor fails, while the filesystem walks and after that */
	holder->nr = 0;
	holder->fail_at = 1;
	expect_not_extended(test, holder, file, -EXFULL, SZ_64K * 3);
	KUNIT_EXPECT_EQ(test, fake.unpinned, 0);
	holder->nr = 0;
	holder->fail_at = 2;
	expect_not_extended(test, holder, file, -EXFULL, SZ_64K * 3);
	KUNIT_EXPECT_EQ(test, fake.unpinned, 1);
	KUNIT_EXPECT_EQ(test, fake.undone_from, SZ_64K);
	holder->fail_at = 0;

	/* the new extents are not what the holder requires, or too few */
	expect_not_extended(test, holder, file, -EINVAL, SZ_64K * 4);
	expect_not_extended(test, holder, file, -EINVAL, SZ_64K * 5);

	holder->nr = 0;
	KUNIT_EXPECT_EQ(test, 0, vfs_extend_pinned_layout(file, &holder->ctx,
							  SZ_64K * 3));
	KUNIT_EXPECT_EQ(test, holder->nr, 2);
	fake.unpinned = 0;
	vfs_unpin_layout(file, &holder->ctx);
	KUNIT_EXPECT_EQ(test, fake.unpinned, 1);
	KUNIT_EXPECT_EQ(test, fake.undone_from, 0);
	__fput_sync(file);
}

static void layout_test_extend_refuse(struct kunit *test)
{
	struct holder *holder = new_holder(test, 0);
	struct holder *other = new_holder(test, 0);
	struct file *file = new_pinned_file(test, holder);
	struct inode *inode = file_inode(file);

	/* smaller, the same, not whole pages, more than there can be */
	expect_not_extended(test, holder, file, -EINVAL, 0);
	expect_not_extended(test, holder, file, -EINVAL, SZ_64K);
	expect_not_extended(test, holder, file, -EINVAL, SZ_64K + 512);
	inode->i_sb->s_maxbytes = SZ_1M;
	expect_not_extended(test, holder, file, -EFBIG, SZ_1M + PAGE_SIZE);
	inode->i_sb->s_maxbytes = MAX_LFS_FILESIZE;

	/* What lies behind what is used is not the holder's. */
	holder->ctx.need = SZ_4K;
	expect_not_extended(test, holder, file, -EINVAL, SZ_128K);
	holder->ctx.need = 0;

	inode->i_flags |= S_IMMUTABLE;
	expect_not_extended(test, holder, file, -EPERM, SZ_128K);
	inode->i_flags &= ~S_IMMUTABLE;

	/* Who thaws it may be waiting for us. */
	KUNIT_ASSERT_EQ(test, 0, freeze_super(inode->i_sb, FREEZE_HOLDER_KERNEL,
					      NULL));
	expect_not_extended(test, holder, file, -EAGAIN, SZ_128K);
	KUNIT_ASSERT_EQ(test, 0, thaw_super(inode->i_sb, FREEZE_HOLDER_KERNEL,
					    NULL));

	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, -EINVAL,
				vfs_extend_pinned_layout(file, &other->ctx,
							 SZ_128K));
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_EQ(test, fake.allocated, 0);

	/* A second one, and letting go, while an extension is going on. */
	fake.unpin = &holder->ctx;
	fake.extend = holder;
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, 0,
				vfs_extend_pinned_layout(file, &holder->ctx,
							 SZ_128K));
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_EQ(test, fake.extend_error, -EBUSY);
	KUNIT_EXPECT_EQ(test, fake.unpinned, 0);
	KUNIT_EXPECT_EQ(test, holder->ctx.size, SZ_128K);
	vfs_unpin_layout(file, &holder->ctx);

	/* The rest of the last block is nobody's to write to. */
	i_size_write(inode, SZ_64K + 512);
	holder->nr = 0;
	KUNIT_ASSERT_EQ(test, 0, vfs_pin_layout(file, &holder->ctx));
	fake.allocated = 0;
	KUNIT_EXPECT_EQ(test, -EINVAL,
			vfs_extend_pinned_layout(file, &holder->ctx, SZ_128K));
	KUNIT_EXPECT_EQ(test, fake.allocated, 0);
	vfs_unpin_layout(file, &holder->ctx);
	__fput_sync(file);
}

static struct kunit_case layout_test_cases[] = {
	KUNIT_CASE(layout_test_merge),
	KUNIT_CASE(layout_test_range),
	KUNIT_CASE(layout_test_hole),
	KUNIT_CASE(layout_test_require),
	KUNIT_CASE(layout_test_actor_error),
	KUNIT_CASE(layout_test_pin),
	KUNIT_CASE(layout_test_owner),
	KUNIT_CASE(layout_test_undo),
	KUNIT_CASE(layout_test_refuse),
	KUNIT_CASE(layout_test_writers),
	KUNIT_CASE(layout_test_lease),
	KUNIT_CASE(layout_test_bmap),
	KUNIT_CASE(layout_test_extend),
	KUNIT_CASE(layout_test_extend_undo),
	KUNIT_CASE(layout_test_extend_refuse),
	{ }
};

static struct kunit_suite layout_test_suite = {
	.name		= "layout",
	.init		= layout_test_init,
	.exit		= layout_test_exit,
	.test_cases	= layout_test_cases,
};

kunit_test_suite(layout_test_suite);

MODULE_DESCRIPTION("KUnit tests of pinned file layouts");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
