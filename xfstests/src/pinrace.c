// SPDX-License-Identifier: GPL-2.0
/*
 * One thread has a file pinned, another one tries to change it at the same time.
 *
 *   pinrace [-p COMMAND] [-e] [-u] FILE PARTNER OPERATION ROUNDS SECONDS
 *   pinrace -l
 *
 * The file becomes a swap file; with -p it is held through layout/hold in debugfs by
 * that command (pin or pin-unwritten), and with -e it is also extended there.
 *
 * Both begin together, ROUNDS times or as often as SECONDS allow; who is how much
 * later is different each time, and goes both ways.  If the file was pinned,
 * its mapping must not change any more, must have no hole and no shared
 * extent, and must be what the holder was given.  Prints what was seen, and
 * "OPERATION: held" if it was nothing.  How often each side came through goes to
 * stderr.
 *
 * With -u it is the release that takes part in the race: as long as the file is in the
 * kernel's list of what is pinned, it has to be as it was, and has to be an ordinary one
 * when both are over.  In every second round the list is looked at all the time, as far
 * as the kernel shows it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <libgen.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include "errname.h"
#include "pinned.h"
#include "swapext.h"
#include "uring.h"

#ifndef RWF_ATOMIC
#define RWF_ATOMIC	0x40
#endif

#define BLOCK	65536
#define SIZE	(64 * BLOCK)
#define AT	(16 * BLOCK)
#define EXTENTS	256

static const char *path, *partner, *hold;
static int holder;
static bool extend;
static sem_t go, done;
static atomic_bool stop;
static sem_t look, looked;
static atomic_bool releasing;
static bool changed_early;
static long lag;		/* of the operation behind swapon, in us */
static unsigned long through;
static char *buf;

static int falloc(int fd, int mode, off_t pos)
{
	return fallocate(fd, mode, pos, BLOCK);
}

static int op_punch(int fd, int other)
{
	return falloc(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, AT);
}

static int op_zero(int fd, int other)
{
	return falloc(fd, FALLOC_FL_ZERO_RANGE, AT);
}

static int op_collapse(int fd, int other)
{
	return falloc(fd, FALLOC_FL_COLLAPSE_RANGE, AT);
}

static int op_insert(int fd, int other)
{
	return falloc(fd, FALLOC_FL_INSERT_RANGE, AT);
}

static int op_extend(int fd, int other)
{
	return falloc(fd, 0, SIZE);
}

static int op_shrink(int fd, int other)
{
	return ftruncate(fd, AT);
}

static int op_grow(int fd, int other)
{
	return ftruncate(fd, SIZE + BLOCK);
}

static int clone_range(int from, int to)
{
	struct file_clone_range r = { .src_fd = from, .src_offset = AT,
				      .src_length = BLOCK, .dest_offset = AT };

	return ioctl(to, FICLONERANGE, &r);
}

static int op_clone_from(int fd, int other)
{
	return clone_range(fd, other);
}

static int op_clone_to(int fd, int other)
{
	return clone_range(other, fd);
}

static int dedupe(int from, int to)
{
	struct {
		struct file_dedupe_range head;
		struct file_dedupe_range_info info;
	} r = { .head = { .src_offset = AT, .src_length = BLOCK,
			  .dest_count = 1 },
		.info = { .dest_fd = to, .dest_offset = AT } };

	if (ioctl(from, FIDEDUPERANGE, &r.head))
		return -1;
	return r.info.status == FILE_DEDUPE_RANGE_SAME ? 0 : -1;
}

static int op_dedupe_to(int fd, int other)
{
	return dedupe(other, fd);
}

static int op_dedupe_from(int fd, int other)
{
	return dedupe(fd, other);
}

static int op_copy_to(int fd, int other)
{
	loff_t from = AT, to = AT;

	return copy_file_range(other, &from, fd, &to, BLOCK, 0) < 0 ? -1 : 0;
}

static int op_write(int fd, int other)
{
	return pwrite(fd, buf, BLOCK, AT) < 0 ? -1 : 0;
}

static int op_direct_write(int fd, int other)
{
	int direct = open(path, O_RDWR | O_DIRECT), ret;

	ret = pwrite(direct, buf, BLOCK, AT) < 0 ? -1 : 0;
	close(direct);
	return ret;
}

static sigjmp_buf faulted;

static void on_sigbus(int sig)
{
	siglongjmp(faulted, 1);
}

static int op_store(int fd, int other)
{
	static char *map;
	int ret = 0;

	if (!map) {
		map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			   0);
		if (map == MAP_FAILED) {
			map = NULL;
			return -1;
		}
	}
	if (sigsetjmp(faulted, 1))
		ret = -1;
	else
		*(volatile char *)(map + AT) = 's';
	return ret;
}

