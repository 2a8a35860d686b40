// SPDX-License-Identifier: GPL-2.0

//! Where the original content of each chunk is.
//!
//! A chunk's state only moves forward:
//!
//! ```text
//!   Original --claim--> Copying --read--> Storing --stored--> Copied
//!       ^                  |                |
//!       +----- failed -----+----------------+   (the snapshot is given up first)
//! ```
//!
//! States are read without a lock, and changed only by whoever holds the lock of the jobs that the
//! states name. A chunk that is `Original` or `Copying` has not been overwritten on the original.

use kernel::{
    alloc::{AllocError, Flags},
    prelude::*,
    sync::{
        atomic::{
            ordering::{Acquire, Release},
            Atomic,
        },
        SetOnce, //
    },
};

/// Chunks in a leaf, which fills a page.
const LEAF: u64 = 512;

/// The state of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// On the original.
    Original,
    /// On the original, being read by the job with this number. Nobody may overwrite it.
    Copying(u32),
    /// In the memory of the job with this number, which is storing it.
    Storing(u32),
    /// In the storage, at this many chunks from its start.
    Copied(u64),
}

impl State {
    fn encode(self) -> u64 {
        match self {
            State::Original => 0,
            State::Copying(job) => u64::from(job) << 2 | 1,
            State::Storing(job) => u64::from(job) << 2 | 2,
            State::Copied(place) => place << 2 | 3,
        }
    }

    fn decode(word: u64) -> Self {
        let value = word >> 2;
        match word & 3 {
            0 => State::Original,
            1 => State::Copying(value as u32),
            2 => State::Storing(value as u32),
            _ => State::Copied(value),
        }
    }

    /// Whether the chunk's old content is still on the original.
    pub(crate) fn is_on_original(self) -> bool {
        matches!(self, State::Original | State::Copying(_))
    }
}

/// Memory for the states of chunks, not yet in use.
pub(crate) struct Leaf(KVec<Atomic<u64>>);

/// The states of all chunks of a device.
///
/// A leaf's memory is allocated when the first of its chunks is about to leave the original.
pub(crate) struct ChunkMap {
    leaves: KVVec<SetOnce<KVec<Atomic<u64>>>>,
    chunks: u64,
}

impl ChunkMap {
    /// The map of a device with this many chunks, all on the original.
    pub(crate) fn new(chunks: u64) -> Result<Self> {
        let nr = usize::try_from(chunks.div_ceil(LEAF))?;
        let mut leaves = KVVec::with_capacity(nr, GFP_KERNEL)?;
        for _ in 0..nr {
            leaves.push(SetOnce::new(), GFP_KERNEL)?;
        }
        Ok(Self { leaves, chunks })
    }

    /// Number of chunks.
    pub(crate) fn chunks(&self) -> u64 {
        self.chunks
    }

    fn word(&self, chunk: u64) -> Option<&Atomic<u64>> {
        let leaf = self.leaves.get((chunk / LEAF) as usize)?.as_ref()?;
        leaf.get((chunk % LEAF) as usize)
    }

    /// The state of a chunk. What happened before it got there is seen.
    pub(crate) fn get(&self, chunk: u64) -> State {
        match self.word(chunk) {
            Some(word) => State::decode(word.load(Acquire)),
            None => State::Original,
        }
    }

    /// The leaf that `chunk` needs before it can be [`set`](Self::set), if it is missing.
    pub(crate) fn new_leaf(&self, chunk: u64, flags: Flags) -> Result<Option<Leaf>, AllocError> {
        if self.word(chunk).is_some() {
            return Ok(None);
        }
        let mut leaf = KVec::with_capacity(LEAF as usize, flags)?;
        for _ in 0..LEAF {
            leaf.push(Atomic::new(State::Original.encode()), flags)?;
        }
        Ok(Some(Leaf(leaf)))
    }

    /// Puts the leaf in for `chunk`, unless somebody else has been faster. Under the jobs' lock.
    pub(crate) fn install(&self, chunk: u64, leaf: Leaf) {
        if let Some(slot) = self.leaves.get((chunk / LEAF) as usize) {
            slot.populate(leaf.0);
        }
    }

    /// Changes the state of a chunk whose leaf is there. What was done before is seen by whoever
    /// gets the new state. Under the jobs' lock.
    pub(crate) fn set(&self, chunk: u64, state: State) {
        if let Some(word) = self.word(chunk) {
            word.store(state.encode(), Release);
        }
    }

    /// How many chunks of `first..=last` from the first on, at most `max` and all of one leaf, are
    /// in the state that `expect` says for their place in the run.
    pub(crate) fn run(
        &self,
        first: u64,
        last: u64,
        max: u64,
        mut expect: impl FnMut(u64) -> State,
    ) -> u64 {
        let max = max
            .min(LEAF - first % LEAF)
            .min((last + 1).saturating_sub(first));
        let mut n = 0;
        while n < max && self.get(first + n) == expect(n) {
            n += 1;
        }
        n
    }
}
