/* SPDX-License-Identifier: GPL-2.0 */
/* XFS_IOC_SWAPEXT, as xfs_fsr has it. */
#ifndef SWAPEXT_H
#define SWAPEXT_H

#include <linux/types.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

struct xfs_bulkstat_time {
	long tv_sec;
	__s32 tv_nsec;
};

struct xfs_bulkstat_v1 {
	__u64 bs_ino;
	__u16 bs_mode, bs_nlink;
	__u32 bs_uid, bs_gid, bs_rdev;
	__s32 bs_blksize;
	__s64 bs_size;
	struct xfs_bulkstat_time bs_atime, bs_mtime, bs_ctime;
	int64_t bs_blocks;
	__u32 bs_xflags;
	__s32 bs_extsize, bs_extents;
	__u32 bs_gen;
	__u16 bs_projid_lo, bs_forkoff, bs_projid_hi, bs_sick, bs_checked;
	unsigned char bs_pad[2];
	__u32 bs_cowextsize, bs_dmevmask;
	__u16 bs_dmstate, bs_aextents;
};

struct xfs_swapext_arg {
	__s64 version, fdtarget, fdtmp;
	off_t offset, length;
	char pad[16];
	struct xfs_bulkstat_v1 stat;
};

struct xfs_bulk_arg {
	__u64 *ino;
	__s32 count;
	void *buffer;
	__s32 *ocount;
};

static inline int xfs_swapext_prepare(struct xfs_swapext_arg *sx, int fd)
{
	struct xfs_bulk_arg bulk = { 0 };
	struct stat st;
	uint64_t ino;

	if (fstat(fd, &st))
		return -1;
	ino = st.st_ino;
	bulk.ino = (__u64 *)&ino;
	bulk.count = 1;
	bulk.buffer = &sx->stat;
	sx->fdtarget = fd;
	sx->length = st.st_size;
	return ioctl(fd, _IOWR('X', 102, struct xfs_bulk_arg), &bulk);
}

#define XFS_SWAPEXT	_IOWR('X', 109, struct xfs_swapext_arg)

#endif /* SWAPEXT_H */