static int op_madv_remove(int fd, int other)
{
	char *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int ret;

	if (map == MAP_FAILED)
		return -1;
	ret = madvise(map + AT, BLOCK, MADV_REMOVE);
	munmap(map, SIZE);
	return ret;
}

static int op_flags(int fd, int other)
{
	int flags, ret;

	/* compression, back to what it was; ext4 ignores it, XFS refuses */
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags))
		return -1;
	flags ^= FS_COMPR_FL;
	ret = ioctl(fd, FS_IOC_SETFLAGS, &flags);
	flags ^= FS_COMPR_FL;
	if (!ret)
		ret = ioctl(fd, FS_IOC_SETFLAGS, &flags);
	return ret;
}

struct move_arg {
	uint32_t reserved, donor_fd;
	uint64_t orig_start, donor_start, len, moved_len;
};

/* ext4: what e4defrag does */
static int op_move(int fd, int other)
{
	struct move_arg mv = { .donor_fd = other, .orig_start = AT / 4096,
			       .donor_start = AT / 4096, .len = BLOCK / 4096 };

	return ioctl(fd, _IOWR('f', 15, struct move_arg), &mv);
}

struct exchange_arg {
	int32_t file1_fd;
	uint32_t pad;
	uint64_t file1_offset, file2_offset, length, flags;
};

/* XFS */
static int op_exchange(int fd, int other)
{
	struct exchange_arg ex = { .file1_fd = other, .file1_offset = AT,
				   .file2_offset = AT, .length = BLOCK };

	return ioctl(fd, _IOW('X', 129, struct exchange_arg), &ex);
}

static int op_swapext(int fd, int other)
{
	struct xfs_swapext_arg sx = { 0 };

	/* a partner with more extents is refused */
	if (ftruncate(other, 0) || fallocate(other, 0, 0, SIZE) || fsync(other) ||
	    xfs_swapext_prepare(&sx, fd))
		return -1;
	sx.fdtmp = other;
	return ioctl(fd, XFS_SWAPEXT, &sx);
}

static int op_uring(int fd, int other)
{
	return uring_write(fd, buf, BLOCK, AT) < 0 ? -1 : 0;
}

static int op_atomic(int fd, int other)
{
	struct iovec iov = { buf, 4096 };
	int direct = open(path, O_RDWR | O_DIRECT), ret;

	ret = pwritev2(direct, &iov, 1, AT, RWF_ATOMIC) < 0 ? -1 : 0;
	close(direct);
	return ret;
}

static int op_freeze(int fd, int other)
{
	if (ioctl(other, FIFREEZE, 0))
		return -1;
	return ioctl(other, FITHAW, 0);
}

static int op_remount(int fd, int other)
{
	char name[4096];

	snprintf(name, sizeof(name), "%s", path);
	return mount(NULL, dirname(name), NULL, MS_REMOUNT, NULL);
}

/* What was allocated behind the ends of files, and for copies on write: XFS */
static int op_blockgc(int fd, int other)
{
	struct {
		uint32_t version, flags, ids[4];
		uint64_t min_file_size, pad[12];
	} eof = { .version = 1, .flags = 1 };
	off_t end = lseek(other, 0, SEEK_END);

	if (pwrite(other, buf, BLOCK, end) != BLOCK || ftruncate(other, end))
		return -1;
	return ioctl(fd, _IOC(_IOC_READ, 'X', 58, 128), &eof);
}

static int op_syncfs(int fd, int other)
{
	return syncfs(other);
}

/* Something else races, outside. */
static int op_none(int fd, int other)
{
	return 0;
}

struct defrag_arg {
	uint64_t start, len, flags;
	uint32_t extent_thresh, compress_type, unused[4];
};

/* btrfs */
static int op_defrag(int fd, int other)
{
	struct defrag_arg d = { .len = SIZE };

	return ioctl(fd, _IOW(0x94, 16, struct defrag_arg), &d);
}

static const struct operation {
	const char *name;
	int (*run)(int fd, int other);
} operations[] = {
#define OP(op) { #op, op_##op }
	OP(punch), OP(zero), OP(collapse), OP(insert), OP(extend), OP(shrink),
	OP(grow), OP(clone_from), OP(clone_to), OP(dedupe_from), OP(dedupe_to),
	OP(copy_to), OP(write), OP(direct_write), OP(store), OP(madv_remove),
	OP(flags), OP(move), OP(exchange), OP(defrag), OP(swapext), OP(uring),
	OP(atomic), OP(freeze), OP(remount), OP(blockgc), OP(syncfs), OP(none),
};

#define COUNT (sizeof(operations) / sizeof(operations[0]))

