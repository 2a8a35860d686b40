// SPDX-License-Identifier: GPL-2.0

use crate::space::{Piece, Room, Space, UNIT};
use kernel::{alloc::fail_after, prelude::*};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Extents on a few devices that do not overlap, since each starts in a region of its own.
fn extents() -> impl Strategy<Value = Vec<Piece>> {
    prop::collection::vec((0..3usize, 0..4096u64, 0..300u64), 0..12).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(|(i, (dev, offset, sectors))| Piece {
                dev,
                sector: i as u64 * 8192 + offset,
                sectors,
            })
            .collect()
    })
}

fn space(extents: &[Piece], limit: u64) -> Space {
    let space = Space::new(limit).unwrap();
    space.append(extents.iter().copied()).unwrap();
    space
}

/// Every sector of a list of pieces, in order.
fn sectors(pieces: impl IntoIterator<Item = Piece>) -> Vec<(usize, u64)> {
    pieces
        .into_iter()
        .flat_map(|p| (p.sector..p.sector + p.sectors).map(move |sector| (p.dev, sector)))
        .collect()
}

proptest! {
    #![proptest_config(super::cases(256))]

    #[test]
    fn what_is_handed_out_is_handed_out_once_and_in_order(
        extents in extents(),
        limit in 0..4000u64,
        units in prop::collection::vec(prop::sample::select(vec![8u64, 16, 64, 128]), 1..4),
        wants in prop::collection::vec((any::<prop::sample::Index>(), 1..40u32), 1..80),
        grows in prop::collection::vec(prop::bool::weighted(0.1), 80),
    ) {
        // What is there from the start, and what is added later.
        let (first, mut later) = extents.split_at(extents.len() / 2);
        let space = space(first, limit);
        let allowed: BTreeSet<_> = sectors(extents.iter().copied()).into_iter().collect();
        let mut seen = BTreeSet::new();
        let mut next = 0;
        for ((unit, want), grows) in wants.into_iter().zip(grows) {
            if grows {
                let (now, rest) = later.split_at(later.len().div_ceil(2));
                let before = (space.size(), space.segments_left(), space.extents());
                space.append(now.iter().copied()).unwrap();
                let whole = now.iter().filter(|p| p.sectors >= UNIT).count();
                let sum: u64 = now.iter().map(|p| p.sectors / UNIT * UNIT).sum();
                prop_assert_eq!(space.size(), before.0 + sum);
                prop_assert_eq!(space.segments_left(), before.1 - u64::from(whole > 0));
                prop_assert_eq!(space.extents(), before.2 + whole);
                later = rest;
            }
            // Of devices whose chunks are of different sizes.
            let unit = units[unit.index(units.len())];
            let start = space.used().next_multiple_of(unit);
            let room = space.capacity().saturating_sub(start) / unit;
            let (pos, got) = match space.alloc(unit, want, || unreachable!("there is no mark")) {
                Room::At(pos, got) => (pos, got),
                other => {
                    prop_assert_eq!((room, other), (0, Room::None));
                    continue;
                }
            };
            prop_assert_eq!(pos * unit, start, "from the start to the end");
            prop_assert_eq!(u64::from(got), room.min(want.into()));
            prop_assert!(pos * unit >= next);
            next = (pos + u64::from(got)) * unit;
            prop_assert!(next <= limit);
            prop_assert_eq!(space.used(), next);
            prop_assert_eq!(space.free(), space.capacity() - next);

            let got = sectors(space.pieces(pos * unit..next));
            prop_assert_eq!(got.len() as u64, next - pos * unit);
            for sector in got {
                prop_assert!(allowed.contains(&sector), "not of the storage: {:?}", sector);
                prop_assert!(seen.insert(sector), "twice: {:?}", sector);
            }
        }
    }

    #[test]
    fn the_limit_only_rises(
        size in 0..4000u64,
        limit in prop_oneof![0..4000u64, Just(u64::MAX)],
        more in prop_oneof![0..4000u64, Just(u64::MAX)],
    ) {
        let piece = Piece { dev: 0, sector: 0, sectors: size };
        let space = space(&[piece], limit);
        let size = size / UNIT * UNIT;
        prop_assert_eq!((space.limit(), space.capacity()), (limit, size.min(limit)));
        space.raise_limit(more);
        let limit = limit.saturating_add(more);
        prop_assert_eq!((space.limit(), space.capacity()), (limit, size.min(limit)));
        prop_assert_eq!((space.size(), space.free()), (size, size.min(limit)));
    }

    #[test]
    fn pieces_are_the_address_space_cut_out(
        extents in extents(),
        together in 1..5usize,
        start in 0..3000u64,
        len in 1..600u64,
    ) {
        let space = space(&[], u64::MAX);
        for extents in extents.chunks(together) {
            space.append(extents.iter().copied()).unwrap();
        }
        let all = sectors(space.all());
        prop_assert_eq!(all.len() as u64, space.capacity());
        let start = start.min(all.len() as u64);
        let end = (start + len).min(all.len() as u64);
        let pieces: Vec<_> = space.pieces(start..end).collect();
        if start < end {
            prop_assert!(pieces.iter().all(|p| p.sectors > 0));
        }
        prop_assert_eq!(sectors(pieces), &all[start as usize..end as usize]);
    }

    #[test]
    fn what_is_less_than_a_page_is_left_out(sectors in 0..40u64) {
        let piece = Piece { dev: 0, sector: 3, sectors };
        let space = space(&[piece], u64::MAX);
        prop_assert_eq!(space.capacity(), sectors / 8 * 8);
        prop_assert_eq!(space.extents(), usize::from(sectors >= 8));
    }
}

