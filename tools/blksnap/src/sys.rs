// SPDX-License-Identifier: GPL-2.0

//! Requests to the running kernel: the only unsafe code of this crate.
//!
//! Arguments of the ioctls carry user pointers as numbers. Each method here
//! builds its argument from a borrowed buffer that outlives the call, so that
//! no address handed to the kernel can dangle.

#![allow(unsafe_code)]

use crate::error::{Fault, Step};
use crate::fiemap::{FIEMAP_IOCTL, FiemapRequest};
use crate::kernel::{Collected, Kernel};
use blksnap_uapi::*;
use rustix::fs::{FileType, Mode, OFlags, fstat, major, minor, open};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use std::ffi::{CStr, c_void};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use uuid::Uuid;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// The system call itself, so that a test can look at what would be sent.
pub trait Call {
    /// Issues `op` with `arg` on `fd`.
    ///
    /// # Safety
    ///
    /// `arg` must be valid for what the kernel reads and writes for `op`, and
    /// so must every address inside it, until the call returns.
    unsafe fn call(&self, fd: BorrowedFd<'_>, op: u32, arg: *mut c_void) -> Result<i32, Errno>;
}

/// The real system call.
#[derive(Debug, Default)]
pub struct Syscall;

struct Request {
    op: u32,
    arg: *mut c_void,
}

// SAFETY: The opcode and the pointer are those that the caller of `Call::call` vouched for. The
// argument is written through the pointer it was given, which `IS_MUTATING` announces.
unsafe impl Ioctl for Request {
    type Output = i32;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.op
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.arg
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<i32> {
        Ok(out)
    }
}

impl Call for Syscall {
    unsafe fn call(&self, fd: BorrowedFd<'_>, op: u32, arg: *mut c_void) -> Result<i32, Errno> {
        // SAFETY: Promised by the caller.
        unsafe { rustix::ioctl::ioctl(fd, Request { op, arg }) }
    }
}

/// The running kernel.
#[derive(Debug)]
pub struct Linux<C = Syscall> {
    call: C,
    devices: PathBuf,
    sysfs: PathBuf,
    debugfs: PathBuf,
    /// What a device has to be; tests have to do with what every machine has.
    device_type: FileType,
}

impl Linux {
    /// The kernel this process runs on, with its usual paths.
    pub fn new() -> Self {
        Linux {
            call: Syscall,
            devices: "/dev".into(),
            sysfs: "/sys".into(),
            debugfs: "/sys/kernel/debug".into(),
            device_type: FileType::BlockDevice,
        }
    }
}

impl Default for Linux {
    fn default() -> Self {
        Self::new()
    }
}

/// Size of the argument that is part of an ioctl's number.
const fn size_of_argument(op: u32) -> usize {
    (op >> 16 & 0x3fff) as usize
}

fn filter_name() -> [u8; BLKFILTER_NAME_LENGTH as usize] {
    let mut name = [0; BLKFILTER_NAME_LENGTH as usize];
    let bytes = BLKSNAP_FILTER_NAME.to_bytes();
    name[..bytes.len()].copy_from_slice(bytes);
    name
}

fn length(bytes: usize) -> Result<u32, Fault> {
    u32::try_from(bytes).map_err(|_| Fault::new(Step::Request, Errno::TOOBIG))
}

impl<C: Call> Linux<C> {
    fn open_control(&self) -> Result<OwnedFd, Fault> {
        let path = self.node(&BLKSNAP_CONTROL_NAME.to_string_lossy());
        open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Fault::new(Step::OpenControl(path), errno))
    }

    fn open_device(&self, path: &Path) -> Result<(OwnedFd, (u32, u32)), Fault> {
        let fault = |errno| Fault::new(Step::OpenDevice(path.to_owned()), errno);
        // Not waiting: opening a FIFO by mistake must not hang.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = open(path, flags, Mode::empty()).map_err(fault)?;
        let stat = fstat(&fd).map_err(fault)?;
        if FileType::from_raw_mode(stat.st_mode) != self.device_type {
            return Err(fault(Errno::NOTBLK));
        }
        Ok((fd, (major(stat.st_rdev), minor(stat.st_rdev))))
    }

