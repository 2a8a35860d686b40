// SPDX-License-Identifier: GPL-2.0

//! The difference storage: what the old content of the originals is kept in.
//!
//! It consists of files, each of which is one of three things:
//!
//! - a file whose blocks the kernel has looked up and holds, and which can grow,
//! - a whole block device,
//! - a file in memory: one on tmpfs only says that and how much, the content goes to one of our
//!   own that nobody else can read.

use crate::{
    events::Events,
    module_parameters,
    snapshot::Snapshots,
    space::{Piece, Room, Space, UNIT},
    trace,
    wire::Happened,
};
use core::ops::Range;
use kernel::{
    block::{
        bdev::{BlockDevice, IoLimits},
        SECTOR_SHIFT, //
    },
    fs::{
        file::flags,
        layout::{device_of, make_unwritten, require, Extent, PinnedLayout, Refused},
        File,
        MemoryFile, //
    },
    impl_has_work, new_mutex, new_work,
    prelude::*,
    str::CStr,
    sync::{
        aref::ARef,
        Arc,
        Mutex,
        SetOnce, //
    },
    time::{delay::fsleep, Delta},
    workqueue::{Work, WorkItem},
};

/// Of how many devices the storage may consist.
const TARGETS: usize = 64;

/// The least that a file grows by if the filesystem is almost full, in sectors.
const MIN_GROWTH: u64 = 2048;

/// The most that a file in memory can have, in sectors.
const MAX_MEMORY: u64 = (i64::MAX as u64 >> SECTOR_SHIFT) / UNIT * UNIT;

/// How long until it is tried again to grow on a filesystem that is frozen.
const HELD: Delta = Delta::from_millis(200);

/// What became of the growth of a storage.
#[derive(PartialEq, Eq)]
enum Growth {
    /// What was possible is done.
    Done,
    /// The filesystem is frozen. Who needs room waits for some time, and it has to be tried again.
    Held,
}

/// What a piece of the space is on.
#[derive(Clone)]
pub(crate) enum Target {
    /// A block device, or that of a filesystem.
    Disk(ARef<BlockDevice>),
    /// Memory.
    Memory(MemoryFile),
}

/// A file of the storage, kept open.
enum Backing {
    Layout(PinnedLayout),
    #[expect(dead_code, reason = "only kept")]
    Device(ARef<File>),
}

/// What changes as files are added and grow.
struct Files {
    backing: KVec<Backing>,
    /// What a file has grown by, but could not be made use of.
    spare: KVVec<Found>,
    /// Whether user space knows that little is left.
    told: bool,
    /// Whether the log says that a filesystem is frozen.
    held: bool,
    /// Whether what files could grow by is in pieces too small to be used.
    crumbled: bool,
    closed: bool,
}

/// A piece of a file that is to become storage.
struct Found {
    target: Target,
    sector: u64,
    sectors: u64,
}

/// The storage of a snapshot, shared by all of its devices.
#[pin_data]
pub(crate) struct Storage {
    snapshots: Arc<Snapshots>,
    events: Arc<Events>,
    space: Space,
    /// Those in use come first.
    targets: KVec<SetOnce<Target>>,
    #[pin]
    files: Mutex<Files>,
    #[pin]
    work: Work<Storage>,
}

impl_has_work! {
    impl HasWork<Self> for Storage { self.work }
}

impl WorkItem for Storage {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        while this.keep_level() == Growth::Held {
            fsleep(HELD);
        }
    }
}

impl Storage {
    /// Storage that has nothing yet, and grows to at most `limit` sectors.
    pub(crate) fn new(
        snapshots: &Arc<Snapshots>,
        events: &Arc<Events>,
        limit: u64,
    ) -> Result<Arc<Self>> {
        let mut targets = KVec::with_capacity(TARGETS, GFP_KERNEL)?;
        for _ in 0..TARGETS {
            targets.push(SetOnce::new(), GFP_KERNEL)?;
        }
        let files = Files {
            backing: KVec::new(),
            spare: KVVec::new(),
            told: false,
            held: false,
            crumbled: false,
            closed: false,
        };
        Arc::pin_init(
            try_pin_init!(Self {
                snapshots: snapshots.clone(),
                events: events.clone(),
                space: Space::new(limit)?,
                targets,
                files <- new_mutex!(files, "blksnap::files"),
                work <- new_work!("blksnap::growth"),
            }),
            GFP_KERNEL,
        )
    }

