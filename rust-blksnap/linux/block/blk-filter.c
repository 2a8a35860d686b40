// SPDX-License-Identifier: GPL-2.0
/*
 * Block device filters.
 *
 * A filter sits between submit_bio() and one block device, a whole disk or a
 * partition, and sees every bio that modifies it.  Attaching one needs no
 * change to what is stacked or mounted on the device.
 *
 * Lock order:
 *   disk->open_mutex
 *     blkfilter_sem
 *       the driver's own locks
 *         blkfilter->lock
 */
#include <linux/bio.h>
#include <linux/blk-filter.h>
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/export.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/rwsem.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <uapi/linux/blk-filter.h>

#include "blk.h"

DEFINE_STATIC_KEY_FALSE(blkfilter_attached);

/* Registered drivers and what is attached where. */
static DECLARE_RWSEM(blkfilter_sem);
static LIST_HEAD(blkfilter_drivers);
static LIST_HEAD(blkfilters);

/*
 * Submitters that wait for a frozen filter, and freezers that wait for the
 * submitters.  One queue for all: a waiting submitter holds no reference, so
 * the filter may be gone when it wakes up.
 */
static DECLARE_WAIT_QUEUE_HEAD(blkfilter_wait);

static void blkfilter_ref_zero(struct percpu_ref *ref)
{
	wake_up_all(&blkfilter_wait);
}

/*
 * What a device is working on that keeps no count of it.  It gets clones, whose
 * ends are seen.  They may end after the filter is gone.
 */
struct blkfilter_count {
	refcount_t		refs;		/* the filter's, and clones' */
	struct gendisk		*disk;		/* to compare only */
	struct bio_set		clones;
	struct work_struct	free_work;
};

struct blkfilter_clone {
	struct blkfilter_count	*count;
	struct bio		*bio;
	struct bio		clone;
};

/* Enough for one to be on its way while memory is short. */
#define BLKFILTER_CLONES	4

static void blkfilter_count_free(struct work_struct *work)
{
	struct blkfilter_count *count =
		container_of(work, struct blkfilter_count, free_work);

	bioset_exit(&count->clones);
	kfree(count);
}

static struct blkfilter_count *blkfilter_count_alloc(struct gendisk *disk)
{
	struct blkfilter_count *count = kzalloc_obj(*count);
	int ret;

	if (!count)
		return ERR_PTR(-ENOMEM);
	ret = bioset_init(&count->clones, BLKFILTER_CLONES,
			  offsetof(struct blkfilter_clone, clone), 0);
	if (ret) {
		kfree(count);
		return ERR_PTR(ret);
	}
	INIT_WORK(&count->free_work, blkfilter_count_free);
	refcount_set(&count->refs, 1);
	count->disk = disk;
	return count;
}

/* In any context. */
static void blkfilter_count_put(struct blkfilter_count *count)
{
	if (refcount_dec_and_test(&count->refs))
		schedule_work(&count->free_work);
	else if (wq_has_sleeper(&blkfilter_wait))
		wake_up_all(&blkfilter_wait);
}

static bool blkfilter_is_idle(struct blkfilter *flt)
{
	return !flt->count || refcount_read(&flt->count->refs) == 1;
}

/**
 * blkfilter_init - initialise the core's part of a filter
 * @flt: filter, inside the driver's zeroed structure
 * @bdev: device that it is for
 *
 * To be called by ->attach().  Undone by blkfilter_release().
 *
 * Return: 0 or -ENOMEM.
 */
int blkfilter_init(struct blkfilter *flt, struct block_device *bdev)
{
	int ret;

	mutex_init(&flt->lock);
	INIT_LIST_HEAD(&flt->list);
	flt->bdev = bdev;
	ret = percpu_ref_init(&flt->ref, blkfilter_ref_zero,
			      PERCPU_REF_ALLOW_REINIT, GFP_KERNEL);
	if (ret)
		return ret;
	/*
	 * Requests are counted by their queue, and a device that has done its
	 * I/O when it returns needs no count.
	 */
	if (bdev_test_flag(bdev, BD_HAS_SUBMIT_BIO) && !bdev_synchronous(bdev)) {
		flt->count = blkfilter_count_alloc(bdev->bd_disk);
		if (IS_ERR(flt->count)) {
			percpu_ref_exit(&flt->ref);
			return PTR_ERR(flt->count);
		}
	}
	return 0;
}
EXPORT_SYMBOL_GPL(blkfilter_init);

