// SPDX-License-Identifier: GPL-2.0
/*
 * A directory tree made of nothing but a seed, and change without end.
 *
 *   filltree fill DIR SEED FILES      make the tree
 *   filltree churn DIR SEED ROUNDS    change it: overwrite in place, append,
 *                                     truncate, delete, create, rename, punch,
 *                                     store through a mapping
 *   filltree run DIR SEED             the same until there is a line on
 *                                     stdin, or its end
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIRS		16
#define SLOTS		1024	/* names that a file may have */
#define LARGEST		(256 << 10)

static uint64_t seed;
static char buf[LARGEST];

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void fill_buffer(size_t len)
{
	uint64_t *word = (uint64_t *)buf;
	size_t i;

	for (i = 0; i < (len + 7) / 8; i++)
		word[i] = rnd();
}

/* Small files are the rule, some have many blocks. */
static size_t some_size(void)
{
	uint64_t r = rnd();

	switch (r % 8) {
	case 0:		return r >> 8 & 63;
	case 1: case 2:	return (r >> 8) % LARGEST;
	default:	return (r >> 8) % 16384;
	}
}

static const char *name(char *out, uint64_t slot)
{
	sprintf(out, "d%02u/f%04u", (unsigned int)(slot % DIRS),
		(unsigned int)(slot % SLOTS));
	return out;
}

static void create(uint64_t slot)
{
	size_t len = some_size();
	char path[32];
	int fd;

	fd = open(name(path, slot), O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0)
		die("create");
	fill_buffer(len);
	/* a full filesystem is not the subject */
	if (write(fd, buf, len) != (ssize_t)len && errno != ENOSPC)
		die("write");
	close(fd);
}

static void store(int fd, off_t size)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	off_t i;

	if (p == MAP_FAILED)
		die("mmap");
	for (i = 0; i < size; i += 4096)
		p[i] = rnd();
	munmap(p, size);
}

static void change(void)
{
	char path[32], to[32];
	uint64_t slot = rnd(), what = rnd() % 16;
	struct stat st;
	size_t len;
	int fd;

	fd = open(name(path, slot), O_RDWR);
	if (fd < 0) {
		create(slot);
		return;
	}
	if (fstat(fd, &st))
		die("stat");
	len = st.st_size ? 1 + rnd() % st.st_size : 0;
	switch (what) {
	case 0:
		unlink(path);
		break;
	case 1:
		rename(path, name(to, rnd()));
		break;
	case 2:
		if (ftruncate(fd, len))
			die("truncate");
		break;
	case 3:
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			  4096);
		break;
	case 4: case 5:
		if (st.st_size)
			store(fd, st.st_size);
		break;
	case 6:
		len = some_size() % 8192;
		fill_buffer(len);
		if (st.st_size < LARGEST)
			pwrite(fd, buf, len, st.st_size);
		break;
	default:
		if (len > LARGEST)
			len = LARGEST;
		fill_buffer(len);
		pwrite(fd, buf, len, rnd() % (st.st_size - len + 1));
	}
	if (rnd() % 16 == 0)
		fsync(fd);
	close(fd);
}

int main(int argc, char **argv)
{
	struct pollfd in = { .fd = 0, .events = POLLIN };
	unsigned long i, n;
	char path[32];

	if (argc < 4)
		goto usage;
	mkdir(argv[2], 0755);
	if (chdir(argv[2]))
		die(argv[2]);
	seed = strtoull(argv[3], NULL, 0) * 0x9e3779b97f4a7c15ull + 1;
	n = argc > 4 ? strtoul(argv[4], NULL, 0) : 0;
	for (i = 0; i < DIRS; i++) {
		sprintf(path, "d%02lu", i);
		mkdir(path, 0755);
	}
	if (argc == 5 && !strcmp(argv[1], "fill")) {
		for (i = 0; i < n; i++)
			create(i);
	} else if (argc == 5 && !strcmp(argv[1], "churn")) {
		for (i = 0; i < n; i++)
			change();
	} else if (argc == 4 && !strcmp(argv[1], "run")) {
		puts("running");
		fflush(stdout);
		while (!poll(&in, 1, 0))
			change();
	} else {
		goto usage;
	}
	return 0;
usage:
	fprintf(stderr, "usage: filltree fill|churn DIR SEED COUNT | run DIR SEED\n");
	return 2;
}
