// SPDX-License-Identifier: GPL-2.0

//! Which blocks of a device have changed since when.
//!
//! The map has a byte for each block: the number of the period in which it last changed, or zero. A
//! period ends when a snapshot is taken. The numbers go from 1 to 255; after that the map begins
//! anew.

use core::ops::Range;
use kernel::{
    prelude::*,
    sync::atomic::{ordering::Relaxed, Atomic},
};

/// Bytes in a word, which is what can be changed at once.
const WORD: u64 = 8;

/// The largest block whose size fits into what is reported, in bytes as a power of two.
const MAX_SHIFT: u32 = 31;

/// More blocks than this are not made for their own sake.
const MAX_BLOCKS: u64 = 1 << 26;

/// How large the blocks are, and of how many a map may consist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The smallest block, in bytes as a power of two.
    pub(crate) min_shift: u32,
    /// The largest block, which may make the map exceed its size.
    pub(crate) max_shift: u32,
    /// Most blocks in a map.
    pub(crate) max_blocks: u64,
}

/// The map of a device. All positions on the device are in sectors.
pub(crate) struct ChangeMap {
    words: KVVec<Atomic<u64>>,
    sectors: u64,
    /// Sectors in a block, as a power of two.
    shift: u32,
}

impl ChangeMap {
    /// The map of a device on which nothing has changed.
    pub(crate) fn new(sectors: u64, limits: &Limits) -> Result<Self> {
        // The sizes come from whoever may set parameters.
        let mut shift = limits.min_shift.clamp(9, MAX_SHIFT) - 9;
        let max_shift = limits.max_shift.clamp(9, MAX_SHIFT) - 9;
        let max_blocks = limits.max_blocks.min(MAX_BLOCKS);
        while shift < max_shift && sectors.div_ceil(1 << shift) > max_blocks {
            shift += 1;
        }
        let blocks = sectors.div_ceil(1 << shift);
        // The number is reported in 32 bits.
        u32::try_from(blocks).map_err(|_| EFBIG)?;

        let nr = blocks.div_ceil(WORD) as usize;
        let mut words = KVVec::with_capacity(nr, GFP_KERNEL)?;
        for _ in 0..nr {
            words.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Ok(Self {
            words,
            sectors,
            shift,
        })
    }

    /// Size of the device.
    pub(crate) fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Bytes in a block.
    pub(crate) fn block_size(&self) -> u64 {
        512 << self.shift
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> u32 {
        self.sectors.div_ceil(1 << self.shift) as u32
    }

    /// Marks the blocks of a range as changed in the period `number`. What is beyond the device is
    /// left out.
    pub(crate) fn mark(&self, range: Range<u64>, number: u8) {
        let end = range.end.min(self.sectors);
        if range.start >= end {
            return;
        }
        for block in range.start >> self.shift..=(end - 1) >> self.shift {
            let word = &self.words[(block / WORD) as usize];
            let at = (block % WORD) as usize;
            let mut old = word.load(Relaxed);
            loop {
                let mut bytes = old.to_ne_bytes();
                if bytes[at] == number {
                    break;
                }
                bytes[at] = number;
                match word.cmpxchg(old, u64::from_ne_bytes(bytes), Relaxed) {
                    Ok(_) => break,
                    Err(now) => old = now,
                }
            }
        }
    }

    /// Makes this map the same as `other`, which is of a device of the same size. Neither may change
    /// meanwhile.
    pub(crate) fn copy_from(&self, other: &Self) {
        for (to, from) in self.words.iter().zip(other.words.iter()) {
            to.store(from.load(Relaxed), Relaxed);
        }
    }

    /// Forgets all changes.
    pub(crate) fn clear(&self) {
        for word in self.words.iter() {
            word.store(0, Relaxed);
        }
    }

    /// Copies the map's bytes from `first` on, as far as there are any, and returns their number.
    pub(crate) fn read(&self, first: u32, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let block = u64::from(first) + done as u64;
            if block >= u64::from(self.blocks()) {
                break;
            }
            let word = self.words[(block / WORD) as usize]
                .load(Relaxed)
                .to_ne_bytes();
            let rest = &word[(block % WORD) as usize..];
            let n = rest
                .len()
                .min(bytes.len() - done)
                .min((u64::from(self.blocks()) - block) as usize);
            bytes[done..done + n].copy_from_slice(&rest[..n]);
            done += n;
        }
        done
    }
}
