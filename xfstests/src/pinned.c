// SPDX-License-Identifier: GPL-2.0
/*
 * See that the extents which the holder of a pinned file was given are the file's.
 *
 *   pinned FILE
 *
 * Prints nothing if they are.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include "errname.h"
#include "pinned.h"

int main(int argc, char **argv)
{
	int fd, ret;

	if (argc != 2) {
		fprintf(stderr, "usage: pinned FILE\n");
		return 2;
	}
	fd = open(argv[1], O_RDONLY);
	if (fd < 0) {
		printf("%s\n", errname(errno));
		return 1;
	}
	ret = check_pinned(argv[1], fd);
	if (ret == -ENOENT)
		puts("the file is not pinned");
	else if (ret < 0)
		printf("cannot be compared: %s\n", errname(ret));
	else if (ret)
		printf("%d extents are not where their holder thinks\n", ret);
	return ret != 0;
}
