// SPDX-License-Identifier: GPL-2.0

//! Copy-on-write and the image as a whole, against an array of sectors.
//!
//! Writes to the original, and reads and writes of the image, arrive while
//! others are under way; everything that could run at once runs in an order
//! drawn by lot. Whatever the order, and whatever fails:
//!
//! - the image shows what the original contained at first, or what was written
//!   to the image, or an error, never anything else, and errors only for a
//!   reason;
//! - the original takes every write, as if there were no snapshot;
//! - nothing is lost or left, and what is under the storage is never shown;
//! - after the end nobody touches the storage.

use crate::{
    cow::{Context, Cow},
    space::Piece,
    storage::Storage,
};
use kernel::{
    block::{
        bdev::BlockDevice,
        bio::{Bio, Op, Request, POISON},
        bio_disk::BioDriver,
        SECTOR_SIZE,
    },
    prelude::Result,
    sim,
    sync::Arc,
    workqueue::OwnedQueue,
};
use proptest::prelude::*;
use std::{
    cell::{Cell, RefCell},
    ops::Range,
    rc::Rc,
};

/// What a test does, one after the other, none waiting for the one before.
#[derive(Clone, Copy, Debug)]
enum Action {
    Write { nowait: bool },
    Discard,
    ImageRead,
    ImageWrite,
}

#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    /// Where the original begins on its disk, and its size.
    start: u64,
    sectors: u64,
    /// Storage on the original's own disk.
    same_disk: bool,
    extents: Vec<(u64, u64)>,
    limit: u64,
    no_memory: u64,
    io_errors: u64,
    actions: Vec<(Action, u64, u64)>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let action = prop_oneof![
        4 => any::<bool>().prop_map(|seldom| Action::Write { nowait: seldom }),
        1 => Just(Action::Discard),
        4 => Just(Action::ImageRead),
        2 => Just(Action::ImageWrite),
    ];
    let storage = (
        any::<bool>(),
        prop::collection::vec((0..24u64, 4..56u64), 1..12),
        prop_oneof![Just(u64::MAX), 0..400u64],
    );
    let trouble = (
        prop_oneof![3 => Just(0u64), 1 => 2..12u64],
        prop_oneof![4 => Just(0u64), 1 => 3..40u64],
    );
    let actions = prop::collection::vec((action, any::<u64>(), 1..80u64), 1..60);
    (any::<u64>(), 0..20u64, 1..700u64, storage, trouble, actions).prop_map(
        |(seed, start, sectors, (same_disk, extents, limit), (no_memory, io_errors), actions)| {
            Plan {
                seed,
                start,
                sectors,
                same_disk,
                extents,
                limit,
                no_memory,
                io_errors,
                actions,
            }
        },
    )
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

struct World {
    plan: Plan,
    origin: BlockDevice,
    storage: Vec<(BlockDevice, Piece)>,
    cow: Arc<Cow>,
    /// What the original must contain, by sector.
    expected: RefCell<Vec<u64>>,
    /// Sectors of the original that are being written.
    writing: RefCell<Vec<bool>>,
    image: RefCell<Vec<ImageSector>>,
    reads: RefCell<Vec<Read>>,
    /// Submissions that have not returned.
    submitting: Cell<u32>,
    begun: Cell<u64>,
    ended: Cell<u64>,
    /// No more bios must come.
    over: Cell<bool>,
    /// The storage is closed.
    given_back: Cell<bool>,
}

