// SPDX-License-Identifier: GPL-2.0
/*
 * Let the first, the second, the third ... of what can fail in a system call do
 * so, until the call goes through without.
 *
 *   failnth swapon FILE
 *   failnth swapoff FILE
 *   failnth create LIMIT_SECTORS FILE    of a snapshot
 *   failnth take LIMIT_SECTORS FILE DEV  create, attach, add and take
 *   failnth destroy LIMIT_SECTORS FILE DEV
 *   failnth pin FILE                     through layout/hold in debugfs
 *   failnth pin-unwritten FILE           ... if nothing was ever written to it
 *   failnth extend FILE BYTES            ... and made larger; it is shrunk again
 *   failnth unpin FILE
 *
 * What can fail has been set up by the caller in debugfs.  After each failure the
 * file has to be an ordinary one again, and the same call has to go through when
 * nothing fails.  Prints each error once, and anything that is not as it should
 * be; stderr gets the number of failures.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/swap.h>
#include <unistd.h>
#include "blksnap-abi.h"
#include "errname.h"
#include "pinned.h"

static char **args;
static unsigned char uuid[UUID_SIZE];

/* Opened once: opening it would be one more call in which something can fail. */
static int nth = -1;

static void fail_nth(unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	if (nth < 0)
		nth = open("/proc/thread-self/fail-nth", O_RDWR);
	if (nth < 0 || pwrite(nth, text, len, 0) != len) {
		printf("fail-nth: %s\n", errname(errno));
		exit(1);
	}
}

/* How many more would have had to come before the failure; stops counting. */
static unsigned int left(void)
{
	char text[16] = "";

	if (pread(nth, text, sizeof(text) - 1, 0) < 0) {
		printf("fail-nth: %s\n", errname(errno));
		exit(1);
	}
	fail_nth(0);
	return atoi(text);
}

static int control(unsigned int nr, void *arg)
{
	static int fd = -1;

	if (fd < 0)
		fd = open("/dev/blksnap-control", O_RDWR);
	return ioctl(fd, nr, arg) ? -errno : 0;
}

static int filter(unsigned int nr, char *arg)
{
	static int fd = -1;

	if (fd < 0)
		fd = open(args[2], O_RDONLY);
	strcpy(arg, "blksnap");
	return ioctl(fd, nr, arg) < 0 ? -errno : 0;
}

static int create(void)
{
	unsigned char arg[CREATE_SIZE] = "";
	uint64_t limit = strtoull(args[0], NULL, 0);
	uint64_t path = (uintptr_t)args[1];
	int ret;

	memcpy(arg + CREATE_LIMIT, &limit, sizeof(limit));
	memcpy(arg + CREATE_PATH, &path, sizeof(path));
	ret = control(SNAPSHOT_CREATE, arg);
	if (!ret)
		memcpy(uuid, arg + CREATE_UUID, UUID_SIZE);
	return ret;
}

static int destroy(void)
{
	return control(SNAPSHOT_DESTROY, uuid);
}

static int take(void)
{
	char attach[ATTACH_SIZE] = "", ctl[CONTROL_SIZE] = "";
	uint32_t command = COMMAND_ADD, size = UUID_SIZE;
	uint64_t opt = (uintptr_t)uuid;
	int ret;

	ret = filter(FILTER_ATTACH, attach);
	if (ret && ret != -EALREADY)
		return ret;
	memcpy(ctl + CONTROL_COMMAND, &command, sizeof(command));
	memcpy(ctl + CONTROL_OPTLEN, &size, sizeof(size));
	memcpy(ctl + CONTROL_OPT, &opt, sizeof(opt));
	ret = filter(FILTER_CONTROL, ctl);
	if (ret && ret != -EALREADY)
		return ret;
	return control(SNAPSHOT_TAKE, uuid);
}

static int swap_on(void)
{
	return swapon(args[0], 0) ? -errno : 0;
}

static int swap_off(void)
{
	return swapoff(args[0]) ? -errno : 0;
}

/*
 * What is in memory needs no request: let the header be read again.  And a journal that
 * cannot be written is the end of the filesystem: nothing is left to be written there.
 */
static int forget(void)
{
	int fd = open(args[0], O_RDONLY);

	if (fd < 0)
		return -errno;
	if (fsync(fd) || syncfs(fd))
		return -errno;
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
	return 0;
}

/* Opened once, too. */
static int hold(const char *command, const char *arg)
{
	static int fd = -1;
	static char line[4200];
	int len = snprintf(line, sizeof(line), "%s%s%s", command,
			   *arg ? " " : "", arg);

	if (fd < 0)
		fd = open("/sys/kernel/debug/layout/hold", O_WRONLY);
	return write(fd, line, len) == len ? 0 : -errno;
}

static int pin(void)
{
	return hold("pin", args[0]);
}

