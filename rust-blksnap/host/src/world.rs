// SPDX-License-Identifier: GPL-2.0

//! Copy-on-write and the image as a whole, against an array of sectors.
//!
//! Writes to the original, and reads and writes of the image, arrive while
//! others are under way; everything that could run at once runs in an order
//! drawn by lot. Whatever the order, and whatever fails:
//!
//! - the image shows what the original contained when the snapshot was taken,
//!   even if a bio was half done then, or what was written to the image, or an
//!   error, never anything else, and errors only for a reason;
//! - the original takes every write, as if there were no snapshot;
//! - nothing is lost or left, and what is under the storage is never shown;
//! - the storage grows in time, and nobody touches it after the end;
//! - what is told about a snapshot that was given up is true, and told once.

use crate::{
    cow::{Context, Cow, Sizes},
    ranges::Ranges,
    space::Piece,
    storage::{Storage, Target},
};
use kernel::{
    block::{
        bdev::BlockDevice,
        bio::{Bio, Op, Request, POISON},
        bio_disk::BioDriver,
        SECTOR_SIZE,
    },
    fs::MemoryFile,
    prelude::*,
    sim,
    sync::Arc,
    workqueue::OwnedQueue,
};
use std::{
    cell::{Cell, RefCell},
    ops::Range,
    rc::Rc,
};

/// What a test does, one after the other, none waiting for the one before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Write { nowait: bool },
    Erase { op: Op, nowait: bool },
    Flush,
    ImageRead,
    ImageWrite,
    ImageErase { op: Op },
}

/// A part of the storage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) on: On,
    pub(crate) offset: u64,
    pub(crate) sectors: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// The originals' own disk.
    SameDisk,
    OtherDisk,
    Memory,
}

/// A partition that the snapshot is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// Sectors between it and the one before.
    pub(crate) gap: u64,
    pub(crate) sectors: u64,
    pub(crate) sizes: Sizes,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// All on one disk.
    pub(crate) origins: Vec<Origin>,
    pub(crate) extents: Vec<Extent>,
    /// By what the storage grows.
    pub(crate) portions: Vec<Vec<Extent>>,
    pub(crate) limit: u64,
    pub(crate) no_memory: u64,
    pub(crate) io_errors: u64,
    pub(crate) actions: Vec<(Action, u64, u64)>,
}

/// A sector with `stamp` all over it.
fn fill(bytes: &mut [u8], stamp: u64) {
    for word in bytes.chunks_exact_mut(8) {
        word.copy_from_slice(&stamp.to_ne_bytes());
    }
}

/// The stamp of a sector, if it has the same one all over.
fn stamp_of(bytes: &[u8]) -> Option<u64> {
    let word = |chunk: &[u8]| u64::from_ne_bytes(chunk.try_into().expect("eight bytes"));
    let first = word(&bytes[..8]);
    bytes
        .chunks_exact(8)
        .all(|chunk| word(chunk) == first)
        .then_some(first)
}

/// What a sector of the image may contain.
struct ImageSector {
    may_be: Vec<u64>,
    written: bool,
}

struct Read {
    id: u64,
    first: u64,
    may_be: Vec<Vec<u64>>,
}

/// What the devices of the snapshot share.
struct Snapshot {
    plan: Plan,
    storage: Arc<Storage>,
    /// Submissions that have not returned.
    submitting: Cell<u32>,
    /// Nobody gets into the filters.
    frozen: Cell<bool>,
    /// Writes are copied.
    held: Cell<bool>,
    /// All of the image is being looked at, before the end.
    looked: Cell<bool>,
    /// No more bios must come.
    over: Cell<bool>,
    /// The storage is closed.
    given_back: Cell<bool>,
}

impl Snapshot {
    fn has_image(&self) -> bool {
        self.held.get() && !self.over.get()
    }
}

