// SPDX-License-Identifier: GPL-2.0

//! Block devices in memory.

pub mod bdev;
pub mod bio;
pub mod bio_disk;

/// Bytes of a sector, as a power of two.
pub const SECTOR_SHIFT: u32 = 9;
/// Bytes of a sector.
pub const SECTOR_SIZE: usize = 1 << SECTOR_SHIFT;
