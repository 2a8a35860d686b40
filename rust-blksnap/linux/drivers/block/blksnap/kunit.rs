// SPDX-License-Identifier: GPL-2.0

//! Tests of what knows nothing of the rest of the kernel.

use crate::{
    chunk_map::{ChunkMap, State},
    ranges::Ranges,
    space::{Piece, Space},
    wire,
};
use core::ops::Range;
use kernel::prelude::*;

fn ranges(list: &[Range<u64>]) -> Result<Ranges> {
    let mut ranges = KVVec::new();
    for range in list {
        ranges.push(range.clone(), GFP_KERNEL)?;
    }
    Ok(Ranges::new(ranges))
}

fn piece(dev: usize, sector: u64, sectors: u64) -> Piece {
    Piece {
        dev,
        sector,
        sectors,
    }
}

#[kunit_tests(blksnap)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_merged_and_clipped() -> Result {
        let set = ranges(&[24..32, 0..8, 8..16, 28..40, 50..50])?;
        let mut within = set.within(4..30);
        assert_eq!(within.next(), Some(4..16));
        assert_eq!(within.next(), Some(24..30));
        assert_eq!(within.next(), None);
        assert_eq!(set.within(16..24).next(), None);
        assert_eq!(set.within(40..100).next(), None);
        Ok(())
    }

    #[test]
    fn space_is_handed_out_in_order_up_to_the_limit() -> Result {
        let mut space = Space::new(40);
        space.push(piece(0, 1000, 20))?;
        space.push(piece(1, 64, 4))?;
        space.push(piece(1, 128, 100))?;
        // The first extent counts for two pages, the second is too short to count.
        assert_eq!(space.extents(), 2);
        assert_eq!(space.capacity(), 40);

        assert_eq!(space.alloc(8, 3), Some((0, 3)));
        assert_eq!(space.alloc(8, 3), Some((3, 2)));
        assert_eq!(space.alloc(8, 1), None);
        assert_eq!(space.used(), 40);
        Ok(())
    }

    #[test]
    fn a_range_of_space_is_found_piece_by_piece() -> Result {
        let mut space = Space::new(u64::MAX);
        space.push(piece(0, 1000, 16))?;
        space.push(piece(1, 64, 8))?;
        space.push(piece(0, 2000, 16))?;

        let mut pieces = space.pieces(8..32);
        assert_eq!(pieces.next(), Some(piece(0, 1008, 8)));
        assert_eq!(pieces.next(), Some(piece(1, 64, 8)));
        assert_eq!(pieces.next(), Some(piece(0, 2000, 8)));
        assert_eq!(pieces.next(), None);
        Ok(())
    }

    #[test]
    fn states_survive_the_map() -> Result {
        let map = ChunkMap::new(1025)?;
        assert_eq!(map.get(1024), State::Original);
        // A chunk without a leaf stays what it is.
        map.set(1024, State::Copied(1));
        assert_eq!(map.get(1024), State::Original);

        let leaf = map.new_leaf(1024, GFP_KERNEL)?.ok_or(EINVAL)?;
        map.install(1024, leaf);
        assert!(map.new_leaf(1024, GFP_KERNEL)?.is_none());
        for state in [
            State::Copying(255),
            State::Storing(0),
            State::Copied(1 << 40),
            State::Original,
        ] {
            map.set(1024, state);
            assert_eq!(map.get(1024), state);
        }
        Ok(())
    }

    #[test]
    fn runs_end_with_the_leaf_and_the_state() -> Result {
        let map = ChunkMap::new(2000)?;
        assert_eq!(map.run(0, 1999, u64::MAX, |_| State::Original), 512);
        assert_eq!(map.run(510, 1999, 1, |_| State::Original), 1);
        assert_eq!(map.run(100, 99, 8, |_| State::Original), 0);

        let leaf = map.new_leaf(0, GFP_KERNEL)?.ok_or(EINVAL)?;
        map.install(0, leaf);
        map.set(4, State::Copied(7));
        map.set(5, State::Copied(8));
        map.set(6, State::Copied(10));
        assert_eq!(map.run(0, 1999, u64::MAX, |_| State::Original), 4);
        assert_eq!(map.run(4, 1999, u64::MAX, |i| State::Copied(7 + i)), 2);
        Ok(())
    }

    #[test]
    fn arguments_are_where_clients_put_them() {
        let mut bytes = [0; wire::CREATE];
        bytes[..8].copy_from_slice(&0x1122_3344_5566_7788u64.to_ne_bytes());
        bytes[8..16].copy_from_slice(&0x7fff_0000_1000u64.to_ne_bytes());
        assert_eq!(
            wire::Create::decode(&bytes),
            wire::Create {
                limit: 0x1122_3344_5566_7788,
                path: 0x7fff_0000_1000,
            }
        );

        let info = wire::info(-28, b"blksnap-8-1");
        assert_eq!(info[..4], (-28i32).to_ne_bytes());
        assert_eq!(&info[4..16], b"blksnap-8-1\0");
        assert!(info[16..].iter().all(|b| *b == 0));
    }
}
