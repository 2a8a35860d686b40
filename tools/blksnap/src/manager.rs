// SPDX-License-Identifier: GPL-2.0

//! What a person wants done, made of single requests.

use crate::error::{Doing, Failure, Fault, Kind, Step};
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
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
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
    pub device: PathBuf,
    /// The image's device node.
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
    pub device: PathBuf,
    /// What can be done with it.
    pub state: State,
    /// The image's device node.
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
        /// When, as the driver counts nanoseconds.
        time: i64,
        /// Number of the original device.
        device: String,
        /// Why.
        error: String,
    },
    /// The difference storage is full.
    NoSpace {
        /// When, as the driver counts nanoseconds.
        time: i64,
        /// Bytes that were asked for in vain.
        requested: u64,
    },
    /// Little is left in the difference storage, and it cannot grow.
    LowSpace {
        /// When, as the driver counts nanoseconds.
        time: i64,
        /// Bytes that are left.
        free: u64,
        /// Bytes that there are in all.
        capacity: u64,
    },
    /// Newer than this program.
    Unknown {
        /// When, as the driver counts nanoseconds.
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

fn negative_errno(error: i32) -> String {
    crate::error::errno_name(Errno::from_raw_os_error(error.wrapping_neg()))
}

/// Asked between two steps: is the user still interested?
pub type Stop<'a> = &'a dyn Fn() -> bool;

/// Requests put together.
pub struct Manager<'a> {
    kernel: &'a dyn Kernel,
    stop: Stop<'a>,
}

/// Undoes a half-made snapshot unless told to keep it.
struct Undo<'a> {
    kernel: &'a dyn Kernel,
    snapshot: Option<Uuid>,
    attached: Vec<PathBuf>,
}

impl Undo<'_> {
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
        let hint = format!("not all could be undone: {}", left.join("; "));
        match failure.hint.clone() {
            Some(first) => failure.hint(format!("{first}; {hint}")),
            None => failure.hint(hint),
        }
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
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
        let shown = show(storage);
        let path = CString::new(storage.as_os_str().as_bytes())
            .map_err(|_| Failure::new(Kind::Usage, "the storage's path has a NUL in it"))?;
        self.kernel
            .create(limit.div_ceil(SECTOR), &path)
            .map_err(|f| Doing::Create(&shown).failed(&f))
    }

    /// Adds a further file or block device to a snapshot's difference storage.
    pub fn append(&self, id: Uuid, storage: &Path) -> Result<(), Failure> {
        let shown = show(storage);
        let path = CString::new(storage.as_os_str().as_bytes())
            .map_err(|_| Failure::new(Kind::Usage, "the storage's path has a NUL in it"))?;
        self.kernel
            .append(id, &path)
            .map_err(|f| Doing::Append(&shown, &id.to_string()).failed(&f))
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

    /// Puts the filter on a device; says whether it was not there before.
    pub fn attach(&self, device: &Path) -> Result<bool, Failure> {
        match self.kernel.attach(device) {
            Ok(()) => Ok(true),
            Err(fault) if fault.is(Errno::ALREADY) => Ok(false),
            Err(fault) => Err(Doing::Attach(&show(device)).failed(&fault)),
        }
    }

    /// Takes the filter off a device.
    pub fn detach(&self, device: &Path) -> Result<(), Failure> {
        self.kernel
            .detach(device)
            .map_err(|f| Doing::Detach(&show(device)).failed(&f))
    }

    /// Adds a device to a snapshot, with the filter put on it if need be; says whether it was.
    pub fn add(&self, device: &Path, id: Uuid) -> Result<bool, Failure> {
        let failed = |fault: &Fault| Doing::Add(&show(device), &id.to_string()).failed(fault);
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
                    kernel: self.kernel,
                    snapshot: None,
                    attached: attached.then(|| device.to_owned()).into_iter().collect(),
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
        self.check_devices(devices)?;
        self.check_stop()?;
        let mut undo = Undo {
            kernel: self.kernel,
            snapshot: None,
            attached: Vec::new(),
        };
        match self.snapshot_steps(devices, storage, limit, &mut undo) {
            Ok(snapshot) => Ok(snapshot),
            Err(failure) => Err(undo.after(failure)),
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

    /// The image's device node of a device.
    pub fn image(&self, device: &Path) -> Result<PathBuf, Failure> {
        let shown = show(device);
        let info = self
            .kernel
            .snapshot_info(device)
            .map_err(|f| Doing::Info(&shown).failed(&f))?;
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
            Err(fault) if fault.is(Errno::NOENT) || fault.is(Errno::INVAL) => {
                return Ok(nothing(State::Unfiltered));
            }
            // The filter is there, a snapshot is not.
            Err(fault) if fault.is(Errno::NODATA) => None,
            Err(fault) => return Err(Doing::Info(&show(device)).failed(&fault)),
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

    /// State of every device that has the filter.
    pub fn info_all(&self) -> Result<Vec<DeviceInfo>, Failure> {
        let devices = self
            .kernel
            .block_devices()
            .map_err(|f| Doing::Look("the block devices").failed(&f))?;
        Ok(devices
            .iter()
            // A device that cannot be opened, as an empty drive, has no filter to tell about.
            .filter_map(|device| self.info(device).ok())
            .filter(|info| info.state != State::Unfiltered)
            .collect())
    }

    /// State of change tracking on a device.
    pub fn tracking(&self, device: &Path) -> Result<Tracking, Failure> {
        self.kernel
            .tracking_info(device)
            .map(Tracking::from)
            .map_err(|f| Doing::Tracking(&show(device)).failed(&f))
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
            .map_err(|f| Doing::Tracking(&show(device)).failed(&f))
    }

    /// Waits for an event of a snapshot, for ever if there is no `timeout`.
    pub fn wait(&self, id: Uuid, timeout: Option<Duration>) -> Result<Event, Failure> {
        let end = timeout.map(|timeout| Instant::now() + timeout);
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
        assert!(hint.contains("not all could be undone"), "{hint}");
        assert!(hint.contains("an image is in use"), "{hint}");
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
        assert_eq!(manager.info_all().unwrap(), [info]);
        // What became of the last snapshot is known until the next one.
        mock.destroy(ID).unwrap();
        let info = manager.info(device).unwrap();
        assert_eq!(info.state, State::Attached);
        assert_eq!(info.error.as_deref(), Some("ENOSPC"));
    }

    #[test]
    fn a_name_that_is_no_image_never_becomes_a_path() {
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
}
