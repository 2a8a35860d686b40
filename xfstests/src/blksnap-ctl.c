// SPDX-License-Identifier: GPL-2.0
/*
 * A client of blksnap that knows nothing but the binary interface.
 *
 *   blksnap-ctl attach DEV
 *   blksnap-ctl detach DEV
 *   blksnap-ctl version                    prints the four numbers
 *   blksnap-ctl create LIMIT_SECTORS FILE  prints the new snapshot's uuid
 *   blksnap-ctl add DEV UUID
 *   blksnap-ctl take UUID
 *   blksnap-ctl destroy UUID
 *   blksnap-ctl info DEV                   prints "error NAME" and "image NAME"
 *   blksnap-ctl collect                    prints a uuid a line
 *   blksnap-ctl wait UUID MS               prints an event
 *   blksnap-ctl cbt DEV                    prints what is known of tracking
 *   blksnap-ctl map DEV                    prints the runs of the change map
 *   blksnap-ctl dirty DEV FIRST COUNT
 *
 * Before the command, "-u UID" lets everything the kernel does with files be
 * done as that user, without taking the right to call the ioctls.  A failure is
 * printed as "command: errno" and makes the exit status 1.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "blksnap-abi.h"
#include "errname.h"

static const char *command;
static uid_t as_user;

static int failed(void)
{
	printf("%s: %s\n", command, errname(errno));
	return 1;
}

static void put(void *buf, size_t offset, const void *value, size_t size)
{
	memcpy((char *)buf + offset, value, size);
}

static void put32(void *buf, size_t offset, uint32_t value)
{
	put(buf, offset, &value, sizeof(value));
}

static void put64(void *buf, size_t offset, uint64_t value)
{
	put(buf, offset, &value, sizeof(value));
}

static void put_ptr(void *buf, size_t offset, const void *ptr)
{
	put64(buf, offset, (uintptr_t)ptr);
}

static uint32_t get32(const void *buf, size_t offset)
{
	uint32_t value;

	memcpy(&value, (const char *)buf + offset, sizeof(value));
	return value;
}

static uint64_t get64(const void *buf, size_t offset)
{
	uint64_t value;

	memcpy(&value, (const char *)buf + offset, sizeof(value));
	return value;
}

static void print_uuid(const unsigned char *uuid)
{
	int i;

	for (i = 0; i < UUID_SIZE; i++)
		printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ?
		       "-" : "", uuid[i]);
	putchar('\n');
}

static void parse_uuid(const char *text, void *out)
{
	unsigned char *uuid = out;
	unsigned int byte;
	int i;

	for (i = 0; i < UUID_SIZE; i++) {
		if (*text == '-')
			text++;
		if (sscanf(text, "%2x", &byte) != 1) {
			fprintf(stderr, "blksnap-ctl: not a uuid\n");
			exit(2);
		}
		uuid[i] = byte;
		text += 2;
	}
}

static int control_fd(void)
{
	return open("/dev/blksnap-control", O_RDWR | O_CLOEXEC);
}

static int snapshot_ioctl(unsigned int nr, void *arg)
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
static int filter_ioctl(const char *dev, unsigned int nr, char *arg)
{
	int fd = open(dev, O_RDONLY | O_CLOEXEC), ret;

	if (fd < 0)
		return -1;
	strcpy(arg, "blksnap");
	ret = ioctl(fd, nr, arg);
	close(fd);
	return ret;
}

static int filter_command(const char *dev, uint32_t cmd, void *opt,
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

static int do_attach(char **args)
{
	char arg[ATTACH_SIZE] = "";

	return filter_ioctl(args[0], FILTER_ATTACH, arg) ? failed() : 0;
}

static int do_detach(char **args)
{
	char arg[FILTER_NAME_LENGTH] = "";

	return filter_ioctl(args[0], FILTER_DETACH, arg) ? failed() : 0;
}

static int do_version(char **args)
{
	uint16_t v[VERSION_SIZE / 2];

	if (snapshot_ioctl(SNAPSHOT_VERSION, v))
		return failed();
	printf("%u.%u.%u.%u\n", v[0], v[1], v[2], v[3]);
	return 0;
}

static int do_create(char **args)
{
	unsigned char arg[CREATE_SIZE] = "";

	put64(arg, CREATE_LIMIT, strtoull(args[0], NULL, 0));
	put_ptr(arg, CREATE_PATH, args[1]);
	if (snapshot_ioctl(SNAPSHOT_CREATE, arg))
		return failed();
	print_uuid(arg + CREATE_UUID);
	return 0;
}

static int do_add(char **args)
{
	char arg[ADD_SIZE];

	parse_uuid(args[1], arg);
	return filter_command(args[0], COMMAND_ADD, arg, sizeof(arg), NULL) ?
	       failed() : 0;
}

static int do_take(char **args)
{
	char arg[UUID_SIZE];

	parse_uuid(args[0], arg);
	return snapshot_ioctl(SNAPSHOT_TAKE, arg) ? failed() : 0;
}

static int do_destroy(char **args)
{
	char arg[UUID_SIZE];

	parse_uuid(args[0], arg);
	return snapshot_ioctl(SNAPSHOT_DESTROY, arg) ? failed() : 0;
}

static int do_info(char **args)
{
	char arg[INFO_SIZE] = "";
	uint32_t answered;

	if (filter_command(args[0], COMMAND_INFO, arg, sizeof(arg), &answered))
		return failed();
	if (answered != INFO_SIZE)
		printf("info: %u bytes instead of %u\n", answered, INFO_SIZE);
	printf("error %s\n", errname((int32_t)get32(arg, INFO_ERROR)));
	printf("image %.*s\n", INFO_SIZE - INFO_IMAGE, arg + INFO_IMAGE);
	return 0;
}

static int do_collect(char **args)
{
	unsigned char arg[COLLECT_SIZE] = "", *ids = NULL;
	uint32_t i, room = 0;

	/* as clients do it: ask for the number, then for the list */
	while (snapshot_ioctl(SNAPSHOT_COLLECT, arg)) {
		if (errno != ENODATA || get32(arg, COLLECT_COUNT) <= room)
			return failed();
		room = get32(arg, COLLECT_COUNT);
		free(ids);
		ids = calloc(room, UUID_SIZE);
		if (!ids)
			return failed();
		put_ptr(arg, COLLECT_UUIDS, ids);
	}
	if (get32(arg, COLLECT_COUNT) > room) {
		printf("collect: more snapshots than room\n");
		return 1;
	}
	for (i = 0; i < get32(arg, COLLECT_COUNT); i++)
		print_uuid(ids + i * UUID_SIZE);
	free(ids);
	return 0;
}

