// SPDX-License-Identifier: GPL-2.0

//! Disks that take bios as they are submitted, without a request queue.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use crate::{
    bindings,
    block::{
        bdev::{BlockDevice, IoLimits},
        bio::Bio,
    },
    error::{from_err_ptr, to_result, Result},
    fmt::{self, Write},
    prelude::*,
    static_lock_class,
    str::NullTerminatedFormatter,
    sync::Arc,
    types::ScopeGuard,
};
use core::{marker::PhantomData, ptr::NonNull};

/// What a bio-based disk does.
#[vtable]
pub trait BioDriver: Send + Sync + Sized + 'static {
    /// Takes a bio. Runs in the submitter's context, with other submissions held back until it
    /// returns: it may sleep, but not for I/O that it submits.
    fn submit_bio(this: &Arc<Self>, bio: Bio);
}

/// The properties of a disk.
pub struct Geometry {
    /// Size in sectors of 512 bytes.
    pub sectors: u64,
    /// What those who submit bios have to respect.
    pub limits: IoLimits,
    /// Physical block size in bytes.
    pub physical_block_size: u32,
    /// What [`Op::Discard`](crate::block::bio::Op::Discard) comes in multiples of, in bytes. Zero
    /// if it shall not come.
    pub discard_granularity: u32,
    /// Whether the disk cannot be written.
    pub read_only: bool,
}

/// A bio-based disk without partitions, visible in the system until it is dropped.
///
/// # Invariants
///
/// `disk` was added, and its `private_data` is an `Arc<T>` that we own.
pub struct BioDisk<T: BioDriver> {
    disk: NonNull<bindings::gendisk>,
    _driver: PhantomData<Arc<T>>,
}

// SAFETY: A disk may be removed from any thread, and the driver is `Send` and `Sync`.
unsafe impl<T: BioDriver> Send for BioDisk<T> {}

// SAFETY: `&BioDisk` only reads what does not change.
unsafe impl<T: BioDriver> Sync for BioDisk<T> {}

impl<T: BioDriver> BioDisk<T> {
    /// Adds a disk named `name`. Bios arrive before this returns.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the name is too long or the geometry impossible, [`ENOMEM`], or what adding
    /// the device fails with, such as [`EEXIST`] for a name that is taken.
    pub fn new(name: fmt::Arguments<'_>, geometry: &Geometry, driver: Arc<T>) -> Result<Self> {
        let mut limits = bindings::queue_limits {
            features: match geometry.limits.stable_writes {
                true => bindings::BLK_FEAT_STABLE_WRITES,
                false => 0,
            },
            logical_block_size: geometry.limits.logical_block_size,
            dma_alignment: geometry.limits.dma_alignment,
            physical_block_size: geometry.physical_block_size,
            discard_granularity: geometry.discard_granularity,
            max_hw_discard_sectors: match geometry.discard_granularity {
                0 => 0,
                _ => u32::MAX,
            },
            ..pin_init::zeroed()
        };
        // SAFETY: The limits are valid for the call, and the class is static.
        let disk = from_err_ptr(unsafe {
            bindings::__blk_alloc_disk(
                &mut limits,
                bindings::NUMA_NO_NODE,
                static_lock_class!().as_ptr(),
            )
        })?;
        // SAFETY: Allocated just above, and not added if this guard runs.
        let mut disk = ScopeGuard::new_with_data(disk, |disk| unsafe { bindings::put_disk(disk) });

        // SAFETY: The disk is ours alone until it is added.
        unsafe {
            (**disk).fops = &Self::OPERATIONS;
            (**disk).flags |= bindings::GENHD_FL_NO_PART as c_int;
            NullTerminatedFormatter::new(&mut (**disk).disk_name)
                .ok_or(EINVAL)?
                .write_fmt(name)
                .map_err(|_| EINVAL)?;
            bindings::set_capacity(*disk, geometry.sectors);
            bindings::set_disk_ro(*disk, geometry.read_only);
        }

        let private = Arc::into_raw(driver);
        let private = ScopeGuard::new_with_data(private, |private| {
            // SAFETY: From `into_raw()` just above, and not used by a disk if this guard runs.
            drop(unsafe { Arc::from_raw(private) })
        });
        // SAFETY: The disk is ours alone until it is added, which is done once.
        to_result(unsafe {
            (**disk).private_data = (*private).cast_mut().cast();
            bindings::device_add_disk(core::ptr::null_mut(), *disk, core::ptr::null_mut())
        })?;

        private.dismiss();
        // INVARIANT: Added, with our reference in it.
        Ok(Self {
            // SAFETY: Not an error, so not null.
            disk: unsafe { NonNull::new_unchecked(disk.dismiss()) },
            _driver: PhantomData,
        })
    }

    /// The disk, as the device that it is.
    pub fn bdev(&self) -> &BlockDevice {
        // SAFETY: By the type invariants the disk was added, and it keeps its device.
        unsafe { BlockDevice::from_raw((*self.disk.as_ptr()).part0) }
    }

    const OPERATIONS: bindings::block_device_operations = bindings::block_device_operations {
        owner: crate::module::this_module::<T::OwnerModule>().as_ptr(),
        submit_bio: Some(Self::submit_bio),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `bio` must have been submitted to a disk that `new()` has added, and be given to the callee.
    unsafe extern "C" fn submit_bio(bio: *mut bindings::bio) {
        // SAFETY: By the safety requirements the bio is for a disk of ours, whose private data is a reference that
        // `drop()` keeps until no submission is running.
        let driver = unsafe {
            let private = (*(*(*bio).bi_bdev).bd_disk).private_data;
            core::mem::ManuallyDrop::new(Arc::<T>::from_raw(private.cast()))
        };
        // SAFETY: The bio is given to us.
        T::submit_bio(&driver, unsafe { Bio::from_raw(bio) });
    }
}

impl<T: BioDriver> Drop for BioDisk<T> {
    fn drop(&mut self) {
        let disk = self.disk.as_ptr();
        // SAFETY: By the type invariants the disk was added, and we hold its reference. After
        // `del_gendisk()` no submission is running, so that the private data, read before the disk
        // may be freed, is no longer used.
        unsafe {
            let private = (*disk).private_data;
            bindings::del_gendisk(disk);
            bindings::put_disk(disk);
            drop(Arc::<T>::from_raw(private.cast()));
        }
    }
}
