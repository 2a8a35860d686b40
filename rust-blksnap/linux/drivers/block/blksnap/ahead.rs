// SPDX-License-Identifier: GPL-2.0

//! Streams of writes, which copies are made ahead of.
//!
//! Where chunks are written in a row, those that follow are copied before they are written, so that
//! no write has to wait for its copy. A stream is known by the portion that it comes to next: when
//! a write reaches the first chunk of that, the portion after it is wanted, and copied meanwhile.
//!
//! Without a lock: writes only compare some words with their own chunks. What is lost in a race is
//! a copy made ahead.

use kernel::sync::atomic::{ordering::Relaxed, Atomic};

/// Streams of a device that are known at once.
const STREAMS: usize = 8;

/// Enough bits for the number of chunks of a portion.
const NR_BITS: u32 = 12;

/// A run of chunks that a stream comes to next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Portion {
    pub(crate) first: u64,
    pub(crate) chunks: u64,
    /// Whether it is to be copied, and nobody has begun to.
    wanted: bool,
}

impl Portion {
    const NONE: u64 = 0;

    fn encode(self) -> u64 {
        self.first << (NR_BITS + 1) | self.chunks << 1 | u64::from(self.wanted)
    }

    fn decode(word: u64) -> Option<Self> {
        (word != Self::NONE).then_some(Self {
            first: word >> (NR_BITS + 1),
            chunks: word >> 1 & ((1 << NR_BITS) - 1),
            wanted: word & 1 != 0,
        })
    }

    /// The chunk after the last one.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.chunks
    }
}

/// How far ahead copies are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// Chunks of the longest portion, at least one.
    most: u64,
    /// Nothing is copied ahead over a multiple of this. Whoever writes so much in a row often stops
    /// there, and then nothing was copied in vain.
    stop: u64,
    /// Chunks of the device.
    end: u64,
}

/// The streams of a device.
pub(crate) struct Ahead {
    reach: Reach,
    streams: [Atomic<u64>; STREAMS],
    turn: Atomic<u32>,
}

impl Reach {
    /// At most `most` chunks at once, none beyond `end` nor over a multiple of `stop`.
    pub(crate) fn new(most: u64, stop: u64, end: u64) -> Self {
        Self {
            most: most.clamp(1, (1 << NR_BITS) - 1),
            stop: stop.max(1),
            end,
        }
    }

    /// The portion of at most `chunks` from `first` on, if there is one.
    fn portion(&self, first: u64, chunks: u64, wanted: bool) -> Option<Portion> {
        let rest = self.end.saturating_sub(first);
        let chunks = chunks
            .min(self.most)
            .min(first.next_multiple_of(self.stop) - first)
            .min(rest);
        let fits = first >> (63 - NR_BITS) == 0;
        (chunks > 0 && fits).then_some(Portion {
            first,
            chunks,
            wanted,
        })
    }
}

impl Ahead {
    /// No streams yet.
    pub(crate) fn new(reach: Reach) -> Self {
        Self {
            reach,
            streams: core::array::from_fn(|_| Atomic::new(Portion::NONE)),
            turn: Atomic::new(0),
        }
    }

    /// Chunks up to `last` have been written in a row, and those after them, up to `copied`, are
    /// about to be copied. If the row goes on there, what follows is [wanted](Self::reached).
    pub(crate) fn begin(&self, last: u64, copied: u64) {
        let next = last + 1;
        let chunks = copied.saturating_sub(last).max(1);
        let Some(portion) = self.reach.portion(next, chunks, false) else {
            return;
        };
        let mut slot = None;
        for (i, stream) in self.streams.iter().enumerate() {
            let Some(known) = Portion::decode(stream.load(Relaxed)) else {
                slot = slot.or(Some(i));
                continue;
            };
            if known.first.abs_diff(next) <= self.reach.most {
                if known.first >= next {
                    return;
                }
                slot = Some(i);
            }
        }
        let slot = slot.unwrap_or_else(|| self.turn.fetch_add(1, Relaxed) as usize % STREAMS);
        self.streams[slot].store(portion.encode(), Relaxed);
    }

    /// `first..=last` are about to be written. Says whether anything is [wanted](Self::take) now.
    pub(crate) fn reached(&self, first: u64, last: u64) -> bool {
        self.streams.iter().any(|stream| {
            let word = stream.load(Relaxed);
            Portion::decode(word)
                .filter(|portion| (first..=last).contains(&portion.first))
                .is_some_and(|portion| {
                    let from = portion.end().max(last + 1);
                    let chunks = 2 * portion.chunks.max(last + 1 - first);
                    let next = self.reach.portion(from, chunks, true);
                    let new = next.map_or(Portion::NONE, Portion::encode);
                    stream.cmpxchg(word, new, Relaxed).is_ok() && next.is_some()
                })
        })
    }

    /// A portion that is to be copied, which whoever gets it has to do.
    pub(crate) fn take(&self) -> Option<Portion> {
        self.streams.iter().find_map(|stream| {
            let word = stream.load(Relaxed);
            let portion = Portion::decode(word).filter(|portion| portion.wanted)?;
            let taken = Portion {
                wanted: false,
                ..portion
            };
            let ours = stream.cmpxchg(word, taken.encode(), Relaxed).is_ok();
            ours.then_some(taken)
        })
    }

    /// Nothing of a portion had to be copied: there is no need to go on with its stream.
    pub(crate) fn forget(&self, portion: Portion) {
        for stream in &self.streams {
            let _ = stream.cmpxchg(portion.encode(), Portion::NONE, Relaxed);
        }
    }
}
