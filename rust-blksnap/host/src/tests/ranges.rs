// SPDX-License-Identifier: GPL-2.0

use crate::ranges::Ranges;
use kernel::prelude::*;
use proptest::prelude::*;
use std::ops::Range;

const SIZE: usize = 64;

fn set(ranges: &[Range<u64>]) -> Ranges {
    let mut vec = KVVec::new();
    for range in ranges {
        vec.push(range.clone(), GFP_KERNEL).unwrap();
    }
    Ranges::new(vec)
}

fn range() -> impl Strategy<Value = Range<u64>> {
    (0..SIZE as u64, 1..12u64).prop_map(|(start, len)| start..(start + len).min(SIZE as u64))
}

proptest! {
    #![proptest_config(super::cases(256))]

    #[test]
    fn a_set_has_what_its_ranges_have(
        ranges in prop::collection::vec(range(), 0..12),
        part in range(),
    ) {
        let mut model = [false; SIZE];
        for sector in ranges.iter().cloned().flatten() {
            model[sector as usize] = true;
        }
        let within: Vec<_> = set(&ranges).within(part.clone()).collect();

        // Sorted, apart from each other, not empty and inside.
        for r in &within {
            prop_assert!(r.start < r.end && part.start <= r.start && r.end <= part.end);
        }
        for pair in within.windows(2) {
            prop_assert!(pair[0].end < pair[1].start);
        }
        let mut found = [false; SIZE];
        for sector in within.into_iter().flatten() {
            found[sector as usize] = true;
        }
        for sector in 0..SIZE {
            let expected = model[sector] && part.contains(&(sector as u64));
            prop_assert_eq!(found[sector], expected, "sector {}", sector);
        }
    }
}

#[test]
fn an_empty_set_has_nothing() {
    assert_eq!(Ranges::default().within(0..u64::MAX).count(), 0);
    let empty = 5..5;
    assert_eq!(set(&[empty]).within(0..u64::MAX).count(), 0);
}

#[test]
fn the_last_sector_is_a_sector() {
    let all: Vec<_> = set(&[u64::MAX - 1..u64::MAX, 0..1])
        .within(0..u64::MAX)
        .collect();
    assert_eq!(all, [0..1, u64::MAX - 1..u64::MAX]);
}
