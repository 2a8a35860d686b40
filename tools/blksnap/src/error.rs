// SPDX-License-Identifier: GPL-2.0

//! What went wrong, in one sentence with a hint, and the exit code it gives.

use rustix::io::Errno;
use serde::Serialize;
use std::path::PathBuf;

/// Which part of a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Opening the control device.
    OpenControl(PathBuf),
    /// Opening a block device.
    OpenDevice(PathBuf),
    /// Listing the block devices.
    ListDevices(PathBuf),
    /// Reading what the driver tells in debugfs.
    ReadStatistics(PathBuf),
    /// The ioctl itself.
    Request,
}

/// An error code and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The part that failed.
    pub step: Step,
    /// The kernel's answer.
    pub errno: Errno,
}

impl Fault {
    /// Puts the two together.
    pub fn new(step: Step, errno: Errno) -> Self {
        Fault { step, errno }
    }

    /// Whether the ioctl itself gave this code.
    pub fn is(&self, errno: Errno) -> bool {
        self.step == Step::Request && self.errno == errno
    }
}

/// Kinds of failure; the number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nothing of the below.
    Other = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// There is no such snapshot, device or file.
    NotFound = 3,
    /// Something else uses it, or it is there already.
    Busy = 4,
    /// Not allowed.
    Denied = 5,
    /// Out of space or memory.
    NoSpace = 6,
    /// The kernel cannot do that.
    Unsupported = 7,
    /// Nothing happened in time.
    Timeout = 8,
    /// The file cannot be a difference storage.
    Unsuitable = 9,
    /// Stopped by the user.
    Interrupted = 130,
}

/// The kinds as the help text tells them.
pub const EXIT_STATUS: &[(Kind, &str)] = &[
    (Kind::Other, "an error that none of the following describes"),
    (Kind::Usage, "the command line makes no sense"),
    (Kind::NotFound, "no such snapshot, device, filter or file"),
    (Kind::Busy, "in use, or there already"),
    (Kind::Denied, "not permitted"),
    (
        Kind::NoSpace,
        "no space or memory left, or the image overflowed",
    ),
    (Kind::Unsupported, "the kernel or the device cannot do that"),
    (Kind::Timeout, "no event in time"),
    (Kind::Unsuitable, "the file cannot be a difference storage"),
    (
        Kind::Interrupted,
        "interrupted; what was begun has been undone",
    ),
];

/// A failure as the user sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{message}")]
pub struct Failure {
    /// The kind, which gives the exit code.
    pub kind: Kind,
    /// One sentence, without a full stop.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Name of the kernel's error code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Failure {
            kind,
            message: message.into(),
            hint: None,
            errno: None,
        }
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn errno(mut self, errno: Errno) -> Self {
        self.errno = Some(errno_name(errno));
        self
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        self.kind as u8
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::new(Kind::Other, format!("cannot write the output: {error}"))
    }
}

/// The name of an error code, or its number if it is not one this interface uses.
pub fn errno_name(errno: Errno) -> String {
    let name = match errno {
        Errno::PERM => "EPERM",
        Errno::NOENT => "ENOENT",
        Errno::SRCH => "ESRCH",
        Errno::INTR => "EINTR",
        Errno::IO => "EIO",
        Errno::NXIO => "ENXIO",
        Errno::TOOBIG => "E2BIG",
        Errno::AGAIN => "EAGAIN",
        Errno::NOMEM => "ENOMEM",
        Errno::ACCESS => "EACCES",
        Errno::FAULT => "EFAULT",
        Errno::NOTBLK => "ENOTBLK",
        Errno::BUSY => "EBUSY",
        Errno::EXIST => "EEXIST",
        Errno::NODEV => "ENODEV",
        Errno::NOTDIR => "ENOTDIR",
        Errno::ISDIR => "EISDIR",
        Errno::INVAL => "EINVAL",
        Errno::NOTTY => "ENOTTY",
        Errno::TXTBSY => "ETXTBSY",
        Errno::FBIG => "EFBIG",
        Errno::NOSPC => "ENOSPC",
        Errno::ROFS => "EROFS",
        Errno::LOOP => "ELOOP",
        Errno::NAMETOOLONG => "ENAMETOOLONG",
        Errno::NODATA => "ENODATA",
        Errno::PROTO => "EPROTO",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::ALREADY => "EALREADY",
        Errno::STALE => "ESTALE",
        Errno::RANGE => "ERANGE",
        Errno::OVERFLOW => "EOVERFLOW",
        Errno::MEDIUMTYPE => "EMEDIUMTYPE",
        Errno::DQUOT => "EDQUOT",
        other => return format!("errno {}", other.raw_os_error()),
    };
    name.to_owned()
}

