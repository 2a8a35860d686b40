// SPDX-License-Identifier: GPL-2.0

//! The arguments of the ioctls, as bytes.
//!
//! The layouts are those of [`include/uapi/linux/blksnap.h`](srctree/include/uapi/linux/blksnap.h),
//! decoded from and encoded to plain bytes so that no value that user space sends is ever
//! interpreted in place.

/// Size of a UUID in bytes.
pub(crate) const UUID: usize = 16;
/// Size of `struct blksnap_version`.
pub(crate) const VERSION: usize = 8;
/// Size of `struct blksnap_snapshot_create`.
pub(crate) const CREATE: usize = 32;
/// Size of `struct blksnap_snapshot_collect`.
pub(crate) const COLLECT: usize = 16;
/// Size of `struct blksnap_snapshot_info`.
pub(crate) const INFO: usize = 36;
/// Room for the name of an image's disk in it.
pub(crate) const IMAGE_NAME: usize = 32;

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
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
    /// User address of the room.
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
