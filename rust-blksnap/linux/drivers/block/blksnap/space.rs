// SPDX-License-Identifier: GPL-2.0

//! The difference storage's space.
//!
//! The extents of the storage, in the order in which they were added, make up one linear address
//! space. It is handed out from its start to its end, so that copies from all over the original
//! become sequential writes.

use core::ops::Range;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::{ordering::Relaxed, Atomic},
};

/// Extents shorter than this, and the ends of others beyond a multiple, are not used: a page, since
/// pages are what is written. In sectors.
const UNIT: u64 = (PAGE_SIZE / 512) as u64;

/// A piece of the address space on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Index of the device, as given to [`Space::push`].
    pub(crate) dev: usize,
    /// First sector on the device.
    pub(crate) sector: u64,
    /// Number of sectors.
    pub(crate) sectors: u64,
}

struct Extent {
    /// Where the extent begins in the address space.
    pos: u64,
    piece: Piece,
}

/// The address space. All positions and sizes are in sectors.
pub(crate) struct Space {
    extents: KVVec<Extent>,
    size: u64,
    limit: u64,
    used: Atomic<u64>,
}

impl Space {
    /// An empty space of which at most `limit` sectors will be handed out.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            extents: KVVec::new(),
            size: 0,
            limit,
            used: Atomic::new(0),
        }
    }

    /// Adds an extent at the end.
    pub(crate) fn push(&mut self, mut piece: Piece) -> Result {
        piece.sectors -= piece.sectors % UNIT;
        if piece.sectors == 0 {
            return Ok(());
        }
        let size = self.size.checked_add(piece.sectors).ok_or(EFBIG)?;
        let extent = Extent {
            pos: self.size,
            piece,
        };
        self.extents.push(extent, GFP_KERNEL)?;
        self.size = size;
        Ok(())
    }

    /// How much can be handed out at all.
    pub(crate) fn capacity(&self) -> u64 {
        self.size.min(self.limit)
    }

    /// How much is handed out.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Number of extents.
    pub(crate) fn extents(&self) -> usize {
        self.extents.len()
    }

    /// Hands out up to `want` units of `unit` sectors in a row, at least one. Returns the position
    /// in units and their number, or nothing if there is no room left.
    pub(crate) fn alloc(&self, unit: u64, want: u32) -> Option<(u64, u32)> {
        let mut used = self.used.load(Relaxed);
        loop {
            let pos = used.div_ceil(unit);
            let room = (self.capacity() / unit).checked_sub(pos)?;
            let n = u64::from(want).min(room);
            if n == 0 {
                return None;
            }
            match self.used.cmpxchg(used, (pos + n) * unit, Relaxed) {
                Ok(_) => return Some((pos, n as u32)),
                Err(now) => used = now,
            }
        }
    }

    /// Where `range` lies, piece by piece in order.
    pub(crate) fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Piece> + '_ {
        let first = self
            .extents
            .partition_point(|e| e.pos + e.piece.sectors <= range.start);
        self.extents[first..]
            .iter()
            .take_while({
                let end = range.end;
                move |e| e.pos < end
            })
            .map(move |e| {
                let start = e.pos.max(range.start);
                let end = (e.pos + e.piece.sectors).min(range.end);
                Piece {
                    dev: e.piece.dev,
                    sector: e.piece.sector + (start - e.pos),
                    sectors: end - start,
                }
            })
    }

    /// The parts of devices that the space takes up.
    pub(crate) fn all(&self) -> impl Iterator<Item = Piece> + '_ {
        self.extents.iter().map(|e| e.piece)
    }
}
