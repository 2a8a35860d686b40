// SPDX-License-Identifier: GPL-2.0

use crate::chunk_map::{ChunkMap, State};
use kernel::{alloc::fail_after, prelude::*};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::Original),
        any::<u32>().prop_map(State::Copying),
        any::<u32>().prop_map(State::Storing),
        (0..1u64 << 62).prop_map(State::Copied),
    ]
}

fn set(map: &ChunkMap, chunk: u64, state: State) {
    if let Some(leaf) = map.new_leaf(chunk, GFP_KERNEL).unwrap() {
        map.install(chunk, leaf);
    }
    map.set(chunk, state);
}

proptest! {
    #[test]
    fn a_map_remembers(
        chunks in 1..3000u64,
        changes in prop::collection::vec((0..3000u64, state()), 0..60),
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
    assert!(map.new_leaf(700, GFP_NOWAIT).is_err());
    fail_after(None);
    assert_eq!(map.get(700), State::Original);
    set(&map, 700, State::Copied(1));
    fail_after(Some(0));
    // Memory that is there is not asked for again.
    assert!(matches!(map.new_leaf(701, GFP_NOWAIT), Ok(None)));
    fail_after(None);
    assert_eq!(map.get(700), State::Copied(1));
    assert_eq!(map.get(701), State::Original);
}

#[test]
fn a_second_leaf_does_not_replace_the_first() {
    let map = ChunkMap::new(100).unwrap();
    let one = map.new_leaf(5, GFP_KERNEL).unwrap().unwrap();
    let other = map.new_leaf(6, GFP_KERNEL).unwrap().unwrap();
    map.install(5, one);
    map.set(5, State::Copied(1));
    map.install(6, other);
    assert_eq!(map.get(5), State::Copied(1));
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
    map.set(u64::MAX, State::Copied(1));
    assert_eq!(map.get(u64::MAX), State::Original);
}
