// SPDX-License-Identifier: GPL-2.0

//! Block I/O requests.
//!
//! Two kinds of `struct bio` are told apart by who made them:
//!
//! - A [`Bio`] was submitted by somebody else and has been given to us: to let go on, or to
//!   complete. A [`SharedBio`] is one that is worked on in several parts.
//! - An [`Io`] is one of our own, allocated from an [`IoPool`], with a value of ours in it. It owns
//!   the memory that the I/O uses, and comes back to [`IoOwner::complete`].
//!
//! C header: [`include/linux/bio.h`](srctree/include/linux/bio.h)

use crate::{
    alloc::{AllocError, Flags},
    bindings,
    block::bdev::BlockDevice,
    error::{code::*, from_result, to_result, Error, Result},
    page::{Page, PAGE_SIZE},
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{ordering::Relaxed, Atomic},
        Arc, //
    },
    types::Opaque,
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::{Deref, Range},
    ptr::{self, NonNull},
};

/// Bytes in a sector, the unit of positions on a device.
const SECTOR_SHIFT: u32 = bindings::SECTOR_SHIFT;

/// What a bio asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Read.
    Read,
    /// Write.
    Write,
    /// The range's content is no longer needed.
    Discard,
    /// The range's content must be destroyed.
    SecureErase,
    /// Write zeroes.
    WriteZeroes,
    /// Something else, such as an operation on zones.
    Other,
}

impl Op {
    fn from_raw(opf: u32) -> Self {
        match opf & ((1 << bindings::REQ_OP_BITS) - 1) {
            bindings::req_op_REQ_OP_READ => Op::Read,
            bindings::req_op_REQ_OP_WRITE => Op::Write,
            bindings::req_op_REQ_OP_DISCARD => Op::Discard,
            bindings::req_op_REQ_OP_SECURE_ERASE => Op::SecureErase,
            bindings::req_op_REQ_OP_WRITE_ZEROES => Op::WriteZeroes,
            _ => Op::Other,
        }
    }
}

/// A bio that was submitted by somebody else and is ours to complete or to pass on.
///
/// Dropping it completes it with an I/O error, so that no submitter ever waits for nothing.
///
/// # Invariants
///
/// `0` points to a bio that has been submitted and not been completed, and nobody else will
/// complete it or pass it on.
pub struct Bio(NonNull<bindings::bio>);

// SAFETY: A bio may be completed or passed on from any thread.
unsafe impl Send for Bio {}

// SAFETY: `&Bio` only reads fields that do not change while the bio is owned by one party.
unsafe impl Sync for Bio {}

impl Bio {
    /// Takes a bio over.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a bio that was submitted, and the caller must have the duty to complete
    /// it or to pass it on, which goes to the returned value.
    pub unsafe fn from_raw(ptr: *mut bindings::bio) -> Self {
        // INVARIANT: By the safety requirements.
        // SAFETY: A bio that was submitted is not null.
        Self(unsafe { NonNull::new_unchecked(ptr) })
    }

    /// Gives the bio up without completing it; the duty goes to the caller.
    pub fn into_raw(self) -> *mut bindings::bio {
        ManuallyDrop::new(self).0.as_ptr()
    }

    fn as_raw(&self) -> *mut bindings::bio {
        self.0.as_ptr()
    }

    fn iter(&self) -> bindings::bvec_iter {
        // SAFETY: By the type invariants the bio is valid and nobody else advances it.
        unsafe { (*self.as_raw()).bi_iter }
    }

    fn opf(&self) -> u32 {
        // SAFETY: By the type invariants the bio is valid.
        unsafe { (*self.as_raw()).bi_opf }
    }

    /// What is asked for.
    pub fn op(&self) -> Op {
        Op::from_raw(self.opf())
    }

    /// First sector. Relative to the whole disk once the block layer has accepted the bio.
    pub fn sector(&self) -> u64 {
        self.iter().bi_sector
    }

    /// Number of sectors. Zero for a mere flush.
    pub fn sectors(&self) -> u64 {
        u64::from(self.iter().bi_size >> SECTOR_SHIFT)
    }

