// SPDX-License-Identifier: GPL-2.0

//! The driver's interface with Rust types.

use crate::error::Fault;
use blksnap_uapi::{
    blksnap_cbt_info, blksnap_event, blksnap_sectors, blksnap_snapshot_info, blksnap_version,
};
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// How a request for the list of snapshots ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collected {
    /// That many ids were written.
    All(usize),
    /// Nothing can be relied on; that many ids need room.
    Need(usize),
}

/// One method a request; nothing is retried or undone here.
pub trait Kernel {
    /// Version of the driver.
    fn version(&self) -> Result<blksnap_version, Fault>;
    /// Makes a snapshot whose difference storage is at `storage` and may grow to `limit` sectors.
    fn create(&self, limit: u64, storage: &CStr) -> Result<Uuid, Fault>;
    /// Adds a further file to the difference storage of a snapshot.
    fn append(&self, id: Uuid, storage: &CStr) -> Result<(), Fault>;
    /// Drops a snapshot.
    fn destroy(&self, id: Uuid) -> Result<(), Fault>;
    /// Takes a snapshot of all devices added to it.
    fn take(&self, id: Uuid) -> Result<(), Fault>;
    /// Lists the snapshots, if there is room for all.
    fn collect(&self, ids: &mut [Uuid]) -> Result<Collected, Fault>;
    /// Waits up to `timeout_ms` for an event of a snapshot.
    fn wait_event(&self, id: Uuid, timeout_ms: u32) -> Result<Box<blksnap_event>, Fault>;

    /// Attaches the filter to a device.
    fn attach(&self, device: &Path) -> Result<(), Fault>;
    /// Detaches the filter from a device.
    fn detach(&self, device: &Path) -> Result<(), Fault>;
    /// Adds a device to a snapshot that has not been taken.
    fn add(&self, device: &Path, id: Uuid) -> Result<(), Fault>;
    /// State of the device's image.
    fn snapshot_info(&self, device: &Path) -> Result<blksnap_snapshot_info, Fault>;
    /// State of change tracking on a device.
    fn tracking_info(&self, device: &Path) -> Result<blksnap_cbt_info, Fault>;
    /// Copies a part of the change map and returns the number of bytes copied.
    fn tracking_map(&self, device: &Path, offset: u32, buffer: &mut [u8]) -> Result<usize, Fault>;
    /// Marks ranges of a device as changed.
    fn mark_dirty(&self, device: &Path, ranges: &[blksnap_sectors]) -> Result<(), Fault>;

    /// Major and minor number of a block device.
    fn device_number(&self, device: &Path) -> Result<(u32, u32), Fault>;
    /// All block devices of the machine.
    fn block_devices(&self) -> Result<Vec<PathBuf>, Fault>;
    /// What the driver tells about a snapshot's work, a name and a value in each line.
    fn statistics(&self, id: Uuid) -> Result<String, Fault>;
    /// Where the node of a disk of that name is.
    fn node(&self, name: &str) -> PathBuf;
}
