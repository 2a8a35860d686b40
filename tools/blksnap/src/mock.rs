// SPDX-License-Identifier: GPL-2.0

//! A kernel for tests: a small model of the driver that keeps a log and fails on demand.

use crate::error::{Fault, Step, errno_name};
use crate::kernel::{Collected, Kernel};
use blksnap_uapi::*;
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::path::{Component, Path, PathBuf};
use uuid::Uuid;
use zerocopy::FromZeros;

/// The id of the first snapshot.
pub const ID: Uuid = Uuid::from_u128(0xa11c_e000_0000_4000_8000_0000_0000_0001);

#[derive(Default)]
struct Device {
    attached: bool,
    snapshot: Option<Uuid>,
    taken: bool,
    error: i32,
}

#[derive(Default)]
pub struct Mock {
    log: RefCell<Vec<String>>,
    failures: RefCell<BTreeMap<&'static str, Errno>>,
    devices: RefCell<BTreeMap<PathBuf, Device>>,
    snapshots: RefCell<BTreeSet<Uuid>>,
    grow: Cell<usize>,
    for_ever: Cell<bool>,
    map_is_short: Cell<bool>,
    no_driver: Cell<bool>,
    unopenable: RefCell<BTreeMap<PathBuf, Errno>>,
    event: RefCell<Option<Box<blksnap_event>>>,
}

impl Mock {
    pub fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    pub fn clear_log(&self) {
        self.log.borrow_mut().clear();
    }

    pub fn fail_once(&self, method: &'static str, errno: Errno) {
        self.failures.borrow_mut().insert(method, errno);
    }

    pub fn create_snapshot(&self) {
        self.snapshots.borrow_mut().insert(ID);
    }

    pub fn snapshots(&self) -> Vec<Uuid> {
        self.snapshots.borrow().iter().copied().collect()
    }

    pub fn attached(&self) -> Vec<String> {
        self.devices
            .borrow()
            .iter()
            .filter(|(_, device)| device.attached)
            .map(|(path, _)| path.display().to_string())
            .collect()
    }

    pub fn is_clean(&self) -> bool {
        self.snapshots().is_empty() && self.attached().is_empty()
    }

    pub fn grow_after_first_collect(&self, by: usize) {
        self.grow.set(by);
    }

    pub fn grow_for_ever(&self) {
        self.for_ever.set(true);
    }

    pub fn corrupt(&self, device: &Path, error: i32) {
        self.devices.borrow_mut().get_mut(device).unwrap().error = error;
    }

    pub fn set_event(&self, event: blksnap_event) {
        *self.event.borrow_mut() = Some(Box::new(event));
    }

    /// Larger than a portion of a read, and not a multiple of one.
    pub fn map(&self) -> Vec<u8> {
        (0..(1usize << 20) + 12_345)
            .map(|i| (i % 251) as u8)
            .collect()
    }

    pub fn truncate_map(&self) {
        self.map_is_short.set(true);
    }

    /// A kernel without the driver and without block filters.
    pub fn unload_driver(&self) {
        self.no_driver.set(true);
    }

    /// Opening this device fails from now on.
    pub fn cannot_open(&self, device: &Path, errno: Errno) {
        self.unopenable
            .borrow_mut()
            .insert(device.to_owned(), errno);
    }

    fn open(&self, device: &Path) -> Result<(), Fault> {
        match self.unopenable.borrow().get(device) {
            Some(&errno) => Err(Fault::new(Step::OpenDevice(device.to_owned()), errno)),
            None => Ok(()),
        }
    }

