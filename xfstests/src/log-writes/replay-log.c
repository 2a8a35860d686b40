// SPDX-License-Identifier: GPL-2.0
/*
 * Do again what the device-mapper target log-writes has written down, as far as is
 * asked for.  The command line, what is printed and the exit status are those of the
 * program of this name in xfstests.
 *
 *   replay-log --log LOG                      what the log is
 *   replay-log --log LOG --num-entries        how many entries it has
 *   replay-log --log LOG --find WHERE...      prints ENTRY@SECTOR
 *   replay-log --log LOG --replay DEV [WHERE...]
 *
 * WHERE it begins: --start-entry N, --start-mark MARK; where it ends, with the entry
 * named: --limit COUNT, --next-flush, --next-fua, --end-mark MARK; what is left out:
 * --no-discard, and what is not between --start-sector N and --end-sector N.
 * --fsck COMMAND with --check N|flush|fua runs the command at each N-th entry, each
 * flush or each write with FUA.  -v tells what is done.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOG_MAGIC	0x6a736677736872ull
#define LOG_VERSION	1
#define LOG_FLUSH	(1 << 0)
#define LOG_FUA		(1 << 1)
#define LOG_DISCARD	(1 << 2)
#define LOG_MARK	(1 << 3)
#define PIECE		(1 << 20)
#define LARGEST_SECTOR	65536

/* The first sector of the log. */
struct log_super {
	uint64_t magic, version, nr_entries;
	uint32_t sectorsize;
} __attribute__((packed));

/* A sector in front of the data of each entry; a mark's name follows in the sector. */
struct log_entry {
	uint64_t sector, nr_sectors, flags, data_len;
};

static int log_fd, replay_fd = -1, verbose;
static uint64_t sector_size, entries;
static bool no_discard;
static uint64_t first_sector, last_sector = UINT64_MAX;

/* the next entry */
static uint64_t current;
static off_t pos;

/* the one that was read last */
static union {
	struct log_entry e;
	char bytes[LARGEST_SECTOR + 1];
} entry;

static void die(const char *what)
{
	fprintf(stderr, "replay-log: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void wrong(const char *what)
{
	fprintf(stderr, "replay-log: %s\n", what);
	exit(1);
}

static void read_log(void *buf, size_t size, off_t at)
{
	ssize_t got = pread(log_fd, buf, size, at);

	if (got < 0)
		die("cannot read the log");
	if ((size_t)got != size)
		wrong("the log ends early");
}

static void open_log(const char *path)
{
	struct log_super super;

	log_fd = open(path, O_RDONLY);
	if (log_fd < 0)
		die(path);
	read_log(&super, sizeof(super), 0);
	if (le64toh(super.magic) != LOG_MAGIC)
		wrong("this is not a log of writes");
	if (le64toh(super.version) != LOG_VERSION)
		wrong("the log is of another version");
	sector_size = le32toh(super.sectorsize);
	if (sector_size < 512 || sector_size > LARGEST_SECTOR)
		wrong("the log's sectors have no size that can be");
	entries = le64toh(super.nr_entries);
	pos = sector_size;
}

/* False at the end of the log.  The data of the entry is at *data. */
static bool next_entry(off_t *data)
{
	struct log_entry *e = &entry.e;

	if (current >= entries)
		return false;
	memset(&entry, 0, sizeof(entry));
	read_log(&entry, sector_size, pos);
	e->sector = le64toh(e->sector);
	e->nr_sectors = le64toh(e->nr_sectors);
	e->flags = le64toh(e->flags);
	e->data_len = le64toh(e->data_len);
	current++;
	pos += sector_size;
	*data = pos;
	if (!(e->flags & (LOG_DISCARD | LOG_MARK)))
		pos += e->nr_sectors * sector_size;
	return true;
}

static bool is_mark(const char *mark)
{
	return (entry.e.flags & LOG_MARK) &&
	       !strcmp(entry.bytes + sizeof(struct log_entry), mark);
}

static void discard(uint64_t from, uint64_t len)
{
	uint64_t range[2] = { from, len };

	if (no_discard || !ioctl(replay_fd, BLKDISCARD, range))
		return;
	/* a device that cannot, did not forget anything when it happened either */
	if (errno != EOPNOTSUPP && errno != ENOTTY)
		die("discard");
}

static void replay_entry(off_t data)
{
	static char *buf;
	const struct log_entry *e = &entry.e;
	uint64_t from = e->sector, end = e->sector + e->nr_sectors;
	bool skip = (e->flags & LOG_MARK) || !e->nr_sectors ||
		    end <= first_sector || from > last_sector;

	if (verbose > 1 || (verbose && !skip))
		printf("%s entry %" PRIu64 ": sector %" PRIu64 ", %" PRIu64
		       " sectors, flags %#" PRIx64 "\n",
		       skip ? "skipping" : "replaying", current - 1, from,
		       e->nr_sectors, e->flags);
	if (skip)
		return;
	if (from < first_sector) {
		data += (first_sector - from) * sector_size;
		from = first_sector;
	}
	if (end - 1 > last_sector)
		end = last_sector + 1;
	if (e->flags & LOG_DISCARD) {
		discard(from * sector_size, (end - from) * sector_size);
		return;
	}
	if (!buf && !(buf = malloc(PIECE)))
		die("buffer");
	for (from *= sector_size, end *= sector_size; from < end;) {
		size_t size = end - from < PIECE ? end - from : PIECE;
		ssize_t put;

		read_log(buf, size, data);
		put = pwrite(replay_fd, buf, size, from);
		if (put <= 0)
			die("cannot write to the device");
		from += put;
		data += put;
	}
}

static void run_fsck(const char *command)
{
	int status;

	if (fsync(replay_fd))
		die("fsync");
	status = system(command);
	if (status == -1 || !WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "replay-log: the check fails at entry %" PRIu64
			"\n", current - 1);
		exit(1);
	}
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno || end == text || *end)
		wrong("a number was expected");
	return value;
}

