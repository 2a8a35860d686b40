// SPDX-License-Identifier: GPL-2.0
/*
 * Blocks that say of themselves where they belong and when they were written.
 *
 *   stamp init DEV MIB STATE       write every block once, direct I/O
 *   stamp run DEV MIB STATE JOBS   rewrite blocks at random until told to stop
 *   stamp check DEV MIB BEFORE AFTER
 *   stamp cut DEV MIB STATE        see that DEV is as it was at one moment
 *   stamp count DEV MIB SEQUENCE   number of blocks written after SEQUENCE
 *   stamp next STATE               print the sequence number of the next write
 *
 * DEV may be several devices or files, separated by commas, with MIB on each of
 * them: one order of writes goes over all.  "-u BYTES" before the command is
 * the size of a block, 4096 if not given; "-b" lets writes and reads go through
 * the page cache; "-r" tries again what fails for want of memory; "-w" prints
 * "ready" and waits for a line on stdin before a check.
 *
 * A line on stdin, or its end, is what stops a run.
 *
 * STATE is a file that holds the next sequence number and, for each block, that
 * of the last write known to be complete.  A copy of it taken before a snapshot
 * (BEFORE) and one taken after it (AFTER) bound what the image may contain: the
 * block is whole, at its place, not older than the last write completed before,
 * and not newer than the last one begun until after.
 *
 * STATE.log is a file with a record of each write: where it went, and which was
 * the first sequence number given out after it had completed.  A device as it
 * was at one moment has, together with a write, all that had completed before
 * that write began.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECTOR		512
#define BATCH		64
#define MOST_FILES	16
#define LOG_ENTRIES	(1u << 22)

struct sector {
	uint64_t sector;	/* where */
	uint64_t seq;		/* when */
	uint64_t filler[SECTOR / 8 - 3];
	uint64_t sum;
};

struct state {
	_Atomic uint64_t next;
	_Atomic uint64_t done[];	/* for each block */
};

struct record {
	uint32_t block, count;
	_Atomic uint64_t end;	/* 0 while it is under way */
};

static int fds[MOST_FILES], files;
static size_t block_size = 4096;
/* blocks in a write: so many that no device splits it, and a snapshot not a block */
static uint64_t longest = BATCH;
static int direct = O_DIRECT;
static bool try_again, wait_first;
static _Atomic uint64_t tried_again;
static uint64_t blocks, blocks_each;
static struct state *state;
static struct record *write_log;
static _Atomic bool stop;
/* one writer a block at a time, or "last completed" would mean nothing */
static atomic_flag busy[1 << 20];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static uint64_t sum(const struct sector *s)
{
	const uint64_t *word = (const uint64_t *)s;
	uint64_t h = 0x5eed;
	int i;

	for (i = 0; i < SECTOR / 8 - 1; i++)
		h = (h ^ word[i]) * 0x100000001b3ull;
	return h;
}

static void make(struct sector *s, uint64_t block, uint64_t seq)
{
	int i, j;

	for (i = 0; i < (int)(block_size / SECTOR); i++, s++) {
		s->sector = block * (block_size / SECTOR) + i;
		s->seq = seq;
		for (j = 0; j < SECTOR / 8 - 3; j++)
			s->filler[j] = seq + j;
		s->sum = sum(s);
	}
}

static void map_state(const char *name, bool create)
{
	size_t size = sizeof(*state) + blocks * sizeof(state->done[0]);
	int f = open(name, O_RDWR | (create ? O_CREAT | O_TRUNC : 0), 0600);

	if (f < 0 || (create && ftruncate(f, size)))
		die(name);
	state = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
	if (state == MAP_FAILED)
		die(name);
	close(f);
}

/* The record of a write; beyond the last one there is nothing more to check. */
static void map_log(const char *state_name, bool create)
{
	size_t size = sizeof(*write_log) * (size_t)LOG_ENTRIES;
	char name[4096];
	int f;

	snprintf(name, sizeof(name), "%s.log", state_name);
	f = open(name, O_RDWR | (create ? O_CREAT | O_TRUNC : 0), 0600);
	if (f < 0 || (create && ftruncate(f, size)))
		die(name);
	write_log = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
	if (write_log == MAP_FAILED)
		die(name);
	close(f);
}

