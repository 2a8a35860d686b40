// SPDX-License-Identifier: GPL-2.0

//! What a person wants done, made of single requests.

use crate::error::{Doing, Failure, Fault, Kind, Step};
use crate::json;
use crate::kernel::{Collected, Kernel};
use crate::stats::Statistics;
use blksnap_uapi::{
    BLKSNAP_EVENT_CORRUPTED, BLKSNAP_EVENT_LOW_SPACE, BLKSNAP_EVENT_NO_SPACE, BLKSNAP_IMAGE_PREFIX,
    blksnap_cbt_info, blksnap_event, blksnap_event_corrupted, blksnap_event_low_space,
    blksnap_event_no_space, blksnap_sectors, blksnap_snapshot_info,
};
use rustix::io::Errno;
use serde::Serialize;
use std::ffi::CString;
use std::fmt::{self, Display, Formatter};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};
use uuid::Uuid;
use zerocopy::FromBytes;

/// Bytes of a sector of the interface.
pub const SECTOR: u64 = 512;

/// How often the list of snapshots may grow between two looks before we give up.
const COLLECT_TRIES: usize = 16;

/// Longest single wait.
const WAIT_SLICE: Duration = Duration::from_secs(10);

/// How long looking at all snapshots in turn may take.
const FOLLOW_ROUND: Duration = Duration::from_millis(400);

/// A device of a fresh snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Added {
    /// The original device.
    #[serde(serialize_with = "json::path")]
    pub device: PathBuf,
    /// The image's device node.
    #[serde(serialize_with = "json::path")]
    pub image: PathBuf,
    /// Whether the filter was put on the device for this snapshot.
    pub attached: bool,
}

/// A fresh snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Its identity.
    pub id: Uuid,
    /// Its devices.
    pub devices: Vec<Added>,
}

/// State of a device as far as snapshots go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The filter is not attached.
    Unfiltered,
    /// The filter is attached, there is no image.
    Attached,
    /// There is an image, and it can be read.
    Snapshot,
    /// There is an image, and it cannot be read any more.
    Corrupted,
}

/// Change tracking on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tracking {
    /// Size of the device in bytes.
    pub capacity: u64,
    /// Bytes behind one byte of the map.
    pub block_size: u32,
    /// Bytes of the map.
    pub block_count: u32,
    /// Numbers of different generations must not be compared.
    pub generation: Uuid,
    /// The period that ended with the last snapshot, 0 before the first one.
    pub change_number: u8,
}

impl From<blksnap_cbt_info> for Tracking {
    fn from(info: blksnap_cbt_info) -> Self {
        Tracking {
            capacity: info.capacity,
            block_size: info.block_size,
            block_count: info.block_count,
            generation: Uuid::from_bytes(info.generation.b),
            change_number: info.change_number,
        }
    }
}

/// A device and its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// The original device.
    #[serde(serialize_with = "json::path")]
    pub device: PathBuf,
    /// What can be done with it.
    pub state: State,
    /// The image's device node.
    #[serde(serialize_with = "json::some_path")]
    pub image: Option<PathBuf>,
    /// Name of the error that made the image unusable, or the last one if there is none now.
    pub error: Option<String>,
    /// Change tracking, where the driver has it.
    pub tracking: Option<Tracking>,
}

/// Something that happened to a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// An image cannot be read any more.
    Corrupted {
        /// When, in nanoseconds of the monotonic clock.
        time: i64,
        /// Number of the original device.
        device: String,
        /// Why.
        error: String,
    },
    /// The difference storage is full.
    NoSpace {
        /// When, in nanoseconds of the monotonic clock.
        time: i64,
        /// Bytes that were asked for in vain.
        requested: u64,
    },
    /// Little is left in the difference storage, and it cannot grow.
    LowSpace {
        /// When, in nanoseconds of the monotonic clock.
        time: i64,
        /// Bytes that are left.
        free: u64,
        /// Bytes that there are in all.
        capacity: u64,
    },
    /// Newer than this program.
    Unknown {
        /// When, in nanoseconds of the monotonic clock.
        time: i64,
        /// The driver's number for it.
        code: u32,
    },
}

impl From<&blksnap_event> for Event {
    fn from(event: &blksnap_event) -> Self {
        let time = event.time;
        match event.code {
            BLKSNAP_EVENT_CORRUPTED => {
                let data = prefix::<blksnap_event_corrupted>(&event.data);
                Event::Corrupted {
                    time,
                    device: format!("{}:{}", data.major, data.minor),
                    error: negative_errno(data.error),
                }
            }
            BLKSNAP_EVENT_NO_SPACE => Event::NoSpace {
                time,
                requested: prefix::<blksnap_event_no_space>(&event.data)
                    .requested
                    .saturating_mul(SECTOR),
            },
            BLKSNAP_EVENT_LOW_SPACE => {
                let data = prefix::<blksnap_event_low_space>(&event.data);
                Event::LowSpace {
                    time,
                    free: data.free_sectors.saturating_mul(SECTOR),
                    capacity: data.capacity_sectors.saturating_mul(SECTOR),
                }
            }
            code => Event::Unknown { time, code },
        }
    }
}

/// The structure at the start of an event's data, which is larger than any of them.
fn prefix<T: FromBytes>(data: &[u8]) -> T {
    T::read_from_prefix(data)
        .map(|(value, _)| value)
        .unwrap_or_else(|_| T::new_zeroed())
}

/// Whether there is no control device, and so no driver.
fn is_missing(control: &Fault) -> bool {
    matches!(control.step, Step::OpenControl(_))
        && [Errno::NOENT, Errno::NXIO, Errno::NODEV].contains(&control.errno)
}