    /// Opens the first file. The limit is for growing: what there is may be more.
    pub(crate) fn open(self: &Arc<Self>, path: &CStr, limit: u64) -> Result {
        self.add(path, limit)?;
        let size = self.space.size();
        self.space
            .raise_limit(size.saturating_sub(self.space.limit()));
        self.begin_to_grow();
        Ok(())
    }

    /// Adds the file at `path`, and as much to the limit as it has.
    pub(crate) fn append(self: &Arc<Self>, path: &CStr) -> Result {
        self.add(path, 0)?;
        self.begin_to_grow();
        Ok(())
    }

    /// Adds a file. Without a limit, what it has is added to the one that there is.
    fn add(&self, path: &CStr, limit: u64) -> Result {
        // A block device that is in use is refused here, and a FIFO not waited for. Regular files
        // take no notice of either: what makes a file ours alone is the pin.
        let flags = flags::O_RDWR | flags::O_EXCL | flags::O_LARGEFILE | flags::O_NONBLOCK;
        let file = File::open(path, flags)?;
        let mut found = KVVec::new();

        let backing = if MemoryFile::is_like(&file) {
            let sectors = match limit {
                0 => file.size() >> SECTOR_SHIFT,
                limit => limit,
            };
            // More than any file can have is as good as no limit.
            let sectors = sectors.min(MAX_MEMORY);
            let bytes = sectors << SECTOR_SHIFT;
            let target = Target::Memory(MemoryFile::new(c"blksnap", bytes)?);
            found.push(Found::whole(target, sectors), GFP_KERNEL)?;
            None
        } else if let Some(bdev) = BlockDevice::of_file(&file) {
            if bdev.is_read_only() {
                return Err(EROFS);
            }
            let sectors = bdev.sectors();
            let target = Target::Disk(bdev.into());
            found.push(Found::whole(target, sectors), GFP_KERNEL)?;
            Some(Backing::Device(file))
        } else {
            Some(Backing::Layout(self.pin(file, &mut found)?))
        };
        if found.iter().all(|f| f.sectors < UNIT) {
            pr_err!("there is no room in what is to be difference storage\n");
            return Err(EINVAL);
        }

        let mut files = self.files.lock();
        if files.closed {
            return Err(ESRCH);
        }
        files.backing.reserve(1, GFP_KERNEL)?;
        let sectors = self.publish(&mut found)?;
        if limit == 0 {
            self.space.raise_limit(sectors);
        }
        if let Some(backing) = backing {
            files.backing.push(backing, GFP_KERNEL)?;
        }
        files.told = false;
        files.crumbled = false;
        Ok(())
    }

    /// Pins a file. If only its extents do not fit it is emptied before, since its content would be
    /// lost to what is stored in any case.
    fn pin(&self, file: ARef<File>, found: &mut KVVec<Found>) -> Result<PinnedLayout> {
        match pin(&file, found) {
            Ok(pin) if pin.ends_with_block() => return Ok(pin),
            // It could not grow.
            Ok(pin) => drop(pin),
            Err(refused) if refused.unfit => {}
            Err(refused) => return Err(refused.error),
        }
        // Not for nothing, as far as that can be told.
        if self.files.lock().closed {
            return Err(ESRCH);
        }
        if self.snapshots.is_held(&file) {
            return Err(EBUSY);
        }
        if let Some(bdev) = device_of(&file) {
            self.suits(core::iter::once(&Target::Disk(bdev)))?;
        }
        match make_unwritten(&file) {
            Ok(()) => pr_info!("this file was emptied to be difference storage\n"),
            Err(e) if e == EOPNOTSUPP => return Err(EINVAL),
            Err(e) => return Err(e),
        }
        Ok(pin(&file, found)?)
    }