impl World {
    fn new(plan: Plan) -> Rc<Self> {
        let disk = BlockDevice::new(0, 2048);
        let other = BlockDevice::new(1, 1024);
        let origin = disk.partition(plan.start, plan.sectors);
        let mut storage = Vec::new();
        for (i, &(offset, sectors)) in plan.extents.iter().enumerate() {
            let dev = if plan.same_disk { &disk } else { &other };
            let piece = Piece {
                dev: 0,
                sector: i as u64 * 80 + offset,
                sectors,
            };
            storage.push((dev.clone(), piece));
        }
        let extents: Vec<_> = storage.iter().map(|(_, piece)| *piece).collect();

        let mut world_image = Vec::new();
        let mut expected = Vec::new();
        for sector in 0..plan.sectors {
            let stamp = 1 << 63 | sector;
            origin.access(sector, 1, |bytes| fill(bytes, stamp));
            expected.push(stamp);
            world_image.push(ImageSector {
                may_be: vec![stamp],
                written: false,
            });
        }
        let devs = vec![storage[0].0.clone()];
        let space = Storage::new(devs, &extents, plan.limit);
        // What the driver uses of the extents reads as zeroes.
        for piece in space.space().all().filter(|_| plan.same_disk) {
            for sector in piece.sector..piece.sector + piece.sectors {
                if let Some(sector) = sector.checked_sub(plan.start) {
                    if let Some(image) = world_image.get_mut(sector as usize) {
                        image.may_be = vec![0];
                    }
                }
            }
        }
        let queue = Arc::new(OwnedQueue::default());
        let cow = Cow::new(&origin, &Arc::new(space), &queue).expect("there is memory");
        Rc::new(World {
            writing: RefCell::new(vec![false; plan.sectors as usize]),
            plan,
            origin,
            storage,
            cow,
            expected: RefCell::new(expected),
            image: RefCell::new(world_image),
            reads: RefCell::default(),
            submitting: Cell::new(0),
            begun: Cell::new(0),
            ended: Cell::new(0),
            over: Cell::new(false),
            given_back: Cell::new(false),
        })
    }

    /// Whether a range of the original's sectors lies under the storage, rounded up to whole
    /// extents, where nobody writes.
    fn under_storage(&self, range: &Range<u64>) -> bool {
        self.plan.same_disk
            && self.storage.iter().any(|(_, piece)| {
                let (start, end) = (range.start + self.plan.start, range.end + self.plan.start);
                piece.sector < end && start < piece.sector + piece.sectors
            })
    }

    /// Errors are allowed if something has failed.
    fn has_reason(&self) -> bool {
        self.plan.io_errors > 0 || self.cow.error().is_err()
    }

