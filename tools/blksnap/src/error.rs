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
    /// The command line cannot be acted on.
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
    /// The file cannot be difference storage, or must not be for what it contains.
    Unsuitable = 9,
    /// Stopped by the user.
    Interrupted = 130,
    /// Nobody reads the output; the number is what a shell makes of SIGPIPE.
    Unread = 141,
}

/// The kinds as the help text tells them.
pub const EXIT_STATUS: &[(Kind, &str)] = &[
    (Kind::Other, "an error that none of the following describes"),
    (Kind::Usage, "usage error"),
    (Kind::NotFound, "no such snapshot, device, filter or file"),
    (Kind::Busy, "in use, or there already"),
    (Kind::Denied, "not permitted"),
    (
        Kind::NoSpace,
        "no space or memory left, or the image overflowed",
    ),
    (Kind::Unsupported, "the kernel or the device cannot do that"),
    (Kind::Timeout, "no event in time"),
    (
        Kind::Unsuitable,
        "the file cannot be difference storage, or contains data",
    ),
    (
        Kind::Interrupted,
        "interrupted; what was begun has been undone",
    ),
    (
        Kind::Unread,
        "nobody reads the output any more; not reported",
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
    /// What else failed, where several things were to be done; each is told by itself.
    #[serde(skip)]
    pub more: Vec<Failure>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Failure {
            kind,
            message: message.into(),
            hint: None,
            errno: None,
            more: Vec::new(),
        }
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what failed later; the exit code stays that of the first.
    pub fn and(mut self, mut later: Failure) -> Self {
        let more = std::mem::take(&mut later.more);
        self.more.push(later);
        self.more.extend(more);
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
        let kind = match error.kind() {
            std::io::ErrorKind::BrokenPipe => Kind::Unread,
            _ => Kind::Other,
        };
        Failure::new(kind, format!("cannot write the output: {error}"))
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
        Errno::NOMEDIUM => "ENOMEDIUM",
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
    /// Destroying a snapshot.
    Destroy(&'a str),
    /// Taking a snapshot.
    Take(&'a str),
    /// Listing snapshots.
    Collect,
    /// Waiting for an event of a snapshot.
    Wait(&'a str),
    /// Attaching the filter to a device.
    Attach(&'a str),
    /// Detaching it.
    Detach(&'a str),
    /// Adding a device to a snapshot.
    Add(&'a str, &'a str),
    /// Asking about a device's image.
    Info(&'a str),
    /// Asking about change tracking of a device.
    Tracking(&'a str),
    /// Marking ranges of a device as changed.
    MarkDirty(&'a str),
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
            Doing::Create(path) => format!("cannot create a snapshot with the storage {path}"),
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
            Doing::MarkDirty(device) => format!("cannot mark ranges of {device} as changed"),
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
        let cause = match self {
            Create(_) => storage(errno),
            Append(..) => append(errno).or_else(|| storage(errno)),
            Destroy(_) => destroy(errno),
            Take(_) => take(errno),
            Wait(_) => wait(errno),
            Attach(_) => attach(errno).or_else(|| device(errno)),
            Detach(_) => detach(errno).or_else(|| filtered(errno)),
            Add(..) => add(errno).or_else(|| filtered(errno)),
            Info(_) => filtered(errno),
            Tracking(_) => tracking(errno).or_else(|| filtered(errno)),
            MarkDirty(_) => mark_dirty(errno)
                .or_else(|| tracking(errno))
                .or_else(|| filtered(errno)),
            Look(_) => device(errno),
            Version | Collect | Statistics(_) => None,
        };
        match cause.or_else(|| any(errno)) {
            Some((kind, cause, hint)) => (kind, cause.to_owned(), hint.to_owned()),
            None => {
                let text = std::io::Error::from(errno).to_string();
                (Kind::Other, text, LOG.to_owned())
            }
        }
    }
}

/// What a code means: the kind, the cause and a hint, which may be empty.
type Cause = (Kind, &'static str, &'static str);

/// Any request may fail like this.
fn any(errno: Errno) -> Option<Cause> {
    Some(match errno {
        Errno::SRCH => (
            Kind::NotFound,
            "there is no such snapshot",
            "`blksnap list` shows those there are",
        ),
        Errno::NOTTY => (
            Kind::Unsupported,
            "this kernel's blksnap does not know the request",
            "`blksnap version` shows which version it is",
        ),
        Errno::PERM | Errno::ACCESS => (Kind::Denied, "not permitted", "run this as root"),
        Errno::NOMEM => (
            Kind::NoSpace,
            "the kernel is out of memory",
            "free some memory and try again",
        ),
        Errno::INTR => (Kind::Interrupted, "interrupted", ""),
        Errno::IO => (Kind::Other, "a device reported an I/O error", LOG),
        _ => return None,
    })
}

/// The storage of a new snapshot, or more of it.
fn storage(errno: Errno) -> Option<Cause> {
    Some(match errno {
        Errno::NOENT | Errno::NOTDIR => (
            Kind::NotFound,
            "there is no such file",
            "make it with `blksnap storage create`",
        ),
        Errno::ACCESS => (
            Kind::Denied,
            "the file may not be opened for reading and writing",
            "check the permissions of the file and of the directories above it",
        ),
        Errno::PERM => (
            Kind::Denied,
            "not permitted, or the file is immutable or append-only",
            "run this as root and look at the file with `lsattr`",
        ),
        Errno::BUSY | Errno::TXTBSY => (
            Kind::Busy,
            "something else uses it (another snapshot, swap, a mount or a writer), or it is on an \
             image or on a device of which a snapshot is held",
            "`fuser -v` on the file shows what has it open; on a device of which a snapshot is \
             held, nothing becomes storage until `blksnap destroy` ends that snapshot",
        ),
        Errno::ISDIR | Errno::LOOP | Errno::NAMETOOLONG => (
            Kind::Unsuitable,
            "it is not a regular file or a block device",
            "make a file with `blksnap storage create`",
        ),
        Errno::ROFS => (
            Kind::Denied,
            "it or its filesystem is read-only",
            "put the storage where it can be written",
        ),
        Errno::AGAIN => (
            Kind::Busy,
            "its filesystem is frozen, and it would have to be emptied first",
            "thaw the filesystem with `fsfreeze -u`, and try again",
        ),
        Errno::INVAL | Errno::OPNOTSUPP | Errno::MEDIUMTYPE | Errno::RANGE => (
            Kind::Unsuitable,
            "the file cannot be difference storage",
            "`blksnap storage check` on the file and `dmesg | tail` tell why; `blksnap storage \
             create` makes one that can",
        ),
        Errno::FBIG | Errno::OVERFLOW => (
            Kind::Usage,
            "the limit is too large",
            "give a smaller --limit",
        ),
        Errno::NOSPC | Errno::DQUOT => (
            Kind::NoSpace,
            "the file is too small, or there is no space left on its filesystem",
            "make room, or make a larger storage with `blksnap storage create`",
        ),
        _ => return None,
    })
}

fn append(errno: Errno) -> Option<Cause> {
    Some(match errno {
        Errno::MFILE => (
            Kind::NoSpace,
            "the storage is on as many devices as it can be",
            "",
        ),
        Errno::NOTTY => (
            Kind::Unsupported,
            "this kernel's blksnap cannot add storage to a snapshot",
            "make a larger storage with `blksnap storage create`, for the next snapshot",
        ),
        _ => return None,
    })
}

fn destroy(errno: Errno) -> Option<Cause> {
    Some(match errno {
        Errno::BUSY => (
            Kind::Busy,
            "it is being created, taken or destroyed by somebody else",
            "try again when that is done",
        ),
        _ => return None,
    })
}

fn take(errno: Errno) -> Option<Cause> {
    Some(match errno {
        Errno::NODEV => (
            Kind::NotFound,
            "no device has been added, or one has vanished",
            "add a device with `blksnap add`",
        ),
        Errno::ALREADY => (Kind::Busy, "it has been taken already", ""),
        Errno::BUSY => (
            Kind::Busy,
            "somebody else is working on it or on one of its devices",
            "try again; the kernel log may name the reason, see `dmesg | tail`",
        ),
        Errno::INVAL => (
            Kind::Unsuitable,
            "the storage is on top of a device that is to be snapshotted, or a device is storage \
             itself",
            "put the storage elsewhere; the kernel log names the devices, see `dmesg | tail`",
        ),
        Errno::TIMEDOUT => (
            Kind::Busy,
            "a device could not be brought to rest",
            "try again when there is less to write; `dmesg | tail` may tell more",
        ),
        Errno::NOSPC => (
            Kind::NoSpace,
            "the difference storage is full",
            "make a larger storage with `blksnap storage create`",
        ),
        _ => return None,
    })
}

fn wait(errno: Errno) -> Option<Cause> {
    Some(match errno {
        Errno::NOENT | Errno::NODATA | Errno::TIMEDOUT => {
            (Kind::Timeout, "nothing happened in time", "")
        }
        Errno::NOTTY => (
            Kind::Unsupported,
            "this kernel's blksnap does not report events yet",
            "poll `blksnap info` instead, it shows the error of an image",
        ),
        _ => return None,
    })
}

/// Any request to a device.
fn device(errno: Errno) -> Option<Cause> {
    Some(match errno {
        Errno::NOTTY => (
            Kind::Unsupported,
            "the kernel has no block filters, or the filter takes no commands",
            "boot a kernel that has the block filter and the blksnap driver",
        ),
        Errno::NODEV | Errno::NXIO => (Kind::NotFound, "the device has gone", ""),
        _ => return None,
    })
}

/// A request that takes for granted that the filter is attached.
fn filtered(errno: Errno) -> Option<Cause> {
    Some(match errno {
        Errno::NOENT => (
            Kind::NotFound,
            "no filter is attached",
            "`blksnap attach` attaches it, `blksnap info` lists the devices that have it",
        ),
        Errno::INVAL => (
            Kind::Busy,
            "another filter than blksnap is attached, or the request is not valid for it",
            "detach that filter first with the tool it came with",
        ),
        _ => return device(errno),
    })
}

fn attach(errno: Errno) -> Option<Cause> {
    Some(match errno {
        Errno::ALREADY => (Kind::Busy, "it is attached already", ""),
        Errno::BUSY => (
            Kind::Busy,
            "another filter is attached, or this one to the whole disk or to a partition of it",
            "`blksnap info` lists the devices that have the filter; detach another one with the \
             tool it came with",
        ),
        Errno::NOENT => (
            Kind::Unsupported,
            "the kernel knows no filter named blksnap",
            "load the driver with `modprobe blksnap`",
        ),
        Errno::OPNOTSUPP | Errno::INVAL => (
            Kind::Unsupported,
            "the driver cannot handle this kind of device",
            LOG,
        ),
        _ => return None,
    })
}

fn detach(errno: Errno) -> Option<Cause> {
    Some(match errno {
        Errno::BUSY => (
            Kind::Busy,
            "the device is in a snapshot",
            "destroy the snapshot first, `blksnap list` shows it",
        ),
        _ => return None,
    })
}

fn add(errno: Errno) -> Option<Cause> {
    Some(match errno {
        Errno::BUSY | Errno::ALREADY | Errno::EXIST => (
            Kind::Busy,
            "the device is in a snapshot already, or the snapshot has been taken",
            "a device can be in one snapshot at a time; `blksnap info` shows its state",
        ),
        Errno::NODEV => (Kind::NotFound, "the device is empty, or has gone", ""),
        Errno::INVAL => (
            Kind::Unsuitable,
            "all of the device is difference storage, or another filter than blksnap is attached",
            "the kernel log tells which, see `dmesg | tail`",
        ),
        _ => return None,
    })
}

fn tracking(errno: Errno) -> Option<Cause> {
    Some(match errno {
        Errno::NOTTY => (
            Kind::Unsupported,
            "this kernel's blksnap does not track changes yet",
            "",
        ),
        _ => return None,
    })
}

fn mark_dirty(errno: Errno) -> Option<Cause> {
    Some(match errno {
        Errno::INVAL | Errno::RANGE => (
            Kind::Usage,
            "a range is not on the device, or another filter than blksnap is attached",
            "`blksnap cbt info` tells the size of the device",
        ),
        _ => return None,
    })
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
            "it is not a block device",
            "name the device a filesystem is on, `findmnt` shows it",
        ),
        Errno::NXIO | Errno::NODEV => (Kind::NotFound, "there is no device behind it", ""),
        Errno::NOMEDIUM => (Kind::NotFound, "there is no medium in it", ""),
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
                Errno::BUSY,
                Kind::Busy,
                "snapshot is held",
            ),
            (
                Append("f", "s"),
                Errno::NOENT,
                Kind::NotFound,
                "no such file",
            ),
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
            (Destroy("s"), Errno::BUSY, Kind::Busy, "somebody else"),
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
            (Tracking("d"), Errno::INVAL, Kind::Busy, "another filter"),
            (Tracking("d"), Errno::NOENT, Kind::NotFound, "no filter"),
            (MarkDirty("d"), Errno::INVAL, Kind::Usage, "range"),
            (MarkDirty("d"), Errno::NOENT, Kind::NotFound, "no filter"),
            (
                MarkDirty("d"),
                Errno::NOTTY,
                Kind::Unsupported,
                "does not track",
            ),
            (Info("d"), Errno::NODEV, Kind::NotFound, "gone"),
            (
                Look("d"),
                Errno::NOTTY,
                Kind::Unsupported,
                "no block filters",
            ),
            (Take("s"), Errno::INVAL, Kind::Unsuitable, "on top of"),
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
    fn the_first_of_several_failures_gives_the_exit_code() {
        let later = Failure::new(Kind::Busy, "two").and(Failure::new(Kind::Other, "three"));
        let all = Failure::new(Kind::NotFound, "one").and(later);
        assert_eq!(all.exit_code(), 3);
        let more: Vec<_> = all.more.iter().map(|f| f.message.as_str()).collect();
        assert_eq!(more, ["two", "three"]);
        assert!(all.more.iter().all(|f| f.more.is_empty()));
    }

    #[test]
    fn an_empty_drive_is_told_as_such() {
        let step = Step::OpenDevice("/dev/sr0".into());
        let failure = Doing::Look("/dev/sr0").failed(&Fault::new(step, Errno::NOMEDIUM));
        assert_eq!(failure.kind, Kind::NotFound);
        assert_eq!(failure.errno.as_deref(), Some("ENOMEDIUM"));
    }

    #[test]
    fn exit_codes_are_listed_and_differ() {
        let mut codes: Vec<_> = EXIT_STATUS.iter().map(|(kind, _)| *kind as u8).collect();
        assert!(codes.is_sorted());
        codes.dedup();
        assert_eq!(codes.len(), EXIT_STATUS.len());
    }
}
