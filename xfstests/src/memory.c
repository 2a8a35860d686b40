// SPDX-License-Identifier: GPL-2.0
/*
 * Uses more memory than there is: fills it with a pattern, page by page, and
 * checks it, so that all of it goes out to swap and comes back.
 *
 *	memory MIB ROUNDS
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE	4096

int main(int argc, char **argv)
{
	size_t pages, i, wrong = 0;
	int round, rounds;
	char *memory;

	if (argc != 3) {
		fprintf(stderr, "usage: memory MIB ROUNDS\n");
		return 2;
	}
	pages = strtoul(argv[1], NULL, 0) * (1024 * 1024 / PAGE);
	rounds = atoi(argv[2]);
	memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		perror("mmap");
		return 1;
	}

	for (round = 1; round <= rounds; round++) {
		for (i = 0; i < pages; i++)
			*(volatile uint64_t *)(memory + i * PAGE) = i * round + 1;
		for (i = 0; i < pages; i++)
			if (*(volatile uint64_t *)(memory + i * PAGE) !=
			    i * round + 1)
				wrong++;
	}
	printf("%zu pages wrong\n", wrong);
	return wrong != 0;
}