    /// Whether the submitter would rather have [`EAGAIN`] than wait.
    pub fn is_nowait(&self) -> bool {
        self.opf() & (1 << bindings::req_flag_bits___REQ_NOWAIT) != 0
    }

    /// Whether what was written before must be made durable first.
    pub fn is_preflush(&self) -> bool {
        self.opf() & (1 << bindings::req_flag_bits___REQ_PREFLUSH) != 0
    }

    /// Completes the bio. May be called from any context.
    pub fn end(self, result: Result) {
        let bio = self.into_raw();
        let errno = from_result(|| result.map(|()| 0));
        // SAFETY: By the type invariants the bio is ours to complete, and it is given up here.
        unsafe {
            // A part that was chained to the bio may have left an error.
            if errno != 0 {
                (*bio).bi_status = bindings::errno_to_blk_status(errno);
            }
            bindings::bio_endio(bio);
        }
    }

    /// Lets a bio go on that a filter has taken. May sleep.
    ///
    /// See `blkfilter_resubmit_bio()` in [`block/blk-filter.c`](srctree/block/blk-filter.c).
    pub fn resubmit(self) {
        // SAFETY: By the type invariants the bio is ours to pass on, and it is given up here.
        unsafe { bindings::blkfilter_resubmit_bio(self.into_raw()) };
    }

    /// Calls `f` with each contiguous part, at most a page long, of `range`, which is in bytes from
    /// the start of the bio. `f` gets a pointer to the part's first byte and its length.
    fn for_each_part(&self, range: Range<usize>, mut f: impl FnMut(*mut u8, usize)) {
        // Others have a size, but no data.
        if !matches!(self.op(), Op::Read | Op::Write) {
            return;
        }
        let iter = self.iter();
        let mut idx = iter.bi_idx as usize;
        let mut skip = iter.bi_offset as usize + range.start;
        let mut left = range
            .end
            .min(iter.bi_size as usize)
            .saturating_sub(range.start);

        while left > 0 {
            // SAFETY: The bio has data for `bi_size` bytes, of which `left` are not yet visited, so
            // there is a vector at `idx`.
            let bv = unsafe { *(*self.as_raw()).bi_io_vec.add(idx) };
            let len = bv.bv_len as usize;
            if skip >= len {
                skip -= len;
                idx += 1;
                continue;
            }
            let off = bv.bv_offset as usize + skip;
            let part = (len - skip).min(left).min(PAGE_SIZE - off % PAGE_SIZE);
            // SAFETY: A vector's pages are adjacent in the memory map, and `off` lies within them.
            // The mapping is undone in reverse order below, and `part` does not leave its page.
            unsafe {
                let addr = bindings::kmap_local_page(bv.bv_page.add(off / PAGE_SIZE)).cast::<u8>();
                f(addr.add(off % PAGE_SIZE), part);
                bindings::kunmap_local(addr.cast());
            }
            skip += part;
            left -= part;
        }
    }
}

impl Drop for Bio {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the bio is ours to complete, and `self` is going away.
        unsafe {
            (*self.as_raw()).bi_status = bindings::errno_to_blk_status(EIO.to_errno());
            bindings::bio_endio(self.as_raw());
        }
    }
}

/// A queue of bios.
///
/// # Invariants
///
/// `head` is the first and `tail` the last of a list of bios, chained through `bi_next` and ended
/// by null, all of which are ours as in [`Bio`]; both are null if it is empty.
pub struct BioList {
    head: *mut bindings::bio,
    tail: *mut bindings::bio,
}

// SAFETY: The list owns its bios, and a `Bio` is `Send`.
unsafe impl Send for BioList {}

// SAFETY: `&BioList` gives no access to the bios but to walk along the list, which only `&mut`
// changes.
unsafe impl Sync for BioList {}

impl Default for BioList {
    fn default() -> Self {
        Self::new()
    }
}