static void limit_writes(int fd)
{
	unsigned short sectors;
	uint64_t most;

	/* a file has none */
	if (ioctl(fd, BLKSECTGET, &sectors))
		return;
	most = (uint64_t)sectors * SECTOR / block_size;
	if (most < longest)
		longest = most ? most : 1;
}

static void open_files(char *list, int flags)
{
	char *name;

	for (name = strtok(list, ","); name; name = strtok(NULL, ",")) {
		if (files == MOST_FILES) {
			errno = EMFILE;
			die(name);
		}
		fds[files] = open(name, flags | direct);
		if (fds[files] < 0)
			die(name);
		limit_writes(fds[files++]);
	}
}

static bool transfer(bool write, void *buf, uint64_t block, uint64_t count)
{
	int fd = fds[block / blocks_each];
	off_t at = block % blocks_each * block_size;
	ssize_t size = count * block_size, ret;

	do {
		errno = 0;
		ret = write ? pwrite(fd, buf, size, at) :
			      pread(fd, buf, size, at);
		/* of a part of it nobody says what the rest failed for */
		if (ret == size || !try_again || (ret < 0 && errno != ENOMEM))
			break;
	} while (tried_again++ < 1000000);
	return ret == size;
}

static void *buffer(size_t size)
{
	void *p;

	if (posix_memalign(&p, 4096, size))
		die("memory");
	return p;
}

static void init(void)
{
	char *buf = buffer(BATCH * block_size);
	uint64_t b, i;

	state->next = 1;
	for (b = 0; b < blocks; b += BATCH) {
		for (i = 0; i < BATCH; i++)
			make((void *)(buf + i * block_size), b + i, 1);
		if (!transfer(true, buf, b, BATCH))
			die("write");
		for (i = 0; i < BATCH; i++)
			state->done[b + i] = 1;
	}
	state->next = 2;
}

static void *writer(void *arg)
{
	uint64_t seed = mix((uintptr_t)arg + 1), n, i, seq, block;
	char *buf = buffer(BATCH * block_size);

	while (!stop) {
		seed = mix(seed + 0x9e3779b97f4a7c15ull);
		/* single blocks mostly, a longer run now and then */
		n = seed >> 60 ? 1 : 1 + (seed >> 40) % longest;
		block = (seed & 0xffffffff) % (blocks - n + 1);
		if (block % blocks_each + n > blocks_each)
			continue;
		for (i = 0; i < n; i++)
			if (atomic_flag_test_and_set(&busy[block + i]))
				break;
		if (i == n) {
			seq = state->next++;
			if (seq >= LOG_ENTRIES) {
				errno = ENOSPC;
				die("record of writes");
			}
			write_log[seq].block = block;
			write_log[seq].count = n;
			for (i = 0; i < n; i++)
				make((void *)(buf + i * block_size), block + i, seq);
			if (!transfer(true, buf, block, n))
				die("write");
			write_log[seq].end = state->next;
			for (i = 0; i < n; i++)
				state->done[block + i] = seq;
		}
		while (i--)
			atomic_flag_clear(&busy[block + i]);
	}
	free(buf);
	return NULL;
}

static void run(int jobs)
{
	pthread_t thread[64];
	char c;
	long i;

	for (i = 0; i < jobs; i++)
		if (pthread_create(&thread[i], NULL, writer, (void *)i))
			die("thread");
	puts("running");
	fflush(stdout);
	if (read(0, &c, 1) < 0)
		die("stdin");
	stop = true;
	for (i = 0; i < jobs; i++)
		pthread_join(thread[i], NULL);
}

static uint64_t (*after_read)(uint64_t block, const struct sector *s);
static uint64_t newest, bad, hits;
static struct state *before;

static uint64_t check_block(uint64_t block, const struct sector *s)
{
	uint64_t seq = s->seq;
	int i;

	for (i = 0; i < (int)(block_size / SECTOR); i++, s++) {
		const char *why = NULL;

		if (s->sum != sum(s))
			why = "is no stamp";
		else if (s->sector != block * (block_size / SECTOR) + i)
			why = "belongs elsewhere";
		else if (s->seq != seq)
			why = "is of another write than its block";
		else if (s->seq < before->done[block])
			why = "is too old";
		else if (s->seq >= newest)
			why = "is too new";
		if (!why)
			continue;
		if (bad++ < 10)
			printf("sector %" PRIu64 " %s: says sector %" PRIu64
			       " write %" PRIu64 ", the first of its block %" PRIu64
			       ", last completed before %" PRIu64 ", next after %"
			       PRIu64 "\n",
			       block * (block_size / SECTOR) + i, why, s->sector, s->seq,
			       seq, before->done[block], newest);
	}
	return 0;
}

