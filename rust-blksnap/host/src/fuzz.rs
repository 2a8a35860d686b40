// SPDX-License-Identifier: GPL-2.0

//! What is made of arbitrary bytes, for fuzzers.
//!
//! Each of these panics if the driver does something wrong. The bytes stand for
//! the same thing however many there are: those that are missing are zero.

use crate::wire;
use core::ops::Range;

/// The fields of an argument, taken from the front.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (now, rest) = self.0.split_at(N.min(self.0.len()));
        self.0 = rest;
        let mut bytes = [0; N];
        bytes[..now.len()].copy_from_slice(now);
        bytes
    }

    fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }
}

fn u32_of(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_of(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Arguments of the ioctls: the first byte says of which one, the others are the argument.
pub fn arguments(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    match bytes.byte() % 9 {
        0 => {
            let arg = bytes.array::<{ wire::CREATE }>();
            let create = wire::Create::decode(&arg);
            assert_eq!(create.limit, u64_of(&arg, 0));
            assert_eq!(create.path, u64_of(&arg, 8));
        }
        1 => {
            let arg = bytes.array::<{ wire::COLLECT }>();
            let collect = wire::Collect::decode(&arg);
            assert_eq!(collect.count, u32_of(&arg, 0));
            assert_eq!(collect.uuids, u64_of(&arg, 8));
        }
        2 => {
            let arg = bytes.array::<{ wire::APPEND }>();
            let append = wire::Append::decode(&arg);
            assert_eq!(append.uuid, arg[..16]);
            assert_eq!(append.path, u64_of(&arg, 16));
        }
        3 => {
            let arg = bytes.array::<{ wire::Wait::SIZE }>();
            let wait = wire::Wait::decode(&arg);
            assert_eq!(wait.uuid, arg[..16]);
            assert_eq!(wait.timeout_ms, u32_of(&arg, 16));
            let known = u32_of(&arg, 20) >> 8 == 0x6b6e6f;
            let code = if known { arg[20].max(1) } else { 1 };
            assert_eq!(wait.code, code.into());
        }
        4 => happened(&mut bytes),
        5 => {
            let errno = i32::from_ne_bytes(bytes.array());
            let info = wire::info(errno, bytes.0);
            assert_eq!(u32_of(&info, 0) as i32, errno);
            let shown = bytes.0.len().min(wire::IMAGE_NAME - 1);
            assert_eq!(info[4..4 + shown], bytes.0[..shown]);
            assert!(info[4 + shown..].iter().all(|&byte| byte == 0));
        }
        6 => tracked(&mut bytes),
        7 => {
            let arg = bytes.array::<{ wire::DIRTY }>();
            let dirty = wire::Dirty::decode(&arg);
            assert_eq!(dirty.count, u32_of(&arg, 0));
            assert_eq!(dirty.ranges, u64_of(&arg, 8));
        }
        _ => {
            let parts = [0; 4].map(|_| bytes.word());
            let version = wire::version(parts);
            for (i, part) in parts.into_iter().enumerate() {
                assert_eq!(version[i * 2..i * 2 + 2], part.to_ne_bytes());
            }
        }
    }
}

fn happened(bytes: &mut Bytes<'_>) {
    let time = i64::from_ne_bytes(bytes.array());
    let one = u64::from_ne_bytes(bytes.array());
    let other = u64::from_ne_bytes(bytes.array());
    let (code, happened) = match bytes.byte() % 3 {
        0 => {
            let (major, minor) = (one as u32, (one >> 32) as u32);
            let errno = other as i32;
            let corrupted = wire::Happened::Corrupted {
                major,
                minor,
                errno,
            };
            (0, corrupted)
        }
        1 => (1, wire::Happened::NoSpace { requested: one }),
        _ => {
            let low = wire::Happened::LowSpace {
                free: one,
                capacity: other,
            };
            (2, low)
        }
    };
    let answer = happened.encode(time);
    assert_eq!(u32_of(&answer, 0), code);
    assert_eq!(u64_of(&answer, 4) as i64, time);
    assert_eq!(u64_of(&answer, 12), one);
    let second = match code {
        0 => u64::from(other as u32),
        1 => 0,
        _ => other,
    };
    if cfg!(target_endian = "little") {
        assert_eq!(u64_of(&answer, 20), second);
    }
}

/// A change map of an arbitrary size: ranges are marked in it as they are sent, and windows of it
/// read.
fn tracked(bytes: &mut Bytes<'_>) {
    use crate::change_map::{ChangeMap, Limits};

    let shift = bytes.byte() % 64;
    let sectors = u64::from_ne_bytes(bytes.array()) >> shift;
    let limits = Limits {
        min_shift: bytes.byte().into(),
        max_shift: bytes.byte().into(),
        max_blocks: bytes.word().into(),
    };
    // More would only take long to allocate.
    let largest = limits.max_shift.max(limits.min_shift).clamp(9, 31) - 9;
    if sectors >> largest > 1 << 16 {
        return;
    }
    let map = ChangeMap::new(sectors, &limits).expect("there is memory");
    let block = map.block_size() / 512;
    assert_eq!(map.blocks() as u64, sectors.div_ceil(block));

    let mut marked: Option<Range<u64>> = None;
    while !bytes.0.is_empty() {
        let Some(range) = wire::sectors(&bytes.array()) else {
            continue;
        };
        map.mark(range.clone(), 1);
        let end = range.end.min(sectors);
        if range.start < end {
            let was = marked.get_or_insert(range.start..end);
            *was = was.start.min(range.start)..was.end.max(end);
        }
        // A window that begins or ends outside.
        let mut window = [9; 32];
        let first = (range.start / block) as u32;
        let n = map.read(first, &mut window);
        let there = map.blocks().saturating_sub(first) as usize;
        assert_eq!(n, there.min(window.len()));
        assert!(window[n..].iter().all(|&byte| byte == 9));
    }

    let mut all = vec![9; map.blocks() as usize];
    assert_eq!(map.read(0, &mut all), all.len());
    let hull = marked.map_or(0..0, |range| range.start / block..range.end.div_ceil(block));
    for (i, &byte) in all.iter().enumerate() {
        let inside = hull.contains(&(i as u64));
        assert!(byte == 0 || (byte == 1 && inside), "block {i} is {byte}");
        let is_end = i as u64 == hull.start || i as u64 + 1 == hull.end;
        assert!(byte == 1 || !(inside && is_end), "block {i} is not marked");
    }
}

/// A snapshot with everything that happens to it, in the simulated machine.
#[cfg(not(feature = "loom"))]
pub fn chunks(bytes: &[u8]) {
    crate::world::check(plan(&mut Bytes(bytes)));
}

#[cfg(not(feature = "loom"))]
fn plan(bytes: &mut Bytes<'_>) -> crate::world::Plan {
    use crate::{
        cow::Sizes,
        world::{Action, Extent, On, Origin, Plan},
    };
    use kernel::block::bio::Op;

    fn extent(bytes: &mut Bytes<'_>, on: &[On]) -> Extent {
        Extent {
            on: on[usize::from(bytes.byte()) % on.len()],
            offset: u64::from(bytes.byte()) % 24,
            sectors: 4 + u64::from(bytes.byte()) % 52,
        }
    }

    fn erase(byte: u8) -> Op {
        [Op::Discard, Op::WriteZeroes, Op::SecureErase][usize::from(byte) % 3]
    }

    // One in so many, or none.
    let odds = |byte: u8, least: u8| match byte {
        0..128 => 0,
        _ => u64::from(byte % 40 + least),
    };

    let seed = u64::from_le_bytes(bytes.array());
    let origins = (0..bytes.byte() % 2 + 1)
        .map(|_| Origin {
            gap: u64::from(bytes.byte()) % 20,
            sectors: u64::from(bytes.word()) % 699 + 1,
            sizes: Sizes {
                min_shift: bytes.byte().into(),
                max_count_shift: bytes.byte().into(),
                max_shift: bytes.byte().into(),
                max_jobs: bytes.byte().into(),
            },
        })
        .collect();
    let extents = (0..bytes.byte() % 11 + 1)
        .map(|_| extent(bytes, &[On::SameDisk, On::OtherDisk, On::Memory]))
        .collect();
    let portions = (0..bytes.byte() % 4)
        .map(|_| {
            (0..bytes.byte() % 4)
                .map(|_| extent(bytes, &[On::OtherDisk, On::Memory]))
                .collect()
        })
        .collect();
    let limit = match bytes.word() {
        0 => u64::MAX,
        limit => limit.into(),
    };
    let no_memory = odds(bytes.byte(), 2);
    let io_errors = odds(bytes.byte(), 3);
    let mut actions = Vec::new();
    loop {
        let byte = bytes.byte();
        let (kind, nowait) = (byte & 0x1f, byte & 0x80 != 0);
        let op = erase(byte >> 5 & 3);
        let action = match kind {
            0..9 => Action::Write { nowait },
            9..12 => Action::Erase { op, nowait },
            12 => Action::Flush,
            13..22 => Action::ImageRead,
            22..30 => Action::ImageWrite,
            _ => Action::ImageErase { op },
        };
        let first = bytes.word().into();
        let sectors = 1 + u64::from(bytes.byte()) % 80;
        actions.push((action, first, sectors));
        if bytes.0.is_empty() || actions.len() == 60 {
            break;
        }
    }
    Plan {
        seed,
        origins,
        extents,
        portions,
        limit,
        no_memory,
        io_errors,
        actions,
    }
}