/**
 * blkfilter_release - free the core's part of a filter
 * @flt: filter that was never attached, or is detached
 */
void blkfilter_release(struct blkfilter *flt)
{
	percpu_ref_exit(&flt->ref);
	if (flt->count)
		blkfilter_count_put(flt->count);
	mutex_destroy(&flt->lock);
}
EXPORT_SYMBOL_GPL(blkfilter_release);

/**
 * blkfilter_freeze_prepare - get ready to freeze a filter and drain its device
 * @flt: filter
 *
 * Both need to know who is inside.  That is counted on each processor by itself
 * otherwise, and to add it up takes an RCU grace period each time.  It passes
 * from here on, while everybody goes on, and the caller freezes the filesystem.
 * To be ended by blkfilter_freeze_finish().  Waits only if somebody else has
 * just begun with the same disk.
 *
 * If the filter is detached meanwhile, the caller must have kept the device.
 */
void blkfilter_freeze_prepare(struct blkfilter *flt)
{
	struct request_queue *q = bdev_get_queue(flt->bdev);

	percpu_ref_switch_to_atomic(&flt->ref, NULL);
	if (queue_is_mq(q))
		percpu_ref_switch_to_atomic(&q->q_usage_counter, NULL);
}
EXPORT_SYMBOL_GPL(blkfilter_freeze_prepare);

/**
 * blkfilter_freeze_finish - no freeze is to come soon
 * @flt: filter that is not frozen by the caller any more
 *
 * If somebody else is going to freeze another filter on the same disk, it will
 * take a little longer.
 */
void blkfilter_freeze_finish(struct blkfilter *flt)
{
	struct request_queue *q = bdev_get_queue(flt->bdev);

	if (queue_is_mq(q))
		percpu_ref_switch_to_percpu(&q->q_usage_counter);
	percpu_ref_switch_to_percpu(&flt->ref);
}
EXPORT_SYMBOL_GPL(blkfilter_freeze_finish);

/**
 * blkfilter_freeze_start - begin to keep submitters out of a filter
 * @flt: filter
 *
 * New submitters of modifications wait, or get %BLK_STS_AGAIN if they must
 * not wait.  To freeze several filters on devices that are not stacked on each
 * other, start all of them before waiting for the first: unless it was prepared
 * for, each wait takes an RCU grace period.
 *
 * Return: 0, -EBUSY if somebody else has frozen the filter, or -ENODEV if it is
 * detached.
 */
int blkfilter_freeze_start(struct blkfilter *flt)
{
	guard(mutex)(&flt->lock);

	if (flt->detached)
		return -ENODEV;
	if (flt->frozen)
		return -EBUSY;
	flt->frozen = true;
	percpu_ref_kill(&flt->ref);
	return 0;
}
EXPORT_SYMBOL_GPL(blkfilter_freeze_start);

/**
 * blkfilter_freeze_wait - wait until a filter is out of use
 * @flt: filter whose freeze was started by the caller
 *
 * On success all that ->submit_bio() let pass has been completed by a device
 * that is driven by bios, and handed to the queue of one that is driven by
 * requests, but for what that has split off: it comes to ->submit_bio() again.
 * What was handed over need not have completed; see blkfilter_drain().
 *
 * A device that is stacked on another one completes nothing while a filter on
 * that is frozen, so the upper one has to be waited for first.  Hence the limit.
 *
 * Return: 0, or -ETIMEDOUT after half a minute.  Either way the filter is to
 * be unfrozen.
 */
int blkfilter_freeze_wait(struct blkfilter *flt)
{
	if (!wait_event_timeout(blkfilter_wait,
				percpu_ref_is_zero(&flt->ref) &&
				blkfilter_is_idle(flt), 30 * HZ))
		return -ETIMEDOUT;
	return 0;
}
EXPORT_SYMBOL_GPL(blkfilter_freeze_wait);

/**
 * blkfilter_freeze_wait_submitters - wait until no submitter is in a filter
 * @flt: filter whose freeze was started by the caller
 *
 * What has passed may be under way still.
 *
 * Return: 0, or -ETIMEDOUT after half a minute.  Either way the filter is to
 * be unfrozen.
 */
