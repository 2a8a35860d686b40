// SPDX-License-Identifier: GPL-2.0

//! Snapshots of block devices.
//!
//! How the parts fit together:
//!
//! ```text
//!   control --> snapshot --> storage --> space          (files pinned, space handed out)
//!                  |
//!   tracker --> cow --> jobs, chunk_map, ranges         (what is written is copied first)
//!                  |
//!               image                                   (what was there before)
//! ```
//!
//! [`chunk_map`], [`ranges`], [`space`] and [`wire`] know nothing of the rest of the kernel.

mod chunk_map;
mod control;
mod cow;
mod image;
mod jobs;
#[cfg(CONFIG_BLK_DEV_BLKSNAP_KUNIT_TEST)]
mod kunit;
mod ranges;
mod snapshot;
mod space;
mod storage;
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
                filter <- Registration::new(snapshots.clone()),
                control <- MiscDeviceRegistration::register(
                    MiscDeviceOptions { name: c"blksnap-control" },
                    snapshots.clone(),
                ),
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
