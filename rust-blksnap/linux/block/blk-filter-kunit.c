// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of block device filters: two drivers that write down what they see, on
 * a disk that exists for these tests only.
 */
#include <kunit/test.h>
#include <linux/bio.h>
#include <linux/blk-filter.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/err.h>
#include <linux/mman.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>
#include <uapi/linux/blk-filter.h>

#include "blk.h"

/* A driver, and the only filter of it. */
struct tap {
	struct blkfilter_operations	ops;
	struct blkfilter		flt;
	bool				live;		/* @flt is initialised */
	int				refuse;		/* what it answers */
	bool				take_over;
	struct bio			*taken;
	unsigned int			seen;
	unsigned int			gone;
	unsigned int			detached;
	int				held;		/* for commands */
	bool				held_in_ctl;
};

/* The disk, and what has got to it. */
struct bed {
	struct gendisk	*disk;
	bool		gone;
	void __user	*user;
	unsigned int	writes;
	bool		keep;		/* what is written, in @kept */
	struct bio	*kept;
	bool		frozen;
	bool		wrote_while_frozen;
};

static void tap_release(struct tap *tap)
{
	if (tap->live)
		blkfilter_release(&tap->flt);
	tap->live = false;
}

/* Nothing of a test stays. */
static void tap_reset(struct tap *tap)
{
	tap_release(tap);
	tap->refuse = 0;
	tap->take_over = false;
	tap->taken = NULL;
	tap->seen = 0;
	tap->gone = 0;
	tap->detached = 0;
	tap->held = 0;
	tap->held_in_ctl = false;
}

static struct blkfilter *tap_attach(struct blkfilter_operations *ops,
				    struct block_device *bdev)
{
	struct tap *tap = container_of(ops, struct tap, ops);
	int ret = tap->refuse;

	tap_release(tap);
	memset(&tap->flt, 0, sizeof(tap->flt));
	if (!ret)
		ret = blkfilter_init(&tap->flt, bdev);
	if (ret)
		return ERR_PTR(ret);
	tap->live = true;
	return &tap->flt;
}

static int tap_may_detach(struct blkfilter *flt)
{
	return container_of(flt, struct tap, flt)->refuse;
}

/* It is not off its device yet. */
static void tap_gone(struct blkfilter *flt)
{
	if (!blkfilter_is_detached(flt) &&
	    rcu_access_pointer(flt->bdev->bd_filter) == flt)
		container_of(flt, struct tap, flt)->gone++;
}

static void tap_detach(struct blkfilter *flt)
{
	container_of(flt, struct tap, flt)->detached++;
}

static void tap_get(struct blkfilter *flt)
{
	container_of(flt, struct tap, flt)->held++;
}

static void tap_put(struct blkfilter *flt)
{
	container_of(flt, struct tap, flt)->held--;
}

/* Doubles the number that is its argument. */
static int tap_ctl(struct blkfilter *flt, unsigned int cmd, void __user *buf,
		   u32 *len)
{
	struct tap *tap = container_of(flt, struct tap, flt);
	u32 number;

	tap->held_in_ctl = tap->held == 1;
	if (*len < sizeof(number))
		return -EINVAL;
	if (get_user(number, (u32 __user *)buf) ||
	    put_user(2 * number, (u32 __user *)buf))
		return -EFAULT;
	*len = sizeof(number);
	return cmd;
}

static bool tap_submit_bio(struct blkfilter *flt, struct bio *bio)
{
	struct tap *tap = container_of(flt, struct tap, flt);

	tap->seen++;
	if (!tap->take_over)
		return true;
	tap->taken = bio;
	return false;
}

static struct tap one = {
	.ops = {
		.name		= "kunit-one",
		.attach		= tap_attach,
		.may_detach	= tap_may_detach,
		.gone		= tap_gone,
		.detach		= tap_detach,
		.ctl		= tap_ctl,
		.get		= tap_get,
		.put		= tap_put,
		.submit_bio	= tap_submit_bio,
	},
};

