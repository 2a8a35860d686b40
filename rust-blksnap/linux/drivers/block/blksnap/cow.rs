// SPDX-License-Identifier: GPL-2.0

//! Copy-on-write of one device.
//!
//! A write to a chunk that is still [`Original`](State::Original) claims it, has the old content
//! read into memory and is held until it is there. The content is then stored while the write goes
//! on. Nothing here waits in the submitter's context; what cannot be done there, for lack of memory
//! or of room for another copy, is left to the worker.
//!
//! Locks: `jobs` is taken in task context only and protects the copies and every change of a
//! chunk's state. I/O ends in any context; it is recorded without a lock, for the worker.

use crate::{
    ahead::{Ahead, Reach},
    chunk_map::{ChunkMap, State},
    image::ImageIo,
    jobs::{Due, Ended, Job, Jobs, Permit, Phase},
    ranges::Ranges,
    space::Room,
    storage::{Storage, Target},
    trace,
};
use core::ops::Range;
use kernel::{
    alloc::Flags,
    block::{
        bdev::{BlockDevice, IoLimits},
        bio::{self, Bio, BioList, EndedIo, IoOwner, IoPool, Op, Pages},
        SECTOR_SHIFT, //
    },
    fs::MemoryFile,
    impl_has_hr_timer, impl_has_work, new_condvar, new_spinlock, new_spinlock_irq, new_work,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            ordering::{Acquire, Full, Relaxed, Release},
            Atomic,
        },
        rcu,
        Arc,
        ArcBorrow,
        CondVar,
        SpinLock,
        SpinLockGuard,
        SpinLockIrq, //
    },
    time::{
        hrtimer::{
            ArcHrTimerHandle,
            HrTimer,
            HrTimerCallback,
            HrTimerCallbackContext,
            HrTimerPointer,
            HrTimerRestart,
            RelativeMode, //
        },
        Delta,
        Monotonic, //
    },
    workqueue::{OwnedQueue, Work, WorkItem},
};

/// Largest copy, in bytes.
const MAX_COPY: u64 = 256 << 10;

/// Where something has been copied already, at least so much is copied at once, in bytes: writes
/// tend to have neighbours. It is the most that can be copied in vain for each chunk.
const BLOCK: u64 = 16 << 10;

/// How far that reaches, in bytes.
const VICINITY: u64 = 256 << 10;

/// What follows so much that has been copied in a row is likely to be written through, and copied
/// ahead, in bytes.
const STREAM: u64 = 64 << 10;

/// How much is copied ahead of a stream of writes at once, in bytes. Twice as much may be copied in
/// vain where one stops.
const PORTION: u64 = 512 << 10;

/// It does not go over a multiple of this, in bytes.
const AHEAD_STOP: u64 = 16 << 20;

/// Nothing is copied ahead when less than this part of the storage's limit is left, nor more by one
/// copy than this part of what is free.
const AHEAD_SHARE: u64 = 8;

/// Enough bits for the number of chunks of a copy.
const NR_BITS: u32 = 8;

/// How long the content of a copy is kept in memory to be stored with others, and how long a copy
/// for which there is no room waits until it looks again, in milliseconds.
pub(crate) const PATIENCE: i64 = 5;

/// I/Os that can always be made, whatever the memory situation.
const RESERVED_IOS: u32 = 16;

/// How large chunks are, and how many copies are made at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Smallest chunk, in bytes as a power of two.
    pub(crate) min_shift: u32,
    /// Chunks are made larger for devices that would have more than this many, as a power of two,
    pub(crate) max_count_shift: u32,
    /// but not larger than this, in bytes as a power of two.
    pub(crate) max_shift: u32,
    /// Copies in flight.
    pub(crate) max_jobs: u32,
}

impl Sizes {
    /// The size of the chunks of a device, in sectors as a power of two. At least a page, which is
    /// what is copied, and a block of the device, and at most the largest copy.
    fn chunk_shift(&self, sectors: u64, block_size: u32) -> u32 {
        let least = block_size.max(PAGE_SIZE as u32).ilog2();
        let limits = least..=MAX_COPY.ilog2().max(least);
        let min = self.min_shift.clamp(*limits.start(), *limits.end());
        let max = self.max_shift.clamp(min, *limits.end());
        let max_count = 1u64 << self.max_count_shift.min(63);

        let mut shift = min - SECTOR_SHIFT;
        while shift < max - SECTOR_SHIFT && sectors >> shift > max_count {
            shift += 1;
        }
        shift
    }
}

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) chunk_bytes: u64,
    pub(crate) chunks_copied: u64,
    pub(crate) copies_failed: u64,
    pub(crate) jobs_in_flight: u64,
    pub(crate) buffered_bytes: u64,
    pub(crate) parked: u64,
    pub(crate) waits: u64,
    pub(crate) refused: u64,
    pub(crate) image_reads: u64,
    pub(crate) image_writes: u64,
    pub(crate) late_reads: u64,
}

/// Number of the work item that makes copies.
pub(crate) const COPY: u64 = 0;

/// Number of the work item that serves the image.
pub(crate) const IMAGE: u64 = 1;