    /// Issues `op` with a plain argument.
    ///
    /// # Safety
    ///
    /// `T` must be the argument of `op`, and addresses inside it must be valid
    /// for what the kernel reads and writes there.
    unsafe fn request<T: FromBytes + IntoBytes>(
        &self,
        fd: &OwnedFd,
        op: u32,
        arg: &mut T,
    ) -> Result<i32, Fault> {
        debug_assert_eq!(size_of::<T>(), size_of_argument(op));
        let arg: *mut T = arg;
        // SAFETY: `arg` is an exclusive borrow of a `T`, valid for any bytes. The rest is
        // promised by the caller.
        unsafe { self.call.call(fd.as_fd(), op, arg.cast()) }
            .map_err(|errno| Fault::new(Step::Request, errno))
    }

    /// Sends a command to the filter of `device`, with an argument that holds no address.
    fn control<T>(&self, device: &Path, cmd: u32, argument: &mut T) -> Result<i32, Fault>
    where
        T: FromBytes + IntoBytes + Immutable,
    {
        // SAFETY: There is no address in `argument`.
        unsafe { self.control_with_address(device, cmd, argument) }
    }

    /// Sends a command to the filter of `device`.
    ///
    /// # Safety
    ///
    /// Addresses inside `argument` must be valid for what the kernel reads and
    /// writes there.
    unsafe fn control_with_address<T>(
        &self,
        device: &Path,
        cmd: u32,
        argument: &mut T,
    ) -> Result<i32, Fault>
    where
        T: FromBytes + IntoBytes + Immutable,
    {
        let (fd, _) = self.open_device(device)?;
        let argument: *mut T = argument;
        let mut ctl = blkfilter_ctl {
            name: filter_name(),
            cmd,
            optlen: length(size_of::<T>())?,
            opt: argument.expose_provenance() as u64,
        };
        // SAFETY: `opt` and `optlen` describe the exclusively borrowed `argument`, which is
        // valid for any bytes. Addresses inside it are the caller's promise.
        unsafe { self.request(&fd, BLKFILTER_CTL, &mut ctl) }
    }
}

impl<C: Call> Kernel for Linux<C> {
    fn version(&self) -> Result<blksnap_version, Fault> {
        let mut version = blksnap_version::new_zeroed();
        // SAFETY: The argument holds no address.
        unsafe { self.request(&self.open_control()?, BLKSNAP_IOCTL_VERSION, &mut version) }?;
        Ok(version)
    }

    fn create(&self, limit: u64, storage: &CStr) -> Result<Uuid, Fault> {
        let mut create = blksnap_snapshot_create {
            limit,
            path: storage.as_ptr().expose_provenance() as u64,
            id: blksnap_uuid { b: [0; 16] },
        };
        // SAFETY: `path` is the address of a NUL-terminated string that is borrowed for the
        // call, and the kernel only reads it.
        unsafe { self.request(&self.open_control()?, BLKSNAP_IOCTL_CREATE, &mut create) }?;
        Ok(Uuid::from_bytes(create.id.b))
    }

    fn append(&self, id: Uuid, storage: &CStr) -> Result<(), Fault> {
        let mut append = blksnap_storage_append {
            id: blksnap_uuid { b: id.into_bytes() },
            path: storage.as_ptr().expose_provenance() as u64,
        };
        let fd = self.open_control()?;
        // SAFETY: `path` is the address of a NUL-terminated string that is borrowed for the
        // call, and the kernel only reads it.
        unsafe { self.request(&fd, BLKSNAP_IOCTL_APPEND_STORAGE, &mut append) }?;
        Ok(())
    }

    fn destroy(&self, id: Uuid) -> Result<(), Fault> {
        let mut id = blksnap_uuid { b: id.into_bytes() };
        // SAFETY: The argument holds no address.
        unsafe { self.request(&self.open_control()?, BLKSNAP_IOCTL_DESTROY, &mut id) }?;
        Ok(())
    }

