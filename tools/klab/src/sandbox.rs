//! Keeping a guest from the host: own namespaces, everything read-only but a few folders.
//!
//! A guest's root can do to its hostfs what the host process of the guest may do to the host's
//! files. So nothing is left to the guest: the host process itself cannot write elsewhere.
//! Two hidden verbs do it: the first makes the namespaces, the second, as the first process in
//! them, arranges the mounts, gives up its rights and starts the guest.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result};
use clap::Args;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::thread::UnshareFlags;

use crate::exec::capture;
use crate::fail::{Failure, Kind};

/// Descriptors of the guest's second console.
pub const COMMAND_INPUT: i32 = 3;
pub const COMMAND_OUTPUT: i32 = 4;

/// The rights a guest's host process keeps: reading and owning files as root does. Not among them:
/// mounting, making device nodes, tracing, raw I/O.
const KEPT_CAPABILITIES: [i32; 5] = [
    0, // CAP_CHOWN
    1, // CAP_DAC_OVERRIDE
    2, // CAP_DAC_READ_SEARCH
    3, // CAP_FOWNER
    4, // CAP_FSETID
];
const LAST_CAPABILITY: i32 = 63;

#[derive(Clone, Debug, Args)]
pub struct Sandbox {
    /// Folders that stay writable
    #[arg(long)]
    pub writable: Vec<PathBuf>,
    /// Leave the processor's help for virtual machines
    #[arg(long)]
    pub kvm: bool,
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

impl Sandbox {
    /// The command line that runs this sandbox from the host.
    pub fn command(&self, klab: &Path) -> Command {
        self.arguments(klab, "sandbox")
    }

    fn arguments(&self, klab: &Path, verb: &str) -> Command {
        let mut command = Command::new(klab);
        command.arg(verb);
        for folder in &self.writable {
            command.arg("--writable").arg(folder);
        }
        if self.kvm {
            command.arg("--kvm");
        }
        command.arg("--").args(&self.command);
        command
    }

    /// Outside: makes the namespaces and waits for what runs in them.
    pub fn enter(&self) -> Result<i32> {
        // The network too: what runs inside needs none and could reach the host's services.
        let new = UnshareFlags::NEWNS
            | UnshareFlags::NEWPID
            | UnshareFlags::NEWIPC
            | UnshareFlags::NEWNET
            | UnshareFlags::NEWUTS;
        // SAFETY: this process has one thread and shares no descriptor table with another.
        unsafe { rustix::thread::unshare_unsafe(new) }.context("cannot make namespaces")?;
        let mut command = self.arguments(&std::env::current_exe()?, "sandbox-inside");
        die_with_parent(&mut command);
        Ok(code_of(command.status()?))
    }

    /// Inside: arranges the mounts and runs the guest.
    pub fn inside(&self) -> Result<i32> {
        self.arrange_mounts()?;
        let mut command = Command::new(&self.command[0]);
        command
            .args(&self.command[1..])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/dev/shm")
            .env("TMPDIR", "/dev/shm");
        die_with_parent(&mut command);
        // SAFETY: only system calls that are safe between fork and exec.
        unsafe {
            command.pre_exec(move || {
                move_descriptors()?;
                drop_rights()
            });
        }
        Ok(code_of(command.status()?))
    }

    fn arrange_mounts(&self) -> Result<()> {
        mount_change(
            "/",
            MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
        )
        .context("cannot make the mounts private")?;
        for folder in &self.writable {
            mount_bind(folder, folder)
                .with_context(|| format!("cannot bind {}", folder.display()))?;
        }
        set_attributes(
            Path::new("/"),
            libc::AT_RECURSIVE,
            libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
            0,
        )?;
        for folder in &self.writable {
            set_attributes(folder, 0, 0, libc::MOUNT_ATTR_RDONLY)?;
        }
        // The first proc of this namespace shows only what runs in it; settings in it that would
        // be the host's cannot be written.
        let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("proc", "/proc", "proc", strict | MountFlags::RDONLY, None)
            .context("cannot mount proc")?;
        private_devices(self.kvm)
    }
}

/// Whether this machine lets us make a sandbox at all: a container may not.
pub fn probe() -> Result<()> {
    let sandbox = Sandbox {
        writable: Vec::new(),
        kvm: false,
        command: vec!["true".into()],
    };
    let output = capture(&mut sandbox.command(&std::env::current_exe()?), None)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let why = said.lines().next().unwrap_or("no reason given");
    Err(Failure::new(
        Kind::Requirement,
        format!(
            "guests cannot be isolated from this machine: {}",
            why.trim_start_matches("klab: ")
        ),
    )
    .hint("in a container, allow namespaces: docker run --privileged; otherwise run as root")
    .into())
}

/// Device nodes open devices whatever the mount says: so none of the host's disks is there.
fn private_devices(kvm: bool) -> Result<()> {
    let options = CString::new("mode=755").context("options")?;
    mount(
        "dev",
        "/dev",
        "tmpfs",
        MountFlags::NOSUID,
        options.as_c_str(),
    )
    .context("cannot mount a private /dev")?;
    let mut nodes = vec![
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
        // Seen by the guest only, as its own console.
        ("console", 5, 1),
    ];
    nodes.extend(kvm.then_some(("kvm", 10, 232)));
    for (name, major, minor) in nodes {
        let path = Path::new("/dev").join(name);
        let mode = Mode::from_raw_mode(0o666);
        mknodat(
            CWD,
            &path,
            FileType::CharacterDevice,
            mode,
            makedev(major, minor),
        )
        .with_context(|| format!("cannot make {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
    }
    // The guest's memory is a file there.
    std::fs::create_dir("/dev/shm")?;
    let options = CString::new("mode=1777,size=90%").context("options")?;
    mount(
        "shm",
        "/dev/shm",
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        options.as_c_str(),
    )
    .context("cannot mount a private /dev/shm")?;
    Ok(())
}

fn set_attributes(path: &Path, flags: i32, set: u64, clear: u64) -> Result<()> {
    let name = CString::new(path.as_os_str().as_bytes()).context("a path with a NUL")?;
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: both pointers are valid for the call, and the size is that of the structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            name.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result != 0 {
        return Err(std::io::Error::last_os_error())
            .with_context(|| format!("cannot change the mount attributes of {}", path.display()));
    }
    Ok(())
}

/// The kernel's messages take stdout and stderr; the command's console gets its own descriptors.
fn move_descriptors() -> std::io::Result<()> {
    let move_to = |from: i32, to: i32| {
        // SAFETY: dup2 of integers; a bad one is an error.
        if unsafe { libc::dup2(from, to) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(())
    };
    for (from, to) in [(0, COMMAND_INPUT), (1, COMMAND_OUTPUT), (2, 1)] {
        move_to(from, to)?;
    }
    // Opened last: an earlier one could have had the number of a console.
    // SAFETY: the path is a string that lives for ever.
    let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    move_to(null, 0)
}

fn drop_rights() -> std::io::Result<()> {
    for capability in (0..=LAST_CAPABILITY).filter(|cap| !KEPT_CAPABILITIES.contains(cap)) {
        // SAFETY: prctl with integers.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        let error = std::io::Error::last_os_error();
        // Numbers beyond the last one this kernel knows are no error.
        if result != 0 && error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
    }
    // SAFETY: prctl and setrlimit with valid arguments.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let none = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        if libc::setrlimit(libc::RLIMIT_CORE, &raw const none) != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Nothing outlives the process that started it.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl with integers, safe between fork and exec.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

fn code_of(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
