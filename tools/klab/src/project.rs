//! Finding the project's folder.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::fail::{Failure, Kind};

fn is_project(folder: &Path) -> bool {
    folder.join("patches/base").is_file() && folder.join("tools/klab").is_dir()
}

/// The clone that the current folder is in, else the one this program was built from.
pub fn root() -> Result<PathBuf> {
    let here = std::env::current_dir()?;
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    here.ancestors()
        .map(Path::to_owned)
        .chain(built.canonicalize())
        .find(|folder| is_project(folder))
        .ok_or_else(|| {
            Failure::new(
                Kind::Usage,
                "no folder above this one is a clone of the project",
            )
            .hint("cd to the clone")
            .into()
        })
}
