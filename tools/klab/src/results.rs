//! Where a run leaves what it finds: for one run at a time, and without what earlier ones left.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::make;
use crate::fail::{Failure, Kind};

/// Files that klab writes, in folders of results.
const FILES: [&str; 20] = [
    "check.log",
    "check.time",
    "console.log",
    "cow.json",
    "ending.json",
    "findings.json",
    "host.log",
    "job.json",
    "junit.xml",
    "lint.log",
    "output.log",
    "pin.json",
    "pin.md",
    "report.json",
    "results.tsv",
    "selftest.got",
    "stock.json",
    "stock.md",
    "storage.svg",
    "test_dev.log",
];

/// And where a guest attacks, under names that may be anybody's elsewhere.
const ISOLATION: &str = "isolation";
const ATTACK_FILES: [&str; 4] = ["attack.log", "link", "tried.tsv", "written"];

/// What tests of filesystems leave, after their number.
const ENDINGS: [&str; 6] = ["dmesg", "fsck", "full", "hints", "notrun", "out.bad"];

/// Folders of guests and of their tests; those of guests may have a number or a kernel behind.
const FOLDERS: [&str; 11] = [
    "btrfs", "checkout", "ext4", "generic", "harness", ISOLATION, "kunit", "patched", "shared",
    "stock", "xfs",
];

/// A folder that nobody else writes to.
pub struct Results {
    folder: PathBuf,
    _lock: File,
}

impl Results {
    /// Takes a folder, and makes it if need be.
    pub fn take(folder: &Path) -> Result<Self> {
        make(folder)?;
        let folder = folder.canonicalize()?;
        let lock = File::open(&folder)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                folder,
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                Kind::Usage,
                format!("another run of klab is using {}", folder.display()),
            )
            .hint("wait for its end, or give this one a folder of its own: --results DIR")
            .into()),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", folder.display()))
            }
        }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes what earlier runs left, and nothing that is not klab's.
    pub fn clear(&self) -> Result<()> {
        clear(&self.folder)
    }
}

fn clear(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            if FOLDERS.contains(&name.split('-').next().unwrap_or_default()) {
                clear(&path)?;
                // What is not ours stays, with its folder.
                drop(std::fs::remove_dir(&path));
            }
        } else if FILES.contains(&name.as_str())
            || of_a_test(&name)
            || (folder.ends_with(ISOLATION) && ATTACK_FILES.contains(&name.as_str()))
        {
            std::fs::remove_file(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Such as `901.full`.
fn of_a_test(name: &str) -> bool {
    name.split_once('.').is_some_and(|(number, ending)| {
        number.len() == 3
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && ENDINGS.contains(&ending)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_do_not_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results");
        let first = Results::take(&path).unwrap();
        let error = Results::take(&path).err().unwrap();
        assert_eq!(crate::fail::status_of(&error), Kind::Usage as i32);
        drop(first);
        Results::take(&path).unwrap();
    }

    #[test]
    fn only_what_klab_wrote_goes() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::take(folder.path()).unwrap();
        let ours = [
            "junit.xml",
            "xfs-2/results.tsv",
            "xfs/generic/901.full",
            "stock/ext4/console.log",
            "isolation/link",
            "ext4-stock-1/pin.json",
        ];
        let theirs = [
            "notes.txt",
            "link",
            "xfs/generic/mine.full",
            "photos/console.log",
            "xfs/generic/9012.full",
        ];
        for name in ours.iter().chain(&theirs) {
            let path = folder.path().join(name);
            make(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        results.clear().unwrap();
        assert!(ours.iter().all(|name| !folder.path().join(name).exists()));
        assert!(theirs.iter().all(|name| folder.path().join(name).is_file()));
        assert!(!folder.path().join("xfs-2").exists());
    }
}
