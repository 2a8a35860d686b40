// SPDX-License-Identifier: GPL-2.0
/*
 * Requests that a well-behaved client never sends, and the answers to them.
 *
 *   blksnap-requests filter DEV         DEV has no filter, and has none after it
 *   blksnap-requests control FILE       FILE can be difference storage
 *   blksnap-requests commands DEV UUID  DEV has the filter, the snapshot is not
 *                                       taken and has no device
 *   blksnap-requests append UUID
 *   blksnap-requests collect            any number of snapshots, at least two
 *   blksnap-requests wait UUID          nothing happens to the snapshot
 *   blksnap-requests untold UUID        something has happened, and there is
 *                                       nowhere to tell it
 *   blksnap-requests waiters UUID NUM   NUM threads wait for the same snapshot;
 *                                       prints "waiting" when all of them do,
 *                                       and the code of each event
 *
 * Prints a line a request: what is wrong with it, and the name of the error.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include "blksnap-raw.h"
#include "errname.h"

#define CANARY	0xa5

/* no page is ever mapped here */
static void *const nowhere = (void *)(uintptr_t)16;
/* nor can user space have one here */
#define BEYOND	0xffff800000000000ull

static const unsigned char nobody[UUID_SIZE];

static void say(const char *what, int ret)
{
	printf("%s: %s\n", what, ret < 0 ? errname(errno) : "ok");
}

static int open_or_die(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0) {
		perror(path);
		exit(2);
	}
	return fd;
}

static void name_filter(char *arg, const char *name)
{
	memset(arg, 0, FILTER_NAME_LENGTH);
	memcpy(arg, name, strnlen(name, FILTER_NAME_LENGTH));
}

/* Two pages, of which the second one cannot be touched. */
static char *page_before_nothing(void)
{
	size_t page = getpagesize();
	char *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + page, page, PROT_NONE)) {
		perror("mmap");
		exit(2);
	}
	return p + page;
}

static int do_filter(char **args)
{
	static const char long_name[] = "blksnapblksnapblksnapblksnapblksnap";
	char attach[ATTACH_SIZE] = "", detach[FILTER_NAME_LENGTH] = "";
	char control[CONTROL_SIZE] = "", info[INFO_SIZE];
	int dev = open_or_die(args[0], O_RDONLY);
	int null = open_or_die("/dev/null", O_RDONLY);
	char *edge = page_before_nothing();

	puts("-- not attached --");
	name_filter(detach, "blksnap");
	say("detach", ioctl(dev, FILTER_DETACH, detach));
	name_filter(control, "blksnap");
	say("control", ioctl(dev, FILTER_CONTROL, control));
	name_filter(attach, "");
	say("attach without a name", ioctl(dev, FILTER_ATTACH, attach));
	name_filter(attach, "blksnap2");
	say("attach blksnap2", ioctl(dev, FILTER_ATTACH, attach));
	name_filter(attach, "blksna");
	say("attach blksna", ioctl(dev, FILTER_ATTACH, attach));
	name_filter(attach, long_name);
	say("attach a name without end", ioctl(dev, FILTER_ATTACH, attach));
	say("attach at no address", ioctl(dev, FILTER_ATTACH, nowhere));
	name_filter(edge - FILTER_NAME_LENGTH, "blksnap");
	say("attach over the end of memory",
	    ioctl(dev, FILTER_ATTACH, edge - FILTER_NAME_LENGTH));
	name_filter(attach, "blksnap");
	say("attach to a character device",
	    ioctl(null, FILTER_ATTACH, attach));

	puts("-- attached --");
	/* clients leave whatever they like where nothing is asked for */
	memset(attach, CANARY, sizeof(attach));
	name_filter(attach, "blksnap");
	put64(attach, ATTACH_OPT, 0);
	put32(attach, ATTACH_OPTLEN, 0);
	say("attach", ioctl(dev, FILTER_ATTACH, attach));
	say("attach again", ioctl(dev, FILTER_ATTACH, attach));
	name_filter(attach, "blksnap2");
	say("attach blksnap2", ioctl(dev, FILTER_ATTACH, attach));
	name_filter(detach, "blksnap2");
	say("detach blksnap2", ioctl(dev, FILTER_DETACH, detach));
	name_filter(detach, "");
	say("detach without a name", ioctl(dev, FILTER_DETACH, detach));
	say("detach at no address", ioctl(dev, FILTER_DETACH, nowhere));

	put32(control, CONTROL_COMMAND, COMMAND_INFO);
	put32(control, CONTROL_OPTLEN, sizeof(info));
	put_ptr(control, CONTROL_OPT, info);
	name_filter(control, "blksnap2");
	say("control blksnap2", ioctl(dev, FILTER_CONTROL, control));
	name_filter(control, "blksnap");
	say("control at no address", ioctl(dev, FILTER_CONTROL, nowhere));
	put_ptr(control, CONTROL_OPT, nowhere);
	say("info to no address", ioctl(dev, FILTER_CONTROL, control));
	put64(control, CONTROL_OPT, BEYOND);
	say("info to the kernel", ioctl(dev, FILTER_CONTROL, control));
	put_ptr(control, CONTROL_OPT, info);
	say("info", ioctl(dev, FILTER_CONTROL, control));

	name_filter(detach, "blksnap");
	say("detach", ioctl(dev, FILTER_DETACH, detach));
	say("detach again", ioctl(dev, FILTER_DETACH, detach));

	puts("-- without the right --");
	if (setresuid(65534, 65534, 65534)) {
		perror("setresuid");
		return 2;
	}
	name_filter(attach, "blksnap");
	say("attach", ioctl(dev, FILTER_ATTACH, attach));
	say("detach", ioctl(dev, FILTER_DETACH, detach));
	say("control", ioctl(dev, FILTER_CONTROL, control));
	return 0;
}

