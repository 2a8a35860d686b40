/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Requests made of bytes: fields are put at the offsets of blksnap-abi.h, and
 * no structure of a header comes in between.
 */
#ifndef BLKSNAP_RAW_H
#define BLKSNAP_RAW_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "blksnap-abi.h"

/* whom the kernel takes us for when it opens files */
static uid_t as_user;

static inline void put(void *buf, size_t offset, const void *value, size_t size)
{
	memcpy((char *)buf + offset, value, size);
}

static inline void put32(void *buf, size_t offset, uint32_t value)
{
	put(buf, offset, &value, sizeof(value));
}

static inline void put64(void *buf, size_t offset, uint64_t value)
{
	put(buf, offset, &value, sizeof(value));
}

static inline void put_ptr(void *buf, size_t offset, const void *ptr)
{
	put64(buf, offset, (uintptr_t)ptr);
}

static inline uint32_t get32(const void *buf, size_t offset)
{
	uint32_t value;

	memcpy(&value, (const char *)buf + offset, sizeof(value));
	return value;
}

static inline uint64_t get64(const void *buf, size_t offset)
{
	uint64_t value;

	memcpy(&value, (const char *)buf + offset, sizeof(value));
	return value;
}

static inline void print_uuid(const unsigned char *uuid)
{
	int i;

	for (i = 0; i < UUID_SIZE; i++)
		printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ?
		       "-" : "", uuid[i]);
	putchar('\n');
}

static inline void parse_uuid(const char *text, void *out)
{
	unsigned char *uuid = out;
	unsigned int byte;
	int i;

	for (i = 0; i < UUID_SIZE; i++) {
		if (*text == '-')
			text++;
		if (sscanf(text, "%2x", &byte) != 1) {
			fprintf(stderr, "%s is not a uuid\n", text);
			exit(2);
		}
		uuid[i] = byte;
		text += 2;
	}
}

static inline int control_fd(void)
{
	return open("/dev/blksnap-control", O_RDWR | O_CLOEXEC);
}

static inline int snapshot_ioctl(unsigned int nr, void *arg)
{
	int fd = control_fd(), ret;

	if (fd < 0)
		return -1;
	setfsuid(as_user);
	ret = ioctl(fd, nr, arg);
	setfsuid(0);
	close(fd);
	return ret;
}

/* Ioctls of the device: attach, detach, control. */
static inline int filter_ioctl(const char *dev, unsigned int nr, char *arg)
{
	int fd = open(dev, O_RDONLY | O_CLOEXEC), ret;

	if (fd < 0)
		return -1;
	strcpy(arg, "blksnap");
	ret = ioctl(fd, nr, arg);
	close(fd);
	return ret;
}

static inline int filter_command(const char *dev, uint32_t cmd, void *opt,
			  uint32_t size, uint32_t *answered)
{
	char arg[CONTROL_SIZE] = "";
	int ret;

	put32(arg, CONTROL_COMMAND, cmd);
	put32(arg, CONTROL_OPTLEN, size);
	put_ptr(arg, CONTROL_OPT, opt);
	ret = filter_ioctl(dev, FILTER_CONTROL, arg);
	if (answered)
		*answered = get32(arg, CONTROL_OPTLEN);
	return ret;
}

#endif /* BLKSNAP_RAW_H */