struct Device {
    snapshot: Rc<Snapshot>,
    origin: BlockDevice,
    cow: Arc<Cow>,
    /// What the original must contain, by sector.
    expected: RefCell<Vec<u64>>,
    /// Sectors of the original that are being written.
    writing: RefCell<Vec<bool>>,
    image: RefCell<Vec<ImageSector>>,
    reads: RefCell<Vec<Read>>,
    begun: Cell<u64>,
    ended: Cell<u64>,
}

struct World {
    snapshot: Rc<Snapshot>,
    devices: Vec<Rc<Device>>,
}

/// The storage that a plan wants.
fn storage(plan: &Plan, disk: &BlockDevice) -> Arc<Storage> {
    let mut targets = Vec::new();
    let mut used = Vec::new();
    let mut place = 0;
    let mut piece = |extent: &Extent| {
        let dev = used.iter().position(|on| *on == extent.on);
        let dev = dev.unwrap_or_else(|| {
            used.push(extent.on);
            targets.push(match extent.on {
                On::SameDisk => Target::Disk(disk.into()),
                On::OtherDisk => Target::Disk((&BlockDevice::new(1, 2048)).into()),
                On::Memory => Target::Memory(MemoryFile::new(2048 * SECTOR_SIZE as u64)),
            });
            used.len() - 1
        });
        place += 1;
        Piece {
            dev,
            sector: (place - 1) * 80 + extent.offset,
            sectors: extent.sectors,
        }
    };
    let extents: Vec<_> = plan.extents.iter().map(&mut piece).collect();
    let portions: Vec<Vec<_>> = plan
        .portions
        .iter()
        .map(|portion| portion.iter().map(&mut piece).collect())
        .collect();
    Storage::new(targets, &extents, portions, plan.limit).expect("there is memory")
}

impl Device {
    fn new(snapshot: &Rc<Snapshot>, origin: BlockDevice, sizes: &Sizes) -> Rc<Self> {
        let mut image = Vec::new();
        let mut expected = Vec::new();
        for sector in 0..origin.sectors() {
            let stamp = 1 << 63 | (origin.start_sector() + sector);
            origin.access(sector, 1, |bytes| fill(bytes, stamp));
            expected.push(stamp);
            image.push(ImageSector {
                may_be: Vec::new(),
                written: false,
            });
        }
        // What the driver uses of the extents reads as zeroes.
        let storage = &snapshot.storage;
        let mut excluded = KVVec::new();
        storage.within(&origin, &mut excluded).expect("memory");
        for sector in excluded.iter().cloned().flatten() {
            image[sector as usize].may_be = vec![0];
        }
        let queue = Arc::new(OwnedQueue::default());
        let cow = Cow::new(&origin, storage, Ranges::new(excluded), sizes, &queue);
        let device = Rc::new(Device {
            snapshot: snapshot.clone(),
            writing: RefCell::new(vec![false; expected.len()]),
            origin,
            cow: cow.expect("there is memory"),
            expected: RefCell::new(expected),
            image: RefCell::new(image),
            reads: RefCell::default(),
            begun: Cell::new(0),
            ended: Cell::new(0),
        });
        let weak = Rc::downgrade(&device);
        device.origin.attach(move |bio| {
            let device = weak.upgrade().expect("bios end before their device goes");
            device.filter(bio);
        });
        device
    }

    /// The snapshot begins: the image is what the original contains now.
    fn take(&self) {
        for (sector, image) in self.image.borrow_mut().iter_mut().enumerate() {
            // What is under the storage has a content of its own.
            if image.may_be.is_empty() {
                let stamp = self
                    .origin
                    .access(sector as u64, 1, |bytes| stamp_of(bytes));
                image.may_be = vec![stamp.expect("writes are of whole sectors")];
            }
        }
    }

