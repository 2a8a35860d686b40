//! How a run ends early, by Ctrl-C or because nobody reads what it prints: kill what we started,
//! remove what is half done, keep what is finished.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::fail::Kind;
use crate::parallel::lock;

static CHILDREN: Mutex<Vec<Child>> = Mutex::new(Vec::new());
static TEMPORARY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static TERMINAL: Mutex<Option<Termios>> = Mutex::new(None);
/// The thread that ends the process, once there is one.
static ENDING: OnceLock<ThreadId> = OnceLock::new();

#[derive(Clone, Copy)]
struct Child {
    /// As kill(2) has it: a process, or a group with a minus in front.
    target: i32,
    /// Killing a package manager half-way breaks the machine: wait for it instead.
    protected: bool,
}

/// A child that dies with us; forgotten when dropped.
pub struct Watched(i32);

impl Watched {
    /// A child that leads a group of its own.
    pub fn new(pid: u32, protected: bool) -> Self {
        Self::target(-(pid as i32), protected)
    }

    /// A child that stays in our group, because it has our terminal.
    pub fn alone(pid: u32) -> Self {
        Self::target(pid as i32, false)
    }

    fn target(target: i32, protected: bool) -> Self {
        lock(&CHILDREN).push(Child { target, protected });
        // One that came too late to be on the list of those to end.
        if ENDING.get().is_some() && !protected {
            kill(target, SIGTERM);
        }
        Self(target)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&CHILDREN).retain(|child| child.target != self.0);
        hold_if_ending();
    }
}

/// A path that is removed when dropped, and on a signal; rename it away to keep what it became.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        lock(&TEMPORARY).push(path.clone());
        Self(path)
    }

    /// A new folder among the temporary ones.
    pub fn folder() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("klab-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        Ok(Self::new(folder.keep()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        hold_if_ending();
        lock(&TEMPORARY).retain(|path| *path != self.0);
        remove(&self.0);
    }
}

/// Removes a file or a folder, whichever is there, if any.
pub fn remove(path: &Path) {
    let gone = if path.is_dir() && !path.is_symlink() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    if let Err(error) = gone
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
}

/// A guest that is killed leaves the terminal raw: this puts it back, also on a signal.
pub struct Terminal;

impl Terminal {
    pub fn save() -> Self {
        *lock(&TERMINAL) = tcgetattr(rustix::stdio::stdin()).ok();
        Self
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore_terminal();
    }
}

fn restore_terminal() {
    if let Some(settings) = lock(&TERMINAL).take() {
        // Without a terminal any more there is nothing to put back.
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &settings).unwrap_or(());
    }
}

/// The thread that ends the process kills children; all others must not report their deaths.
pub fn hold_if_ending() {
    while ENDING
        .get()
        .is_some_and(|thread| *thread != std::thread::current().id())
    {
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn kill(target: i32, signal: i32) {
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    unsafe { libc::kill(target, signal) };
}

/// Whether any process of it still runs. A zombie does not, though kill(2) still finds it.
fn alive(target: i32) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return false;
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let pid: Option<i32> = name.to_str().and_then(|name| name.parse().ok());
        let stat = pid.and_then(|_| std::fs::read_to_string(entry.path().join("stat")).ok());
        let (Some(pid), Some((state, group))) = (pid, stat.as_deref().and_then(state_and_group))
        else {
            return false;
        };
        state != 'Z' && (pid == target || group == -target)
    })
}

/// From a line of proc(5)'s `stat`; the name in parentheses may hold anything.
fn state_and_group(stat: &str) -> Option<(char, i32)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(1)?.parse().ok()?))
}

fn end_children() {
    let children: Vec<Child> = lock(&CHILDREN).clone();
    if children.iter().any(|child| child.protected) {
        say("klab: waiting for the package manager to finish");
    }
    for child in children.iter().filter(|child| !child.protected) {
        kill(child.target, SIGTERM);
    }
    let start = Instant::now();
    let limit = if children.iter().any(|child| child.protected) {
        600
    } else {
        4
    };
    while start.elapsed() < Duration::from_secs(limit) {
        let left: Vec<&Child> = children.iter().filter(|c| alive(c.target)).collect();
        if left.is_empty() {
            return;
        }
        if start.elapsed() > Duration::from_secs(2) {
            for child in left.iter().filter(|child| !child.protected) {
                kill(child.target, libc::SIGKILL);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A line for whoever still listens.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").unwrap_or(());
}

/// Only the first thread that comes here gets through.
fn tidy_up() {
    if ENDING.set(std::thread::current().id()).is_err() {
        hold_if_ending();
    }
    end_children();
    restore_terminal();
    let paths: Vec<PathBuf> = lock(&TEMPORARY).clone();
    for path in paths {
        remove(&path);
    }
}

/// Ends the process because its output cannot be written; quietly if nobody reads it any more.
pub fn cannot_print(error: &std::io::Error) -> ! {
    tidy_up();
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        // As tools end that do not ignore the signal.
        // SAFETY: integers only.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::raise(libc::SIGPIPE);
        }
    }
    say(&format!("klab: cannot write output: {error}"));
    std::process::exit(Kind::Internal as i32)
}

/// Starts the thread that waits for signals; it promises to go on only where a second run does.
pub fn install(goes_on: bool) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if signals.forever().next().is_some() {
                tidy_up();
                say(if goes_on {
                    "\nklab: interrupted; what was finished is kept; run it again to continue"
                } else {
                    "\nklab: interrupted"
                });
                std::process::exit(Kind::Interrupted as i32);
            }
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn names_with_parentheses_do_not_hide_the_group() {
        assert_eq!(
            state_and_group("12 (a) b (c)) S 1 77 12 0"),
            Some(('S', 77))
        );
        assert_eq!(state_and_group("12 (a"), None);
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut command = Command::new("sleep");
        let mut child = command.arg("60").process_group(0).spawn().unwrap();
        let target = -(child.id() as i32);
        assert!(alive(target));
        kill(target, libc::SIGKILL);
        let start = Instant::now();
        while alive(target) {
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        child.wait().unwrap();
    }

    #[test]
    fn a_temporary_folder_goes() {
        let scratch = Scratch::folder().unwrap();
        let path = scratch.path().to_owned();
        std::fs::write(path.join("file"), "text").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
