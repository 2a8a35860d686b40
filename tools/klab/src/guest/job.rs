//! What the first process of a guest is told, and what it tells back, as files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The file that tells how the command ended.
pub const ENDING: &str = "ending.json";

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Job {
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub folder: PathBuf,
    /// The writable folder, at the same path in the guest as on the host.
    pub results: PathBuf,
    /// How to mount it.
    pub share: Share,
    /// The terminal of the command.
    pub console: String,
    pub interactive: bool,
}

/// A folder of the host, as mount(2) has it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Share {
    pub kind: String,
    pub source: String,
    pub options: String,
}

/// How the command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Its exit status, or 128 plus the signal that killed it.
    pub status: i32,
    /// Why it could not be run.
    pub problem: Option<String>,
}

impl Job {
    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }
}

impl Ending {
    fn path(results: &Path) -> PathBuf {
        results.join(ENDING)
    }

    pub fn write(&self, results: &Path) -> Result<()> {
        std::fs::write(Self::path(results), serde_json::to_vec(self)?)?;
        Ok(())
    }

    pub fn read(results: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::path(results)).ok()?).ok()
    }

    pub fn remove(results: &Path) -> Result<()> {
        match std::fs::remove_file(Self::path(results)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}
