/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Snapshots of block devices and tracking of changed blocks.
 *
 * Devices are put under the filter BLKSNAP_FILTER_NAME and controlled through
 * BLKFILTER_CTL (see linux/blk-filter.h) with the commands of
 * enum blksnap_filter_cmd. Snapshots are made, taken and destroyed through the
 * ioctls of the misc device BLKSNAP_CONTROL_NAME.
 *
 * A sector is 512 bytes here, whatever the device's block size.
 */
#ifndef _UAPI_LINUX_BLKSNAP_H
#define _UAPI_LINUX_BLKSNAP_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Name under which the filter is attached. */
#define BLKSNAP_FILTER_NAME		"blksnap"
/* Name of the misc device in the device directory. */
#define BLKSNAP_CONTROL_NAME		"blksnap-control"
/* Start of the name of an image disk; "<major>-<minor>" follows. */
#define BLKSNAP_IMAGE_PREFIX		"blksnap-"
/* Room for the name of an image disk. */
#define BLKSNAP_IMAGE_NAME_LENGTH	32
/* Size of the argument of BLKSNAP_IOCTL_WAIT_EVENT. */
#define BLKSNAP_EVENT_SIZE		4096
/* Room for the part of an event that depends on its code. */
#define BLKSNAP_EVENT_DATA_SIZE		(BLKSNAP_EVENT_SIZE - 32)

/**
 * enum blksnap_filter_cmd - Values of &blkfilter_ctl.cmd
 *
 * @BLKSNAP_FILTER_CBT_INFO: tell about change tracking, answers with
 *	&struct blksnap_cbt_info
 * @BLKSNAP_FILTER_CBT_MAP: copy out a part of the change map, takes
 *	&struct blksnap_cbt_map and returns the number of bytes copied
 * @BLKSNAP_FILTER_CBT_DIRTY: mark ranges as changed, takes
 *	&struct blksnap_cbt_dirty
 * @BLKSNAP_FILTER_SNAPSHOT_ADD: add the device to a snapshot that has not been
 *	taken, takes &struct blksnap_snapshot_add. ENODEV: it is empty. EINVAL:
 *	all of it is difference storage.
 * @BLKSNAP_FILTER_SNAPSHOT_INFO: tell about the device's snapshot image,
 *	answers with &struct blksnap_snapshot_info
 */
enum blksnap_filter_cmd {
	BLKSNAP_FILTER_CBT_INFO = 0,
	BLKSNAP_FILTER_CBT_MAP = 1,
	BLKSNAP_FILTER_CBT_DIRTY = 2,
	BLKSNAP_FILTER_SNAPSHOT_ADD = 3,
	BLKSNAP_FILTER_SNAPSHOT_INFO = 4,
};

/**
 * struct blksnap_uuid - Identity of a snapshot or of a tracking generation
 *
 * @b: the bytes, in the order in which they are printed
 */
struct blksnap_uuid {
	__u8 b[16];
};

/**
 * struct blksnap_cbt_info - State of change tracking on a device
 *
 * @capacity: size of the device in bytes
 * @block_size: bytes of the device behind one byte of the change map
 * @block_count: bytes in the change map
 * @generation: changes whenever the map was reset; numbers of different
 *	generations must not be compared
 * @change_number: number of the period that ended with the last snapshot, 1 to
 *	255, or 0 before the first one
 * @reserved: 0
 *
 * A block carries the number of the period in which it last changed. Blocks
 * with a larger number than @change_number in a map that is read later, of the
 * same @generation, have changed since the last snapshot was taken.
 */
struct blksnap_cbt_info {
	__u64 capacity;
	__u32 block_size;
	__u32 block_count;
	struct blksnap_uuid generation;
	__u8 change_number;
	__u8 reserved[7];
};

/**
 * struct blksnap_cbt_map - Request for a part of the change map
 *
 * @offset: first byte of the map to copy
 * @length: bytes to copy
 * @buffer: user pointer to room for @length bytes
 *
 * The map that is read is the one that was current when the device's snapshot
 * was taken.
 */
struct blksnap_cbt_map {
	__u32 offset;
	__u32 length;
	__u64 buffer;
};

