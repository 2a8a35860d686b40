// SPDX-License-Identifier: GPL-2.0

//! Where the original content of each chunk is.
//!
//! A chunk's state only moves forward:
//!
//! ```text
//!   Original --claim--> Copying --read--> Storing --stored--> Copied
//!       ^                  |                |
//!       +----- failed -----+----------------+
//! ```
//!
//! The snapshot is given up before a state goes back, unless the original could not be read: then
//! nobody has been let overwrite it.
//!
//! States are changed only by whoever holds the lock of the jobs that the states name. A chunk that
//! is `Original` or `Copying` has not been overwritten on the original.
//!
//! Chunks are grouped in regions. A region with few chunks that have left the original has a sorted
//! list of those, so that copies far from each other take little memory; it is read under a lock,
//! which several regions share, unless it has always been empty. One with many has a word for each
//! of its chunks, read without a lock, and keeps it.

use kernel::{
    alloc::{AllocError, Flags},
    new_spinlock_irq,
    prelude::*,
    sync::{
        atomic::{
            ordering::{Acquire, Relaxed, Release},
            Atomic,
        },
        Arc,
        SetOnce,
        SpinLockIrq, //
    },
};

/// Chunks in a region. The words of all of them fill a page.
const REGION: u64 = 512;

/// The longest list. With one more chunk, a word for each is hardly more memory.
const FEW: usize = 256;

/// Locks that the lists of all regions share.
const SHARDS: u64 = 64;

/// Bits of a word that hold a state. In a list, the chunk's number in its region is above them.
const STATE_BITS: u32 = 55;

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

/// The lists of some regions.
#[pin_data]
struct Shard {
    #[pin]
    lists: SpinLockIrq<KVVec<KVec<u64>>>,
}

/// What is known of a region.
enum Region<'a> {
    Few(&'a [u64]),
    All(&'a [Atomic<u64>]),
}

impl Region<'_> {
    fn get(&self, index: u64) -> State {
        let word = match self {
            Region::Few(list) => match search(list, index) {
                Ok(at) => list[at],
                Err(_) => return State::Original,
            },
            Region::All(words) => words[index as usize].load(Acquire),
        };
        State::decode(word & ((1 << STATE_BITS) - 1))
    }
}

/// Where in a list a chunk is, or else where it belongs.
fn search(list: &[u64], index: u64) -> Result<usize, usize> {
    list.binary_search_by_key(&index, |word| word >> STATE_BITS)
}

/// Memory for the states of chunks: not yet in use, or no longer.
pub(crate) struct Room {
    list: KVec<u64>,
    words: KVec<Atomic<u64>>,
}

/// The states of all chunks of a device.
pub(crate) struct ChunkMap {
    regions: KVVec<SetOnce<KVec<Atomic<u64>>>>,
    shards: KVec<Arc<Shard>>,
    /// A bit for each region, set before any of its chunks leaves the original.
    touched: KVVec<Atomic<u64>>,
    chunks: u64,
}