#[test]
fn a_space_that_cannot_grow_stays_as_it_was() {
    let piece = |sector| Piece {
        dev: 0,
        sector,
        sectors: 64,
    };
    let space = Space::new(u64::MAX).unwrap();
    space.append([piece(0)].into_iter()).unwrap();
    fail_after(Some(0));
    let result = space.append([piece(1000)].into_iter());
    fail_after(None);
    assert_eq!(result, Err(ENOMEM));
    assert_eq!(space.capacity(), 64);
    space.append([piece(2000)].into_iter()).unwrap();
    assert_eq!(space.capacity(), 128);
    assert_eq!(space.pieces(64..72).next().unwrap().sector, 2000);
}

#[test]
fn sizes_beyond_all_measure_are_refused() {
    let huge = Piece {
        dev: 0,
        sector: 0,
        sectors: u64::MAX - 7,
    };
    let space = Space::new(u64::MAX).unwrap();
    space.append([huge].into_iter()).unwrap();
    let more = Piece { sectors: 8, ..huge };
    assert_eq!(space.append([more].into_iter()), Err(EFBIG));
    assert_eq!((space.size(), space.extents()), (huge.sectors, 1));
}

#[test]
fn extents_can_be_added_a_counted_number_of_times() {
    let space = Space::new(u64::MAX).unwrap();
    let left = space.segments_left();
    assert!(left >= 256);
    let piece = |i| Piece {
        dev: 0,
        sector: i * 100,
        sectors: 8,
    };
    for i in 0..left {
        assert_eq!(space.segments_left(), left - i);
        space.append([piece(i)].into_iter()).unwrap();
        // What is too short to be used takes nothing up.
        let short = Piece {
            sectors: 7,
            ..piece(i)
        };
        space.append([short].into_iter()).unwrap();
    }
    assert_eq!(space.append([piece(left)].into_iter()), Err(ENOSPC));
    assert_eq!((space.segments_left(), space.size()), (0, left * 8));
    let last = space.pieces(left * 8 - 8..left * 8).next();
    assert_eq!(last, Some(piece(left - 1)));
}