impl BioList {
    /// An empty queue.
    pub const fn new() -> Self {
        // INVARIANT: Empty.
        Self {
            head: ptr::null_mut(),
            tail: ptr::null_mut(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// How many there are. Takes a walk.
    pub fn len(&self) -> usize {
        let mut n = 0;
        let mut bio = self.head;
        while !bio.is_null() {
            n += 1;
            // SAFETY: By the type invariants the bio is valid.
            bio = unsafe { (*bio).bi_next };
        }
        n
    }

    /// Adds a bio at the end.
    pub fn push(&mut self, bio: Bio) {
        let bio = bio.into_raw();
        // SAFETY: The bio is ours, and so is the list's last one.
        // INVARIANT: `bio` becomes the last one.
        unsafe {
            (*bio).bi_next = ptr::null_mut();
            if self.tail.is_null() {
                self.head = bio;
            } else {
                (*self.tail).bi_next = bio;
            }
        }
        self.tail = bio;
    }

    /// Takes the first bio off.
    pub fn pop(&mut self) -> Option<Bio> {
        let bio = NonNull::new(self.head)?;
        // SAFETY: By the type invariants the bio is valid.
        // INVARIANT: The second one becomes the first.
        unsafe {
            self.head = (*bio.as_ptr()).bi_next;
            (*bio.as_ptr()).bi_next = ptr::null_mut();
        }
        if self.head.is_null() {
            self.tail = ptr::null_mut();
        }
        // INVARIANT: The bio was ours as part of the list.
        Some(Bio(bio))
    }

    /// Moves all of `other` to the end.
    pub fn append(&mut self, other: &mut BioList) {
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            self.head = other.head;
        } else {
            // SAFETY: By the type invariants the last bio is valid.
            unsafe { (*self.tail).bi_next = other.head };
        }
        // INVARIANT: The lists are one now, and `other` is empty. Field by field, since assigning
        // to `*other` would drop its bios.
        self.tail = other.tail;
        other.head = ptr::null_mut();
        other.tail = ptr::null_mut();
    }
}

impl Drop for BioList {
    fn drop(&mut self) {
        while let Some(bio) = self.pop() {
            drop(bio);
        }
    }
}

/// A bio that is worked on in several parts, each of which holds a reference.
///
/// It is completed when the last reference goes, with the first error reported.
///
/// # Invariants
///
/// `bio` is initialised unless `given_back` is set, which only the holder of the last reference does.
pub struct SharedBio {
    bio: ManuallyDrop<Bio>,
    given_back: bool,
    errno: Atomic<i32>,
    again: Atomic<u32>,
}

impl SharedBio {
    /// Shares a bio.
    ///
    /// # Errors
    ///
    /// Gives the bio back if there is no memory.
    pub fn new(bio: Bio, flags: Flags) -> Result<Arc<Self>, Bio> {
        // The bio must survive a failed allocation, so it goes in only afterwards.
        let Ok(slot) = crate::sync::UniqueArc::<Self>::new_uninit(flags) else {
            return Err(bio);
        };
        Ok(slot
            .write(Self {
                // INVARIANT: Initialised, and not given back.
                bio: ManuallyDrop::new(bio),
                given_back: false,
                errno: Atomic::new(0),
                again: Atomic::new(0),
            })
            .into())
    }

    /// What is asked for.
    pub fn op(&self) -> Op {
        self.bio.op()
    }

    /// First sector.
    pub fn sector(&self) -> u64 {
        self.bio.sector()
    }

    /// Number of sectors.
    pub fn sectors(&self) -> u64 {
        self.bio.sectors()
    }

    /// Records that a part has failed.
    pub fn set_error(&self, error: Error) {
        // Only the first one is kept; it does not matter which of two at once that is.
        let _ = self.errno.cmpxchg(0, error.to_errno(), Relaxed);
    }

    /// What was done for a part was in vain: all of the bio has to be worked on again, by whoever
    /// gets it from [`put`](Self::put).
    pub fn do_again(&self) {
        self.again.store(1, Relaxed);
    }

    /// Lets go of a reference. If it was the last one, and the bio has to be worked on
    /// [again](Self::do_again), gives it back. A bio like that which nobody asks for is completed with
    /// an I/O error.
    pub fn put(this: Arc<Self>) -> Option<Bio> {
        // Whoever has the last reference sees what those did that had the others.
        let mut last = Pin::into_inner(Arc::into_unique_or_drop(this)?);
        if last.again.load(Relaxed) == 0 || last.errno.load(Relaxed) != 0 {
            return None;
        }
        // INVARIANT: Not initialised any more, and marked so.
        last.given_back = true;
        // SAFETY: By the type invariants it was initialised, and by them it is not used again.
        Some(unsafe { ManuallyDrop::take(&mut last.bio) })
    }

    /// Calls `f` as [`Bio::for_each_part`] does if this is a read: what is to be written is the
    /// submitter's, and may be memory that nobody may change.
    ///
    /// The memory that `f` gets is that of I/O: others, also a device, may read and write it at the
    /// same time, and whoever waits for the bio does not look before it is completed.
    fn for_each_part_to_fill(&self, range: Range<usize>, f: impl FnMut(*mut u8, usize)) {
        if self.op() == Op::Read {
            self.bio.for_each_part(range, f);
        }
    }

    /// Fills `range` of a read, in bytes from the start of the bio, with zeroes.
    pub fn zero(&self, range: Range<usize>) {
        self.for_each_part_to_fill(range, |dst, len| {
            // SAFETY: `dst` is valid for `len` bytes. The memory belongs to the submitter, who
            // knows that it is written until completion.
            unsafe { raw_zero(dst, len) }
        });
    }

    /// Copies `range` of a read, in bytes from the start of the bio, from `pages` at `from` bytes.
    pub fn copy_from(&self, range: Range<usize>, pages: &Pages, from: usize) {
        let mut from = from;
        self.for_each_part_to_fill(range, |dst, len| {
            pages.for_each_part(from..from + len, |src, off, n| {
                // SAFETY: Both are valid for `n` bytes; `dst` as in `zero()`.
                unsafe { raw_copy(dst.add(off), src, n) }
            });
            from += len;
        });
    }

    /// Copies the bytes from `at` on into `bytes`.
    pub fn read(&self, at: usize, bytes: &mut [u8]) {
        let mut left = bytes;
        self.bio.for_each_part(at..at + left.len(), |src, len| {
            let (dst, rest) = core::mem::take(&mut left).split_at_mut(len);
            // SAFETY: Both are valid for `len` bytes, and nobody else has access to `dst`.
            unsafe { raw_copy(dst.as_mut_ptr(), src, len) };
            left = rest;
        });
    }

    /// Copies `bytes` to the bytes of a read from `at` on.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        let mut left = bytes;
        self.for_each_part_to_fill(at..at + left.len(), |dst, len| {
            let (src, rest) = left.split_at(len);
            // SAFETY: Both are valid for `len` bytes; `dst` as in `zero()`.
            unsafe { raw_copy(dst, src.as_ptr(), len) };
            left = rest;
        });
    }
}

impl Drop for SharedBio {
    fn drop(&mut self) {
        if self.given_back {
            return;
        }
        // SAFETY: By the type invariants it is initialised, and it is not used again.
        let bio = unsafe { ManuallyDrop::take(&mut self.bio) };
        let result = to_result(self.errno.load(Relaxed));
        bio.end(match self.again.load(Relaxed) {
            0 => result,
            _ => result.and(Err(EIO)),
        });
    }
}

/// Fills memory that is used for I/O with zeroes.
///
/// # Safety
///
/// `dst` must be valid for `len` bytes, to which there must be no reference. Devices and other
/// processors may have access to them at the same time.
unsafe fn raw_zero(dst: *mut u8, len: usize) {
    // SAFETY: By the safety requirements. C, unlike `ptr::write_bytes()`, lets others look.
    unsafe { bindings::memset(dst.cast(), 0, len) };
}

/// Copies memory that is used for I/O: to it, from it, or within it.
///
/// # Safety
///
/// Both pointers must be valid for `len` bytes. There must be no reference to those of `dst` but the
/// caller's, and none to those of `src` that allows them to be written. Devices and other processors
/// may have access to what is not borrowed at the same time: what is copied is then what any of them
/// has written, byte by byte.
unsafe fn raw_copy(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: By the safety requirements. C, unlike `ptr::copy()`, lets others look and write.
    unsafe { bindings::memmove(dst.cast(), src.cast(), len) };
}

/// Memory that I/O goes to and comes from. Its content can only be copied, never borrowed, since a
/// device may be changing it.
pub struct Pages(KVec<Page>);

impl Pages {
    /// Allocates `nr` pages with unknown content.
    pub fn new(nr: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut pages = KVec::with_capacity(nr, flags)?;
        for _ in 0..nr {
            pages.push(Page::alloc_page(flags)?, flags)?;
        }
        Ok(Self(pages))
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.0.len() * PAGE_SIZE
    }

