//! The first process of a guest.

use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount, mount_move};
use rustix::termios::{OptionalActions, QueueSelector, tcdrain, tcflush, tcgetattr, tcsetattr};

use super::job::{Ending, Job};
use crate::fail::Kind;
use crate::paths::text;

const NEW_ROOT: &str = "/mnt/root";

/// The verb that starts it.
pub const VERB: &str = "guest-init";

/// The words of our own command line, the program in front.
pub fn words() -> Vec<OsString> {
    let words = std::env::args_os().collect();
    // Only the kernel of a guest adds words of others.
    if std::process::id() == 1 {
        own_words(words)
    } else {
        words
    }
}

/// The kernel hands its first process whatever it does not know itself, before what is meant for the
/// process. Outside of a guest the words are those of the sandbox, which have a `--`.
fn own_words(words: Vec<OsString>) -> Vec<OsString> {
    match words.as_slice() {
        [program, strange @ .., verb, job]
            if verb == VERB && !strange.iter().any(|word| word == "--") =>
        {
            vec![program.clone(), verb.clone(), job.clone()]
        }
        _ => words,
    }
}

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
                        status: Kind::Guest as i32,
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
    attach_from(kind, kind, place, options)
}

fn attach_from(source: &str, kind: &str, place: &str, options: Option<&str>) -> Result<()> {
    let text = options.map(CString::new).transpose()?;
    mount(source, place, kind, MountFlags::empty(), text.as_deref())
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
    let share = &job.share;
    attach_from(
        &share.source,
        &share.kind,
        text(&job.results)?,
        Some(&share.options),
    )?;
    rustix::system::sethostname(b"guest").context("cannot set the host name")?;
    Ok(())
}

fn run(job: &Job) -> Result<Ending> {
    let console = console(&job.console, job.interactive)?;
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
        Err(error) => return not_run(program, &job.folder, &error),
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

/// How a command ends that never began, with the statuses that shells have for it.
fn not_run(program: &str, folder: &Path, error: &std::io::Error) -> Result<Ending> {
    anyhow::ensure!(
        folder.is_dir(),
        "the folder {} does not exist",
        folder.display()
    );
    let found = error.kind() != std::io::ErrorKind::NotFound;
    // A name without a slash is looked for in other folders.
    let there = program.contains('/') && folder.join(program).exists();
    let (kind, problem) = match (found, there) {
        (true, _) => (
            Kind::CannotRun,
            format!("`{program}` cannot be run: {error}"),
        ),
        (false, true) => (
            Kind::CannotRun,
            format!("`{program}` cannot be run: its interpreter was not found"),
        ),
        (false, false) => (Kind::NotFound, format!("`{program}` was not found")),
    };
    Ok(Ending {
        status: kind as i32,
        problem: Some(problem),
    })
}

fn console(path: &str, interactive: bool) -> Result<File> {
    let console = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {path}"))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(line: &str) -> String {
        let words = own_words(line.split(' ').map(OsString::from).collect());
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn words_that_the_kernel_does_not_know_do_no_harm() {
        let meant = "/p/klab guest-init /r/job.json";
        assert_eq!(words_of(meant), meant);
        assert_eq!(words_of("/p/klab foo -x guest-init /r/job.json"), meant);
        let sandbox = "klab sandbox-inside --writable /r -- /k/linux guest-init /r/job.json";
        assert_eq!(words_of(sandbox), sandbox);
    }

    #[test]
    fn a_command_that_never_began_ends_as_in_a_shell() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
        let status = |program: &str, kind: std::io::ErrorKind| {
            let ending = not_run(program, folder.path(), &kind.into()).unwrap();
            assert!(ending.problem.unwrap().contains(program));
            ending.status
        };
        use std::io::ErrorKind::{NotFound, PermissionDenied};
        assert_eq!(status("nosuch", NotFound), 127);
        assert_eq!(status("./nosuch", NotFound), 127);
        assert_eq!(status("./script", NotFound), 126);
        assert_eq!(status("/etc/passwd", PermissionDenied), 126);
        let gone = folder.path().join("gone");
        assert!(not_run("true", &gone, &NotFound.into()).is_err());
    }
}