static int pin_unwritten(void)
{
	return hold("pin-unwritten", args[0]);
}

static int unpin(void)
{
	return hold("unpin", "");
}

/* What is pinned is what the holder was told, and the size is the same. */
static off_t size_before;

static int compare(void)
{
	int fd = open(args[0], O_RDONLY), ret;
	off_t size;

	if (fd < 0)
		return -errno;
	size = lseek(fd, 0, SEEK_END);
	if (size != size_before)
		printf("the size is %lld\n", (long long)size);
	ret = check_pinned(args[0], fd);
	close(fd);
	if (ret > 0)
		printf("%d extents are not where their holder thinks\n", ret);
	return ret < 0 ? ret : 0;
}

static int pin_to_extend(void)
{
	int fd = open(args[0], O_RDWR), ret = 0;

	if (fd < 0)
		return -errno;
	if (!size_before)
		size_before = lseek(fd, 0, SEEK_END);
	/* also what is allocated behind the end goes */
	if (ftruncate(fd, atoll(args[1])) || ftruncate(fd, size_before))
		ret = -errno;
	close(fd);
	return ret ?: pin_unwritten();
}

static int extend(void)
{
	return hold("extend", args[1]);
}

static int unpin_extended(void)
{
	off_t before = size_before;
	int ret;

	size_before = atoll(args[1]);
	ret = compare();
	size_before = before;
	return ret ?: unpin() ?: truncate(args[0], before) ? -errno : 0;
}

static int unpin_not_extended(void)
{
	return compare() ?: unpin();
}

static int nothing(void)
{
	return 0;
}

static const struct call {
	const char *name;
	int args;
	int (*before)(void);	/* each must go through: nothing fails there */
	int (*run)(void);
	int (*undo)(void);	/* after success */
	int (*give_up)(void);	/* after failure */
	int file;		/* index of the file, released after failure */
} calls[] = {
	{ "swapon", 1, forget, swap_on, swap_off, nothing, 0 },
	{ "swapoff", 1, swap_on, swap_off, nothing, swap_off, 0 },
	{ "create", 2, nothing, create, destroy, nothing, 1 },
	{ "take", 3, create, take, destroy, destroy, 1 },
	{ "destroy", 3, create, destroy, nothing, destroy, 1 },
	{ "pin", 1, forget, pin, unpin, nothing, 0 },
	{ "pin-unwritten", 1, forget, pin_unwritten, unpin, nothing, 0 },
	{ "extend", 2, pin_to_extend, extend, unpin_extended, unpin_not_extended, 0 },
	{ "unpin", 1, pin, unpin, nothing, unpin, 0 },
};

static void must(const char *what, int ret)
{
	if (!ret)
		return;
	printf("%s: %s\n", what, errname(ret));
	exit(1);
}

/* The file can be opened for writing and changed, as any other. */
static int is_free(const char *path)
{
	int fd = open(path, O_RDWR), ret;

	if (fd < 0)
		return -errno;
	ret = ftruncate(fd, lseek(fd, 0, SEEK_END)) ? -errno : 0;
	close(fd);
	return ret;
}

int main(int argc, char **argv)
{
	const struct call *call = NULL;
	unsigned int n, failures = 0;
	bool seen[4096] = { false };
	size_t i;
	int ret;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 0; argc > 1 && i < sizeof(calls) / sizeof(calls[0]); i++)
		if (!strcmp(calls[i].name, argv[1]) && calls[i].args == argc - 2)
			call = &calls[i];
	if (!call) {
		fprintf(stderr, "usage: failnth CALL ..., see failnth.c\n");
		return 2;
	}
	args = argv + 2;
	/* what is opened once, is opened before anything fails */
	fail_nth(0);
	must("without failure", call->before() ?: call->run());
	must("undo", call->undo());

	for (n = 1; n < 5000; n++) {
		unsigned int rest;

		must("before", call->before());
		fail_nth(n);
		ret = call->run();
		rest = left();
		if (!ret) {
			must("undo", call->undo());
			if (rest)
				break;
			/* it could do without what it did not get */
			failures++;
			continue;
		}
		failures++;
		if (rest)
			printf("failure %u: %s, but nothing failed\n", n,
			       errname(ret));
		if (-ret < 4096 && !seen[-ret]) {
			seen[-ret] = true;
			printf("%s: %s\n", call->name, errname(ret));
		}
		must("give up", call->give_up());
		must("the file afterwards", is_free(args[call->file]));
	}
	fprintf(stderr, "%s: %u failures\n", call->name, failures);
	/* what only takes down may well need nothing */
	printf("%s: %s\n", call->name,
	       !failures && call->undo != nothing ? "nothing ever failed" :
	       n == 5000 ? "no end of failures" : "ok");
	return 0;
}
