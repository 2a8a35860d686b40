//! A whole tree of files in checksums.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use walkdir::WalkDir;

/// Path, relative to the top, to what is there.
pub type Tree = BTreeMap<String, Entry>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    File { bytes: u64, hash: blake3::Hash },
    Link(Vec<u8>),
    Folder,
}

/// Reads everything below a folder.
pub fn of(top: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut buffer = vec![0; 256 << 10];
    for found in WalkDir::new(top).min_depth(1) {
        let found = found.with_context(|| format!("cannot walk {}", top.display()))?;
        let path = found.path();
        let name = path.strip_prefix(top)?.to_string_lossy().into_owned();
        let kind = found.file_type();
        let entry = if kind.is_dir() {
            Entry::Folder
        } else if kind.is_symlink() {
            Entry::Link(std::fs::read_link(path)?.as_os_str().as_bytes().to_vec())
        } else {
            file(path, &mut buffer).with_context(|| format!("cannot read {}", path.display()))?
        };
        tree.insert(name, entry);
    }
    Ok(tree)
}

fn file(path: &Path, buffer: &mut [u8]) -> Result<Entry> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    loop {
        let count = file.read(buffer)?;
        if count == 0 {
            return Ok(Entry::File {
                bytes,
                hash: hasher.finalize(),
            });
        }
        hasher.update(&buffer[..count]);
        bytes += count as u64;
    }
}

/// How many files, and how many bytes are in them.
pub fn size(tree: &Tree) -> (usize, u64) {
    tree.values()
        .fold((0, 0), |(files, sum), entry| match entry {
            Entry::File { bytes, .. } => (files + 1, sum + bytes),
            _ => (files, sum),
        })
}

/// What is not the same, in words.
pub fn differences(before: &Tree, now: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (name, entry) in before {
        match now.get(name) {
            None => found.push(format!("{name} is missing")),
            Some(other) if other != entry => found.push(format!("{name} is different")),
            Some(_) => {}
        }
    }
    found.extend(
        now.keys()
            .filter(|n| !before.contains_key(*n))
            .map(|n| format!("{n} is new")),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path();
        std::fs::create_dir(top.join("a")).unwrap();
        std::fs::write(top.join("a/one"), "1").unwrap();
        std::fs::write(top.join("two"), "22").unwrap();
        std::os::unix::fs::symlink("two", top.join("link")).unwrap();
        let before = of(top).unwrap();
        assert_eq!(size(&before), (2, 3));
        assert!(differences(&before, &of(top).unwrap()).is_empty());
        std::fs::write(top.join("two"), "23").unwrap();
        std::fs::remove_file(top.join("a/one")).unwrap();
        std::fs::remove_file(top.join("link")).unwrap();
        std::os::unix::fs::symlink("one", top.join("link")).unwrap();
        std::fs::write(top.join("three"), "").unwrap();
        let after = differences(&before, &of(top).unwrap());
        let wanted = [
            "a/one is missing",
            "link is different",
            "two is different",
            "three is new",
        ];
        assert_eq!(after, wanted);
    }
}
