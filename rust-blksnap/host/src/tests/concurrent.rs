// SPDX-License-Identifier: GPL-2.0

//! What is done without a lock, in every order that the memory model allows.

use crate::{
    change_map::{ChangeMap, Limits},
    chunk_map::{ChunkMap, State},
    cow::{Context, Cow, Sizes},
    jobs::{Ended, Job, Phase},
    ranges::Ranges,
    space::{Piece, Room, Space},
    storage::Storage,
};
use kernel::{
    block::{
        bdev::BlockDevice,
        bio::{BioList, Pages},
    },
    prelude::*,
    sync::atomic::{
        ordering::{Acquire, Relaxed, Release},
        Atomic,
    },
    workqueue::OwnedQueue,
};
use loom::{sync::Arc, thread};
use std::sync::atomic::{AtomicUsize, Ordering as Order};

/// All orders in which threads take each other's place at most four times unasked: enough for
/// every mistake known, and done in seconds. `LOOM_MAX_PREEMPTIONS` says otherwise.
fn model(f: impl Fn() + Sync + Send + 'static) {
    let orders = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = orders.clone();
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(4);
    model.check(move || {
        counted.fetch_add(1, Order::Relaxed);
        f();
    });
    let orders = orders.load(Order::Relaxed);
    assert!(orders > 1, "there was nothing to try: {orders} order");
    println!("{orders} orders");
}

/// The worker learns of an error no later than of the last I/O of its copy.
#[test]
fn an_error_is_not_lost_on_the_way_to_the_worker() {
    model(|| {
        let ended = Arc::new(Ended::new().unwrap());
        let threads = [vec![Err(EIO)], vec![Ok(()), Ok(())]].map(|results| {
            let ended = ended.clone();
            thread::spawn(move || {
                for result in results {
                    ended.record(7, result);
                }
            })
        });
        let mut count = 0;
        let mut error = false;
        let mut take = || {
            ended.take(|job, n, result| {
                assert_eq!(job, 7);
                count += n;
                error |= result.is_err();
                assert!(
                    count < 3 || error,
                    "all have ended, and the error is not there"
                );
            });
        };
        take();
        take();
        for thread in threads {
            thread.join().unwrap();
        }
        take();
        assert_eq!(count, 3);
    });
}

/// Whoever sees the state of a chunk sees what was done before it got there.
#[test]
fn a_state_brings_along_what_it_stands_for() {
    model(|| {
        let map = Arc::new(ChunkMap::new(10).unwrap());
        let done = Arc::new(Atomic::<u32>::new(0));
        let writer = {
            let (map, done) = (map.clone(), done.clone());
            thread::spawn(move || {
                let mut room = map.room(3, 1, GFP_NOWAIT).unwrap();
                assert!(map.install(3, 1, &mut room));
                map.set_run(3, 1, |_| State::Copying(1));
                done.store(1, Relaxed);
                map.set_run(3, 1, |_| State::Storing(1));
                done.store(2, Relaxed);
                map.set_run(3, 1, |_| State::Copied(9));
            })
        };
        let least = match map.get(3) {
            State::Original | State::Copying(1) => 0,
            State::Storing(1) => 1,
            State::Copied(9) => 2,
            other => panic!("{other:?} was never there"),
        };
        assert!(done.load(Relaxed) >= least);
        writer.join().unwrap();
        assert_eq!(map.get(3), State::Copied(9));
    });
}

