// SPDX-License-Identifier: GPL-2.0
/*
 * One thread activates a file as swap, another one tries to change it at the
 * same time.
 *
 *   pinrace FILE PARTNER OPERATION ROUNDS SECONDS
 *   pinrace -l
 *
 * Both begin together, ROUNDS times or as often as SECONDS allow; who is how much
 * later is different each time, and goes both ways.  If the file was activated,
 * its mapping must not change any more, and must have no hole and no shared
 * extent.  Prints what was seen, and "OPERATION: held" if it was nothing.  How
 * often each side came through goes to stderr.
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
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <time.h>
#include <unistd.h>
#include "errname.h"

#define BLOCK	65536
#define SIZE	(64 * BLOCK)
#define AT	(16 * BLOCK)
#define EXTENTS	256

static const char *path, *partner;
static sem_t go, done;
static atomic_bool stop;
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
	OP(flags), OP(move), OP(exchange), OP(defrag),
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
	if (fd < 0 || ftruncate(fd, 0) || fallocate(fd, 0, 0, SIZE) ||
	    pwrite(fd, page, sizeof(page), 0) != sizeof(page) || fsync(fd)) {
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
		/* once in the race, once when it is over */
		if (!op->run(fd, other))
			through++;
		op->run(fd, other);
		close(fd);
		close(other);
		sem_post(&done);
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
	int fd, round, rounds;
	pthread_t thread;
	time_t end;
	size_t i;

	if (argc == 2 && !strcmp(argv[1], "-l")) {
		for (i = 0; i < COUNT; i++)
			puts(operations[i].name);
		return 0;
	}
	for (i = 0; argc == 6 && i < COUNT; i++)
		if (!strcmp(operations[i].name, argv[3]))
			op = &operations[i];
	if (!op) {
		fprintf(stderr, "usage: pinrace FILE PARTNER OPERATION ROUNDS SECONDS | -l\n");
		return 2;
	}
	path = argv[1];
	partner = argv[2];
	rounds = atoi(argv[4]);
	end = time(NULL) + atoi(argv[5]);
	if (posix_memalign((void **)&buf, 4096, BLOCK))
		return 1;
	memset(buf, 'r', BLOCK);
	sigaction(SIGBUS, &sa, NULL);
	fd = open(path, O_RDONLY);
	sem_init(&go, 0, 0);
	sem_init(&done, 0, 0);
	if (fd < 0 || pthread_create(&thread, NULL, change, (void *)op))
		return 1;

	for (round = 1; round <= rounds && time(NULL) < end; round++) {
		bool active;

		mend();
		lag = lags[round % (sizeof(lags) / sizeof(lags[0]))];
		/* in one round there is no race, but the file is active */
		active = round == 1 && !swapon(path, 0);
		sem_post(&go);
		if (lag < 0)
			spin(-lag);
		if (!active)
			active = !swapon(path, 0);
		if (active && get_map(fd, &first))
			return 1;
		sem_wait(&done);
		if (!active)
			continue;
		pins++;
		if (get_map(fd, &now))
			return 1;
		if (flaw(&now) || !same(&first, &now)) {
			broken++;
			what = flaw(&now) ?: "moved";
		}
		if (swapoff(path)) {
			printf("swapoff: %s\n", errname(errno));
			break;
		}
	}
	stop = true;
	sem_post(&go);
	pthread_join(thread, NULL);
	fprintf(stderr, "%s: %d rounds, %lu pins, %lu changes, %lu pins broken\n",
		op->name, round - 1, pins, through, broken);
	if (broken)
		printf("%s: the active file %s\n", op->name, what);
	else if (!pins)
		printf("%s: the file was never active\n", op->name);
	else
		printf("%s: held\n", op->name);
	return 0;
}