static uint32_t how_many(int fd)
{
	char arg[COLLECT_SIZE] = "";

	if (ioctl(fd, SNAPSHOT_COLLECT, arg) && errno != ENODATA)
		perror("collect");
	return get32(arg, COLLECT_COUNT);
}

static int do_control(char **args)
{
	static char long_path[2 * PATH_MAX];
	int fd = open_or_die("/dev/blksnap-control", O_RDWR);
	int readonly = open_or_die("/dev/blksnap-control", O_RDONLY);
	char arg[EVENT_SIZE] = "", *edge = page_before_nothing();
	size_t page = getpagesize();
	uint16_t version[VERSION_SIZE / 2] = { 0 };
	unsigned int nr;
	char name[64];

	puts("-- unknown requests --");
	for (nr = 7; nr < 10; nr++) {
		sprintf(name, "request %u", nr);
		say(name, ioctl(fd, _IOC(_IOC_READ, 'V', nr, 16), arg));
	}
	/* the whole number counts, not only the last byte */
	say("version with another size",
	    ioctl(fd, _IOC(_IOC_READ, 'V', 0, 4), arg));
	say("version of another type",
	    ioctl(fd, _IOC(_IOC_READ, 'W', 0, VERSION_SIZE), arg));
	say("filter's attach", ioctl(fd, FILTER_ATTACH, arg));

	puts("-- version --");
	say("to no address", ioctl(fd, SNAPSHOT_VERSION, nowhere));
	say("over the end of memory", ioctl(fd, SNAPSHOT_VERSION, edge - 4));
	say("to an odd address", ioctl(fd, SNAPSHOT_VERSION, arg + 1));
	say("opened to read", ioctl(readonly, SNAPSHOT_VERSION, version));
	printf("known %s\n", version[0] ? "yes" : "no");

	puts("-- create --");
	say("from no address", ioctl(fd, SNAPSHOT_CREATE, nowhere));
	put64(arg, CREATE_LIMIT, 1 << 20);
	say("without a path", ioctl(fd, SNAPSHOT_CREATE, arg));
	put_ptr(arg, CREATE_PATH, nowhere);
	say("path at no address", ioctl(fd, SNAPSHOT_CREATE, arg));
	put64(arg, CREATE_PATH, BEYOND);
	say("path in the kernel", ioctl(fd, SNAPSHOT_CREATE, arg));
	put_ptr(arg, CREATE_PATH, "");
	say("empty path", ioctl(fd, SNAPSHOT_CREATE, arg));
	put_ptr(arg, CREATE_PATH, "/no such folder/file");
	say("no such file", ioctl(fd, SNAPSHOT_CREATE, arg));
	memset(long_path, '/', sizeof(long_path) - 1);
	put_ptr(arg, CREATE_PATH, long_path);
	say("path too long", ioctl(fd, SNAPSHOT_CREATE, arg));
	memset(edge - 8, 'x', 8);
	put_ptr(arg, CREATE_PATH, edge - 8);
	say("path without end", ioctl(fd, SNAPSHOT_CREATE, arg));
	put_ptr(arg, CREATE_PATH, "/");
	say("a folder", ioctl(fd, SNAPSHOT_CREATE, arg));
	put_ptr(arg, CREATE_PATH, "/dev/null");
	say("a character device", ioctl(fd, SNAPSHOT_CREATE, arg));
	put_ptr(arg, CREATE_PATH, "/proc/self/status");
	say("a file of proc", ioctl(fd, SNAPSHOT_CREATE, arg));
	printf("snapshots %u\n", how_many(fd));

	/* what cannot be told to anybody must not stay */
	put_ptr(edge - page, CREATE_PATH, args[0]);
	put64(edge - page, CREATE_LIMIT, 1 << 20);
	if (mprotect(edge - page, page, PROT_READ))
		perror("mprotect");
	say("uuid to memory that is read-only",
	    ioctl(fd, SNAPSHOT_CREATE, edge - page));
	printf("snapshots %u\n", how_many(fd));
	put_ptr(arg, CREATE_PATH, args[0]);
	say("the same file after it", ioctl(fd, SNAPSHOT_CREATE, arg));
	printf("snapshots %u\n", how_many(fd));
	say("the same file again", ioctl(fd, SNAPSHOT_CREATE, arg));

	puts("-- take, destroy --");
	say("take from no address", ioctl(fd, SNAPSHOT_TAKE, nowhere));
	say("take nobody", ioctl(fd, SNAPSHOT_TAKE, nobody));
	say("take without devices", ioctl(fd, SNAPSHOT_TAKE, arg + CREATE_UUID));
	say("destroy from no address", ioctl(fd, SNAPSHOT_DESTROY, nowhere));
	say("destroy nobody", ioctl(fd, SNAPSHOT_DESTROY, nobody));
	say("destroy", ioctl(fd, SNAPSHOT_DESTROY, arg + CREATE_UUID));
	say("destroy again", ioctl(fd, SNAPSHOT_DESTROY, arg + CREATE_UUID));
	say("take what was destroyed",
	    ioctl(fd, SNAPSHOT_TAKE, arg + CREATE_UUID));

	puts("-- collect, none there --");
	memset(arg, 0, COLLECT_SIZE);
	say("no room", ioctl(fd, SNAPSHOT_COLLECT, arg));
	printf("count %u\n", get32(arg, COLLECT_COUNT));
	say("from no address", ioctl(fd, SNAPSHOT_COLLECT, nowhere));
	return 0;
}

