// SPDX-License-Identifier: GPL-2.0

//! Block devices.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use crate::{
    bindings,
    block::SECTOR_SIZE,
    error::{from_err_ptr, to_result, Result},
    fs::{File, LocalFile},
    prelude::*,
    sync::{
        aref::{ARef, AlwaysRefCounted},
        rcu, //
    },
    types::Opaque,
};
use core::ptr::NonNull;

/// What I/O to a device has to respect, and so whoever passes I/O on to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoLimits {
    /// The unit in which the device can be addressed, in bytes.
    pub logical_block_size: u32,
    /// Bits that must be zero in addresses and lengths of memory.
    pub dma_alignment: u32,
    /// Whether memory must not change while it is being written.
    pub stable_writes: bool,
}

impl IoLimits {
    /// Those that every device has.
    pub const LEAST: Self = Self {
        logical_block_size: SECTOR_SIZE,
        dma_alignment: 0,
        stable_writes: false,
    };

    /// What respects both.
    pub fn and(self, other: Self) -> Self {
        Self {
            logical_block_size: self.logical_block_size.max(other.logical_block_size),
            dma_alignment: self.dma_alignment | other.dma_alignment,
            stable_writes: self.stable_writes || other.stable_writes,
        }
    }
}

/// A whole disk or a partition.
///
/// # Invariants
///
/// All instances are reference-counted through `bd_device`, and each reference comes with one to the
/// module of the disk's driver. Together they keep the memory of the device and of its disk and
/// queue, and the driver's operations. They do not keep the device from going away, after which I/O
/// to it fails. Unless it is open, its driver may take it apart while it does I/O: see
/// [`open`](Self::open).
#[repr(transparent)]
pub struct BlockDevice(Opaque<bindings::block_device>);

// SAFETY: A block device may be referenced and released from any thread.
unsafe impl Send for BlockDevice {}

// SAFETY: All methods on `&BlockDevice` may be called from several threads at once.
unsafe impl Sync for BlockDevice {}

// SAFETY: `get_device()` and `put_device()` on `bd_device` are what the block layer itself keeps a
// block device by, and `put_device()` frees it only with the last reference.
unsafe impl AlwaysRefCounted for BlockDevice {
    fn inc_ref(&self) {
        // SAFETY: By the type invariants the device has a reference, and so has the module.
        unsafe {
            bindings::__module_get(self.owner());
            bindings::get_device(&raw mut (*self.as_raw()).bd_device);
        }
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller owns a reference, so that the device is valid.
        let owner = unsafe { obj.as_ref() }.owner();
        // SAFETY: The caller gives its reference up with this call. The last one may call the
        // driver, so that its module goes later.
        unsafe {
            bindings::put_device(
                &raw mut (*obj.cast::<bindings::block_device>().as_ptr()).bd_device,
            );
            bindings::module_put(owner);
        }
    }
}

impl PartialEq for BlockDevice {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
    }
}

impl Eq for BlockDevice {}

