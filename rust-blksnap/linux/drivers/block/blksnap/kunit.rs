// SPDX-License-Identifier: GPL-2.0

//! Tests of what knows nothing of the rest of the kernel.

use crate::{
    change_map::{ChangeMap, Limits},
    chunk_map::{ChunkMap, State},
    ranges::Ranges,
    space::{Piece, Room, Space},
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
        let space = Space::new(40)?;
        space.append([piece(0, 1000, 20), piece(1, 64, 4)].into_iter())?;
        space.append([piece(1, 128, 100)].into_iter())?;
        // The first extent counts for two pages, the second is too short to count.
        assert_eq!(space.extents(), 2);
        assert_eq!(space.capacity(), 40);

        let alloc = |want| space.alloc(8, want, || {});
        assert_eq!(alloc(3), Room::At(0, 3));
        // Nobody has been asked for more so far.
        space.set_mark(32);
        assert_eq!(alloc(3), Room::At(3, 2));
        assert_eq!(alloc(1), Room::Later);
        space.set_mark(Space::NEVER);
        assert_eq!(alloc(1), Room::None);
        assert_eq!(space.used(), 40);
        Ok(())
    }

    #[test]
    fn changes_are_numbered() -> Result {
        let limits = Limits {
            min_shift: 12,
            max_shift: 16,
            max_blocks: 10,
        };
        // A block of 8 KiB is needed for no more than ten of them.
        let map = ChangeMap::new(20 * 8 - 1, &limits)?;
        assert_eq!((map.block_size(), map.blocks()), (8192, 10));

        map.mark(15..17, 1);
        map.mark(150..1000, 2);
        map.mark(500..1000, 3);
        let mut bytes = [9; 12];
        assert_eq!(map.read(0, &mut bytes), 10);
        assert_eq!(bytes, [1, 1, 0, 0, 0, 0, 0, 0, 0, 2, 9, 9]);
        assert_eq!(map.read(9, &mut bytes[..1]), 1);
        assert_eq!(map.read(10, &mut bytes), 0);
        Ok(())
    }

    #[test]
    fn a_range_of_space_is_found_piece_by_piece() -> Result {
        let space = Space::new(u64::MAX)?;
        space.append([piece(0, 1000, 16), piece(1, 64, 8)].into_iter())?;
        space.append([piece(0, 2000, 16)].into_iter())?;

        let mut pieces = space.pieces(8..32);
        assert_eq!(pieces.next(), Some(piece(0, 1008, 8)));
        assert_eq!(pieces.next(), Some(piece(1, 64, 8)));
        assert_eq!(pieces.next(), Some(piece(0, 2000, 8)));
        assert_eq!(pieces.next(), None);
        Ok(())
    }

    fn set(map: &ChunkMap, chunk: u64, state: State) {
        map.set_run(chunk, 1, |_| state);
    }

    #[test]
    fn states_survive_the_map() -> Result {
        let map = ChunkMap::new(1025)?;
        assert_eq!(map.get(1024), State::Original);
        // A chunk for which there is no room stays what it is.
        set(&map, 1024, State::Copied(1));
        assert_eq!(map.get(1024), State::Original);

        let mut room = map.room(1024, 1, GFP_KERNEL)?;
        assert!(map.install(1024, 1, &mut room));
        for state in [
            State::Copying(255),
            State::Storing(0),
            State::Copied(1 << 40),
            State::Original,
        ] {
            set(&map, 1024, state);
            assert_eq!(map.get(1024), state);
        }
        Ok(())
    }

    #[test]
    fn many_chunks_get_words() -> Result {
        let map = ChunkMap::new(1024)?;
        for chunk in 0..512 {
            let chunk = 512 + chunk * 5 % 512;
            let mut room = map.room(chunk, 1, GFP_KERNEL)?;
            assert!(map.install(chunk, 1, &mut room));
            set(&map, chunk, State::Copied(chunk * 3));
        }
        for chunk in 512..1024 {
            assert_eq!(map.get(chunk), State::Copied(chunk * 3));
        }
        assert_eq!(map.get(511), State::Original);
        Ok(())
    }

    #[test]
    fn runs_end_with_the_region_and_the_state() -> Result {
        let map = ChunkMap::new(2000)?;
        assert_eq!(map.run(0, 1999, u64::MAX, |_| State::Original), 512);
        assert_eq!(map.run(510, 1999, 1, |_| State::Original), 1);
        assert_eq!(map.run(100, 99, 8, |_| State::Original), 0);

        let mut room = map.room(4, 3, GFP_KERNEL)?;
        assert!(map.install(4, 3, &mut room));
        set(&map, 4, State::Copied(7));
        set(&map, 5, State::Copied(8));
        set(&map, 6, State::Copied(10));
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
