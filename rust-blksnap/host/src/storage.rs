// SPDX-License-Identifier: GPL-2.0

//! Stands in for the driver's storage, whose extents come from a test instead of a filesystem.

use crate::{
    ranges::Ranges,
    space::{Piece, Space},
};
use kernel::{block::bdev::BlockDevice, prelude::*};

pub(crate) struct Storage {
    space: Space,
    devs: Vec<BlockDevice>,
}

impl Storage {
    pub(crate) fn new(devs: Vec<BlockDevice>, extents: &[Piece], limit: u64) -> Self {
        let mut space = Space::new(limit);
        for &extent in extents {
            space.push(extent).expect("there is memory");
        }
        Storage { space, devs }
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    pub(crate) fn bdev(&self, piece: &Piece) -> &BlockDevice {
        &self.devs[piece.dev]
    }

    pub(crate) fn logical_block_size(&self) -> u32 {
        let sizes = self.devs.iter().map(BlockDevice::logical_block_size);
        sizes.max().unwrap_or(0)
    }

    pub(crate) fn within(&self, bdev: &BlockDevice) -> Result<Ranges> {
        let mut ranges = KVVec::new();
        for piece in self.space.all() {
            let dev = self.bdev(&piece);
            if dev.same_disk(bdev) {
                let start = dev.start_sector() + piece.sector;
                let here = bdev.start_sector();
                let end = (start + piece.sectors).min(here + bdev.sectors());
                if start.max(here) < end {
                    ranges.push(start.max(here) - here..end - here, GFP_KERNEL)?;
                }
            }
        }
        Ok(Ranges::new(ranges))
    }
}
