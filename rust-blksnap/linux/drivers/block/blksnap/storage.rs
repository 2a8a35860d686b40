// SPDX-License-Identifier: GPL-2.0

//! The difference storage: a file whose blocks the kernel has looked up and holds.

use crate::{
    ranges::Ranges,
    space::{Piece, Space},
};
use core::ops::Range;
use kernel::{
    block::{bdev::BlockDevice, SECTOR_SHIFT},
    fs::{
        file::flags,
        layout::{require, PinnedLayout},
        File, //
    },
    new_mutex,
    prelude::*,
    str::CStr,
    sync::{aref::ARef, Arc, Mutex},
};

/// The storage of a snapshot, shared by all of its devices.
#[pin_data]
pub(crate) struct Storage {
    space: Space,
    devs: KVec<ARef<BlockDevice>>,
    /// Gone once the storage is closed.
    #[pin]
    pin: Mutex<Option<PinnedLayout>>,
}

impl Storage {
    /// Opens and pins the file at `path`, of which at most `limit` sectors will be used.
    ///
    /// The file must be fully mapped to unwritten extents, so that what is stored in its blocks can
    /// never be read through it.
    pub(crate) fn open(path: &CStr, limit: u64) -> Result<Arc<Self>> {
        // A block device that is in use is refused here, and a FIFO not waited for. Regular files
        // take no notice of either: what makes a file ours alone is the pin.
        let flags = flags::O_RDWR | flags::O_EXCL | flags::O_LARGEFILE | flags::O_NONBLOCK;
        let file = File::open(path, flags)?;
        let mut space = Space::new(limit);
        let mut devs = KVec::<ARef<BlockDevice>>::new();

        let pin = PinnedLayout::new(file, c"blksnap", require::UNWRITTEN, |extent| {
            let dev = match devs.iter().position(|dev| **dev == *extent.bdev()) {
                Some(dev) => dev,
                None => {
                    devs.push(extent.bdev().into(), GFP_KERNEL)?;
                    devs.len() - 1
                }
            };
            space.push(Piece {
                dev,
                sector: extent.addr() >> SECTOR_SHIFT,
                sectors: extent.len() >> SECTOR_SHIFT,
            })
        })?;

        Arc::pin_init(
            pin_init!(Self {
                space,
                devs,
                pin <- new_mutex!(Some(pin)),
            }),
            GFP_KERNEL,
        )
    }

    /// Gives the file back. There must be no I/O to it any more.
    pub(crate) fn close(&self) {
        let pin = self.pin.lock().take();
        drop(pin);
    }

    /// The linear space that the file's extents make up.
    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// The device of a piece of the space.
    pub(crate) fn bdev(&self, piece: &Piece) -> &BlockDevice {
        &self.devs[piece.dev]
    }

    /// The largest logical block size of its devices.
    pub(crate) fn logical_block_size(&self) -> u32 {
        let sizes = self.devs.iter().map(|dev| dev.logical_block_size());
        sizes.max().unwrap_or(0)
    }

    /// The sectors of `bdev` that lie under the storage.
    pub(crate) fn within(&self, bdev: &BlockDevice) -> Result<Ranges> {
        let whole = bdev.start_sector()..bdev.start_sector() + bdev.sectors();
        let mut ranges = KVVec::<Range<u64>>::new();

        for piece in self.space.all() {
            let dev = self.bdev(&piece);
            if !dev.same_disk(bdev) {
                continue;
            }
            let start = dev.start_sector() + piece.sector;
            let start_here = start.max(whole.start);
            let end_here = (start + piece.sectors).min(whole.end);
            if start_here < end_here {
                ranges.push(start_here - whole.start..end_here - whole.start, GFP_KERNEL)?;
            }
        }
        Ok(Ranges::new(ranges))
    }
}