static int do_append(char **args)
{
	char arg[APPEND_SIZE] = "";
	int fd = open_or_die("/dev/blksnap-control", O_RDWR);

	say("append at no address", ioctl(fd, SNAPSHOT_APPEND, nowhere));
	parse_uuid(args[0], arg + APPEND_UUID);
	say("append without a path", ioctl(fd, SNAPSHOT_APPEND, arg));
	put_ptr(arg, APPEND_PATH, nowhere);
	say("append path at no address", ioctl(fd, SNAPSHOT_APPEND, arg));
	put_ptr(arg, APPEND_PATH, "/no such folder/file");
	say("append no such file", ioctl(fd, SNAPSHOT_APPEND, arg));
	put_ptr(arg, APPEND_PATH, "/");
	say("append a folder", ioctl(fd, SNAPSHOT_APPEND, arg));
	put_ptr(arg, APPEND_PATH, "/dev/null");
	say("append a character device", ioctl(fd, SNAPSHOT_APPEND, arg));
	return 0;
}

static int do_collect(char **args)
{
	unsigned char ids[65 * UUID_SIZE];
	char arg[COLLECT_SIZE] = "";
	int fd = open_or_die("/dev/blksnap-control", O_RDWR);
	uint32_t count = how_many(fd), i, touched = 0;

	if (count < 2 || count > 64) {
		fprintf(stderr, "not the right number of snapshots\n");
		return 2;
	}
	/* as clients begin: it is no failure to ask for the number only */
	say("nowhere", ioctl(fd, SNAPSHOT_COLLECT, arg));
	printf("number told: %s\n",
	       get32(arg, COLLECT_COUNT) == count ? "yes" : "no");
	put32(arg, COLLECT_COUNT, 64);
	say("nowhere, but much of it", ioctl(fd, SNAPSHOT_COLLECT, arg));

	memset(arg, 0, COLLECT_SIZE);
	put_ptr(arg, COLLECT_UUIDS, ids);
	say("no room", ioctl(fd, SNAPSHOT_COLLECT, arg));
	printf("need told: %s\n",
	       get32(arg, COLLECT_COUNT) == count ? "yes" : "no");

	memset(ids, CANARY, sizeof(ids));
	put32(arg, COLLECT_COUNT, count - 1);
	put_ptr(arg, COLLECT_UUIDS, ids);
	say("too little room", ioctl(fd, SNAPSHOT_COLLECT, arg));
	printf("need told: %s\n",
	       get32(arg, COLLECT_COUNT) == count ? "yes" : "no");
	for (i = (count - 1) * UUID_SIZE; i < sizeof(ids); i++)
		touched += ids[i] != CANARY;
	printf("bytes written beyond the room: %u\n", touched);

	memset(ids, CANARY, sizeof(ids));
	put32(arg, COLLECT_COUNT, 64);
	/* the hole in the structure is not looked at */
	put32(arg, 4, 0xa5a5a5a5);
	say("more room than needed", ioctl(fd, SNAPSHOT_COLLECT, arg));
	printf("number told: %s\n",
	       get32(arg, COLLECT_COUNT) == count ? "yes" : "no");
	for (i = count * UUID_SIZE, touched = 0; i < sizeof(ids); i++)
		touched += ids[i] != CANARY;
	printf("bytes written beyond the last: %u\n", touched);

	put32(arg, COLLECT_COUNT, 64);
	put_ptr(arg, COLLECT_UUIDS, nowhere);
	say("room at no address", ioctl(fd, SNAPSHOT_COLLECT, arg));
	put32(arg, COLLECT_COUNT, UINT32_MAX);
	put_ptr(arg, COLLECT_UUIDS, ids);
	say("all the room there is", ioctl(fd, SNAPSHOT_COLLECT, arg));
	return 0;
}

