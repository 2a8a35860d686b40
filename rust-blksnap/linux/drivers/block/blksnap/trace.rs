// SPDX-License-Identifier: GPL-2.0

//! Tracepoints. What they tell is described where they are defined.
//!
//! C header: [`include/trace/events/blksnap.h`](srctree/include/trace/events/blksnap.h)

use kernel::{ffi::c_int, tracepoint::declare_safe_trace};

declare_safe_trace! {
    pub(crate) fn blksnap_copy(dev: u32, first: u64, chunks: u64, place: u64);
    pub(crate) fn blksnap_copy_read(dev: u32, first: u64, chunks: u64, place: u64);
    pub(crate) fn blksnap_copy_stored(dev: u32, first: u64, chunks: u64, place: u64);
    pub(crate) fn blksnap_copy_failed(dev: u32, first: u64, chunks: u64, place: u64);
    pub(crate) fn blksnap_write_waits(dev: u32, sector: u64, sectors: u64);
    pub(crate) fn blksnap_write_parked(dev: u32, sector: u64, sectors: u64);
    pub(crate) fn blksnap_late_read(dev: u32, sector: u64, sectors: u64);
    pub(crate) fn blksnap_taken(dev: u32);
    pub(crate) fn blksnap_corrupted(dev: u32, error: c_int);
    pub(crate) fn blksnap_released(dev: u32, error: c_int);
    pub(crate) fn blksnap_storage_grown(sectors: u64, error: c_int);
}
