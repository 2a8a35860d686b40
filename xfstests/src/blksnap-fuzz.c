// SPDX-License-Identifier: GPL-2.0
/*
 * Requests to blksnap chosen at random, most of them nearly right.
 *
 *   blksnap-fuzz [-f] SEED CALLS THREADS DEV,... PATH...
 *
 * Each of the threads makes its share of CALLS.  What it asks for follows from
 * SEED and its number alone; how the threads meet does not.  The devices are
 * written to in between.  PATHs are what storage is made of.  In the end there
 * is no snapshot and no filter left.  With -f the threads ask for the failures that
 * have been set up in debugfs for tasks that do.
 *
 * Prints the number of calls.  A table of what was answered goes to stderr: a
 * request that was never granted has not been tested, so that more calls are made,
 * up to ten times as many, until each has been.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "blksnap-raw.h"
#include "errname.h"

#define MOST_DEVICES	8
#define MOST_UUIDS	4
#define MOST_THREADS	16
#define MOST_ERRORS	135
#define BEYOND		0xffff800000000000ull

enum request {
	ATTACH, DETACH, CBT_INFO, CBT_MAP, CBT_DIRTY, ADD, INFO, ANY_COMMAND,
	VERSION, CREATE, DESTROY, TAKE, COLLECT, WAIT, APPEND, ANY_IOCTL,
	WRITE, READ_IMAGE, REQUESTS
};

static const char *const names[REQUESTS] = {
	"attach", "detach", "cbt info", "cbt map", "cbt dirty", "add", "info",
	"any command", "version", "create", "destroy", "take", "collect",
	"wait", "append", "any ioctl", "write", "read image",
};

static int devices[MOST_DEVICES], device_count, control;
static char image[MOST_DEVICES][64];
static char **paths;
static int path_count;
static unsigned long calls;
static uint64_t seed;
static bool failing;

/* what the threads know of each other's snapshots; only one that is forgotten does harm */
static unsigned char uuids[MOST_UUIDS][UUID_SIZE];
static pthread_mutex_t uuids_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long answers[REQUESTS][MOST_ERRORS];

struct fuzzer {
	pthread_t thread;
	uint64_t state;
	unsigned long share;
	/* the page behind it cannot be touched */
	char *page;
};