    /// Logs the request and ends it with `result`, or with the failure asked for.
    fn end<T>(
        &self,
        method: &'static str,
        what: impl std::fmt::Display,
        act: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Fault> {
        let result = match self.failures.borrow_mut().remove(method) {
            Some(errno) => Err(errno),
            None => act(),
        };
        let mut line = format!("{method} {what}").trim_end().to_owned();
        if let Err(errno) = &result {
            line = format!("{line}: {}", errno_name(*errno));
        }
        self.log.borrow_mut().push(line);
        result.map_err(|errno| Fault::new(Step::Request, errno))
    }

    fn filtered<T>(
        &self,
        path: &Path,
        act: impl FnOnce(&mut Device) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        if self.no_driver.get() {
            // What the driver of a disk says to what it does not know.
            return Err(Errno::INVAL);
        }
        match self.devices.borrow_mut().get_mut(path) {
            Some(device) if device.attached => act(device),
            _ => Err(Errno::NOENT),
        }
    }

    fn number(path: &Path) -> (u32, u32) {
        let last = path.as_os_str().as_encoded_bytes().last();
        (8, u32::from(*last.unwrap_or(&0)))
    }
}

impl Kernel for Mock {
    fn version(&self) -> Result<blksnap_version, Fault> {
        if self.no_driver.get() {
            let step = Step::OpenControl("/dev/blksnap-control".into());
            return Err(Fault::new(step, Errno::NOENT));
        }
        self.end("version", "", || {
            Ok(blksnap_version {
                major: 1,
                minor: 2,
                revision: 3,
                build: 4,
            })
        })
    }

    fn create(&self, limit: u64, storage: &CStr) -> Result<Uuid, Fault> {
        self.end(
            "create",
            format_args!("{limit} {}", storage.to_string_lossy()),
            || {
                let id = Uuid::from_u128(ID.as_u128() + self.snapshots.borrow().len() as u128);
                self.snapshots.borrow_mut().insert(id);
                Ok(id)
            },
        )
    }

    fn append(&self, id: Uuid, storage: &CStr) -> Result<(), Fault> {
        self.end("append", storage.to_string_lossy(), || {
            match self.snapshots.borrow().contains(&id) {
                true => Ok(()),
                false => Err(Errno::SRCH),
            }
        })
    }

    fn destroy(&self, id: Uuid) -> Result<(), Fault> {
        self.end("destroy", "", || {
            if !self.snapshots.borrow_mut().remove(&id) {
                return Err(Errno::SRCH);
            }
            for device in self.devices.borrow_mut().values_mut() {
                if device.snapshot == Some(id) {
                    device.snapshot = None;
                    device.taken = false;
                }
            }
            Ok(())
        })
    }

    fn take(&self, id: Uuid) -> Result<(), Fault> {
        self.end("take", "", || {
            if !self.snapshots.borrow().contains(&id) {
                return Err(Errno::SRCH);
            }
            for device in self.devices.borrow_mut().values_mut() {
                device.taken |= device.snapshot == Some(id);
            }
            Ok(())
        })
    }

    fn collect(&self, ids: &mut [Uuid]) -> Result<Collected, Fault> {
        if self.for_ever.get() {
            return Ok(Collected::Need(ids.len() + 1));
        }
        let all = self.snapshots();
        let line = format!("collect {}", ids.len());
        if all.len() > ids.len() {
            for i in 0..self.grow.take() {
                let id = Uuid::from_u128(ID.as_u128() + 100 + i as u128);
                self.snapshots.borrow_mut().insert(id);
            }
            let line = format!("{line}: need {}", all.len());
            self.log.borrow_mut().push(line);
            return Ok(Collected::Need(all.len()));
        }
        ids[..all.len()].copy_from_slice(&all);
        self.log.borrow_mut().push(line);
        Ok(Collected::All(all.len()))
    }

    fn wait_event(&self, id: Uuid, timeout_ms: u32) -> Result<Box<blksnap_event>, Fault> {
        self.end("wait_event", timeout_ms, || {
            match self.snapshots.borrow().contains(&id) {
                true => self.event.borrow_mut().take().ok_or(Errno::NOENT),
                false => Err(Errno::SRCH),
            }
        })
    }

    fn attach(&self, device: &Path) -> Result<(), Fault> {
        self.open(device)?;
        self.end("attach", device.display(), || {
            let mut devices = self.devices.borrow_mut();
            let entry = devices.entry(device.to_owned()).or_default();
            match std::mem::replace(&mut entry.attached, true) {
                true => Err(Errno::ALREADY),
                false => Ok(()),
            }
        })
    }

