//! The series as complete mails, for a kernel tree that knows nothing of this project.

use std::path::Path;

use anyhow::{Context, Result};

use super::apply::apply;
use super::store::{Store, malformed};
use super::tree::Base;
use crate::cache::{make, write_if_changed};
use crate::exec::read_optional;
use crate::git::Git;

/// Writes one mail a commit and the cover letter; returns how many mails.
pub fn format(store: &Store, base: &Base, folder: &Path) -> Result<usize> {
    let git = Git::at(&base.repository);
    let applied = apply(store, &git, &base.commit)?;
    let last = applied
        .last()
        .ok_or_else(|| malformed("the series has no mails"))?;
    make(folder)?;
    let target = folder.canonicalize()?;
    let target = target.to_str().context("the path is not UTF-8")?;
    let range = format!("{}..{}", base.commit, last.commit);
    git.text([
        "format-patch",
        "--quiet",
        "--no-signature",
        "--zero-commit",
        "--no-renames",
        "--output-directory",
        target,
        &range,
    ])?;
    if let Some(cover) = read_optional(&store.patches().join("cover.md"))? {
        write_if_changed(&folder.join("cover.md"), cover.as_bytes())?;
    }
    Ok(applied.len())
}
