// SPDX-License-Identifier: GPL-2.0

use crate::chunk_map::{ChunkMap, State};
use kernel::{
    alloc::{fail_after, in_vectors},
    prelude::*,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::Original),
        any::<u32>().prop_map(State::Copying),
        any::<u32>().prop_map(State::Storing),
        (0..1u64 << 53).prop_map(State::Copied),
    ]
}

fn set(map: &ChunkMap, chunk: u64, state: State) {
    let mut room = map.room(chunk, 1, GFP_KERNEL).unwrap();
    assert!(map.install(chunk, 1, &mut room));
    map.set_run(chunk, 1, |_| state);
}

/// What `around` must say.
fn around(map: &ChunkMap, chunk: u64, block: u64, vicinity: u64) -> (u64, u64) {
    let original = |chunk: u64| map.get(chunk) == State::Original;
    let near = chunk / vicinity * vicinity;
    let own = chunk / block * block..chunk / block * block + block;
    if (near..near + vicinity).all(original) {
        return (chunk, chunk);
    }
    let before = (own.start..chunk)
        .rev()
        .take_while(|c| original(*c))
        .count() as u64;
    let after = (chunk + 1..own.end).take_while(|c| original(*c)).count() as u64;
    (chunk - before, (chunk + after).min(map.chunks() - 1))
}

proptest! {
    #![proptest_config(super::cases(256))]

    #[test]
    fn what_is_around_is_on_the_original(
        chunks in 1..1400u64,
        copied in prop::collection::vec(0..1400u64, 0..900),
        chunk in 0..1400u64,
    ) {
        let map = ChunkMap::new(chunks).unwrap();
        let chunk = chunk % chunks;
        for other in copied.into_iter().map(|other| other % chunks).filter(|c| *c != chunk) {
            set(&map, other, State::Copied(other));
        }
        prop_assert_eq!(map.around(chunk, 4, 64), around(&map, chunk, 4, 64));
        let before = (0..chunk).rev().take(64).take_while(|c| map.get(*c) != State::Original);
        prop_assert_eq!(map.copied_before(chunk, 64), before.count() as u64);
        for first in [chunk, chunk.saturating_sub(3)] {
            let on = |chunk: &u64| map.get(*chunk) == State::Original;
            let run = (first..chunks).take_while(on).count() as u64;
            prop_assert_eq!(map.on_original(first, chunks - 1), run);
            let run = (first..chunks).take_while(|chunk| !on(chunk)).count() as u64;
            prop_assert_eq!(map.off_original(first, chunks - 1), run);
        }
    }

    #[test]
    fn a_map_remembers(
        chunks in 1..1400u64,
        changes in prop::collection::vec((0..1400u64, state()), 0..1500),
    ) {
        let map = ChunkMap::new(chunks).unwrap();
        prop_assert_eq!(map.chunks(), chunks);
        let mut model = BTreeMap::new();
        for (chunk, state) in changes {
            let chunk = chunk % chunks;
            set(&map, chunk, state);
            model.insert(chunk, state);
        }
        for chunk in 0..chunks {
            let expected = model.get(&chunk).copied().unwrap_or(State::Original);
            prop_assert_eq!(map.get(chunk), expected);
            prop_assert_eq!(
                expected.is_on_original(),
                matches!(expected, State::Original | State::Copying(_))
            );
        }
    }

    #[test]
    fn a_run_is_the_longest_there_is(
        copied in prop::collection::vec(prop::bool::weighted(0.9), 1200),
        first in 0..1200u64,
        len in 0..1200u64,
        max in 1..1200u64,
    ) {
        let map = ChunkMap::new(1200).unwrap();
        for (chunk, _) in copied.iter().enumerate().filter(|(_, copied)| **copied) {
            set(&map, chunk as u64, State::Copied(chunk as u64 + 7));
        }
        let last = (first + len).min(1199);
        let n = map.run(first, last, max, |i| State::Copied(first + i + 7));

        let expected = (first..=last)
            .take(max as usize)
            .take_while(|&chunk| copied[chunk as usize])
            .count() as u64;
        // A run may end where a leaf does, and so be continued, but not be cut short elsewhere.
        prop_assert!(n <= expected);
        let goes_on = map.run(first + n, last, 1, |_| State::Copied(first + n + 7)) == 1;
        prop_assert!(n == expected || (n > 0 && goes_on));
    }
}