    /// Whether targets can be added to those that there are.
    fn suits<'a>(&self, targets: impl Iterator<Item = &'a Target>) -> Result {
        let first = self.targets().next().is_none();
        for target in targets {
            if u64::from(target.io_limits().logical_block_size) > UNIT << SECTOR_SHIFT {
                pr_err!("a device with blocks larger than a page cannot be storage\n");
                return Err(EINVAL);
            }
            if !first && target.io_limits().and(self.io_limits()) != self.io_limits() {
                pr_err!("a device with larger blocks or stricter limits cannot be added\n");
                return Err(EINVAL);
            }
        }
        Ok(())
    }

    /// Makes use of what was found, which is all or nothing: unless it can, it is left. Returns how
    /// many sectors that is.
    ///
    /// Called with the files locked.
    fn publish(&self, found: &mut KVVec<Found>) -> Result<u64> {
        let before = self.space.size();
        self.suits(found.iter().map(|f| &f.target))?;
        let mut disks = KVec::<ARef<BlockDevice>>::new();
        for disk in found.iter().filter_map(|f| f.target.disk()) {
            if disks.last().is_none_or(|last| **last != *disk) {
                disks.push(disk.into(), GFP_KERNEL)?;
            }
        }
        self.snapshots.unless_held(disks.iter().map(|d| &**d), || {
            let mut pieces = KVVec::with_capacity(found.len(), GFP_KERNEL)?;
            let mut fresh = KVec::new();
            for f in found.iter() {
                let piece = Piece {
                    dev: self.index_of(&f.target, &mut fresh)?,
                    sector: f.sector,
                    sectors: f.sectors,
                };
                pieces.push(piece, GFP_KERNEL)?;
            }
            let known = self.targets().count();
            self.space.append_after(pieces.into_iter(), || {
                for (target, slot) in fresh.into_iter().zip(&self.targets[known..]) {
                    slot.populate(target);
                }
            })
        })?;
        found.clear();
        Ok(self.space.size() - before)
    }

    /// The number of a target, or the one that it will have after those that are `fresh`.
    fn index_of(&self, target: &Target, fresh: &mut KVec<Target>) -> Result<usize> {
        let is_same = |t: &Target| match (t.disk(), target.disk()) {
            (Some(one), Some(other)) => *one == *other,
            _ => false,
        };
        if let Some(index) = self.targets().position(is_same) {
            return Ok(index);
        }
        let known = self.targets().count();
        if let Some(index) = fresh.iter().position(is_same) {
            return Ok(known + index);
        }
        let index = known + fresh.len();
        if index == self.targets.len() {
            return Err(EMFILE);
        }
        fresh.push(target.clone(), GFP_KERNEL)?;
        Ok(index)
    }

    fn targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().map_while(|t| t.as_ref())
    }

    /// Gives all files back. There must be no I/O to them any more.
    pub(crate) fn close(&self) {
        let mut files = self.files.lock();
        files.closed = true;
        let backing = core::mem::take(&mut files.backing);
        drop(files);
        drop(backing);
    }

    /// Hands out room as [`Space::alloc`] does, and has more made if there should be; does not wait
    /// for it.
    pub(crate) fn alloc(self: &Arc<Self>, unit: u64, want: u32) -> Room {
        self.space.alloc(unit, want, || self.kick())
    }

    fn kick(self: &Arc<Self>) {
        // It is enough to be queued already.
        let _ = self.snapshots.growth_queue().enqueue(self.clone());
    }

    /// Grows the storage before it is used. What cannot be done now is left to the queue.
    fn begin_to_grow(self: &Arc<Self>) {
        if self.keep_level() == Growth::Held {
            self.kick();
        }
    }

    /// Grows the storage while less than half a portion is free, and says so if that is not
    /// possible and little is left.
    fn keep_level(self: &Arc<Self>) -> Growth {
        let mut files = self.files.lock();
        if files.closed {
            return Growth::Done;
        }
        let portion = portion();
        let mut result = Ok(());
        while result.is_ok() && self.can_grow(&files) && self.space.free() < portion / 2 {
            result = self.grow(&mut files, portion, MIN_GROWTH);
            let errno = result.map_or_else(|e| e.to_errno(), |()| 0);
            trace::blksnap_storage_grown(self.space.size(), errno);
            files.told &= result.is_err();
        }

        let (free, capacity) = (self.space.free(), self.space.capacity());
        let low = capacity / 8;
        let stuck = result.is_err() || !self.can_grow(&files);
        // If there is nothing left, that has been told.
        if stuck && !files.told && (1..=low).contains(&free) {
            files.told = true;
            self.events.raise(Happened::LowSpace { free, capacity });
        }
        if result == Err(EAGAIN) {
            if !core::mem::replace(&mut files.held, true) {
                pr_warn!("the difference storage waits for a frozen filesystem\n");
            }
            self.space.set_mark(Space::GROWING);
            return Growth::Held;
        }
        files.held = false;
        if let Err(e) = result {
            pr_warn!("the difference storage cannot grow: {e:?}\n");
        }

        let mark = match free {
            _ if !stuck => capacity - portion / 2,
            0 => Space::NEVER,
            // Somebody may make room meanwhile.
            free if free <= low => capacity - free / 2,
            _ => capacity - low,
        };
        self.space.set_mark(mark);
        // Some may have been used before the mark was there. With the files locked, so that nothing
        // is queued once they are closed.
        if self.space.is_low() {
            self.kick();
        }
        Growth::Done
    }

    fn can_grow(&self, files: &Files) -> bool {
        !files.crumbled
            && self.space.limit() - self.space.capacity() >= UNIT
            && files
                .backing
                .iter()
                .any(|b| matches!(b, Backing::Layout(_)))
    }

    /// Grows the last of the files that can grow, by a portion, or by `least` if there is no more
    /// room on its filesystem. In sectors.
    fn grow(&self, files: &mut Files, portion: u64, least: u64) -> Result {
        // What is allocated now may have had a content when the snapshot was taken.
        self.snapshots.unless_held(self.disks(), || Ok(()))?;

        if !files.spare.is_empty() {
            return self.publish(&mut files.spare).map(|_| ());
        }

        let pin = files.backing.iter_mut().rev().find_map(|b| match b {
            Backing::Layout(pin) => Some(pin),
            Backing::Device(_) => None,
        });
        let pin = pin.ok_or(ENOSPC)?;
        let missing = self.space.limit() - self.space.capacity();
        // It can be done only so often, so that the larger it is the more it grows.
        let mut sectors = portion.max(self.space.size() / 8).min(missing);
        if self.space.segments_left() == 0 {
            return Err(ENOSPC);
        }
        let mut found = loop {
            let mut found = KVVec::new();
            // A multiple of any filesystem's block size.
            let size = (pin.size() + (sectors << SECTOR_SHIFT)).next_multiple_of(1 << 20);
            match pin.extend(size, |extent| {
                found.push(Found::from(extent), GFP_KERNEL)?;
                Ok(())
            }) {
                Ok(()) => break found,
                Err(e) if is_too_much(e) && sectors / 2 >= least => {
                    sectors = sectors / 2 / UNIT * UNIT
                }
                Err(e) => return Err(e),
            }
        };
        let result = self.publish(&mut found);
        files.spare = found;
        // More of them would fill the filesystem for nothing.
        files.crumbled = result? < sectors / 2;
        match files.crumbled {
            true => Err(ENOSPC),
            false => Ok(()),
        }
    }

    /// Grows to the limit, portion by portion, if the storage lies on one of `devices`, of which a
    /// snapshot is about to be taken: it cannot grow there until that is destroyed.
    pub(crate) fn prepare<'a>(&self, mut devices: impl Iterator<Item = &'a BlockDevice>) {
        if !devices.any(|bdev| self.disks().any(|disk| disk.overlaps(bdev))) {
            return;
        }
        let mut files = self.files.lock();
        // Only whole portions, so that the filesystem keeps some room.
        let portion = portion();
        while !files.closed && self.can_grow(&files) {
            if self.grow(&mut files, portion, portion).is_err() {
                break;
            }
        }
    }

    /// An image has become unusable.
    pub(crate) fn corrupted(&self, (major, minor): (u32, u32), error: Error) {
        let errno = error.to_errno();
        self.events.raise(Happened::Corrupted {
            major,
            minor,
            errno,
        });
    }

    /// So many sectors were asked for in vain.
    pub(crate) fn is_full(&self, requested: u64) {
        self.events.raise(Happened::NoSpace { requested });
    }

    /// The linear space that the files' extents make up.
    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// What a piece of the space is on.
    pub(crate) fn target(&self, piece: &Piece) -> &Target {
        // Pieces come from the space, in which there are only numbers of targets.
        self.targets[piece.dev].as_ref().unwrap()
    }

    /// Refuses `devices` if some of the storage is on one of them in such a way that what is stored
    /// comes back as a write to it, which would have to be copied again.
    pub(crate) fn is_below<'a>(
        &self,
        mut devices: impl Iterator<Item = &'a BlockDevice>,
    ) -> Result {
        devices.try_for_each(|bdev| match self.disks().find(|d| !d.overlaps(bdev) && d.is_on(bdev)) {
            None => Ok(()),
            Some(disk) => {
                let ((major, minor), (on_major, on_minor)) = (disk.dev(), bdev.dev());
                pr_err!(
                    "the difference storage is on {major}:{minor}, which is on {on_major}:{on_minor}\n"
                );
                Err(EINVAL)
            }
        })
    }

    fn disks(&self) -> impl Iterator<Item = &BlockDevice> {
        self.targets().filter_map(|t| t.disk())
    }

    /// Whether some of it is in memory, which cannot be read without sleeping.
    pub(crate) fn may_sleep(&self) -> bool {
        self.targets().any(|t| t.disk().is_none())
    }

    /// What I/O to its devices has to respect.
    pub(crate) fn io_limits(&self) -> IoLimits {
        self.targets()
            .fold(IoLimits::LEAST, |all, t| all.and(t.io_limits()))
    }

    /// Adds the sectors of `bdev` that lie under the storage to `ranges`.
    pub(crate) fn within(&self, bdev: &BlockDevice, ranges: &mut KVVec<Range<u64>>) -> Result {
        let whole = bdev.start_sector()..bdev.start_sector() + bdev.sectors();
        for piece in self.space.all() {
            let Some(disk) = self.target(&piece).disk().filter(|d| d.same_disk(bdev)) else {
                continue;
            };
            let start = disk.start_sector() + piece.sector;
            let start_here = start.max(whole.start);
            let end_here = (start + piece.sectors).min(whole.end);
            if start_here < end_here {
                ranges.push(start_here - whole.start..end_here - whole.start, GFP_KERNEL)?;
            }
        }
        Ok(())
    }
}