/* It takes no commands, and lets go without being asked. */
static struct tap two = {
	.ops = {
		.name		= "kunit-two",
		.attach		= tap_attach,
		.detach		= tap_detach,
		.submit_bio	= tap_submit_bio,
	},
};

static void bed_submit_bio(struct bio *bio)
{
	struct bed *bed = bio->bi_bdev->bd_disk->private_data;

	if (op_is_write(bio_op(bio))) {
		bed->writes++;
		if (READ_ONCE(bed->frozen))
			bed->wrote_while_frozen = true;
		if (bed->keep) {
			bed->kept = bio;
			return;
		}
	}
	bio_endio(bio);
}

static const struct block_device_operations bed_fops = {
	.submit_bio	= bed_submit_bio,
};

static int bed_attach(struct bed *bed, const char *name)
{
	struct blkfilter_attach arg = {};

	strscpy((char *)arg.name, name, sizeof(arg.name));
	if (copy_to_user(bed->user, &arg, sizeof(arg)))
		return -EFAULT;
	return blkfilter_ioctl_attach(bed->disk->part0, bed->user);
}

static int bed_detach(struct bed *bed, const char *name)
{
	struct blkfilter_detach arg = {};

	strscpy((char *)arg.name, name, sizeof(arg.name));
	if (copy_to_user(bed->user, &arg, sizeof(arg)))
		return -EFAULT;
	return blkfilter_ioctl_detach(bed->disk->part0, bed->user);
}

/* The argument itself lies behind that of the ioctl. */
static int bed_ctl(struct bed *bed, const char *name, u32 cmd, u32 *number)
{
	struct blkfilter_ctl __user *argp = bed->user;
	u32 __user *nump = bed->user + sizeof(*argp);
	struct blkfilter_ctl arg = {
		.cmd	= cmd,
		.optlen	= 2 * sizeof(*number),
		.opt	= (uintptr_t)nump,
	};
	int ret;

	strscpy((char *)arg.name, name, sizeof(arg.name));
	if (copy_to_user(argp, &arg, sizeof(arg)) || put_user(*number, nump))
		return -EFAULT;
	ret = blkfilter_ioctl_ctl(bed->disk->part0, argp);
	if (copy_from_user(&arg, argp, sizeof(arg)) || get_user(*number, nump))
		return -EFAULT;
	if (ret >= 0 && arg.optlen != sizeof(*number))
		return -EOVERFLOW;
	return ret;
}

static int bed_io(struct bed *bed, blk_opf_t opf)
{
	struct bio_vec vec;
	struct bio bio;
	int ret;

	bio_init(&bio, bed->disk->part0, &vec, 1, opf);
	bio.bi_iter.bi_sector = 8;
	__bio_add_page(&bio, ZERO_PAGE(0), SECTOR_SIZE, 0);
	if (!bio_has_data(&bio))
		bio.bi_vcnt = 0;
	ret = submit_bio_wait(&bio);
	bio_uninit(&bio);
	return ret;
}

static void filter_test_names(struct kunit *test)
{
	static struct blkfilter_operations namesake = { .name = "kunit-one" };
	struct bed *bed = test->priv;

	KUNIT_EXPECT_EQ(test, -EEXIST, blkfilter_register(&namesake));
	KUNIT_EXPECT_EQ(test, -ENOENT, bed_attach(bed, "kunit-three"));
	KUNIT_EXPECT_EQ(test, -ENOENT, bed_attach(bed, ""));
	KUNIT_EXPECT_EQ(test, -ENOENT, bed_detach(bed, "kunit-one"));
}