/* One command with an argument of a chosen length; prints what came back. */
static void command(const char *dev, const char *what, uint32_t cmd,
		    void *opt, uint32_t size)
{
	uint32_t answered = ~0u;
	int ret = filter_command(dev, cmd, opt, size, &answered);

	if (ret < 0)
		printf("%s: %s\n", what, errname(errno));
	else
		printf("%s: %d, %u bytes\n", what, ret, answered);
}

static int do_commands(char **args)
{
	const char *dev = args[0];
	unsigned char buf[4096], uuid[UUID_SIZE], *map, arg[64] = "";
	uint64_t range[4] = { 0 }, capacity;
	uint32_t count, touched, i;

	parse_uuid(args[1], uuid);

	puts("-- unknown commands --");
	for (i = COMMAND_INFO + 1; i < COMMAND_INFO + 4; i++)
		command(dev, "command", i, buf, sizeof(buf));
	command(dev, "last command", UINT32_MAX, buf, sizeof(buf));

	puts("-- tracking info --");
	command(dev, "nothing", COMMAND_CBT_INFO, buf, 0);
	command(dev, "a byte short", COMMAND_CBT_INFO, buf, CBT_INFO_SIZE - 1);
	memset(buf, CANARY, sizeof(buf));
	command(dev, "room to spare", COMMAND_CBT_INFO, buf, sizeof(buf));
	for (i = CBT_INFO_SIZE, touched = 0; i < sizeof(buf); i++)
		touched += buf[i] != CANARY;
	printf("bytes written beyond: %u\n", touched);
	for (i = CBT_INFO_NUMBER + 1, touched = 0; i < CBT_INFO_SIZE; i++)
		touched += buf[i] != 0;
	printf("padding that is not zero: %u\n", touched);
	command(dev, "exact", COMMAND_CBT_INFO, buf, CBT_INFO_SIZE);
	command(dev, "no address", COMMAND_CBT_INFO, nowhere, CBT_INFO_SIZE);
	count = get32(buf, CBT_INFO_BLOCK_COUNT);
	capacity = get64(buf, CBT_INFO_CAPACITY);
	printf("blocks cover the device: %s\n",
	       (uint64_t)count * get32(buf, CBT_INFO_BLOCK_SIZE) >= capacity &&
	       (uint64_t)(count - 1) * get32(buf, CBT_INFO_BLOCK_SIZE) <
	       capacity ? "yes" : "no");

	puts("-- tracking map --");
	map = malloc(count + 64);
	memset(map, CANARY, count + 64);
	put_ptr(arg, CBT_MAP_BUFFER, map);
	put32(arg, CBT_MAP_LENGTH, 8);
	command(dev, "a byte short", COMMAND_CBT_MAP, arg, CBT_MAP_SIZE - 1);
	command(dev, "no address", COMMAND_CBT_MAP, nowhere, CBT_MAP_SIZE);
	i = filter_command(dev, COMMAND_CBT_MAP, arg, CBT_MAP_SIZE, NULL);
	printf("first eight: %d\n", (int)i);
	put32(arg, CBT_MAP_OFFSET, count - 3);
	printf("last three of eight: %d\n",
	       filter_command(dev, COMMAND_CBT_MAP, arg, CBT_MAP_SIZE, NULL));
	for (i = 8, touched = 0; i < count + 64; i++)
		touched += map[i] != CANARY;
	printf("bytes written beyond: %u\n", touched);
	put32(arg, CBT_MAP_OFFSET, count);
	printf("at the end: %d\n",
	       filter_command(dev, COMMAND_CBT_MAP, arg, CBT_MAP_SIZE, NULL));
	put32(arg, CBT_MAP_OFFSET, UINT32_MAX);
	put32(arg, CBT_MAP_LENGTH, UINT32_MAX);
	printf("far beyond the end: %d\n",
	       filter_command(dev, COMMAND_CBT_MAP, arg, CBT_MAP_SIZE, NULL));
	put32(arg, CBT_MAP_OFFSET, 0);
	memset(map, CANARY, count + 64);
	printf("all, and more: %s\n",
	       filter_command(dev, COMMAND_CBT_MAP, arg, CBT_MAP_SIZE, NULL) ==
	       (int)count ? "as many as there are" : "another number");
	for (i = count, touched = 0; i < count + 64; i++)
		touched += map[i] != CANARY;
	printf("bytes written beyond: %u\n", touched);
	put32(arg, CBT_MAP_LENGTH, 0);
	printf("none: %d\n",
	       filter_command(dev, COMMAND_CBT_MAP, arg, CBT_MAP_SIZE, NULL));
	put32(arg, CBT_MAP_LENGTH, 8);
	put_ptr(arg, CBT_MAP_BUFFER, nowhere);
	command(dev, "buffer at no address", COMMAND_CBT_MAP, arg,
		CBT_MAP_SIZE);
	put64(arg, CBT_MAP_BUFFER, BEYOND);
	command(dev, "buffer in the kernel", COMMAND_CBT_MAP, arg,
		CBT_MAP_SIZE);

	puts("-- mark dirty --");
	memset(arg, 0, sizeof(arg));
	command(dev, "a byte short", COMMAND_CBT_DIRTY, arg,
		CBT_DIRTY_SIZE - 1);
	command(dev, "no address", COMMAND_CBT_DIRTY, nowhere, CBT_DIRTY_SIZE);
	put32(arg, CBT_DIRTY_COUNT, 1);
	put_ptr(arg, CBT_DIRTY_RANGES, nowhere);
	command(dev, "ranges at no address", COMMAND_CBT_DIRTY, arg,
		CBT_DIRTY_SIZE);
	put_ptr(arg, CBT_DIRTY_RANGES, range);
	range[0] = capacity / 512;
	range[1] = 1;
	command(dev, "range beyond the device", COMMAND_CBT_DIRTY, arg,
		CBT_DIRTY_SIZE);
	range[0] = 8;
	range[1] = UINT64_MAX;
	command(dev, "range that wraps around", COMMAND_CBT_DIRTY, arg,
		CBT_DIRTY_SIZE);
	range[1] = 8;
	put32(arg, 4, 0xa5a5a5a5);
	command(dev, "one range", COMMAND_CBT_DIRTY, arg, CBT_DIRTY_SIZE);

	puts("-- snapshot info --");
	command(dev, "nothing", COMMAND_INFO, buf, 0);
	command(dev, "a byte short", COMMAND_INFO, buf, INFO_SIZE - 1);
	memset(buf, CANARY, sizeof(buf));
	command(dev, "room to spare", COMMAND_INFO, buf, sizeof(buf));
	for (i = INFO_SIZE, touched = 0; i < sizeof(buf); i++)
		touched += buf[i] != CANARY;
	printf("bytes written beyond: %u\n", touched);
	for (i = 0, touched = 0; i < INFO_SIZE; i++)
		touched += buf[i] != 0;
	printf("bytes that are not zero: %u\n", touched);
	command(dev, "no address", COMMAND_INFO, nowhere, INFO_SIZE);

	puts("-- add --");
	memcpy(arg, uuid, UUID_SIZE);
	command(dev, "nothing", COMMAND_ADD, arg, 0);
	command(dev, "a byte short", COMMAND_ADD, arg, ADD_SIZE - 1);
	command(dev, "no address", COMMAND_ADD, nowhere, ADD_SIZE);
	command(dev, "no snapshot", COMMAND_ADD, (void *)nobody, ADD_SIZE);
	command(dev, "exact", COMMAND_ADD, arg, ADD_SIZE);
	command(dev, "again", COMMAND_ADD, arg, ADD_SIZE);
	command(dev, "again, room to spare", COMMAND_ADD, arg, sizeof(arg));
	return 0;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ull + ts.tv_nsec / 1000000;
}