#[test]
fn nothing_is_changed_where_there_is_no_memory() {
    let map = ChunkMap::new(2000).unwrap();
    fail_after(Some(0));
    assert!(map.room(700, 1, GFP_NOWAIT).is_err());
    fail_after(None);
    assert_eq!(map.get(700), State::Original);
    map.set_run(700, 1, |_| State::Copied(1));
    assert_eq!(map.get(700), State::Original);
    set(&map, 700, State::Copied(1));
    set(&map, 702, State::Copied(2));
    set(&map, 701, State::Copied(3));
    fail_after(Some(0));
    // Memory that is there is not asked for again.
    let mut room = map.room(705, 1, GFP_NOWAIT).unwrap();
    assert!(map.install(705, 1, &mut room));
    assert!(map.room(706, 2, GFP_NOWAIT).is_err());
    fail_after(None);
    map.set_run(705, 1, |_| State::Copied(4));
    let states = [700, 701, 702, 705, 703].map(|chunk| map.get(chunk));
    let copied = [1, 3, 2, 4].map(State::Copied);
    assert_eq!(states[..4], copied);
    assert_eq!(states[4], State::Original);
}

#[test]
fn runs_are_set_over_what_is_there_and_between() {
    for near in [0, 300] {
        let map = ChunkMap::new(1024).unwrap();
        for chunk in (512..512 + near).chain([700, 703, 1000]) {
            set(&map, chunk, State::Copied(9));
        }
        let mut room = map.room(698, 8, GFP_KERNEL).unwrap();
        assert!(map.install(698, 8, &mut room));
        map.set_run(698, 8, |i| State::Copied(100 + i));
        for i in 0..8 {
            assert_eq!(map.get(698 + i), State::Copied(100 + i));
        }
        let around = [697, 706, 1000].map(|chunk| map.get(chunk));
        let other = |chunk| match chunk < 512 + near {
            true => State::Copied(9),
            false => State::Original,
        };
        assert_eq!(around, [other(697), other(706), State::Copied(9)]);
    }
}

#[test]
fn room_that_others_have_taken_is_not_enough() {
    let map = ChunkMap::new(1000).unwrap();
    let mut mine = map.room(5, 2, GFP_KERNEL).unwrap();
    for chunk in 10..14 {
        set(&map, chunk, State::Copied(chunk));
    }
    assert!(!map.install(5, 2, &mut mine));
    let mut mine = map.room(5, 2, GFP_KERNEL).unwrap();
    let mut late = map.room(20, 1, GFP_KERNEL).unwrap();
    assert!(map.install(5, 2, &mut mine));
    map.set_run(5, 1, |_| State::Copying(1));
    map.set_run(6, 1, |_| State::Copying(1));
    // What is there is not replaced by something smaller.
    assert!(map.install(20, 1, &mut late));
    for chunk in 10..14 {
        assert_eq!(map.get(chunk), State::Copied(chunk));
    }
    assert_eq!(map.get(6), State::Copying(1));
}

#[test]
fn memory_is_bounded_by_what_was_copied() {
    for step in [1, 3, 8, 64, 512] {
        let map = ChunkMap::new(64 * 512).unwrap();
        let empty = in_vectors();
        for (n, chunk) in (0..64 * 512).step_by(step).enumerate() {
            set(&map, chunk, State::Copied(1));
            // All that is allocated is words of 8 bytes.
            let words = in_vectors() - empty;
            assert!(words <= 2 * (n + 1), "{words} words for {} chunks", n + 1);
        }
    }
}

#[test]
fn every_allocation_of_a_new_map_may_fail() {
    let mut allocations = 0;
    loop {
        fail_after(Some(allocations));
        let map = ChunkMap::new(100_000);
        fail_after(None);
        match map {
            Ok(_) => break,
            Err(e) => assert_eq!(e, ENOMEM),
        }
        allocations += 1;
    }
    assert!(allocations > 0);
}

#[test]
fn chunks_that_are_not_there_are_on_the_original() {
    let map = ChunkMap::new(10).unwrap();
    map.set_run(u64::MAX, 1, |_| State::Copied(1));
    assert_eq!(map.get(u64::MAX), State::Original);
}
