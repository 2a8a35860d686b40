// SPDX-License-Identifier: GPL-2.0

//! The copies of a device that are being made.
//!
//! Their number and the memory that they take are bounded. One buffer is kept back, so that there
//! is always one that can be made, whatever the memory situation: writing back dirty pages may
//! depend on it.

use crate::cow::{Context, Counters};
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

/// Beyond so much, in bytes, nothing is copied ahead: those who write are ahead themselves.
const MAX_BUFFERED_AHEAD: usize = 2 << 20;

/// Contents of so many bytes are stored together.
const BATCH: usize = 256 << 10;

/// How often a copy looks in vain for room in a storage that is growing, once every
/// [`PATIENCE`](crate::cow::PATIENCE): ten seconds and more, of which it takes a fraction.
const MAX_RETRIES: u32 = 2000;

/// What a copy is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Reading the original.
    Read,
    /// Storing what was read, or waiting for others to be stored with.
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
    /// Other copies that are stored by the same I/O, and end with this one.
    pub(crate) others: KVec<u32>,
    /// Memory that was permitted, in bytes.
    pub(crate) bytes: usize,
    /// The old content, known when the phase is [`Phase::Store`].
    pub(crate) pages: Arc<Pages>,
    /// Whether the pages are those kept back.
    pub(crate) reserve: bool,
    /// Whether there are chunks that nobody is known to write.
    pub(crate) more: bool,
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
    /// How many there may be at once.
    max: usize,
    buffered: usize,
    chunks_copied: u64,
    copies_failed: u64,
    waits: u64,
    reserve: Option<Arc<Pages>>,
    /// Copies whose content is in memory and not yet being stored, with their places.
    ready: KVec<(u64, u32)>,
    ready_bytes: usize,
    /// An empty list, to become the next one of these.
    spare: KVec<(u64, u32)>,
    /// Whether somebody waits for those to be stored.
    pub(crate) hurry: bool,
    /// Whether a time is set after which they are stored, and room is looked for again.
    pub(crate) timer: bool,
    /// Whether a copy waits for the storage to grow.
    pub(crate) starved: bool,
    /// How often in a row it has been tried again since.
    retries: u32,
    /// Work items that run now, and may have bios in hand that are nowhere else.
    pub(crate) workers: u32,
    /// Writes to the original for which there was no room.
    pub(crate) parked: BioList,
    /// Writes to the image for which there was no room.
    pub(crate) image_parked: BioList,
}

/// What is to be done about copies whose content is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// To wait for more.
    Later,
    /// To wait for more, for a certain time, which nobody has set yet.
    SetTimer,
    /// To store them.
    Now,
}

/// Permission to make a copy.
pub(crate) struct Permit {
    pub(crate) job: u32,
    pub(crate) bytes: usize,
}

impl Jobs {
    /// No copies yet, and at most `max` at once; `reserve` is the buffer to keep back.
    pub(crate) fn new(reserve: Pages, max: u32) -> Result<Self> {
        let mut slots = KVec::with_capacity(JOBS, GFP_KERNEL)?;
        let mut free = KVec::with_capacity(JOBS, GFP_KERNEL)?;
        for job in (0..JOBS).rev() {
            slots.push(None, GFP_KERNEL)?;
            free.push(job as u32, GFP_KERNEL)?;
        }
        Ok(Self {
            slots,
            free,
            max: (max as usize).clamp(1, JOBS),
            buffered: 0,
            chunks_copied: 0,
            copies_failed: 0,
            waits: 0,
            reserve: Some(Arc::new(reserve, GFP_KERNEL)?),
            ready: KVec::with_capacity(JOBS, GFP_KERNEL)?,
            ready_bytes: 0,
            spare: KVec::with_capacity(JOBS, GFP_KERNEL)?,
            hurry: false,
            timer: false,
            starved: false,
            retries: 0,
            workers: 0,
            parked: BioList::new(),
            image_parked: BioList::new(),
        })
    }

    /// Whether nothing is being copied and nobody waits for it.
    pub(crate) fn is_idle(&self) -> bool {
        self.workers == 0
            && !self.timer
            && self.free.len() == JOBS
            && self.parked.is_empty()
            && self.image_parked.is_empty()
    }