/// The name of what the driver tells, which need not be an error code.
fn negative_errno(error: i32) -> String {
    match error.wrapping_neg() {
        errno @ 1..=4095 => crate::error::errno_name(Errno::from_raw_os_error(errno)),
        errno => format!("errno {errno}"),
    }
}

/// The id of a snapshot as a user writes it: the first digits are enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// All digits there are.
    fn whole(&self) -> Option<Uuid> {
        Uuid::try_parse(&self.0).ok()
    }

    fn fits(&self, id: &Uuid) -> bool {
        let digits: String = self.0.chars().filter(|&c| c != '-').collect();
        id.simple().to_string().starts_with(&digits)
    }
}

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
        let plain = text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        match plain && (1..=32).contains(&digits) {
            true => Ok(Name(text.to_ascii_lowercase())),
            false => Err("not the id of a snapshot, nor the beginning of one"),
        }
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Asked between two steps: is the user still interested?
pub type Stop<'a> = &'a dyn Fn() -> bool;

/// Requests put together.
pub struct Manager<'a> {
    kernel: &'a dyn Kernel,
    stop: Stop<'a>,
}

/// What to do to undo a half-made snapshot.
struct Undo<'a> {
    kernel: &'a dyn Kernel,
    snapshot: Option<Uuid>,
    attached: Vec<PathBuf>,
}

impl<'a> Undo<'a> {
    fn new(kernel: &'a dyn Kernel) -> Self {
        Undo {
            kernel,
            snapshot: None,
            attached: Vec::new(),
        }
    }

    /// Undoes what nobody could be told of.
    fn untold(self, failure: Failure) -> Failure {
        let failure = self.after(failure);
        match failure.hint {
            None => failure.hint("the snapshot has been undone, since nobody knew of it"),
            Some(_) => failure,
        }
    }

    /// Undoes everything and puts what could not be undone into the failure's hint.
    fn after(mut self, failure: Failure) -> Failure {
        let mut left = Vec::new();
        if let Some(id) = self.snapshot.take()
            && let Err(fault) = self.kernel.destroy(id)
        {
            left.push(Doing::Destroy(&id.to_string()).failed(&fault).message);
        }
        while let Some(device) = self.attached.pop() {
            if let Err(fault) = self.kernel.detach(&device) {
                left.push(Doing::Detach(&show(&device)).failed(&fault).message);
            }
        }
        if left.is_empty() {
            return failure;
        }
        let hint = format!("not everything could be undone: {}", left.join("; "));
        match failure.hint.clone() {
            Some(first) => failure.hint(format!("{first}; {hint}")),
            None => failure.hint(hint),
        }
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

fn c_path(path: &Path) -> Result<CString, Failure> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Failure::new(Kind::Usage, "the storage's path has a NUL in it"))
}

impl<'a> Manager<'a> {
    /// `stop` is asked between the steps of what takes several.
    pub fn new(kernel: &'a dyn Kernel, stop: Stop<'a>) -> Self {
        Manager { kernel, stop }
    }

    /// Version of the driver as `major.minor.revision.build`.
    pub fn version(&self) -> Result<[u16; 4], Failure> {
        let version = self
            .kernel
            .version()
            .map_err(|f| Doing::Version.failed(&f))?;
        Ok([
            version.major,
            version.minor,
            version.revision,
            version.build,
        ])
    }

    /// Makes a snapshot without devices. `limit` is in bytes.
    pub fn create(&self, storage: &Path, limit: u64) -> Result<Uuid, Failure> {
        let path = c_path(storage)?;
        self.kernel
            .create(limit.div_ceil(SECTOR), &path)
            .map_err(|f| Doing::Create(&show(storage)).failed(&f))
    }

    /// Makes a snapshot without devices, and drops it again if it cannot be told of.
    pub fn create_and(
        &self,
        storage: &Path,
        limit: u64,
        tell: &mut dyn FnMut(Uuid) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.check_stop()?;
        let id = self.create(storage, limit)?;
        let undo = Undo {
            snapshot: Some(id),
            ..Undo::new(self.kernel)
        };
        if let Err(failure) = self.check_stop() {
            return Err(undo.after(failure));
        }
        tell(id).map_err(|failure| undo.untold(failure))
    }

    /// Adds a further file or block device to a snapshot's difference storage.
    pub fn append(&self, id: Uuid, storage: &Path) -> Result<(), Failure> {
        let path = c_path(storage)?;
        self.kernel
            .append(id, &path)
            .map_err(|f| Doing::Append(&show(storage), &id.to_string()).failed(&f))
    }

    /// Why a device did not do as asked.
    ///
    /// A kernel without block filters hands such a request to the device's own driver, and that
    /// may answer anything. What the answer would mean otherwise must not be told then.
    fn refused(&self, doing: Doing<'_>, fault: &Fault) -> Failure {
        let unknown = fault.is(Errno::INVAL) || fault.is(Errno::NOTTY);
        if unknown
            && let Err(control) = self.kernel.version()
            && is_missing(&control)
        {
            return doing.failed(&control);
        }
        doing.failed(fault)
    }

    /// What a snapshot is doing.
    pub fn statistics(&self, id: Uuid) -> Result<Statistics, Failure> {
        self.kernel
            .statistics(id)
            .map(|text| Statistics::parse(id, &text))
            .map_err(|f| Doing::Statistics(&id.to_string()).failed(&f))
    }

    /// What all snapshots are doing; those that go meanwhile are left out.
    pub fn all_statistics(&self) -> Result<Vec<Statistics>, Failure> {
        let mut all = Vec::new();
        for id in self.list()? {
            match self.statistics(id) {
                Ok(statistics) => all.push(statistics),
                Err(failure) if !self.list()?.contains(&id) => drop(failure),
                Err(failure) => return Err(failure),
            }
        }
        Ok(all)
    }

