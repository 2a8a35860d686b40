// SPDX-License-Identifier: GPL-2.0

//! Pinned file layouts.
//!
//! The blocks of a file whose layout is pinned stay where they are and belong to nobody else, so
//! that the holder may do I/O to them without the filesystem.
//!
//! C header: [`include/linux/layout.h`](srctree/include/linux/layout.h)

use crate::{
    alloc::AllocError,
    bindings,
    block::bdev::BlockDevice,
    container_of,
    error::{from_result, to_result, Error, Result},
    fs::File,
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef,
    types::Opaque,
};
use core::{cell::UnsafeCell, ptr};

/// What a holder requires of a layout, to be combined with `|`.
pub mod require {
    /// All extents are unwritten: what is stored in the blocks can never be read through the file.
    pub const UNWRITTEN: u32 = bindings::LAYOUT_REQUIRE_UNWRITTEN;

    /// All extents lie on one device.
    pub const ONE_DEVICE: u32 = bindings::LAYOUT_REQUIRE_ONE_DEVICE;
}

/// Where one piece of a file lies. All positions and lengths are in bytes.
///
/// # Invariants
///
/// The C struct and its device are valid for as long as the value is borrowed.
#[repr(transparent)]
pub struct Extent(bindings::layout_extent);

impl Extent {
    /// The device that holds it.
    pub fn bdev(&self) -> &BlockDevice {
        // SAFETY: By the type invariants.
        unsafe { BlockDevice::from_raw(self.0.bdev) }
    }

    /// First byte on the device.
    pub fn addr(&self) -> u64 {
        self.0.addr
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.0.len
    }
}

/// Why a file was not pinned.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// What to tell user space.
    pub error: Error,

    /// It was for an extent: a hole, or one that is written where none may be.
    /// [`make_unwritten`] may help.
    pub unfit: bool,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self {
            error,
            unfit: false,
        }
    }
}