/// States are there, and bring along what they stand for, while their region gets words.
#[test]
fn a_list_becomes_words_unseen() {
    model(|| {
        let map = Arc::new(ChunkMap::new(16).unwrap());
        for chunk in [1, 9, 5] {
            let mut room = map.room(chunk, 1, GFP_NOWAIT).unwrap();
            assert!(map.install(chunk, 1, &mut room));
            map.set_run(chunk, 1, |_| State::Copied(chunk));
        }
        let done = Arc::new(Atomic::<u32>::new(0));
        let writer = {
            let (map, done) = (map.clone(), done.clone());
            thread::spawn(move || {
                done.store(1, Relaxed);
                let mut room = map.room(3, 1, GFP_NOWAIT).unwrap();
                assert!(map.install(3, 1, &mut room));
                map.set_run(3, 1, |_| State::Copying(1));
                done.store(2, Relaxed);
                map.set_run(3, 1, |_| State::Storing(1));
            })
        };
        let least = match map.get(3) {
            State::Original => 0,
            State::Copying(1) => 1,
            State::Storing(1) => 2,
            other => panic!("{other:?} was never there"),
        };
        assert!(done.load(Relaxed) >= least);
        assert_eq!(map.get(5), State::Copied(5));
        writer.join().unwrap();
        let states = [1, 3, 5, 9].map(|chunk| map.get(chunk));
        assert_eq!(states[1], State::Storing(1));
        assert_eq!(
            [states[0], states[2], states[3]],
            [1, 5, 9].map(State::Copied)
        );
    });
}

/// One chunk of a device, read through the image while it is written and while the snapshot is
/// given up. All of it is the driver's own but the steps of each party, which are those of
/// `cow.rs` and `image.rs` without their I/O.
struct Chunk {
    cow: kernel::sync::Arc<Cow>,
    /// What the original contains.
    original: Atomic<u32>,
    /// What the copy contains.
    copy: Atomic<u32>,
}

const OLD: u32 = 1;
const NEW: u32 = 2;

/// The chunk. Others of its region were copied, so that the region has words, read without a lock.
const CHUNK: u64 = 3;

impl Chunk {
    fn new() -> Arc<Self> {
        let device = BlockDevice::new(0, 64);
        let storage = Storage::new(Vec::new(), &[], [], 0).unwrap();
        let sizes = Sizes {
            min_shift: 12,
            max_count_shift: 32,
            max_shift: 12,
            max_jobs: 8,
        };
        let queue = kernel::sync::Arc::new(OwnedQueue::default());
        let cow = Cow::new(&device, &storage, Ranges::default(), &sizes, &queue).unwrap();
        for chunk in [0, 1, 2] {
            let mut room = cow.map.room(chunk, 1, GFP_NOWAIT).unwrap();
            assert!(cow.map.install(chunk, 1, &mut room));
            cow.map.set_run(chunk, 1, |_| State::Copied(chunk));
        }
        Arc::new(Chunk {
            cow,
            original: Atomic::new(OLD),
            copy: Atomic::new(0),
        })
    }

    /// The device does one thing after the other, and who sees what was written sees what was done
    /// before it was submitted. The model checker tries more orders of what is changed than of
    /// what is only looked at.
    fn device_reads(&self) -> u32 {
        self.original.fetch_add(0, Acquire)
    }

    fn device_writes(&self) {
        self.original.xchg(NEW, Release);
    }

    /// `Cow::write`, with the copy that it starts.
    fn write(&self) {
        if self.cow.error().is_ok() && self.cow.map.get(CHUNK) == State::Original {
            let number = self.start();
            // It is read.
            let read = self.device_reads();
            match self.cow.error() {
                Ok(()) => {
                    let mut jobs = self.cow.jobs.lock();
                    if jobs.get(number).is_some() {
                        self.copy.store(read, Relaxed);
                        self.cow.map.set_run(CHUNK, 1, |_| State::Storing(number));
                        jobs.is_read(number);
                    }
                }
                Err(_) => self.finish(number),
            }
        }
        self.device_writes();
    }

    /// `Cow::start_copy`.
    fn start(&self) -> u32 {
        let mut jobs = self.cow.jobs.lock();
        let permit = jobs.permit(4096, Context::Worker).unwrap();
        self.cow
            .map
            .set_run(CHUNK, 1, |_| State::Copying(permit.job));
        let job = Job {
            first: CHUNK,
            chunks: 1,
            place: 0,
            others: KVec::new(),
            bytes: permit.bytes,
            pages: kernel::sync::Arc::new(Pages::new(1, GFP_KERNEL).unwrap()),
            reserve: false,
            more: false,
            phase: Phase::Read,
            pending: 1,
            writers: BioList::new(),
            image_writers: BioList::new(),
        };
        jobs.start(&permit, job);
        permit.job
    }