    /// Attaches the filter to a device; says whether it was not there before.
    pub fn attach(&self, device: &Path) -> Result<bool, Failure> {
        match self.kernel.attach(device) {
            Ok(()) => Ok(true),
            Err(fault) if fault.is(Errno::ALREADY) => Ok(false),
            Err(fault) => Err(self.refused(Doing::Attach(&show(device)), &fault)),
        }
    }

    /// Detaches the filter from a device.
    pub fn detach(&self, device: &Path) -> Result<(), Failure> {
        self.kernel
            .detach(device)
            .map_err(|f| self.refused(Doing::Detach(&show(device)), &f))
    }

    /// Adds a device to a snapshot, with the filter put on it if need be; says whether it was.
    pub fn add(&self, device: &Path, id: Uuid) -> Result<bool, Failure> {
        let failed =
            |fault: &Fault| self.refused(Doing::Add(&show(device), &id.to_string()), fault);
        match self.kernel.add(device, id) {
            Ok(()) => return Ok(false),
            // There is no filter.
            Err(fault) if fault.is(Errno::NOENT) => {}
            Err(fault) => return Err(failed(&fault)),
        }
        let attached = self.attach(device)?;
        match self.kernel.add(device, id) {
            Ok(()) => Ok(attached),
            Err(fault) => {
                let undo = Undo {
                    attached: attached.then(|| device.to_owned()).into_iter().collect(),
                    ..Undo::new(self.kernel)
                };
                Err(undo.after(failed(&fault)))
            }
        }
    }

    /// Takes a snapshot of the devices added to it.
    pub fn take(&self, id: Uuid) -> Result<(), Failure> {
        self.kernel
            .take(id)
            .map_err(|f| Doing::Take(&id.to_string()).failed(&f))
    }

    /// Drops a snapshot.
    pub fn destroy(&self, id: Uuid) -> Result<(), Failure> {
        self.kernel
            .destroy(id)
            .map_err(|f| Doing::Destroy(&id.to_string()).failed(&f))
    }

    /// Makes and takes a snapshot of some devices, or leaves everything as it was.
    pub fn snapshot(
        &self,
        devices: &[PathBuf],
        storage: &Path,
        limit: u64,
    ) -> Result<Snapshot, Failure> {
        self.snapshot_and(devices, storage, limit, &mut |_| Ok(()))
    }

    /// Does the same, and tells of the snapshot while it can still be undone: it is if that fails.
    pub fn snapshot_and(
        &self,
        devices: &[PathBuf],
        storage: &Path,
        limit: u64,
        tell: &mut dyn FnMut(&Snapshot) -> Result<(), Failure>,
    ) -> Result<Snapshot, Failure> {
        self.check_devices(devices)?;
        self.check_stop()?;
        let mut undo = Undo::new(self.kernel);
        let snapshot = match self.snapshot_steps(devices, storage, limit, &mut undo) {
            Ok(snapshot) => snapshot,
            Err(failure) => return Err(undo.after(failure)),
        };
        match tell(&snapshot) {
            Ok(()) => Ok(snapshot),
            Err(failure) => Err(undo.untold(failure)),
        }
    }

    fn snapshot_steps(
        &self,
        devices: &[PathBuf],
        storage: &Path,
        limit: u64,
        undo: &mut Undo<'_>,
    ) -> Result<Snapshot, Failure> {
        let id = self.create(storage, limit)?;
        undo.snapshot = Some(id);
        let mut added = Vec::new();
        for device in devices {
            self.check_stop()?;
            let attached = self.add(device, id)?;
            if attached {
                undo.attached.push(device.clone());
            }
            added.push(attached);
        }
        self.check_stop()?;
        self.take(id)?;
        let devices = devices
            .iter()
            .zip(added)
            .map(|(device, attached)| {
                Ok(Added {
                    device: device.clone(),
                    image: self.image(device)?,
                    attached,
                })
            })
            .collect::<Result<_, Failure>>()?;
        self.check_stop()?;
        Ok(Snapshot { id, devices })
    }

    fn check_stop(&self) -> Result<(), Failure> {
        match (self.stop)() {
            false => Ok(()),
            true => Err(Failure::new(
                Kind::Interrupted,
                "interrupted; what had been begun has been undone",
            )),
        }
    }

    /// Finds typing mistakes before anything is begun.
    fn check_devices(&self, devices: &[PathBuf]) -> Result<(), Failure> {
        let mut seen: Vec<((u32, u32), &Path)> = Vec::new();
        for device in devices {
            let number = self
                .kernel
                .device_number(device)
                .map_err(|f| Doing::Look(&show(device)).failed(&f))?;
            if let Some((_, first)) = seen.iter().find(|(other, _)| *other == number) {
                return Err(Failure::new(
                    Kind::Usage,
                    format!(
                        "{} and {} are one device",
                        first.display(),
                        device.display()
                    ),
                )
                .hint("name each device once"));
            }
            seen.push((number, device));
        }
        Ok(())
    }

    /// Lists the snapshots.
    pub fn list(&self) -> Result<Vec<Uuid>, Failure> {
        let mut ids = Vec::new();
        for _ in 0..COLLECT_TRIES {
            match self.kernel.collect(&mut ids) {
                Ok(Collected::All(count)) => {
                    ids.truncate(count);
                    return Ok(ids);
                }
                Ok(Collected::Need(count)) => ids.resize(count, Uuid::nil()),
                Err(fault) => return Err(Doing::Collect.failed(&fault)),
            }
        }
        Err(Failure::new(
            Kind::Busy,
            "the list of snapshots changes faster than it can be read",
        )
        .hint("try again"))
    }