    /// What has been done so far, as far as it is known here.
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            chunks_copied: self.chunks_copied,
            copies_failed: self.copies_failed,
            waits: self.waits,
            jobs_in_flight: self.in_flight() as u64,
            buffered_bytes: self.buffered as u64,
            parked: (self.parked.len() + self.image_parked.len()) as u64,
            ..Counters::default()
        }
    }

    /// A write has to wait, for its copy or for room for it.
    pub(crate) fn count_wait(&mut self) {
        self.waits += 1;
    }

    /// How many copies there are, or are permitted.
    pub(crate) fn in_flight(&self) -> usize {
        JOBS - self.free.len()
    }

    /// Whether nothing is being copied.
    pub(crate) fn none_in_flight(&self) -> bool {
        self.in_flight() == 0
    }

    /// Whether nothing will end unless somebody is told to store.
    pub(crate) fn needs_kick(&self) -> bool {
        self.none_in_flight() || !self.ready.is_empty()
    }

    /// The content of a copy is in memory. Gives back the writes that waited for it.
    pub(crate) fn is_read(&mut self, number: u32) -> BioList {
        let Some(job) = self.get(number) else {
            return BioList::new();
        };
        job.phase = Phase::Store;
        let (place, bytes) = (job.place, job.bytes);
        let writers = core::mem::take(&mut job.writers);
        // Those that have no other memory must have theirs back, and writes to the image wait.
        let urgent = job.reserve || !job.image_writers.is_empty();
        self.hurry |= urgent;
        self.ready_bytes += bytes;
        // Within capacity: there are no more than copies.
        let _ = self.ready.push_within_capacity((place, number));
        writers
    }

    /// What is to be done about the copies whose content is in memory. A timer that is to be set
    /// counts as set.
    pub(crate) fn due(&mut self) -> Due {
        let wanted = !self.parked.is_empty() || !self.image_parked.is_empty();
        if !self.ready.is_empty() && (self.hurry || wanted || self.ready_bytes >= BATCH) {
            return Due::Now;
        }
        if self.ready.is_empty() && !self.starved {
            return Due::Later;
        }
        match core::mem::replace(&mut self.timer, true) {
            true => Due::Later,
            false => Due::SetTimer,
        }
    }

    /// There was no room in the storage for a copy, but there may be later. Says whether to wait for
    /// that: not for ever, since what makes room may depend on a write that is held.
    pub(crate) fn starve(&mut self) -> bool {
        self.starved |= self.retries < MAX_RETRIES;
        self.starved
    }

    /// There was room in the storage for a copy.
    pub(crate) fn feed(&mut self) {
        self.retries = 0;
    }

    /// The time has come to store what there is, and to look for room again.
    pub(crate) fn time_is_up(&mut self) {
        self.timer = false;
        self.hurry = true;
        if core::mem::take(&mut self.starved) {
            self.retries += 1;
        }
    }

    /// Takes the writes to the original for which there may be room now.
    pub(crate) fn take_parked(&mut self) -> BioList {
        match self.starved {
            true => BioList::new(),
            false => core::mem::take(&mut self.parked),
        }
    }

    /// Takes the writes to the image for which there may be room now.
    pub(crate) fn take_image_parked(&mut self) -> BioList {
        match self.starved {
            true => BioList::new(),
            false => core::mem::take(&mut self.image_parked),
        }
    }

    /// Takes the copies whose content is in memory, with their places. To be given back with
    /// [`done_with`](Self::done_with) before others are taken.
    pub(crate) fn take_ready(&mut self) -> KVec<(u64, u32)> {
        self.ready_bytes = 0;
        self.hurry = false;
        core::mem::replace(&mut self.ready, core::mem::take(&mut self.spare))
    }

    /// Gives the memory of a list back.
    pub(crate) fn done_with(&mut self, mut list: KVec<(u64, u32)>) {
        list.clear();
        self.spare = list;
    }

    /// Permission for a copy of `bytes`, if there is room. The worker can always make one. Nobody
    /// else must overtake those that are parked, and what is copied ahead leaves room for others.
    pub(crate) fn permit(&mut self, bytes: usize, context: Context) -> Option<Permit> {
        if context != Context::Worker && !self.parked.is_empty() {
            return None;
        }
        let (max, max_buffered) = match context {
            Context::Ahead => (self.max / 2, MAX_BUFFERED_AHEAD),
            Context::Submitter | Context::Worker => (self.max, MAX_BUFFERED),
        };
        if self.buffered > 0 && self.buffered + bytes > max_buffered {
            return None;
        }
        if self.in_flight() >= max {
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

    /// Ends a copy that is `stored`, or that has failed.
    pub(crate) fn finish(&mut self, job: u32, stored: bool) -> Option<Job> {
        let done = self.slots.get_mut(job as usize)?.take()?;
        self.buffered -= done.bytes;
        match stored {
            true => self.chunks_copied += done.chunks,
            false => self.copies_failed += 1,
        }
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
    /// Whether whoever submits the only I/O of a copy looks after its end.
    watch: KVec<Atomic<u32>>,
}

/// Nobody looks after the end of an I/O but the worker.
const UNWATCHED: u32 = 0;
/// Its submitter does.
const WATCHED: u32 = 1;
/// It has ended, and its submitter is about to see that.
const SEEN: u32 = 2;

impl Ended {
    pub(crate) fn new() -> Result<Self> {
        let mut count = KVec::with_capacity(JOBS, GFP_KERNEL)?;
        let mut errno = KVec::with_capacity(JOBS, GFP_KERNEL)?;
        let mut watch = KVec::with_capacity(JOBS, GFP_KERNEL)?;
        for _ in 0..JOBS {
            count.push(Atomic::new(0), GFP_KERNEL)?;
            errno.push(Atomic::new(0), GFP_KERNEL)?;
            watch.push(Atomic::new(UNWATCHED), GFP_KERNEL)?;
        }
        Ok(Self {
            jobs: [const { Atomic::new(0) }; JOBS / 64],
            count,
            errno,
            watch,
        })
    }

    /// Whoever is about to submit the only I/O of `job` will [`look`](Self::look) whether it has
    /// ended by then.
    pub(crate) fn watch(&self, job: u32) {
        self.watch[job as usize].store(WATCHED, Relaxed);
    }

    /// Whether the I/O of `job` has ended already, and how. The worker is told nothing of it then;
    /// if it has not, the worker will be.
    pub(crate) fn look(&self, job: u32) -> Option<Result> {
        if self.watch[job as usize].xchg(UNWATCHED, Full) != SEEN {
            return None;
        }
        let errno = self.errno[job as usize].xchg(0, Full);
        Some(kernel::error::to_result(errno))
    }

    /// An I/O of `job` has ended. Says whether that is for the worker.
    pub(crate) fn record(&self, job: u32, result: Result) -> bool {
        if let Err(e) = result {
            // One of them is as good as the other.
            let _ = self.errno[job as usize].cmpxchg(0, e.to_errno(), Relaxed);
        }
        let watch = &self.watch[job as usize];
        // Fully ordered, so that whoever sees that it has ended sees the error.
        if watch.load(Relaxed) == WATCHED && watch.cmpxchg(WATCHED, SEEN, Full).is_ok() {
            return false;
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
        true
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
