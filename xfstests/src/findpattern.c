// SPDX-License-Identifier: GPL-2.0
/*
 * Read a file in every way there is and look for a pattern in what comes.
 *
 *   findpattern [-u UID] [-w] [-o METHOD] FILE PATTERN DIR
 *
 * Prints "METHOD: found" for each way that shows it, or "nothing found" if none
 * does; stderr gets "METHOD: errno" for each one that is refused.  DIR is
 * where copies are made, on the same filesystem.  With -u the file is opened and
 * read as that user.  With -w the file is opened, "open" is printed, and
 * everything is done with that descriptor when a line has come on stdin.  With -o
 * only this method is used.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "errname.h"

#define PIECE	(1 << 20)

static const char *pattern, *dir;
static char *buf;
static off_t size;

/* Pieces are read with an overlap, so that no pattern is cut in two. */
static int search(const char *data, size_t len)
{
	return memmem(data, len, pattern, strlen(pattern)) != NULL;
}

static int by_pread(int fd, bool vector)
{
	size_t half = PIECE / 2;
	off_t pos;

	for (pos = 0; pos < size; pos += half) {
		struct iovec iov = { buf, PIECE };
		ssize_t got = vector ? preadv2(fd, &iov, 1, pos, 0) :
				       pread(fd, buf, PIECE, pos);

		if (got < 0)
			return -errno;
		if (search(buf, got))
			return 1;
	}
	return 0;
}

static int way_read(int fd)
{
	return by_pread(fd, false);
}

static int way_preadv2(int fd)
{
	return by_pread(fd, true);
}

/* The same file, opened once more with other flags. */
static int reopen(int fd, int flags)
{
	char name[64];

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	fd = open(name, flags);
	return fd < 0 ? -errno : fd;
}

static int way_direct(int fd)
{
	int direct = reopen(fd, O_RDONLY | O_DIRECT), ret;

	if (direct < 0)
		return direct;
	ret = by_pread(direct, false);
	close(direct);
	return ret;
}

static int by_mmap(int fd, int flags)
{
	char *map = mmap(NULL, size, PROT_READ, flags, fd, 0);
	int ret;

	if (map == MAP_FAILED)
		return -errno;
	ret = search(map, size);
	munmap(map, size);
	return ret;
}

static int way_mmap(int fd)
{
	return by_mmap(fd, MAP_SHARED);
}

static int way_mmap_private(int fd)
{
	return by_mmap(fd, MAP_PRIVATE | MAP_POPULATE);
}

static int way_sendfile(int fd)
{
	int mem = memfd_create("copy", 0), ret;
	off_t pos = 0;

	while (pos < size)
		if (sendfile(mem, fd, &pos, PIECE) <= 0)
			return -errno;
	ret = by_pread(mem, false);
	close(mem);
	return ret;
}

static int way_splice(int fd)
{
	int mem = memfd_create("copy", 0), pipes[2], ret;
	loff_t pos = 0;
	ssize_t got;

	if (pipe(pipes))
		return -errno;
	while (pos < size) {
		got = splice(fd, &pos, pipes[1], NULL, 65536, 0);
		if (got <= 0)
			return -errno;
		while (got > 0) {
			ssize_t put = splice(pipes[0], NULL, mem, NULL, got, 0);

			if (put <= 0)
				return -errno;
			got -= put;
		}
	}
	close(pipes[0]);
	close(pipes[1]);
	ret = by_pread(mem, false);
	close(mem);
	return ret;
}

static int new_file(int like)
{
	int fd = open(dir, O_TMPFILE | O_RDWR, 0600), flags = 0;

	if (fd < 0)
		return -errno;
	/* sharing extents on btrfs demands that both are alike */
	if (!ioctl(like, FS_IOC_GETFLAGS, &flags) && (flags & FS_NOCOW_FL)) {
		flags = FS_NOCOW_FL;
		ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
	return fd;
}

static int look_at_copy(int copy)
{
	int ret = fsync(copy) ? -errno : by_pread(copy, false);

	if (!ret)
		ret = way_direct(copy);
	if (!ret)
		ret = by_mmap(copy, MAP_SHARED);
	close(copy);
	return ret;
}

static int way_copy_file_range(int fd)
{
	int copy = new_file(fd);
	loff_t from = 0, to = 0;

	if (copy < 0)
		return copy;
	while (from < size)
		if (copy_file_range(fd, &from, copy, &to, PIECE, 0) <= 0) {
			close(copy);
			return -errno;
		}
	return look_at_copy(copy);
}

static int way_clone(int fd)
{
	int copy = new_file(fd);

	if (copy < 0)
		return copy;
	if (ioctl(copy, FICLONE, fd)) {
		close(copy);
		return -errno;
	}
	return look_at_copy(copy);
}

/* A write of less than a block must not bring up what is around it. */
static int way_byte_written(int fd)
{
	int rw = reopen(fd, O_RDWR), ret;
	off_t pos;

	if (rw < 0)
		return rw;
	for (pos = 4096 + 777; pos < size; pos += 1 << 20)
		if (pwrite(rw, "x", 1, pos) != 1) {
			ret = -errno;
			close(rw);
			return ret;
		}
	return look_at_copy(rw);
}

static const struct {
	const char *name;
	int (*run)(int fd);
} ways[] = {
#define WAY(name) { #name, way_##name }
	WAY(read), WAY(preadv2), WAY(direct), WAY(mmap), WAY(mmap_private),
	WAY(sendfile), WAY(splice), WAY(copy_file_range), WAY(clone),
	WAY(byte_written),
};

int main(int argc, char **argv)
{
	bool wait = false, clean = true, done = false;
	const char *only = NULL;
	char line[16];
	struct stat st;
	int opt, fd;
	size_t i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((opt = getopt(argc, argv, "u:wo:")) != -1) {
		if (opt == 'w')
			wait = true;
		else if (opt == 'o')
			only = optarg;
		else if (opt != 'u' || setresuid(-1, atoi(optarg), -1))
			return 2;
	}
	if (argc - optind != 3) {
		fprintf(stderr, "usage: findpattern [-u UID] [-w] [-o METHOD] FILE PATTERN DIR\n");
		return 2;
	}
	pattern = argv[optind + 1];
	dir = argv[optind + 2];
	if (posix_memalign((void **)&buf, 4096, PIECE))
		return 1;
	fd = open(argv[optind], O_RDONLY);
	if (fd < 0 || fstat(fd, &st)) {
		printf("open: %s\n", errname(errno));
		return 1;
	}
	size = st.st_size;
	if (wait) {
		puts("open");
		if (!fgets(line, sizeof(line), stdin))
			return 1;
	}
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		int ret;

		if (only && strcmp(only, ways[i].name))
			continue;
		ret = ways[i].run(fd);
		done |= ret >= 0;
		if (ret > 0)
			printf("%s: found\n", ways[i].name);
		if (ret < 0)
			fprintf(stderr, "%s: %s\n", ways[i].name, errname(ret));
		clean &= ret <= 0;
	}
	if (clean && done)
		puts("nothing found");
	return !clean || !done;
}