    /// The snapshot whose id that is, or begins so.
    pub fn resolve(&self, name: &Name) -> Result<Uuid, Failure> {
        if let Some(id) = name.whole() {
            return Ok(id);
        }
        let ids: Vec<Uuid> = self
            .list()?
            .into_iter()
            .filter(|id| name.fits(id))
            .collect();
        match ids[..] {
            [id] => Ok(id),
            [] => Err(Failure::new(
                Kind::NotFound,
                format!("there is no snapshot whose id begins with {name}"),
            )
            .hint("`blksnap list` shows those there are")),
            _ => {
                let ids: Vec<_> = ids.iter().map(Uuid::to_string).collect();
                Err(Failure::new(
                    Kind::Usage,
                    format!(
                        "{name} is ambiguous, there are {} snapshots whose ids begin so",
                        ids.len()
                    ),
                )
                .hint(format!("it may be {}", ids.join(" or "))))
            }
        }
    }

    /// The image's device node of a device.
    pub fn image(&self, device: &Path) -> Result<PathBuf, Failure> {
        let shown = show(device);
        let info = self
            .kernel
            .snapshot_info(device)
            .map_err(|f| self.refused(Doing::Info(&shown), &f))?;
        self.image_node(&info).ok_or_else(|| {
            Failure::new(Kind::NotFound, format!("{shown} has no image"))
                .hint("the image is there once the device's snapshot is taken")
        })
    }

    fn image_node(&self, info: &blksnap_snapshot_info) -> Option<PathBuf> {
        let name: Vec<u8> = info.image.iter().copied().take_while(|&b| b != 0).collect();
        let name = String::from_utf8(name).ok()?;
        // The name becomes a path, so it has to be one that the driver gives.
        let numbers = name.strip_prefix(&*BLKSNAP_IMAGE_PREFIX.to_string_lossy())?;
        let plain = numbers.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        (!numbers.is_empty() && plain).then(|| self.kernel.node(&name))
    }

    /// State of a device.
    pub fn info(&self, device: &Path) -> Result<DeviceInfo, Failure> {
        let nothing = |state| DeviceInfo {
            device: device.to_owned(),
            state,
            image: None,
            error: None,
            tracking: None,
        };
        let info = match self.kernel.snapshot_info(device) {
            Ok(info) => Some(info),
            Err(fault) if fault.is(Errno::NOENT) => return Ok(nothing(State::Unfiltered)),
            // Another filter is there.
            Err(fault) if fault.is(Errno::INVAL) && self.kernel.version().is_ok() => {
                return Ok(nothing(State::Unfiltered));
            }
            // The filter is there, a snapshot is not.
            Err(fault) if fault.is(Errno::NODATA) => None,
            Err(fault) => return Err(self.refused(Doing::Info(&show(device)), &fault)),
        };
        let tracking = match self.kernel.tracking_info(device) {
            Ok(info) => Some(info.into()),
            Err(fault) if fault.step == Step::Request => None,
            Err(fault) => return Err(Doing::Tracking(&show(device)).failed(&fault)),
        };
        let image = info.as_ref().and_then(|info| self.image_node(info));
        let error = info
            .filter(|info| info.error != 0)
            .map(|info| negative_errno(info.error));
        let state = match (&image, &error) {
            (Some(_), Some(_)) => State::Corrupted,
            (Some(_), None) => State::Snapshot,
            (None, _) => State::Attached,
        };
        Ok(DeviceInfo {
            state,
            image,
            error,
            tracking,
            ..nothing(state)
        })
    }

    /// State of every device that has the filter, and why that of others cannot be told.
    pub fn info_all(&self) -> Result<Vec<Result<DeviceInfo, Failure>>, Failure> {
        // Without the driver, or without the right to ask it, every device would seem to have no
        // filter.
        self.version()?;
        let devices = self
            .kernel
            .block_devices()
            .map_err(|f| Doing::Look("the block devices").failed(&f))?;
        let mut infos = Vec::new();
        for device in devices {
            match self.info(&device) {
                Ok(info) if info.state == State::Unfiltered => {}
                Err(_) if self.is_absent(&device) => {}
                info => infos.push(info),
            }
        }
        Ok(infos)
    }

    /// Whether there is no device behind a node, as in an empty drive, or none any more.
    fn is_absent(&self, device: &Path) -> bool {
        self.kernel.device_number(device).is_err_and(|fault| {
            let absent = [Errno::NOENT, Errno::NXIO, Errno::NODEV, Errno::NOMEDIUM];
            absent.contains(&fault.errno)
        })
    }

    /// State of change tracking on a device.
    pub fn tracking(&self, device: &Path) -> Result<Tracking, Failure> {
        self.kernel
            .tracking_info(device)
            .map(Tracking::from)
            .map_err(|f| self.refused(Doing::Tracking(&show(device)), &f))
    }

    /// The whole change map of a device.
    pub fn tracking_map(&self, device: &Path) -> Result<Vec<u8>, Failure> {
        const PORTION: usize = 1 << 20;
        let shown = show(device);
        let size = self.tracking(device)?.block_count as usize;
        let mut map = vec![0; size];
        let mut done = 0;
        while done < size {
            self.check_stop()?;
            let end = size.min(done + PORTION);
            let copied = self
                .kernel
                .tracking_map(device, done as u32, &mut map[done..end])
                .map_err(|f| Doing::Tracking(&shown).failed(&f))?;
            if copied == 0 {
                return Err(Failure::new(
                    Kind::Other,
                    format!("the change map of {shown} ended after {done} of {size} bytes"),
                )
                .hint("the device may have been resized or detached, try again"));
            }
            done += copied;
        }
        Ok(map)
    }