/**
 * struct blksnap_sectors - A range of a block device
 *
 * @first: first sector
 * @count: number of sectors
 */
struct blksnap_sectors {
	__u64 first;
	__u64 count;
};

/**
 * struct blksnap_cbt_dirty - Ranges to mark as changed
 *
 * @count: number of ranges
 * @reserved: ignored
 * @ranges: user pointer to @count times &struct blksnap_sectors
 */
struct blksnap_cbt_dirty {
	__u32 count;
	__u32 reserved;
	__u64 ranges;
};

/**
 * struct blksnap_snapshot_add - Snapshot that a device is added to
 *
 * @id: the snapshot, as BLKSNAP_IOCTL_CREATE returned it
 */
struct blksnap_snapshot_add {
	struct blksnap_uuid id;
};

/**
 * struct blksnap_snapshot_info - State of a device's snapshot image
 *
 * @error: 0, or the negative error code that made the image unusable;
 *	-ENOSPC if the difference storage overflowed
 * @image: name of the image disk, NUL-terminated, empty until the snapshot is
 *	taken
 */
struct blksnap_snapshot_info {
	__s32 error;
	__u8 image[BLKSNAP_IMAGE_NAME_LENGTH];
};

/**
 * struct blksnap_version - Version of the driver
 *
 * @major: changes when the interface breaks
 * @minor: changes when the interface grows
 * @revision: changes when the behaviour does
 * @build: for whoever builds the driver to set
 */
struct blksnap_version {
	__u16 major;
	__u16 minor;
	__u16 revision;
	__u16 build;
};

/**
 * struct blksnap_snapshot_create - Request for a new snapshot
 *
 * @limit: sectors that the difference storage may grow to; what it has from the
 *	start is used even if it is more
 * @path: user pointer to the NUL-terminated path of the difference storage, a
 *	file or a block device
 * @id: out: identity of the new snapshot
 */
struct blksnap_snapshot_create {
	__u64 limit;
	__u64 path;
	struct blksnap_uuid id;
};

/**
 * struct blksnap_snapshot_collect - Request for the list of snapshots
 *
 * @count: in: room at @ids, counted in ids; out: number of snapshots
 * @reserved: ignored
 * @ids: user pointer to an array of &struct blksnap_uuid, or 0 to learn the
 *	number only
 */
struct blksnap_snapshot_collect {
	__u32 count;
	__u32 reserved;
	__u64 ids;
};

/**
 * struct blksnap_storage_append - Request for more difference storage
 *
 * @id: the snapshot, as BLKSNAP_IOCTL_CREATE returned it
 * @path: user pointer to the NUL-terminated path of a further file or block
 *	device
 */
struct blksnap_storage_append {
	struct blksnap_uuid id;
	__u64 path;
};

/**
 * enum blksnap_event_code - Values of &blksnap_event.code
 *
 * @BLKSNAP_EVENT_CORRUPTED: an image became unusable, the data is
 *	&struct blksnap_event_corrupted
 * @BLKSNAP_EVENT_NO_SPACE: the difference storage is full, the data is
 *	&struct blksnap_event_no_space
 * @BLKSNAP_EVENT_LOW_SPACE: free space in the difference storage fell below the
 *	low-water mark and the storage cannot grow, the data is
 *	&struct blksnap_event_low_space; raised once each time that happens
 */
enum blksnap_event_code {
	BLKSNAP_EVENT_CORRUPTED = 0,
	BLKSNAP_EVENT_NO_SPACE = 1,
	BLKSNAP_EVENT_LOW_SPACE = 2,
};

/*
 * Plus the largest code that the caller knows of, in &blksnap_event.code of a
 * request. Callers that are older than it leave something there by chance.
 */
#define BLKSNAP_EVENT_KNOWN	0x6b6e6f00

/**
 * struct blksnap_event - Request for, and answer with, an event of a snapshot
 *
 * @id: in: the snapshot
 * @timeout_ms: in: how long to wait, in milliseconds
 * @code: in: BLKSNAP_EVENT_KNOWN plus the largest code that the caller knows
 *	of, or anything else, which is taken for %BLKSNAP_EVENT_NO_SPACE; out:
 *	one of &enum blksnap_event_code
 * @time: out: when it happened, in nanoseconds
 * @data: out: depends on @code
 */
