/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Block device filters: see every modification of a block device before the
 * device does.  Documentation/block/blk-filter.rst has the whole picture.
 */
#ifndef _LINUX_BLK_FILTER_H
#define _LINUX_BLK_FILTER_H

#include <linux/atomic.h>
#include <linux/blk_types.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/percpu-refcount.h>

struct blkfilter;
struct blkfilter_count;
struct module;

/**
 * struct blkfilter_operations - what a filter driver implements
 * @name: name that user space attaches the filter by, at most
 *	  BLKFILTER_NAME_LENGTH - 1 bytes
 * @owner: module that is held while a filter is attached
 * @list: used by the core
 * @commands: used by the core: how many run
 * @attach: create a filter for a block device.  Returns it or an ERR_PTR().
 *	    May refuse a device that it cannot handle.  The core calls
 *	    nothing else on the filter before this has returned.
 * @may_detach: asked before user space detaches the filter; a negative errno
 *		refuses.  Optional.
 * @gone: the device is going away, which cannot be refused.  The filter still
 *	  sees what is written, but soon will not; ->detach() follows.  Optional.
 * @detach: the filter is off its device, and no ->submit_bio() is running or
 *	    will run again.
 * @ctl: command from user space.  @buf has *@len bytes; the driver stores the
 *	 number of bytes that it wrote back in *@len.  The filter may be detached
 *	 meanwhile.  Optional.
 * @get: keep the filter's memory, for a ->ctl().  Comes with @ctl.
 * @put: undo a @get.  Comes with @ctl.
 * @submit_bio: look at a bio that modifies the device.  Returns %true to let
 *		it pass, %false if the filter has taken it over and will give it
 *		to blkfilter_resubmit_bio() or end it.  A bio, or what the
 *		device has split off from it, can come more than once.  The
 *		sector is relative to the whole disk.  Must not wait for I/O to any
 *		device: what it submits is not started before it returns.
 *
 * All but ->submit_bio() may sleep.  ->attach(), ->may_detach(), ->gone() and
 * ->detach() are serialised against each other.
 */
struct blkfilter_operations {
	const char	*name;
	struct module	*owner;
	struct list_head list;
	atomic_t	commands;
	struct blkfilter *(*attach)(struct blkfilter_operations *ops,
				    struct block_device *bdev);
	int		(*may_detach)(struct blkfilter *flt);
	void		(*gone)(struct blkfilter *flt);
	void		(*detach)(struct blkfilter *flt);
	int		(*ctl)(struct blkfilter *flt, unsigned int cmd,
			       void __user *buf, u32 *len);
	void		(*get)(struct blkfilter *flt);
	void		(*put)(struct blkfilter *flt);
	bool		(*submit_bio)(struct blkfilter *flt, struct bio *bio);
};

/**
 * struct blkfilter - a filter attached to a block device
 * @ref: held by every submitter while it is between the filter and the device
 * @ops: the driver
 * @list: what is attached
 * @bdev: the device; valid from ->attach() to ->detach()
 * @count: of what the device is working on, if it keeps none itself
 * @lock: protects @frozen and @detached
 * @frozen: between blkfilter_freeze_start() and blkfilter_unfreeze()
 * @detached: the filter is off its device for good
 *
 * Embedded in the driver's own structure, all of it owned by the core from the
 * return of ->attach() to the call of ->detach(), after which only the freeze
 * functions may still be used.  blkfilter_release() ends its life.
 */
struct blkfilter {
	struct percpu_ref	ref;
	struct blkfilter_operations *ops;
	struct list_head	list;
	struct block_device	*bdev;
	struct blkfilter_count	*count;
	struct mutex		lock;
	bool			frozen;
	bool			detached;
};

#ifdef CONFIG_BLK_FILTER
int blkfilter_register(struct blkfilter_operations *ops);
void blkfilter_unregister(struct blkfilter_operations *ops);
int blkfilter_init(struct blkfilter *flt, struct block_device *bdev);
void blkfilter_release(struct blkfilter *flt);

void blkfilter_freeze_prepare(struct blkfilter *flt);
void blkfilter_freeze_finish(struct blkfilter *flt);
int blkfilter_freeze_start(struct blkfilter *flt);
int blkfilter_freeze_wait(struct blkfilter *flt);
int blkfilter_freeze_wait_submitters(struct blkfilter *flt);
void blkfilter_unfreeze(struct blkfilter *flt);
void blkfilter_wait_detached(struct blkfilter *flt);
int blkfilter_drain(struct block_device *bdev);
bool blkfilter_is_detached(struct blkfilter *flt);

void blkfilter_submit_below(struct bio *bio);
void blkfilter_resubmit_bio(struct bio *bio);
#endif /* CONFIG_BLK_FILTER */

#endif /* _LINUX_BLK_FILTER_H */
