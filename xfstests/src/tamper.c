// SPDX-License-Identifier: GPL-2.0
/*
 * Try everything user space can do to change the contents or the block mapping
 * of a file, and print what came of each attempt as "operation: errno".
 *
 *   tamper [-er] [-w PARTNER] FILE [OPERATION...]
 *   tamper -l
 *
 * Without OPERATION every operation of the general list is tried, in an order
 * in which all of them can succeed on an ordinary file; those that only some
 * filesystems know run when they are named.  -r prints nothing but refusals
 * (ETXTBSY, EBUSY, EPERM) and their number at the end.  -e first maps the file
 * shared and writable, says "mapped" and waits for a line on stdin: for the
 * operations that go through a mapping older than the pin.  FILE.other is
 * created as the partner for operations on two files and removed afterwards;
 * with -w it is PARTNER, which has to be there and stays.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/types.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/quota.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "errname.h"
#include "swapext.h"

#define BLOCK	65536	/* a multiple of every block size of the tests */

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES	0x80
#endif

static const char *path;
static char other[4096];
static void *early;		/* shared writable mapping made by "mmap_early" */
static char *buf;
static bool lasting;		/* the partner is not ours to create */

static int open_rw(const char *name)
{
	int fd = open(name, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* A partner of FILE: same attributes (reflink on btrfs demands it), own data. */
static int make_other(void)
{
	int src, fd, flags = 0, i;

	unlink(other);
	fd = open(other, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	src = open(path, O_RDONLY | O_CLOEXEC);
	if (src >= 0) {
		if (!ioctl(src, FS_IOC_GETFLAGS, &flags)) {
			flags &= FS_NOCOW_FL;
			if (flags)
				ioctl(fd, FS_IOC_SETFLAGS, &flags);
		}
		close(src);
	}
	for (i = 0; i < 4; i++)
		if (pwrite(fd, buf, BLOCK, (off_t)i * BLOCK) != BLOCK) {
			close(fd);
			return -EIO;
		}
	fsync(fd);
	return fd;
}

static int done(int fd, long ret)
{
	int err = ret < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return err;
}

#define OPEN(fd)				\
	int fd = open_rw(path);			\
						\
	if (fd < 0)				\
		return fd

static int op_write(void)
{
	OPEN(fd);
	return done(fd, pwrite(fd, buf, BLOCK, 0));
}

static int op_append(void)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return done(fd, write(fd, buf, BLOCK));
}

static int op_writev(void)
{
	struct iovec iov[2] = { { buf, 4096 }, { buf, 4096 } };
	OPEN(fd);

	return done(fd, pwritev(fd, iov, 2, BLOCK));
}

static int op_direct_write(void)
{
	int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return done(fd, pwrite(fd, buf, BLOCK, 0));
}

static int op_splice(void)
{
	int pipes[2], err;
	loff_t pos = 0;
	OPEN(fd);

	if (pipe(pipes))
		return done(fd, -1);
	if (write(pipes[1], buf, 4096) != 4096)
		return -EIO;
	err = done(fd, splice(pipes[0], NULL, fd, &pos, 4096, 0));
	close(pipes[0]);
	close(pipes[1]);
	return err;
}

static int op_sendfile(void)
{
	int src = open(other, O_RDONLY | O_CLOEXEC), err;
	off_t pos = 0;
	OPEN(fd);

	err = done(fd, sendfile(fd, src, &pos, 4096));
	close(src);
	return err;
}

static int copy(const char *from, const char *to)
{
	int src = open_rw(from), dst = open_rw(to), err;
	loff_t spos = 0, dpos = 0;

	err = done(dst, copy_file_range(src, &spos, dst, &dpos, BLOCK, 0));
	close(src);
	return err;
}

static int op_copy_to(void)
{
	return copy(other, path);
}

static int op_copy_from(void)
{
	return copy(path, other);
}

static int clone_range(const char *from, const char *to)
{
	struct file_clone_range r = { .src_length = BLOCK };
	int src = open_rw(from), dst = open_rw(to), err;

	r.src_fd = src;
	err = done(dst, ioctl(dst, FICLONERANGE, &r));
	close(src);
	return err;
}

static int op_clone_to(void)
{
	return clone_range(other, path);
}

static int op_clone_from(void)
{
	return clone_range(path, other);
}

static int dedupe(const char *from, const char *to)
{
	struct {
		struct file_dedupe_range head;
		struct file_dedupe_range_info info;
	} r = { .head = { .src_length = BLOCK, .dest_count = 1 } };
	int src = open_rw(from), dst = open_rw(to), err;

	r.info.dest_fd = dst;
	err = ioctl(src, FIDEDUPERANGE, &r.head) ? -errno : 0;
	if (!err && r.info.status < 0)
		err = r.info.status;
	close(src);
	close(dst);
	return err;
}

static int op_dedupe_to(void)
{
	return dedupe(other, path);
}

static int op_dedupe_from(void)
{
	return dedupe(path, other);
}

static sigjmp_buf faulted;

static void on_sigbus(int sig)
{
	siglongjmp(faulted, 1);
}

static int op_mmap(void)
{
	OPEN(fd);
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return done(fd, -1);
	munmap(p, 4096);
	return done(fd, 0);
}

/* A store through a mapping that was made writable before or by mprotect. */
static int store(char *p)
{
	struct sigaction sa = { .sa_handler = on_sigbus }, old;
	int err = 0;

	sigaction(SIGBUS, &sa, &old);
	if (sigsetjmp(faulted, 1))
		err = -EFAULT;
	else
		*(volatile char *)p = 'T';
	sigaction(SIGBUS, &old, NULL);
	return err;
}

static int op_mprotect(void)
{
	OPEN(fd);
	char *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	int err;

	close(fd);
	if (p == MAP_FAILED)
		return -errno;
	err = mprotect(p, 4096, PROT_READ | PROT_WRITE) ? -errno : store(p);
	munmap(p, 4096);
	return err;
}

static int op_mmap_early(void)
{
	return store(early);
}

static int op_madv_remove(void)
{
	return madvise(early, BLOCK, MADV_REMOVE) ? -errno : 0;
}

static int falloc(int mode, off_t pos, off_t len)
{
	OPEN(fd);
	return done(fd, fallocate(fd, mode, pos, len));
}

static int op_falloc(void)
{
	return falloc(0, 0, 2 * BLOCK);
}

static int op_falloc_keep(void)
{
	return falloc(FALLOC_FL_KEEP_SIZE, 0, 1 << 27);
}

static int op_falloc_zero(void)
{
	return falloc(FALLOC_FL_ZERO_RANGE, 0, BLOCK);
}

static int op_falloc_write_zeroes(void)
{
	return falloc(FALLOC_FL_WRITE_ZEROES, 0, BLOCK);
}

static int op_falloc_punch(void)
{
	return falloc(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, BLOCK);
}

static int op_falloc_insert(void)
{
	return falloc(FALLOC_FL_INSERT_RANGE, BLOCK, BLOCK);
}

static int op_falloc_collapse(void)
{
	return falloc(FALLOC_FL_COLLAPSE_RANGE, BLOCK, BLOCK);
}

static int op_falloc_unshare(void)
{
	return falloc(FALLOC_FL_UNSHARE_RANGE, 0, BLOCK);
}

static int op_truncate_down(void)
{
	struct stat st;

	if (stat(path, &st))
		return -errno;
	return truncate(path, st.st_size - BLOCK) ? -errno : 0;
}

static int op_truncate_up(void)
{
	struct stat st;

	if (stat(path, &st))
		return -errno;
	return truncate(path, st.st_size + BLOCK) ? -errno : 0;
}

static int op_truncate_zero(void)
{
	return truncate(path, 0) ? -errno : 0;
}

static int op_open_trunc(void)
{
	int fd = open(path, O_RDWR | O_TRUNC | O_CLOEXEC);

	return fd < 0 ? -errno : done(fd, 0);
}

static int op_rename_away(void)
{
	char away[4160];

	snprintf(away, sizeof(away), "%s.away", path);
	if (rename(path, away))
		return -errno;
	return rename(away, path) ? -errno : 0;
}

static int op_rename_exchange(void)
{
	if (renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE))
		return -errno;
	return renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE) ?
	       -errno : 0;
}