struct blksnap_event {
	struct blksnap_uuid id;
	__u32 timeout_ms;
	__u32 code;
	__s64 time;
	__u8 data[BLKSNAP_EVENT_DATA_SIZE];
};

/**
 * struct blksnap_event_corrupted - Data of %BLKSNAP_EVENT_CORRUPTED
 *
 * @major: major number of the original device
 * @minor: minor number of the original device
 * @error: negative error code
 */
struct blksnap_event_corrupted {
	__u32 major;
	__u32 minor;
	__s32 error;
};

/**
 * struct blksnap_event_no_space - Data of %BLKSNAP_EVENT_NO_SPACE
 *
 * @requested: sectors that were asked for in vain
 */
struct blksnap_event_no_space {
	__u64 requested;
};

/**
 * struct blksnap_event_low_space - Data of %BLKSNAP_EVENT_LOW_SPACE
 *
 * @free_sectors: sectors of the difference storage that are left
 * @capacity_sectors: sectors that it has in all
 */
struct blksnap_event_low_space {
	__u64 free_sectors;
	__u64 capacity_sectors;
};

#define BLKSNAP_IOCTL_TYPE	'V'

/* Tell the version of the driver. */
#define BLKSNAP_IOCTL_VERSION \
	_IOR(BLKSNAP_IOCTL_TYPE, 0, struct blksnap_version)

/*
 * Make a snapshot with its difference storage; it has no devices yet.
 *
 * The holes of a regular file are allocated and what it contains is lost, unless
 * all of its extents are unwritten. One that does not end with a block becomes so
 * much larger.
 *
 * ENOENT: there is no such file. EBUSY: it is in use, on an image, or on a device
 * of which a snapshot is held. ETXTBSY: somebody else can write to it. EINVAL: it
 * cannot be storage; the kernel log says why. EROFS: it cannot be written to.
 * ENOSPC, EDQUOT: there is no room for its holes. EAGAIN: its filesystem is frozen.
 */
#define BLKSNAP_IOCTL_CREATE \
	_IOWR(BLKSNAP_IOCTL_TYPE, 1, struct blksnap_snapshot_create)

/*
 * Drop a snapshot, its images and its difference storage.
 *
 * ESRCH: there is no such snapshot. The same goes for the requests below.
 */
#define BLKSNAP_IOCTL_DESTROY \
	_IOW(BLKSNAP_IOCTL_TYPE, 2, struct blksnap_uuid)

/*
 * Take a snapshot of all its devices at one moment.
 *
 * ENODEV: it has none, or one of them has gone. EALREADY: it was taken. EBUSY:
 * somebody else is at it. EINVAL: the storage is on top of one of the devices, or
 * one of them is storage. ETIMEDOUT: a device could not be brought to rest.
 */
#define BLKSNAP_IOCTL_TAKE \
	_IOW(BLKSNAP_IOCTL_TYPE, 3, struct blksnap_uuid)

/*
 * List the snapshots.
 *
 * ENODATA: there is no room for all of them, the count tells the need.
 */
#define BLKSNAP_IOCTL_COLLECT \
	_IOR(BLKSNAP_IOCTL_TYPE, 4, struct blksnap_snapshot_collect)

/*
 * Wait for an event of a snapshot. Each event is told to one caller.
 *
 * ENOENT: nothing happened in time. EINTR: a signal came. ESRCH: there is no
 * such snapshot, or it was dropped meanwhile.
 */
#define BLKSNAP_IOCTL_WAIT_EVENT \
	_IOR(BLKSNAP_IOCTL_TYPE, 5, struct blksnap_event)

/*
 * Add a further file or block device to the difference storage of a snapshot,
 * whether it has been taken or not. The limit becomes larger by what it has.
 *
 * ESRCH: there is no such snapshot. EBUSY: it is being taken. Otherwise the same
 * goes for the file as in BLKSNAP_IOCTL_CREATE.
 */
#define BLKSNAP_IOCTL_APPEND_STORAGE \
	_IOW(BLKSNAP_IOCTL_TYPE, 6, struct blksnap_storage_append)

#endif /* _UAPI_LINUX_BLKSNAP_H */