    fn submit(self: &Rc<Self>, number: u64) {
        let (action, first, sectors) = self.plan.actions[number as usize];
        let first = first % self.plan.sectors;
        let range = first..(first + sectors).min(self.plan.sectors);
        // None of those that must not be seen is the stamp of another sector.
        let stamp = (number + 1) << 32;
        self.begun.set(self.begun.get() + 1);
        self.submitting.set(self.submitting.get() + 1);
        match action {
            Action::Write { nowait } => self.write(Op::Write, range, stamp, nowait),
            Action::Discard => self.write(Op::Discard, range, 0, false),
            Action::ImageRead => self.image_read(range, number),
            Action::ImageWrite => self.image_write(range, stamp),
        }
        self.submitting.set(self.submitting.get() - 1);
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
        let set_writing = |world: &World, range: &Range<u64>, to| {
            world.writing.borrow_mut()[range.start as usize..range.end as usize].fill(to)
        };
        set_writing(self, &range, true);
        let (world, sectors) = (self.clone(), range.clone());
        let end = move |result: Result| {
            match result {
                Ok(()) => {
                    for sector in sectors.clone() {
                        let stamp = if stamp == 0 { 0 } else { stamp | sector };
                        world.expected.borrow_mut()[sector as usize] = stamp;
                    }
                }
                Err(e) => assert!(
                    nowait && e == kernel::prelude::EAGAIN,
                    "a write to the original failed: {e:?}"
                ),
            }
            set_writing(&world, &sectors, false);
            world.done();
        };
        let bio = Bio::submit(Request {
            bdev: self.origin.clone(),
            op,
            sector: self.plan.start + range.start,
            sectors: range.end - range.start,
            nowait,
            data: Self::data(&range, stamp),
            end: Box::new(end),
        });
        let pass = match self.over.get() {
            true => Some(bio),
            false => self.cow.write(bio, Context::Submitter),
        };
        if let Some(bio) = pass {
            bio.resubmit();
        }
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
        if self.over.get() {
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
        let world = self.clone();
        let data = Self::data(&range, 0xdead << 32);
        let found = data.clone();
        let end = move |result: Result| {
            let at = world.reads.borrow().iter().position(|read| read.id == id);
            let read = world.reads.borrow_mut().swap_remove(at.expect("ends once"));
            match result {
                Err(e) => assert!(world.has_reason(), "a read of the image failed: {e:?}"),
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
            world.done();
        };
        self.image_bio(Op::Read, &range, data, end);
    }

    fn image_write(self: &Rc<Self>, range: Range<u64>, stamp: u64) {
        let sectors = range.start as usize..range.end as usize;
        let busy = self.image.borrow()[sectors.clone()]
            .iter()
            .any(|s| s.written);
        if busy || self.over.get() {
            return self.done();
        }
        for sector in range.clone() {
            let image = &mut self.image.borrow_mut()[sector as usize];
            image.written = true;
            image.may_be.push(stamp | sector);
            for read in self.reads.borrow_mut().iter_mut() {
                let at = sector.checked_sub(read.first).map(|at| at as usize);
                if let Some(may_be) = at.and_then(|at| read.may_be.get_mut(at)) {
                    may_be.push(stamp | sector);
                }
            }
        }
        let world = self.clone();
        let end = move |result: Result| {
            if let Err(e) = result {
                assert!(world.has_reason(), "a write to the image failed: {e:?}");
            }
            for sector in sectors {
                let image = &mut world.image.borrow_mut()[sector];
                image.written = false;
                if result.is_ok() {
                    image.may_be = vec![stamp | sector as u64];
                }
            }
            world.done();
        };
        self.image_bio(Op::Write, &range, Self::data(&range, stamp), end);
    }

    /// Ends the snapshot as the driver does: no more bios come, those under way end.
    fn tear_down(self: &Rc<Self>) {
        let world = self.clone();
        let again = move || world.tear_down();
        if self.submitting.get() > 0 {
            return sim::step(again);
        }
        if self.given_back.get() {
            return;
        }
        self.cow.close();
        self.over.set(true);
        let world = self.clone();
        if !sim::try_to(move || world.cow.wait_idle()) {
            return sim::step(again);
        }
        // Another attempt may have come to its end while this one waited.
        if self.given_back.replace(true) {
            return;
        }
        for (dev, piece) in &self.storage {
            dev.access(piece.sector, piece.sectors, |bytes| {
                for sector in bytes.chunks_exact(SECTOR_SIZE) {
                    let leaked = sector.iter().all(|&byte| byte == POISON);
                    assert!(!leaked, "memory that nothing was put into was stored");
                }
            });
            dev.forbid(piece.sector, piece.sectors);
        }
    }

    fn next(self: &Rc<Self>, number: u64, last: u64) {
        let world = self.clone();
        sim::step(move || {
            // The next one may come in the middle of this one.
            match number + 1 < world.plan.actions.len() as u64 {
                true if number == last => {
                    let other = world.clone();
                    sim::step(move || other.tear_down());
                    world.next(number + 1, last);
                }
                true => world.next(number + 1, last),
                false => {
                    let other = world.clone();
                    sim::step(move || other.tear_down());
                }
            }
            world.submit(number);
        });
    }
}

fn check(plan: Plan) {
    let boot = sim::boot(plan.seed, plan.no_memory, plan.io_errors);
    let world = World::new(plan.clone());
    // At some action, or after all.
    let last = plan.seed % (plan.actions.len() as u64 * 3);
    world.next(0, last);
    sim::run_all();

    assert_eq!(
        world.ended.get(),
        world.begun.get(),
        "something never ended"
    );
    assert_eq!(world.begun.get(), plan.actions.len() as u64);
    for (sector, &stamp) in world.expected.borrow().iter().enumerate() {
        let range = sector as u64..sector as u64 + 1;
        if !world.under_storage(&range) {
            let found = world.origin.access(range.start, 1, |bytes| stamp_of(bytes));
            assert_eq!(found, Some(stamp), "sector {sector} of the original");
        }
    }
    assert_eq!(Arc::strong_count(&world.cow), 1, "somebody still has it");
    drop(boot);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600,
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn an_image_shows_what_was_there(plan in plan()) {
        check(plan);
    }
}