static int op_rename_over(void)
{
	return rename(other, path) ? -errno : 0;
}

static int op_unlink(void)
{
	return unlink(path) ? -errno : 0;
}

/*
 * What only one filesystem has.  The structures are part of the kernel's
 * interface; they are spelled out because their headers come with packages
 * that are not needed for anything else here.
 */

struct xfs_flock {
	__s16 l_type, l_whence;
	__s64 l_start, l_len;
	__s32 l_sysid;
	__u32 l_pid;
	__s32 l_pad[4];
};

static int xfs_space(unsigned long nr, off_t pos, off_t len)
{
	struct xfs_flock fl = { .l_whence = SEEK_SET, .l_start = pos,
				.l_len = len };
	OPEN(fd);

	return done(fd, ioctl(fd, nr, &fl));
}

static int op_xfs_resvsp(void)
{
	return xfs_space(_IOW('X', 42, struct xfs_flock), 0, 1 << 27);
}

static int op_xfs_unresvsp(void)
{
	return xfs_space(_IOW('X', 43, struct xfs_flock), 0, BLOCK);
}

static int op_xfs_zero_range(void)
{
	return xfs_space(_IOW('X', 57, struct xfs_flock), 0, BLOCK);
}

/* What xfs_fsr does once it has a contiguous copy of the file. */
static int op_xfs_swapext(void)
{
	struct xfs_swapext_arg sx = { 0 };
	int donor, err, i;
	OPEN(fd);

	if (xfs_swapext_prepare(&sx, fd))
		return done(fd, -1);
	donor = open(other, O_RDWR | O_TRUNC | O_DIRECT | O_CLOEXEC);
	for (i = 0; i < sx.length / BLOCK; i++)
		if (pwrite(donor, buf, BLOCK, (off_t)i * BLOCK) != BLOCK)
			return -EIO;
	ftruncate(donor, sx.length);
	sx.fdtmp = donor;
	err = done(fd, ioctl(fd, XFS_SWAPEXT, &sx));
	close(donor);
	return err;
}