impl From<AllocError> for Refused {
    fn from(error: AllocError) -> Self {
        Error::from(error).into()
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

/// Gives the content of `file` up, so that all of it can be pinned with [`require::UNWRITTEN`]:
/// holes are allocated, and all extents are unwritten. A file that does not end with a page, or
/// with a block of its filesystem, is made so much larger.
///
/// May sleep, but does not wait for a frozen filesystem.
///
/// # Errors
///
/// [`EOPNOTSUPP`] if the filesystem cannot do it, [`EAGAIN`] if it is frozen, [`EINVAL`] for an
/// empty file, and what `fallocate()` fails with otherwise, such as [`ENOSPC`].
pub fn make_unwritten(file: &File) -> Result {
    // SAFETY: The file is valid.
    to_result(unsafe { bindings::vfs_make_unwritten(file.as_ptr()) })
}

/// The device of the filesystem that `file` is on, if it has one. Of several, it is the first.
pub fn device_of(file: &File) -> Option<ARef<BlockDevice>> {
    // SAFETY: The file is valid, and with it its filesystem, which keeps its device.
    unsafe {
        let bdev = (*(*(*file.as_ptr()).f_inode).i_sb).s_bdev;
        (!bdev.is_null()).then(|| BlockDevice::from_raw(bdev).into())
    }
}

/// Files are extended in multiples of so many bytes.
fn unit(file: &File) -> u64 {
    // SAFETY: The file is valid, and so is its inode while it is open.
    let block_bits = unsafe { (*(*file.as_ptr()).f_inode).i_blkbits };
    PAGE_SIZE.max(1 << block_bits) as u64
}

/// A pinned layout. Dropping it unpins the file, which may sleep.
///
/// # Invariants
///
/// `file` is pinned with `context.raw`, which is initialised.
pub struct PinnedLayout {
    context: Pin<KBox<Context>>,
    file: ARef<File>,
}

/// # Invariants
///
/// `actor` points to the closure of the call that pins or extends the file while that runs, and
/// `raw.actor` to the function for closures of its type.
#[pin_data]
struct Context {
    #[pin]
    raw: Opaque<bindings::layout_context>,
    actor: UnsafeCell<*mut c_void>,
}

// SAFETY: The C side allows to extend and to unpin a file from any thread. `actor` is null between
// the calls.
unsafe impl Send for Context {}

// SAFETY: All that `&Context` gives access to is the size, which changes only in calls that take
// `&mut PinnedLayout`.
unsafe impl Sync for Context {}

impl PinnedLayout {
    /// Pins the layout of `file`, which must be open for writing, and calls `actor` with each
    /// extent in file order. `name` says in the kernel log who holds it.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if somebody else has pinned it, [`EINVAL`] for a file that is not suitable (the
    /// kernel log says why, and [`Refused::unfit`] whether that can be helped), [`ETXTBSY`] if
    /// others write to it, what `actor` returns, and I/O errors. Nothing stays pinned then.
    pub fn new<F: FnMut(&Extent) -> Result>(
        file: ARef<File>,
        name: &'static CStr,
        require: u32,
        mut actor: F,
    ) -> Result<Self, Refused> {
        // Taken here, since the initialiser would move the closure.
        let closure: *mut c_void = (&raw mut actor).cast();
        let init = pin_init!(Context {
            raw: Opaque::new(bindings::layout_context {
                actor: Some(Self::actor::<F>),
                name: name.as_char_ptr(),
                require,
                ..pin_init::zeroed()
            }),
            // INVARIANT: The closure outlives the call below.
            actor: UnsafeCell::new(closure),
        });
        let context = KBox::pin_init(init, GFP_KERNEL)?;
        // SAFETY: The file is valid, and the context pinned, initialised and kept until it is
        // unpinned.
        let ret = unsafe { bindings::vfs_pin_layout(file.as_ptr(), context.raw.get()) };
        // INVARIANT: `actor` will not be called again.
        // SAFETY: Nobody else uses the field, since no call is running.
        unsafe { *context.actor.get() = ptr::null_mut() };
        match to_result(ret) {
            // INVARIANT: Pinned just now.
            Ok(()) => Ok(Self { context, file }),
            Err(error) => Err(Refused {
                error,
                // SAFETY: The call is over, and nobody else uses the context.
                unfit: unsafe { (*context.raw.get()).unfit },
            }),
        }
    }

    /// Makes the file `size` bytes large, pins what was added, and calls `actor` with each extent
    /// of that in file order. `size` must be a multiple of the page size and of the filesystem's
    /// block size.
    ///
    /// May sleep, but does not wait for a frozen filesystem.
    ///
    /// # Errors
    ///
    /// [`ENOSPC`] and [`EDQUOT`] if there is no space, [`EFBIG`] beyond what the filesystem can do,
    /// [`EBUSY`] if the filesystem cannot do it now, [`EAGAIN`] if it is frozen, [`EINVAL`] if the
    /// sizes or the new extents are not suitable (the kernel log says why), what `actor` returns,
    /// and others of the filesystem. What was pinned before still is, nothing more, and extents
    /// that `actor` got in this call must not be used.
    pub fn extend<F: FnMut(&Extent) -> Result>(&mut self, size: u64, mut actor: F) -> Result {
        let size = i64::try_from(size).map_err(|_| EFBIG)?;
        let raw = self.context.raw.get();
        // INVARIANT: The closure outlives the call below, for which the function is set.
        // SAFETY: No call is running, since that would have borrowed `self`, and nobody else uses
        // the fields between calls.
        unsafe {
            *self.context.actor.get() = (&raw mut actor).cast();
            (*raw).actor = Some(Self::actor::<F>);
        }
        // SAFETY: Pinned by `new()` with this file and this context.
        let ret = unsafe { bindings::vfs_extend_pinned_layout(self.file.as_ptr(), raw, size) };
        // INVARIANT: `actor` will not be called again.
        // SAFETY: Nobody else uses the field, since no call is running.
        unsafe { *self.context.actor.get() = ptr::null_mut() };
        to_result(ret)
    }

    /// The pinned file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether the file ends with a page and with a block of its filesystem: one that does not
    /// cannot be extended.
    pub fn ends_with_block(&self) -> bool {
        self.file.size() % unit(&self.file) == 0
    }

    /// How many bytes are pinned, from the start of the file.
    pub fn size(&self) -> u64 {
        // SAFETY: The context is valid, and the size changes in `extend()` only, which would have
        // borrowed `self` mutably.
        unsafe { (*self.context.raw.get()).size as u64 }
    }

    /// # Safety
    ///
    /// `context` must be that of a `Context` whose `actor` points to an `F` that is not in use, and
    /// `extent` be valid for the call.
    unsafe extern "C" fn actor<F: FnMut(&Extent) -> Result>(
        context: *mut bindings::layout_context,
        extent: *const bindings::layout_extent,
    ) -> c_int {
        // SAFETY: The context is the one in the `Context` that the caller of the C side passed.
        let context = unsafe { &*container_of!(Opaque::cast_from(context), Context, raw) };
        // SAFETY: By the invariants of `Context`; calls do not overlap.
        let actor = unsafe { &mut *(*context.actor.get()).cast::<F>() };
        // SAFETY: The C side gives an extent that is valid for the call.
        // INVARIANT: So is its device.
        let extent = unsafe { &*extent.cast::<Extent>() };
        from_result(|| actor(extent).map(|()| 0))
    }
}

impl Drop for PinnedLayout {
    fn drop(&mut self) {
        // SAFETY: Pinned by `new()` with this file and this context.
        unsafe { bindings::vfs_unpin_layout(self.file.as_ptr(), self.context.raw.get()) };
    }
}
