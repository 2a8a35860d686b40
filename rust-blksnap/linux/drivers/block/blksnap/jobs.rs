// SPDX-License-Identifier: GPL-2.0

//! The copies of a device that are being made.
//!
//! Their number and the memory that they take are bounded. One buffer is kept back, so that there
//! is always one that can be made, whatever the memory situation: writing back dirty pages may
//! depend on it.

use crate::cow::Context;
use kernel::{
    block::bio::{BioList, Pages},
    prelude::*,
    sync::{
        atomic::{
            ordering::{Full, Relaxed, Release},
            Atomic,
        },
        Arc, //
    },
};

/// Copies that a device can have in flight.
pub(crate) const JOBS: usize = 256;

/// Memory that they may take together, in bytes.
const MAX_BUFFERED: usize = 16 << 20;

/// What a copy is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Reading the original.
    Read,
    /// Storing what was read.
    Store,
}

/// A copy of a run of chunks.
pub(crate) struct Job {
    /// First chunk.
    pub(crate) first: u64,
    /// Number of chunks.
    pub(crate) chunks: u64,
    /// Where in the storage it goes, in chunks.
    pub(crate) place: u64,
    /// Memory that was permitted, in bytes.
    pub(crate) bytes: usize,
    /// The old content, known when the phase is [`Phase::Store`].
    pub(crate) pages: Arc<Pages>,
    /// Whether the pages are those kept back.
    pub(crate) reserve: bool,
    pub(crate) phase: Phase,
    /// I/Os that have not ended.
    pub(crate) pending: u32,
    /// Writes to the original that wait until the old content is known.
    pub(crate) writers: BioList,
    /// Writes to the image that wait until it is stored.
    pub(crate) image_writers: BioList,
}

/// All copies. Whoever holds its lock may change the states of chunks.
pub(crate) struct Jobs {
    slots: KVec<Option<Job>>,
    free: KVec<u32>,
    buffered: usize,
    reserve: Option<Arc<Pages>>,
    /// Work items that run now, and may have bios in hand that are nowhere else.
    pub(crate) workers: u32,
    /// Writes to the original for which there was no room.
    pub(crate) parked: BioList,
    /// Writes to the image for which there was no room.
    pub(crate) image_parked: BioList,
}

/// Permission to make a copy.
pub(crate) struct Permit {
    pub(crate) job: u32,
    pub(crate) bytes: usize,
}

impl Jobs {
    /// No copies yet; `reserve` is the buffer to keep back.
    pub(crate) fn new(reserve: Pages) -> Result<Self> {
        let mut slots = KVec::with_capacity(JOBS, GFP_KERNEL)?;
        let mut free = KVec::with_capacity(JOBS, GFP_KERNEL)?;
        for job in (0..JOBS).rev() {
            slots.push(None, GFP_KERNEL)?;
            free.push(job as u32, GFP_KERNEL)?;
        }
        Ok(Self {
            slots,
            free,
            buffered: 0,
            reserve: Some(Arc::new(reserve, GFP_KERNEL)?),
            workers: 0,
            parked: BioList::new(),
            image_parked: BioList::new(),
        })
    }

    /// Whether nothing is being copied and nobody waits for it.
    pub(crate) fn is_idle(&self) -> bool {
        self.workers == 0
            && self.free.len() == JOBS
            && self.parked.is_empty()
            && self.image_parked.is_empty()
    }

    /// Whether nothing is being copied.
    pub(crate) fn none_in_flight(&self) -> bool {
        self.free.len() == JOBS
    }

    /// Permission for a copy of `bytes`, if there is room. The worker can always make one. A
    /// submitter must not overtake those that are parked.
    pub(crate) fn permit(&mut self, bytes: usize, context: Context) -> Option<Permit> {
        if context == Context::Submitter && !self.parked.is_empty() {
            return None;
        }
        if self.buffered > 0 && self.buffered + bytes > MAX_BUFFERED {
            return None;
        }
        let job = self.free.pop()?;
        self.buffered += bytes;
        Some(Permit { job, bytes })
    }

    /// Gives an unused permission back, and the pages if they were those kept back.
    pub(crate) fn give_back(&mut self, permit: Permit, reserve: Option<Arc<Pages>>) {
        self.buffered -= permit.bytes;
        self.slots[permit.job as usize] = None;
        // Within capacity: the number came from here.
        let _ = self.free.push_within_capacity(permit.job);
        if reserve.is_some() {
            self.reserve = reserve;
        }
    }

    /// The pages that are kept back, if nobody has them.
    pub(crate) fn take_reserve(&mut self) -> Option<Arc<Pages>> {
        self.reserve.take()
    }

    /// Makes use of a permission.
    pub(crate) fn start(&mut self, permit: &Permit, job: Job) {
        self.slots[permit.job as usize] = Some(job);
    }

    /// The copy with this number.
    pub(crate) fn get(&mut self, job: u32) -> Option<&mut Job> {
        self.slots.get_mut(job as usize)?.as_mut()
    }

    /// Ends a copy.
    pub(crate) fn finish(&mut self, job: u32) -> Option<Job> {
        let done = self.slots.get_mut(job as usize)?.take()?;
        self.buffered -= done.bytes;
        let _ = self.free.push_within_capacity(job);
        Some(done)
    }

    /// Keeps pages back again that nobody uses any more.
    pub(crate) fn refill_reserve(&mut self, pages: Arc<Pages>) {
        self.reserve = Some(pages);
    }
}

/// What the I/Os of the copies came to, written in whatever context they end in and read by the
/// worker.
pub(crate) struct Ended {
    jobs: [Atomic<u64>; JOBS / 64],
    count: KVec<Atomic<u32>>,
    errno: KVec<Atomic<i32>>,
}

impl Ended {
    pub(crate) fn new() -> Result<Self> {
        let mut count = KVec::with_capacity(JOBS, GFP_KERNEL)?;
        let mut errno = KVec::with_capacity(JOBS, GFP_KERNEL)?;
        for _ in 0..JOBS {
            count.push(Atomic::new(0), GFP_KERNEL)?;
            errno.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Ok(Self {
            jobs: [const { Atomic::new(0) }; JOBS / 64],
            count,
            errno,
        })
    }

    /// An I/O of `job` has ended.
    pub(crate) fn record(&self, job: u32, result: Result) {
        if let Err(e) = result {
            // One of them is as good as the other.
            let _ = self.errno[job as usize].cmpxchg(0, e.to_errno(), Relaxed);
        }
        // Whoever sees the count sees the error.
        self.count[job as usize].fetch_add(1, Release);

        let word = &self.jobs[job as usize / 64];
        let bit = 1u64 << (job % 64);
        let mut old = word.load(Relaxed);
        // Fully ordered, so that whoever sees the bit sees the count too.
        while let Err(now) = word.cmpxchg(old, old | bit, Full) {
            old = now;
        }
    }

    /// Calls `f` with each copy that had I/Os end since, their number, and the error of one of
    /// them.
    pub(crate) fn take(&self, mut f: impl FnMut(u32, u32, Result)) -> bool {
        let mut any = false;
        for (i, word) in self.jobs.iter().enumerate() {
            let mut bits = word.xchg(0, Full);
            while bits != 0 {
                let job = i as u32 * 64 + bits.trailing_zeros();
                bits &= bits - 1;
                let count = self.count[job as usize].xchg(0, Full);
                if count == 0 {
                    // Taken with an earlier one; an error that is there is that of a later one.
                    continue;
                }
                let errno = self.errno[job as usize].xchg(0, Full);
                any = true;
                f(job, count, kernel::error::to_result(errno));
            }
        }
        any
    }
}