/* The same with a partner that is a copy already; says "ready" just before. */
static int op_xfs_swapext_with(void)
{
	struct xfs_swapext_arg sx = { 0 };
	char line[2];
	int donor = open_rw(other), err;
	OPEN(fd);

	if (donor < 0)
		return donor;
	if (xfs_swapext_prepare(&sx, fd))
		return done(fd, -1);
	sx.fdtmp = donor;
	puts("ready");
	if (!fgets(line, sizeof(line), stdin))
		return -EINTR;
	err = done(fd, ioctl(fd, XFS_SWAPEXT, &sx));
	close(donor);
	return err;
}

struct xfs_exchange_arg {
	__s32 file1_fd;
	__u32 pad;
	__u64 file1_offset, file2_offset, length, flags;
};

static int op_xfs_exchange(void)
{
	struct xfs_exchange_arg ex = { .length = BLOCK };
	int donor = open_rw(other), err;
	OPEN(fd);

	ex.file1_fd = donor;
	err = done(fd, ioctl(fd, _IOW('X', 129, struct xfs_exchange_arg), &ex));
	close(donor);
	return err;
}

struct ext4_move_arg {
	__u32 reserved, donor_fd;
	__u64 orig_start, donor_start, len, moved_len;
};

/* What e4defrag does. */
static int op_ext4_move(void)
{
	struct ext4_move_arg mv = { .len = BLOCK / 4096 };
	int donor = open_rw(other), err;
	OPEN(fd);

	mv.donor_fd = donor;
	err = done(fd, ioctl(fd, _IOWR('f', 15, struct ext4_move_arg), &mv));
	close(donor);
	return err;
}

static int op_ext4_swap_boot(void)
{
	OPEN(fd);
	return done(fd, ioctl(fd, _IO('f', 17)));
}

