/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the holder of a pinned file was given, as debugfs shows it, against the file's
 * mapping as it is.
 */
#ifndef PINNED_H
#define PINNED_H

#include <errno.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

#define PINS		"/sys/kernel/debug/layout/pins"
#define BTRFS_MAGIC	0x9123683e

struct piece {
	uint64_t pos, addr, len;
};

struct pieces {
	struct piece *piece;
	size_t count, room;
};

static void add_piece(struct pieces *p, uint64_t pos, uint64_t addr, uint64_t len)
{
	struct piece *last = p->count ? &p->piece[p->count - 1] : NULL;

	if (last && last->pos + last->len == pos && last->addr + last->len == addr) {
		last->len += len;
		return;
	}
	if (p->count == p->room) {
		p->room = 2 * p->room + 16;
		p->piece = realloc(p->piece, p->room * sizeof(*p->piece));
		if (!p->piece)
			exit(1);
	}
	p->piece[p->count++] = (struct piece){ pos, addr, len };
}

/* False if the file is not pinned. */
static bool read_pin(const char *path, struct pieces *pin)
{
	char line[4096], name[4096], dev[32];
	unsigned long long pos, addr, len, ino;
	bool mine = false, seen = false;
	FILE *f = fopen(PINS, "r");

	pin->count = 0;
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%llu %llu %llu", &pos, &addr, &len) == 3) {
			if (mine)
				add_piece(pin, pos, addr, len);
		} else {
			mine = sscanf(line, "%*s %31s %llu %4095s", dev, &ino,
				      name) == 3 && !strcmp(name, path);
			seen |= mine;
		}
	}
	if (f)
		fclose(f);
	return seen;
}

/* btrfs: chunks by their logical addresses; the first copy of each. */
static struct pieces chunks;

struct tree_search {
	uint64_t tree, min_object, max_object, min_offset, max_offset;
	uint64_t min_transid, max_transid;
	uint32_t min_type, max_type, items, unused;
	uint64_t unused64[4];
	unsigned char buf[4096 - 104];
};

struct tree_item {
	uint64_t transid, object, offset;
	uint32_t type, len;
};

static int read_chunks(int fd)
{
	uint64_t next = 0;

	chunks.count = 0;
	for (;;) {
		struct tree_search s = {
			.tree = 3, .min_object = 256, .max_object = 256,
			.min_type = 228, .max_type = 228, .min_offset = next,
			.max_offset = -1, .max_transid = -1, .items = 64,
		};
		struct tree_item item;
		size_t at = 0;

		if (ioctl(fd, _IOWR(0x94, 17, struct tree_search), &s))
			return -errno;
		if (!s.items)
			return 0;
		while (s.items--) {
			uint64_t len, physical;

			memcpy(&item, s.buf + at, sizeof(item));
			at += sizeof(item);
			/* a chunk begins with its length; the first stripe has
			 * its device's number and where it is there
			 */
			memcpy(&len, s.buf + at, 8);
			memcpy(&physical, s.buf + at + 48 + 8, 8);
			at += item.len;
			add_piece(&chunks, item.offset, physical, len);
			next = item.offset + 1;
		}
	}
}

static int add_physical(struct pieces *map, uint64_t pos, uint64_t logical, uint64_t len)
{
	size_t i;

	while (len) {
		uint64_t part;

		for (i = 0; i < chunks.count; i++)
			if (logical - chunks.piece[i].pos < chunks.piece[i].len)
				break;
		if (i == chunks.count)
			return -ENXIO;
		part = chunks.piece[i].len - (logical - chunks.piece[i].pos);
		if (part > len)
			part = len;
		add_piece(map, pos, chunks.piece[i].addr +
			  (logical - chunks.piece[i].pos), part);
		pos += part;
		logical += part;
		len -= part;
	}
	return 0;
}

/* Where the file's blocks are on the device. */
static int read_mapping(int fd, struct pieces *map)
{
	static struct {
		struct fiemap head;
		struct fiemap_extent extents[64];
	} f;
	bool translate, last = false;
	struct statfs fs;
	uint64_t pos = 0;
	int err = 0;

	map->count = 0;
	if (fstatfs(fd, &fs))
		return -errno;
	translate = fs.f_type == BTRFS_MAGIC;
	if (translate)
		err = read_chunks(fd);
	while (!err && !last) {
		unsigned int i;

		memset(&f, 0, sizeof(f));
		f.head.fm_start = pos;
		f.head.fm_length = UINT64_MAX - pos;
		f.head.fm_extent_count = 64;
		if (ioctl(fd, FS_IOC_FIEMAP, &f.head))
			return -errno;
		if (!f.head.fm_mapped_extents)
			break;
		for (i = 0; !err && i < f.head.fm_mapped_extents; i++) {
			const struct fiemap_extent *e = &f.extents[i];

			pos = e->fe_logical + e->fe_length;
			last = e->fe_flags & FIEMAP_EXTENT_LAST;
			if (e->fe_flags & FIEMAP_EXTENT_UNKNOWN)
				continue;
			if (translate)
				err = add_physical(map, e->fe_logical,
						   e->fe_physical, e->fe_length);
			else
				add_piece(map, e->fe_logical, e->fe_physical,
					  e->fe_length);
		}
	}
	return err;
}

/*
 * The number of extents that are not where their holder thinks, 0 if all is well or the
 * kernel does not show it; -ENOENT if the file is not pinned.
 */
static int check_pinned(const char *path, int fd)
{
	static struct pieces pin, map;
	size_t i, j;
	int err, wrong = 0;
	FILE *f = fopen(PINS, "r");

	if (!f)
		return 0;
	fclose(f);
	if (!read_pin(path, &pin))
		return -ENOENT;
	err = read_mapping(fd, &map);
	if (err)
		return err;
	for (i = 0; i < pin.count; i++) {
		const struct piece *p = &pin.piece[i];

		/* blocks behind the end of the file belong to nobody */
		for (j = 0; j < map.count; j++) {
			const struct piece *m = &map.piece[j];

			if (p->pos >= m->pos && p->pos + p->len <= m->pos + m->len &&
			    p->addr - m->addr == p->pos - m->pos)
				break;
		}
		if (j == map.count)
			wrong++;
	}
	return wrong;
}

#endif /* PINNED_H */
