// SPDX-License-Identifier: GPL-2.0

//! The arguments of the ioctls, as bytes.
//!
//! The layouts are those of [`include/uapi/linux/blksnap.h`](srctree/include/uapi/linux/blksnap.h),
//! decoded from and encoded to plain bytes so that no value that user space sends is ever
//! interpreted in place.

use core::ops::Range;

/// Size of a UUID in bytes.
pub(crate) const UUID: usize = 16;
/// Size of `struct blksnap_version`.
pub(crate) const VERSION: usize = 8;
/// Size of `struct blksnap_snapshot_create`.
pub(crate) const CREATE: usize = 32;
/// Size of `struct blksnap_snapshot_collect`.
pub(crate) const COLLECT: usize = 16;
/// Size of `struct blksnap_storage_append`.
pub(crate) const APPEND: usize = 24;
/// Size of `struct blksnap_event`.
pub(crate) const EVENT: usize = 4096;
/// Size of `struct blksnap_cbt_info`.
pub(crate) const TRACKING_INFO: usize = 40;
/// Size of `struct blksnap_cbt_map`.
pub(crate) const TRACKING_MAP: usize = 16;
/// Size of `struct blksnap_cbt_dirty`.
pub(crate) const DIRTY: usize = 16;
/// Size of `struct blksnap_sectors`.
pub(crate) const SECTORS: usize = 16;
/// Size of `struct blksnap_snapshot_info`.
pub(crate) const INFO: usize = 36;
/// Room for the name of an image's disk in it.
pub(crate) const IMAGE_NAME: usize = 32;

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}

fn uuid_at(bytes: &[u8], at: usize) -> [u8; UUID] {
    let mut uuid = [0; UUID];
    uuid.copy_from_slice(&bytes[at..at + UUID]);
    uuid
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(word)
}

/// What is asked for by create.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Create {
    /// How many sectors of storage may be used.
    pub(crate) limit: u64,
    /// User address of the path of the storage, with a NUL at its end.
    pub(crate) path: u64,
}

impl Create {
    /// Offset of the UUID that is written back.
    pub(crate) const UUID_AT: usize = 16;

    pub(crate) fn decode(bytes: &[u8; CREATE]) -> Self {
        Self {
            limit: u64_at(bytes, 0),
            path: u64_at(bytes, 8),
        }
    }
}

/// What is asked for by collect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Collect {
    /// For how many UUIDs there is room.
    pub(crate) count: u32,
    /// User address of the room, or zero if only the number is asked for.
    pub(crate) uuids: u64,
}

impl Collect {
    pub(crate) fn decode(bytes: &[u8; COLLECT]) -> Self {
        Self {
            count: u32_at(bytes, 0),
            uuids: u64_at(bytes, 8),
        }
    }
}

/// What is asked for by append.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Append {
    /// Whose storage.
    pub(crate) uuid: [u8; UUID],
    /// User address of the path of the file to append, with a NUL at its end.
    pub(crate) path: u64,
}

impl Append {
    pub(crate) fn decode(bytes: &[u8; APPEND]) -> Self {
        Self {
            uuid: uuid_at(bytes, 0),
            path: u64_at(bytes, 16),
        }
    }
}

/// What is asked for by wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Whose events.
    pub(crate) uuid: [u8; UUID],
    /// How long to wait, in milliseconds.
    pub(crate) timeout_ms: u32,
    /// The largest code of an event that the caller knows of.
    pub(crate) code: u32,
}

impl Wait {
    /// How much of the request there is to read.
    pub(crate) const SIZE: usize = 24;

    /// What is added to the code by who knows that it is looked at.
    const KNOWN: u32 = 0x6b6e6f00;

    pub(crate) fn decode(bytes: &[u8; Self::SIZE]) -> Self {
        Self {
            uuid: uuid_at(bytes, 0),
            timeout_ms: u32_at(bytes, 16),
            // There have always been two, and who knew of no more may have anything there.
            code: match u32_at(bytes, 20).wrapping_sub(Self::KNOWN) {
                code @ 0..=0xff => code.max(1),
                _ => 1,
            },
        }
    }
}

/// The part of the answer to wait that has something in it, from [`Happened::AT`] on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// `struct blksnap_event_corrupted`.
    Corrupted { major: u32, minor: u32, errno: i32 },
    /// `struct blksnap_event_no_space`, in sectors.
    NoSpace { requested: u64 },
    /// `struct blksnap_event_low_space`, in sectors.
    LowSpace { free: u64, capacity: u64 },
}