/* Make the file what swapon accepts: whole, of its size, not shared. */
static void mend(void)
{
	int fd = open(path, O_RDWR);
	char page[4096] = "";
	uint32_t *info = (uint32_t *)(page + 1024);

	info[0] = 1;
	info[1] = SIZE / 4096 - 1;
	memcpy(page + 4096 - 10, "SWAPSPACE2", 10);
	/* a holder takes it as it is allocated */
	if (fd < 0 || ftruncate(fd, 0) || fallocate(fd, 0, 0, SIZE) ||
	    (!hold && pwrite(fd, page, sizeof(page), 0) != sizeof(page)) ||
	    fsync(fd)) {
		printf("cannot mend the file: %s\n", errname(errno));
		exit(1);
	}
	close(fd);
}

static void spin(long us)
{
	struct timespec begin, now;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while ((now.tv_sec - begin.tv_sec) * 1000000 +
	       (now.tv_nsec - begin.tv_nsec) / 1000 < us);
}

static void *change(void *arg)
{
	const struct operation *op = arg;
	int fd, other;

	for (;;) {
		sem_wait(&go);
		if (stop)
			return NULL;
		fd = open(path, O_RDWR);
		other = open(partner, O_RDWR);
		if (lag > 0)
			spin(lag);
		/* in the race, as long as it is looked at, and once when it is over */
		do {
			if (!op->run(fd, other))
				through++;
		} while (releasing);
		op->run(fd, other);
		close(fd);
		close(other);
		sem_post(&done);
	}
}

/* Looks at a file that is being released. */
static void *watch(void *arg)
{
	int fd = *(int *)arg;
	static struct pieces still;

	for (;;) {
		sem_wait(&look);
		if (stop)
			return NULL;
		/* what was not as it should be may not have been pinned any more */
		do
			changed_early = check_pinned(path, fd) > 0 &&
					read_pin(path, &still);
		while (releasing && !changed_early);
		sem_post(&looked);
	}
}

struct map {
	struct fiemap head;
	struct fiemap_extent extents[EXTENTS];
};

static int get_map(int fd, struct map *map)
{
	memset(map, 0, sizeof(*map));
	map->head.fm_length = SIZE;
	map->head.fm_extent_count = EXTENTS;
	return ioctl(fd, FS_IOC_FIEMAP, &map->head);
}

/* What is wrong with the mapping of an active swap file, if anything. */
static const char *flaw(const struct map *map)
{
	uint64_t next = 0;
	unsigned int i;

	for (i = 0; i < map->head.fm_mapped_extents; i++) {
		const struct fiemap_extent *e = &map->extents[i];

		if (e->fe_logical != next)
			return "has a hole";
		if (e->fe_flags & FIEMAP_EXTENT_SHARED)
			return "shares blocks";
		if (e->fe_flags & (FIEMAP_EXTENT_DELALLOC |
				   FIEMAP_EXTENT_UNKNOWN))
			return "has no blocks yet";
		next += e->fe_length;
	}
	if (next < SIZE)
		return "has a hole at its end";
	return NULL;
}

static bool is_shared(const struct map *map)
{
	unsigned int i;

	for (i = 0; i < map->head.fm_mapped_extents; i++)
		if (map->extents[i].fe_flags & FIEMAP_EXTENT_SHARED)
			return true;
	return false;
}

/*
 * The mapping when nobody but for a moment has a share in it: while btrfs moves its
 * metadata, two trees refer to what a leaf refers to.  Who shares blocks for good does so
 * when the patience for that has come to its end.
 */
static int get_lasting_map(int fd, struct map *map)
{
	static int patience = 5000;	/* ms */

	for (;;) {
		if (get_map(fd, map))
			return -1;
		if (!is_shared(map) || !patience)
			return 0;
		patience--;
		usleep(1000);
	}
}

static bool same(const struct map *a, const struct map *b)
{
	unsigned int i;

	if (a->head.fm_mapped_extents != b->head.fm_mapped_extents)
		return false;
	for (i = 0; i < a->head.fm_mapped_extents; i++)
		if (a->extents[i].fe_logical != b->extents[i].fe_logical ||
		    a->extents[i].fe_physical != b->extents[i].fe_physical ||
		    a->extents[i].fe_length != b->extents[i].fe_length)
			return false;
	return true;
}

static bool tell_holder(const char *command, const char *arg)
{
	char line[4200];
	int len = snprintf(line, sizeof(line), "%s%s%s", command,
			   *arg ? " " : "", arg);

	return write(holder, line, len) == len;
}