int blkfilter_freeze_wait_submitters(struct blkfilter *flt)
{
	if (!wait_event_timeout(blkfilter_wait, percpu_ref_is_zero(&flt->ref),
				30 * HZ))
		return -ETIMEDOUT;
	return 0;
}
EXPORT_SYMBOL_GPL(blkfilter_freeze_wait_submitters);

/**
 * blkfilter_wait_detached - wait until no submitter is in a filter that goes
 * @flt: filter that cannot be frozen any more, because it is being detached
 *
 * What has passed may be under way still.
 */
void blkfilter_wait_detached(struct blkfilter *flt)
{
	wait_event(blkfilter_wait, percpu_ref_is_zero(&flt->ref));
}
EXPORT_SYMBOL_GPL(blkfilter_wait_detached);

/**
 * blkfilter_is_detached - whether a filter is off its device for good
 * @flt: filter
 *
 * It is when ->detach() is called.
 *
 * Return: %true if so.
 */
bool blkfilter_is_detached(struct blkfilter *flt)
{
	guard(mutex)(&flt->lock);

	return flt->detached;
}
EXPORT_SYMBOL_GPL(blkfilter_is_detached);

/**
 * blkfilter_unfreeze - let submitters into a filter again
 * @flt: filter that the caller has frozen
 */
void blkfilter_unfreeze(struct blkfilter *flt)
{
	guard(mutex)(&flt->lock);

	flt->frozen = false;
	if (!flt->detached) {
		/*
		 * What was changed while the filter was frozen comes before the
		 * references that submitters can get from here on.  Pairs with
		 * the barrier in blkfilter_get().
		 */
		smp_wmb();
		percpu_ref_resurrect(&flt->ref);
		wake_up_all(&blkfilter_wait);
	}
}
EXPORT_SYMBOL_GPL(blkfilter_unfreeze);

/**
 * blkfilter_drain - wait for the requests that a device is working on
 * @bdev: block device
 *
 * With its filter frozen, no modification is in flight afterwards.  Unless it
 * was prepared for, that takes an RCU grace period.
 *
 * Nothing at all gets into the queue meanwhile, reads neither, of whatever
 * partition.  What the device is working on may be waiting for I/O to another
 * one, so that no two must be drained at once.
 *
 * A loop device completes nothing while the filesystem of its file is frozen,
 * which the caller may have done.  Hence the limit.
 *
 * Return: 0, or -ETIMEDOUT if it takes half a minute.
 */
int blkfilter_drain(struct block_device *bdev)
{
	struct request_queue *q = bdev_get_queue(bdev);
	unsigned int memflags;
	int ret = 0;

	if (!queue_is_mq(q))
		return 0;

	memflags = memalloc_noio_save();
	/* Not for lockdep: nothing is done while it is frozen. */
	blk_freeze_queue_start_non_owner(q);
	if (!blk_mq_freeze_queue_wait_timeout(q, 30 * HZ))
		ret = -ETIMEDOUT;
	blk_mq_unfreeze_queue_non_owner(q);
	memalloc_noio_restore(memflags);
	return ret;
}
EXPORT_SYMBOL_GPL(blkfilter_drain);

static struct blkfilter *blkfilter_get(struct bio *bio, bool *frozen)
{
	struct block_device *bdev = bio->bi_bdev;
	struct blkfilter *flt;

	*frozen = false;
	rcu_read_lock();
	flt = rcu_dereference(bdev->bd_filter);
	if (!flt)
		flt = rcu_dereference(bdev_whole(bdev)->bd_filter);
	if (flt && !percpu_ref_tryget_live_rcu(&flt->ref)) {
		/* A detached filter is no longer reachable, so retry. */
		*frozen = true;
		flt = NULL;
	}
	/*
	 * What was changed while the filter was frozen is seen from here on.
	 * Pairs with the barrier in blkfilter_unfreeze().
	 */
	smp_rmb();
	rcu_read_unlock();
	return flt;
}

static bool blkfilter_enter(struct bio *bio, struct blkfilter **flt)
{
	bool frozen;

	*flt = blkfilter_get(bio, &frozen);
	return !frozen;
}

