//! Where a run leaves what it finds: for one run at a time, and without what earlier ones left.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::bench::cow::host as cow;
use crate::cache::make_given;
use crate::demo::host as demo;
use crate::fail::{Failure, Kind};
use crate::guest::session;
use crate::test::{fstests, harness, host, isolation, junit, stock};

/// Files that klab writes into folders of results; those of `bench` are told here.
const FILES: [&[&str]; 9] = [
    &session::FILES,
    &fstests::FILES,
    &harness::FILES,
    &[host::LOG, junit::FILE],
    &stock::FILES,
    &demo::FILES,
    &[cow::FINDINGS, cow::REPORT],
    &COW_PICTURES,
    &["pin.json", "pin.md"],
];

const COW_PICTURES: [&str; 4] = [
    "ramdisk.svg",
    "ramdisk.png",
    "fixed-latency.svg",
    "fixed-latency.png",
];

/// Folders of guests and of their tests; those of guests may have a number or a kernel behind.
const FOLDERS: [&str; 12] = [
    "btrfs",
    "checkout",
    "ext4",
    "generic",
    "harness",
    isolation::SUITE,
    "kunit",
    "patched",
    "shared",
    cow::SINGLE,
    "stock",
    "xfs",
];

/// A folder that nobody else writes to.
pub struct Results {
    folder: PathBuf,
    _lock: File,
}

impl Results {
    /// Takes a folder, and makes it if need be.
    pub fn take(folder: &Path) -> Result<Self> {
        make_given(folder, "name another folder for the results: --results DIR")?;
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
            .hint("wait for it to end, or give this one a folder of its own: --results DIR")
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
        } else if FILES.iter().any(|files| files.contains(&name.as_str()))
            || of_a_test(&name)
            || (folder.ends_with(isolation::SUITE) && isolation::FILES.contains(&name.as_str()))
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
            && fstests::ENDINGS.contains(&ending)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cow::model::{Case, Findings, Medium, Series};
    use crate::cache::make;

    #[test]
    fn a_results_folder_that_is_a_file_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Results::take(file.path()).err().unwrap();
        assert_eq!(crate::fail::status_of(&error), Kind::Usage as i32);
        assert!(error.to_string().contains("--results"), "{error}");
    }

    #[test]
    fn every_picture_of_the_measurements_goes() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::take(folder.path()).unwrap();
        let series = |medium| Series {
            case: Case {
                medium,
                pattern: "4k random first writes".into(),
                depth: 1,
                jobs: 1,
            },
            system: "blksnap".into(),
            ratios: vec![0.5],
        };
        let findings = Findings {
            series: vec![series(Medium::Ramdisk), series(Medium::FixedLatency)],
            ..Findings::default()
        };
        let names = crate::bench::cow::plot::draw(&findings, folder.path()).unwrap();
        assert_eq!(names.len(), COW_PICTURES.len());
        results.clear().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

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
            "fixed-latency.svg",
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
