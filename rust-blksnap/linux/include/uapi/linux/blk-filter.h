/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Block device filters, seen from user space.
 *
 * A filter sits between the submitter of a bio and the driver of one block
 * device or partition. The ioctls below are issued on that block device.
 */
#ifndef _UAPI_LINUX_BLK_FILTER_H
#define _UAPI_LINUX_BLK_FILTER_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Room for a filter's name, the terminating NUL included. */
#define BLKFILTER_NAME_LENGTH	32

/**
 * struct blkfilter_attach - Argument of %BLKFILTER_ATTACH
 *
 * @name: name of the filter, padded with NULs
 * @opt: user pointer to options of the filter, or 0.  No filter has any yet, and
 *	what is here is not looked at
 * @optlen: bytes at @opt
 * @reserved: ignored
 */
struct blkfilter_attach {
	__u8 name[BLKFILTER_NAME_LENGTH];
	__u64 opt;
	__u32 optlen;
	__u32 reserved;
};

/**
 * struct blkfilter_detach - Argument of %BLKFILTER_DETACH
 *
 * @name: name of the filter, padded with NULs
 */
struct blkfilter_detach {
	__u8 name[BLKFILTER_NAME_LENGTH];
};

/**
 * struct blkfilter_ctl - Argument of %BLKFILTER_CTL
 *
 * @name: name of the filter, padded with NULs
 * @cmd: command, its meaning is defined by the filter
 * @optlen: in: bytes at @opt the filter may read and write; out: bytes of the
 *	filter's answer
 * @opt: user pointer to the command's argument and answer, or 0
 */
struct blkfilter_ctl {
	__u8 name[BLKFILTER_NAME_LENGTH];
	__u32 cmd;
	__u32 optlen;
	__u64 opt;
};

/*
 * 142 is taken more than once in this group. The full codes differ, since the
 * size of the argument is part of them.
 */

/*
 * Put a filter on the block device.
 *
 * EALREADY: it is there already. EBUSY: another filter is, or one is on the
 * disk of which this is a partition, or on a partition of this disk. ENOENT: no
 * filter of that name is registered. ENODEV: the disk is dead. Else what the
 * filter refuses the device with.
 */
#define BLKFILTER_ATTACH	_IOWR(0x12, 142, struct blkfilter_attach)

/*
 * Take the filter off the block device.
 *
 * ENOENT: none is attached. EINVAL: another one is. ENODEV: the disk is dead.
 * EBUSY: the filter cannot go now.
 */
#define BLKFILTER_DETACH	_IOWR(0x12, 143, struct blkfilter_detach)

/*
 * Pass a command to the attached filter.
 *
 * ENOENT: none is attached. EINVAL: another one is. ENOTTY: the filter takes
 * no commands. ENODEV: the disk is dead.
 */
#define BLKFILTER_CTL		_IOWR(0x12, 144, struct blkfilter_ctl)

#endif /* _UAPI_LINUX_BLK_FILTER_H */