static uint64_t count_block(uint64_t block, const struct sector *s)
{
	return s->seq > newest;
}

static uint64_t *found;

static uint64_t note_block(uint64_t block, const struct sector *s)
{
	found[block] = s->seq;
	if (s->seq > newest)
		newest = s->seq;
	return 0;
}

/* Blocks are whole and at their places: that is for check to say. */
static void check_cut(void)
{
	uint64_t seq, i, end;

	for (seq = 2; seq < newest; seq++) {
		end = write_log[seq].end;
		if (!end || end > newest)
			continue;
		for (i = 0; i < write_log[seq].count; i++) {
			uint64_t block = write_log[seq].block + i;

			if (found[block] >= seq || bad++ >= 10)
				continue;
			printf("block %" PRIu64 " lacks write %" PRIu64
			       ", completed before write %" PRIu64
			       " began: has write %" PRIu64 "\n",
			       block, seq, newest, found[block]);
		}
	}
}

static void scan(void)
{
	char *buf = buffer(BATCH * block_size);
	uint64_t b, i;

	for (b = 0; b < blocks; b += BATCH) {
		if (!transfer(false, buf, b, BATCH))
			die("read");
		for (i = 0; i < BATCH; i++)
			hits += after_read(b + i, (void *)(buf + i * block_size));
	}
	free(buf);
}

int main(int argc, char **argv)
{
	const char *what;

	for (; argc > 1 && argv[1][0] == '-'; argc--, argv++) {
		if (!strcmp(argv[1], "-b")) {
			direct = 0;
		} else if (!strcmp(argv[1], "-r")) {
			try_again = true;
		} else if (!strcmp(argv[1], "-w")) {
			wait_first = true;
		} else if (!strcmp(argv[1], "-u") && argc > 2) {
			block_size = strtoul(argv[2], NULL, 0);
			argc--;
			argv++;
		} else {
			goto usage;
		}
	}
	what = argc > 1 ? argv[1] : "";
	if (argc == 3 && !strcmp(what, "next")) {
		map_state(argv[2], false);
		printf("%" PRIu64 "\n", (uint64_t)state->next);
		return 0;
	}
	if (argc < 5 || block_size < SECTOR || block_size > 65536 ||
	    block_size & (block_size - 1))
		goto usage;
	open_files(argv[2], what[0] == 'c' ? O_RDONLY : O_RDWR);
	blocks_each = (strtoull(argv[3], NULL, 0) << 20) / block_size;
	blocks = blocks_each * files;
	if (!blocks || blocks > sizeof(busy) / sizeof(busy[0]))
		goto usage;

	if (argc == 5 && !strcmp(what, "init")) {
		map_state(argv[4], true);
		map_log(argv[4], true);
		init();
	} else if (argc == 6 && !strcmp(what, "run")) {
		int jobs = atoi(argv[5]);

		if (jobs < 1 || jobs > 64)
			goto usage;
		map_state(argv[4], false);
		map_log(argv[4], false);
		run(jobs);
	} else if (argc == 6 && !strcmp(what, "check")) {
		map_state(argv[5], false);
		newest = state->next;
		map_state(argv[4], false);
		before = state;
		after_read = check_block;
		if (wait_first) {
			puts("ready");
			fflush(stdout);
			if (getchar() == EOF)
				return 1;
		}
		scan();
		if (bad)
			printf("%" PRIu64 " bad sectors\n", bad);
		return !!bad;
	} else if (argc == 5 && !strcmp(what, "cut")) {
		map_log(argv[4], false);
		found = calloc(blocks, sizeof(*found));
		if (!found)
			die("memory");
		newest = 0;
		after_read = note_block;
		scan();
		check_cut();
		if (bad)
			printf("%" PRIu64 " bad blocks\n", bad);
		return !!bad;
	} else if (argc == 5 && !strcmp(what, "count")) {
		newest = strtoull(argv[4], NULL, 0);
		after_read = count_block;
		scan();
		printf("%" PRIu64 "\n", hits);
	} else {
		goto usage;
	}
	return 0;
usage:
	fprintf(stderr, "usage: stamp [-b] [-r] [-w] [-u BYTES] init|run|check|cut|count|next ..., see stamp.c\n");
	return 2;
}
