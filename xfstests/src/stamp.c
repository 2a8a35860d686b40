// SPDX-License-Identifier: GPL-2.0
/*
 * Blocks that say of themselves where they belong and when they were written.
 *
 *   stamp init DEV MIB STATE       write every 4 KiB block once, direct I/O
 *   stamp run DEV MIB STATE JOBS   rewrite blocks at random until told to stop
 *   stamp check DEV MIB BEFORE AFTER
 *   stamp count DEV MIB SEQUENCE   number of blocks written after SEQUENCE
 *   stamp next STATE               print the sequence number of the next write
 *
 * A line on stdin, or its end, is what stops a run.
 *
 * STATE is a file that holds the next sequence number and, for each block, that
 * of the last write known to be complete.  A copy of it taken before a snapshot
 * (BEFORE) and one taken after it (AFTER) bound what the image may contain: the
 * block is whole, at its place, not older than the last write completed before,
 * and not newer than the last one begun until after.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK		4096
#define SECTOR		512
#define PER_BLOCK	(BLOCK / SECTOR)
#define BATCH		64

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

static int fd;
static uint64_t blocks;
static struct state *state;
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

	for (i = 0; i < PER_BLOCK; i++, s++) {
		s->sector = block * PER_BLOCK + i;
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

static void *buffer(size_t size)
{
	void *p;

	if (posix_memalign(&p, BLOCK, size))
		die("memory");
	return p;
}

static void init(void)
{
	char *buf = buffer(BATCH * BLOCK);
	uint64_t b, i;

	state->next = 1;
	for (b = 0; b < blocks; b += BATCH) {
		for (i = 0; i < BATCH; i++)
			make((void *)(buf + i * BLOCK), b + i, 1);
		if (pwrite(fd, buf, BATCH * BLOCK, b * BLOCK) != BATCH * BLOCK)
			die("write");
		for (i = 0; i < BATCH; i++)
			state->done[b + i] = 1;
	}
	state->next = 2;
}

static void *writer(void *arg)
{
	uint64_t seed = mix((uintptr_t)arg + 1), n, i, seq, block;
	char *buf = buffer(BATCH * BLOCK);

	while (!stop) {
		seed = mix(seed + 0x9e3779b97f4a7c15ull);
		/* single blocks mostly, a longer run now and then */
		n = seed >> 60 ? 1 : 1 + (seed >> 40) % BATCH;
		block = (seed & 0xffffffff) % (blocks - n + 1);
		for (i = 0; i < n; i++)
			if (atomic_flag_test_and_set(&busy[block + i]))
				break;
		if (i == n) {
			seq = state->next++;
			for (i = 0; i < n; i++)
				make((void *)(buf + i * BLOCK), block + i, seq);
			if (pwrite(fd, buf, n * BLOCK, block * BLOCK) !=
			    (ssize_t)(n * BLOCK))
				die("write");
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

	for (i = 0; i < PER_BLOCK; i++, s++) {
		const char *why = NULL;

		if (s->sum != sum(s))
			why = "is no stamp";
		else if (s->sector != block * PER_BLOCK + i)
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
			       " write %" PRIu64 ", last completed before %"
			       PRIu64 ", next after %" PRIu64 "\n",
			       block * PER_BLOCK + i, why, s->sector, s->seq,
			       before->done[block], newest);
	}
	return 0;
}

static uint64_t count_block(uint64_t block, const struct sector *s)
{
	return s->seq > newest;
}

static void scan(void)
{
	char *buf = buffer(BATCH * BLOCK);
	uint64_t b, i;

	for (b = 0; b < blocks; b += BATCH) {
		if (pread(fd, buf, BATCH * BLOCK, b * BLOCK) != BATCH * BLOCK)
			die("read");
		for (i = 0; i < BATCH; i++)
			hits += after_read(b + i, (void *)(buf + i * BLOCK));
	}
	free(buf);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (argc == 3 && !strcmp(what, "next")) {
		map_state(argv[2], false);
		printf("%" PRIu64 "\n", (uint64_t)state->next);
		return 0;
	}
	if (argc < 5)
		goto usage;
	fd = open(argv[2], (what[0] == 'c' ? O_RDONLY : O_RDWR) | O_DIRECT);
	if (fd < 0)
		die(argv[2]);
	blocks = strtoull(argv[3], NULL, 0) << 8;
	if (!blocks || blocks > sizeof(busy) / sizeof(busy[0]))
		goto usage;

	if (argc == 5 && !strcmp(what, "init")) {
		map_state(argv[4], true);
		init();
	} else if (argc == 6 && !strcmp(what, "run")) {
		int jobs = atoi(argv[5]);

		if (jobs < 1 || jobs > 64)
			goto usage;
		map_state(argv[4], false);
		run(jobs);
	} else if (argc == 6 && !strcmp(what, "check")) {
		map_state(argv[5], false);
		newest = state->next;
		map_state(argv[4], false);
		before = state;
		after_read = check_block;
		scan();
		if (bad)
			printf("%" PRIu64 " bad sectors\n", bad);
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
	fprintf(stderr, "usage: stamp init|run|check|count|next ..., see stamp.c\n");
	return 2;
}