    /// Fills `range`, in bytes, with zeroes.
    pub fn zero(&self, range: Range<usize>) {
        self.for_each_part(range, |addr, _, len| {
            // SAFETY: `addr` is valid for `len` bytes, and no reference to the content exists.
            unsafe { raw_zero(addr, len) }
        });
    }

    /// Copies the bytes from `at` on into `bytes`.
    pub fn read(&self, at: usize, bytes: &mut [u8]) {
        self.for_each_part(at..at + bytes.len(), |src, off, len| {
            let dst = &mut bytes[off..off + len];
            // SAFETY: Both are valid for `len` bytes, and nobody else has access to `dst`.
            unsafe { raw_copy(dst.as_mut_ptr(), src, len) }
        });
    }

    /// Calls `f` with a pointer to each part of `range` within a page, its offset in the range and
    /// its length.
    fn for_each_part(&self, range: Range<usize>, mut f: impl FnMut(*mut u8, usize, usize)) {
        let mut pos = range.start;
        while pos < range.end.min(self.size()) {
            let off = pos % PAGE_SIZE;
            let len = (range.end - pos).min(PAGE_SIZE - off);
            // SAFETY: The page is ours; the mapping is undone in reverse order, and `off + len`
            // does not leave it.
            unsafe {
                let addr = bindings::kmap_local_page(self.0[pos / PAGE_SIZE].as_ptr()).cast::<u8>();
                f(addr.add(off), pos - range.start, len);
                bindings::kunmap_local(addr.cast());
            }
            pos += len;
        }
    }
}

/// The type of value that an [`Io`] carries.
pub trait IoOwner: Send + Sized + 'static {
    /// The I/O has ended. Called in whatever context the device's driver completes it: must not
    /// sleep, and so must not have the last reference to the pool or to the device.
    fn complete(io: EndedIo<Self>);
}