    fn take(&self, id: Uuid) -> Result<(), Fault> {
        let mut id = blksnap_uuid { b: id.into_bytes() };
        // SAFETY: The argument holds no address.
        unsafe { self.request(&self.open_control()?, BLKSNAP_IOCTL_TAKE, &mut id) }?;
        Ok(())
    }

    fn collect(&self, ids: &mut [Uuid]) -> Result<Collected, Fault> {
        let fd = self.open_control()?;
        let mut room = vec![blksnap_uuid { b: [0; 16] }; ids.len()];
        let mut collect = blksnap_snapshot_collect {
            count: length(room.len())?,
            reserved: 0,
            ids: match room.len() {
                0 => 0,
                _ => room.as_mut_ptr().expose_provenance() as u64,
            },
        };
        // SAFETY: `ids` is the address of `count` ids in `room`, or nothing if there are none.
        let result = unsafe { self.request(&fd, BLKSNAP_IOCTL_COLLECT, &mut collect) };
        let count = collect.count as usize;
        match result {
            // Without room, the first call may also succeed and only tell the number.
            Ok(_) if count > room.len() => Ok(Collected::Need(count)),
            Ok(_) => {
                for (id, raw) in ids.iter_mut().zip(&room[..count]) {
                    *id = Uuid::from_bytes(raw.b);
                }
                Ok(Collected::All(count))
            }
            Err(fault) if fault.errno == Errno::NODATA => Ok(Collected::Need(count)),
            Err(fault) => Err(fault),
        }
    }

    fn wait_event(&self, id: Uuid, timeout_ms: u32) -> Result<Box<blksnap_event>, Fault> {
        let mut event = Box::new(blksnap_event::new_zeroed());
        event.id.b = id.into_bytes();
        event.timeout_ms = timeout_ms;
        // Older clients know of fewer kinds and are told of no others.
        event.code = BLKSNAP_EVENT_KNOWN + BLKSNAP_EVENT_LOW_SPACE;
        let fd = self.open_control()?;
        // SAFETY: The argument holds no address.
        unsafe { self.request(&fd, BLKSNAP_IOCTL_WAIT_EVENT, &mut *event) }?;
        Ok(event)
    }

    fn attach(&self, device: &Path) -> Result<(), Fault> {
        let (fd, _) = self.open_device(device)?;
        let mut attach = blkfilter_attach {
            name: filter_name(),
            opt: 0,
            optlen: 0,
            reserved: 0,
        };
        // SAFETY: There are no options, so the argument holds no address.
        unsafe { self.request(&fd, BLKFILTER_ATTACH, &mut attach) }?;
        Ok(())
    }

    fn detach(&self, device: &Path) -> Result<(), Fault> {
        let (fd, _) = self.open_device(device)?;
        let mut detach = blkfilter_detach {
            name: filter_name(),
        };
        // SAFETY: The argument holds no address.
        unsafe { self.request(&fd, BLKFILTER_DETACH, &mut detach) }?;
        Ok(())
    }

    fn add(&self, device: &Path, id: Uuid) -> Result<(), Fault> {
        let mut add = blksnap_snapshot_add {
            id: blksnap_uuid { b: id.into_bytes() },
        };
        self.control(device, BLKSNAP_FILTER_SNAPSHOT_ADD, &mut add)?;
        Ok(())
    }

    fn snapshot_info(&self, device: &Path) -> Result<blksnap_snapshot_info, Fault> {
        let mut info = blksnap_snapshot_info::new_zeroed();
        self.control(device, BLKSNAP_FILTER_SNAPSHOT_INFO, &mut info)?;
        Ok(info)
    }

    fn tracking_info(&self, device: &Path) -> Result<blksnap_cbt_info, Fault> {
        let mut info = blksnap_cbt_info::new_zeroed();
        self.control(device, BLKSNAP_FILTER_CBT_INFO, &mut info)?;
        Ok(info)
    }

