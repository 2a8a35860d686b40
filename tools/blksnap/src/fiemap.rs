// SPDX-License-Identifier: GPL-2.0

//! Where the blocks of a file are, as the filesystem tells user space.
//!
//! Good for a look at a file before it is handed to the kernel, and for nothing
//! else: the kernel asks the filesystem itself, under the locks that make the
//! answer true.

use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// `FS_IOC_FIEMAP`.
pub(crate) const FIEMAP_IOCTL: u32 = 0xc020_660b;

const BATCH: usize = 128;

/// Write dirty pages first, so that nothing is still without a place.
const FLAG_SYNC: u32 = 0x1;

/// The extent is the file's last.
const LAST: u32 = 0x1;
/// The place is not known, or not yet chosen.
const UNKNOWN: u32 = 0x2 | 0x4;
/// The blocks hold something else than the file's plain data.
const ENCODED: u32 = 0x8 | 0x80;
/// The data shares blocks with metadata or other data.
const INLINE: u32 = 0x100 | 0x200 | 0x400;
/// Allocated, but never written: reads as zeroes.
const UNWRITTEN: u32 = 0x800;
/// Other files use the same blocks.
const SHARED: u32 = 0x2000;

/// An extent as the ioctl returns it.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct RawExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved2: [u32; 3],
}

/// The ioctl's argument.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct FiemapRequest {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    room: u32,
    reserved: u32,
    extents: [RawExtent; BATCH],
}

/// A run of blocks of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// What the filesystem says about it.
    flags: u32,
}

impl Extent {
    #[cfg(test)]
    pub(crate) fn new(offset: u64, length: u64, flags: u32) -> Self {
        Extent {
            offset,
            length,
            flags,
        }
    }

    /// The blocks were never written.
    pub fn unwritten(&self) -> bool {
        self.flags & UNWRITTEN != 0
    }

    /// Other files use the blocks as well.
    pub fn shared(&self) -> bool {
        self.flags & SHARED != 0
    }

    /// The data has no block of its own.
    pub fn inline(&self) -> bool {
        self.flags & INLINE != 0
    }

    /// The data is compressed or encrypted.
    pub fn encoded(&self) -> bool {
        self.flags & ENCODED != 0
    }

    /// The data has no place yet.
    pub fn unknown(&self) -> bool {
        self.flags & UNKNOWN != 0
    }
}

/// All extents of a file, in order.
pub fn extents(fd: BorrowedFd<'_>) -> Result<Vec<Extent>, Errno> {
    let mut all = Vec::new();
    let mut start = 0;
    loop {
        let mut request = Box::new(FiemapRequest::new_zeroed());
        request.start = start;
        request.length = u64::MAX - start;
        request.flags = FLAG_SYNC;
        request.room = BATCH as u32;
        crate::sys::fiemap(fd, &mut request)?;
        let batch = &request.extents[..BATCH.min(request.mapped as usize)];
        all.extend(batch.iter().map(|raw| Extent {
            offset: raw.logical,
            length: raw.length,
            flags: raw.flags,
        }));
        match batch.last() {
            Some(last) if last.flags & LAST == 0 => start = last.logical + last.length,
            _ => return Ok(all),
        }
    }
}

const _: () = {
    assert!(size_of::<RawExtent>() == 56);
    assert!(size_of::<FiemapRequest>() == 32 + 56 * BATCH);
};
