// SPDX-License-Identifier: GPL-2.0

//! What is done without a lock, in every order that the memory model allows.

use crate::{
    chunk_map::{ChunkMap, State},
    jobs::Ended,
    space::{Piece, Space},
};
use kernel::{
    prelude::*,
    sync::atomic::{ordering::Relaxed, Atomic},
};
use loom::{sync::Arc, thread};

/// All orders in which threads take each other's place at most four times unasked: enough for
/// every mistake known, and done in seconds.
fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(f);
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
                let leaf = map.new_leaf(3, GFP_NOWAIT).unwrap().unwrap();
                map.install(3, leaf);
                map.set(3, State::Copying(1));
                done.store(1, Relaxed);
                map.set(3, State::Storing(1));
                done.store(2, Relaxed);
                map.set(3, State::Copied(9));
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

/// Two devices of a snapshot never get the same space.
#[test]
fn space_is_handed_out_once() {
    model(|| {
        let mut space = Space::new(u64::MAX);
        let piece = Piece {
            dev: 0,
            sector: 0,
            sectors: 24,
        };
        space.push(piece).unwrap();
        let space = Arc::new(space);
        let other = {
            let space = space.clone();
            thread::spawn(move || space.alloc(8, 2))
        };
        let mut got: Vec<_> = [space.alloc(8, 2), other.join().unwrap()]
            .into_iter()
            .flatten()
            .collect();
        got.sort_unstable();
        assert_eq!(got, [(0, 2), (2, 1)]);
        assert_eq!(space.used(), 24);
    });
}