    fn tracking_map(&self, device: &Path, offset: u32, buffer: &mut [u8]) -> Result<usize, Fault> {
        let mut map = blksnap_cbt_map {
            offset,
            length: length(buffer.len())?,
            buffer: buffer.as_mut_ptr().expose_provenance() as u64,
        };
        // SAFETY: `buffer` and `length` describe an exclusive borrow.
        let copied =
            unsafe { self.control_with_address(device, BLKSNAP_FILTER_CBT_MAP, &mut map) }?;
        usize::try_from(copied)
            .ok()
            .filter(|&copied| copied <= buffer.len())
            .ok_or(Fault::new(Step::Request, Errno::PROTO))
    }

    fn mark_dirty(&self, device: &Path, ranges: &[blksnap_sectors]) -> Result<(), Fault> {
        let mut dirty = blksnap_cbt_dirty {
            count: length(ranges.len())?,
            reserved: 0,
            ranges: ranges.as_ptr().expose_provenance() as u64,
        };
        // SAFETY: `ranges` and `count` describe a borrowed slice that the kernel only reads.
        unsafe { self.control_with_address(device, BLKSNAP_FILTER_CBT_DIRTY, &mut dirty) }?;
        Ok(())
    }

    fn device_number(&self, device: &Path) -> Result<(u32, u32), Fault> {
        Ok(self.open_device(device)?.1)
    }

    fn block_devices(&self) -> Result<Vec<PathBuf>, Fault> {
        let class = self.sysfs.join("class/block");
        let fault = |e: std::io::Error| {
            let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
            Fault::new(Step::ListDevices(class.clone()), errno)
        };
        let mut devices = Vec::new();
        for entry in fs::read_dir(&class).map_err(fault)? {
            // A name with a slash is spelled with an exclamation mark in sysfs.
            let name = entry.map_err(fault)?.file_name();
            devices.push(self.node(&name.to_string_lossy().replace('!', "/")));
        }
        devices.sort();
        Ok(devices)
    }

    fn statistics(&self, id: Uuid) -> Result<String, Fault> {
        let path = self.debugfs.join("blksnap").join(id.to_string());
        fs::read_to_string(&path).map_err(|e| {
            let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
            Fault::new(Step::ReadStatistics(path), errno)
        })
    }

    fn node(&self, name: &str) -> PathBuf {
        self.devices.join(name)
    }
}

/// Asks where the blocks of a file are.
pub(crate) fn fiemap(fd: BorrowedFd<'_>, request: &mut FiemapRequest) -> Result<(), Errno> {
    let request: *mut FiemapRequest = request;
    // SAFETY: The structure is the ioctl's argument followed by room for as many extents as its
    // `room` field says, exclusively borrowed and valid for any bytes.
    unsafe { Syscall.call(fd, FIEMAP_IOCTL, request.cast()) }?;
    Ok(())
}

/// Whether this process ignores a signal, as far as that can be found out.
pub fn is_ignored(signal: i32) -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, signal))
}

