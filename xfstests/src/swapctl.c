// SPDX-License-Identifier: GPL-2.0
/*
 * Swap files without util-linux: its tools check the file themselves and word
 * their messages by version, here only the kernel answers.
 *
 *   swapctl mk FILE       write a swap header that covers the whole file
 *   swapctl on FILE       swapon(2)
 *   swapctl off FILE      swapoff(2)
 *   swapctl use MIB       push MIB of patterned memory out to swap, see that
 *                         it went there, bring it back and compare
 *   swapctl hold MIB      the same, but say "out" and wait for a line on stdin
 *                         before it is brought back
 */
#include <stdbool.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/swap.h>
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

static int make_header(const char *path)
{
	long page = sysconf(_SC_PAGESIZE);
	struct stat st;
	uint32_t *info;
	char *buf;
	int fd;

	fd = open(path, O_RDWR);
	if (fd < 0 || fstat(fd, &st))
		return result("mk", -1);
	buf = calloc(1, page);
	if (!buf)
		return result("mk", -1);
	/* the boot block is left alone, the header follows it */
	info = (uint32_t *)(buf + 1024);
	info[0] = 1;				/* version */
	info[1] = st.st_size / page - 1;	/* last page */
	info[2] = 0;				/* bad pages */
	memcpy(buf + page - 10, "SWAPSPACE2", 10);
	if (pwrite(fd, buf, page, 0) != page || fsync(fd))
		return result("mk", -1);
	free(buf);
	close(fd);
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

static int use(size_t mib, bool hold)
{
	size_t len = mib << 20, words = len / sizeof(uint64_t);
	uint64_t *mem;
	size_t i, bad = 0;
	char line[16];
	long out;

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
	if (hold) {
		puts("out");
		if (!fgets(line, sizeof(line), stdin))
			return 1;
	}
	for (i = 0; i < words; i++)
		bad += mem[i] != pattern(i);
	if (bad)
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
	if (argc == 3 && !strcmp(argv[1], "mk"))
		return make_header(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "on"))
		return result("swapon", swapon(argv[2], 0));
	if (argc == 3 && !strcmp(argv[1], "off"))
		return result("swapoff", swapoff(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "use"))
		return use(strtoul(argv[2], NULL, 0), false);
	if (argc == 3 && !strcmp(argv[1], "hold"))
		return use(strtoul(argv[2], NULL, 0), true);
	fprintf(stderr, "usage: %s mk|on|off FILE | use|hold MIB\n", argv[0]);
	return 2;
}