/// Where an I/O's memory comes from, kept until the I/O has ended.
enum Memory {
    #[expect(dead_code, reason = "only kept")]
    Pages(Arc<Pages>),
    #[expect(dead_code, reason = "only kept")]
    List(KVec<(Arc<Pages>, usize)>),
    Part(Arc<SharedBio>),
}

/// What lies in front of each bio of a pool.
struct Front<T: IoOwner> {
    _pool: Arc<IoPool<T>>,
    _bdev: ARef<BlockDevice>,
    memory: Memory,
    data: T,
}

/// A pool from which [`Io`] is allocated.
///
/// An allocation that may sleep always succeeds in the end, if those that were allocated before
/// are submitted and not held back.
///
/// # Invariants
///
/// `set` is initialised, with room for a `Front<T>` in front of each bio.
#[pin_data(PinnedDrop)]
pub struct IoPool<T: IoOwner> {
    #[pin]
    set: Opaque<bindings::bio_set>,
    _data: PhantomData<T>,
}

// SAFETY: A bio set may be used from any thread; it holds no `T` of its own.
unsafe impl<T: IoOwner> Send for IoPool<T> {}

// SAFETY: A bio set does its own locking.
unsafe impl<T: IoOwner> Sync for IoPool<T> {}

impl<T: IoOwner> IoPool<T> {
    const FRONT: usize = size_of::<Front<T>>();

