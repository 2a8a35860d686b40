// SPDX-License-Identifier: GPL-2.0

//! What the driver does not tell: which storage and devices a snapshot was made with.
//!
//! One small file a snapshot under `/run`, gone after a reboot as snapshots
//! are. It serves the listing only; nothing is decided by it, and a snapshot
//! of another client is simply listed without these facts.

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// What is known about a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Path of the difference storage.
    pub storage: PathBuf,
    /// Bytes that the storage may grow to.
    pub limit: u64,
    /// Devices in the snapshot.
    pub devices: Vec<PathBuf>,
}

/// The folder of records.
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

    /// Remembers a snapshot.
    pub fn store(&self, id: Uuid, record: &Record) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let text = serde_json::to_vec_pretty(record)?;
        // Renamed into place, so that a reader never sees half a record.
        let part = self.dir.join(format!(".{id}.{}", std::process::id()));
        fs::write(&part, text)?;
        fs::rename(&part, self.path(id))
    }

    /// Remembers one more device of a snapshot, if the snapshot is known.
    pub fn add_device(&self, id: Uuid, device: &Path) -> io::Result<()> {
        let Some(mut record) = self.load(id) else {
            return Ok(());
        };
        record.devices.push(device.to_owned());
        self.store(id, &record)
    }

    /// What is known about a snapshot.
    pub fn load(&self, id: Uuid) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.path(id)).ok()?).ok()
    }

    /// Forgets a snapshot.
    pub fn forget(&self, id: Uuid) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
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
    fn a_damaged_record_is_no_record() {
        let dir = tempfile::tempdir().unwrap();
        let id = Uuid::from_u128(7);
        fs::write(dir.path().join(format!("{id}.json")), "{").unwrap();
        assert_eq!(Registry::new(dir.path()).load(id), None);
    }
}
