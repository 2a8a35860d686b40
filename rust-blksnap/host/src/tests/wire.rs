// SPDX-License-Identifier: GPL-2.0

//! The offsets here are those of the interface, written down once more.

use crate::wire::*;
use proptest::prelude::*;

/// An argument made up of fields at their offsets, with `rest` between them.
fn with<const N: usize>(rest: u8, fields: &[(usize, &[u8])]) -> [u8; N] {
    let mut bytes = [rest; N];
    for (at, field) in fields {
        bytes[*at..at + field.len()].copy_from_slice(field);
    }
    bytes
}

fn u32_of(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_of(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn happened() -> impl Strategy<Value = Happened> {
    prop_oneof![
        any::<(u32, u32, i32)>().prop_map(|(major, minor, errno)| Happened::Corrupted {
            major,
            minor,
            errno
        }),
        any::<u64>().prop_map(|requested| Happened::NoSpace { requested }),
        any::<(u64, u64)>().prop_map(|(free, capacity)| Happened::LowSpace { free, capacity }),
    ]
}

proptest! {
    #![proptest_config(super::cases(256))]

    #[test]
    fn what_is_sent_arrives(
        rest: u8,
        (word, other) in any::<(u64, u64)>(),
        (short, second) in any::<(u32, u32)>(),
        id: [u8; 16],
    ) {
        let (w, o) = (word.to_ne_bytes(), other.to_ne_bytes());
        let (s, t) = (short.to_ne_bytes(), second.to_ne_bytes());

        let create = Create::decode(&with(rest, &[(0, &w), (8, &o)]));
        prop_assert_eq!(create, Create { limit: word, path: other });

        let collect = Collect::decode(&with(rest, &[(0, &s), (8, &w)]));
        prop_assert_eq!(collect, Collect { count: short, uuids: word });

        let append = Append::decode(&with(rest, &[(0, &id), (16, &w)]));
        prop_assert_eq!(append, Append { uuid: id, path: word });

        let wait = Wait::decode(&with(rest, &[(0, &id), (16, &s), (20, &t)]));
        // Who does not say that it knows of more events knows of the first two.
        prop_assert_eq!(wait, Wait { uuid: id, timeout_ms: short, code: 1 });

        let known = (0x6b6e6f00 + u32::from(id[0])).to_ne_bytes();
        let wait = Wait::decode(&with(rest, &[(20, &known)]));
        prop_assert_eq!(wait.code, u32::from(id[0]).max(1));

        let map = ReadMap::decode(&with(rest, &[(0, &s), (4, &t), (8, &w)]));
        prop_assert_eq!(map, ReadMap { offset: short, length: second, buffer: word });

        let dirty = Dirty::decode(&with(rest, &[(0, &s), (8, &w)]));
        prop_assert_eq!(dirty, Dirty { count: short, ranges: word });

        let range = sectors(&with(rest, &[(0, &w), (8, &o)]));
        let end = u128::from(word) + u128::from(other);
        prop_assert_eq!(range.is_some(), end <= u64::MAX.into());
        if let Some(range) = range {
            prop_assert_eq!((range.start, u128::from(range.end)), (word, end));
        }
    }

    #[test]
    fn what_has_happened_is_told(happened in happened(), time: i64) {
        let mut answer = [0; EVENT];
        answer[Happened::AT..Happened::AT + Happened::SIZE].copy_from_slice(&happened.encode(time));
        prop_assert_eq!(u64_of(&answer, 24) as i64, time);
        prop_assert_eq!(u32_of(&answer, 20), happened.code());
        let code = u32_of(&answer, 20);
        let end = match happened {
            Happened::Corrupted { major, minor, errno } => {
                prop_assert_eq!(code, 0);
                prop_assert_eq!((u32_of(&answer, 32), u32_of(&answer, 36)), (major, minor));
                prop_assert_eq!(u32_of(&answer, 40) as i32, errno);
                44
            }
            Happened::NoSpace { requested } => {
                prop_assert_eq!(code, 1);
                prop_assert_eq!(u64_of(&answer, 32), requested);
                40
            }
            Happened::LowSpace { free, capacity } => {
                prop_assert_eq!(code, 2);
                prop_assert_eq!((u64_of(&answer, 32), u64_of(&answer, 40)), (free, capacity));
                48
            }
        };
        // Nothing that is no answer leaves the kernel.
        prop_assert!(answer[end..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn what_is_answered_is_where_it_is_looked_for(
        capacity: u64,
        (size, count) in any::<(u32, u32)>(),
        generation: [u8; 16],
        number: u8,
        parts: [u16; 4],
    ) {
        let bytes = tracking_info(capacity, size, count, &generation, number);
        prop_assert_eq!(u64_of(&bytes, 0), capacity);
        prop_assert_eq!((u32_of(&bytes, 8), u32_of(&bytes, 12)), (size, count));
        prop_assert_eq!(&bytes[16..32], &generation);
        prop_assert_eq!(bytes[32], number);
        prop_assert_eq!(&bytes[33..], [0; 7]);

        let bytes = version(parts);
        for (i, part) in parts.iter().enumerate() {
            prop_assert_eq!(&bytes[i * 2..i * 2 + 2], part.to_ne_bytes());
        }
    }

    #[test]
    fn a_name_ends(errno: i32, name in prop::collection::vec(1..=u8::MAX, 0..80)) {
        let bytes = info(errno, &name);
        prop_assert_eq!(u32_of(&bytes, 0) as i32, errno);
        let shown = &name[..name.len().min(31)];
        prop_assert_eq!(&bytes[4..4 + shown.len()], shown);
        prop_assert!(bytes[4 + shown.len()..].iter().all(|&byte| byte == 0));
        prop_assert_eq!(bytes.last(), Some(&0));
    }
}

#[test]
fn sizes_are_those_of_the_interface() {
    assert_eq!((UUID, VERSION, CREATE, COLLECT), (16, 8, 32, 16));
    assert_eq!((APPEND, EVENT, TRACKING_INFO), (24, 4096, 40));
    assert_eq!((TRACKING_MAP, DIRTY, SECTORS, INFO), (16, 16, 16, 36));
}