static void filter_test_one_a_device(struct kunit *test)
{
	struct bed *bed = test->priv;

	KUNIT_ASSERT_EQ(test, 0, bed_attach(bed, "kunit-one"));
	KUNIT_EXPECT_EQ(test, -EALREADY, bed_attach(bed, "kunit-one"));
	KUNIT_EXPECT_EQ(test, -EBUSY, bed_attach(bed, "kunit-two"));
	KUNIT_EXPECT_EQ(test, -EINVAL, bed_detach(bed, "kunit-two"));
	KUNIT_EXPECT_EQ(test, one.detached, 0);

	KUNIT_EXPECT_EQ(test, 0, bed_detach(bed, "kunit-one"));
	KUNIT_EXPECT_EQ(test, one.gone, 0);
	KUNIT_EXPECT_EQ(test, one.detached, 1);
	KUNIT_EXPECT_EQ(test, -ENOENT, bed_detach(bed, "kunit-one"));
	KUNIT_EXPECT_EQ(test, 0, bed_attach(bed, "kunit-two"));
}

static void filter_test_refuse(struct kunit *test)
{
	struct bed *bed = test->priv;

	one.refuse = -ENOMEDIUM;
	KUNIT_EXPECT_EQ(test, -ENOMEDIUM, bed_attach(bed, "kunit-one"));
	one.refuse = 0;
	KUNIT_ASSERT_EQ(test, 0, bed_attach(bed, "kunit-one"));

	one.refuse = -EBUSY;
	KUNIT_EXPECT_EQ(test, -EBUSY, bed_detach(bed, "kunit-one"));
	KUNIT_EXPECT_EQ(test, 0, bed_io(bed, REQ_OP_WRITE));
	KUNIT_EXPECT_EQ(test, one.seen, 1);
	one.refuse = 0;
	KUNIT_EXPECT_EQ(test, 0, bed_detach(bed, "kunit-one"));
}

static void filter_test_ctl(struct kunit *test)
{
	struct bed *bed = test->priv;
	u32 number = 21;

	KUNIT_EXPECT_EQ(test, -ENOENT, bed_ctl(bed, "kunit-one", 7, &number));
	KUNIT_ASSERT_EQ(test, 0, bed_attach(bed, "kunit-one"));
	KUNIT_EXPECT_EQ(test, -EINVAL, bed_ctl(bed, "kunit-two", 7, &number));
	KUNIT_EXPECT_EQ(test, 7, bed_ctl(bed, "kunit-one", 7, &number));
	KUNIT_EXPECT_EQ(test, number, 42);
	KUNIT_EXPECT_TRUE(test, one.held_in_ctl);
	KUNIT_EXPECT_EQ(test, one.held, 0);
	KUNIT_ASSERT_EQ(test, 0, bed_detach(bed, "kunit-one"));

	KUNIT_ASSERT_EQ(test, 0, bed_attach(bed, "kunit-two"));
	KUNIT_EXPECT_EQ(test, -ENOTTY, bed_ctl(bed, "kunit-two", 7, &number));
}

/* Every way to modify a device, and none to read it. */
static void filter_test_sees(struct kunit *test)
{
	static const blk_opf_t modify[] = {
		REQ_OP_WRITE,
		REQ_OP_WRITE | REQ_FUA,
		REQ_OP_WRITE | REQ_PREFLUSH,
		REQ_OP_WRITE_ZEROES,
		REQ_OP_DISCARD,
		REQ_OP_SECURE_ERASE,
	};
	struct bed *bed = test->priv;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 0, bed_attach(bed, "kunit-one"));
	KUNIT_EXPECT_EQ(test, 0, bed_io(bed, REQ_OP_READ));
	KUNIT_EXPECT_EQ(test, one.seen, 0);
	for (i = 0; i < ARRAY_SIZE(modify); i++) {
		KUNIT_EXPECT_EQ(test, 0, bed_io(bed, modify[i]));
		KUNIT_EXPECT_EQ(test, one.seen, i + 1);
		KUNIT_EXPECT_EQ(test, bed->writes, i + 1);
	}

	KUNIT_ASSERT_EQ(test, 0, bed_detach(bed, "kunit-one"));
	for (i = 0; i < ARRAY_SIZE(modify); i++) {
		KUNIT_EXPECT_EQ(test, 0, bed_io(bed, modify[i]));
		KUNIT_EXPECT_EQ(test, one.seen, ARRAY_SIZE(modify));
	}
}