/// Number of the work item that makes copies ahead of streams of writes.
pub(crate) const AHEAD: u64 = 2;

/// Who asks for a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// A submitter, who must not be held up.
    Submitter,
    /// The worker, who may wait for memory if it must.
    Worker,
    /// Nobody yet: it is made only if there is plenty of everything.
    Ahead,
}

impl Context {
    fn flags(self) -> Flags {
        match self {
            Context::Submitter | Context::Ahead => GFP_NOWAIT | __GFP_NOWARN,
            // Others may be waiting for this to go on.
            Context::Worker => GFP_NOIO | __GFP_RETRY_MAYFAIL | __GFP_NOWARN,
        }
    }
}

/// Why a copy was not started.
#[derive(Debug, PartialEq)]
pub(crate) enum Stop {
    /// Not now: no memory, or no room for another one here or in the storage.
    Busy,
    /// The snapshot has been given up.
    Failed,
}

/// What each I/O of a copy carries.
pub(crate) struct CopyIo {
    cow: Arc<Cow>,
    job: u32,
}

impl IoOwner for CopyIo {
    fn complete(io: EndedIo<Self>) {
        // Whoever waits until nothing is in flight waits for this to return, too.
        let _rcu = rcu::read_lock();
        let result = io.result();
        // Freed here and not by the worker, who may be waiting for this memory.
        let CopyIo { cow, job } = io.into_data();
        if cow.ended.record(job, result) {
            cow.kick_copy();
        }
    }
}

/// The copy-on-write state of a device that is in a snapshot.
#[pin_data]
pub(crate) struct Cow {
    pub(crate) origin: ARef<BlockDevice>,
    /// Where the device begins on its disk, in sectors: bios come with the disk's.
    start: u64,
    pub(crate) sectors: u64,
    /// Sectors in a chunk, as a power of two.
    chunk_shift: u32,
    pub(crate) map: ChunkMap,
    ahead: Ahead,
    /// Whether reads of the original are waited for, see [`set_reads_wait`](Self::set_reads_wait).
    reads_wait: Atomic<u32>,
    pub(crate) storage: Arc<Storage>,
    /// What of the device lies under the storage, and reads as zeroes in the image.
    excluded: Ranges,
    /// Negative once the snapshot is given up.
    errno: Atomic<i32>,
    #[pin]
    pub(crate) jobs: SpinLock<Jobs>,
    /// Notified when the copies come to rest.
    #[pin]
    idle: CondVar,
    ended: Ended,
    pool: Arc<IoPool<CopyIo>>,
    /// Bios that the image's worker has to begin with.
    #[pin]
    pub(crate) image: SpinLockIrq<BioList>,
    /// Parts of bios for the image that are being worked on.
    pub(crate) image_in_flight: Atomic<u32>,
    /// Notified when the last I/O of the image has ended.
    #[pin]
    pub(crate) image_idle: CondVar,
    pub(crate) image_pool: Arc<IoPool<ImageIo>>,
    pub(crate) image_reads: Atomic<u64>,
    pub(crate) image_writes: Atomic<u64>,
    pub(crate) late_reads: Atomic<u64>,
    /// Writes that must not wait and would have had to.
    refused: Atomic<u64>,
    /// Chunks of which some could not be read, the latest ones: the first of them, above
    /// [`NR_BITS`] bits with their number.
    unreadable: Atomic<u64>,
    queue: Arc<OwnedQueue>,
    #[pin]
    copy_work: Work<Cow, COPY>,
    #[pin]
    image_work: Work<Cow, IMAGE>,
    /// Ends the wait of copies for others.
    #[pin]
    timer: HrTimer<Cow>,
    /// Set by the timer.
    time_is_up: Atomic<u32>,
    /// The timer while it is set, and until what it is for has been done.
    #[pin]
    timing: SpinLock<Option<ArcHrTimerHandle<Cow>>>,
    #[pin]
    ahead_work: Work<Cow, AHEAD>,
}

impl_has_work! {
    impl HasWork<Self, COPY> for Cow { self.copy_work }
    impl HasWork<Self, IMAGE> for Cow { self.image_work }
    impl HasWork<Self, AHEAD> for Cow { self.ahead_work }
}

impl_has_hr_timer! {
    impl HasHrTimer<Self> for Cow {
        mode: RelativeMode<Monotonic>, field: self.timer
    }
}

impl WorkItem<COPY> for Cow {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        // Copies that follow each other in the storage are merged by the plug.
        this.as_worker(|| bio::plugged(|| this.work()));
    }
}

impl WorkItem<IMAGE> for Cow {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.as_worker(|| bio::plugged(|| this.image_work()));
    }
}

impl WorkItem<AHEAD> for Cow {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.as_worker(|| bio::plugged(|| this.copy_ahead()));
    }
}

impl HrTimerCallback for Cow {
    type Pointer<'a> = Arc<Self>;

    fn run(this: ArcBorrow<'_, Self>, _: HrTimerCallbackContext<'_, Self>) -> HrTimerRestart {
        this.time_is_up.store(1, Release);
        Arc::<Self>::from(this).kick_copy();
        HrTimerRestart::NoRestart
    }
}

