// SPDX-License-Identifier: GPL-2.0

use crate::ahead::{Ahead, Reach};
use proptest::prelude::*;

/// A stream of writes of `len` chunks each. Says how many of its chunks, from `first` on, were wanted
/// before they were written.
fn stream(ahead: &Ahead, first: u64, len: u64, writes: u64) -> u64 {
    let mut wanted = 0;
    for at in (0..writes).map(|n| first + n * len) {
        let last = at + len - 1;
        let any = ahead.reached(at, last);
        if at > first && wanted == 0 {
            // Once for each of its copies.
            ahead.begin(last, last);
            ahead.begin(last, last);
        }
        if any {
            while let Some(portion) = ahead.take() {
                assert!(portion.first > last, "{portion:?} is too late for {last}");
                let end = first + writes * len;
                wanted += portion.end().min(end).saturating_sub(portion.first);
            }
        }
    }
    wanted
}

#[test]
fn all_but_the_beginning_of_a_stream_is_wanted_in_time() {
    let ahead = Ahead::new(Reach::new(256, 1 << 20, 1 << 30));
    assert_eq!(stream(&ahead, 5000, 16, 100), 16 * 97);
    // Writes as long as the longest portion.
    assert_eq!(stream(&ahead, 90_000, 256, 10), 256 * 7);
}

#[test]
fn streams_do_not_disturb_each_other() {
    let ahead = Ahead::new(Reach::new(256, 1 << 20, 1 << 30));
    let starts: Vec<u64> = (0..8).map(|n| n * 100_000).collect();
    for start in &starts {
        ahead.begin(start + 15, start + 15);
        assert!(ahead.reached(start + 16, start + 31));
    }
    let mut first: Vec<u64> = std::iter::from_fn(|| ahead.take())
        .map(|portion| portion.first)
        .collect();
    first.sort_unstable();
    let after: Vec<u64> = starts.iter().map(|start| start + 32).collect();
    assert_eq!(first, after);
    for start in starts {
        assert!(ahead.reached(start + 32, start + 47));
        assert_eq!(ahead.take().map(|portion| portion.first), Some(start + 64));
    }
}

#[test]
fn a_stream_that_has_begun_twice_is_one() {
    let ahead = Ahead::new(Reach::new(256, 1 << 20, 1 << 30));
    ahead.begin(15, 31);
    ahead.begin(31, 63);
    assert!(ahead.reached(32, 47));
    assert!(ahead.take().is_some() && ahead.take().is_none());
    // The first portion is not known any more.
    assert!(!ahead.reached(16, 31));
}

#[test]
fn writes_elsewhere_want_nothing() {
    let ahead = Ahead::new(Reach::new(256, 1 << 20, 1 << 30));
    ahead.begin(15, 31);
    assert!(!ahead.reached(0, 15));
    assert!(!ahead.reached(17, 31));
    assert_eq!(ahead.take(), None);
}

#[test]
fn a_stream_of_copies_that_are_there_is_forgotten() {
    let ahead = Ahead::new(Reach::new(256, 1 << 20, 1 << 30));
    ahead.begin(15, 15);
    assert!(ahead.reached(16, 31));
    let portion = ahead.take().unwrap();
    ahead.forget(portion);
    assert!(!ahead.reached(32, 47));
}

proptest! {
    #![proptest_config(super::cases(2000))]

    #[test]
    fn portions_keep_within_their_limits(
        most in 0..10_000u64,
        stop in 0..5000u64,
        end in 1..100_000u64,
        writes in prop::collection::vec((0..100_000u64, 1..600u64, 0..600u64), 1..100),
    ) {
        let ahead = Ahead::new(Reach::new(most, stop, end));
        for (first, len, copied) in writes {
            let last = first + len - 1;
            ahead.reached(first, last);
            ahead.begin(last, last + copied);
            while let Some(portion) = ahead.take() {
                prop_assert!(portion.chunks >= 1 && portion.chunks <= most.clamp(1, 4095));
                prop_assert!(portion.end() <= end);
                // What is before its first chunk is on the same side.
                let stop = stop.max(1);
                prop_assert_eq!((portion.first - 1) / stop, (portion.end() - 1) / stop);
            }
        }
    }
}