impl ChunkMap {
    /// The map of a device with this many chunks, all on the original.
    pub(crate) fn new(chunks: u64) -> Result<Self> {
        let nr = usize::try_from(chunks.div_ceil(REGION))?;
        let mut regions = KVVec::with_capacity(nr, GFP_KERNEL)?;
        for _ in 0..nr {
            regions.push(SetOnce::new(), GFP_KERNEL)?;
        }

        let mut shards = KVec::with_capacity(SHARDS as usize, GFP_KERNEL)?;
        let each = nr.div_ceil(SHARDS as usize);
        for _ in 0..SHARDS {
            let mut lists = KVVec::with_capacity(each, GFP_KERNEL)?;
            for _ in 0..each {
                lists.push(KVec::new(), GFP_KERNEL)?;
            }
            let shard = Arc::pin_init(
                try_pin_init!(Shard {
                    lists <- new_spinlock_irq!(lists, "blksnap::chunks"),
                }),
                GFP_KERNEL,
            )?;
            shards.push(shard, GFP_KERNEL)?;
        }
        let mut touched = KVVec::with_capacity(nr.div_ceil(64), GFP_KERNEL)?;
        for _ in 0..nr.div_ceil(64) {
            touched.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Ok(Self {
            regions,
            shards,
            touched,
            chunks,
        })
    }

    /// Number of chunks.
    pub(crate) fn chunks(&self) -> u64 {
        self.chunks
    }

    /// The words of a region, if it has them.
    fn words(&self, region: u64) -> Option<&KVec<Atomic<u64>>> {
        self.regions.get(region as usize)?.as_ref()
    }

    /// Calls `f` with the list of a region, unless that has words or does not exist.
    fn with_list<R>(&self, region: u64, f: impl FnOnce(&mut KVec<u64>) -> R) -> Option<R> {
        let words = self.regions.get(region as usize)?;
        let mut lists = self.shards[(region % SHARDS) as usize].lists.lock();
        // It gets them under the lock.
        if words.as_ref().is_some() {
            return None;
        }
        Some(f(&mut lists[(region / SHARDS) as usize]))
    }

    /// Calls `f` with what is known of the region of `chunk`.
    fn look<R>(&self, chunk: u64, mut f: impl FnMut(Region<'_>) -> R) -> R {
        let region = chunk / REGION;
        if self.is_touched(region) && self.words(region).is_none() {
            if let Some(told) = self.with_list(region, |list| f(Region::Few(list))) {
                return told;
            }
        }
        match self.words(region) {
            Some(words) => f(Region::All(words)),
            None => f(Region::Few(&[])),
        }
    }

    /// Whether a chunk of the region may have left the original. What happened before it did is
    /// seen.
    fn is_touched(&self, region: u64) -> bool {
        let word = self.touched.get(region as usize / 64);
        word.is_some_and(|word| word.load(Acquire) & 1 << (region % 64) != 0)
    }

    /// Under the jobs' lock.
    fn touch(&self, region: u64) {
        // Others read the word all the time, and few copies are the first of their region.
        if self.is_touched(region) {
            return;
        }
        if let Some(word) = self.touched.get(region as usize / 64) {
            // Nobody else changes it.
            word.store(word.load(Relaxed) | 1 << (region % 64), Release);
        }
    }

    /// The state of a chunk. What happened before it got there is seen.
    pub(crate) fn get(&self, chunk: u64) -> State {
        self.look(chunk, |region| region.get(chunk % REGION))
    }

    /// The memory that `first` and the `chunks - 1` that follow it in its region need before they
    /// can be [`set`](Self::set).
    pub(crate) fn room(&self, first: u64, chunks: u64, flags: Flags) -> Result<Room, AllocError> {
        let mut room = Room {
            list: KVec::new(),
            words: KVec::new(),
        };
        // Some of them may be on the list already: that is seldom, and one chunk too much.
        let need = self.with_list(first / REGION, |list| {
            let need = list.len() + chunks as usize;
            (need > list.capacity()).then_some(need)
        });
        match need.flatten() {
            Some(need) if need > FEW => {
                room.words = KVec::with_capacity(REGION as usize, flags)?;
                for _ in 0..REGION {
                    room.words
                        .push(Atomic::new(State::Original.encode()), flags)?;
                }
            }
            Some(need) => room.list = KVec::with_capacity(need.next_power_of_two(), flags)?,
            None => {}
        }
        Ok(room)
    }

    /// Makes use of the memory, if it is still needed. Says whether there is room for the chunks
    /// now. Under the jobs' lock; what is in `room` afterwards is not in use.
    pub(crate) fn install(&self, first: u64, chunks: u64, room: &mut Room) -> bool {
        let region = first / REGION;
        self.touch(region);
        let fits = self.with_list(region, |list| {
            let need = list.len() + chunks as usize;
            if need <= list.capacity() {
                return true;
            }
            if !room.words.is_empty() {
                for word in list.iter() {
                    let state = word & ((1 << STATE_BITS) - 1);
                    room.words[(word >> STATE_BITS) as usize].store(state, Release);
                }
                room.list = core::mem::take(list);
                self.regions[region as usize].populate(core::mem::take(&mut room.words));
                return true;
            }
            if need <= room.list.capacity() {
                for &word in list.iter() {
                    // Within capacity.
                    let _ = room.list.push_within_capacity(word);
                }
                core::mem::swap(list, &mut room.list);
                return true;
            }
            false
        });
        fits.unwrap_or(true)
    }

    /// Changes the state of `first` and the `chunks - 1` that follow it in its region, for which
    /// there is room, to what `state` says for their place in the run. What was done before is seen
    /// by whoever gets the new state. Under the jobs' lock.
    pub(crate) fn set_run(&self, first: u64, chunks: u64, state: impl Fn(u64) -> State) {
        let (region, index) = (first / REGION, first % REGION);
        if let Some(words) = self.words(region) {
            for i in 0..chunks {
                words[(index + i) as usize].store(state(i).encode(), Release);
            }
            return;
        }
        self.with_list(region, |list| {
            let start = search(list, index).unwrap_or_else(|at| at);
            for i in 0..chunks {
                let at = start + i as usize;
                let word = (index + i) << STATE_BITS | state(i).encode();
                if list.get(at).map(|word| word >> STATE_BITS) == Some(index + i) {
                    list[at] = word;
                } else if list.push_within_capacity(word).is_ok() {
                    list[at..].rotate_right(1);
                }
            }
        });
    }

    /// How many chunks of `first..=last` from the first on, at most `max` and all of one region,
    /// are in the state that `expect` says for their place in the run.
    pub(crate) fn run(
        &self,
        first: u64,
        last: u64,
        max: u64,
        mut expect: impl FnMut(u64) -> State,
    ) -> u64 {
        self.run_of(first, last, max, |n, state| state == expect(n))
    }

    /// How many chunks of `first..=last` from the first on are on the original.
    pub(crate) fn on_original(&self, first: u64, last: u64) -> u64 {
        self.in_a_row(first, last, State::is_on_original)
    }

    /// How many chunks of `first..=last` from the first on may be overwritten on the original.
    pub(crate) fn off_original(&self, first: u64, last: u64) -> u64 {
        self.in_a_row(first, last, |state| !state.is_on_original())
    }

    fn in_a_row(&self, first: u64, last: u64, fits: impl Fn(State) -> bool) -> u64 {
        let mut n = 0;
        loop {
            match self.run_of(first + n, last, u64::MAX, |_, state| fits(state)) {
                0 => return n,
                more => n += more,
            }
        }
    }

    /// How many chunks of `first..=last` from the first on, at most `max` and all of one region,
    /// are in a state that `fits`, which is called with their place in the run.
    fn run_of(
        &self,
        first: u64,
        last: u64,
        max: u64,
        mut fits: impl FnMut(u64, State) -> bool,
    ) -> u64 {
        let index = first % REGION;
        let max = max
            .min(REGION - index)
            .min((last + 1).saturating_sub(first));
        self.look(first, |region| {
            let mut n = 0;
            while n < max && fits(n, region.get(index + n)) {
                n += 1;
            }
            n
        })
    }

    /// How many chunks before `chunk` in a row have left the original, or are about to, at most
    /// `max`.
    pub(crate) fn copied_before(&self, chunk: u64, max: u64) -> u64 {
        let max = max.min(chunk);
        let mut n = 0;
        while n < max {
            let before = chunk - n - 1;
            let index = before % REGION;
            let most = (max - n).min(index + 1);
            let found = self.look(before, |region| {
                (0..most)
                    .take_while(|i| region.get(index - i) != State::Original)
                    .count() as u64
            });
            n += found;
            if found < most {
                break;
            }
        }
        n
    }

    /// Chunks around `chunk` that are on the original and may well be written too, so that they
    /// are better copied with it: those next to it within `block`, if any other has left the
    /// original within `vicinity`. Both are powers of two, at most a region.
    pub(crate) fn around(&self, chunk: u64, block: u64, vicinity: u64) -> (u64, u64) {
        let index = chunk % REGION;
        let start = |size: u64| index & !(size - 1);
        let (near, block) = (
            start(vicinity)..start(vicinity) + vicinity,
            start(block)..start(block) + block,
        );
        let is_original = |region: &Region<'_>, index| region.get(index) == State::Original;
        let (first, last) = self.look(chunk, |region| {
            let alone = match region {
                Region::Few(list) => {
                    let at = list.partition_point(|word| word >> STATE_BITS < near.start);
                    list.get(at)
                        .is_none_or(|word| word >> STATE_BITS >= near.end)
                }
                Region::All(_) => near.clone().all(|index| is_original(&region, index)),
            };
            let (mut first, mut last) = (index, index);
            if !alone {
                while first > block.start && is_original(&region, first - 1) {
                    first -= 1;
                }
                while last + 1 < block.end && is_original(&region, last + 1) {
                    last += 1;
                }
            }
            (first, last)
        });
        let region = chunk - index;
        (region + first, (region + last).min(self.chunks - 1))
    }
}