impl Cow {
    pub(crate) fn new(
        origin: &BlockDevice,
        storage: &Arc<Storage>,
        excluded: Ranges,
        sizes: &Sizes,
        queue: &Arc<OwnedQueue>,
    ) -> Result<Arc<Self>> {
        let sectors = origin.sectors();
        if sectors == 0 {
            return Err(ENODEV);
        }
        let chunk_shift = sizes.chunk_shift(sectors, origin.logical_block_size());
        let chunk_pages = (1 << (chunk_shift + SECTOR_SHIFT)) / PAGE_SIZE;
        let chunks = sectors.div_ceil(1 << chunk_shift);
        let in_chunks = |bytes: u64| bytes >> SECTOR_SHIFT >> chunk_shift;
        let reach = Reach::new(in_chunks(PORTION), in_chunks(AHEAD_STOP), chunks);
        let jobs = Jobs::new(Pages::new(chunk_pages, GFP_KERNEL)?, sizes.max_jobs)?;

        Arc::pin_init(
            try_pin_init!(Self {
                origin: origin.into(),
                start: origin.start_sector(),
                sectors,
                chunk_shift,
                map: ChunkMap::new(chunks)?,
                ahead: Ahead::new(reach),
                reads_wait: Atomic::new(0),
                storage: storage.clone(),
                excluded,
                errno: Atomic::new(0),
                jobs <- new_spinlock!(jobs, "blksnap::jobs"),
                idle <- new_condvar!("blksnap::idle"),
                ended: Ended::new()?,
                pool: Arc::pin_init(IoPool::new(RESERVED_IOS), GFP_KERNEL)?,
                image <- new_spinlock_irq!(BioList::new(), "blksnap::image"),
                image_in_flight: Atomic::new(0),
                image_idle <- new_condvar!("blksnap::image_idle"),
                image_pool: Arc::pin_init(IoPool::new(RESERVED_IOS), GFP_KERNEL)?,
                image_reads: Atomic::new(0),
                image_writes: Atomic::new(0),
                late_reads: Atomic::new(0),
                refused: Atomic::new(0),
                unreadable: Atomic::new(0),
                queue: queue.clone(),
                copy_work <- new_work!("blksnap::copy"),
                image_work <- new_work!("blksnap::image"),
                timer <- HrTimer::new(),
                time_is_up: Atomic::new(0),
                timing <- new_spinlock!(None, "blksnap::timing"),
                ahead_work <- new_work!("blksnap::ahead"),
            }),
            GFP_KERNEL,
        )
    }

    /// The error that the snapshot was given up for. Checked after reading the original: whoever
    /// overwrites it without a copy sets it first.
    pub(crate) fn error(&self) -> Result {
        kernel::error::to_result(self.errno.load(Acquire))
    }

    /// Gives the snapshot of this device up. Writes to the original go on without copies.
    pub(crate) fn fail(&self, error: Error) {
        if self.errno.cmpxchg(0, error.to_errno(), Full).is_ok() {
            trace::blksnap_corrupted(self.origin.dev_t(), error.to_errno());
            let (major, minor) = self.origin.dev();
            pr_err!("snapshot of {major}:{minor} is corrupted: {error:?}\n");
            self.storage.corrupted((major, minor), error);
        }
    }

    /// Ends the copies for good. To be called before writes go on without them: what is still under
    /// way for the image fails from here on, instead of finding what is written then.
    pub(crate) fn close(&self) {
        let _ = self.errno.cmpxchg(0, ENODEV.to_errno(), Full);
    }

    /// Limits of the image, which is served by the original and the storage.
    pub(crate) fn io_limits(&self) -> IoLimits {
        self.storage.io_limits().and(self.origin.io_limits())
    }