    /// All that is submitted to the original comes here: what a test does, what the driver lets go
    /// on, and what the disk splits off.
    fn filter(self: &Rc<Self>, bio: Bio) {
        let snapshot = &self.snapshot;
        if snapshot.frozen.get() {
            if bio.is_nowait() {
                return bio.end(Err(EAGAIN));
            }
            let device = self.clone();
            return sim::step(move || device.filter(bio));
        }
        snapshot.submitting.set(snapshot.submitting.get() + 1);
        let pass = match snapshot.has_image() {
            true => self.cow.write(bio, Context::Submitter),
            false => Some(bio),
        };
        if let Some(bio) = pass {
            bio.pass_on();
        }
        snapshot.submitting.set(snapshot.submitting.get() - 1);
    }

    /// Whether a range of the original's sectors lies under the storage, rounded up to whole
    /// extents, where nobody writes.
    fn under_storage(&self, range: &Range<u64>) -> bool {
        let start = range.start + self.origin.start_sector();
        let end = range.end + self.origin.start_sector();
        let extents = &self.snapshot.plan.extents;
        extents.iter().enumerate().any(|(i, extent)| {
            let sector = i as u64 * 80 + extent.offset;
            extent.on == On::SameDisk && sector < end && start < sector + extent.sectors
        })
    }

    /// Errors are allowed if something has failed.
    fn has_reason(&self) -> bool {
        self.snapshot.plan.io_errors > 0 || self.cow.error().is_err()
    }

    fn submit(self: &Rc<Self>, number: u64, action: Action, first: u64, sectors: u64) {
        let first = first % self.origin.sectors();
        let range = first..first.saturating_add(sectors).min(self.origin.sectors());
        // None of those that must not be seen is the stamp of another sector.
        let stamp = (number + 1) << 32;
        let submitting = &self.snapshot.submitting;
        self.begun.set(self.begun.get() + 1);
        submitting.set(submitting.get() + 1);
        match action {
            Action::Write { nowait } => self.write(Op::Write, range, stamp, nowait),
            Action::Erase { op, nowait } => self.write(op, range, 0, nowait),
            Action::Flush => self.write(Op::Other, first..first, 0, false),
            Action::ImageRead => self.image_read(range, number),
            Action::ImageWrite => self.image_write(Op::Write, range, stamp),
            Action::ImageErase { op } => self.image_write(op, range, 0),
        }
        submitting.set(submitting.get() - 1);
    }

    fn done(&self) {
        self.ended.set(self.ended.get() + 1);
    }

    fn data(range: &Range<u64>, stamp: u64) -> Rc<RefCell<Vec<u8>>> {
        let mut data = vec![0; (range.end - range.start) as usize * SECTOR_SIZE];
        for (bytes, sector) in data.chunks_exact_mut(SECTOR_SIZE).zip(range.clone()) {
            fill(bytes, if stamp == 0 { 0 } else { stamp | sector });
        }
        Rc::new(RefCell::new(data))
    }

    fn write(self: &Rc<Self>, op: Op, range: Range<u64>, stamp: u64, nowait: bool) {
        let busy = self.writing.borrow()[range.start as usize..range.end as usize].contains(&true);
        if busy || self.under_storage(&range) {
            return self.done();
        }
        let set_writing = |device: &Device, range: &Range<u64>, to| {
            device.writing.borrow_mut()[range.start as usize..range.end as usize].fill(to)
        };
        set_writing(self, &range, true);
        let (device, sectors) = (self.clone(), range.clone());
        let end = move |result: Result| {
            match result {
                Ok(()) => {
                    for sector in sectors.clone() {
                        let stamp = if stamp == 0 { 0 } else { stamp | sector };
                        device.expected.borrow_mut()[sector as usize] = stamp;
                    }
                }
                Err(e) => assert!(
                    nowait && e == kernel::prelude::EAGAIN,
                    "a write to the original failed: {e:?}"
                ),
            }
            set_writing(&device, &sectors, false);
            device.done();
        };
        let bio = Bio::submit(Request {
            bdev: self.origin.clone(),
            op,
            sector: self.origin.start_sector() + range.start,
            sectors: range.end - range.start,
            nowait,
            data: Self::data(&range, stamp),
            end: Box::new(end),
        });
        bio.resubmit();
    }