static void filter_test_end_io(struct bio *bio)
{
	complete(bio->bi_private);
}

static void filter_test_take_over(struct kunit *test)
{
	DECLARE_COMPLETION_ONSTACK(done);
	struct bed *bed = test->priv;
	struct bio_vec vec;
	struct bio bio;

	KUNIT_ASSERT_EQ(test, 0, bed_attach(bed, "kunit-one"));
	bio_init(&bio, bed->disk->part0, &vec, 1, REQ_OP_WRITE);
	__bio_add_page(&bio, ZERO_PAGE(0), SECTOR_SIZE, 0);
	bio.bi_end_io = filter_test_end_io;
	bio.bi_private = &done;

	one.take_over = true;
	submit_bio(&bio);
	KUNIT_EXPECT_PTR_EQ(test, one.taken, &bio);
	KUNIT_EXPECT_EQ(test, bed->writes, 0);
	KUNIT_EXPECT_FALSE(test, completion_done(&done));

	/* It comes once more, and then to the disk. */
	one.take_over = false;
	blkfilter_resubmit_bio(&bio);
	wait_for_completion(&done);
	KUNIT_EXPECT_EQ(test, one.seen, 2);
	KUNIT_EXPECT_EQ(test, bed->writes, 1);

	/* The driver's own. */
	bio_reset(&bio, bed->disk->part0, REQ_OP_WRITE);
	__bio_add_page(&bio, ZERO_PAGE(0), SECTOR_SIZE, 0);
	bio.bi_end_io = filter_test_end_io;
	bio.bi_private = &done;
	blkfilter_submit_below(&bio);
	wait_for_completion(&done);
	KUNIT_EXPECT_EQ(test, one.seen, 2);
	KUNIT_EXPECT_EQ(test, bed->writes, 2);
	bio_uninit(&bio);
}

struct filter_test_writer {
	struct work_struct	work;
	struct bed		*bed;
	int			ret;
};

static void filter_test_write(struct work_struct *work)
{
	struct filter_test_writer *writer =
		container_of(work, struct filter_test_writer, work);

	writer->ret = bed_io(writer->bed, REQ_OP_WRITE);
}

static void filter_test_freeze(struct kunit *test)
{
	struct bed *bed = test->priv;
	struct filter_test_writer writer = { .bed = bed, .ret = -EINPROGRESS };

	KUNIT_ASSERT_EQ(test, 0, bed_attach(bed, "kunit-one"));
	KUNIT_ASSERT_EQ(test, 0, blkfilter_freeze_start(&one.flt));
	KUNIT_EXPECT_EQ(test, -EBUSY, blkfilter_freeze_start(&one.flt));
	KUNIT_EXPECT_EQ(test, 0, blkfilter_freeze_wait(&one.flt));
	KUNIT_EXPECT_EQ(test, 0, blkfilter_drain(bed->disk->part0));
	WRITE_ONCE(bed->frozen, true);

	KUNIT_EXPECT_EQ(test, 0, bed_io(bed, REQ_OP_READ));
	KUNIT_EXPECT_EQ(test, -EAGAIN, bed_io(bed, REQ_OP_WRITE | REQ_NOWAIT));
	INIT_WORK_ONSTACK(&writer.work, filter_test_write);
	schedule_work(&writer.work);
	KUNIT_EXPECT_EQ(test, one.seen, 0);

	WRITE_ONCE(bed->frozen, false);
	blkfilter_unfreeze(&one.flt);
	flush_work(&writer.work);
	destroy_work_on_stack(&writer.work);
	KUNIT_EXPECT_EQ(test, 0, writer.ret);
	KUNIT_EXPECT_EQ(test, one.seen, 1);
	KUNIT_EXPECT_EQ(test, bed->writes, 1);
	KUNIT_EXPECT_FALSE(test, bed->wrote_while_frozen);
}