static uint64_t random64(struct fuzzer *f)
{
	uint64_t x = f->state += 0x9e3779b97f4a7c15ull;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static uint64_t below(struct fuzzer *f, uint64_t limit)
{
	return random64(f) % limit;
}

static bool one_in(struct fuzzer *f, unsigned int n)
{
	return !below(f, n);
}

/* Room for size bytes, mostly. */
static uint64_t address(struct fuzzer *f, size_t size)
{
	size_t page = getpagesize();

	switch (below(f, 16)) {
	case 0:		return 0;
	case 1:		return below(f, page);
	case 2:		return BEYOND + below(f, page);
	case 3:		return (uintptr_t)f->page + page - below(f, size + 1);
	default:	return (uintptr_t)f->page + page - size;
	}
}

static uint64_t number(struct fuzzer *f)
{
	switch (below(f, 6)) {
	case 0:		return 0;
	case 1:		return below(f, 64);
	case 2:		return 1ull << below(f, 64);
	case 3:		return UINT64_MAX - below(f, 16);
	case 4:		return below(f, 1 << 16);
	default:	return random64(f);
	}
}

static void garbage(struct fuzzer *f, void *p, size_t size)
{
	unsigned char *byte = p;

	while (size--)
		*byte++ = random64(f);
}

static void some_uuid(struct fuzzer *f, void *out)
{
	if (one_in(f, 12))
		garbage(f, out, UUID_SIZE);
	else
		memcpy(out, uuids[below(f, MOST_UUIDS)], UUID_SIZE);
}

static uint64_t some_path(struct fuzzer *f)
{
	size_t page = getpagesize(), size;
	const char *path;
	char *at;

	if (one_in(f, 10))
		return address(f, 64);
	path = paths[below(f, path_count)];
	size = strlen(path) + 1;
	if (one_in(f, 32))
		size--;		/* never ends */
	at = f->page + page - size;
	memcpy(at, path, size);
	return (uintptr_t)at;
}

static void name(struct fuzzer *f, char *arg)
{
	memset(arg, 0, FILTER_NAME_LENGTH);
	if (one_in(f, 20))
		garbage(f, arg, FILTER_NAME_LENGTH);
	else
		strcpy(arg, "blksnap");
}

static uint32_t length_near(struct fuzzer *f, uint32_t exact)
{
	switch (below(f, 12)) {
	case 0:		return exact - 1;
	case 1:		return exact + 1;
	case 2:		return number(f);
	default:	return exact;
	}
}

static int on_device(struct fuzzer *f, unsigned int nr, char *arg)
{
	return ioctl(devices[below(f, device_count)], nr, arg);
}

static int filter_cmd(struct fuzzer *f, uint32_t cmd, const void *opt,
		      uint32_t size)
{
	char arg[CONTROL_SIZE];
	uint64_t at = address(f, size);

	if (at == (uintptr_t)f->page + getpagesize() - size)
		memcpy((void *)(uintptr_t)at, opt, size);
	name(f, arg);
	put32(arg, CONTROL_COMMAND, cmd);
	put32(arg, CONTROL_OPTLEN, length_near(f, size));
	put64(arg, CONTROL_OPT, at);
	return on_device(f, FILTER_CONTROL, arg);
}

static int run(struct fuzzer *f, enum request what)
{
	size_t page = getpagesize();
	char arg[EVENT_SIZE], opt[64];
	int ret, fd;

	memset(arg, 0, sizeof(arg));
	memset(opt, 0, sizeof(opt));
	switch (what) {
	case ATTACH:
		name(f, arg);
		put64(arg, ATTACH_OPT, number(f));
		put32(arg, ATTACH_OPTLEN, number(f));
		return on_device(f, FILTER_ATTACH, arg);
	case DETACH:
		name(f, arg);
		return on_device(f, FILTER_DETACH, arg);
	case CBT_INFO:
		return filter_cmd(f, COMMAND_CBT_INFO, opt, CBT_INFO_SIZE);
	case CBT_MAP:
		put32(opt, CBT_MAP_OFFSET, number(f));
		put32(opt, CBT_MAP_LENGTH, one_in(f, 2) ? 512 : number(f));
		put64(opt, CBT_MAP_BUFFER, address(f, 512));
		return filter_cmd(f, COMMAND_CBT_MAP, opt, CBT_MAP_SIZE);
	case CBT_DIRTY:
		/* the ranges lie before the command's own argument */
		put64(f->page, 0, number(f));
		put64(f->page, 8, number(f));
		put32(opt, CBT_DIRTY_COUNT, one_in(f, 2) ? 1 : number(f));
		put64(opt, CBT_DIRTY_RANGES,
		      one_in(f, 4) ? address(f, 16) : (uintptr_t)f->page);
		return filter_cmd(f, COMMAND_CBT_DIRTY, opt, CBT_DIRTY_SIZE);
	case ADD:
		some_uuid(f, opt);
		return filter_cmd(f, COMMAND_ADD, opt, ADD_SIZE);
	case INFO:
		return filter_cmd(f, COMMAND_INFO, opt, INFO_SIZE);
	case ANY_COMMAND:
		garbage(f, opt, sizeof(opt));
		return filter_cmd(f, number(f), opt, below(f, sizeof(opt)));
	case VERSION:
		return ioctl(control, SNAPSHOT_VERSION,
			     address(f, VERSION_SIZE));
	case CREATE:
		put64(arg, CREATE_LIMIT, number(f));
		put64(arg, CREATE_PATH, some_path(f));
		ret = ioctl(control, SNAPSHOT_CREATE, arg);
		if (!ret) {
			unsigned char *slot = uuids[below(f, MOST_UUIDS)];

			/* forgotten, it would keep its devices for good */
			pthread_mutex_lock(&uuids_lock);
			memcpy(opt, slot, UUID_SIZE);
			memcpy(slot, arg + CREATE_UUID, UUID_SIZE);
			pthread_mutex_unlock(&uuids_lock);
			/* it may be about to be taken */
			while (ioctl(control, SNAPSHOT_DESTROY, opt) &&
			       errno == EBUSY)
				sched_yield();
		}
		return ret;
	case DESTROY:
		some_uuid(f, arg);
		return ioctl(control, SNAPSHOT_DESTROY, arg);
	case TAKE:
		some_uuid(f, arg);
		return ioctl(control, SNAPSHOT_TAKE, arg);
	case COLLECT:
		put32(arg, COLLECT_COUNT, number(f));
		put64(arg, COLLECT_UUIDS, address(f, page));
		return ioctl(control, SNAPSHOT_COLLECT, arg);
	case WAIT:
		some_uuid(f, arg + EVENT_UUID);
		put32(arg, EVENT_TIMEOUT, below(f, 3));
		put32(arg, EVENT_CODE, EVENT_KNOWN + number(f));
		return ioctl(control, SNAPSHOT_WAIT_EVENT, arg);
	case APPEND:
		some_uuid(f, arg + APPEND_UUID);
		put64(arg, APPEND_PATH, some_path(f));
		return ioctl(control, SNAPSHOT_APPEND, arg);
	case ANY_IOCTL:
		/* ours in number and type, anything else at random */
		garbage(f, arg, 256);
		if (one_in(f, 2))
			return on_device(f, _IOC(below(f, 4), 0x12,
						 142 + below(f, 3),
						 below(f, 128)), arg);
		return ioctl(control, _IOC(below(f, 4), 'V', below(f, 12),
					   below(f, 256)), arg);
	case WRITE:
		garbage(f, f->page, 8);
		return pwrite(devices[below(f, device_count)], f->page,
			      page, below(f, 4096) * page) < 0 ? -1 : 0;
	case READ_IMAGE:
		fd = open(image[below(f, device_count)],
			  (one_in(f, 4) ? O_RDWR : O_RDONLY) | O_DIRECT |
			  O_CLOEXEC);
		if (fd < 0)
			return -1;
		if (one_in(f, 3))
			ret = pwrite(fd, f->page, page,
				     below(f, 4096) * page);
		else
			ret = pread(fd, f->page, page, below(f, 4096) * page);
		close(fd);
		return ret < 0 ? -1 : 0;
	case REQUESTS:
		break;
	}
	return 0;
}

/* How often each request is made, out of the sum. */
static const unsigned int weight[REQUESTS] = {
	[ATTACH] = 6, [DETACH] = 2, [CBT_INFO] = 4, [CBT_MAP] = 6,
	[CBT_DIRTY] = 6, [ADD] = 16, [INFO] = 4, [ANY_COMMAND] = 3,
	[VERSION] = 1, [CREATE] = 12, [DESTROY] = 1, [TAKE] = 6, [COLLECT] = 3,
	[WAIT] = 3, [APPEND] = 6, [ANY_IOCTL] = 6, [WRITE] = 16,
	[READ_IMAGE] = 5,
};

static void *fuzz(void *p)
{
	struct fuzzer *f = p;
	unsigned int total = 0, pick, what;
	unsigned long n;

	if (failing) {
		int fd = open("/proc/thread-self/make-it-fail", O_WRONLY);

		if (fd < 0 || write(fd, "1", 1) != 1) {
			perror("make-it-fail");
			exit(2);
		}
		close(fd);
	}
	for (what = 0; what < REQUESTS; what++)
		total += weight[what];
	for (n = 0; n < f->share; n++) {
		int ret;

		pick = below(f, total);
		for (what = 0; pick >= weight[what]; what++)
			pick -= weight[what];
		errno = 0;
		ret = run(f, what);
		if (ret >= 0)
			errno = 0;
		if (errno < MOST_ERRORS)
			__atomic_add_fetch(&answers[what][errno], 1,
					   __ATOMIC_RELAXED);
	}
	return NULL;
}

static int open_devices(char *list)
{
	struct stat st;
	char *dev;

	for (dev = strtok(list, ","); dev; dev = strtok(NULL, ",")) {
		int fd = open(dev, O_RDWR | O_DIRECT | O_CLOEXEC);

		if (fd < 0 || fstat(fd, &st) || device_count == MOST_DEVICES) {
			perror(dev);
			return -1;
		}
		sprintf(image[device_count], "/dev/blksnap-%u-%u",
			major(st.st_rdev), minor(st.st_rdev));
		devices[device_count++] = fd;
	}
	return device_count ? 0 : -1;
}

static void clean_up(void)
{
	static unsigned char ids[4096][UUID_SIZE];
	char arg[COLLECT_SIZE] = "", name[FILTER_NAME_LENGTH] = "blksnap";
	uint32_t count, i;

	put32(arg, COLLECT_COUNT, 4096);
	put_ptr(arg, COLLECT_UUIDS, ids);
	if (ioctl(control, SNAPSHOT_COLLECT, arg))
		printf("collect: %s\n", errname(errno));
	count = get32(arg, COLLECT_COUNT);
	if (count > MOST_UUIDS)
		printf("%u snapshots that nobody was told of\n",
		       count - MOST_UUIDS);
	for (i = 0; i < count; i++)
		if (ioctl(control, SNAPSHOT_DESTROY, ids[i]))
			printf("destroy: %s\n", errname(errno));
	for (i = 0; i < (uint32_t)device_count; i++)
		if (ioctl(devices[i], FILTER_DETACH, name) && errno != ENOENT)
			printf("detach: %s\n", errname(errno));
	memset(arg, 0, sizeof(arg));
	if (ioctl(control, SNAPSHOT_COLLECT, arg) ||
	    get32(arg, COLLECT_COUNT))
		puts("there are snapshots left");
}

/* The first request from this on that was never granted. */
static int never_granted(int what)
{
	while (what < REQUESTS &&
	       (answers[what][0] || what == ANY_IOCTL || what == ANY_COMMAND ||
		what == WAIT))
		what++;
	return what;
}

int main(int argc, char **argv)
{
	struct fuzzer fuzzers[MOST_THREADS];
	size_t page = getpagesize();
	int threads, i, what, err, round;

	if (argc > 1 && !strcmp(argv[1], "-f")) {
		failing = true;
		argc--;
		argv++;
	}
	if (argc < 6)
		goto usage;
	seed = strtoull(argv[1], NULL, 0);
	calls = strtoul(argv[2], NULL, 0);
	threads = atoi(argv[3]);
	if (threads < 1 || threads > MOST_THREADS || open_devices(argv[4]))
		goto usage;
	paths = argv + 5;
	path_count = argc - 5;
	control = open("/dev/blksnap-control", O_RDWR | O_CLOEXEC);
	if (control < 0) {
		perror("/dev/blksnap-control");
		return 2;
	}

	for (i = 0; i < threads; i++) {
		struct fuzzer *f = &fuzzers[i];

		f->state = seed * MOST_THREADS + i;
		f->share = calls / threads;
		f->page = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (f->page == MAP_FAILED ||
		    mprotect(f->page + page, page, PROT_NONE)) {
			perror("mmap");
			return 2;
		}
	}
	for (round = 0; round < 10; round++) {
		for (i = 0; i < threads; i++)
			if (pthread_create(&fuzzers[i].thread, NULL, fuzz,
					   &fuzzers[i])) {
				perror("thread");
				return 2;
			}
		for (i = 0; i < threads; i++)
			pthread_join(fuzzers[i].thread, NULL);
		if (never_granted(0) == REQUESTS)
			break;
	}
	clean_up();

	for (what = 0; what < REQUESTS; what++)
		for (err = 0; err < MOST_ERRORS; err++)
			if (answers[what][err])
				fprintf(stderr, "%-12s %-12s %lu\n",
					names[what], errname(err),
					answers[what][err]);
	for (what = never_granted(0); what < REQUESTS;
	     what = never_granted(what + 1))
		printf("%s was never granted\n", names[what]);
	printf("%lu calls\n", calls / threads * threads);
	return 0;
usage:
	fprintf(stderr, "usage: blksnap-fuzz [-f] SEED CALLS THREADS DEV,... PATH...\n");
	return 2;
}