impl Target {
    fn disk(&self) -> Option<&BlockDevice> {
        match self {
            Target::Disk(bdev) => Some(bdev),
            Target::Memory(_) => None,
        }
    }

    fn io_limits(&self) -> IoLimits {
        self.disk().map_or(IoLimits::LEAST, |d| d.io_limits())
    }
}

impl Found {
    /// All of a target, of this many sectors.
    fn whole(target: Target, sectors: u64) -> Self {
        Self {
            target,
            sector: 0,
            sectors,
        }
    }
}

impl From<&Extent> for Found {
    fn from(extent: &Extent) -> Self {
        Self {
            target: Target::Disk(extent.bdev().into()),
            sector: extent.addr() >> SECTOR_SHIFT,
            sectors: extent.len() >> SECTOR_SHIFT,
        }
    }
}

/// Pins a file and finds its extents. All of them are unwritten: what is stored in the blocks can
/// never be read through the file.
fn pin(file: &ARef<File>, found: &mut KVVec<Found>) -> Result<PinnedLayout, Refused> {
    found.clear();
    PinnedLayout::new(file.clone(), c"blksnap", require::UNWRITTEN, |extent| {
        found.push(Found::from(extent), GFP_KERNEL)?;
        Ok(())
    })
}

/// Whether a file that cannot grow by so much may grow by less.
fn is_too_much(error: Error) -> bool {
    error == ENOSPC || error == EFBIG || error == EDQUOT
}

/// By how many sectors files grow.
fn portion() -> u64 {
    u64::from(module_parameters::diff_storage_minimum.value()).max(MIN_GROWTH)
}