static void blkfilter_end_clone(struct bio *clone)
{
	struct blkfilter_clone *io =
		container_of(clone, struct blkfilter_clone, clone);
	struct blkfilter_count *count = io->count;
	struct bio *bio = io->bio;

	if (clone->bi_status)
		bio->bi_status = clone->bi_status;
	if (bio_op(bio) == REQ_OP_ZONE_APPEND)
		bio->bi_iter.bi_sector = clone->bi_iter.bi_sector;
	bio_put(clone);
	bio_endio(bio);
	blkfilter_count_put(count);
}

/*
 * A path of a multipath device has failed, and a clone, or what was split off
 * from one, comes back to the disk.
 */
static bool blkfilter_has_passed(struct bio *bio)
{
	struct gendisk *disk = bio->bi_bdev->bd_disk;
	struct blkfilter_clone *io;
	struct bio *parent;

	while ((parent = bio_chained_to(bio)))
		bio = parent;
	if (bio->bi_end_io != blkfilter_end_clone)
		return false;
	io = container_of(bio, struct blkfilter_clone, clone);
	return io->count->disk == disk;
}

static void blkfilter_submit_counted(struct blkfilter *flt, struct bio *bio)
{
	const unsigned int accounted =
		BIT(BIO_BPS_THROTTLED) | BIT(BIO_CGROUP_ACCT);
	gfp_t gfp = bio->bi_opf & REQ_NOWAIT ? GFP_NOWAIT : GFP_NOIO;
	struct blkfilter_clone *io;
	struct bio *clone;

	/* Whoever polls does not know of the clone. */
	bio_clear_polled(bio);
	clone = bio_alloc_clone(bio->bi_bdev, bio, gfp, &flt->count->clones);
	if (!clone) {
		bio->bi_status = bio->bi_opf & REQ_NOWAIT ? BLK_STS_AGAIN :
							    BLK_STS_RESOURCE;
		bio_endio(bio);
		return;
	}
	refcount_inc(&flt->count->refs);
	io = container_of(clone, struct blkfilter_clone, clone);
	io->count = flt->count;
	io->bio = bio;
	clone->bi_end_io = blkfilter_end_clone;
	/* What is left of it if the device splits it is not new to anybody. */
	clone->bi_flags |= bio->bi_flags & accounted;
	bio_set_flag(clone, BIO_FILTERED);
	blk_submit_bio_to_disk(clone);
}

/*
 * Called for a bio that modifies its device and is not the driver's own.  The
 * filter is held until the device's queue has the bio: a freeze waits for both
 * together.  If the queue splits the bio, what is left of it is submitted again
 * when the filter may be frozen already, and so passes it once more.  If there
 * is no queue, a freeze waits until the bio has ended.
 */
void __blkfilter_submit_bio(struct bio *bio)
{
	struct blkfilter *flt;

	if (blkfilter_has_passed(bio)) {
		blk_submit_bio_to_disk(bio);
		return;
	}
	if (!blkfilter_enter(bio, &flt)) {
		if (bio->bi_opf & REQ_NOWAIT) {
			bio_wouldblock_error(bio);
			return;
		}
		wait_event(blkfilter_wait, blkfilter_enter(bio, &flt));
	}

	if (!flt) {
		blk_submit_bio_to_disk(bio);
		return;
	}

	if (flt->ops->submit_bio(flt, bio)) {
		if (flt->count)
			blkfilter_submit_counted(flt, bio);
		else
			blk_submit_bio_to_disk(bio);
	}
	percpu_ref_put(&flt->ref);
}

/**
 * blkfilter_submit_below - submit a bio of the filter driver's own
 * @bio: bio to a device that may have a filter
 *
 * Like submit_bio_noacct(), but no filter sees the bio.  A device that does
 * its I/O while it is submitted has done it on return, even if the caller is
 * itself inside of a submission.
 */
void blkfilter_submit_below(struct bio *bio)
{
	struct bio_list *bio_list = current->bio_list;

	bio_set_flag(bio, BIO_FILTERED);
	/*
	 * Submissions inside of others are put off so that they do not use up
	 * the stack.  A device like that is the last one of its stack.
	 */
	if (bdev_synchronous(bio->bi_bdev))
		current->bio_list = NULL;
	submit_bio_noacct(bio);
	current->bio_list = bio_list;
}
EXPORT_SYMBOL_GPL(blkfilter_submit_below);

