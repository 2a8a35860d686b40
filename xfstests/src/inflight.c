// SPDX-License-Identifier: GPL-2.0
/*
 * Operations that are on their way while a file is being pinned.
 *
 *   inflight dma FILE DEV       read DEV with direct I/O into a shared mapping
 *                               of FILE (its second 64 KiB)
 *   inflight atomic FILE BYTES  asynchronous atomic write, direct I/O, at 1 MiB
 *   inflight read FILE          direct read of the first 64 KiB
 *   inflight preaccess FILE     hold up whoever changes FILE with a fanotify
 *                               permission event until a line comes on stdin
 *   inflight f2fs_atomic FILE   begin an atomic write of f2fs, write 64 KiB at
 *                               1 MiB, wait for a line on stdin, then commit it
 *   inflight discard DEV        discard 1 MiB at 1 MiB through io_uring
 *   inflight writer FILE        open for writing, wait for a line on stdin, then
 *                               write in several ways through the descriptor
 *
 * "ready" is printed when the operation is about to begin, or when the write was
 * submitted; what came of it is printed at the end.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/falloc.h>
#include <linux/fanotify.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include "errname.h"
#include "uring.h"

#define BLOCK	65536

#ifndef RWF_ATOMIC
#define RWF_ATOMIC	0x40
#endif
#ifndef BLOCK_URING_CMD_DISCARD
#define BLOCK_URING_CMD_DISCARD	_IO(0x12, 0)
#endif
#ifndef F2FS_IOC_START_ATOMIC_WRITE
#define F2FS_IOC_START_ATOMIC_WRITE	_IO(0xf5, 1)
#define F2FS_IOC_COMMIT_ATOMIC_WRITE	_IO(0xf5, 2)
#endif
#ifndef FAN_PRE_ACCESS
#define FAN_PRE_ACCESS	0x00100000
#endif

static int report(const char *what, long ret)
{
	printf("%s: %s\n", what, ret < 0 ? errname(errno) : "ok");
	return ret < 0;
}

static int line_from_stdin(void)
{
	char line[16];

	return fgets(line, sizeof(line), stdin) ? 0 : -1;
}

static char *buffer(size_t size, char fill)
{
	void *buf;

	if (posix_memalign(&buf, 4096, size))
		exit(1);
	memset(buf, fill, size);
	return buf;
}

static int do_dma(char **args)
{
	int fd = open(args[0], O_RDWR), dev = open(args[1], O_RDONLY | O_DIRECT);
	char *map;
	long ret;

	if (fd < 0 || dev < 0)
		return report("open", -1);
	map = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, BLOCK);
	if (map == MAP_FAILED)
		return report("mmap", -1);
	close(fd);
	/* the pages are there: nothing to wait for before they are pinned */
	memset(map, 'd', BLOCK);
	puts("ready");
	ret = pread(dev, map, BLOCK, 0);
	return report("read into the mapping", ret == BLOCK ? 0 : -1);
}

static int do_atomic(char **args)
{
	size_t size = strtoul(args[1], NULL, 0);
	struct iocb cb = { 0 }, *list = &cb;
	aio_context_t ctx = 0;
	struct io_event event;
	int fd;

	fd = open(args[0], O_RDWR | O_DIRECT);
	if (fd < 0)
		return report("open", -1);
	if (syscall(SYS_io_setup, 1, &ctx))
		return report("io_setup", -1);
	cb.aio_fildes = fd;
	cb.aio_lio_opcode = IOCB_CMD_PWRITE;
	cb.aio_rw_flags = RWF_ATOMIC;
	cb.aio_buf = (uintptr_t)buffer(size, 'a');
	cb.aio_nbytes = size;
	cb.aio_offset = 1 << 20;
	if (syscall(SYS_io_submit, ctx, 1, &list) != 1)
		return report("submit", -1);
	puts("ready");
	if (syscall(SYS_io_getevents, ctx, 1, 1, &event, NULL) != 1)
		return report("getevents", -1);
	errno = event.res < 0 ? -event.res : 0;
	return report("atomic write", event.res == (__s64)size ? 0 : -1);
}

static int do_read(char **args)
{
	int fd = open(args[0], O_RDONLY | O_DIRECT);

	if (fd < 0)
		return report("open", -1);
	puts("ready");
	return report("read", pread(fd, buffer(BLOCK, 0), BLOCK, 0));
}