impl Happened {
    /// Where in the answer this begins.
    pub(crate) const AT: usize = 20;
    /// The code and the time.
    const HEAD: usize = 12;
    /// Size of the largest one, with code and time.
    pub(crate) const SIZE: usize = Self::HEAD + 16;

    /// The number that tells what kind it is.
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Corrupted { .. } => 0,
            Self::NoSpace { .. } => 1,
            Self::LowSpace { .. } => 2,
        }
    }

    /// `time` is in nanoseconds.
    pub(crate) fn encode(self, time: i64) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (head, data) = bytes.split_at_mut(Self::HEAD);
        match self {
            Self::Corrupted {
                major,
                minor,
                errno,
            } => {
                data[..4].copy_from_slice(&major.to_ne_bytes());
                data[4..8].copy_from_slice(&minor.to_ne_bytes());
                data[8..12].copy_from_slice(&errno.to_ne_bytes());
            }
            Self::NoSpace { requested } => {
                data[..8].copy_from_slice(&requested.to_ne_bytes());
            }
            Self::LowSpace { free, capacity } => {
                data[..8].copy_from_slice(&free.to_ne_bytes());
                data[8..].copy_from_slice(&capacity.to_ne_bytes());
            }
        }
        head[..4].copy_from_slice(&self.code().to_ne_bytes());
        head[4..].copy_from_slice(&time.to_ne_bytes());
        bytes
    }
}

/// What is asked for by the command that reads the change map.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReadMap {
    /// First byte of the map.
    pub(crate) offset: u32,
    /// Number of bytes.
    pub(crate) length: u32,
    /// User address of the room for them.
    pub(crate) buffer: u64,
}

impl ReadMap {
    pub(crate) fn decode(bytes: &[u8; TRACKING_MAP]) -> Self {
        Self {
            offset: u32_at(bytes, 0),
            length: u32_at(bytes, 4),
            buffer: u64_at(bytes, 8),
        }
    }
}

/// What is asked for by the command that marks ranges as changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dirty {
    /// Number of ranges.
    pub(crate) count: u32,
    /// User address of the ranges.
    pub(crate) ranges: u64,
}

impl Dirty {
    pub(crate) fn decode(bytes: &[u8; DIRTY]) -> Self {
        Self {
            count: u32_at(bytes, 0),
            ranges: u64_at(bytes, 8),
        }
    }
}

/// A range of sectors, or nothing if it ends beyond what can be counted.
pub(crate) fn sectors(bytes: &[u8; SECTORS]) -> Option<Range<u64>> {
    let first = u64_at(bytes, 0);
    Some(first..first.checked_add(u64_at(bytes, 8))?)
}

/// The state of change tracking: the size of the device in bytes, the size and number of the
/// blocks, and the map's generation and latest period.
pub(crate) fn tracking_info(
    capacity: u64,
    block_size: u32,
    blocks: u32,
    generation: &[u8; UUID],
    number: u8,
) -> [u8; TRACKING_INFO] {
    let mut bytes = [0; TRACKING_INFO];
    bytes[..8].copy_from_slice(&capacity.to_ne_bytes());
    bytes[8..12].copy_from_slice(&block_size.to_ne_bytes());
    bytes[12..16].copy_from_slice(&blocks.to_ne_bytes());
    bytes[16..32].copy_from_slice(generation);
    bytes[32] = number;
    bytes
}

/// The version that is reported: major, minor, revision, build.
pub(crate) fn version(parts: [u16; 4]) -> [u8; VERSION] {
    let mut bytes = [0; VERSION];
    for (i, part) in parts.iter().enumerate() {
        bytes[i * 2..i * 2 + 2].copy_from_slice(&part.to_ne_bytes());
    }
    bytes
}

/// The state of a device's snapshot: its error, as a negative number or zero, and the name of its
/// image's disk, empty if there is none.
pub(crate) fn info(error: i32, image: &[u8]) -> [u8; INFO] {
    let mut bytes = [0; INFO];
    bytes[..4].copy_from_slice(&error.to_ne_bytes());
    // The last byte stays NUL.
    let len = image.len().min(IMAGE_NAME - 1);
    bytes[4..4 + len].copy_from_slice(&image[..len]);
    bytes
}