enum {
	LOG = 256, REPLAY, LIMIT, FIND, NUM_ENTRIES, START_ENTRY, START_MARK,
	END_MARK, NEXT_FLUSH, NEXT_FUA, NO_DISCARD, START_SECTOR, END_SECTOR,
	FSCK, CHECK,
};

static const struct option options[] = {
	{ "log", required_argument, NULL, LOG },
	{ "replay", required_argument, NULL, REPLAY },
	{ "limit", required_argument, NULL, LIMIT },
	{ "find", no_argument, NULL, FIND },
	{ "num-entries", no_argument, NULL, NUM_ENTRIES },
	{ "start-entry", required_argument, NULL, START_ENTRY },
	{ "start-mark", required_argument, NULL, START_MARK },
	{ "end-mark", required_argument, NULL, END_MARK },
	{ "next-flush", no_argument, NULL, NEXT_FLUSH },
	{ "next-fua", no_argument, NULL, NEXT_FUA },
	{ "no-discard", no_argument, NULL, NO_DISCARD },
	{ "start-sector", required_argument, NULL, START_SECTOR },
	{ "end-sector", required_argument, NULL, END_SECTOR },
	{ "fsck", required_argument, NULL, FSCK },
	{ "check", required_argument, NULL, CHECK },
	{ "verbose", no_argument, NULL, 'v' },
	{ NULL, 0, NULL, 0 },
};

int main(int argc, char **argv)
{
	const char *log = NULL, *device = NULL, *fsck = NULL, *check = NULL;
	const char *start_mark = NULL, *end_mark = NULL;
	uint64_t start = 0, limit = 0, every = 0, stop = 0, done = 0, at = 0;
	bool find = false, count = false;
	off_t data;
	int opt;

	while ((opt = getopt_long(argc, argv, "v", options, NULL)) != -1) {
		switch (opt) {
		case 'v':		verbose++; break;
		case LOG:		log = optarg; break;
		case REPLAY:		device = optarg; break;
		case LIMIT:		limit = number(optarg); break;
		case FIND:		find = true; break;
		case NUM_ENTRIES:	count = true; break;
		case START_ENTRY:	start = number(optarg); break;
		case START_MARK:	start_mark = optarg; break;
		case END_MARK:		end_mark = optarg; break;
		case NEXT_FLUSH:	stop |= LOG_FLUSH; break;
		case NEXT_FUA:		stop |= LOG_FUA; break;
		case NO_DISCARD:	no_discard = true; break;
		case START_SECTOR:	first_sector = number(optarg); break;
		case END_SECTOR:	last_sector = number(optarg); break;
		case FSCK:		fsck = optarg; break;
		case CHECK:		check = optarg; break;
		default:		goto usage;
		}
	}
	if (!log || optind != argc || !fsck != !check)
		goto usage;
	if (check && !strcmp(check, "flush"))
		at = LOG_FLUSH;
	else if (check && !strcmp(check, "fua"))
		at = LOG_FUA;
	else if (check && !(every = number(check)))
		goto usage;

	open_log(log);
	if (count) {
		printf("%" PRIu64 "\n", entries);
		return 0;
	}
	if (!find && !device) {
		printf("Log version=%d, sectorsize=%" PRIu64 ", entries=%" PRIu64
		       "\n", LOG_VERSION, sector_size, entries);
		return 0;
	}
	if (device) {
		replay_fd = open(device, O_RDWR);
		if (replay_fd < 0)
			die(device);
	}

	if (start_mark) {
		do
			if (!next_entry(&data))
				wrong("there is no such mark to begin at");
		while (!is_mark(start_mark));
	} else {
		while (current < start)
			if (!next_entry(&data))
				wrong("there are not so many entries");
	}

	while (next_entry(&data)) {
		done++;
		if (!find) {
			replay_entry(data);
			if (fsck && (every ? done % every == 0 :
				     (entry.e.flags & at) != 0))
				run_fsck(fsck);
		}
		if ((limit && done == limit) || (entry.e.flags & stop) ||
		    (end_mark && is_mark(end_mark))) {
			if (find)
				printf("%" PRIu64 "@%" PRIu64 "\n", current - 1,
				       pos / sector_size);
			find = false;
			break;
		}
	}
	if (find)
		wrong("there is no such entry");
	if (replay_fd >= 0 && fsync(replay_fd))
		die("fsync");
	return 0;

usage:
	fprintf(stderr, "usage: replay-log --log LOG [--replay DEV] [--find] [--num-entries]\n"
		"\t[--start-entry N] [--start-mark MARK] [--limit COUNT] [--end-mark MARK]\n"
		"\t[--next-flush] [--next-fua] [--no-discard] [--start-sector N]\n"
		"\t[--end-sector N] [--fsck COMMAND --check N|flush|fua] [-v]\n");
	return 1;
}
