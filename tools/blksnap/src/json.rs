// SPDX-License-Identifier: GPL-2.0

//! Paths in JSON, which is Unicode: what is not is replaced, as where paths are shown to people.

use serde::{Serialize, Serializer};
use std::path::{Path, PathBuf};

/// A path that is part of a result.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a Path);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.display())
    }
}

/// For a field with a path.
pub fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    Shown(path).serialize(serializer)
}

/// For a field that may have a path.
pub fn some_path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_deref().map(Shown).serialize(serializer)
}

/// For a field with several paths.
pub fn paths<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| Shown(path)))
}
