// SPDX-License-Identifier: GPL-2.0

use crate::space::{Piece, Space};
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
    let mut space = Space::new(limit);
    for &piece in extents {
        space.push(piece).unwrap();
    }
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
    #[test]
    fn what_is_handed_out_is_handed_out_once_and_in_order(
        extents in extents(),
        limit in 0..4000u64,
        unit in prop::sample::select(vec![8u64, 16, 64, 128]),
        wants in prop::collection::vec(1..40u32, 1..80),
    ) {
        let space = space(&extents, limit);
        let allowed: BTreeSet<_> = sectors(extents.iter().copied()).into_iter().collect();
        let mut seen = BTreeSet::new();
        let mut next = 0;
        let mut full = false;
        for want in wants {
            let Some((pos, got)) = space.alloc(unit, want) else {
                // Nothing more ever comes.
                full = true;
                prop_assert!(space.used() + unit > space.capacity());
                continue;
            };
            prop_assert!(!full);
            prop_assert_eq!(pos, next, "from the start to the end");
            prop_assert!((1..=want).contains(&got));
            next = pos + u64::from(got);
            prop_assert!(next * unit <= limit);
            prop_assert_eq!(space.used(), next * unit);

            let got = sectors(space.pieces(pos * unit..next * unit));
            prop_assert_eq!(got.len() as u64, (next - pos) * unit);
            for sector in got {
                prop_assert!(allowed.contains(&sector), "not of the storage: {:?}", sector);
                prop_assert!(seen.insert(sector), "twice: {:?}", sector);
            }
        }
    }

    #[test]
    fn pieces_are_the_address_space_cut_out(
        extents in extents(),
        start in 0..3000u64,
        len in 1..600u64,
    ) {
        let space = space(&extents, u64::MAX);
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
    let mut space = Space::new(u64::MAX);
    space.push(piece(0)).unwrap();
    fail_after(Some(0));
    let result = space.push(piece(1000));
    fail_after(None);
    assert_eq!(result, Err(ENOMEM));
    assert_eq!(space.capacity(), 64);
    space.push(piece(2000)).unwrap();
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
    let mut space = Space::new(u64::MAX);
    space.push(huge).unwrap();
    assert_eq!(space.push(Piece { sectors: 8, ..huge }), Err(EFBIG));
}
