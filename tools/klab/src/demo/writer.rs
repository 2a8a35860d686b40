//! Somebody who works on the filesystem all the time.
//!
//! Before the snapshot it works in a folder of its own, on files that say themselves whether they
//! are whole. After it, it also rewrites, deletes and creates among the files that were summed up.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const FILES: u64 = 48;
const LARGEST: u64 = 96 << 10;
/// Between two rounds: it shall be busy, not starve everybody else.
const PAUSE: Duration = Duration::from_millis(5);
const HASH: usize = blake3::OUT_LEN;

/// What it may change among the summed-up files, so that the storage suffices.
const TREE_BYTES: u64 = 40 << 20;

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    tree_too: AtomicBool,
    rounds: AtomicU64,
    tree_changes: AtomicU64,
}

pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Writer {
    /// Starts to work in `busy`; later also on the files of `tree`.
    pub fn start(busy: PathBuf, tree: Vec<PathBuf>) -> Self {
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let thread = std::thread::spawn(move || work(&own, &busy, &tree));
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Waits until it has done something.
    pub fn wait_for_rounds(&self, more: u64) -> Result<()> {
        let goal = self.shared.rounds.load(Ordering::SeqCst) + more;
        while self.shared.rounds.load(Ordering::SeqCst) < goal {
            let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            ensure!(!ended, "the writer ended early");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    pub fn work_on_the_tree_too(&self) {
        self.shared.tree_too.store(true, Ordering::SeqCst);
    }

    pub fn rounds(&self) -> u64 {
        self.shared.rounds.load(Ordering::SeqCst)
    }

    pub fn tree_changes(&self) -> u64 {
        self.shared.tree_changes.load(Ordering::SeqCst)
    }

    /// Ends it; an error of its own shows now.
    pub fn stop(mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::SeqCst);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result.context("the writer"),
            _ => anyhow::bail!("the writer crashed"),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

fn work(shared: &Shared, busy: &Path, tree: &[PathBuf]) -> Result<()> {
    std::fs::create_dir_all(busy)?;
    let mut victims = tree.iter();
    let mut spent = 0;
    let mut round = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        work_in_own_folder(busy, round)?;
        if shared.tree_too.load(Ordering::SeqCst)
            && spent < TREE_BYTES
            && let Some(victim) = victims.next()
        {
            spent += change(victim, round)?;
            shared.tree_changes.fetch_add(1, Ordering::SeqCst);
        }
        round += 1;
        shared.rounds.store(round, Ordering::SeqCst);
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Writes a whole file under another name and moves it into place; now and then one is deleted.
fn work_in_own_folder(busy: &Path, round: u64) -> Result<()> {
    let number = scatter(round) % FILES;
    let path = busy.join(format!("file{number}"));
    if round % 7 == 6 {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => return Ok(()),
        }
    }
    let half = busy.join(format!("half{number}"));
    let mut file = std::fs::File::create(&half)?;
    file.write_all(&content(round))?;
    if round.is_multiple_of(5) {
        file.sync_all()?;
    }
    std::fs::rename(&half, &path)?;
    Ok(())
}

/// Overwrites, deletes or doubles a file; returns how many bytes that wrote.
fn change(path: &Path, round: u64) -> Result<u64> {
    let size = path.metadata()?.len();
    match round % 4 {
        0 => {
            std::fs::remove_file(path)?;
            Ok(4096)
        }
        1 => {
            let mut name = path.as_os_str().to_owned();
            name.push(".new");
            std::fs::write(name, content(round))?;
            Ok(LARGEST)
        }
        _ => {
            let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&vec![0x5a; size as usize])?;
            file.sync_data()?;
            Ok(size)
        }
    }
}

fn scatter(round: u64) -> u64 {
    round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

/// Bytes that end with their own checksum.
fn content(round: u64) -> Vec<u8> {
    let length = 1 + scatter(round + 1) % LARGEST;
    let mut bytes = vec![0; length as usize];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&round.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
    bytes
}

/// Whether every file the writer finished is whole; returns how many there are.
pub fn verify(busy: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(busy)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // One that the writer had not moved into place yet may be anything.
        if name.starts_with("half") {
            continue;
        }
        let bytes = std::fs::read(entry.path()).with_context(|| format!("cannot read {name}"))?;
        let whole = bytes
            .len()
            .checked_sub(HASH)
            .is_some_and(|end| blake3::hash(&bytes[..end]).as_bytes().as_slice() == &bytes[end..]);
        ensure!(whole, "the writer's file {name} is torn");
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rewrites_creates_and_deletes() {
        let folder = tempfile::tempdir().unwrap();
        let busy = folder.path().join("busy");
        let tree: Vec<PathBuf> = (0..8)
            .map(|n| folder.path().join(format!("t{n}")))
            .collect();
        for path in &tree {
            std::fs::write(path, "old").unwrap();
        }
        let writer = Writer::start(busy.clone(), tree.clone());
        writer.wait_for_rounds(20).unwrap();
        assert!(
            tree.iter()
                .all(|path| std::fs::read(path).unwrap() == b"old")
        );
        writer.work_on_the_tree_too();
        writer.wait_for_rounds(30).unwrap();
        assert_eq!(writer.tree_changes(), 8);
        writer.stop().unwrap();
        assert!(verify(&busy).unwrap() > 5);
        let kept = tree.iter().filter(|path| path.exists()).count();
        assert!((1..8).contains(&kept));
        assert!(
            tree.iter()
                .any(|path| std::fs::read(path).is_ok_and(|bytes| bytes == b"ZZZ"))
        );
    }

    #[test]
    fn a_torn_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file1");
        let mut bytes = content(3);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(verify(folder.path()).unwrap(), 1);
        bytes[0] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(verify(folder.path()).is_err());
        std::fs::write(&path, b"short").unwrap();
        assert!(verify(folder.path()).is_err());
    }
}