/**
 * blkfilter_resubmit_bio - let a bio go on that ->submit_bio() had taken over
 * @bio: bio, unchanged
 *
 * All checks and accounting of submit_bio_noacct() have been done and are not
 * repeated.  The bio comes to ->submit_bio() again, which should let it pass
 * now.  May sleep, like any submission, and waits while the filter is frozen.
 */
void blkfilter_resubmit_bio(struct bio *bio)
{
	/* Whoever polls does not know of this submission. */
	bio_clear_polled(bio);
	submit_bio_noacct_nocheck(bio, false);
}
EXPORT_SYMBOL_GPL(blkfilter_resubmit_bio);

static bool blkfilter_has_name(const struct blkfilter_operations *ops,
			       const char *name)
{
	return !strncmp(ops->name, name, BLKFILTER_NAME_LENGTH);
}

static struct blkfilter_operations *blkfilter_find(const char *name)
{
	struct blkfilter_operations *ops;

	lockdep_assert_held(&blkfilter_sem);
	list_for_each_entry(ops, &blkfilter_drivers, list)
		if (blkfilter_has_name(ops, name))
			return ops;
	return NULL;
}

/**
 * blkfilter_register - make a filter driver known
 * @ops: driver, unchanged until it is unregistered
 *
 * Return: 0, or -EEXIST if the name is taken.
 */
int blkfilter_register(struct blkfilter_operations *ops)
{
	guard(rwsem_write)(&blkfilter_sem);

	if (blkfilter_find(ops->name))
		return -EEXIST;
	list_add_tail(&ops->list, &blkfilter_drivers);
	return 0;
}
EXPORT_SYMBOL_GPL(blkfilter_register);

static struct blkfilter *blkfilter_of(struct block_device *bdev)
{
	return rcu_dereference_protected(bdev->bd_filter,
					 lockdep_is_held(&blkfilter_sem));
}

/*
 * A bio passes one filter.  Filters on a disk and on one of its partitions at
 * once would need an order and a memory of which has been passed.
 */
static bool blkfilter_disk_is_free(struct block_device *bdev)
{
	struct block_device *part;
	unsigned long idx;
	bool free = true;

	if (bdev_is_partition(bdev))
		return !blkfilter_of(bdev_whole(bdev));

	rcu_read_lock();
	xa_for_each(&bdev->bd_disk->part_tbl, idx, part)
		if (rcu_access_pointer(part->bd_filter))
			free = false;
	rcu_read_unlock();
	return free;
}

static void blkfilter_detach(struct block_device *bdev, struct blkfilter *flt)
{
	const struct blkfilter_operations *ops = flt->ops;

	RCU_INIT_POINTER(bdev->bd_filter, NULL);
	list_del(&flt->list);

	mutex_lock(&flt->lock);
	flt->detached = true;
	if (!flt->frozen)
		percpu_ref_kill(&flt->ref);
	mutex_unlock(&flt->lock);

	/* Those who wait for a thaw find no filter now, and go on. */
	wake_up_all(&blkfilter_wait);
	wait_event(blkfilter_wait, percpu_ref_is_zero(&flt->ref));
	synchronize_rcu();

	static_branch_dec(&blkfilter_attached);
	ops->detach(flt);
	module_put(ops->owner);
}

/**
 * blkfilter_unregister - forget a filter driver
 * @ops: driver that was registered
 *
 * A module's attached filters hold the module, so that it is enough to call
 * this on unload.  If a module fails to load after it has registered, somebody
 * may have attached a filter meanwhile: it is detached, and commands to it are
 * waited for.
 */
void blkfilter_unregister(struct blkfilter_operations *ops)
{
	struct blkfilter *flt, *next;

	scoped_guard(rwsem_write, &blkfilter_sem) {
		list_del(&ops->list);
		list_for_each_entry_safe(flt, next, &blkfilters, list)
			if (flt->ops == ops)
				blkfilter_detach(flt->bdev, flt);
	}
	wait_event(blkfilter_wait, !atomic_read(&ops->commands));
}
EXPORT_SYMBOL_GPL(blkfilter_unregister);

