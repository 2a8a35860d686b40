// SPDX-License-Identifier: GPL-2.0

//! What the driver does not tell: which storage and devices a snapshot was made with.
//!
//! One small file a snapshot under `/run`, gone after a reboot as snapshots
//! are. It serves the listing only; nothing is decided by it, and a snapshot
//! of another client is simply listed without these facts. Whoever changes
//! something here holds a lock on the directory; readers need none.

use crate::json;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// What is known about a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Path of the difference storage.
    #[serde(serialize_with = "json::path")]
    pub storage: PathBuf,
    /// Bytes that the storage may grow to, as it was asked for.
    pub limit: u64,
    /// Devices in the snapshot.
    #[serde(serialize_with = "json::paths")]
    pub devices: Vec<PathBuf>,
}

/// The directory of records.
#[derive(Debug, Clone)]
pub struct Registry {
    dir: PathBuf,
}

impl Registry {
    /// Keeps records in `dir`, which need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Registry { dir: dir.into() }
    }

    fn path(&self, id: Uuid) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// The lock ends with the file that is returned.
    fn lock(&self) -> io::Result<File> {
        let dir = File::open(&self.dir)?;
        dir.lock()?;
        Ok(dir)
    }

    /// Remembers a snapshot.
    pub fn store(&self, id: Uuid, record: &Record) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let _lock = self.lock()?;
        self.write(id, record)
    }

    /// Called with the directory locked.
    fn write(&self, id: Uuid, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(record)?;
        // Renamed into place, so that a reader never sees half a record.
        let part = self.dir.join(format!(".{id}"));
        fs::write(&part, text)?;
        fs::rename(&part, self.path(id))
    }

    /// Remembers one more device of a snapshot, if the snapshot is known.
    pub fn add_device(&self, id: Uuid, device: &Path) -> io::Result<()> {
        if self.load(id).is_none() {
            return Ok(());
        }
        let _lock = self.lock()?;
        // Read again: somebody else may have added a device meanwhile.
        let Some(mut record) = self.load(id) else {
            return Ok(());
        };
        record.devices.push(device.to_owned());
        self.write(id, &record)
    }

    /// What is known about a snapshot.
    pub fn load(&self, id: Uuid) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.path(id)).ok()?).ok()
    }

    /// Forgets a snapshot.
    pub fn forget(&self, id: Uuid) -> io::Result<()> {
        let _lock = match self.lock() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        match fs::remove_file(self.path(id)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Asks `list` for the snapshots that there are, and forgets all others.
    ///
    /// The lock is held meanwhile: a snapshot that is made after the answer gets its record when
    /// the lock has been released. If that cannot be had right now, nothing is forgotten; it is
    /// only about tidiness.
    pub fn tidy<E>(&self, list: impl FnOnce() -> Result<Vec<Uuid>, E>) -> Result<Vec<Uuid>, E> {
        let dir = File::open(&self.dir).ok();
        let lock = dir.filter(|dir| dir.try_lock().is_ok());
        let ids = list()?;
        if lock.is_some() {
            self.keep_only(&ids);
        }
        Ok(ids)
    }

    /// Called with the directory locked. What cannot be removed is left for the next time.
    fn keep_only(&self, ids: &[Uuid]) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            // Nothing but records, and those that were not finished.
            let id = name.to_str().and_then(|name| {
                let id = name.strip_suffix(".json").or(name.strip_prefix('.'))?;
                Uuid::try_parse(id).ok()
            });
            if id.is_some_and(|id| !ids.contains(&id)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new(dir.path().join("deep/down"));
        let id = Uuid::from_u128(7);
        assert_eq!(registry.load(id), None);
        registry.add_device(id, "/dev/a".as_ref()).unwrap();
        assert_eq!(registry.load(id), None, "a snapshot of somebody else");

        let mut record = Record {
            storage: "/mnt/st".into(),
            limit: 1 << 30,
            devices: vec![],
        };
        registry.store(id, &record).unwrap();
        registry.add_device(id, "/dev/a".as_ref()).unwrap();
        record.devices.push("/dev/a".into());
        assert_eq!(registry.load(id), Some(record));

        registry.forget(id).unwrap();
        registry.forget(id).unwrap();
        assert_eq!(registry.load(id), None);
        assert_eq!(
            fs::read_dir(dir.path().join("deep/down")).unwrap().count(),
            0
        );
    }

    #[test]
    fn a_damaged_record_is_not_a_record() {
        let dir = tempfile::tempdir().unwrap();
        let id = Uuid::from_u128(7);
        fs::write(dir.path().join(format!("{id}.json")), "{").unwrap();
        assert_eq!(Registry::new(dir.path()).load(id), None);
    }

    fn record(storage: impl Into<PathBuf>) -> Record {
        Record {
            storage: storage.into(),
            ..Record::default()
        }
    }

    #[test]
    fn records_of_what_has_gone_go() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new(dir.path());
        let [there, gone, half] = [1, 2, 3].map(Uuid::from_u128);
        for id in [there, gone] {
            registry.store(id, &record("/mnt/st")).unwrap();
        }
        fs::write(dir.path().join(format!(".{half}")), "{").unwrap();
        fs::write(dir.path().join("other.json"), "").unwrap();

        // A list that cannot be had tells nothing.
        registry.tidy(|| Err("no list")).unwrap_err();
        assert!(registry.load(gone).is_some());
        let ids = registry.tidy(|| Ok::<_, ()>(vec![there])).unwrap();
        assert_eq!(ids, [there]);
        assert!(registry.load(there).is_some());
        assert_eq!(registry.load(gone), None);
        assert!(!dir.path().join(format!(".{half}")).exists());
        assert!(dir.path().join("other.json").exists());
    }

    #[test]
    fn the_list_is_asked_for_under_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new(dir.path());
        let id = Uuid::from_u128(1);
        registry.store(id, &record("/mnt/st")).unwrap();
        registry
            .tidy(|| {
                assert!(File::open(dir.path()).unwrap().try_lock().is_err());
                Ok::<_, ()>(vec![id])
            })
            .unwrap();
        // Somebody else is at it: nothing is waited for, nothing forgotten.
        let lock = registry.lock().unwrap();
        registry.tidy(|| Ok::<_, ()>(vec![])).unwrap();
        assert!(registry.load(id).is_some());
        drop(lock);
        let nowhere = Registry::new(dir.path().join("nowhere"));
        assert_eq!(nowhere.tidy(|| Ok::<_, ()>(vec![id])), Ok(vec![id]));
        assert!(!dir.path().join("nowhere").exists());
    }

    #[test]
    fn devices_that_are_added_at_once_are_all_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new(dir.path());
        let id = Uuid::from_u128(1);
        registry.store(id, &record("/mnt/st")).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let registry = &registry;
                scope.spawn(move || {
                    for i in 0..25 {
                        let device = format!("/dev/{thread}-{i}");
                        registry.add_device(id, device.as_ref()).unwrap();
                    }
                });
            }
        });
        assert_eq!(registry.load(id).unwrap().devices.len(), 100);
    }

    #[test]
    fn a_path_that_is_not_unicode_is_kept_as_it_is_shown() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new(dir.path());
        let id = Uuid::from_u128(1);
        let path = Path::new(std::ffi::OsStr::from_bytes(b"/mnt/\xff"));
        registry.store(id, &record(path)).unwrap();
        registry.add_device(id, path).unwrap();
        let kept = registry.load(id).unwrap();
        assert_eq!(kept.storage, Path::new("/mnt/\u{fffd}"));
        assert_eq!(kept.devices, [kept.storage]);
    }
}