static int do_wait(char **args)
{
	static unsigned char arg[EVENT_SIZE];

	parse_uuid(args[0], arg + EVENT_UUID);
	put32(arg, EVENT_TIMEOUT, strtoul(args[1], NULL, 0));
	if (snapshot_ioctl(SNAPSHOT_WAIT_EVENT, arg))
		return failed();
	switch (get32(arg, EVENT_CODE)) {
	case EVENT_CODE_CORRUPTED:
		printf("corrupted %u:%u %s\n", get32(arg, EVENT_DATA),
		       get32(arg, EVENT_DATA + 4),
		       errname((int32_t)get32(arg, EVENT_DATA + 8)));
		break;
	case EVENT_CODE_NO_SPACE:
		printf("no space, %" PRIu64 " sectors asked for\n",
		       get64(arg, EVENT_DATA));
		break;
	default:
		printf("event %u\n", get32(arg, EVENT_CODE));
	}
	return 0;
}

static int do_cbt(char **args)
{
	unsigned char arg[CBT_INFO_SIZE] = "";

	if (filter_command(args[0], COMMAND_CBT_INFO, arg, sizeof(arg), NULL))
		return failed();
	printf("capacity %" PRIu64 "\nblock_size %u\nblock_count %u\n",
	       get64(arg, CBT_INFO_CAPACITY), get32(arg, CBT_INFO_BLOCK_SIZE),
	       get32(arg, CBT_INFO_BLOCK_COUNT));
	printf("number %u\ngeneration ", arg[CBT_INFO_NUMBER]);
	print_uuid(arg + CBT_INFO_GENERATION);
	return 0;
}

static int do_map(char **args)
{
	unsigned char info[CBT_INFO_SIZE] = "", *map;
	char arg[CBT_MAP_SIZE] = "";
	uint32_t count, i, start = 0;
	int got;

	if (filter_command(args[0], COMMAND_CBT_INFO, info, sizeof(info), NULL))
		return failed();
	count = get32(info, CBT_INFO_BLOCK_COUNT);
	map = malloc(count);
	if (!map)
		return failed();
	put32(arg, CBT_MAP_LENGTH, count);
	put_ptr(arg, CBT_MAP_BUFFER, map);
	got = filter_command(args[0], COMMAND_CBT_MAP, arg, sizeof(arg), NULL);
	if (got < 0)
		return failed();
	if ((uint32_t)got != count)
		printf("map: %d of %u bytes\n", got, count);
	for (i = 1; i <= (uint32_t)got; i++) {
		if (i < (uint32_t)got && map[i] == map[start])
			continue;
		printf("%u-%u %u\n", start, i - 1, map[start]);
		start = i;
	}
	free(map);
	return 0;
}

static int do_dirty(char **args)
{
	uint64_t range[2] = { strtoull(args[1], NULL, 0),
			      strtoull(args[2], NULL, 0) };
	char arg[CBT_DIRTY_SIZE] = "";

	put32(arg, CBT_DIRTY_COUNT, 1);
	put_ptr(arg, CBT_DIRTY_RANGES, range);
	return filter_command(args[0], COMMAND_CBT_DIRTY, arg, sizeof(arg),
			      NULL) ? failed() : 0;
}

static const struct {
	const char *name;
	int args;
	int (*run)(char **args);
} commands[] = {
	{ "attach", 1, do_attach }, { "detach", 1, do_detach },
	{ "version", 0, do_version }, { "create", 2, do_create },
	{ "add", 2, do_add }, { "take", 1, do_take },
	{ "destroy", 1, do_destroy }, { "info", 1, do_info },
	{ "collect", 0, do_collect }, { "wait", 2, do_wait },
	{ "cbt", 1, do_cbt }, { "map", 1, do_map }, { "dirty", 3, do_dirty },
};

int main(int argc, char **argv)
{
	size_t i;

	argv++;
	argc--;
	if (argc >= 2 && !strcmp(argv[0], "-u")) {
		as_user = strtoul(argv[1], NULL, 0);
		argv += 2;
		argc -= 2;
	}
	for (i = 0; argc && i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(commands[i].name, argv[0]))
			continue;
		if (commands[i].args != argc - 1)
			break;
		command = argv[0];
		return commands[i].run(argv + 1);
	}
	fprintf(stderr, "usage: blksnap-ctl [-u UID] COMMAND [ARGUMENT...]\n");
	return 2;
}