    fn image_bio(
        &self,
        op: Op,
        range: &Range<u64>,
        data: Rc<RefCell<Vec<u8>>>,
        end: impl FnOnce(Result) + 'static,
    ) {
        let bio = Bio::submit(Request {
            bdev: self.origin.clone(),
            op,
            sector: range.start,
            sectors: range.end - range.start,
            nowait: false,
            data,
            end: Box::new(end),
        });
        Cow::submit_bio(&self.cow, bio);
    }

    fn image_read(self: &Rc<Self>, range: Range<u64>, id: u64) {
        if !self.snapshot.has_image() {
            return self.done();
        }
        let may_be = range
            .clone()
            .map(|sector| self.image.borrow()[sector as usize].may_be.clone())
            .collect();
        self.reads.borrow_mut().push(Read {
            id,
            first: range.start,
            may_be,
        });
        let device = self.clone();
        let data = Self::data(&range, 0xdead << 32);
        let found = data.clone();
        let end = move |result: Result| {
            let at = device.reads.borrow().iter().position(|read| read.id == id);
            let read = device
                .reads
                .borrow_mut()
                .swap_remove(at.expect("ends once"));
            match result {
                Err(e) => assert!(device.has_reason(), "a read of the image failed: {e:?}"),
                Ok(()) => {
                    for (i, bytes) in found.borrow().chunks_exact(SECTOR_SIZE).enumerate() {
                        let stamp = stamp_of(bytes);
                        assert!(
                            stamp.is_some_and(|stamp| read.may_be[i].contains(&stamp)),
                            "sector {} of the image is {stamp:x?} instead of {:x?}",
                            read.first + i as u64,
                            read.may_be[i]
                        );
                    }
                }
            }
            device.done();
        };
        self.image_bio(Op::Read, &range, data, end);
    }

    /// Writes to the image, or erases there if `stamp` is zero.
    fn image_write(self: &Rc<Self>, op: Op, range: Range<u64>, stamp: u64) {
        let sectors = range.start as usize..range.end as usize;
        let busy = self.image.borrow()[sectors.clone()]
            .iter()
            .any(|s| s.written);
        if busy || !self.snapshot.has_image() {
            return self.done();
        }
        let stamp_at = move |sector: u64| if stamp == 0 { 0 } else { stamp | sector };
        let before: Vec<_> = self.image.borrow()[sectors.clone()]
            .iter()
            .map(|sector| sector.may_be.clone())
            .collect();
        for sector in range.clone() {
            let image = &mut self.image.borrow_mut()[sector as usize];
            image.written = true;
            image.may_be.push(stamp_at(sector));
            for read in self.reads.borrow_mut().iter_mut() {
                let at = sector.checked_sub(read.first).map(|at| at as usize);
                if let Some(may_be) = at.and_then(|at| read.may_be.get_mut(at)) {
                    may_be.push(stamp_at(sector));
                }
            }
        }
        let device = self.clone();
        let end = move |result: Result| {
            let refused = op != Op::Write && result == Err(EOPNOTSUPP);
            if let Err(e) = result {
                let allowed = refused || device.has_reason();
                assert!(allowed, "a {op:?} of the image failed: {e:?}");
            }
            for (sector, before) in sectors.zip(before) {
                let image = &mut device.image.borrow_mut()[sector];
                image.written = false;
                match op {
                    Op::Write | Op::WriteZeroes if result.is_ok() => {
                        image.may_be = vec![stamp_at(sector as u64)]
                    }
                    _ if refused => image.may_be = before,
                    // What was discarded may have stayed, and so may what failed.
                    _ => {}
                }
            }
            device.done();
        };
        self.image_bio(op, &range, Self::data(&range, stamp), end);
    }

