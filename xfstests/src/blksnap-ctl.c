// SPDX-License-Identifier: GPL-2.0
/*
 * A client of blksnap that knows nothing but the binary interface.
 *
 *   blksnap-ctl attach DEV
 *   blksnap-ctl detach DEV
 *   blksnap-ctl version                    prints the four numbers
 *   blksnap-ctl create LIMIT_SECTORS FILE  prints the new snapshot's uuid
 *   blksnap-ctl create-unnamed LIMIT_SECTORS DIR BYTES
 *                                          ... with a file that has no name
 *   blksnap-ctl append UUID FILE           more storage
 *   blksnap-ctl add DEV UUID
 *   blksnap-ctl add-from DEV FILE          ... with the uuid in a mapping of FILE
 *   blksnap-ctl take UUID
 *   blksnap-ctl cycle DEV FILE COUNT       so many snapshots, one after the other,
 *                                          with a write to the start in between
 *   blksnap-ctl destroy UUID
 *   blksnap-ctl info DEV                   prints "error NAME" and "image NAME"
 *   blksnap-ctl collect                    prints a uuid a line
 *   blksnap-ctl wait UUID MS               prints an event
 *   blksnap-ctl wait-as-ever UUID MS       ... as clients that know of two kinds
 *   blksnap-ctl cbt DEV                    prints what is known of tracking
 *   blksnap-ctl map DEV                    prints the runs of the change map
 *   blksnap-ctl map-into DEV FILE          has the map written into a mapping of FILE
 *   blksnap-ctl dirty DEV FIRST COUNT      in sectors
 *
 * Before the command, "-u UID" lets everything the kernel does with files be
 * done as that user, without taking the right to call the ioctls.  A failure is
 * printed as "command: errno" and makes the exit status 1.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <sys/mman.h>
#include "blksnap-raw.h"
#include "errname.h"

static const char *command;

static int failed(void)
{
	printf("%s: %s\n", command, errname(errno));
	return 1;
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

/* As clients do it that want the storage to go with them, whatever happens. */
static int do_create_unnamed(char **args)
{
	int fd = open(args[1], O_TMPFILE | O_RDWR, 0600);
	char path[64], *create[] = { args[0], path };

	if (fd < 0 || fallocate(fd, 0, 0, strtoull(args[2], NULL, 0)))
		return failed();
	sprintf(path, "/proc/self/fd/%d", fd);
	return do_create(create);
}

static int do_append(char **args)
{
	unsigned char arg[APPEND_SIZE] = "";

	parse_uuid(args[0], arg + APPEND_UUID);
	put_ptr(arg, APPEND_PATH, args[1]);
	return snapshot_ioctl(SNAPSHOT_APPEND, arg) ? failed() : 0;
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

static int do_cycle(char **args)
{
	unsigned char create[CREATE_SIZE] = "", *uuid = create + CREATE_UUID;
	int count = atoi(args[2]), dev = open(args[0], O_RDWR | O_SYNC);
	char block[4096] = "";

	if (dev < 0)
		return failed();
	put_ptr(create, CREATE_PATH, args[1]);
	while (count--) {
		if (pwrite(dev, block, sizeof(block), 0) != sizeof(block) ||
		    snapshot_ioctl(SNAPSHOT_CREATE, create) ||
		    filter_command(args[0], COMMAND_ADD, uuid, UUID_SIZE,
				   NULL) ||
		    snapshot_ioctl(SNAPSHOT_TAKE, uuid) ||
		    snapshot_ioctl(SNAPSHOT_DESTROY, uuid))
			return failed();
	}
	close(dev);
	return 0;
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

	/* as clients do it: ask for the number, which is no error, then for the list */
	for (;;) {
		int err = snapshot_ioctl(SNAPSHOT_COLLECT, arg) ? errno : 0;
		uint32_t count = get32(arg, COLLECT_COUNT);

		if (!err && count <= room)
			break;
		if (count <= room || (err && err != ENODATA)) {
			errno = err;
			return failed();
		}
		room = count;
		free(ids);
		ids = calloc(room, UUID_SIZE);
		if (!ids)
			return failed();
		put_ptr(arg, COLLECT_UUIDS, ids);
	}
	for (i = 0; i < get32(arg, COLLECT_COUNT); i++)
		print_uuid(ids + i * UUID_SIZE);
	free(ids);
	return 0;
}

static int wait_knowing(uint32_t code, char **args)
{
	static unsigned char arg[EVENT_SIZE];

	put32(arg, EVENT_CODE, code);
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
	case EVENT_CODE_LOW_SPACE:
		printf("low space, %" PRIu64 " of %" PRIu64 " sectors left\n",
		       get64(arg, EVENT_DATA), get64(arg, EVENT_DATA + 8));
		break;
	default:
		printf("event %u\n", get32(arg, EVENT_CODE));
	}
	return 0;
}

static int do_wait(char **args)
{
	return wait_knowing(EVENT_KNOWN + EVENT_CODE_LOW_SPACE, args);
}

static int do_wait_as_ever(char **args)
{
	/* who does not know of the code may have anything there */
	return wait_knowing(0xa5a5a5a5, args);
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

/* The start of a file, as memory that is not there until the file is read. */
static void *map_file(const char *path)
{
	int fd = open(path, O_RDWR);

	return fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					  MAP_SHARED, fd, 0);
}

static int do_map_into(char **args)
{
	void *map = map_file(args[1]);
	char arg[CBT_MAP_SIZE] = "";
	int got;

	if (map == MAP_FAILED)
		return failed();
	put32(arg, CBT_MAP_LENGTH, 4096);
	put_ptr(arg, CBT_MAP_BUFFER, map);
	got = filter_command(args[0], COMMAND_CBT_MAP, arg, sizeof(arg), NULL);
	if (got < 0)
		return failed();
	printf("map of %s\n", got ? "some blocks" : "nothing");
	return 0;
}

static int do_add_from(char **args)
{
	void *uuid = map_file(args[1]);

	if (uuid == MAP_FAILED)
		return failed();
	return filter_command(args[0], COMMAND_ADD, uuid, UUID_SIZE, NULL) ?
	       failed() : 0;
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
	{ "create-unnamed", 3, do_create_unnamed },
	{ "append", 2, do_append }, { "cycle", 3, do_cycle }, { "add", 2, do_add }, { "take", 1, do_take },
	{ "destroy", 1, do_destroy }, { "info", 1, do_info },
	{ "collect", 0, do_collect }, { "wait", 2, do_wait },
	{ "wait-as-ever", 2, do_wait_as_ever },
	{ "cbt", 1, do_cbt }, { "map", 1, do_map },
	{ "map-into", 2, do_map_into }, { "add-from", 2, do_add_from }, { "dirty", 3, do_dirty },
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
