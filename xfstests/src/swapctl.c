// SPDX-License-Identifier: GPL-2.0
/*
 * Swap files without util-linux: its tools check the file themselves and word
 * their messages by version, here only the kernel answers.
 *
 *   swapctl mk FILE [BYTES]
 *                         write a swap header that covers the whole file or
 *                         device, or so much of it
 *   swapctl blocks FILE   compare extents on stdin, each "offset in the file,
 *                         offset on the device, length", with FIBMAP
 *   swapctl on FILE       swapon(2)
 *   swapctl off FILE      swapoff(2)
 *   swapctl use MIB       push MIB of patterned memory out to swap, see that
 *                         it went there, bring it back and compare
 *   swapctl hold MIB FILE [OFFSET]
 *                         the same, but see that FILE, or device, has the pages
 *                         where the kernel says they are, say "out", wait for a
 *                         line on stdin and look again before they come back;
 *                         a FILE of "-" is not looked at;
 *                         the pages are that much further on if the swap file
 *                         lies there in FILE in one piece
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <time.h>
#include <unistd.h>
#include "errname.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

static int result(const char *what, int ret)
{
	if (!ret)
		return 0;
	printf("%s: %s\n", what, errname(errno));
	return 1;
}

static int make_header(const char *path, const char *bytes)
{
	long page = sysconf(_SC_PAGESIZE);
	uint32_t *info;
	char *buf;
	off_t size;
	int fd;

	fd = open(path, O_RDWR);
	/* of a block device too */
	size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	if (size < 0)
		return result("mk", -1);
	if (bytes)
		size = strtoull(bytes, NULL, 0);
	buf = calloc(1, page);
	if (!buf)
		return result("mk", -1);
	/* the boot block is left alone, the header follows it */
	info = (uint32_t *)(buf + 1024);
	info[0] = 1;				/* version */
	info[1] = size / page - 1;	/* last page */
	info[2] = 0;				/* bad pages */
	memcpy(buf + page - 10, "SWAPSPACE2", 10);
	if (pwrite(fd, buf, page, 0) != page || fsync(fd))
		return result("mk", -1);
	free(buf);
	close(fd);
	return 0;
}

static int check_blocks(const char *path)
{
	unsigned long long pos, addr, len, at, next = 0;
	int fd = open(path, O_RDONLY), size, block;

	if (fd < 0 || ioctl(fd, FIGETBSZ, &size))
		return result("blocks", -1);
	while (scanf("%llu %llu %llu", &pos, &addr, &len) == 3) {
		if (pos != next)
			printf("nothing was handed out at %llu\n", next);
		next = pos + len;
		for (at = 0; at < len; at += size) {
			block = (pos + at) / size;
			if (ioctl(fd, FIBMAP, &block))
				return result("blocks", -1);
			if ((unsigned long long)block * size == addr + at)
				continue;
			printf("the block at %llu is not where it was said\n",
			       pos + at);
			return 1;
		}
	}
	if (!next)
		puts("nothing was handed out");
	return 0;
}

/* Bytes of this process that are in swap, from smaps_rollup. */
static long swapped(void)
{
	char line[256];
	long kib = -1;
	FILE *f = fopen("/proc/self/smaps_rollup", "r");

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Swap: %ld", &kib) == 1)
			break;
	fclose(f);
	return kib < 0 ? -1 : kib * 1024;
}

static uint64_t pattern(size_t i)
{
	return (i + 1) * 0x9e3779b97f4a7c15ull;
}

static int matches(const uint64_t *buf, size_t len, size_t offset)
{
	size_t i;

	for (i = 0; i < len / sizeof(*buf); i++)
		if (buf[i] != pattern(offset / sizeof(*buf) + i))
			return 0;
	return 1;
}

/*
 * How many pages are in swap, and the file does not have them.  What the memory
 * shows proves nothing: the pages may be in the swap cache still.
 */
static long missing(uint64_t *mem, size_t len, int fd, off_t base)
{
	size_t page = sysconf(_SC_PAGESIZE), i;
	int map = open("/proc/self/pagemap", O_RDONLY);
	long bad = 0;
	void *buf;

	if (map < 0 || posix_memalign(&buf, page, page))
		exit(result("pagemap", -1));
	for (i = 0; i < len / page; i++) {
		uint64_t entry;
		off_t at = ((uintptr_t)mem / page + i) * sizeof(entry);

		if (pread(map, &entry, sizeof(entry), at) != sizeof(entry))
			exit(result("pagemap", -1));
		/* bit 62: in swap; bits 5 to 54: the page of the file */
		if (!(entry >> 62 & 1))
			continue;
		at = (entry >> 5 & ((1ull << 50) - 1)) * page;
		if (pread(fd, buf, page, base + at) != (ssize_t)page ||
		    !matches(buf, page, i * page))
			bad++;
	}
	free(buf);
	close(map);
	return bad;
}

static int use(size_t mib, const char *path, off_t base)
{
	size_t len = mib << 20, words = len / sizeof(uint64_t);
	size_t i, bad = 0;
	long out;
	char line[16];
	uint64_t *mem;
	int fd = -1;

	mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return result("mmap", -1);
	madvise(mem, len, MADV_NOHUGEPAGE);
	for (i = 0; i < words; i++)
		mem[i] = pattern(i);
	if (madvise(mem, len, MADV_PAGEOUT))
		return result("madvise", -1);
	out = swapped();
	if (path) {
		bool look = strcmp(path, "-");
		time_t end = time(NULL) + 10;

		fd = look ? open(path, O_RDONLY | O_DIRECT) : -1;
		if (look && fd < 0)
			return result("open", -1);
		/* they are on their way: nobody tells when they have arrived */
		while (look && missing(mem, len, fd, base) && time(NULL) < end)
			usleep(5000);
		puts("out");
		if (!fgets(line, sizeof(line), stdin))
			return 1;
		if (look && missing(mem, len, fd, base) && ++bad)
			printf("pages of swap are not where they were written\n");
	}
	for (i = 0; i < words; i++)
		bad += mem[i] != pattern(i);
	if (bad && !path)
		printf("%zu words of %zu came back wrong\n", bad, words);
	/* a page that is locked or under writeback right now stays in */
	if (out < (long)(len / 2)) {
		printf("only %ld of %zu bytes went to swap\n", out, len);
		bad++;
	}
	return bad ? 1 : 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if ((argc == 3 || argc == 4) && !strcmp(argv[1], "mk"))
		return make_header(argv[2], argv[3]);
	if (argc == 3 && !strcmp(argv[1], "blocks"))
		return check_blocks(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "on"))
		return result("swapon", swapon(argv[2], 0));
	if (argc == 3 && !strcmp(argv[1], "off"))
		return result("swapoff", swapoff(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "use"))
		return use(strtoul(argv[2], NULL, 0), NULL, 0);
	if ((argc == 4 || argc == 5) && !strcmp(argv[1], "hold"))
		return use(strtoul(argv[2], NULL, 0), argv[3],
			   argv[4] ? strtoull(argv[4], NULL, 0) : 0);
	fprintf(stderr, "usage: %s mk FILE [BYTES] | blocks|on|off FILE | use MIB | hold MIB FILE [OFFSET]\n",
		argv[0]);
	return 2;
}