static int op_ext4_migrate(void)
{
	OPEN(fd);
	return done(fd, ioctl(fd, _IO('f', 9)));
}

static int op_ext4_da_alloc(void)
{
	OPEN(fd);
	return done(fd, ioctl(fd, _IO('f', 12)));
}

struct btrfs_defrag_arg {
	__u64 start, len, flags;
	__u32 extent_thresh, compress_type, unused[4];
};

static int op_btrfs_defrag(void)
{
	struct btrfs_defrag_arg d = { .len = ~0ull };
	OPEN(fd);

	return done(fd, ioctl(fd, _IOW(0x94, 16, struct btrfs_defrag_arg), &d));
}

static int set_flag(int flag)
{
	int flags = 0;
	OPEN(fd);

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags))
		return done(fd, -1);
	flags |= flag;
	return done(fd, ioctl(fd, FS_IOC_SETFLAGS, &flags));
}

static int op_btrfs_compress(void)
{
	return set_flag(FS_COMPR_FL);
}

static int op_ext4_journal_data(void)
{
	return set_flag(FS_JOURNAL_DATA_FL);
}

struct f2fs_gc_arg {
	__u32 sync;
	__u64 start, len;
};

struct f2fs_trim_arg {
	__u64 start, len, flags;
};

/* A whole mapping that is only read, by somebody who could write. */
static int op_mmap_read(void)
{
	struct stat st;
	void *map;
	OPEN(fd);

	if (fstat(fd, &st))
		return done(fd, -1);
	map = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	return done(fd, map == MAP_FAILED ? -1 : 0);
}

static int op_f2fs_unpin(void)
{
	__u32 pin = 0;
	OPEN(fd);

	return done(fd, ioctl(fd, _IOW(0xf5, 13, __u32), &pin));
}

/* Clean the segment that the end of the file lies in. */
static int op_f2fs_gc(void)
{
	struct f2fs_gc_arg gc = { .sync = 1, .len = 1 };
	struct stat st;
	int block;
	OPEN(fd);

	if (fstat(fd, &st))
		return done(fd, -1);
	block = (st.st_size - 1) / st.st_blksize;
	if (ioctl(fd, FIBMAP, &block))
		return done(fd, -1);
	gc.start = block;
	return done(fd, ioctl(fd, _IOW(0xf5, 11, struct f2fs_gc_arg), &gc));
}

/* In the oldest format, which any file has that is not of another one. */
static int op_quotaon(void)
{
	static const char node[] = "/dev/tamper.quota";
	struct stat st;
	int err;
	OPEN(fd);

	if (fstat(fd, &st) || mknod(node, S_IFBLK | 0600, st.st_dev))
		return done(fd, -1);
	err = done(fd, quotactl(QCMD(Q_QUOTAON, USRQUOTA), node, QFMT_VFS_OLD,
				(caddr_t)path));
	unlink(node);
	return err;
}

/* With zeroes: devices that can discard are not everywhere. */
static int op_f2fs_sec_trim(void)
{
	struct f2fs_trim_arg trim = { .len = ~0ull, .flags = 2 };
	OPEN(fd);

	return done(fd, ioctl(fd, _IOW(0xf5, 20, struct f2fs_trim_arg), &trim));
}