    fn detach(&self, device: &Path) -> Result<(), Fault> {
        self.end("detach", device.display(), || {
            self.filtered(device, |device| match device.snapshot {
                Some(_) => Err(Errno::BUSY),
                None => {
                    device.attached = false;
                    Ok(())
                }
            })
        })
    }

    fn add(&self, device: &Path, id: Uuid) -> Result<(), Fault> {
        self.end("add", device.display(), || {
            self.filtered(device, |device| {
                if !self.snapshots.borrow().contains(&id) {
                    return Err(Errno::SRCH);
                }
                match device.snapshot.replace(id) {
                    Some(_) => Err(Errno::BUSY),
                    None => Ok(()),
                }
            })
        })
    }

    fn snapshot_info(&self, device: &Path) -> Result<blksnap_snapshot_info, Fault> {
        self.open(device)?;
        let (major, minor) = Self::number(device);
        self.end("snapshot_info", device.display(), || {
            self.filtered(device, |device| {
                let mut info = blksnap_snapshot_info::new_zeroed();
                info.error = device.error;
                if device.taken {
                    let name = format!("blksnap-{major}-{minor}");
                    info.image[..name.len()].copy_from_slice(name.as_bytes());
                }
                Ok(info)
            })
        })
    }

    fn tracking_info(&self, device: &Path) -> Result<blksnap_cbt_info, Fault> {
        self.end("tracking_info", device.display(), || {
            self.filtered(device, |_| {
                let mut info = blksnap_cbt_info::new_zeroed();
                info.capacity = self.map().len() as u64 * 65536;
                info.block_size = 65536;
                info.block_count = self.map().len() as u32;
                info.generation.b = *ID.as_bytes();
                info.change_number = 3;
                Ok(info)
            })
        })
    }

    fn tracking_map(&self, device: &Path, offset: u32, buffer: &mut [u8]) -> Result<usize, Fault> {
        self.end("tracking_map", device.display(), || {
            let map = self.map();
            let end = if self.map_is_short.get() {
                1 << 20
            } else {
                map.len()
            };
            let from = (offset as usize).min(end);
            let length = buffer.len().min(end - from);
            buffer[..length].copy_from_slice(&map[from..from + length]);
            Ok(length)
        })
    }

    fn mark_dirty(&self, device: &Path, ranges: &[blksnap_sectors]) -> Result<(), Fault> {
        let ranges: Vec<_> = ranges.iter().map(|r| (r.first, r.count)).collect();
        self.end(
            "mark_dirty",
            format_args!("{} {ranges:?}", device.display()),
            || self.filtered(device, |_| Ok(())),
        )
    }

    fn device_number(&self, device: &Path) -> Result<(u32, u32), Fault> {
        self.open(device)?;
        if device.starts_with("/dev") && device.components().all(|c| c != Component::ParentDir) {
            return Ok(Self::number(device));
        }
        let step = Step::OpenDevice(device.to_owned());
        Err(Fault::new(step, Errno::NOENT))
    }

    fn block_devices(&self) -> Result<Vec<PathBuf>, Fault> {
        Ok(["/dev/a", "/dev/b"].map(PathBuf::from).to_vec())
    }

    fn statistics(&self, id: Uuid) -> Result<String, Fault> {
        if let Some(errno) = self.failures.borrow_mut().remove("statistics") {
            return Err(Fault::new(
                Step::ReadStatistics("/debug/blksnap".into()),
                errno,
            ));
        }
        match self.snapshots.borrow().contains(&id) {
            true => Ok(
                "state held\nstorage_used 16\nstorage_capacity 2048\nstorage_limit 4096\n\
                 device 8:97\nchunks_copied 2\nbytes_copied 8192\n"
                    .into(),
            ),
            false => Err(Fault::new(
                Step::ReadStatistics("/debug/blksnap".into()),
                Errno::NOENT,
            )),
        }
    }

    fn node(&self, name: &str) -> PathBuf {
        Path::new("/dev").join(name)
    }
}