    /// What has been done so far.
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            chunk_bytes: self.chunk_sectors() << SECTOR_SHIFT,
            image_reads: self.image_reads.load(Relaxed),
            image_writes: self.image_writes.load(Relaxed),
            late_reads: self.late_reads.load(Relaxed),
            refused: self.refused.load(Relaxed),
            ..self.jobs.lock().counters()
        }
    }

    /// Sectors in a chunk.
    pub(crate) fn chunk_sectors(&self) -> u64 {
        1 << self.chunk_shift
    }

    /// The chunk of a sector.
    pub(crate) fn chunk_of(&self, sector: u64) -> u64 {
        sector >> self.chunk_shift
    }

    /// The parts of `sectors` that lie under the storage.
    pub(crate) fn excluded(&self, sectors: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        self.excluded.within(sectors)
    }

    pub(crate) fn kick_copy(self: Arc<Self>) {
        let queue = self.queue.clone();
        // It is enough to be queued already.
        let _ = queue.enqueue::<Arc<Self>, COPY>(self);
    }

    fn kick_ahead(self: Arc<Self>) {
        let queue = self.queue.clone();
        let _ = queue.enqueue::<Arc<Self>, AHEAD>(self);
    }

    pub(crate) fn kick_image(self: Arc<Self>) {
        let queue = self.queue.clone();
        let _ = queue.enqueue::<Arc<Self>, IMAGE>(self);
    }

    /// A bio that modifies the original. Gives it back if it may go on now.
    pub(crate) fn write(self: &Arc<Self>, bio: Bio, context: Context) -> Option<Bio> {
        let Some(sector) = bio.sector().checked_sub(self.start) else {
            return Some(bio);
        };
        if bio.sectors() == 0 || sector >= self.sectors {
            return Some(bio);
        }
        if self.excluded.covers(sector..sector + bio.sectors()) {
            // The image shows zeroes. It may be the storage itself, whose I/O comes here if a path
            // to it has failed: it must not wait for copies.
            return Some(bio);
        }
        let first = self.chunk_of(sector);
        let last = self
            .chunk_of(sector + bio.sectors() - 1)
            .min(self.map.chunks() - 1);
        if context == Context::Submitter && self.ahead.reached(first, last) {
            self.clone().kick_ahead();
        }

        loop {
            if self.error().is_err() {
                return Some(bio);
            }
            let held_by = match self.copy_all(first, last, bio.is_nowait(), context) {
                Ok(None) => return Some(bio),
                Ok(Some(chunk)) => chunk,
                Err(Stop::Failed) => return Some(bio),
                Err(Stop::Busy) if bio.is_nowait() => {
                    self.refused.fetch_add(1, Relaxed);
                    bio.end(Err(EAGAIN));
                    return None;
                }
                Err(Stop::Busy) => {
                    trace::blksnap_write_parked(self.origin.dev_t(), sector, bio.sectors());
                    let mut jobs = self.jobs.lock();
                    jobs.count_wait();
                    jobs.parked.push(bio);
                    // The end of a copy that is in flight wakes the worker anyway.
                    let kick = context == Context::Submitter || jobs.needs_kick();
                    drop(jobs);
                    if kick {
                        self.clone().kick_copy();
                    }
                    return None;
                }
            };

            let mut jobs = self.jobs.lock();
            if let State::Copying(job) = self.map.get(held_by) {
                if let Some(job) = jobs.get(job) {
                    trace::blksnap_write_waits(self.origin.dev_t(), sector, bio.sectors());
                    job.writers.push(bio);
                    jobs.count_wait();
                    return None;
                }
            }
            // Copied meanwhile.
        }
    }

    /// Starts copies of all chunks of `first..=last` that are on the original. Returns the last of
    /// those that are being copied, if any: when that is done, most of the others are. With
    /// `nowait`, does not start anything and is busy instead.
    fn copy_all(
        self: &Arc<Self>,
        first: u64,
        last: u64,
        nowait: bool,
        context: Context,
    ) -> Result<Option<u64>, Stop> {
        let mut copying = None;
        let mut chunk = first;
        while chunk <= last {
            match self.map.get(chunk) {
                State::Original if nowait => return Err(Stop::Busy),
                State::Original => match self.start_copy_around(chunk, first..last + 1, context) {
                    // Some other copy is under way: what is missing is tried when it is done.
                    Err(Stop::Busy) if copying.is_some() => return Ok(copying),
                    Err(stop) => return Err(stop),
                    // Look again: somebody else may have been faster, or it is in memory already.
                    Ok(()) => {}
                },
                State::Copying(_) if nowait => return Err(Stop::Busy),
                State::Copying(_) => {
                    copying = Some(chunk);
                    chunk += 1;
                }
                State::Storing(_) | State::Copied(_) => {
                    chunk += self.map.off_original(chunk, last).max(1);
                }
            }
        }
        Ok(copying)
    }

    /// Starts to copy `chunk` and those that follow it of a write of `written`, and those around it
    /// that are likely to be written soon.
    fn start_copy_around(
        self: &Arc<Self>,
        chunk: u64,
        written: Range<u64>,
        context: Context,
    ) -> Result<(), Stop> {
        let last = written.end - 1;
        // The worker is left what memory was short for: no more than it must.
        if context == Context::Worker {
            return self.start_copy(chunk, last, false, context);
        }
        let in_chunks = |bytes: u64| bytes >> SECTOR_SHIFT >> self.chunk_shift;
        let (first, mut end) = match in_chunks(BLOCK) {
            0 | 1 => (chunk, chunk),
            block => self.map.around(chunk, block, in_chunks(VICINITY)),
        };
        let stream = in_chunks(STREAM).max(2);
        let before = self.map.copied_before(chunk, in_chunks(MAX_COPY));
        if before >= stream {
            let ahead = (chunk + 2 * before - 1).min(chunk | (in_chunks(MAX_COPY) - 1));
            end = end.max(ahead).min(self.map.chunks() - 1);
        }
        let end = last.max(end);
        let bad = self.unreadable.load(Relaxed);
        let (bad, nr) = (bad >> NR_BITS, bad & ((1 << NR_BITS) - 1));
        if first < bad + nr && bad <= end {
            return self.start_copy(chunk, last, false, context);
        }
        // Not for a large write that follows nothing but itself.
        let stream = self.reads_wait.load(Relaxed) != 0
            && self.map.copied_before(written.start, stream) >= stream;
        if stream {
            self.ahead.begin(last, end);
        }
        self.start_copy(first, end, first < chunk || last < end, context)
    }

    /// Makes the copies that streams of writes will need next.
    fn copy_ahead(self: &Arc<Self>) {
        while let Some(portion) = self.ahead.take() {
            let mut chunk = portion.first;
            let mut needed = false;
            while chunk < portion.end() && self.error().is_ok() {
                if self.map.get(chunk) != State::Original {
                    chunk += 1;
                    continue;
                }
                needed = true;
                // Looks again: somebody else may have been faster.
                if self
                    .start_copy(chunk, portion.end() - 1, true, Context::Ahead)
                    .is_err()
                {
                    break;
                }
            }
            if !needed {
                self.ahead.forget(portion);
            }
        }
    }

    /// Starts to copy chunks from `first` on, at most to `last`; `more` of them than will be written
    /// for certain.
    pub(crate) fn start_copy(
        self: &Arc<Self>,
        first: u64,
        last: u64,
        more: bool,
        context: Context,
    ) -> Result<(), Stop> {
        let chunk_bytes = self.chunk_sectors() << SECTOR_SHIFT;
        let most = (MAX_COPY / chunk_bytes).max(1);
        let mut chunks = self.map.run(first, last, most, |_| State::Original);
        if chunks == 0 {
            return Ok(());
        }
        if context == Context::Ahead {
            let space = self.storage.space();
            let left = space.limit().saturating_sub(space.used());
            if chunks * self.chunk_sectors() > space.free() / AHEAD_SHARE
                || left < space.limit() / AHEAD_SHARE
            {
                return Err(Stop::Busy);
            }
        }

        // All memory first, outside the lock, so that nothing can fail once chunks are claimed.
        let mut room = self
            .map
            .room(first, chunks, context.flags())
            .map_err(|_| self.no_memory(context))?;
        let permit = self
            .jobs
            .lock()
            .permit((chunks * chunk_bytes) as usize, context)
            .ok_or(Stop::Busy)?;
        let (pages, reserve) = match self.pages(&permit, context) {
            Some(pages) => pages,
            None => {
                self.give_back(self.jobs.lock(), permit, None);
                return Err(self.no_memory(context));
            }
        };
        if reserve {
            chunks = 1;
        }
        let sector = first << self.chunk_shift;
        let sectors = (chunks << self.chunk_shift).min(self.sectors - sector);
        let io = self.pool.for_pages(
            &self.origin,
            Op::Read,
            sector,
            &pages,
            0..(sectors << SECTOR_SHIFT) as usize,
            CopyIo {
                cow: self.clone(),
                job: permit.job,
            },
            context.flags(),
        );
        let Ok(io) = io else {
            let pages = reserve.then_some(pages);
            self.give_back(self.jobs.lock(), permit, pages);
            return Err(self.no_memory(context));
        };

        let mut jobs = self.jobs.lock();
        // Others may have claimed some of them, which are left out, or have taken the room.
        let mut chunks = match self.map.install(first, chunks, &mut room) {
            true => self
                .map
                .run(first, first + chunks - 1, chunks, |_| State::Original),
            false => 0,
        };
        let room_in_storage = match chunks {
            0 => Room::None,
            _ => self.storage.alloc(self.chunk_sectors(), chunks as u32),
        };
        let Room::At(place, got) = room_in_storage else {
            // Nobody waits for what is copied ahead.
            let later =
                context == Context::Ahead || room_in_storage == Room::Later && jobs.starve();
            let pages = reserve.then_some(pages);
            self.give_back(jobs, permit, pages);
            if chunks == 0 {
                return Ok(());
            }
            if later {
                return Err(Stop::Busy);
            }
            self.storage.is_full(chunks * self.chunk_sectors());
            self.fail(ENOSPC);
            return Err(Stop::Failed);
        };
        chunks = u64::from(got);
        jobs.feed();

        self.map
            .set_run(first, chunks, |_| State::Copying(permit.job));
        jobs.start(
            &permit,
            Job {
                first,
                chunks,
                place,
                others: KVec::new(),
                bytes: permit.bytes,
                pages,
                reserve,
                more,
                phase: Phase::Read,
                pending: 1,
                writers: BioList::new(),
                image_writers: BioList::new(),
            },
        );
        drop(jobs);
        drop(room);
        trace::blksnap_copy(self.origin.dev_t(), first, chunks, place);

        self.ended.watch(permit.job);
        io.submit();
        if let Some(result) = self.ended.look(permit.job) {
            self.read_at_once(permit.job, result);
        }
        Ok(())
    }

    /// A copy was read by the time that the I/O had been submitted. Memory is such a device.
    fn read_at_once(self: &Arc<Self>, number: u32, result: Result) {
        self.set_reads_wait(false);
        if result.is_err() || self.error().is_err() {
            self.ended.record(number, result);
            return self.clone().kick_copy();
        }
        let (mut writers, mut jobs) = self.was_read(number);
        // Our own is not among them. To go on with others may lead here again, and again.
        let mut kick = !writers.is_empty();
        jobs.parked.append(&mut writers);
        let due = jobs.due();
        drop(jobs);
        kick |= due == Due::Now;
        if due == Due::SetTimer {
            self.set_timer();
        }
        if kick {
            self.clone().kick_copy();
        }
    }

    /// Whether the last copy was read while its submitter did something else: else it was the
    /// processor's work, which is not better done ahead.
    fn set_reads_wait(&self, wait: bool) {
        let wait = u32::from(wait);
        // Seldom changes, and many look.
        if self.reads_wait.load(Relaxed) != wait {
            self.reads_wait.store(wait, Relaxed);
        }
    }

    /// Whoever has found that it has to be set is the only one to do so.
    fn set_timer(self: &Arc<Self>) {
        let mut timing = self.timing.lock();
        *timing = Some(self.clone().start(Delta::from_millis(PATIENCE)));
    }

    /// Does what the timer was set for, if it has come to its end.
    fn look_at_timer(&self) {
        if self.time_is_up.xchg(0, Full) == 0 {
            return;
        }
        // It may be on its way out still, which the end of the handle waits for.
        let timing = self.timing.lock().take();
        drop(timing);
        self.jobs.lock().time_is_up();
    }

    /// Gives an unused permission back. Nothing will end for it, so that whoever waits for an end
    /// has to be told, unless there is another one to come.
    fn give_back(
        self: &Arc<Self>,
        mut jobs: SpinLockGuard<'_, Jobs>,
        permit: Permit,
        reserve: Option<Arc<Pages>>,
    ) {
        jobs.give_back(permit, reserve);
        let waiting = !jobs.parked.is_empty() || !jobs.image_parked.is_empty();
        let kick = waiting && jobs.needs_kick();
        drop(jobs);
        if kick {
            self.clone().kick_copy();
        }
    }

    /// A submitter leaves it to the worker. That waits for the copies in flight, which will give
    /// memory back. If there are none, the snapshot cannot be kept.
    fn no_memory(&self, context: Context) -> Stop {
        if context != Context::Worker || !self.jobs.lock().none_in_flight() {
            return Stop::Busy;
        }
        self.fail(ENOMEM);
        Stop::Failed
    }

    /// Memory for a copy, and whether it is what was kept back, which is enough for one chunk.
    fn pages(&self, permit: &Permit, context: Context) -> Option<(Arc<Pages>, bool)> {
        let alloc = |flags| {
            let pages = Pages::new(permit.bytes.div_ceil(PAGE_SIZE), flags).ok()?;
            Arc::new(pages, flags).ok()
        };
        if let Some(pages) = alloc(Context::Submitter.flags()) {
            return Some((pages, false));
        }
        if context != Context::Worker {
            return None;
        }
        let mut jobs = self.jobs.lock();
        if let Some(pages) = jobs.take_reserve() {
            return Some((pages, true));
        }
        // Another copy has the reserve, and will be back with it. If there is no other than the one
        // that this is for, it was lost to a reader of the image, which does not depend on us.
        if jobs.in_flight() > 1 {
            return None;
        }
        drop(jobs);
        alloc(Context::Worker.flags()).map(|pages| (pages, false))
    }

    /// What the worker does: all that has become possible since it last ran.
    fn work(self: &Arc<Self>) {
        self.look_at_timer();
        let mut any_ended = false;
        loop {
            let any = self.ended.take(|job, count, result| {
                let (phase, pending, more, run) = {
                    let mut jobs = self.jobs.lock();
                    let Some(job) = jobs.get(job) else { return };
                    job.pending -= count;
                    let run = job.first << NR_BITS | job.chunks;
                    (job.phase, job.pending, job.more, run)
                };
                if let Err(e) = result {
                    // What nobody writes need not be readable: whoever waits tries again, and then
                    // no more is copied than is written.
                    if phase == Phase::Read && more {
                        self.unreadable.store(run, Relaxed);
                        return self.finish(job, false);
                    }
                    self.fail(e);
                }
                if pending > 0 {
                    return;
                }
                match phase {
                    Phase::Read if self.error().is_ok() => {
                        self.set_reads_wait(true);
                        let (mut writers, jobs) = self.was_read(job);
                        drop(jobs);
                        self.resume(&mut writers);
                    }
                    Phase::Read => self.finish(job, false),
                    Phase::Store => self.was_stored(job),
                }
            });

            let mut parked = self.jobs.lock().take_parked();
            self.resume(&mut parked);
            any_ended |= any;
            if !any {
                break;
            }
        }

        let mut jobs = self.jobs.lock();
        if any_ended || jobs.none_in_flight() {
            let mut parked = jobs.take_image_parked();
            drop(jobs);
            self.queue_image(&mut parked);
            jobs = self.jobs.lock();
        }
        match jobs.due() {
            Due::Later => {}
            Due::SetTimer => {
                drop(jobs);
                self.set_timer();
            }
            Due::Now => {
                let mut list = jobs.take_ready();
                drop(jobs);
                self.store_all(&mut list);
                self.jobs.lock().done_with(list);
            }
        }
    }

    /// Lets writes go on, or be held again.
    fn resume(self: &Arc<Self>, writers: &mut BioList) {
        while let Some(bio) = writers.pop() {
            if let Some(bio) = self.write(bio, Context::Worker) {
                bio.resubmit();
            }
        }
    }

    /// The old content of a copy is in memory. Returns the writes that have waited for it, and all
    /// copies, locked.
    fn was_read(&self, number: u32) -> (BioList, SpinLockGuard<'_, Jobs>) {
        let mut jobs = self.jobs.lock();
        let Some(job) = jobs.get(number) else {
            return (BioList::new(), jobs);
        };
        let (first, chunks) = (job.first, job.chunks);
        let sector = first << self.chunk_shift;
        let sectors = chunks << self.chunk_shift;
        let hidden = self.excluded(sector..sector + sectors).next().is_some();
        if hidden || sector + sectors > self.sectors {
            let pages = job.pages.clone();
            drop(jobs);
            if sector + sectors > self.sectors {
                // The device ends within its last chunk.
                let end = ((self.sectors - sector) << SECTOR_SHIFT) as usize;
                pages.zero(end..pages.size());
            }
            for hidden in self.excluded(sector..sector + sectors) {
                let start = ((hidden.start - sector) << SECTOR_SHIFT) as usize;
                let end = ((hidden.end - sector) << SECTOR_SHIFT) as usize;
                pages.zero(start..end);
            }
            jobs = self.jobs.lock();
        }
        let place = jobs.get(number).map_or(0, |job| job.place);
        trace::blksnap_copy_read(self.origin.dev_t(), first, chunks, place);
        self.map.set_run(first, chunks, |_| State::Storing(number));
        (jobs.is_read(number), jobs)
    }

    /// Stores copies whose content is in memory, with as few I/Os as their places allow.
    fn store_all(self: &Arc<Self>, list: &mut [(u64, u32)]) {
        list.sort_unstable();
        let mut rest = &*list;
        while let Some((&(place, leader), more)) = rest.split_first() {
            if self.error().is_err() {
                self.finish(leader, false);
                // No I/O will end, which others may have counted on.
                self.clone().kick_copy();
                rest = more;
                continue;
            }
            let together = self.store_together(place, rest);
            if together == 0 {
                self.store_one(leader);
            }
            rest = &rest[together.max(1)..];
        }
    }

    /// Stores the first of some copies by one I/O, if there are several that lie side by side.
    /// Returns how many.
    fn store_together(self: &Arc<Self>, place: u64, list: &[(u64, u32)]) -> usize {
        let mut jobs = self.jobs.lock();
        let mut chunks = 0;
        let mut count = 0;
        for &(at, number) in list {
            let Some(job) = jobs.get(number) else { break };
            let bytes = ((chunks + job.chunks) << self.chunk_shift) << SECTOR_SHIFT;
            if at != place + chunks || bytes > MAX_COPY {
                break;
            }
            chunks += job.chunks;
            count += 1;
        }
        drop(jobs);
        let to = place << self.chunk_shift;
        let sectors = chunks << self.chunk_shift;
        let piece = self.storage.space().pieces(to..to + sectors).next();
        let Some(piece) = piece.filter(|piece| count > 1 && piece.sectors == sectors) else {
            return 0;
        };
        let Target::Disk(bdev) = self.storage.target(&piece) else {
            return 0;
        };

        // No waiting for memory: without it, each is stored by itself.
        let flags = GFP_NOWAIT | __GFP_NOWARN;
        let Ok(mut memory) = KVec::with_capacity(count, flags) else {
            return 0;
        };
        let Ok(mut others) = KVec::with_capacity(count, flags) else {
            return 0;
        };
        let mut jobs = self.jobs.lock();
        for &(_, number) in &list[..count] {
            let Some(job) = jobs.get(number) else {
                return 0;
            };
            let bytes = (job.chunks << self.chunk_shift) << SECTOR_SHIFT;
            // Both within capacity.
            let _ = memory.push_within_capacity((job.pages.clone(), bytes as usize));
            if number != list[0].1 {
                let _ = others.push_within_capacity(number);
            }
        }
        let leader = list[0].1;
        if let Some(job) = jobs.get(leader) {
            job.others = others;
            job.pending = 1;
        }
        drop(jobs);

        let io = self.pool.for_list(
            bdev,
            Op::Write,
            piece.sector,
            memory,
            CopyIo {
                cow: self.clone(),
                job: leader,
            },
            GFP_NOIO,
        );
        match io {
            Ok(io) => io.submit(),
            Err(_) => {
                self.ended.record(leader, Err(ENOMEM));
                self.clone().kick_copy();
            }
        }
        count
    }

    /// Stores a copy.
    fn store_one(self: &Arc<Self>, number: u32) {
        let mut jobs = self.jobs.lock();
        let Some(job) = jobs.get(number) else { return };
        // Held until all is submitted.
        job.pending = 1;
        let (place, chunks) = (job.place, job.chunks);
        let pages = job.pages.clone();
        drop(jobs);

        let to = place << self.chunk_shift;
        let sectors = chunks << self.chunk_shift;
        let mut done = 0;
        for piece in self.storage.space().pieces(to..to + sectors) {
            let start = (done << SECTOR_SHIFT) as usize;
            let end = ((done + piece.sectors) << SECTOR_SHIFT) as usize;
            let bdev = match self.storage.target(&piece) {
                Target::Disk(bdev) => bdev,
                Target::Memory(file) => {
                    if let Err(e) = store_in_memory(file, piece.sector, &pages, start..end) {
                        self.fail(e);
                    }
                    done += piece.sectors;
                    continue;
                }
            };
            if let Some(job) = self.jobs.lock().get(number) {
                job.pending += 1;
            }
            let io = self.pool.for_pages(
                bdev,
                Op::Write,
                piece.sector,
                &pages,
                start..end,
                CopyIo {
                    cow: self.clone(),
                    job: number,
                },
                GFP_NOIO,
            );
            match io {
                Ok(io) => io.submit(),
                Err(_) => {
                    self.ended.record(number, Err(ENOMEM));
                }
            }
            done += piece.sectors;
        }
        drop(pages);
        self.ended.record(number, Ok(()));
        self.clone().kick_copy();
    }

    /// All of a copy is in the storage, unless the snapshot has been given up.
    fn was_stored(self: &Arc<Self>, number: u32) {
        let mut others = KVec::new();
        if let Some(job) = self.jobs.lock().get(number) {
            others = core::mem::take(&mut job.others);
        }
        let held = self.error().is_ok();
        self.finish(number, held);
        for other in others {
            self.finish(other, held);
        }
    }

    /// Ends a copy that is `stored`, or that has failed.
    fn finish(self: &Arc<Self>, number: u32, stored: bool) {
        let mut jobs = self.jobs.lock();
        let Some(job) = jobs.get(number) else { return };
        self.map.set_run(job.first, job.chunks, |i| match stored {
            true => State::Copied(job.place + i),
            false => State::Original,
        });
        let Some(mut job) = jobs.finish(number, stored) else {
            return;
        };
        drop(jobs);
        let tell = match stored {
            true => trace::blksnap_copy_stored,
            false => trace::blksnap_copy_failed,
        };
        tell(self.origin.dev_t(), job.first, job.chunks, job.place);

        self.resume(&mut job.writers);
        self.queue_image(&mut job.image_writers);
        if job.reserve {
            // A reader of the image may still be copying from the pages.
            let pages = match Arc::into_unique_or_drop(job.pages) {
                Some(pages) => Some(Arc::from(pages)),
                None => {
                    let nr = (self.chunk_sectors() << SECTOR_SHIFT) as usize / PAGE_SIZE;
                    let flags = Context::Worker.flags();
                    let pages = Pages::new(nr, flags).ok();
                    pages.and_then(|pages| Arc::new(pages, flags).ok())
                }
            };
            if let Some(pages) = pages {
                self.jobs.lock().refill_reserve(pages);
            }
        }
    }

    /// Leaves bios to the image's worker.
    pub(crate) fn queue_image(self: &Arc<Self>, bios: &mut BioList) {
        if !bios.is_empty() {
            self.image.lock().append(bios);
            self.clone().kick_image();
        }
    }

    /// Runs `f`, which may have bios in hand that are in no queue.
    fn as_worker(&self, f: impl FnOnce()) {
        self.jobs.lock().workers += 1;
        f();
        let mut jobs = self.jobs.lock();
        jobs.workers -= 1;
        if jobs.is_idle() {
            self.idle.notify_all();
        }
    }

    /// Waits until nothing is in flight. No more bios must be coming.
    pub(crate) fn wait_idle(&self) {
        loop {
            let mut jobs = self.jobs.lock();
            while !jobs.is_idle() {
                self.idle.wait(&mut jobs);
            }
            drop(jobs);

            let mut image = self.image.lock();
            while !self.image_is_idle(&image) {
                self.image_idle.wait(&mut image);
            }
            drop(image);

            // Each hands bios to the other, so that both have to be seen idle at once.
            let jobs = self.jobs.lock();
            if jobs.is_idle() && self.image_is_idle(&self.image.lock()) {
                break;
            }
        }

        // Whoever ended the last I/O has let go of us after this, and has nothing left to do but to
        // return: the last reference must go where it is possible to sleep.
        rcu::synchronize_rcu();
    }
}

/// Writes `range` of `pages`, in bytes, to a file in memory from `sector` on.
fn store_in_memory(file: &MemoryFile, sector: u64, pages: &Pages, range: Range<usize>) -> Result {
    let mut page = KVec::zeroed(PAGE_SIZE, Context::Worker.flags())?;
    for at in range.clone().step_by(PAGE_SIZE) {
        let len = PAGE_SIZE.min(range.end - at);
        pages.read(at, &mut page[..len]);
        let pos = (sector << SECTOR_SHIFT) + (at - range.start) as u64;
        file.write_at(pos, &page[..len])?;
    }
    Ok(())
}
