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
    sync::{
        atomic::{
            ordering::{Acquire, Relaxed, Release},
            Atomic,
        },
        SetOnce, //
    },
};

/// Extents shorter than this, and the ends of others beyond a multiple, are not used: a page, since
/// pages are what is written. In sectors.
pub(crate) const UNIT: u64 = (PAGE_SIZE / 512) as u64;

/// A piece of the address space on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Index of the device, as given to [`Space::append`].
    pub(crate) dev: usize,
    /// First sector on the device.
    pub(crate) sector: u64,
    /// Number of sectors.
    pub(crate) sectors: u64,
}

/// How often extents can be added.
const SEGMENTS: usize = 256;

struct Extent {
    /// Where the extent begins in the address space.
    pos: u64,
    piece: Piece,
}

/// Extents that were added together.
struct Segment {
    /// Where they begin in the address space.
    pos: u64,
    extents: KVVec<Extent>,
}

/// The address space. All positions and sizes are in sectors.
///
/// It is read without a lock while extents are added at its end.
pub(crate) struct Space {
    /// Those in use come first.
    segments: KVVec<SetOnce<Segment>>,
    size: Atomic<u64>,
    limit: Atomic<u64>,
    used: Atomic<u64>,
    /// How much may be used until somebody should see to it that there is more, or
    /// [`GROWING`](Self::GROWING).
    mark: Atomic<u64>,
}

/// What became of asking for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// The position in units, and their number.
    At(u64, u32),
    /// There is none left, but more may be coming.
    Later,
    /// There is none left.
    None,
}

impl Space {
    /// A mark that is never reached, while there is to be more: who finds no room is to wait.
    pub(crate) const GROWING: u64 = u64::MAX;

    /// A mark that is never reached.
    pub(crate) const NEVER: u64 = Self::GROWING - 1;

    /// An empty space of which at most `limit` sectors will be handed out.
    pub(crate) fn new(limit: u64) -> Result<Self> {
        let mut segments = KVVec::with_capacity(SEGMENTS, GFP_KERNEL)?;
        for _ in 0..SEGMENTS {
            segments.push(SetOnce::new(), GFP_KERNEL)?;
        }
        Ok(Self {
            segments,
            size: Atomic::new(0),
            limit: Atomic::new(limit),
            used: Atomic::new(0),
            mark: Atomic::new(Self::NEVER),
        })
    }

    /// Adds extents at the end. Only one task may do so at a time.
    ///
    /// # Errors
    ///
    /// [`ENOSPC`] if this has been done [`SEGMENTS`] times, [`EFBIG`], [`ENOMEM`]. Nothing is added
    /// then.
    pub(crate) fn append(&self, pieces: impl Iterator<Item = Piece>) -> Result {
        self.append_after(pieces, || ())
    }

    /// The same, and calls `ready` when nothing can fail any more and nobody sees them yet.
    pub(crate) fn append_after(
        &self,
        pieces: impl Iterator<Item = Piece>,
        ready: impl FnOnce(),
    ) -> Result {
        let start = self.size();
        let mut size = start;
        let mut extents = KVVec::new();
        for mut piece in pieces {
            piece.sectors -= piece.sectors % UNIT;
            if piece.sectors == 0 {
                continue;
            }
            extents.push(Extent { pos: size, piece }, GFP_KERNEL)?;
            size = size.checked_add(piece.sectors).ok_or(EFBIG)?;
        }
        if extents.is_empty() {
            return Ok(());
        }

        let segment = Segment {
            pos: start,
            extents,
        };
        let free = self.segments.get(self.nr_segments()).ok_or(ENOSPC)?;
        ready();
        free.populate(segment);
        // Whoever sees the size sees the extents.
        self.size.store(size, Release);
        Ok(())
    }

    fn nr_segments(&self) -> usize {
        self.segments.partition_point(|s| s.as_ref().is_some())
    }

    /// How much there is.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Acquire)
    }

    /// How often extents can still be added.
    pub(crate) fn segments_left(&self) -> u64 {
        (SEGMENTS - self.nr_segments()) as u64
    }

    /// How much may be handed out if there is that much.
    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// Lets `sectors` more be handed out. Not while extents are added.
    pub(crate) fn raise_limit(&self, sectors: u64) {
        self.limit
            .store(self.limit().saturating_add(sectors), Relaxed);
    }

    /// How much can be handed out at all.
    pub(crate) fn capacity(&self) -> u64 {
        self.size().min(self.limit())
    }

    /// How much is handed out.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// How much can still be handed out.
    pub(crate) fn free(&self) -> u64 {
        self.capacity().saturating_sub(self.used())
    }

    /// Number of extents.
    pub(crate) fn extents(&self) -> usize {
        self.segments().map(|s| s.extents.len()).sum()
    }

    fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().map_while(|s| s.as_ref())
    }

    /// Hands out up to `want` units of `unit` sectors in a row, at least one. Calls `low` if the mark
    /// was reached by that, see [`is_low`](Self::is_low).
    pub(crate) fn alloc(&self, unit: u64, want: u32, low: impl Fn()) -> Room {
        loop {
            let mark = self.mark.load(Acquire);
            let found = self.find(unit, want);
            if self.is_low() {
                low();
            }
            if let Some((pos, n)) = found {
                return Room::At(pos, n);
            }
            match self.mark.load(Acquire) {
                Self::GROWING => return Room::Later,
                now if now == mark => return Room::None,
                // There may be more since.
                _ => {}
            }
        }
    }

    /// Whether the mark has been reached, which is said once. Whoever is told has to see to it that
    /// there is more, and then to [`set_mark`](Self::set_mark) whatever came of it.
    pub(crate) fn is_low(&self) -> bool {
        let mark = self.mark.load(Relaxed);
        mark != Self::GROWING
            && self.used() >= mark
            && self.mark.cmpxchg(mark, Self::GROWING, Relaxed).is_ok()
    }

    /// How much may be used until more is needed. Whoever finds none from here on will not wait for
    /// it, so that what has come must have been [added](Self::append).
    pub(crate) fn set_mark(&self, used: u64) {
        self.mark.store(used, Release);
    }

    fn find(&self, unit: u64, want: u32) -> Option<(u64, u32)> {
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
        let Range { start, end } = range;
        let after = self
            .segments
            .partition_point(|s| s.as_ref().is_some_and(|s| s.pos <= start));
        self.segments[after.saturating_sub(1)..]
            .iter()
            .map_while(|s| s.as_ref())
            .flat_map(move |s| {
                let first = s
                    .extents
                    .partition_point(|e| e.pos + e.piece.sectors <= start);
                s.extents[first..].iter()
            })
            .take_while(move |e| e.pos < end)
            .map(move |e| {
                let start = e.pos.max(start);
                let end = (e.pos + e.piece.sectors).min(end);
                Piece {
                    dev: e.piece.dev,
                    sector: e.piece.sector + (start - e.pos),
                    sectors: end - start,
                }
            })
    }

    /// The parts of devices that the space takes up.
    pub(crate) fn all(&self) -> impl Iterator<Item = Piece> + '_ {
        self.segments()
            .flat_map(|s| s.extents.iter().map(|e| e.piece))
    }
}
