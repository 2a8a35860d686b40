// SPDX-License-Identifier: GPL-2.0

//! Files in memory that nobody else can reach.
//!
//! Their content can be swapped out, other than that of pages that the kernel allocates for itself.
//!
//! C header: [`include/linux/shmem_fs.h`](srctree/include/linux/shmem_fs.h)

use crate::{
    bindings,
    error::{from_err_ptr, Error},
    fs::{File, LocalFile},
    prelude::*,
    sync::aref::ARef,
};
use core::ptr::NonNull;

/// A file in memory without a name. Its memory is allocated as it is written, and freed when it is
/// dropped. Clones are the same file.
#[derive(Clone)]
pub struct MemoryFile(ARef<File>);

impl MemoryFile {
    /// Creates a file of `size` bytes, all of them zero. `name` is for debugging.
    pub fn new(name: &CStr, size: u64) -> Result<Self> {
        let size = i64::try_from(size).map_err(|_| EFBIG)?;
        // Memory is not accounted for in advance: how much will be written is not known.
        let flags = bindings::vma_flags_t {
            __vma_flags: [1 << bindings::VMA_NORESERVE_BIT; _],
        };
        // SAFETY: The name is valid for the call.
        let file = from_err_ptr(unsafe {
            bindings::shmem_kernel_file_setup(name.as_char_ptr(), size, flags)
        })?;
        // What is short of memory fails, rather than to wait for those who may wait for the writer.
        // SAFETY: The file is ours alone, and so is its mapping.
        unsafe {
            bindings::mapping_set_gfp_mask(
                (*file).f_mapping,
                (GFP_NOIO | __GFP_HIGHMEM | __GFP_RETRY_MAYFAIL | __GFP_NOWARN).as_raw(),
            )
        };
        // SAFETY: The reference is ours, and not in any descriptor table, so that there is no
        // `fdget_pos` call on it. Not an error, so not null.
        Ok(Self(unsafe {
            ARef::from_raw(NonNull::new_unchecked(file.cast()))
        }))
    }

    /// Whether `file` is a regular file in memory too, such as one on tmpfs.
    pub fn is_like(file: &LocalFile) -> bool {
        // SAFETY: The file is valid, and its mapping not changed after it was opened.
        unsafe { bindings::shmem_mapping((*file.as_ptr()).f_mapping) }
    }

    /// Writes all of `bytes` at `pos`. May sleep, but does not wait for I/O to get memory: that I/O
    /// may depend on the caller.
    pub fn write_at(&self, pos: u64, bytes: &[u8]) -> Result {
        let mut pos = i64::try_from(pos).map_err(|_| EFBIG)?;
        let mut left = bytes;
        while !left.is_empty() {
            // SAFETY: The file is valid, and so are the bytes for the call.
            let n = no_io(|| unsafe {
                let file = self.0.as_ptr();
                bindings::kernel_write(file, left.as_ptr().cast(), left.len(), &mut pos)
            });
            left = &left[count(n)?..];
        }
        Ok(())
    }

    /// Reads from `pos` until `bytes` are filled. May sleep, also to swap in.
    pub fn read_at(&self, pos: u64, bytes: &mut [u8]) -> Result {
        let mut pos = i64::try_from(pos).map_err(|_| EFBIG)?;
        let mut done = 0;
        while done < bytes.len() {
            let left = &mut bytes[done..];
            // SAFETY: The file is valid, and so are the bytes for the call.
            let n = no_io(|| unsafe {
                let file = self.0.as_ptr();
                bindings::kernel_read(file, left.as_mut_ptr().cast(), left.len(), &mut pos)
            });
            done += count(n)?;
        }
        Ok(())
    }
}

/// What a read or write that is not empty has done, which is an error if it is nothing.
fn count(n: isize) -> Result<usize> {
    match n {
        0 => Err(EIO),
        1.. => Ok(n as usize),
        _ => Err(Error::from_errno(n as i32)),
    }
}

/// Runs `f`, in which no allocation waits for I/O.
fn no_io<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: May be called by any task, and is undone below by the same one.
    let flags = unsafe { bindings::memalloc_noio_save() };
    let ret = f();
    // SAFETY: What was saved just above.
    unsafe { bindings::memalloc_noio_restore(flags) };
    ret
}