static void on_signal(int sig)
{
}

static unsigned char *wait_arg(const char *uuid, uint32_t ms)
{
	unsigned char *arg = calloc(1, EVENT_SIZE);

	if (!arg)
		exit(2);
	parse_uuid(uuid, arg + EVENT_UUID);
	put32(arg, EVENT_TIMEOUT, ms);
	return arg;
}

static int do_wait(char **args)
{
	struct itimerval soon = { .it_value.tv_usec = 100000 };
	struct sigaction act = { .sa_handler = on_signal };
	int fd = open_or_die("/dev/blksnap-control", O_RDWR), status;
	unsigned char *arg = wait_arg(args[0], 0);
	uint64_t begin;
	pid_t child;

	say("no address", ioctl(fd, SNAPSHOT_WAIT_EVENT, nowhere));
	say("no time", ioctl(fd, SNAPSHOT_WAIT_EVENT, arg));
	put32(arg, EVENT_TIMEOUT, 300);
	begin = now_ms();
	say("a third of a second", ioctl(fd, SNAPSHOT_WAIT_EVENT, arg));
	printf("waited: %s\n", now_ms() - begin >= 290 ? "yes" : "no");

	/* nobody there: that is known at once, however long we would wait */
	memset(arg + EVENT_UUID, 0, UUID_SIZE);
	put32(arg, EVENT_TIMEOUT, 60000);
	begin = now_ms();
	say("no such snapshot", ioctl(fd, SNAPSHOT_WAIT_EVENT, arg));
	printf("at once: %s\n", now_ms() - begin < 30000 ? "yes" : "no");
	free(arg);

	/* a signal that is handled, without and with restarting */
	arg = wait_arg(args[0], UINT32_MAX);
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &soon, NULL);
	say("a signal", ioctl(fd, SNAPSHOT_WAIT_EVENT, arg));

	/* one that is not */
	child = fork();
	if (!child) {
		ioctl(fd, SNAPSHOT_WAIT_EVENT, arg);
		_exit(1);
	}
	kill(child, SIGKILL);
	if (waitpid(child, &status, 0) != child)
		perror("waitpid");
	printf("killed: %s\n", WIFSIGNALED(status) ? "yes" : "no");
	return 0;
}

