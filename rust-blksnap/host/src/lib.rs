// SPDX-License-Identifier: GPL-2.0

//! The driver's own files, compiled for the host and tested there.
//!
//! The modules are the files that the kernel compiles, not copies of them; the
//! crate `kernel` beside this one gives them what they import.

#![forbid(unsafe_code)]
// Not everything that the rest of the driver uses is used here.
#![allow(dead_code)]
// The simulated machine is one thread.
#![allow(clippy::arc_with_non_send_sync)]

#[rustfmt::skip]
#[path = "../../linux/drivers/block/blksnap/ahead.rs"]
mod ahead;
#[rustfmt::skip]
#[path = "../../linux/drivers/block/blksnap/change_map.rs"]
mod change_map;
#[rustfmt::skip]
#[path = "../../linux/drivers/block/blksnap/ranges.rs"]
mod ranges;
// The model checker gets one with less in it.
#[cfg(not(feature = "loom"))]
#[rustfmt::skip]
#[path = "../../linux/drivers/block/blksnap/space.rs"]
mod space;
#[cfg(feature = "loom")]
#[rustfmt::skip]
mod space {
    include!(concat!(env!("OUT_DIR"), "/space.rs"));
}
#[rustfmt::skip]
#[path = "../../linux/drivers/block/blksnap/trace.rs"]
mod trace;
#[rustfmt::skip]
#[path = "../../linux/drivers/block/blksnap/wire.rs"]
mod wire;

// Those that are more than pure logic are made fit by build.rs.
#[rustfmt::skip]
mod chunk_map {
    include!(concat!(env!("OUT_DIR"), "/chunk_map.rs"));
}
#[rustfmt::skip]
mod jobs {
    include!(concat!(env!("OUT_DIR"), "/jobs.rs"));
}
#[rustfmt::skip]
mod cow {
    include!(concat!(env!("OUT_DIR"), "/cow.rs"));
}
#[rustfmt::skip]
mod image {
    include!(concat!(env!("OUT_DIR"), "/image.rs"));
}
mod storage;

pub mod fuzz;
#[cfg(test)]
mod tests;
#[cfg(not(feature = "loom"))]
mod world;
