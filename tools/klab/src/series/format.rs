//! The series as complete mails, for a kernel tree that knows nothing of this project.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::apply::apply;
use super::store::{Store, malformed};
use super::tree::Base;
use crate::cache::{make_given, write_if_changed};
use crate::exec::read_optional;
use crate::fail::{Failure, Kind};
use crate::git::Git;
use crate::paths::text;

/// How each mail begins: commits that nobody else has are told as none.
const BEGINNING: &[u8] = b"From 0000000000000000000000000000000000000000 ";

/// Writes one mail a commit and the cover letter; returns how many mails.
pub fn format(store: &Store, base: &Base, folder: &Path) -> Result<usize> {
    make_given(folder, "name another folder")?;
    let earlier = earlier(folder)?;
    let git = Git::at(&base.repository);
    let applied = apply(store, &git, &base.commit)?;
    let last = applied
        .last()
        .ok_or_else(|| malformed("the series has no mails"))?;
    for mail in earlier {
        std::fs::remove_file(mail)?;
    }
    let target = folder.canonicalize()?;
    let range = format!("{}..{}", base.commit, last.commit);
    git.text([
        "format-patch",
        "--quiet",
        "--no-signature",
        "--zero-commit",
        "--no-renames",
        "--output-directory",
        text(&target)?,
        &range,
    ])?;
    if let Some(cover) = read_optional(&store.patches().join("cover.md"))? {
        write_if_changed(&folder.join("cover.md"), cover.as_bytes())?;
    }
    Ok(applied.len())
}

/// Mails that an earlier run wrote, which would be applied with the new ones; so would patches of
/// others, which are not ours to remove.
fn earlier(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut mails = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "patch") {
            continue;
        }
        if !is_ours(&path)? {
            return Err(Failure::new(
                Kind::Usage,
                format!("{} was not written by klab", path.display()),
            )
            .hint("name another folder: `git am` is to find the mails of the series alone")
            .into());
        }
        mails.push(path);
    }
    Ok(mails)
}

fn is_ours(mail: &Path) -> Result<bool> {
    let name = mail.file_name().unwrap_or_default().as_encoded_bytes();
    let numbered = name.len() > 4 && name[..4].iter().all(u8::is_ascii_digit) && name[4] == b'-';
    let mut head = Vec::new();
    File::open(mail)?
        .take(BEGINNING.len() as u64)
        .read_to_end(&mut head)?;
    Ok(numbered && head == BEGINNING)
}