    /// `Cow::finish`, of a copy that has failed.
    fn finish(&self, number: u32) {
        let mut jobs = self.cow.jobs.lock();
        if jobs.get(number).is_some() {
            self.cow.map.set_run(CHUNK, 1, |_| State::Original);
            jobs.finish(number, false);
        }
    }

    /// The snapshot is given up: its copies end, and writes go on without any.
    fn give_up(&self) {
        self.cow.fail(EIO);
        // The only copy that there can be has the number of the first.
        self.finish(0);
        self.device_writes();
    }

    /// What the image shows: `ImageIo::complete` after a read of the original, and `read_memory` if
    /// that came too late. Nothing if the read fails, or would have to be tried again.
    fn read(&self) -> Option<u32> {
        let read = self.device_reads();
        let late = !self.cow.map.get(CHUNK).is_on_original();
        self.cow.error().ok()?;
        if !late {
            return Some(read);
        }
        let mut jobs = self.cow.jobs.lock();
        match self.cow.map.get(CHUNK) {
            State::Storing(number) => jobs.get(number).map(|_| self.copy.load(Relaxed)),
            _ => None,
        }
    }
}

/// An image never shows what was written to the original, whether a write is let go on because
/// there is a copy or because there will be none.
#[test]
fn an_image_shows_nothing_new() {
    model(|| {
        let chunk = Chunk::new();
        let writer = {
            let chunk = chunk.clone();
            thread::spawn(move || chunk.write())
        };
        let other = {
            let chunk = chunk.clone();
            thread::spawn(move || chunk.give_up())
        };
        let shown = chunk.read();
        assert!(shown.is_none_or(|shown| shown == OLD), "{shown:?}");
        writer.join().unwrap();
        other.join().unwrap();
        assert_eq!(chunk.read(), None);
    });
}

/// It does show what was there while a write goes on, from the original or from the copy.
#[test]
fn an_image_shows_what_is_overwritten() {
    model(|| {
        let chunk = Chunk::new();
        let writer = {
            let chunk = chunk.clone();
            thread::spawn(move || chunk.write())
        };
        assert_eq!(chunk.read(), Some(OLD));
        writer.join().unwrap();
        assert_eq!(chunk.read(), Some(OLD));
    });
}

/// The end of an I/O is told to its submitter or to the worker, never to both or to none.
#[test]
fn the_end_of_an_io_is_told_once() {
    model(|| {
        let ended = Arc::new(Ended::new().unwrap());
        ended.watch(7);
        let device = {
            let ended = ended.clone();
            thread::spawn(move || ended.record(7, Err(EIO)))
        };
        let seen = ended.look(7);
        let told = device.join().unwrap();
        assert_eq!(seen.is_some(), !told);
        if let Some(result) = seen {
            assert!(result.is_err());
        }
        let mut worker = 0;
        ended.take(|job, count, result| {
            assert!(job == 7 && count == 1 && result.is_err());
            worker += 1;
        });
        assert_eq!(worker, u32::from(told));
    });
}

fn at(room: Room) -> Option<(u64, u32)> {
    match room {
        Room::At(pos, n) => Some((pos, n)),
        Room::Later | Room::None => None,
    }
}

/// Two devices of a snapshot never get the same space.
#[test]
fn space_is_handed_out_once() {
    model(|| {
        let space = Space::new(u64::MAX).unwrap();
        let piece = Piece {
            dev: 0,
            sector: 0,
            sectors: 24,
        };
        space.append([piece].into_iter()).unwrap();
        let space = Arc::new(space);
        let other = {
            let space = space.clone();
            thread::spawn(move || at(space.alloc(8, 2, || {})))
        };
        let mut got: Vec<_> = [at(space.alloc(8, 2, || {})), other.join().unwrap()]
            .into_iter()
            .flatten()
            .collect();
        got.sort_unstable();
        assert_eq!(got, [(0, 2), (2, 1)]);
        assert_eq!(space.used(), 24);
    });
}