static bool activate(void)
{
	char size[24];

	if (!hold)
		return !swapon(path, 0);
	if (!tell_holder(hold, path))
		return false;
	if (extend) {
		snprintf(size, sizeof(size), "%d", SIZE + 16 * BLOCK);
		tell_holder("extend", size);
	}
	return true;
}

static int release(void)
{
	if (!hold)
		return swapoff(path);
	return tell_holder("unpin", "") ? 0 : -1;
}

int main(int argc, char **argv)
{
	/* nobody knows how fast the machine is: try all scales */
	static const long lags[] = {
		-200, 0, -500, 50, -1000, 200, -2000, 1000, -5000, 20000,
	};
	unsigned long pins = 0, broken = 0;
	const struct operation *op = NULL;
	struct sigaction sa = { .sa_handler = on_sigbus };
	static struct map first, now;
	const char *what = NULL;
	int fd, opt, round, rounds;
	bool at_release = false;
	pthread_t thread, watcher;
	time_t end;
	size_t i;

	while ((opt = getopt(argc, argv, "lp:eu")) != -1) {
		switch (opt) {
		case 'l':
			for (i = 0; i < COUNT; i++)
				puts(operations[i].name);
			return 0;
		case 'p':	hold = optarg; break;
		case 'e':	extend = true; break;
		case 'u':	at_release = true; break;
		default:	return 2;
		}
	}
	argc -= optind;
	argv += optind;
	for (i = 0; argc == 5 && i < COUNT; i++)
		if (!strcmp(operations[i].name, argv[2]))
			op = &operations[i];
	if (!op) {
		fprintf(stderr, "usage: pinrace [-p COMMAND] [-e] [-u] FILE PARTNER OPERATION ROUNDS SECONDS | -l\n");
		return 2;
	}
	path = argv[0];
	partner = argv[1];
	rounds = atoi(argv[3]);
	end = time(NULL) + atoi(argv[4]);
	if (hold) {
		holder = open("/sys/kernel/debug/layout/hold", O_WRONLY);
		if (holder < 0) {
			printf("hold: %s\n", errname(errno));
			return 1;
		}
	}
	if (posix_memalign((void **)&buf, 4096, BLOCK))
		return 1;
	memset(buf, 'r', BLOCK);
	sigaction(SIGBUS, &sa, NULL);
	fd = open(path, O_RDONLY);
	sem_init(&go, 0, 0);
	sem_init(&done, 0, 0);
	sem_init(&look, 0, 0);
	sem_init(&looked, 0, 0);
	if (fd < 0 || pthread_create(&thread, NULL, change, (void *)op) ||
	    pthread_create(&watcher, NULL, watch, &fd))
		return 1;

	for (round = 1; round <= rounds && time(NULL) < end; round++) {
		bool active = false, finished = false;
		int wrong;

		mend();
		lag = lags[round % (sizeof(lags) / sizeof(lags[0]))];
		/* in one round there is no race, but the file is active */
		if (round == 1 || at_release)
			active = activate();
		if (at_release && active && get_map(fd, &first))
			return 1;
		if (!at_release)
			sem_post(&go);
		if (lag < 0 && !at_release)
			spin(-lag);
		if (!active && !at_release)
			active = activate();
		if (!at_release) {
			if (active && get_map(fd, &first))
				return 1;
			sem_wait(&done);
		}
		if (!active)
			continue;
		pins++;
		if (get_lasting_map(fd, &now))
			return 1;
		wrong = check_pinned(path, fd);
		if (flaw(&now) || !same(&first, &now) || wrong) {
			broken++;
			what = flaw(&now) ?: wrong > 0 ?
				"is not where its holder thinks" :
				wrong < 0 ? "cannot be compared" : "moved";
		}
		releasing = at_release && round % 2;
		if (releasing)
			sem_post(&look);
		if (at_release) {
			sem_post(&go);
			if (lag < 0)
				spin(-lag);
		}
		if (release()) {
			printf("release: %s\n", errname(errno));
			finished = true;
		}
		if (releasing) {
			releasing = false;
			sem_wait(&looked);
			if (changed_early) {
				broken++;
				what = "was changed before it was released";
			}
		}
		if (at_release)
			sem_wait(&done);
		if (finished)
			break;
	}
	stop = true;
	sem_post(&go);
	sem_post(&look);
	pthread_join(thread, NULL);
	pthread_join(watcher, NULL);
	/* once more, and nobody else there */
	mend();
	fprintf(stderr, "%s: %d rounds, %lu pins, %lu changes, %lu pins broken\n",
		op->name, round - 1, pins, through, broken);
	if (broken)
		printf("%s: the pinned file %s\n", op->name, what);
	else if (!pins)
		printf("%s: the file was never pinned\n", op->name);
	else
		printf("%s: held\n", op->name);
	return 0;
}
