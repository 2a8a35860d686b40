//! The first process of a guest.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount, mount_move};
use rustix::termios::{OptionalActions, QueueSelector, tcdrain, tcflush, tcgetattr, tcsetattr};

use super::job::{Ending, Job};

const NEW_ROOT: &str = "/mnt/root";
const CONSOLE: &str = "/dev/tty1";

/// Prepares the guest, runs the command, and powers off; never returns.
pub fn main(job_file: &Path) -> ! {
    let ending = match Job::read(job_file) {
        Ok(job) => {
            let ending = prepare(&job)
                .and_then(|()| run(&job))
                .unwrap_or_else(|error| {
                    let problem = format!("{error:#}");
                    say(&problem);
                    Ending {
                        status: 127,
                        problem: Some(problem),
                    }
                });
            Some((job.results, ending))
        }
        Err(error) => {
            say(&format!("{error:#}"));
            None
        }
    };
    if let Some((results, ending)) = ending
        && let Err(error) = ending.write(&results)
    {
        say(&format!("cannot write how it ended: {error:#}"));
    }
    rustix::fs::sync();
    let off = rustix::system::RebootCommand::PowerOff;
    // Only returns if it fails, and then the host sees a guest that stays.
    let error = rustix::system::reboot(off);
    panic!("cannot power off: {error:?}");
}

/// Into the kernel's log, which the host reads.
fn say(text: &str) {
    let line = format!("klab guest: {text}\n");
    if std::fs::write("/dev/kmsg", &line).is_err() {
        eprint!("{line}");
    }
}

fn attach(kind: &str, place: &str, options: Option<&str>) -> Result<()> {
    attach_with(kind, place, options, MountFlags::empty())
}

fn attach_with(kind: &str, place: &str, options: Option<&str>, flags: MountFlags) -> Result<()> {
    let text = options.map(CString::new).transpose()?;
    mount(kind, place, kind, flags, text.as_deref())
        .with_context(|| format!("cannot mount {kind} on {place}"))
}

fn prepare(job: &Job) -> Result<()> {
    // The root is the host's, read-only: changes go to memory.
    attach("tmpfs", "/mnt", Some("size=75%"))?;
    for folder in ["/mnt/upper", "/mnt/work", NEW_ROOT] {
        std::fs::create_dir(folder)?;
    }
    let layers = "lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work,xino=off";
    attach("overlay", NEW_ROOT, Some(layers))?;
    std::env::set_current_dir(NEW_ROOT)?;
    mount_move(".", "/").context("cannot move the overlay to the root")?;
    rustix::process::chroot(".").context("cannot make the overlay the root")?;
    std::env::set_current_dir("/")?;
    attach("proc", "/proc", None)?;
    attach("sysfs", "/sys", None)?;
    attach("devtmpfs", "/dev", None)?;
    for (folder, kind, options) in [
        ("/dev/pts", "devpts", Some("ptmxmode=0666")),
        ("/dev/shm", "tmpfs", None),
        ("/run", "tmpfs", None),
    ] {
        std::fs::create_dir_all(folder)?;
        attach(kind, folder, options)?;
    }
    attach("debugfs", "/sys/kernel/debug", None)?;
    attach("configfs", "/sys/kernel/config", None)?;
    // Tools ask this file what is mounted.
    if !Path::new("/etc/mtab").exists() {
        std::os::unix::fs::symlink("/proc/self/mounts", "/etc/mtab")?;
    }
    for (link, target) in [
        ("fd", ""),
        ("stdin", "/0"),
        ("stdout", "/1"),
        ("stderr", "/2"),
    ] {
        let path = Path::new("/dev").join(link);
        if !path.exists() {
            std::os::unix::fs::symlink(format!("/proc/self/fd{target}"), path)?;
        }
    }
    std::fs::create_dir_all(&job.results)?;
    let place = job
        .results
        .to_str()
        .context("the results folder is not UTF-8")?;
    attach("hostfs", place, Some(place))?;
    rustix::system::sethostname(b"guest").context("cannot set the host name")?;
    Ok(())
}

fn run(job: &Job) -> Result<Ending> {
    let console = console(job.interactive)?;
    let input = if job.interactive {
        console.try_clone()?
    } else {
        File::open("/dev/null")?
    };
    let (program, arguments) = job.command.split_first().context("no command")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .envs(&job.environment)
        .current_dir(&job.folder)
        .stdin(input)
        .stdout(Stdio::from(console.try_clone()?))
        .stderr(Stdio::from(console.try_clone()?));
    let interactive = job.interactive;
    // SAFETY: setsid and ioctl are safe between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 {
                return Err(std::io::Error::last_os_error());
            }
            if interactive && libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let problem = format!("cannot run {program} in {}: {error}", job.folder.display());
            return Ok(Ending {
                status: 127,
                problem: Some(problem),
            });
        }
    };
    let status = reap(child.id())?;
    match tcdrain(console.as_fd()) {
        // A shell that had the terminal to itself hangs it up when it ends.
        Err(rustix::io::Errno::IO) if interactive => {}
        drained => drained?,
    }
    Ok(Ending {
        status,
        problem: None,
    })
}

fn console(interactive: bool) -> Result<File> {
    let console = OpenOptions::new().read(true).write(true).open(CONSOLE)?;
    if !interactive {
        // Bytes as they are: no carriage returns before line feeds.
        let mut settings = tcgetattr(&console)?;
        settings.make_raw();
        tcsetattr(&console, OptionalActions::Now, &settings)?;
    }
    tcflush(&console, QueueSelector::IFlush)?;
    Ok(console)
}

/// Waits for the command, and for the orphans that become ours meanwhile.
fn reap(wanted: u32) -> Result<i32> {
    loop {
        let mut raw = 0;
        // SAFETY: the pointer is to a live integer.
        let pid = unsafe { libc::waitpid(-1, &raw mut raw, 0) };
        if pid < 0 {
            return Err(std::io::Error::last_os_error()).context("waitpid");
        }
        if pid as u32 == wanted {
            let status = std::process::ExitStatus::from_raw(raw);
            return Ok(status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
        }
    }
}