/// Whoever sees that the space has grown, or is given a part of what it has grown by, sees where
/// that lies.
#[test]
fn space_can_be_read_while_it_grows() {
    let piece = |sector, sectors| Piece {
        dev: 0,
        sector,
        sectors,
    };
    model(move || {
        let space = Arc::new(Space::new(u64::MAX).unwrap());
        space.append([piece(0, 8)].into_iter()).unwrap();
        let sum = |space: &Space, range| space.pieces(range).map(|p| p.sectors).sum::<u64>();
        let reader = {
            let space = space.clone();
            thread::spawn(move || {
                let size = space.size();
                assert!(size == 8 || size == 24, "{size}");
                assert_eq!(sum(&space, 0..size), size);
                if let Room::At(pos, n) = space.alloc(8, 3, || {}) {
                    let end = pos + u64::from(n);
                    assert_eq!(sum(&space, pos * 8..end * 8), u64::from(n) * 8);
                }
            })
        };
        let writer = {
            let space = space.clone();
            thread::spawn(move || {
                let pieces = [piece(100, 8), piece(200, 8)];
                space.append(pieces.into_iter()).unwrap();
            })
        };
        reader.join().unwrap();
        writer.join().unwrap();
        assert_eq!((space.size(), sum(&space, 0..24)), (24, 24));
        assert_eq!(space.pieces(8..24).nth(1), Some(piece(200, 8)));
    });
}

/// The snapshot's devices use up the space that is added meanwhile, once.
#[test]
fn space_that_is_added_is_handed_out_once() {
    let piece = |sector| Piece {
        dev: 0,
        sector,
        sectors: 8,
    };
    model(move || {
        let space = Arc::new(Space::new(u64::MAX).unwrap());
        space.append([piece(0)].into_iter()).unwrap();
        let other = {
            let space = space.clone();
            thread::spawn(move || at(space.alloc(8, 2, || {})))
        };
        space.append([piece(100)].into_iter()).unwrap();
        let one = at(space.alloc(8, 2, || {}));
        let mut got = vec![one, other.join().unwrap(), at(space.alloc(8, 2, || {}))];
        got.retain(Option::is_some);
        got.sort_unstable();
        let both = [Some((0, 1)), Some((1, 1))];
        assert!(got == both || got == [Some((0, 2))], "{got:?}");
    });
}

/// Nobody is told that there is no room while more is being made, and one is asked to make it.
#[test]
fn space_that_is_coming_is_waited_for() {
    let piece = |sector| Piece {
        dev: 0,
        sector,
        sectors: 8,
    };
    model(move || {
        let space = Arc::new(Space::new(u64::MAX).unwrap());
        space.append([piece(0)].into_iter()).unwrap();
        space.set_mark(8);
        let asked = Arc::new(AtomicUsize::new(0));
        let threads = [(); 2].map(|()| {
            let (space, asked) = (space.clone(), asked.clone());
            thread::spawn(move || {
                let more = || {
                    assert_eq!(asked.fetch_add(1, Order::Relaxed), 0, "asked for twice");
                    space.append([piece(100)].into_iter()).unwrap();
                    space.set_mark(Space::NEVER);
                };
                loop {
                    match space.alloc(8, 1, more) {
                        Room::At(pos, n) => break (pos, n),
                        Room::Later => thread::yield_now(),
                        Room::None => panic!("there was more to come"),
                    }
                }
            })
        });
        let mut got = threads.map(|thread| thread.join().unwrap());
        got.sort_unstable();
        assert_eq!(got, [(0, 1), (1, 1)]);
    });
}

/// Writes to neighbouring blocks do not take each other's marks away.
#[test]
fn marks_in_one_word_are_all_kept() {
    let limits = Limits {
        min_shift: 9,
        max_shift: 9,
        max_blocks: u64::MAX,
    };
    model(move || {
        let map = Arc::new(ChangeMap::new(16, &limits).unwrap());
        let threads = [(0..2, 1), (2..4, 2)].map(|(range, number)| {
            let map = map.clone();
            thread::spawn(move || map.mark(range, number))
        });
        map.mark(1..3, 3);
        for thread in threads {
            thread.join().unwrap();
        }
        let mut bytes = [9; 4];
        assert_eq!(map.read(0, &mut bytes), 4);
        assert_eq!((bytes[0], bytes[3]), (1, 2));
        assert!(
            [1, 3].contains(&bytes[1]) && [2, 3].contains(&bytes[2]),
            "{bytes:?}"
        );
    });
}