    /// Creates a pool that keeps `reserve` bios back for when memory is short.
    pub fn new(reserve: u32) -> impl PinInit<Self, Error> {
        // The slab aligns what it allocates to a word, and the bio follows the front.
        const { assert!(align_of::<Front<T>>() <= align_of::<u64>()) };
        const { assert!(size_of::<Front<T>>() % align_of::<bindings::bio>() == 0) };

        try_pin_init!(Self {
            // INVARIANT: Initialised with the room.
            set <- Opaque::try_ffi_init(|set: *mut bindings::bio_set| {
                // `bioset_init()` wants zeroed memory.
                // SAFETY: `set` is valid for writes, and zeroes are a valid `bio_set`.
                unsafe { ptr::write_bytes(set, 0, 1) };
                // SAFETY: `set` is valid and pinned.
                to_result(unsafe {
                    bindings::bioset_init(
                        set,
                        reserve,
                        Self::FRONT as u32,
                        (bindings::BIOSET_NEED_BVECS
                            | bindings::BIOSET_NEED_RESCUER
                            | bindings::BIOSET_PERCPU_CACHE) as i32,
                    )
                })
            }),
            _data: PhantomData,
        })
    }

    /// A bio with room for `nr` pages of our own, to be passed to [`init`](Self::init). There is
    /// none for other operations than to read and write, nor for too many pages.
    fn alloc(
        &self,
        bdev: &BlockDevice,
        op: Op,
        sector: u64,
        nr: usize,
        flags: Flags,
    ) -> Option<NonNull<bindings::bio>> {
        let opf = match op {
            Op::Read => bindings::req_op_REQ_OP_READ,
            // Somebody waits for it, or for the memory: it is no background writeback.
            Op::Write => {
                bindings::req_op_REQ_OP_WRITE
                    | 1 << bindings::req_flag_bits___REQ_SYNC
                    | 1 << bindings::req_flag_bits___REQ_IDLE
            }
            _ => return None,
        };
        if nr > bindings::BIO_MAX_VECS as usize {
            return None;
        }
        // SAFETY: The device is valid, and so is the set.
        let bio = NonNull::new(unsafe {
            bindings::bio_alloc_bioset(
                bdev.as_raw(),
                nr as u16,
                opf,
                flags.as_raw(),
                self.set.get(),
            )
        })?;
        // SAFETY: The bio is ours and not submitted.
        unsafe {
            (*bio.as_ptr()).bi_iter.bi_sector = sector;
            // Others will wait for it: it is not for whoever happens to be running to be held up
            // by the limits of its cgroup.
            bindings::bio_associate_root_blkg(bio.as_ptr());
        }
        Some(bio)
    }

    /// An I/O between `bdev` from `sector` on and `range`, in bytes, of `pages`, which begins at a
    /// page.
    ///
    /// # Errors
    ///
    /// Gives `data` back if there is no memory, which happens only if `flags` do not allow to
    /// sleep, or if the range is not within `pages`.
    #[allow(clippy::too_many_arguments)]
    pub fn for_pages(
        self: &Arc<Self>,
        bdev: &BlockDevice,
        op: Op,
        sector: u64,
        pages: &Arc<Pages>,
        range: Range<usize>,
        data: T,
        flags: Flags,
    ) -> Result<Io<T>, T> {
        let nr = range.len().div_ceil(PAGE_SIZE);
        if range.is_empty() || range.end > pages.size() || range.start % PAGE_SIZE != 0 {
            return Err(data);
        }

        let Some(bio) = self.alloc(bdev, op, sector, nr, flags) else {
            return Err(data);
        };
        // SAFETY: Just allocated from this pool.
        let mut io = unsafe { self.init(bio, bdev, Memory::Pages(pages.clone()), data) };

        let first = range.start / PAGE_SIZE;
        for (i, page) in pages.0[first..first + nr].iter().enumerate() {
            let len = (range.len() - i * PAGE_SIZE).min(PAGE_SIZE);
            io.add_page(page, len);
        }
        Ok(io)
    }