/* Then nobody has to be waited for, time after time. */
static void filter_test_freeze_prepared(struct kunit *test)
{
	struct bed *bed = test->priv;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 0, bed_attach(bed, "kunit-one"));
	blkfilter_freeze_prepare(&one.flt);
	rcu_barrier();
	for (i = 0; i < 2; i++) {
		KUNIT_EXPECT_EQ(test, 0, bed_io(bed, REQ_OP_WRITE));
		KUNIT_EXPECT_EQ(test, one.seen, i + 1);
		KUNIT_ASSERT_EQ(test, 0, blkfilter_freeze_start(&one.flt));
		KUNIT_EXPECT_TRUE(test, percpu_ref_is_zero(&one.flt.ref));
		KUNIT_EXPECT_EQ(test, -EAGAIN,
				bed_io(bed, REQ_OP_WRITE | REQ_NOWAIT));
		blkfilter_unfreeze(&one.flt);
	}
	blkfilter_freeze_finish(&one.flt);
	KUNIT_EXPECT_EQ(test, 0, bed_io(bed, REQ_OP_WRITE));
	KUNIT_EXPECT_EQ(test, one.seen, 3);

	/* Also if it is detached meanwhile. */
	blkfilter_freeze_prepare(&one.flt);
	KUNIT_EXPECT_EQ(test, 0, bed_detach(bed, "kunit-one"));
	blkfilter_freeze_finish(&one.flt);
	KUNIT_EXPECT_EQ(test, -ENODEV, blkfilter_freeze_start(&one.flt));
	blkfilter_wait_detached(&one.flt);
}

/* A write that the disk keeps instead of ending it. */
struct filter_test_kept {
	struct completion	done;
	struct bio_vec		vec;
	struct bio		bio;
};

static void filter_test_begin(struct kunit *test, struct filter_test_kept *write)
{
	struct bed *bed = test->priv;

	init_completion(&write->done);
	bio_init(&write->bio, bed->disk->part0, &write->vec, 1, REQ_OP_WRITE);
	__bio_add_page(&write->bio, ZERO_PAGE(0), SECTOR_SIZE, 0);
	write->bio.bi_end_io = filter_test_end_io;
	write->bio.bi_private = &write->done;
	bed->keep = true;
	submit_bio(&write->bio);
	bed->keep = false;
	KUNIT_ASSERT_NOT_NULL(test, bed->kept);
}

struct filter_test_waiter {
	struct work_struct	work;
	int			ret;
};

static void filter_test_wait(struct work_struct *work)
{
	struct filter_test_waiter *waiter =
		container_of(work, struct filter_test_waiter, work);

	WRITE_ONCE(waiter->ret, blkfilter_freeze_wait(&one.flt));
}

/* What such a device is working on is counted by nobody but the filter. */
static void filter_test_freeze_waits(struct kunit *test)
{
	struct filter_test_waiter waiter;
	struct bed *bed = test->priv;
	struct filter_test_kept write;

	KUNIT_ASSERT_EQ(test, 0, bed_attach(bed, "kunit-one"));
	filter_test_begin(test, &write);

	KUNIT_EXPECT_EQ(test, 0, blkfilter_freeze_start(&one.flt));
	KUNIT_EXPECT_EQ(test, 0, blkfilter_freeze_wait_submitters(&one.flt));
	waiter.ret = -EINPROGRESS;
	INIT_WORK_ONSTACK(&waiter.work, filter_test_wait);
	schedule_work(&waiter.work);
	/* Long enough to find out that nobody has to be waited for. */
	synchronize_rcu();
	KUNIT_EXPECT_EQ(test, -EINPROGRESS, READ_ONCE(waiter.ret));

	/* What the device splits off, or sends another way, has passed. */
	submit_bio_noacct(bed->kept);
	KUNIT_EXPECT_TRUE(test, completion_done(&write.done));
	KUNIT_EXPECT_EQ(test, one.seen, 1);
	KUNIT_EXPECT_EQ(test, bed->writes, 2);
	flush_work(&waiter.work);
	destroy_work_on_stack(&waiter.work);
	KUNIT_EXPECT_EQ(test, 0, waiter.ret);
	blkfilter_unfreeze(&one.flt);
	bio_uninit(&write.bio);
}

