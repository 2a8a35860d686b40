//! Copies of the programs that guests run: building them anew must not change a run under way.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::signals::Scratch;

/// A private folder with this very program, and others.
pub struct Programs {
    folder: Scratch,
}

impl Programs {
    pub fn keep(cache: &Cache) -> Result<Self> {
        let programs = Self {
            folder: cache.private_folder()?,
        };
        // This name leads to the program even when its file has been replaced meanwhile.
        std::fs::copy("/proc/self/exe", programs.klab()).context("cannot copy this program")?;
        Ok(programs)
    }

    pub fn klab(&self) -> PathBuf {
        self.folder.path().join("klab")
    }

    /// Copies one more program; returns where it lies now.
    pub fn add(&self, program: &Path) -> Result<PathBuf> {
        let name = program.file_name().context("programs have names")?;
        let copy = self.folder.path().join(name);
        std::fs::copy(program, &copy)
            .with_context(|| format!("cannot copy {}", program.display()))?;
        Ok(copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn copies_can_be_run_and_go_with_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned());
        let programs = Programs::keep(&cache).unwrap();
        let other = programs.add(Path::new("/bin/true")).unwrap();
        for copy in [programs.klab(), other] {
            let mode = copy.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o111, 0o111, "{}", copy.display());
        }
        drop(programs);
        assert_eq!(std::fs::read_dir(cache.running()).unwrap().count(), 0);
    }
}
