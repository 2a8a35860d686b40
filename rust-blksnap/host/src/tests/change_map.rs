// SPDX-License-Identifier: GPL-2.0

use crate::change_map::{ChangeMap, Limits};
use kernel::{alloc::fail_after, prelude::*};
use proptest::prelude::*;
use std::ops::Range;

/// Numbers of all magnitudes, each as likely as the others.
fn any_magnitude() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64u32).prop_map(|(n, shift)| n >> shift)
}

/// Limits as whoever may set parameters sets them, sensible or not.
fn limits() -> impl Strategy<Value = Limits> {
    let shift = || prop_oneof![4 => 9..24u32, 1 => 0..80u32, 1 => any::<u32>()];
    (shift(), shift(), any_magnitude()).prop_map(|(min_shift, max_shift, max_blocks)| Limits {
        min_shift,
        max_shift,
        max_blocks,
    })
}

/// The smallest block that is allowed and makes few enough of them, else the largest; in sectors.
/// Its size in bytes is reported in 32 bits, and a map takes no more than 64 MiB unless it must.
fn block_of(sectors: u64, limits: &Limits) -> u128 {
    let block = |shift: u32| 1u128 << (shift.clamp(9, 31) - 9);
    let largest = block(limits.max_shift);
    let mut size = block(limits.min_shift);
    let most = u128::from(limits.max_blocks).min(1 << 26);
    while size < largest && u128::from(sectors).div_ceil(size) > most {
        size *= 2;
    }
    size
}

/// More would only take long to allocate.
const MOST: u128 = 1 << 20;

fn read_all(map: &ChangeMap) -> Vec<u8> {
    let mut bytes = vec![0xee; map.blocks() as usize];
    assert_eq!(map.read(0, &mut bytes), bytes.len());
    bytes
}

/// A byte for each block.
struct Model {
    bytes: Vec<u8>,
    sectors: u64,
    block: u64,
}

impl Model {
    /// The blocks are those that have a sector in the range.
    fn mark(&mut self, range: &Range<u64>, number: u8) {
        for (i, byte) in self.bytes.iter_mut().enumerate() {
            let start = i as u64 * self.block;
            let end = (start + self.block).min(self.sectors);
            if start.max(range.start) < end.min(range.end) {
                *byte = number;
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Mark(u64, u64, u8),
    Read(u32, usize),
    Copy,
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any_magnitude(), any_magnitude(), any::<u8>())
            .prop_map(|(start, len, number)| Step::Mark(start, len, number)),
        3 => (prop_oneof![0..300u32, any::<u32>()], 0..300usize)
            .prop_map(|(first, len)| Step::Read(first, len)),
        1 => Just(Step::Copy),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #![proptest_config(super::cases(256))]

    #[test]
    fn blocks_cover_the_device(sectors in any_magnitude(), limits in limits()) {
        let block = block_of(sectors, &limits);
        let blocks = u128::from(sectors).div_ceil(block);
        if blocks > MOST && blocks <= u32::MAX.into() {
            return Ok(());
        }
        // What cannot be reported is not even allocated.
        if blocks > u32::MAX.into() {
            fail_after(Some(0));
        }
        let map = ChangeMap::new(sectors, &limits);
        fail_after(None);
        match map {
            Ok(map) => {
                prop_assert!(blocks <= MOST);
                prop_assert_eq!(map.sectors(), sectors);
                prop_assert_eq!(u128::from(map.block_size()), block * 512);
                prop_assert_eq!(u128::from(map.blocks()), blocks);
                prop_assert!(read_all(&map).iter().all(|&byte| byte == 0));
            }
            Err(e) => {
                prop_assert_eq!(e, EFBIG);
                prop_assert!(blocks > u32::MAX.into());
            }
        }
    }

    #[test]
    fn a_map_is_an_array_of_bytes(
        sectors in 0..3000u64,
        limits in limits(),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let map = ChangeMap::new(sectors, &limits).unwrap();
        let other = ChangeMap::new(sectors, &limits).unwrap();
        let block = map.block_size() / 512;
        let new = || Model { bytes: vec![0; map.blocks() as usize], sectors, block };
        let (mut model, mut other_model) = (new(), new());
        for step in steps {
            match step {
                Step::Mark(start, len, number) => {
                    // Within the device, or anywhere; with an end before the start if it wraps.
                    for start in [start, start % (sectors + 2)] {
                        let range = start..start.wrapping_add(len);
                        map.mark(range.clone(), number);
                        model.mark(&range, number);
                    }
                }
                Step::Read(first, len) => {
                    let mut bytes = vec![0xee; len];
                    let n = map.read(first, &mut bytes);
                    let there = model.bytes.get(first as usize..).unwrap_or_default();
                    prop_assert_eq!(n, len.min(there.len()));
                    prop_assert_eq!(&bytes[..n], &there[..n]);
                    prop_assert!(bytes[n..].iter().all(|&byte| byte == 0xee));
                }
                Step::Copy => {
                    other.copy_from(&map);
                    other_model.bytes.clone_from(&model.bytes);
                }
                Step::Clear => {
                    map.clear();
                    model.bytes.fill(0);
                }
            }
            prop_assert_eq!(read_all(&map), &model.bytes[..]);
            prop_assert_eq!(read_all(&other), &other_model.bytes[..]);
        }
    }

    /// A block has changed since a period ended if its number is larger, as long as the numbers
    /// have not begun anew.
    #[test]
    fn numbers_tell_what_has_changed_since(
        changes in prop::collection::vec((0..600usize, 0..64u64, 1..9u64), 0..200),
        since in 0..599usize,
    ) {
        let limits = Limits { min_shift: 9, max_shift: 9, max_blocks: u64::MAX };
        let map = ChangeMap::new(64, &limits).unwrap();
        let taken = ChangeMap::new(64, &limits).unwrap();
        let mut number = 1u8;
        let mut base = None;
        for period in 0..600 {
            for &(_, first, len) in changes.iter().filter(|(at, ..)| *at == period) {
                map.mark(first..first + len, number);
            }
            taken.copy_from(&map);
            if period == since {
                base = Some(number);
            }
            if let Some(base) = base {
                for (sector, &byte) in read_all(&taken).iter().enumerate() {
                    let changed = changes.iter().any(|&(at, first, len)| {
                        since < at && at <= period && (first..first + len).contains(&(sector as u64))
                    });
                    prop_assert_eq!(byte > base, changed, "sector {} in {}", sector, period);
                }
            }
            number = number.checked_add(1).unwrap_or_else(|| {
                map.clear();
                base = None;
                1
            });
        }
    }
}

#[test]
fn a_map_without_memory_is_an_error() {
    let limits = Limits {
        min_shift: 12,
        max_shift: 12,
        max_blocks: 1,
    };
    fail_after(Some(0));
    let map = ChangeMap::new(100, &limits);
    fail_after(None);
    assert_eq!(map.err(), Some(ENOMEM));
}