static int blkfilter_attach(struct block_device *bdev, const char *name)
{
	struct blkfilter_operations *ops;
	struct blkfilter *flt;

	guard(rwsem_write)(&blkfilter_sem);

	ops = blkfilter_find(name);
	if (!ops)
		return -ENOENT;
	if (!disk_live(bdev->bd_disk))
		return -ENODEV;

	flt = blkfilter_of(bdev);
	if (flt)
		return flt->ops == ops ? -EALREADY : -EBUSY;
	if (!blkfilter_disk_is_free(bdev))
		return -EBUSY;

	if (!try_module_get(ops->owner))
		return -ENOENT;
	flt = ops->attach(ops, bdev);
	if (IS_ERR(flt)) {
		module_put(ops->owner);
		return PTR_ERR(flt);
	}

	flt->ops = ops;
	list_add_tail(&flt->list, &blkfilters);
	static_branch_inc(&blkfilter_attached);
	rcu_assign_pointer(bdev->bd_filter, flt);

	/*
	 * A disk that goes away looks for filters after it has become dead.
	 * Either it finds this one, or it is found to be dead here.
	 */
	smp_mb();
	if (!disk_live(bdev->bd_disk)) {
		blkfilter_detach(bdev, flt);
		return -ENODEV;
	}
	return 0;
}

/**
 * blkfilter_bdev_gone - detach the filter of a device that is going away
 * @bdev: device that can no longer be opened
 *
 * No filter can be attached any more: that needs a disk that is live, or a
 * partition that somebody has open.
 */
void blkfilter_bdev_gone(struct block_device *bdev)
{
	struct blkfilter *flt;

	/* Pairs with the barrier in blkfilter_attach(). */
	smp_mb();
	if (!rcu_access_pointer(bdev->bd_filter))
		return;

	guard(rwsem_write)(&blkfilter_sem);

	flt = blkfilter_of(bdev);
	if (!flt)
		return;
	/* The queue is still running: writes would pass without being seen. */
	if (flt->ops->gone)
		flt->ops->gone(flt);
	blkfilter_detach(bdev, flt);
}

/* The filter that a request by user space is for. */
static struct blkfilter *blkfilter_named(struct block_device *bdev,
					 const char *name)
{
	struct blkfilter *flt = blkfilter_of(bdev);

	if (!disk_live(bdev->bd_disk))
		return ERR_PTR(-ENODEV);
	if (!flt)
		return ERR_PTR(-ENOENT);
	if (!blkfilter_has_name(flt->ops, name))
		return ERR_PTR(-EINVAL);
	return flt;
}

int blkfilter_ioctl_attach(struct block_device *bdev,
			   struct blkfilter_attach __user *argp)
{
	struct blkfilter_attach arg;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;

	return blkfilter_attach(bdev, arg.name);
}

int blkfilter_ioctl_detach(struct block_device *bdev,
			   struct blkfilter_detach __user *argp)
{
	struct blkfilter_detach arg;
	struct blkfilter *flt;
	int ret;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;

	guard(rwsem_write)(&blkfilter_sem);

	flt = blkfilter_named(bdev, arg.name);
	if (IS_ERR(flt))
		return PTR_ERR(flt);
	if (flt->ops->may_detach) {
		ret = flt->ops->may_detach(flt);
		if (ret)
			return ret;
	}

	blkfilter_detach(bdev, flt);
	return 0;
}

int blkfilter_ioctl_ctl(struct block_device *bdev,
			struct blkfilter_ctl __user *argp)
{
	struct blkfilter_operations *ops;
	struct blkfilter_ctl arg;
	struct module *owner;
	struct blkfilter *flt;
	int ret;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;

	scoped_guard(rwsem_read, &blkfilter_sem) {
		flt = blkfilter_named(bdev, arg.name);
		if (IS_ERR(flt))
			return PTR_ERR(flt);
		ops = flt->ops;
		if (!ops->ctl)
			return -ENOTTY;
		/* An attached filter holds it. */
		owner = ops->owner;
		__module_get(owner);
		atomic_inc(&ops->commands);
		ops->get(flt);
	}

	/* Without the lock: access to user memory can take any time. */
	ret = ops->ctl(flt, arg.cmd, u64_to_user_ptr(arg.opt), &arg.optlen);
	ops->put(flt);
	module_put(owner);
	/* The last thing that is done with the module. */
	if (atomic_dec_and_test(&ops->commands))
		wake_up_all(&blkfilter_wait);
	if (ret < 0)
		return ret;

	/* Only the length goes back; the rest is the caller's own. */
	if (put_user(arg.optlen, &argp->optlen))
		return -EFAULT;
	return ret;
}