static int do_untold(char **args)
{
	int fd = open_or_die("/dev/blksnap-control", O_RDWR);
	unsigned char *arg = mmap(NULL, EVENT_SIZE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (arg == MAP_FAILED)
		exit(2);
	parse_uuid(args[0], arg + EVENT_UUID);
	put32(arg, EVENT_TIMEOUT, 60000);
	mprotect(arg, EVENT_SIZE, PROT_READ);
	say("memory that is only read", ioctl(fd, SNAPSHOT_WAIT_EVENT, arg));
	return 0;
}

struct waiter {
	pthread_t thread;
	const char *uuid;
	volatile pid_t tid;
	unsigned char *arg;
	int error;
};

static void *wait_for_event(void *arg)
{
	struct waiter *w = arg;
	int fd = open_or_die("/dev/blksnap-control", O_RDWR);

	w->arg = wait_arg(w->uuid, 60000);
	w->tid = gettid();
	w->error = ioctl(fd, SNAPSHOT_WAIT_EVENT, w->arg) ? errno : 0;
	if (!w->error) {
		printf("event %u\n", get32(w->arg, EVENT_CODE));
		fflush(stdout);
	}
	return NULL;
}

/* Until the thread sleeps in the kernel: it has nothing to sleep for but that. */
static void await_sleep(struct waiter *w)
{
	char path[64], line[512], *state;
	FILE *f;

	while (!w->tid)
		sched_yield();
	sprintf(path, "/proc/self/task/%d/stat", w->tid);
	do {
		sched_yield();
		f = fopen(path, "r");
		if (!f)
			return;
		state = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
		fclose(f);
	} while (state && state[2] != 'S');
}

static int do_waiters(char **args)
{
	int count = atoi(args[1]), i;
	struct waiter *w = calloc(count, sizeof(*w));
	int events = 0, gone = 0, other = 0;

	for (i = 0; i < count; i++) {
		w[i].uuid = args[0];
		if (pthread_create(&w[i].thread, NULL, wait_for_event, &w[i]))
			return 2;
	}
	for (i = 0; i < count; i++)
		await_sleep(&w[i]);
	puts("waiting");
	fflush(stdout);
	for (i = 0; i < count; i++) {
		pthread_join(w[i].thread, NULL);
		if (!w[i].error)
			events++;
		else if (w[i].error == ESRCH)
			gone++;
		else
			other++;
	}
	printf("got an event: %d, were told that it has gone: %d, else: %d\n",
	       events, gone, other);
	return 0;
}

static const struct {
	const char *name;
	int args;
	int (*run)(char **args);
} commands[] = {
	{ "filter", 1, do_filter }, { "control", 1, do_control },
	{ "commands", 2, do_commands }, { "append", 1, do_append },
	{ "collect", 0, do_collect }, { "wait", 1, do_wait },
	{ "untold", 1, do_untold }, { "waiters", 2, do_waiters },
};

int main(int argc, char **argv)
{
	size_t i;

	for (i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, argv[1]) &&
		    commands[i].args == argc - 2)
			return commands[i].run(argv + 2);
	fprintf(stderr, "usage: blksnap-requests KIND ARGUMENT..., see blksnap-requests.c\n");
	return 2;
}