    /// An I/O between `bdev` from `sector` on and several `pages` in a row, of each the given
    /// number of bytes from its start, which is a multiple of the page size.
    ///
    /// # Errors
    ///
    /// As [`for_pages`](Self::for_pages).
    pub fn for_list(
        self: &Arc<Self>,
        bdev: &BlockDevice,
        op: Op,
        sector: u64,
        list: KVec<(Arc<Pages>, usize)>,
        data: T,
        flags: Flags,
    ) -> Result<Io<T>, T> {
        let mut nr = 0;
        for (pages, bytes) in &list {
            if *bytes % PAGE_SIZE != 0 || *bytes > pages.size() {
                return Err(data);
            }
            nr += bytes / PAGE_SIZE;
        }
        if nr == 0 {
            return Err(data);
        }

        let Some(bio) = self.alloc(bdev, op, sector, nr, flags) else {
            return Err(data);
        };
        for (pages, bytes) in &list {
            for page in &pages.0[..bytes / PAGE_SIZE] {
                // SAFETY: The bio is ours, and was allocated with a vector for each page. The pages
                // are kept by the list, which goes into the front below.
                unsafe {
                    bindings::__bio_add_page(bio.as_ptr(), page.as_ptr(), PAGE_SIZE as u32, 0)
                };
            }
        }
        // SAFETY: Just allocated from this pool.
        Ok(unsafe { self.init(bio, bdev, Memory::List(list), data) })
    }

    /// The part `range`, in sectors from its start, of a bio, to be done by `bdev` from `sector`.
    ///
    /// # Errors
    ///
    /// As [`for_pages`](Self::for_pages).
    pub fn for_part(
        self: &Arc<Self>,
        bdev: &BlockDevice,
        sector: u64,
        bio: &Arc<SharedBio>,
        range: Range<u64>,
        data: T,
        flags: Flags,
    ) -> Result<Io<T>, T> {
        if range.end > bio.sectors() || range.is_empty() {
            return Err(data);
        }
        // SAFETY: The device, the bio and the set are valid. The clone uses the bio's vectors,
        // which the bio's owner keeps until it is completed; `Memory::Part` sees to it that this is
        // later than the end of the clone.
        let clone = unsafe {
            bindings::bio_alloc_clone(
                bdev.as_raw(),
                bio.bio.as_raw(),
                flags.as_raw(),
                self.set.get(),
            )
        };
        let Some(clone) = NonNull::new(clone) else {
            return Err(data);
        };
        // SAFETY: Just allocated from this pool.
        let io = unsafe { self.init(clone, bdev, Memory::Part(bio.clone()), data) };
        // SAFETY: The clone is ours and not submitted, and the range lies within it.
        unsafe {
            bindings::bio_trim(clone.as_ptr(), range.start, range.end - range.start);
            (*clone.as_ptr()).bi_iter.bi_sector = sector;
        }
        Ok(io)
    }

    /// # Safety
    ///
    /// `bio` must just have been allocated from `self`.
    unsafe fn init(
        self: &Arc<Self>,
        bio: NonNull<bindings::bio>,
        bdev: &BlockDevice,
        memory: Memory,
        data: T,
    ) -> Io<T> {
        // SAFETY: A bio of this pool has a `Front<T>` in front, aligned as asserted in `new()`.
        unsafe {
            Io::<T>::front(bio).write(Front {
                _pool: self.clone(),
                _bdev: bdev.into(),
                memory,
                data,
            });
            (*bio.as_ptr()).bi_end_io = Some(Io::<T>::end_io);
        }
        // INVARIANT: Allocated from a pool, not submitted, front initialised.
        Io(bio, PhantomData)
    }
}

#[pinned_drop]
impl<T: IoOwner> PinnedDrop for IoPool<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Initialised by the type invariants, and every bio of it holds a reference to it,
        // so there is none left.
        unsafe { bindings::bioset_exit(self.set.get()) };
    }
}

/// An I/O of our own.
///
/// # Invariants
///
/// `0` is a bio from an [`IoPool<T>`], with an initialised `Front<T>`, that is not submitted or has
/// ended.
pub struct Io<T: IoOwner>(NonNull<bindings::bio>, PhantomData<T>);

// SAFETY: An I/O may be submitted and freed from any thread, and carries a `T`, which is `Send`.
unsafe impl<T: IoOwner> Send for Io<T> {}

impl<T: IoOwner> Io<T> {
    fn front(bio: NonNull<bindings::bio>) -> *mut Front<T> {
        bio.as_ptr()
            .cast::<u8>()
            .wrapping_sub(IoPool::<T>::FRONT)
            .cast()
    }

    fn add_page(&mut self, page: &Page, len: usize) {
        // SAFETY: The bio is ours, and was allocated with a vector for each page. The page is
        // kept by the front's memory.
        unsafe { bindings::__bio_add_page(self.0.as_ptr(), page.as_ptr(), len as u32, 0) };
    }

