//! Ctrl-C: kill what we started, remove what is half done, keep what is finished.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::fail::Kind;

static CHILDREN: Mutex<Vec<Child>> = Mutex::new(Vec::new());
static TEMPORARY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Copy)]
struct Child {
    group: i32,
    /// Killing a package manager half-way breaks the machine: wait for it instead.
    protected: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child process group that dies with us; forgotten when dropped.
pub struct Watched(i32);

impl Watched {
    pub fn new(pid: u32, protected: bool) -> Self {
        let group = pid as i32;
        lock(&CHILDREN).push(Child { group, protected });
        Self(group)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&CHILDREN).retain(|child| child.group != self.0);
        hold_if_interrupted();
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

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        hold_if_interrupted();
        lock(&TEMPORARY).retain(|path| *path != self.0);
        remove(&self.0);
    }
}

/// Removes a file or a folder, whichever is there, if any.
fn remove(path: &Path) {
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

/// The thread that handles the signal ends the process; all others must not report the deaths of
/// children it killed.
pub fn hold_if_interrupted() {
    while INTERRUPTED.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(50));
        if std::thread::current().name() == Some("signals") {
            return;
        }
    }
}

fn kill(group: i32, signal: i32) -> bool {
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    unsafe { libc::kill(-group, signal) == 0 }
}

fn end_children() {
    let children: Vec<Child> = lock(&CHILDREN).clone();
    if children.iter().any(|child| child.protected) {
        eprintln!("klab: waiting for the package manager to finish");
    }
    for child in children.iter().filter(|child| !child.protected) {
        kill(child.group, SIGTERM);
    }
    let start = Instant::now();
    loop {
        let mut alive = false;
        for child in &children {
            // A zombie still counts as a member of its group until its waiter reaps it.
            if kill(child.group, 0) {
                alive = true;
                if !child.protected && start.elapsed() > Duration::from_secs(2) {
                    kill(child.group, libc::SIGKILL);
                }
            }
        }
        let limit = if children.iter().any(|child| child.protected) {
            600
        } else {
            4
        };
        if !alive || start.elapsed() > Duration::from_secs(limit) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts the thread that waits for signals.
pub fn install() -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if signals.forever().next().is_some() {
                INTERRUPTED.store(true, Ordering::SeqCst);
                end_children();
                let paths: Vec<PathBuf> = lock(&TEMPORARY).clone();
                for path in paths {
                    remove(&path);
                }
                eprintln!("\nklab: interrupted; what was finished is kept, run it again to go on");
                std::process::exit(Kind::Interrupted as i32);
            }
        })?;
    Ok(())
}