static int do_preaccess(char **args)
{
	/* what was to be accessed follows the event */
	union {
		struct fanotify_event_metadata head;
		char room[4096];
	} event;
	struct fanotify_response answer = { .response = FAN_ALLOW };
	int fan, i;

	fan = syscall(SYS_fanotify_init, FAN_CLASS_PRE_CONTENT, O_RDONLY);
	if (fan < 0)
		return report("fanotify_init", -1);
	if (syscall(SYS_fanotify_mark, fan, FAN_MARK_ADD,
		    (uint64_t)FAN_PRE_ACCESS, AT_FDCWD, args[0]))
		return report("fanotify_mark", -1);
	puts("ready");
	/* once for whoever is held up, then let everybody pass */
	for (i = 0; ; i++) {
		struct pollfd polls[2] = { { fan, POLLIN, 0 },
					   { i ? 0 : -1, POLLIN, 0 } };

		if (poll(polls, 2, -1) < 0)
			return report("poll", -1);
		if (i && (polls[1].revents & (POLLIN | POLLHUP)))
			return 0;
		if (read(fan, &event, sizeof(event)) < 0)
			return report("read", -1);
		if (!i) {
			puts("held up");
			line_from_stdin();
		}
		answer.fd = event.head.fd;
		if (write(fan, &answer, sizeof(answer)) != sizeof(answer))
			return report("answer", -1);
		close(event.head.fd);
	}
}

static int do_discard(char **args)
{
	struct io_uring_sqe sqe = {
		.opcode	= IORING_OP_URING_CMD,
		.cmd_op	= BLOCK_URING_CMD_DISCARD,
		.addr	= 1 << 20,
		.addr3	= 1 << 20,
	};

	sqe.fd = open(args[0], O_RDWR);
	if (sqe.fd < 0)
		return report("open", -1);
	return report("discard, io_uring", uring_request(&sqe));
}

static int do_f2fs_atomic(char **args)
{
	int fd = open(args[0], O_RDWR);

	if (fd < 0)
		return report("open", -1);
	if (ioctl(fd, F2FS_IOC_START_ATOMIC_WRITE))
		return report("begin", -1);
	if (pwrite(fd, buffer(BLOCK, 'a'), BLOCK, 1 << 20) != BLOCK)
		return report("write", -1);
	puts("ready");
	line_from_stdin();
	return report("commit", ioctl(fd, F2FS_IOC_COMMIT_ATOMIC_WRITE));
}

static long aio_write(int fd, const void *buf, size_t len)
{
	struct iocb cb = { 0 }, *list = &cb;
	aio_context_t ctx = 0;
	struct io_event event;

	if (syscall(SYS_io_setup, 1, &ctx))
		return -1;
	cb.aio_fildes = fd;
	cb.aio_lio_opcode = IOCB_CMD_PWRITE;
	cb.aio_buf = (uintptr_t)buf;
	cb.aio_nbytes = len;
	if (syscall(SYS_io_submit, ctx, 1, &list) != 1 ||
	    syscall(SYS_io_getevents, ctx, 1, 1, &event, NULL) != 1)
		return -1;
	errno = event.res < 0 ? -event.res : 0;
	return event.res < 0 ? -1 : event.res;
}

static int do_writer(char **args)
{
	int fd = open(args[0], O_RDWR), direct = open(args[0], O_RDWR | O_DIRECT);
	char *buf = buffer(4096, 'w');
	struct iovec iov = { buf, 4096 };
	struct stat st;
	void *map;

	if (fd < 0 || direct < 0 || fstat(fd, &st))
		return report("open", -1);
	puts("ready");
	line_from_stdin();
	report("write", pwrite(fd, buf, 4096, 0));
	report("write behind the end", pwrite(fd, buf, 4096, st.st_size));
	report("pwritev2", pwritev2(fd, &iov, 1, 0, RWF_SYNC));
	report("direct write", pwrite(direct, buf, 4096, 0));
	report("AIO", aio_write(direct, buf, 4096));
	report("io_uring", uring_write(fd, buf, 4096, 0));
	report("io_uring, direct", uring_write(direct, buf, 4096, 0));
	report("ftruncate", ftruncate(fd, st.st_size / 2));
	report("punch", fallocate(fd, FALLOC_FL_PUNCH_HOLE |
				  FALLOC_FL_KEEP_SIZE, 0, BLOCK));
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	report("mmap", map == MAP_FAILED ? -1 : 0);
	report("fsync", fsync(fd));
	return 0;
}

static const struct {
	const char *name;
	int args;
	int (*run)(char **args);
} commands[] = {
	{ "dma", 2, do_dma }, { "atomic", 2, do_atomic }, { "read", 1, do_read },
	{ "preaccess", 1, do_preaccess }, { "writer", 1, do_writer },
	{ "f2fs_atomic", 1, do_f2fs_atomic }, { "discard", 1, do_discard },
};

int main(int argc, char **argv)
{
	size_t i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, argv[1]) &&
		    commands[i].args == argc - 2)
			return commands[i].run(argv + 2);
	fprintf(stderr, "usage: inflight dma|atomic|read|preaccess|writer FILE [...]\n");
	return 2;
}