/* To be taken off, a filter need not wait for the device. */
static void filter_test_detach_busy(struct kunit *test)
{
	struct bed *bed = test->priv;
	struct filter_test_kept write;

	KUNIT_ASSERT_EQ(test, 0, bed_attach(bed, "kunit-one"));
	filter_test_begin(test, &write);

	KUNIT_EXPECT_EQ(test, 0, bed_detach(bed, "kunit-one"));
	tap_release(&one);
	KUNIT_EXPECT_FALSE(test, completion_done(&write.done));
	bio_endio(bed->kept);
	wait_for_completion(&write.done);
	KUNIT_EXPECT_EQ(test, write.bio.bi_status, BLK_STS_OK);
	bio_uninit(&write.bio);
}

/* The error is the device's, and a path that has failed is no new write. */
static void filter_test_fails(struct kunit *test)
{
	struct bed *bed = test->priv;
	struct filter_test_kept write;

	KUNIT_ASSERT_EQ(test, 0, bed_attach(bed, "kunit-one"));
	filter_test_begin(test, &write);

	/* As a multipath device does it. */
	bed->keep = true;
	bio_set_dev(bed->kept, bed->disk->part0);
	submit_bio_noacct(bed->kept);
	KUNIT_EXPECT_EQ(test, one.seen, 1);
	KUNIT_EXPECT_EQ(test, bed->writes, 2);
	bio_io_error(bed->kept);
	wait_for_completion(&write.done);
	KUNIT_EXPECT_EQ(test, write.bio.bi_status, BLK_STS_IOERR);
	bio_uninit(&write.bio);
	bed->keep = false;
}

/* A driver that goes takes its filters along. */
static void filter_test_unregister(struct kunit *test)
{
	struct bed *bed = test->priv;

	KUNIT_ASSERT_EQ(test, 0, bed_attach(bed, "kunit-one"));
	blkfilter_unregister(&one.ops);
	KUNIT_EXPECT_EQ(test, one.detached, 1);
	KUNIT_EXPECT_EQ(test, 0, bed_io(bed, REQ_OP_WRITE));
	KUNIT_EXPECT_EQ(test, one.seen, 0);
	KUNIT_EXPECT_EQ(test, -ENOENT, bed_attach(bed, "kunit-one"));
	KUNIT_ASSERT_EQ(test, 0, blkfilter_register(&one.ops));
}

/* A filter that is detached while it is frozen lets go of those who wait. */
static void filter_test_detach_frozen(struct kunit *test)
{
	struct bed *bed = test->priv;
	struct filter_test_writer writer = { .bed = bed, .ret = -EINPROGRESS };

	KUNIT_ASSERT_EQ(test, 0, bed_attach(bed, "kunit-one"));
	KUNIT_ASSERT_EQ(test, 0, blkfilter_freeze_start(&one.flt));
	KUNIT_EXPECT_EQ(test, 0, blkfilter_freeze_wait(&one.flt));
	INIT_WORK_ONSTACK(&writer.work, filter_test_write);
	schedule_work(&writer.work);

	KUNIT_EXPECT_EQ(test, 0, bed_detach(bed, "kunit-one"));
	flush_work(&writer.work);
	destroy_work_on_stack(&writer.work);
	KUNIT_EXPECT_EQ(test, 0, writer.ret);
	KUNIT_EXPECT_EQ(test, one.seen, 0);
	KUNIT_EXPECT_TRUE(test, blkfilter_is_detached(&one.flt));

	blkfilter_unfreeze(&one.flt);
	KUNIT_EXPECT_EQ(test, -ENODEV, blkfilter_freeze_start(&one.flt));
}

