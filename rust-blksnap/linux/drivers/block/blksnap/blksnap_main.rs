// SPDX-License-Identifier: GPL-2.0

//! Snapshots of block devices.
//!
//! How the parts fit together:
//!
//! ```text
//!   control --> snapshot --> storage --> space          (files pinned, space handed out)
//!                  |    +--> events, report              (what user space gets to know)
//!                  |
//!   tracker --> cow --> jobs, chunk_map, ranges         (what is written is copied first)
//!      |           |
//!   change_map   image                                  (what was there before)
//! ```
//!
//! [`ahead`], [`change_map`], [`chunk_map`], [`ranges`], [`space`] and [`wire`] know nothing of the
//! rest of the kernel.

mod ahead;
mod change_map;
mod chunk_map;
mod control;
mod cow;
mod events;
mod image;
mod jobs;
#[cfg(CONFIG_BLK_DEV_BLKSNAP_KUNIT_TEST)]
mod kunit;
mod ranges;
mod report;
mod snapshot;
mod space;
mod storage;
mod trace;
mod tracker;
mod wire;

use control::Control;
use kernel::{
    block::filter::Registration,
    miscdevice::{MiscDeviceOptions, MiscDeviceRegistration},
    prelude::*,
    sync::Arc,
};
use snapshot::Snapshots;
use tracker::Tracker;

module! {
    type: Blksnap,
    name: "blksnap",
    authors: ["blksnap developers"],
    description: "Snapshots of block devices",
    license: "GPL",
    params: {
        tracking_block_minimum_shift: u32 {
            default: 16,
            description: "Smallest block of change tracking, in bytes as a power of two",
            mode: 0o644,
        },
        tracking_block_maximum_count: u32 {
            default: 2097152,
            description: "Blocks are made larger for devices that would have more than this many",
            mode: 0o644,
        },
        tracking_block_maximum_shift: u32 {
            default: 26,
            description: "Largest block of change tracking, in bytes as a power of two",
            mode: 0o644,
        },
        chunk_minimum_shift: u32 {
            default: 12,
            description: "Smallest chunk that is copied, in bytes as a power of two",
            mode: 0o644,
        },
        chunk_maximum_count_shift: u32 {
            default: 26,
            description: "Chunks are made larger for devices with more, as a power of two",
            mode: 0o644,
        },
        chunk_maximum_shift: u32 {
            default: 18,
            description: "Largest chunk that is copied, in bytes as a power of two",
            mode: 0o644,
        },
        chunk_maximum_in_queue: u32 {
            default: 256,
            description: "Copies that a device can have in flight, at most 256",
            mode: 0o644,
        },
        diff_storage_minimum: u32 {
            default: 2097152,
            description: "By how many sectors a difference storage file grows",
            mode: 0o644,
        },
    },
}

#[pin_data(PinnedDrop)]
struct Blksnap {
    #[pin]
    control: MiscDeviceRegistration<Control>,
    #[pin]
    filter: Registration<Tracker>,
    snapshots: Arc<Snapshots>,
}

impl kernel::InPlaceModule for Blksnap {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let snapshots = Snapshots::new()?;
            Ok(try_pin_init!(Self {
                control <- MiscDeviceRegistration::register(
                    MiscDeviceOptions { name: c"blksnap-control" },
                    snapshots.clone(),
                ),
                // Last: what it is attached to meanwhile would have to be given up.
                filter <- Registration::new(snapshots.clone()),
                snapshots,
            }))
        })
    }
}

#[pinned_drop]
impl PinnedDrop for Blksnap {
    fn drop(self: Pin<&mut Self>) {
        // Attached filters and open control devices hold the module, so that there are neither.
        self.snapshots.shut_down();
    }
}
