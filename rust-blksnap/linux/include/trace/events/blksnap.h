/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM blksnap

#if !defined(_TRACE_BLKSNAP_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_BLKSNAP_H

#include <linux/types.h>
#include <linux/kdev_t.h>
#include <linux/tracepoint.h>

/* A run of chunks, by the number of the first, of an original. */
DECLARE_EVENT_CLASS(blksnap_chunks,
	TP_PROTO(u32 dev, u64 first, u64 chunks, u64 place),
	TP_ARGS(dev, first, chunks, place),

	TP_STRUCT__entry(
		__field(u32, dev)
		__field(u64, first)
		__field(u64, chunks)
		__field(u64, place)
	),

	TP_fast_assign(
		__entry->dev = dev;
		__entry->first = first;
		__entry->chunks = chunks;
		__entry->place = place;
	),

	TP_printk("%u,%u chunk %llu + %llu place %llu",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->first,
		  __entry->chunks, __entry->place)
);

/* Chunks are being copied, to a place in the storage that is counted in chunks. */
DEFINE_EVENT(blksnap_chunks, blksnap_copy,
	TP_PROTO(u32 dev, u64 first, u64 chunks, u64 place),
	TP_ARGS(dev, first, chunks, place));

/* Their old content is in memory: they may be overwritten. */
DEFINE_EVENT(blksnap_chunks, blksnap_copy_read,
	TP_PROTO(u32 dev, u64 first, u64 chunks, u64 place),
	TP_ARGS(dev, first, chunks, place));

/* It is in the storage. */
DEFINE_EVENT(blksnap_chunks, blksnap_copy_stored,
	TP_PROTO(u32 dev, u64 first, u64 chunks, u64 place),
	TP_ARGS(dev, first, chunks, place));

/* It was given up, because the snapshot was. */
DEFINE_EVENT(blksnap_chunks, blksnap_copy_failed,
	TP_PROTO(u32 dev, u64 first, u64 chunks, u64 place),
	TP_ARGS(dev, first, chunks, place));

/* Sectors of a device that somebody wants to read or to write. */
DECLARE_EVENT_CLASS(blksnap_sectors,
	TP_PROTO(u32 dev, u64 sector, u64 sectors),
	TP_ARGS(dev, sector, sectors),

	TP_STRUCT__entry(
		__field(u32, dev)
		__field(u64, sector)
		__field(u64, sectors)
	),

	TP_fast_assign(
		__entry->dev = dev;
		__entry->sector = sector;
		__entry->sectors = sectors;
	),

	TP_printk("%u,%u %llu + %llu", MAJOR(__entry->dev),
		  MINOR(__entry->dev), __entry->sector, __entry->sectors)
);

/* A write waits until what it overwrites is in memory. */
DEFINE_EVENT(blksnap_sectors, blksnap_write_waits,
	TP_PROTO(u32 dev, u64 sector, u64 sectors),
	TP_ARGS(dev, sector, sectors));

/* A write waits for room or memory for another copy. */
DEFINE_EVENT(blksnap_sectors, blksnap_write_parked,
	TP_PROTO(u32 dev, u64 sector, u64 sectors),
	TP_ARGS(dev, sector, sectors));

/* The image has read from the original too late, and reads the copy instead. */
DEFINE_EVENT(blksnap_sectors, blksnap_late_read,
	TP_PROTO(u32 dev, u64 sector, u64 sectors),
	TP_ARGS(dev, sector, sectors));

/* What becomes of a device: from when on, until when and why its image holds. */
DECLARE_EVENT_CLASS(blksnap_device,
	TP_PROTO(u32 dev, int error),
	TP_ARGS(dev, error),

	TP_STRUCT__entry(
		__field(u32, dev)
		__field(int, error)
	),

	TP_fast_assign(
		__entry->dev = dev;
		__entry->error = error;
	),

	TP_printk("%u,%u error %d", MAJOR(__entry->dev),
		  MINOR(__entry->dev), __entry->error)
);

DEFINE_EVENT(blksnap_device, blksnap_taken,
	TP_PROTO(u32 dev, int error), TP_ARGS(dev, error));

DEFINE_EVENT(blksnap_device, blksnap_corrupted,
	TP_PROTO(u32 dev, int error), TP_ARGS(dev, error));

DEFINE_EVENT(blksnap_device, blksnap_released,
	TP_PROTO(u32 dev, int error), TP_ARGS(dev, error));

/* The storage was to grow, and now has so many sectors. */
TRACE_EVENT(blksnap_storage_grown,
	TP_PROTO(u64 sectors, int error),
	TP_ARGS(sectors, error),

	TP_STRUCT__entry(
		__field(u64, sectors)
		__field(int, error)
	),

	TP_fast_assign(
		__entry->sectors = sectors;
		__entry->error = error;
	),

	TP_printk("%llu sectors error %d", __entry->sectors, __entry->error)
);

#endif /* _TRACE_BLKSNAP_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
