// SPDX-License-Identifier: GPL-2.0

//! What cannot be read, and what there is no memory for, where a test wants it.
//!
//! Chunks are of a page. Orders are drawn by lot, many for each test.

use crate::{
    cow::{Context, Cow, Sizes, Stop},
    ranges::Ranges,
    space::Piece,
    storage::{Storage, Target},
};
use kernel::{
    block::{
        bdev::BlockDevice,
        bio::{Bio, Op, Request},
        bio_disk::BioDriver,
        SECTOR_SIZE,
    },
    prelude::*,
    sim,
    sync::Arc,
    workqueue::OwnedQueue,
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

/// Sectors of a chunk.
const CHUNK: u64 = 8;

/// Orders that are tried.
const ORDERS: u64 = if cfg!(miri) { 3 } else { 300 };

const OLD: u8 = 1;
const NEW: u8 = 2;

/// A device with a snapshot.
struct Bed {
    origin: BlockDevice,
    storage: Arc<Storage>,
    cow: Arc<Cow>,
}

impl Bed {
    fn new() -> Self {
        Self::with_storage(4096, None)
    }

    /// A bed whose storage has room for so many chunks, and may grow by so many once.
    fn with_storage(chunks: u64, portion: Option<u64>) -> Self {
        let origin = BlockDevice::new(0, 128 * CHUNK);
        origin.access(0, origin.sectors(), |bytes| bytes.fill(OLD));
        // What a copy that fails was to take stays unused.
        let disk = BlockDevice::new(1, (chunks + portion.unwrap_or(0)) * CHUNK);
        let piece = |first, chunks| Piece {
            dev: 0,
            sector: first * CHUNK,
            sectors: chunks * CHUNK,
        };
        let targets = vec![Target::Disk((&disk).into())];
        let more = portion.map(|more| vec![piece(chunks, more)]);
        let storage = Storage::new(targets, &[piece(0, chunks)], more, u64::MAX).unwrap();
        let sizes = Sizes {
            min_shift: 12,
            max_count_shift: 32,
            max_shift: 12,
            max_jobs: 256,
        };
        let queue = Arc::new(OwnedQueue::default());
        let cow = Cow::new(&origin, &storage, Ranges::default(), &sizes, &queue).unwrap();
        let (weak, device) = (Arc::downgrade(&cow), origin.clone());
        device.attach(move |bio| {
            let cow = weak.upgrade().unwrap();
            if let Some(bio) = cow.write(bio, Context::Submitter) {
                bio.pass_on();
            }
        });
        Bed {
            origin,
            storage,
            cow,
        }
    }

    fn request(&self, op: Op, chunk: u64, fill: u8) -> (Request, Rc<Cell<Option<Result>>>) {
        let told = Rc::new(Cell::new(None));
        let tell = told.clone();
        let request = Request {
            bdev: self.origin.clone(),
            op,
            sector: chunk * CHUNK,
            sectors: CHUNK,
            nowait: false,
            data: Rc::new(RefCell::new(vec![fill; CHUNK as usize * SECTOR_SIZE])),
            end: Box::new(move |result| tell.set(Some(result))),
        };
        (request, told)
    }

    /// Submits a write to a chunk of the original, as a step.
    fn write(&self, chunk: u64) -> Rc<Cell<Option<Result>>> {
        let (request, told) = self.request(Op::Write, chunk, NEW);
        sim::step(move || Bio::submit(request).resubmit());
        told
    }

    /// What a chunk of the image is full of.
    fn image(&self, chunk: u64) -> Result<u8> {
        let (request, told) = self.request(Op::Read, chunk, 0);
        let (cow, data) = (self.cow.clone(), request.data.clone());
        sim::step(move || Cow::submit_bio(&cow, Bio::submit(request)));
        sim::run_all();
        told.get().expect("has ended")?;
        let data = data.borrow();
        assert!(data.iter().all(|byte| *byte == data[0]));
        Ok(data[0])
    }

    fn original(&self, chunk: u64) -> u8 {
        let at = chunk * CHUNK;
        self.origin.access(at, 1, |bytes| bytes[0])
    }

    fn corrupted(&self) -> Vec<Error> {
        let errors = |corrupted: &[((u32, u32), Error)]| corrupted.iter().map(|c| c.1).collect();
        self.storage.told(|told| errors(&told.corrupted))
    }
}

fn in_many_orders(test: impl Fn(&Bed)) {
    in_many_orders_with(Bed::new, test);
}

fn in_many_orders_with(bed: impl Fn() -> Bed, test: impl Fn(&Bed)) {
    for seed in 0..ORDERS {
        let boot = sim::boot(seed * 2 + 1, 0, 0);
        let bed = bed();
        test(&bed);
        sim::run_all();
        let counters = bed.cow.counters();
        assert_eq!((counters.jobs_in_flight, counters.parked), (0, 0));
        assert_eq!(Arc::strong_count(&bed.cow), 1, "somebody still has it");
        drop(boot);
    }
}

#[test]
fn a_bad_sector_that_nobody_writes_is_left_alone() {
    in_many_orders(|bed| {
        bed.origin.wear_out(2 * CHUNK + 3, 1);
        // What is copied next has a neighbour, so that more is copied than is written.
        let far = bed.write(40);
        sim::run_all();
        let near = bed.write(1);
        sim::run_all();
        assert_eq!((far.get(), near.get()), (Some(Ok(())), Some(Ok(()))));
        assert_eq!([40, 1].map(|chunk| bed.original(chunk)), [NEW; 2]);
        assert_eq!(bed.corrupted(), []);
        let failed = bed.cow.counters().copies_failed;
        assert!(failed > 0, "the bad sector has not been come across");
        for chunk in [0, 1, 3, 40, 41] {
            assert_eq!(bed.image(chunk), Ok(OLD), "chunk {chunk}");
        }
        assert_eq!(bed.image(2), Err(EIO));
        assert_eq!(bed.corrupted(), []);
        // The others near it can be written too.
        let others = [0, 3].map(|chunk| bed.write(chunk));
        sim::run_all();
        assert!(others.iter().all(|told| told.get() == Some(Ok(()))));
        assert_eq!([0, 3].map(|chunk| bed.image(chunk)), [Ok(OLD); 2]);
        assert_eq!(bed.corrupted(), []);

        // What was there has to be kept now, and cannot be.
        let bad = bed.write(2);
        sim::run_all();
        assert_eq!((bad.get(), bed.original(2)), (Some(Ok(())), NEW));
        assert_eq!(bed.corrupted(), [EIO]);
        assert_eq!(bed.image(1), Err(EIO));
    });
}

#[test]
fn a_bad_sector_ahead_of_a_stream_is_left_alone() {
    in_many_orders(|bed| {
        bed.origin.wear_out(30 * CHUNK, 1);
        for chunk in 0..30 {
            let told = bed.write(chunk);
            sim::run_all();
            assert_eq!(told.get(), Some(Ok(())));
        }
        assert!(bed.cow.counters().copies_failed > 0);
        assert_eq!(bed.corrupted(), []);
        let image = (0..30).map(|chunk| bed.image(chunk));
        assert!(image.eq([Ok(OLD); 30]));
        // What is copied in vain takes room, so that it must not be tried again and again.
        let used = bed.cow.storage.space().used() / CHUNK;
        assert!(used <= 30 + 2 * 64, "{used} chunks of storage");
    });
}

#[test]
fn without_memory_a_write_waits_for_copies_in_flight() {
    in_many_orders(|bed| {
        bed.origin.hold();
        let first = bed.write(10);
        sim::run_all();
        assert_eq!(bed.cow.counters().jobs_in_flight, 1);
        sim::trouble(1, 0);
        let second = bed.write(90);
        sim::run_all();
        assert_eq!(bed.cow.counters().parked, 1);
        assert_eq!((first.get(), second.get()), (None, None));
        assert_eq!(bed.corrupted(), []);

        // That of the copy comes back, and so does that of others.
        sim::trouble(0, 0);
        bed.origin.release();
        sim::run_all();
        assert_eq!((first.get(), second.get()), (Some(Ok(())), Some(Ok(()))));
        assert_eq!([10, 90].map(|chunk| bed.image(chunk)), [Ok(OLD); 2]);
        assert_eq!(bed.corrupted(), []);
    });
}

#[test]
fn without_memory_and_copies_in_flight_the_snapshot_is_given_up() {
    in_many_orders(|bed| {
        sim::trouble(1, 0);
        let told = bed.write(10);
        sim::run_all();
        assert_eq!((told.get(), bed.original(10)), (Some(Ok(())), NEW));
        assert_eq!(bed.corrupted(), [ENOMEM]);
        sim::trouble(0, 0);
        assert_eq!(bed.image(10), Err(EIO));
    });
}

#[test]
fn without_memory_nothing_is_copied_ahead() {
    in_many_orders(|bed| {
        sim::trouble(1, 0);
        let ahead = bed.cow.start_copy(10, 11, true, Context::Ahead);
        assert_eq!(ahead, Err(Stop::Busy));
        assert_eq!(bed.corrupted(), []);

        sim::trouble(0, 0);
        // Nor where no page is left but those kept back.
        sim::no_pages(true);
        let ahead = bed.cow.start_copy(10, 11, true, Context::Ahead);
        assert_eq!(ahead, Err(Stop::Busy));
        let reserve = bed.cow.jobs.lock().take_reserve();
        assert!(reserve.is_some());

        sim::no_pages(false);
        let ahead = bed.cow.start_copy(10, 11, true, Context::Ahead);
        assert_eq!(ahead, Ok(()));
        sim::run_all();
        assert_eq!(bed.cow.counters().chunks_copied, 2);
    });
}

#[test]
fn nothing_is_copied_ahead_of_those_that_wait_for_room() {
    in_many_orders(|bed| {
        bed.origin.hold();
        let first = bed.write(10);
        sim::run_all();
        sim::trouble(1, 0);
        let second = bed.write(90);
        sim::run_all();
        assert_eq!(bed.cow.counters().parked, 1);
        sim::trouble(0, 0);
        let ahead = bed.cow.start_copy(50, 51, true, Context::Ahead);
        assert_eq!(ahead, Err(Stop::Busy));
        bed.origin.release();
        sim::run_all();
        assert_eq!((first.get(), second.get()), (Some(Ok(())), Some(Ok(()))));
        assert_eq!(bed.cow.start_copy(50, 51, true, Context::Ahead), Ok(()));
        assert_eq!(bed.corrupted(), []);
    });
}

#[test]
fn what_is_kept_back_is_enough_for_all_writes() {
    in_many_orders(|bed| {
        sim::no_pages(true);
        // Neighbours too, of which only one at a time can be copied.
        let writes = [10, 90, 11, 12, 50, 13].map(|chunk| bed.write(chunk));
        sim::run_all();
        assert!(writes.iter().all(|told| told.get() == Some(Ok(()))));
        assert_eq!(bed.corrupted(), []);
        // There was always a copy that would give its memory back.
        assert_eq!(sim::waited_for_pages(), 0);
        for chunk in [10, 11, 12, 13, 50, 90] {
            assert_eq!((bed.original(chunk), bed.image(chunk)), (NEW, Ok(OLD)));
        }
    });
}

#[test]
fn memory_is_waited_for_where_nothing_is_kept_back() {
    in_many_orders(|bed| {
        // As if a reader of the image had kept it.
        drop(bed.cow.jobs.lock().take_reserve());
        bed.origin.hold();
        let first = bed.write(10);
        sim::run_all();
        sim::no_pages(true);
        let second = bed.write(90);
        sim::run_all();
        // A copy is in flight: nobody waits for memory, but for that.
        assert_eq!((sim::waited_for_pages(), bed.cow.counters().parked), (0, 1));
        bed.origin.release();
        sim::run_all();
        assert_eq!((first.get(), second.get()), (Some(Ok(())), Some(Ok(()))));
        assert!(sim::waited_for_pages() > 0);
        assert_eq!(bed.corrupted(), [ENOMEM]);
    });
}

#[test]
fn a_storage_that_grows_is_waited_for() {
    let bed = || Bed::with_storage(4, Some(4096));
    in_many_orders_with(bed, |bed| {
        // More than there is room for at first, in the middle of which the storage grows.
        let writes: Vec<_> = (0..20).map(|i| bed.write(i * 6)).collect();
        sim::run_all();
        assert!(writes.iter().all(|told| told.get() == Some(Ok(()))));
        assert_eq!(bed.corrupted(), []);
        for chunk in (0..20).map(|i| i * 6) {
            assert_eq!((bed.original(chunk), bed.image(chunk)), (NEW, Ok(OLD)));
        }
    });
}

#[test]
fn a_storage_is_not_waited_for_without_end() {
    // The tries are many, so that the orders are few.
    for seed in 0..3 {
        let boot = sim::boot(seed * 2 + 1, 0, 0);
        let bed = Bed::with_storage(4, Some(4096));
        bed.storage.get_stuck();
        let writes: Vec<_> = (0..20).map(|i| bed.write(i * 6)).collect();
        sim::run_all();
        assert!(writes.iter().all(|told| told.get() == Some(Ok(()))));
        assert_eq!(bed.corrupted(), [ENOSPC]);
        drop(bed);
        drop(boot);
    }
}