fn ignores(status: &str, signal: i32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// What the kernel would have seen: the ioctl, its argument and what an address in it points to.
    #[derive(Debug, Default)]
    struct Recorder {
        calls: RefCell<Vec<(u32, Vec<u8>)>>,
        pointed: RefCell<Vec<u8>>,
        /// Where in the argument an address is, and how many bytes it points to.
        address: Option<(usize, usize)>,
        /// Put over the argument.
        answer: Vec<(usize, Vec<u8>)>,
        /// Put where the address points to.
        answer_there: Vec<u8>,
        result: Option<Result<i32, Errno>>,
    }

    impl Call for &Recorder {
        unsafe fn call(&self, _: BorrowedFd<'_>, op: u32, arg: *mut c_void) -> Result<i32, Errno> {
            let size = size_of_argument(op);
            // SAFETY: The argument of `op` has the size that is part of its number.
            let arg = unsafe { std::slice::from_raw_parts_mut(arg.cast::<u8>(), size) };
            self.calls.borrow_mut().push((op, arg.to_vec()));
            if let Some((at, length)) = self.address {
                let address = u64::from_ne_bytes(arg[at..at + 8].try_into().unwrap());
                let there = std::ptr::with_exposed_provenance_mut::<u8>(address as usize);
                // SAFETY: The test says that the argument points to that many bytes.
                let read = unsafe { std::slice::from_raw_parts(there, length) };
                self.pointed.borrow_mut().extend_from_slice(read);
                if !self.answer_there.is_empty() {
                    // SAFETY: As above; answers are given only for arguments that are written.
                    unsafe {
                        std::ptr::copy_nonoverlapping(
                            self.answer_there.as_ptr(),
                            there,
                            self.answer_there.len(),
                        );
                    }
                }
            }
            for (at, bytes) in &self.answer {
                arg[*at..*at + bytes.len()].copy_from_slice(bytes);
            }
            self.result.unwrap_or(Ok(0))
        }
    }

    const ID: Uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);

    fn with_control<'a>(recorder: &'a Recorder, dir: &tempfile::TempDir) -> Linux<&'a Recorder> {
        fs::write(dir.path().join("blksnap-control"), "").unwrap();
        Linux {
            call: recorder,
            devices: dir.path().to_owned(),
            sysfs: dir.path().to_owned(),
            debugfs: dir.path().to_owned(),
            device_type: FileType::BlockDevice,
        }
    }

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn only_call(recorder: &Recorder) -> (u32, Vec<u8>) {
        let calls = recorder.calls.borrow();
        assert_eq!(calls.len(), 1);
        calls[0].clone()
    }

    #[test]
    fn version_is_read() {
        let recorder = Recorder {
            answer: vec![(
                0,
                [2u16, 1, 7, 9]
                    .iter()
                    .flat_map(|v| v.to_ne_bytes())
                    .collect(),
            )],
            ..Recorder::default()
        };
        let dir = dir();
        let version = with_control(&recorder, &dir).version().unwrap();
        assert_eq!(
            (
                version.major,
                version.minor,
                version.revision,
                version.build
            ),
            (2, 1, 7, 9)
        );
        assert_eq!(only_call(&recorder), (0x8008_5600, vec![0; 8]));
    }

    #[test]
    fn append_sends_id_and_path() {
        let recorder = Recorder {
            address: Some((16, 6)),
            ..Recorder::default()
        };
        let dir = dir();
        with_control(&recorder, &dir).append(ID, c"/d/st").unwrap();
        let (op, arg) = only_call(&recorder);
        assert_eq!(op, 0x4018_5606);
        assert_eq!(arg[..16], *ID.as_bytes());
        assert_eq!(*recorder.pointed.borrow(), b"/d/st\0");
    }

    #[test]
    fn statistics_are_read_from_a_file_of_the_snapshot() {
        let recorder = Recorder::default();
        let dir = dir();
        let linux = with_control(&recorder, &dir);
        let fault = linux.statistics(ID).unwrap_err();
        assert_eq!(fault.errno, Errno::NOENT);
        fs::create_dir(dir.path().join("blksnap")).unwrap();
        fs::write(dir.path().join(format!("blksnap/{ID}")), "state held\n").unwrap();
        assert_eq!(linux.statistics(ID).unwrap(), "state held\n");
    }

    #[test]
    fn create_sends_limit_and_path_and_reads_the_id() {
        let recorder = Recorder {
            address: Some((8, 6)),
            answer: vec![(16, ID.as_bytes().to_vec())],
            ..Recorder::default()
        };
        let dir = dir();
        let id = with_control(&recorder, &dir)
            .create(0x1234, c"/d/st")
            .unwrap();
        assert_eq!(id, ID);
        let (op, arg) = only_call(&recorder);
        assert_eq!(op, 0xc020_5601);
        assert_eq!(arg[..8], 0x1234u64.to_ne_bytes());
        assert_eq!(arg[16..], [0; 16]);
        assert_eq!(*recorder.pointed.borrow(), b"/d/st\0");
    }

    #[test]
    fn destroy_and_take_send_the_id() {
        for (op, take) in [(0x4010_5602, false), (0x4010_5603, true)] {
            let recorder = Recorder::default();
            let dir = dir();
            let linux = with_control(&recorder, &dir);
            match take {
                true => linux.take(ID).unwrap(),
                false => linux.destroy(ID).unwrap(),
            }
            assert_eq!(only_call(&recorder), (op, ID.as_bytes().to_vec()));
        }
    }

    #[test]
    fn collect_without_room_sends_no_address() {
        let recorder = Recorder {
            answer: vec![(0, 3u32.to_ne_bytes().to_vec())],
            result: Some(Err(Errno::NODATA)),
            ..Recorder::default()
        };
        let dir = dir();
        let collected = with_control(&recorder, &dir).collect(&mut []).unwrap();
        assert_eq!(collected, Collected::Need(3));
        assert_eq!(only_call(&recorder), (0x8010_5604, vec![0; 16]));
    }

    #[test]
    fn collect_fills_the_ids() {
        let recorder = Recorder {
            address: Some((8, 32)),
            answer: vec![(0, 1u32.to_ne_bytes().to_vec())],
            answer_there: ID.as_bytes().to_vec(),
            ..Recorder::default()
        };
        let dir = dir();
        let mut ids = [Uuid::nil(); 2];
        let collected = with_control(&recorder, &dir).collect(&mut ids).unwrap();
        assert_eq!(collected, Collected::All(1));
        assert_eq!(ids, [ID, Uuid::nil()]);
        assert_eq!(only_call(&recorder).1[..4], 2u32.to_ne_bytes());
    }

    #[test]
    fn a_count_beyond_the_room_is_not_believed() {
        let recorder = Recorder {
            answer: vec![(0, 9u32.to_ne_bytes().to_vec())],
            ..Recorder::default()
        };
        let dir = dir();
        let mut ids = [Uuid::nil(); 2];
        let collected = with_control(&recorder, &dir).collect(&mut ids).unwrap();
        assert_eq!(collected, Collected::Need(9));
    }

    #[test]
    fn wait_sends_id_and_timeout() {
        let recorder = Recorder {
            answer: vec![(20, 1u32.to_ne_bytes().to_vec())],
            ..Recorder::default()
        };
        let dir = dir();
        let event = with_control(&recorder, &dir).wait_event(ID, 1500).unwrap();
        assert_eq!(event.code, BLKSNAP_EVENT_NO_SPACE);
        let (op, arg) = only_call(&recorder);
        assert_eq!((op, arg.len()), (0x9000_5605, 4096));
        assert_eq!(arg[..16], *ID.as_bytes());
        assert_eq!(arg[16..20], 1500u32.to_ne_bytes());
        let known = BLKSNAP_EVENT_KNOWN + BLKSNAP_EVENT_LOW_SPACE;
        assert_eq!(arg[20..24], known.to_ne_bytes());
        assert!(arg[24..].iter().all(|&b| b == 0));
    }

    #[test]
    fn a_missing_control_device_is_told_apart_from_a_failed_request() {
        let recorder = Recorder::default();
        let linux = Linux {
            call: &recorder,
            devices: "/nonexistent".into(),
            sysfs: "/nonexistent".into(),
            debugfs: "/nonexistent".into(),
            device_type: FileType::BlockDevice,
        };
        let fault = linux.version().unwrap_err();
        assert!(matches!(fault.step, Step::OpenControl(_)));
        assert_eq!(fault.errno, Errno::NOENT);
        assert!(recorder.calls.borrow().is_empty());
    }

    #[test]
    fn what_is_not_a_block_device_is_refused_before_any_request() {
        let recorder = Recorder::default();
        let dir = dir();
        let linux = with_control(&recorder, &dir);
        let fault = linux
            .attach(&dir.path().join("blksnap-control"))
            .unwrap_err();
        assert_eq!(fault.errno, Errno::NOTBLK);
        assert!(recorder.calls.borrow().is_empty());
    }

    #[test]
    fn ignored_signals_are_known() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        let ignored: Vec<_> = (1..=64).filter(|&s| ignores(status, s)).collect();
        assert_eq!(ignored, [1, 13]);
        assert!(!ignores("", 1));
        // Rust sees to this one.
        assert!(is_ignored(13));
    }

    const DEVICE: &str = "/dev/null";

    fn on_device(recorder: &Recorder) -> Linux<&Recorder> {
        Linux {
            call: recorder,
            devices: "/dev".into(),
            sysfs: "/sys".into(),
            debugfs: "/nonexistent".into(),
            device_type: FileType::CharacterDevice,
        }
    }

    #[test]
    fn a_device_has_a_number() {
        let recorder = Recorder::default();
        let number = on_device(&recorder).device_number(DEVICE.as_ref());
        assert_eq!(number.unwrap(), (1, 3));
    }

    #[test]
    fn the_name_is_padded_with_nuls() {
        let name = filter_name();
        assert_eq!(name[..7], *b"blksnap");
        assert_eq!(name[7..], [0; 25]);
    }

    #[test]
    fn attach_and_detach_send_the_name() {
        let recorder = Recorder::default();
        let (linux, device) = (on_device(&recorder), Path::new(DEVICE));
        linux.attach(device).unwrap();
        linux.detach(device).unwrap();
        let calls = recorder.calls.borrow();
        assert_eq!(calls[0].0, 0xc030_128e);
        assert_eq!(calls[0].1[..32], filter_name());
        assert_eq!(calls[0].1[32..], [0; 16]);
        assert_eq!(calls[1], (0xc020_128f, filter_name().to_vec()));
    }

    #[test]
    fn add_sends_the_id_through_the_filter() {
        let recorder = Recorder {
            address: Some((40, 16)),
            ..Recorder::default()
        };
        let (linux, device) = (on_device(&recorder), Path::new(DEVICE));
        linux.add(device, ID).unwrap();
        let (op, arg) = only_call(&recorder);
        assert_eq!(op, 0xc030_1290);
        assert_eq!(arg[32..36], 3u32.to_ne_bytes());
        assert_eq!(arg[36..40], 16u32.to_ne_bytes());
        assert_eq!(*recorder.pointed.borrow(), *ID.as_bytes());
    }

    #[test]
    fn info_reads_what_the_address_points_to() {
        let mut answer = vec![0; 36];
        answer[..4].copy_from_slice(&(-28i32).to_ne_bytes());
        answer[4..16].copy_from_slice(b"blksnap-8-16");
        let recorder = Recorder {
            address: Some((40, 36)),
            answer_there: answer,
            ..Recorder::default()
        };
        let (linux, device) = (on_device(&recorder), Path::new(DEVICE));
        let info = linux.snapshot_info(device).unwrap();
        assert_eq!(info.error, -28);
        assert!(info.image.starts_with(b"blksnap-8-16\0"));
    }

    #[test]
    fn the_map_returns_the_bytes_copied() {
        let recorder = Recorder {
            address: Some((40, 16)),
            result: Some(Ok(3)),
            ..Recorder::default()
        };
        let (linux, device) = (on_device(&recorder), Path::new(DEVICE));
        let mut buffer = [0; 8];
        assert_eq!(linux.tracking_map(device, 5, &mut buffer).unwrap(), 3);
        let sent = recorder.pointed.borrow();
        assert_eq!(sent[..4], 5u32.to_ne_bytes());
        assert_eq!(sent[4..8], 8u32.to_ne_bytes());
        assert_eq!(
            sent[8..],
            (buffer.as_ptr().expose_provenance() as u64).to_ne_bytes()
        );
    }

    #[test]
    fn more_bytes_than_asked_for_are_an_error() {
        let recorder = Recorder {
            result: Some(Ok(9)),
            ..Recorder::default()
        };
        let (linux, device) = (on_device(&recorder), Path::new(DEVICE));
        let fault = linux.tracking_map(device, 0, &mut [0; 8]).unwrap_err();
        assert_eq!(fault.errno, Errno::PROTO);
    }
}