    fn is_at_rest(&self) {
        assert_eq!(self.ended.get(), self.begun.get(), "something never ended");
        let counters = self.cow.counters();
        assert_eq!(counters.jobs_in_flight, 0);
        assert_eq!(counters.buffered_bytes, 0);
        assert_eq!(counters.parked, 0);
        assert_eq!(Arc::strong_count(&self.cow), 1, "somebody still has it");
    }

    fn has_all_writes(&self) {
        for (sector, &stamp) in self.expected.borrow().iter().enumerate() {
            let range = sector as u64..sector as u64 + 1;
            if !self.under_storage(&range) {
                let found = self.origin.access(range.start, 1, |bytes| stamp_of(bytes));
                assert_eq!(found, Some(stamp), "sector {sector} of the original");
            }
        }
    }

    fn has_told_the_truth(&self) {
        // No device has gone, so that the end of the snapshot is the only reason to say so.
        let error = self.cow.error().err().filter(|e| *e != ENODEV);
        let plan = &self.snapshot.plan;
        let storage = &self.snapshot.storage;
        storage.told(|told| {
            let of_us = told.corrupted.iter().filter(|t| t.0 == self.origin.dev());
            let told_of: Vec<_> = of_us.map(|t| t.1).collect();
            assert_eq!(told_of, error.into_iter().collect::<Vec<_>>());
            assert!(error != Some(ENOSPC) || !told.full.is_empty());
        });
        if plan.io_errors == 0 {
            let no_memory = plan.no_memory > 0;
            let allowed = |e| e == ENOSPC || (no_memory && e == ENOMEM);
            assert!(error.is_none_or(allowed), "given up: {error:?}");
        }
        if error == Some(ENOSPC) {
            let free = storage.space().free() * SECTOR_SIZE as u64;
            let chunk = self.cow.counters().chunk_bytes;
            // Chunks are aligned in the space.
            assert!(free < 2 * chunk, "given up with {free} bytes free");
        }
    }
}

impl World {
    fn new(plan: Plan) -> Rc<Self> {
        let disk = BlockDevice::new(0, 2048);
        let snapshot = Rc::new(Snapshot {
            storage: storage(&plan, &disk),
            plan,
            submitting: Cell::new(0),
            frozen: Cell::new(false),
            held: Cell::new(false),
            looked: Cell::new(false),
            over: Cell::new(false),
            given_back: Cell::new(false),
        });
        let mut start = 0;
        let devices = snapshot.plan.origins.iter().map(|origin| {
            let partition = disk.partition(start + origin.gap, origin.sectors);
            start += origin.gap + origin.sectors;
            Device::new(&snapshot, partition, &origin.sizes)
        });
        Rc::new(World {
            devices: devices.collect(),
            snapshot: snapshot.clone(),
        })
    }

    /// Begins the snapshot as the driver does: nobody submits, and the disk has done what it had.
    /// What it has split off, and not submitted yet, comes when the snapshot is held.
    fn take(self: &Rc<Self>) {
        let snapshot = &self.snapshot;
        snapshot.frozen.set(true);
        let drained = self.devices.iter().all(|d| d.origin.is_drained());
        if snapshot.submitting.get() > 0 || !drained {
            let world = self.clone();
            return sim::step(move || world.take());
        }
        for device in &self.devices {
            device.take();
        }
        snapshot.held.set(true);
        snapshot.frozen.set(false);
    }