/// What was being done, with the names the sentence needs.
#[derive(Debug, Clone)]
pub enum Doing<'a> {
    /// Asking for the version.
    Version,
    /// Making a snapshot with this storage.
    Create(&'a str),
    /// Adding this storage to a snapshot.
    Append(&'a str, &'a str),
    /// Dropping a snapshot.
    Destroy(&'a str),
    /// Taking a snapshot.
    Take(&'a str),
    /// Listing snapshots.
    Collect,
    /// Waiting for an event of a snapshot.
    Wait(&'a str),
    /// Putting the filter on a device.
    Attach(&'a str),
    /// Taking it off.
    Detach(&'a str),
    /// Adding a device to a snapshot.
    Add(&'a str, &'a str),
    /// Asking about a device's image.
    Info(&'a str),
    /// Asking about, or changing, change tracking of a device.
    Tracking(&'a str),
    /// Looking at a device.
    Look(&'a str),
    /// Asking what a snapshot is doing.
    Statistics(&'a str),
}

const LOG: &str = "the kernel log names the reason, see `dmesg | tail`";

impl Doing<'_> {
    /// What the request was to achieve, as the start of a sentence.
    fn cannot(&self) -> String {
        match self {
            Doing::Version => "cannot read the driver's version".into(),
            Doing::Create(path) => format!("cannot make a snapshot with the storage {path}"),
            Doing::Append(path, id) => {
                format!("cannot add the storage {path} to the snapshot {id}")
            }
            Doing::Destroy(id) => format!("cannot destroy the snapshot {id}"),
            Doing::Take(id) => format!("cannot take the snapshot {id}"),
            Doing::Collect => "cannot list the snapshots".into(),
            Doing::Wait(id) => format!("cannot wait for an event of the snapshot {id}"),
            Doing::Attach(device) => format!("cannot attach the filter to {device}"),
            Doing::Detach(device) => format!("cannot detach the filter from {device}"),
            Doing::Add(device, id) => format!("cannot add {device} to the snapshot {id}"),
            Doing::Info(device) => format!("cannot read the state of {device}"),
            Doing::Tracking(device) => format!("cannot use change tracking on {device}"),
            Doing::Look(device) => format!("cannot use {device}"),
            Doing::Statistics(id) => format!("cannot read the statistics of the snapshot {id}"),
        }
    }

    /// Turns an error code into a cause and what to do.
    pub fn failed(&self, fault: &Fault) -> Failure {
        let (kind, cause, hint) = match &fault.step {
            Step::OpenControl(path) => open_control(fault.errno, &path.display().to_string()),
            Step::OpenDevice(_) => open_device(fault.errno),
            Step::ListDevices(path) => (
                Kind::Other,
                format!("{} cannot be read", path.display()),
                "mount sysfs there".to_owned(),
            ),
            Step::ReadStatistics(path) => read_statistics(fault.errno, &path.display().to_string()),
            Step::Request => self.request(fault.errno),
        };
        let failure = Failure::new(kind, format!("{}: {cause}", self.cannot())).errno(fault.errno);
        match hint.as_str() {
            "" => failure,
            _ => failure.hint(hint),
        }
    }

    fn request(&self, errno: Errno) -> (Kind, String, String) {
        use Doing::*;
        let is_device = matches!(
            self,
            Attach(_) | Detach(_) | Add(..) | Info(_) | Tracking(_) | Look(_)
        );
        let (kind, cause, hint) = match (self, errno) {
            (Attach(_), Errno::ALREADY) => (Kind::Busy, "it is attached already", ""),
            (Attach(_), Errno::BUSY) => (
                Kind::Busy,
                "another filter is attached",
                "detach that one first with the tool it came with",
            ),
            (Attach(_), Errno::NOENT) => (
                Kind::Unsupported,
                "the kernel knows no filter of the name blksnap",
                "load the driver with `modprobe blksnap`",
            ),
            (Attach(_), Errno::OPNOTSUPP | Errno::INVAL) => (
                Kind::Unsupported,
                "the driver cannot handle this kind of device",
                LOG,
            ),
            (Detach(_) | Info(_) | Tracking(_), Errno::NOENT) => (
                Kind::NotFound,
                "no filter is attached",
                "`blksnap info` lists the devices that have one",
            ),
            (Detach(_) | Info(_) | Tracking(_) | Add(..), Errno::INVAL)
                if !matches!(self, Tracking(_)) =>
            {
                (
                    Kind::Busy,
                    "another filter than blksnap is attached, or the request is not valid for it",
                    "detach that filter first with the tool it came with",
                )
            }
            (Tracking(_), Errno::INVAL | Errno::RANGE) => (
                Kind::Usage,
                "the range is not on the device",
                "`blksnap cbt info` tells the size",
            ),
            (Detach(_), Errno::BUSY) => (
                Kind::Busy,
                "the device is in a snapshot",
                "destroy the snapshot first, `blksnap list` shows it",
            ),
            (_, Errno::SRCH) => (
                Kind::NotFound,
                "there is no such snapshot",
                "`blksnap list` shows those there are",
            ),
            (Add(..), Errno::NOENT) => (
                Kind::NotFound,
                "no filter is attached",
                "attach it with `blksnap attach`",
            ),
            (Add(..), Errno::BUSY | Errno::ALREADY | Errno::EXIST) => (
                Kind::Busy,
                "the device is in a snapshot already, or the snapshot has been taken",
                "a device can be in one snapshot at a time; `blksnap info` shows its state",
            ),
            (Wait(_), Errno::NOENT) => (Kind::Timeout, "nothing happened in time", ""),
            (Take(_), Errno::NODEV) => (
                Kind::NotFound,
                "no device has been added, or one has vanished",
                "add a device with `blksnap add`",
            ),
            (Take(_), Errno::BUSY | Errno::ALREADY) => {
                (Kind::Busy, "it has been taken already", "")
            }
            (Take(_), Errno::NOSPC) => (
                Kind::NoSpace,
                "the difference storage is full",
                "make a larger storage with `blksnap storage create`",
            ),
            (Destroy(_), Errno::BUSY) => (
                Kind::Busy,
                "an image is in use",
                "unmount the images first, `findmnt` shows where they are mounted",
            ),
            (Create(_) | Append(..), Errno::NOENT | Errno::NOTDIR) => (
                Kind::NotFound,
                "there is no such file",
                "make it with `blksnap storage create`",
            ),
            (Create(_) | Append(..), Errno::ACCESS) => (
                Kind::Denied,
                "the file may not be opened for reading and writing",
                "check the permissions of the file and of the folders above it",
            ),
            (Create(_) | Append(..), Errno::PERM) => (
                Kind::Denied,
                "not permitted, or the file is immutable or append-only",
                "run this as root and look at the file with `lsattr`",
            ),
            (Create(_) | Append(..), Errno::BUSY | Errno::TXTBSY) => (
                Kind::Busy,
                "something else uses it: another snapshot, swap, a mount or a writer",
                "close what has it open, `fuser -v` on the file shows it; the kernel log names the reason",
            ),
            (Create(_) | Append(..), Errno::ISDIR | Errno::LOOP | Errno::NAMETOOLONG) => (
                Kind::Unsuitable,
                "it is no regular file or block device",
                "make a file with `blksnap storage create`",
            ),
            (Create(_) | Append(..), Errno::ROFS) => (
                Kind::Denied,
                "its filesystem is read-only",
                "put the storage on a filesystem that can be written",
            ),
            (
                Create(_) | Append(..),
                Errno::INVAL | Errno::OPNOTSUPP | Errno::MEDIUMTYPE | Errno::RANGE,
            ) => (
                Kind::Unsuitable,
                "the file cannot be a difference storage",
                "`blksnap storage check` on the file and `dmesg | tail` tell why; `blksnap storage create` makes one that can",
            ),
            (Append(..), Errno::MFILE) => (
                Kind::NoSpace,
                "the storage is on as many devices as it can be",
                "",
            ),
            (Append(..), Errno::NOTTY) => (
                Kind::Unsupported,
                "this kernel's blksnap cannot add storage to a snapshot",
                "make a larger storage with `blksnap storage create`, for the next snapshot",
            ),
            (Create(_) | Append(..), Errno::FBIG | Errno::OVERFLOW) => (
                Kind::Usage,
                "the limit is too large",
                "give a smaller --limit",
            ),
            (Create(_) | Append(..), Errno::NOSPC | Errno::DQUOT) => (
                Kind::NoSpace,
                "the file is too small, or there is no space left on its filesystem",
                "make room, or make a larger storage with `blksnap storage create`",
            ),
            (Wait(_), Errno::NOTTY) => (
                Kind::Unsupported,
                "this kernel's blksnap does not report events yet",
                "poll `blksnap info` instead, it shows the error of an image",
            ),
            (Wait(_), Errno::NODATA | Errno::TIMEDOUT) => {
                (Kind::Timeout, "nothing happened in time", "")
            }
            (Tracking(_), Errno::NOTTY) => (
                Kind::Unsupported,
                "this kernel's blksnap does not track changes yet",
                "",
            ),
            (_, Errno::NOTTY) if is_device => (
                Kind::Unsupported,
                "the kernel has no block filters, or the filter takes no commands",
                "boot a kernel that has the block filter and the blksnap driver",
            ),
            (_, Errno::NOTTY) => (
                Kind::Unsupported,
                "this kernel's blksnap does not know the request",
                "`blksnap version` shows which version it is",
            ),
            (_, Errno::NODEV | Errno::NXIO) if is_device => {
                (Kind::NotFound, "the device has gone", "")
            }
            (_, Errno::PERM | Errno::ACCESS) => (Kind::Denied, "not permitted", "run this as root"),
            (_, Errno::NOMEM) => (
                Kind::NoSpace,
                "the kernel is out of memory",
                "free some memory and try again",
            ),
            (_, Errno::INTR) => (Kind::Interrupted, "interrupted", ""),
            (_, Errno::IO) => (Kind::Other, "a device reported an I/O error", LOG),
            _ => {
                let text = std::io::Error::from(errno).to_string();
                return (Kind::Other, text, LOG.to_owned());
            }
        };
        (kind, cause.to_owned(), hint.to_owned())
    }
}

fn open_control(errno: Errno, path: &str) -> (Kind, String, String) {
    match errno {
        Errno::NOENT | Errno::NXIO | Errno::NODEV => (
            Kind::Unsupported,
            format!("the blksnap driver is not loaded, there is no {path}"),
            "load it with `modprobe blksnap`; if that fails, this kernel was built without it"
                .into(),
        ),
        Errno::ACCESS | Errno::PERM => (
            Kind::Denied,
            format!("{path} may not be opened"),
            "run this as root".into(),
        ),
        _ => (
            Kind::Other,
            format!("opening {path}: {}", std::io::Error::from(errno)),
            String::new(),
        ),
    }
}

fn read_statistics(errno: Errno, path: &str) -> (Kind, String, String) {
    match errno {
        Errno::NOENT => (
            Kind::NotFound,
            format!("there is no {path}"),
            "`blksnap list` shows the snapshots; the file needs debugfs, mounted with \
             `mount -t debugfs none /sys/kernel/debug`"
                .into(),
        ),
        Errno::ACCESS | Errno::PERM => (
            Kind::Denied,
            format!("{path} may not be read"),
            "run this as root".into(),
        ),
        _ => (
            Kind::Other,
            format!("{path}: {}", std::io::Error::from(errno)),
            String::new(),
        ),
    }
}

fn open_device(errno: Errno) -> (Kind, String, String) {
    let (kind, cause, hint) = match errno {
        Errno::NOENT | Errno::NOTDIR => (
            Kind::NotFound,
            "there is no such device",
            "`lsblk` shows the devices there are",
        ),
        Errno::NOTBLK => (
            Kind::Usage,
            "it is no block device",
            "name the device a filesystem is on, `findmnt` shows it",
        ),
        Errno::NXIO | Errno::NODEV => (Kind::NotFound, "there is no device behind it", ""),
        Errno::MEDIUMTYPE => (Kind::NotFound, "there is no medium in it", ""),
        Errno::ACCESS | Errno::PERM => (Kind::Denied, "it may not be opened", "run this as root"),
        _ => {
            let text = std::io::Error::from(errno).to_string();
            return (Kind::Other, text, String::new());
        }
    };
    (kind, cause.to_owned(), hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(errno: Errno) -> Fault {
        Fault::new(Step::Request, errno)
    }

    #[test]
    fn each_code_of_the_interface_has_a_cause_of_its_own() {
        use Doing::*;
        let cases = [
            (Attach("d"), Errno::ALREADY, Kind::Busy, "attached already"),
            (Attach("d"), Errno::BUSY, Kind::Busy, "another filter"),
            (
                Attach("d"),
                Errno::NOENT,
                Kind::Unsupported,
                "knows no filter",
            ),
            (Attach("d"), Errno::NODEV, Kind::NotFound, "gone"),
            (
                Attach("d"),
                Errno::NOTTY,
                Kind::Unsupported,
                "no block filters",
            ),
            (Detach("d"), Errno::NOENT, Kind::NotFound, "no filter"),
            (Detach("d"), Errno::INVAL, Kind::Busy, "another filter"),
            (Detach("d"), Errno::BUSY, Kind::Busy, "in a snapshot"),
            (
                Add("d", "s"),
                Errno::SRCH,
                Kind::NotFound,
                "no such snapshot",
            ),
            (Add("d", "s"), Errno::NOENT, Kind::NotFound, "no filter"),
            (Take("s"), Errno::SRCH, Kind::NotFound, "no such snapshot"),
            (
                Append("f", "s"),
                Errno::SRCH,
                Kind::NotFound,
                "no such snapshot",
            ),
            (Append("f", "s"), Errno::BUSY, Kind::Busy, "something else"),
            (
                Append("f", "s"),
                Errno::NOTTY,
                Kind::Unsupported,
                "cannot add",
            ),
            (Wait("s"), Errno::NOENT, Kind::Timeout, "in time"),
            (Take("s"), Errno::NODEV, Kind::NotFound, "no device"),
            (Take("s"), Errno::NOSPC, Kind::NoSpace, "full"),
            (
                Destroy("s"),
                Errno::SRCH,
                Kind::NotFound,
                "no such snapshot",
            ),
            (Destroy("s"), Errno::BUSY, Kind::Busy, "in use"),
            (Create("f"), Errno::NOENT, Kind::NotFound, "no such file"),
            (Create("f"), Errno::INVAL, Kind::Unsuitable, "cannot be"),
            (Create("f"), Errno::BUSY, Kind::Busy, "something else"),
            (Create("f"), Errno::PERM, Kind::Denied, "immutable"),
            (
                Wait("s"),
                Errno::NOTTY,
                Kind::Unsupported,
                "does not report events",
            ),
            (
                Tracking("d"),
                Errno::NOTTY,
                Kind::Unsupported,
                "does not track",
            ),
            (Tracking("d"), Errno::INVAL, Kind::Usage, "range"),
            (Collect, Errno::PERM, Kind::Denied, "not permitted"),
        ];
        for (doing, errno, kind, words) in cases {
            let failure = doing.failed(&request(errno));
            assert_eq!(failure.kind, kind, "{doing:?} {errno:?}");
            assert!(failure.message.contains(words), "{doing:?}: {failure}");
            assert!(!failure.message.contains('\n') && !failure.message.ends_with('.'));
            assert_eq!(failure.errno, Some(errno_name(errno)));
        }
    }

    #[test]
    fn a_code_nobody_expects_still_makes_a_sentence() {
        let failure = Doing::Take("s").failed(&request(Errno::from_raw_os_error(133)));
        assert_eq!(failure.kind, Kind::Other);
        assert_eq!(failure.errno.as_deref(), Some("errno 133"));
        assert!(failure.hint.is_some());
    }

    #[test]
    fn a_missing_driver_is_not_a_missing_snapshot() {
        let step = Step::OpenControl("/dev/blksnap-control".into());
        let failure = Doing::Take("s").failed(&Fault::new(step, Errno::NOENT));
        assert_eq!(failure.kind, Kind::Unsupported);
        assert!(failure.hint.unwrap().contains("modprobe"));
    }

    #[test]
    fn exit_codes_are_listed_and_differ() {
        let mut codes: Vec<_> = EXIT_STATUS.iter().map(|(kind, _)| *kind as u8).collect();
        assert!(codes.is_sorted());
        codes.dedup();
        assert_eq!(codes.len(), EXIT_STATUS.len());
    }
}