    /// Marks ranges of a device as changed.
    pub fn mark_dirty(&self, device: &Path, ranges: &[blksnap_sectors]) -> Result<(), Failure> {
        self.kernel
            .mark_dirty(device, ranges)
            .map_err(|f| self.refused(Doing::MarkDirty(&show(device)), &f))
    }

    /// Waits for an event of a snapshot, forever if there is no `timeout`.
    pub fn wait(&self, id: Uuid, timeout: Option<Duration>) -> Result<Event, Failure> {
        // What ends after the end of time does not end.
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let slice = left.map_or(WAIT_SLICE, |left| left.min(WAIT_SLICE));
            if let Some(event) = self.next_event(id, slice)? {
                return Ok(event);
            }
            if (self.stop)() {
                return Err(Failure::new(
                    Kind::Interrupted,
                    format!("interrupted while waiting for an event of the snapshot {id}"),
                ));
            }
            if left.is_some_and(|left| left <= slice) {
                return Err(Failure::new(
                    Kind::Timeout,
                    format!("nothing happened to the snapshot {id} in time"),
                ));
            }
        }
    }

    /// The next event of a snapshot, if there is one in time and no signal comes first.
    fn next_event(&self, id: Uuid, timeout: Duration) -> Result<Option<Event>, Failure> {
        match self.kernel.wait_event(id, timeout.as_millis() as u32) {
            Ok(event) => Ok(Some(Event::from(&*event))),
            Err(fault) if fault.is(Errno::NOENT) || fault.is(Errno::INTR) => Ok(None),
            Err(fault) => Err(Doing::Wait(&id.to_string()).failed(&fault)),
        }
    }

    /// Tells the events of the given snapshots, or of all, as they come. Returns when the user
    /// wants it to end, or when none of the given ones is left.
    pub fn follow(
        &self,
        ids: &[Uuid],
        tell: &mut dyn FnMut(Uuid, &Event) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        // A name that was never right is a mistake; one that goes later is an end.
        let mut left = ids.to_vec();
        if let Some(&missing) = {
            let known = self.list()?;
            left.iter().find(|&id| !known.contains(id))
        } {
            return Err(
                Doing::Wait(&missing.to_string()).failed(&Fault::new(Step::Request, Errno::SRCH))
            );
        }
        loop {
            let known = self.list()?;
            match ids.is_empty() {
                true => left = known,
                false => left.retain(|id| known.contains(id)),
            }
            if left.is_empty() && !ids.is_empty() {
                return Ok(());
            }
            if left.is_empty() {
                std::thread::sleep(FOLLOW_ROUND);
            }
            // Each in turn, none for longer than the round takes.
            let slice = FOLLOW_ROUND / left.len().max(1) as u32;
            for &id in &left {
                if (self.stop)() {
                    return Ok(());
                }
                let mut slice = slice.max(Duration::from_millis(1));
                loop {
                    match self.kernel.wait_event(id, slice.as_millis() as u32) {
                        Ok(event) => tell(id, &Event::from(&*event))?,
                        // Gone: the next round finds out.
                        Err(fault)
                            if [Errno::NOENT, Errno::INTR, Errno::SRCH]
                                .iter()
                                .any(|&errno| fault.is(errno)) =>
                        {
                            break;
                        }
                        Err(fault) => return Err(Doing::Wait(&id.to_string()).failed(&fault)),
                    }
                    slice = Duration::ZERO;
                }
            }
            if (self.stop)() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::{ID, Mock};
    use std::cell::Cell;

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    fn go_on() -> bool {
        false
    }

    #[test]
    fn add_attaches_when_there_is_no_filter_and_tries_again() {
        let mock = Mock::default();
        mock.create_snapshot();
        let attached = Manager::new(&mock, &go_on)
            .add("/dev/a".as_ref(), ID)
            .unwrap();
        assert!(attached);
        assert_eq!(
            mock.log(),
            ["add /dev/a: ENOENT", "attach /dev/a", "add /dev/a"]
        );
    }

    #[test]
    fn add_does_not_attach_what_is_attached() {
        let mock = Mock::default();
        mock.create_snapshot();
        mock.attach("/dev/a".as_ref()).unwrap();
        mock.clear_log();
        let attached = Manager::new(&mock, &go_on)
            .add("/dev/a".as_ref(), ID)
            .unwrap();
        assert!(!attached);
        assert_eq!(mock.log(), ["add /dev/a"]);
    }

    #[test]
    fn add_survives_somebody_else_attaching_in_between() {
        let mock = Mock::default();
        mock.create_snapshot();
        mock.fail_once("add", Errno::NOENT);
        mock.attach("/dev/a".as_ref()).unwrap();
        mock.clear_log();
        let attached = Manager::new(&mock, &go_on)
            .add("/dev/a".as_ref(), ID)
            .unwrap();
        assert!(!attached);
        assert_eq!(
            mock.log(),
            [
                "add /dev/a: ENOENT",
                "attach /dev/a: EALREADY",
                "add /dev/a"
            ]
        );
    }

    #[test]
    fn add_to_no_snapshot_leaves_no_filter_behind() {
        let mock = Mock::default();
        let failure = Manager::new(&mock, &go_on)
            .add("/dev/a".as_ref(), ID)
            .unwrap_err();
        assert_eq!(failure.kind, Kind::NotFound);
        assert!(failure.message.contains("no such snapshot"));
        assert_eq!(mock.log().last().unwrap(), "detach /dev/a");
        assert!(mock.is_clean());
    }

    #[test]
    fn add_does_not_attach_on_other_errors() {
        let mock = Mock::default();
        mock.fail_once("add", Errno::NODEV);
        let failure = Manager::new(&mock, &go_on)
            .add("/dev/a".as_ref(), ID)
            .unwrap_err();
        assert_eq!(failure.errno.as_deref(), Some("ENODEV"));
        assert_eq!(mock.log(), ["add /dev/a: ENODEV"]);
    }

    #[test]
    fn snapshot_does_all_steps_in_order() {
        let mock = Mock::default();
        mock.attach("/dev/b".as_ref()).unwrap();
        mock.clear_log();
        let snapshot = Manager::new(&mock, &go_on)
            .snapshot(&paths(&["/dev/a", "/dev/b"]), "/st".as_ref(), 1000)
            .unwrap();
        assert_eq!(snapshot.id, ID);
        assert_eq!(
            snapshot.devices,
            [
                Added {
                    device: "/dev/a".into(),
                    image: "/dev/blksnap-8-97".into(),
                    attached: true,
                },
                Added {
                    device: "/dev/b".into(),
                    image: "/dev/blksnap-8-98".into(),
                    attached: false,
                },
            ]
        );
        assert_eq!(
            mock.log(),
            [
                "create 2 /st",
                "add /dev/a: ENOENT",
                "attach /dev/a",
                "add /dev/a",
                "add /dev/b",
                "take",
                "snapshot_info /dev/a",
                "snapshot_info /dev/b",
            ]
        );
    }

    #[test]
    fn a_failure_of_any_step_leaves_everything_as_it_was() {
        for step in ["create", "attach", "take", "snapshot_info"] {
            let mock = Mock::default();
            mock.attach("/dev/b".as_ref()).unwrap();
            mock.clear_log();
            mock.fail_once(step, Errno::IO);
            let failure = Manager::new(&mock, &go_on)
                .snapshot(&paths(&["/dev/b", "/dev/a"]), "/st".as_ref(), 512)
                .unwrap_err();
            assert_eq!(failure.errno.as_deref(), Some("EIO"), "{step}");
            assert_eq!(mock.attached(), ["/dev/b"], "{step}");
            assert!(mock.snapshots().is_empty(), "{step}");
        }
    }

    #[test]
    fn what_cannot_be_undone_is_told() {
        let mock = Mock::default();
        mock.fail_once("take", Errno::NOSPC);
        mock.fail_once("destroy", Errno::BUSY);
        let failure = Manager::new(&mock, &go_on)
            .snapshot(&paths(&["/dev/a"]), "/st".as_ref(), 512)
            .unwrap_err();
        assert_eq!(failure.kind, Kind::NoSpace);
        let hint = failure.hint.unwrap();
        assert!(hint.contains("not everything could be undone"), "{hint}");
        assert!(hint.contains("by somebody else"), "{hint}");
    }

    #[test]
    fn an_interrupt_between_any_two_steps_undoes_all() {
        for step in 0..6 {
            let mock = Mock::default();
            let asked = Cell::new(0);
            let stop = || {
                asked.set(asked.get() + 1);
                asked.get() > step
            };
            let result = Manager::new(&mock, &stop).snapshot(
                &paths(&["/dev/a", "/dev/b"]),
                "/st".as_ref(),
                512,
            );
            match result {
                Ok(_) => assert_eq!(step, 5, "all five questions were answered with no"),
                Err(failure) => {
                    assert_eq!(failure.kind, Kind::Interrupted);
                    assert!(mock.is_clean(), "after {step}");
                }
            }
        }
    }

    #[test]
    fn one_device_named_twice_is_noticed_before_anything_is_done() {
        let mock = Mock::default();
        let failure = Manager::new(&mock, &go_on)
            .snapshot(&paths(&["/dev/a", "/dev/./a"]), "/st".as_ref(), 512)
            .unwrap_err();
        assert_eq!(failure.kind, Kind::Usage);
        assert!(mock.log().is_empty());
    }

    #[test]
    fn list_asks_for_the_count_first_and_follows_growth() {
        let mock = Mock::default();
        assert!(Manager::new(&mock, &go_on).list().unwrap().is_empty());
        assert_eq!(mock.log(), ["collect 0"]);

        mock.clear_log();
        mock.create_snapshot();
        mock.grow_after_first_collect(2);
        let ids = Manager::new(&mock, &go_on).list().unwrap();
        assert_eq!(ids.len(), 3);
        assert_eq!(ids[0], ID);
        assert_eq!(
            mock.log(),
            ["collect 0: need 1", "collect 1: need 3", "collect 3"]
        );
    }

    #[test]
    fn a_list_that_never_settles_ends() {
        let mock = Mock::default();
        mock.grow_for_ever();
        let failure = Manager::new(&mock, &go_on).list().unwrap_err();
        assert_eq!(failure.kind, Kind::Busy);
    }

    #[test]
    fn info_tells_the_states_apart() {
        let mock = Mock::default();
        let manager = Manager::new(&mock, &go_on);
        let device = Path::new("/dev/a");
        assert_eq!(manager.info(device).unwrap().state, State::Unfiltered);
        mock.attach(device).unwrap();
        assert_eq!(manager.info(device).unwrap().state, State::Attached);
        manager
            .snapshot(&paths(&["/dev/a"]), "/st".as_ref(), 512)
            .unwrap();
        let info = manager.info(device).unwrap();
        assert_eq!(info.state, State::Snapshot);
        assert_eq!(info.image.as_deref(), Some("/dev/blksnap-8-97".as_ref()));
        mock.corrupt(device, -28);
        let info = manager.info(device).unwrap();
        assert_eq!(info.state, State::Corrupted);
        assert_eq!(info.error.as_deref(), Some("ENOSPC"));
        assert_eq!(manager.info_all().unwrap(), [Ok(info)]);
        // What became of the last snapshot is known until the next one.
        mock.destroy(ID).unwrap();
        let info = manager.info(device).unwrap();
        assert_eq!(info.state, State::Attached);
        assert_eq!(info.error.as_deref(), Some("ENOSPC"));
    }

    #[test]
    fn a_name_that_is_not_an_image_never_becomes_a_path() {
        let mock = Mock::default();
        let manager = Manager::new(&mock, &go_on);
        for name in ["", "blksnap-", "blksnap-../x", "sda", "blksnap-control"] {
            let mut info = blksnap_snapshot_info {
                error: 0,
                image: [0; 32],
            };
            info.image[..name.len()].copy_from_slice(name.as_bytes());
            assert_eq!(manager.image_node(&info), None, "{name}");
        }
    }

    #[test]
    fn the_map_is_read_in_portions() {
        let mock = Mock::default();
        mock.attach("/dev/a".as_ref()).unwrap();
        let map = Manager::new(&mock, &go_on)
            .tracking_map("/dev/a".as_ref())
            .unwrap();
        assert_eq!(map, mock.map());
        mock.clear_log();
        mock.truncate_map();
        let failure = Manager::new(&mock, &go_on)
            .tracking_map("/dev/a".as_ref())
            .unwrap_err();
        assert!(failure.message.contains("ended after"));
    }

    #[test]
    fn wait_tells_a_timeout_from_a_missing_snapshot() {
        let mock = Mock::default();
        let manager = Manager::new(&mock, &go_on);
        let failure = manager.wait(ID, Some(Duration::ZERO)).unwrap_err();
        assert_eq!(failure.kind, Kind::NotFound);
        mock.create_snapshot();
        let failure = manager.wait(ID, Some(Duration::ZERO)).unwrap_err();
        assert_eq!(failure.kind, Kind::Timeout);
        mock.fail_once("wait_event", Errno::NOTTY);
        let failure = manager.wait(ID, None).unwrap_err();
        assert_eq!(failure.kind, Kind::Unsupported);
    }

    #[test]
    fn following_ends_with_the_snapshot_or_the_user() {
        use zerocopy::FromZeros;
        let mock = Mock::default();
        let manager = Manager::new(&mock, &go_on);
        let mut told = Vec::new();
        let mut tell = |id: Uuid, event: &Event| {
            told.push((id, event.clone()));
            // It has told enough.
            mock.destroy(ID).unwrap();
            Ok(())
        };
        let failure = manager.follow(&[ID], &mut tell).unwrap_err();
        assert_eq!(failure.kind, Kind::NotFound);

        mock.create_snapshot();
        let mut event = blksnap_event::new_zeroed();
        event.code = BLKSNAP_EVENT_NO_SPACE;
        mock.set_event(event);
        manager.follow(&[ID], &mut tell).unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].0, ID);

        mock.create_snapshot();
        let asked = Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() > 3
        };
        let stopped = Manager::new(&mock, &stop);
        stopped.follow(&[], &mut |_, _| Ok(())).unwrap();
        let failure = stopped.wait(ID, None).unwrap_err();
        assert_eq!(failure.kind, Kind::Interrupted);
    }

    #[test]
    fn statistics_of_all_leave_out_what_has_gone() {
        let mock = Mock::default();
        let manager = Manager::new(&mock, &go_on);
        assert!(manager.all_statistics().unwrap().is_empty());
        assert_eq!(manager.statistics(ID).unwrap_err().kind, Kind::NotFound);
        mock.create_snapshot();
        let all = manager.all_statistics().unwrap();
        assert_eq!(all[0].number("bytes_copied"), 8192);
    }

    #[test]
    fn events_are_decoded() {
        use zerocopy::FromZeros;
        let mut event = blksnap_event::new_zeroed();
        event.time = 5;
        event.code = BLKSNAP_EVENT_CORRUPTED;
        event.data[..4].copy_from_slice(&8u32.to_ne_bytes());
        event.data[4..8].copy_from_slice(&17u32.to_ne_bytes());
        event.data[8..12].copy_from_slice(&(-5i32).to_ne_bytes());
        assert_eq!(
            Event::from(&event),
            Event::Corrupted {
                time: 5,
                device: "8:17".into(),
                error: "EIO".into(),
            }
        );
        event.code = BLKSNAP_EVENT_NO_SPACE;
        event.data[..8].copy_from_slice(&2048u64.to_ne_bytes());
        assert_eq!(
            Event::from(&event),
            Event::NoSpace {
                time: 5,
                requested: 1 << 20,
            }
        );
        event.code = BLKSNAP_EVENT_LOW_SPACE;
        event.data[..8].copy_from_slice(&8u64.to_ne_bytes());
        event.data[8..16].copy_from_slice(&64u64.to_ne_bytes());
        assert_eq!(
            Event::from(&event),
            Event::LowSpace {
                time: 5,
                free: 4096,
                capacity: 32768,
            }
        );
        event.code = 77;
        assert_eq!(Event::from(&event), Event::Unknown { time: 5, code: 77 });
    }

    #[test]
    fn a_snapshot_that_nobody_can_be_told_of_is_undone() {
        let deaf = || Err(Failure::new(Kind::Other, "nobody listens"));
        let mock = Mock::default();
        let manager = Manager::new(&mock, &go_on);
        let devices = paths(&["/dev/a"]);
        let failure = manager
            .snapshot_and(&devices, "/st".as_ref(), 512, &mut |_| deaf())
            .unwrap_err();
        assert!(mock.is_clean());
        assert_eq!(failure.message, "nobody listens");
        assert!(failure.hint.unwrap().contains("undone"));

        let failure = manager
            .create_and("/st".as_ref(), 512, &mut |_| deaf())
            .unwrap_err();
        assert!(mock.is_clean());
        assert!(failure.hint.unwrap().contains("undone"));

        mock.fail_once("destroy", Errno::BUSY);
        let failure = manager
            .create_and("/st".as_ref(), 512, &mut |_| deaf())
            .unwrap_err();
        assert!(failure.hint.unwrap().contains("not everything"));
    }

    #[test]
    fn an_interrupt_while_a_snapshot_is_created_undoes_it() {
        for answers in 0..3 {
            let mock = Mock::default();
            let asked = Cell::new(0);
            let stop = || asked.replace(asked.get() + 1) >= answers;
            let mut told = false;
            let result = Manager::new(&mock, &stop).create_and("/st".as_ref(), 512, &mut |_| {
                told = true;
                Ok(())
            });
            assert_eq!(told, answers == 2);
            match result {
                Ok(()) => assert_eq!(mock.snapshots(), [ID]),
                Err(failure) => {
                    assert_eq!(failure.kind, Kind::Interrupted);
                    assert!(mock.is_clean());
                }
            }
        }
    }

    #[test]
    fn a_timeout_beyond_the_end_of_time_is_none() {
        use zerocopy::FromZeros;
        let mock = Mock::default();
        mock.create_snapshot();
        mock.set_event(blksnap_event::new_zeroed());
        let manager = Manager::new(&mock, &go_on);
        manager.wait(ID, Some(Duration::MAX)).unwrap();
    }

    #[test]
    fn a_number_that_is_not_an_error_code_is_shown_as_it_is() {
        assert_eq!(negative_errno(-5), "EIO");
        assert_eq!(negative_errno(0), "errno 0");
        assert_eq!(negative_errno(5), "errno -5");
        assert_eq!(negative_errno(i32::MIN), "errno -2147483648");
    }

    #[test]
    fn a_kernel_without_filters_is_told_from_one_that_refuses() {
        let mock = Mock::default();
        let manager = Manager::new(&mock, &go_on);
        let device = Path::new("/dev/a");
        mock.unload_driver();
        let failures = [
            manager.tracking(device).unwrap_err(),
            manager.mark_dirty(device, &[]).unwrap_err(),
            manager.detach(device).unwrap_err(),
            manager.add(device, ID).unwrap_err(),
            manager.image(device).unwrap_err(),
            manager.info(device).unwrap_err(),
            manager.info_all().unwrap_err(),
        ];
        for failure in failures {
            assert_eq!(failure.kind, Kind::Unsupported, "{failure}");
            assert!(failure.message.contains("not loaded"), "{failure}");
        }

        let mock = Mock::default();
        let manager = Manager::new(&mock, &go_on);
        mock.fail_once("snapshot_info", Errno::INVAL);
        assert_eq!(manager.info(device).unwrap().state, State::Unfiltered);
        mock.fail_once("tracking_info", Errno::INVAL);
        let failure = manager.tracking(device).unwrap_err();
        assert!(failure.message.contains("another filter"), "{failure}");
        mock.fail_once("mark_dirty", Errno::INVAL);
        let failure = manager.mark_dirty(device, &[]).unwrap_err();
        assert!(failure.message.contains("range"), "{failure}");
    }

    #[test]
    fn what_hinders_the_look_at_all_devices_is_told() {
        let mock = Mock::default();
        let manager = Manager::new(&mock, &go_on);
        let [a, b] = ["/dev/a", "/dev/b"].map(Path::new);
        mock.attach(a).unwrap();
        // An empty drive is nothing to complain of.
        mock.cannot_open(b, Errno::NOMEDIUM);
        let infos = manager.info_all().unwrap();
        assert_eq!(infos, [manager.info(a)]);

        mock.cannot_open(b, Errno::IO);
        let infos = manager.info_all().unwrap();
        assert!(infos[0].is_ok());
        assert_eq!(infos[1].as_ref().unwrap_err().errno.as_deref(), Some("EIO"));

        mock.fail_once("version", Errno::PERM);
        let failure = manager.info_all().unwrap_err();
        assert_eq!(failure.kind, Kind::Denied);
    }

    #[test]
    fn the_beginning_of_an_id_is_enough_if_it_is_the_only_one() {
        let mock = Mock::default();
        let manager = Manager::new(&mock, &go_on);
        let resolve = |text: &str| manager.resolve(&text.parse().unwrap());
        assert_eq!(resolve("a11ce").unwrap_err().kind, Kind::NotFound);
        mock.create_snapshot();
        for text in ["a", "A11CE", "a11ce000-0000-4", "a11ce00000004"] {
            assert_eq!(resolve(text), Ok(ID), "{text}");
        }
        assert_eq!(resolve("b").unwrap_err().kind, Kind::NotFound);

        mock.grow_after_first_collect(1);
        mock.clear_log();
        let failure = resolve("a11").unwrap_err();
        assert_eq!(failure.kind, Kind::Usage);
        assert!(failure.message.contains("ambiguous"), "{failure}");
        let hint = failure.hint.unwrap();
        assert!(hint.contains(&ID.to_string()), "{hint}");
        assert!(hint.contains("0065"), "{hint}");

        // A whole one is not looked for.
        mock.clear_log();
        assert_eq!(resolve(&ID.to_string()), Ok(ID));
        assert!(mock.log().is_empty());
        for bad in ["", "-", "xyz", "/dev/a", &"a".repeat(33)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