impl BlockDevice {
    /// Makes a reference from the C struct.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a block device that has a reference for all of `'a`, and so must the module
    /// of its driver: somebody has it open, or it is not gone yet.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::block_device) -> &'a Self {
        // SAFETY: The caller guarantees validity, and the type is transparent.
        // INVARIANT: The caller guarantees the reference.
        unsafe { &*ptr.cast() }
    }

    /// The C struct.
    pub fn as_raw(&self) -> *mut bindings::block_device {
        self.0.get()
    }

    /// The module of the disk's driver, or null if that is built in.
    fn owner(&self) -> *mut bindings::module {
        // SAFETY: By the type invariants the device, its disk and the operations are valid, which
        // are not changed.
        unsafe { (*(*(*self.as_raw()).bd_disk).fops).owner }
    }

    /// Major and minor number in one, as the C side has them (`dev_t`).
    pub fn dev_t(&self) -> u32 {
        // SAFETY: By the type invariants the device is valid. `bd_dev` is set before the device can
        // be found, and not changed.
        unsafe { (*self.as_raw()).bd_dev }
    }

    /// Major and minor number.
    pub fn dev(&self) -> (u32, u32) {
        let dev = self.dev_t();
        (
            dev >> bindings::MINORBITS,
            dev & ((1 << bindings::MINORBITS) - 1),
        )
    }

    /// Size in sectors of 512 bytes. Zero once the device has gone.
    pub fn sectors(&self) -> u64 {
        // SAFETY: By the type invariants the device is valid. The C side reads the field without a
        // lock too.
        unsafe { core::ptr::addr_of!((*self.as_raw()).bd_nr_sectors).read_volatile() }
    }

    /// First sector on the disk: zero unless this is a partition.
    pub fn start_sector(&self) -> u64 {
        // SAFETY: As in `sectors()`.
        unsafe { core::ptr::addr_of!((*self.as_raw()).bd_start_sect).read_volatile() }
    }

    /// Whether both lie on the same disk.
    pub fn same_disk(&self, other: &Self) -> bool {
        // SAFETY: By the type invariants both are valid; `bd_disk` is never changed.
        unsafe { (*self.as_raw()).bd_disk == (*other.as_raw()).bd_disk }
    }

    /// Whether there are sectors of the disk that both consist of.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.same_disk(other)
            && self.start_sector() < other.start_sector() + other.sectors()
            && other.start_sector() < self.start_sector() + self.sectors()
    }

    /// Logical block size in bytes: the unit in which the device can be addressed.
    pub fn logical_block_size(&self) -> u32 {
        // SAFETY: By the type invariants the device and its queue are valid.
        unsafe { bindings::bdev_logical_block_size(self.as_raw()) }
    }

    /// What I/O to the device has to respect.
    pub fn io_limits(&self) -> IoLimits {
        // SAFETY: By the type invariants the device and its queue are valid.
        unsafe {
            IoLimits {
                logical_block_size: bindings::bdev_logical_block_size(self.as_raw()),
                dma_alignment: bindings::bdev_dma_alignment(self.as_raw()),
                stable_writes: bindings::bdev_stable_writes(self.as_raw()),
            }
        }
    }

    /// Physical block size in bytes: what the device writes without reading first.
    pub fn physical_block_size(&self) -> u32 {
        // SAFETY: By the type invariants the device and its queue are valid.
        unsafe { bindings::bdev_physical_block_size(self.as_raw()) }
    }

    /// Whether the device refuses to be written to.
    pub fn is_read_only(&self) -> bool {
        // SAFETY: By the type invariants the device and its disk are valid.
        unsafe { bindings::bdev_read_only(self.as_raw()) }
    }

    /// Whether the device has zones that must be written in order.
    pub fn is_zoned(&self) -> bool {
        // SAFETY: By the type invariants the device and its queue are valid.
        unsafe { bindings::bdev_is_zoned(self.as_raw()) }
    }

    /// Whether stores of the processor may reach the device past the block layer.
    pub fn has_direct_access(&self) -> bool {
        // SAFETY: By the type invariants the device, its disk and its queue are valid.
        unsafe { bindings::blk_queue_dax((*(*self.as_raw()).bd_disk).queue) }
    }

    /// Whether I/O to this device may end up on `lower`: because they overlap, or because this one
    /// is stacked on it. May sleep.
    #[cfg(CONFIG_BLOCK_HOLDER_DEPRECATED)]
    pub fn is_on(&self, lower: &Self) -> bool {
        // SAFETY: By the type invariants both are valid.
        unsafe { bindings::bdev_is_on(self.as_raw(), lower.as_raw()) }
    }

    /// Whether I/O to `file` may end up on this device, by way of its filesystem or because it is a
    /// block device. May sleep.
    #[cfg(CONFIG_BLOCK_HOLDER_DEPRECATED)]
    pub fn has_file(&self, file: &LocalFile) -> bool {
        // SAFETY: By the type invariants the device is valid, and so is the file.
        unsafe { bindings::bdev_has_file(self.as_raw(), file.as_ptr()) }
    }

    /// Opens the device for reading, by which it stays as it is: a driver may refuse to change what
    /// is open, or put that off. It can still be pulled out. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if it has gone. Otherwise what the driver says.
    pub fn open(&self) -> Result<ARef<File>> {
        // SAFETY: No holder, and so no operations of one.
        let file = from_err_ptr(unsafe {
            bindings::bdev_file_open_by_dev(
                self.dev_t(),
                bindings::BLK_OPEN_READ,
                core::ptr::null_mut(),
                core::ptr::null(),
            )
        })
        .map_err(|e| if e == ENXIO { ENODEV } else { e })?;
        // SAFETY: The reference is ours, and not in any descriptor table, so that there is no
        // `fdget_pos` call on it.
        let file: ARef<File> = unsafe { ARef::from_raw(NonNull::new_unchecked(file.cast())) };
        match Self::of_file(&file) {
            Some(bdev) if *bdev == *self => Ok(file),
            // Another one has its number now.
            _ => Err(ENODEV),
        }
    }

    /// Changes when something else is in the disk's place, such as another medium. Of all disks no
    /// two have the same one.
    pub fn sequence_number(&self) -> u64 {
        // SAFETY: By the type invariants the device and its disk are valid. The C side reads the
        // field without a lock too.
        unsafe { core::ptr::addr_of!((*(*self.as_raw()).bd_disk).diskseq).read_volatile() }
    }

    /// The block device that a file is.
    pub fn of_file(file: &LocalFile) -> Option<&Self> {
        // SAFETY: The file is valid, and its mapping and the host of that are not changed while it is
        // open. If the host is not a device's own inode, the file is of another kind, or was opened
        // for its path only.
        unsafe {
            let inode = (*(*file.as_ptr()).f_mapping).host;
            if !bindings::sb_is_blkdev_sb((*inode).i_sb) {
                return None;
            }
            // An open file has a reference to its block device and to the module.
            Some(Self::from_raw(bindings::file_bdev(file.as_ptr())))
        }
    }

    /// The partitions of a whole disk that there are now. A partition has none.
    pub fn partitions(&self) -> Result<KVec<ARef<Self>>> {
        let mut partitions = KVec::new();
        // SAFETY: By the type invariants the device and its disk are valid.
        let is_whole = unsafe { (*(*self.as_raw()).bd_disk).part0 == self.as_raw() };
        if is_whole {
            // The disk itself is number 0.
            let mut idx = 0;
            while let Some(partition) = self.next_partition(&mut idx) {
                partitions.push(partition, GFP_KERNEL)?;
            }
        }
        Ok(partitions)
    }

    /// The first partition of the disk with a number above `idx`, which is set to that.
    fn next_partition(&self, idx: &mut usize) -> Option<ARef<Self>> {
        let _rcu = rcu::read_lock();
        loop {
            // SAFETY: The disk is valid, and with it the table, which is looked up under RCU.
            let bdev = unsafe {
                bindings::xa_find_after(
                    &raw mut (*(*self.as_raw()).bd_disk).part_tbl,
                    idx,
                    c_ulong::MAX,
                    bindings::XA_PRESENT,
                )
            };
            let bdev = NonNull::new(bdev)?.cast::<bindings::block_device>();
            // SAFETY: A device in the table is freed an RCU grace period after it was taken out.
            let device = unsafe {
                bindings::kobject_get_unless_zero(&raw mut (*bdev.as_ptr()).bd_device.kobj)
            };
            if !device.is_null() {
                // SAFETY: The disk's module has a reference, since the disk has.
                unsafe { bindings::__module_get(self.owner()) };
                // SAFETY: The references were taken just above.
                return Some(unsafe { ARef::from_raw(bdev.cast()) });
            }
        }
    }

    /// Freezes the filesystem on the device, or writes the device's page cache back if it has none.
    ///
    /// On return the filesystem is consistent on disk and stays as it is until the result is
    /// dropped. May sleep.
    pub fn freeze_filesystem(&self) -> Result<FrozenFilesystem> {
        // SAFETY: By the type invariants the device is valid.
        to_result(unsafe { bindings::bdev_freeze(self.as_raw()) })?;
        // INVARIANT: Frozen by us just now.
        Ok(FrozenFilesystem(self.into()))
    }
}

/// A block device whose filesystem is frozen. Thaws it when dropped.
///
/// # Invariants
///
/// `bdev_freeze()` has succeeded, and its `bdev_thaw()` is to come.
pub struct FrozenFilesystem(ARef<BlockDevice>);

impl Drop for FrozenFilesystem {
    fn drop(&mut self) {
        // SAFETY: The device is valid, and by the type invariants the thaw is ours to do.
        let ret = unsafe { bindings::bdev_thaw(self.0.as_raw()) };
        if ret != 0 {
            let (major, minor) = self.0.dev();
            crate::pr_err!("block device {major}:{minor}: thaw failed: {ret}\n");
        }
    }
}