static void filter_test_device_gone(struct kunit *test)
{
	struct bed *bed = test->priv;

	KUNIT_ASSERT_EQ(test, 0, bed_attach(bed, "kunit-one"));
	/* Nobody is asked. */
	one.refuse = -EBUSY;
	del_gendisk(bed->disk);
	bed->gone = true;
	KUNIT_EXPECT_EQ(test, one.gone, 1);
	KUNIT_EXPECT_EQ(test, one.detached, 1);
	KUNIT_EXPECT_TRUE(test, blkfilter_is_detached(&one.flt));
	one.refuse = 0;
	KUNIT_EXPECT_EQ(test, -ENODEV, bed_attach(bed, "kunit-one"));
	KUNIT_EXPECT_EQ(test, -ENODEV, bed_detach(bed, "kunit-one"));
}

static int filter_test_init(struct kunit *test)
{
	struct queue_limits lim = {
		.features = BLK_FEAT_NOWAIT | BLK_FEAT_WRITE_CACHE |
			    BLK_FEAT_FUA,
		.max_hw_discard_sectors = UINT_MAX,
		.max_write_zeroes_sectors = UINT_MAX,
		.max_secure_erase_sectors = UINT_MAX,
	};
	unsigned long addr;
	struct bed *bed;
	int ret;

	bed = kunit_kzalloc(test, sizeof(*bed), GFP_KERNEL);
	if (!bed)
		return -ENOMEM;
	ret = kunit_attach_mm();
	if (ret)
		return ret;
	addr = kunit_vm_mmap(test, NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_ANONYMOUS | MAP_PRIVATE, 0);
	if (!addr || IS_ERR_VALUE(addr))
		return -ENOMEM;
	bed->user = (void __user *)addr;

	bed->disk = blk_alloc_disk(&lim, NUMA_NO_NODE);
	if (IS_ERR(bed->disk))
		return PTR_ERR(bed->disk);
	bed->disk->fops = &bed_fops;
	bed->disk->private_data = bed;
	bed->disk->flags |= GENHD_FL_NO_PART;
	strscpy(bed->disk->disk_name, "blk-filter-kunit");
	set_capacity(bed->disk, 64);
	ret = add_disk(bed->disk);
	if (ret) {
		put_disk(bed->disk);
		return ret;
	}

	test->priv = bed;
	return 0;
}

static void filter_test_exit(struct kunit *test)
{
	struct bed *bed = test->priv;

	if (!bed)
		return;
	/* Takes the filter along. */
	if (!bed->gone)
		del_gendisk(bed->disk);
	put_disk(bed->disk);
	tap_reset(&one);
	tap_reset(&two);
}

static int filter_test_suite_init(struct kunit_suite *suite)
{
	int ret = blkfilter_register(&one.ops);

	if (ret)
		return ret;
	ret = blkfilter_register(&two.ops);
	if (ret)
		blkfilter_unregister(&one.ops);
	return ret;
}

static void filter_test_suite_exit(struct kunit_suite *suite)
{
	if (suite->suite_init_err)
		return;
	blkfilter_unregister(&one.ops);
	blkfilter_unregister(&two.ops);
}

static struct kunit_case filter_test_cases[] = {
	KUNIT_CASE(filter_test_names),
	KUNIT_CASE(filter_test_one_a_device),
	KUNIT_CASE(filter_test_refuse),
	KUNIT_CASE(filter_test_ctl),
	KUNIT_CASE(filter_test_sees),
	KUNIT_CASE(filter_test_take_over),
	KUNIT_CASE(filter_test_freeze),
	KUNIT_CASE(filter_test_freeze_prepared),
	KUNIT_CASE(filter_test_freeze_waits),
	KUNIT_CASE(filter_test_detach_busy),
	KUNIT_CASE(filter_test_fails),
	KUNIT_CASE(filter_test_unregister),
	KUNIT_CASE(filter_test_detach_frozen),
	KUNIT_CASE(filter_test_device_gone),
	{ }
};

static struct kunit_suite filter_test_suite = {
	.name		= "blk-filter",
	.suite_init	= filter_test_suite_init,
	.suite_exit	= filter_test_suite_exit,
	.init		= filter_test_init,
	.exit		= filter_test_exit,
	.test_cases	= filter_test_cases,
};

kunit_test_suite(filter_test_suite);