static const struct operation {
	const char *name;
	int (*run)(void);
	bool special;		/* not in the general list */
} operations[] = {
#define GENERAL(op) { #op, op_##op, false }
#define SPECIAL(op) { #op, op_##op, true }
	GENERAL(write), GENERAL(append), GENERAL(writev),
	GENERAL(direct_write), GENERAL(splice), GENERAL(sendfile),
	GENERAL(mmap), GENERAL(mprotect), SPECIAL(mmap_early),
	SPECIAL(madv_remove), GENERAL(copy_to), GENERAL(copy_from),
	SPECIAL(clone_to), SPECIAL(clone_from), SPECIAL(dedupe_to),
	SPECIAL(dedupe_from), GENERAL(falloc), GENERAL(falloc_keep),
	GENERAL(falloc_zero), GENERAL(falloc_write_zeroes),
	GENERAL(falloc_unshare), GENERAL(falloc_punch),
	GENERAL(falloc_insert), GENERAL(falloc_collapse),
	SPECIAL(xfs_resvsp), SPECIAL(xfs_unresvsp), SPECIAL(xfs_zero_range),
	SPECIAL(xfs_swapext), SPECIAL(xfs_swapext_with), SPECIAL(xfs_exchange), SPECIAL(ext4_move),
	SPECIAL(ext4_swap_boot), SPECIAL(ext4_migrate),
	SPECIAL(ext4_da_alloc), SPECIAL(ext4_journal_data),
	SPECIAL(btrfs_defrag), SPECIAL(btrfs_compress), SPECIAL(truncate_up),
	SPECIAL(mmap_read), SPECIAL(f2fs_unpin), SPECIAL(f2fs_gc),
	SPECIAL(f2fs_sec_trim), SPECIAL(quotaon),
	GENERAL(truncate_down), GENERAL(truncate_zero), GENERAL(open_trunc),
	GENERAL(rename_away), GENERAL(rename_exchange), GENERAL(rename_over),
	GENERAL(unlink),
};

#define COUNT (sizeof(operations) / sizeof(operations[0]))

static int refusals, tried;
static bool only_refusals, map_early;

static void attempt(const struct operation *op)
{
	int fd, err;

	/* a store that waits for a frozen filesystem must be the first to */
	if (op->run != op_mmap_early && !lasting) {
		fd = make_other();
		if (fd < 0) {
			printf("%s: no partner file: %s\n", op->name,
			       errname(fd));
			exit(1);
		}
		close(fd);
	}
	err = op->run();
	tried++;
	if (err == -ETXTBSY || err == -EBUSY || err == -EPERM) {
		refusals++;
		if (only_refusals)
			printf("%s: %s\n", op->name, errname(err));
	}
	if (!only_refusals)
		printf("%s: %s\n", op->name,
		       err == -EFAULT && op->run != op_write ? "SIGBUS" :
		       errname(err));
	if (!lasting)
		unlink(other);
}

int main(int argc, char **argv)
{
	size_t i;
	char line[2];
	int opt, fd;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((opt = getopt(argc, argv, "elrw:")) != -1) {
		switch (opt) {
		case 'e':
			map_early = true;
			break;
		case 'l':
			for (i = 0; i < COUNT; i++)
				puts(operations[i].name);
			return 0;
		case 'r':
			only_refusals = true;
			break;
		case 'w':
			lasting = true;
			snprintf(other, sizeof(other), "%s", optarg);
			break;
		default:
			goto usage;
		}
	}
	if (optind >= argc)
		goto usage;
	path = argv[optind++];
	if (!lasting)
		snprintf(other, sizeof(other), "%s.other", path);
	if (posix_memalign((void **)&buf, 4096, BLOCK))
		return 1;
	memset(buf, 'T', BLOCK);

	if (map_early) {
		fd = open_rw(path);
		early = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED,
			     fd, 0);
		if (early == MAP_FAILED) {
			printf("cannot map %s: %s\n", path, errname(errno));
			return 1;
		}
		close(fd);
		/* the caller pins the file between these two lines */
		puts("mapped");
		if (!fgets(line, sizeof(line), stdin))
			return 1;
	}

	if (optind == argc) {
		for (i = 0; i < COUNT; i++)
			if (!operations[i].special)
				attempt(&operations[i]);
	}
	for (; optind < argc; optind++) {
		for (i = 0; i < COUNT; i++)
			if (!strcmp(operations[i].name, argv[optind]))
				break;
		if (i == COUNT)
			goto usage;
		attempt(&operations[i]);
	}
	if (only_refusals)
		printf("%d of %d refused\n", refusals, tried);
	return 0;
usage:
	fprintf(stderr, "usage: %s [-er] [-w PARTNER] FILE [OPERATION...] | -l\n", argv[0]);
	return 2;
}