    /// Ends the snapshot as the driver does: no more bios come, those under way end.
    fn tear_down(self: &Rc<Self>) {
        let world = self.clone();
        let again = move || world.tear_down();
        let snapshot = &self.snapshot;
        if !snapshot.held.get() {
            return sim::step(again);
        }
        // In the middle of things, or after a look at everything that there is.
        if snapshot.plan.seed & 1 << 40 != 0 && !snapshot.looked.replace(true) {
            for (number, device) in self.devices.iter().enumerate() {
                let id = snapshot.plan.actions.len() + number;
                device.submit(id as u64, Action::ImageRead, 0, u64::MAX);
            }
            return sim::step(again);
        }
        let reading = |device: &Rc<Device>| !device.reads.borrow().is_empty();
        if snapshot.looked.get() && self.devices.iter().any(reading) {
            return sim::step(again);
        }
        if !snapshot.over.get() {
            for device in &self.devices {
                device.cow.close();
            }
            snapshot.frozen.set(true);
            if snapshot.submitting.get() > 0 {
                return sim::step(again);
            }
            snapshot.over.set(true);
            snapshot.frozen.set(false);
        }
        let world = self.clone();
        let wait = move || {
            for device in &world.devices {
                device.cow.wait_idle();
            }
        };
        if !sim::try_to(wait) {
            return sim::step(again);
        }
        self.snapshot.given_back.set(true);
        let storage = &self.snapshot.storage;
        assert!(
            !storage.waits_in_vain(),
            "the storage was not told that it is used"
        );
        storage.close();
        let no_poison = |bytes: &[u8]| {
            for sector in bytes.chunks_exact(SECTOR_SIZE) {
                let leaked = sector.iter().all(|&byte| byte == POISON);
                assert!(!leaked, "memory that nothing was put into was stored");
            }
        };
        for piece in storage.space().all() {
            match storage.target(&piece) {
                Target::Disk(disk) => {
                    disk.access(piece.sector, piece.sectors, |bytes| no_poison(bytes));
                    disk.forbid(piece.sector, piece.sectors);
                }
                Target::Memory(file) => {
                    file.access(no_poison);
                    file.forbid();
                }
            }
        }
    }

    fn next(self: &Rc<Self>, number: u64, first: Option<u64>, last: u64) {
        let world = self.clone();
        sim::step(move || {
            // The next one, the beginning and the end may come in the middle of this one.
            if Some(number) == first {
                let other = world.clone();
                sim::step(move || other.take());
            }
            if number == last {
                let other = world.clone();
                sim::step(move || other.tear_down());
            }
            let actions = &world.snapshot.plan.actions;
            if number + 1 < actions.len() as u64 {
                world.next(number + 1, first, last);
            }
            let (action, at, sectors) = actions[number as usize];
            let devices = world.devices.len() as u64;
            let device = &world.devices[(at % devices) as usize];
            device.submit(number, action, at / devices, sectors);
        });
    }

    fn is_at_rest(&self) {
        let storage = &self.snapshot.storage;
        assert!(self.snapshot.given_back.get(), "the storage is not closed");
        let copied: u64 = self
            .devices
            .iter()
            .map(|device| device.cow.counters())
            .map(|counters| counters.chunks_copied * counters.chunk_bytes)
            .sum();
        let space = storage.space();
        assert!(copied <= space.used() * SECTOR_SIZE as u64);
        assert!(space.used() <= space.capacity());
        let begun: u64 = self.devices.iter().map(|device| device.begun.get()).sum();
        let mut asked = self.snapshot.plan.actions.len();
        if self.snapshot.looked.get() {
            asked += self.devices.len();
        }
        assert_eq!(begun, asked as u64);
    }
}

/// Runs a plan to its end.
pub(crate) fn check(plan: Plan) {
    let boot = sim::boot(plan.seed, plan.no_memory, plan.io_errors);
    let world = World::new(plan);
    // The end comes in the middle of things, or when all has been asked for.
    let plan = &world.snapshot.plan;
    let actions = plan.actions.len() as u64;
    let last = (plan.seed % (actions * 3)).min(actions - 1);
    // The snapshot is there from the beginning, or some writes come before it.
    let first = match (plan.seed >> 32).is_multiple_of(2) {
        true => {
            world.take();
            None
        }
        false => Some((plan.seed >> 33) % (last + 1)),
    };
    world.next(0, first, last);
    sim::run_all();

    world.is_at_rest();
    for device in &world.devices {
        device.is_at_rest();
        device.has_all_writes();
        device.has_told_the_truth();
    }
    drop(boot);
}