    /// The value carried.
    pub fn data(&self) -> &T {
        // SAFETY: Initialised by the type invariants, and only reached through `self`.
        unsafe { &(*Self::front(self.0)).data }
    }

    /// The bio that this is a part of, if it is.
    pub fn part_of(&self) -> Option<&Arc<SharedBio>> {
        // SAFETY: As in `data()`.
        match unsafe { &(*Self::front(self.0)).memory } {
            Memory::Part(bio) => Some(bio),
            Memory::Pages(_) | Memory::List(_) => None,
        }
    }

    /// Frees the I/O and gives the value back.
    pub fn into_data(self) -> T {
        self.into_parts().0
    }

    /// Frees the I/O and gives the value back, and the reference to the bio that this is a part of,
    /// if it is.
    pub fn into_parts(self) -> (T, Option<Arc<SharedBio>>) {
        let bio = ManuallyDrop::new(self).0;
        // SAFETY: By the type invariants the front is initialised; it is moved out before its
        // memory goes with the bio. The pool goes last.
        let front = unsafe { Self::front(bio).read() };
        // SAFETY: The bio is ours, and not in use.
        unsafe { bindings::bio_put(bio.as_ptr()) };
        let part_of = match front.memory {
            Memory::Part(bio) => Some(bio),
            Memory::Pages(_) | Memory::List(_) => None,
        };
        (front.data, part_of)
    }

    /// Starts the I/O, unseen by any filter. [`IoOwner::complete`] gets it when it has ended.
    ///
    /// May sleep.
    pub fn submit(self) {
        let bio = ManuallyDrop::new(self).0;
        // SAFETY: By the type invariants the bio is valid and not submitted. It comes back through
        // `end_io()`.
        unsafe { bindings::blkfilter_submit_below(bio.as_ptr()) };
    }

    /// # Safety
    ///
    /// `bio` must be one that `submit()` has given up, and that has ended.
    unsafe extern "C" fn end_io(bio: *mut bindings::bio) {
        // SAFETY: By the safety requirements.
        // INVARIANT: It was allocated by a pool and has ended.
        T::complete(EndedIo(Io(
            unsafe { NonNull::new_unchecked(bio) },
            PhantomData,
        )));
    }
}

impl<T: IoOwner> Drop for Io<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the front is initialised and the bio not in use.
        unsafe {
            let front = Self::front(self.0).read();
            bindings::bio_put(self.0.as_ptr());
            drop(front);
        }
    }
}

/// An I/O of our own that has ended, and cannot be submitted again.
///
/// # Invariants
///
/// The I/O was submitted, and has ended.
pub struct EndedIo<T: IoOwner>(Io<T>);

impl<T: IoOwner> EndedIo<T> {
    /// Whether it succeeded.
    pub fn result(&self) -> Result {
        // SAFETY: By the type invariants of `Io` the bio is valid, and by our own nobody writes to
        // it any more.
        let status = unsafe { (*self.0 .0.as_ptr()).bi_status };
        // SAFETY: Takes any status.
        to_result(unsafe { bindings::blk_status_to_errno(status) })
    }

    /// Frees the I/O and gives the value back.
    pub fn into_data(self) -> T {
        self.0.into_data()
    }

    /// As [`Io::into_parts`].
    pub fn into_parts(self) -> (T, Option<Arc<SharedBio>>) {
        self.0.into_parts()
    }
}

impl<T: IoOwner> Deref for EndedIo<T> {
    type Target = Io<T>;

    fn deref(&self) -> &Io<T> {
        &self.0
    }
}

/// Runs `f` with a plug: what it submits is started, merged where adjacent, when `f` returns.
pub fn plugged<R>(f: impl FnOnce() -> R) -> R {
    let plug = Opaque::<bindings::blk_plug>::uninit();
    // SAFETY: `plug` stays where it is until it is finished, on this task.
    unsafe { bindings::blk_start_plug(plug.get()) };
    let ret = f();
    // SAFETY: Started just above.
    unsafe { bindings::blk_finish_plug(plug.get()) };
    ret
}
