//! Which tests of its own an xfstests checkout has.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::cli::Filesystem;
use crate::fail::{Failure, Kind};

/// How long one of them may take.
pub const LONGEST: Duration = Duration::from_secs(1800);

/// Those of some groups, without those of ours that were installed there.
pub fn list(
    checkout: &Path,
    ours: &Path,
    fs: Filesystem,
    groups: &[String],
) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in ["generic", "shared", fs.name()] {
        for name in numbers(&checkout.join("tests").join(folder))? {
            let test = format!("{folder}/{name}");
            if ours.join("tests").join(&test).exists() {
                continue;
            }
            let text = std::fs::read(checkout.join("tests").join(&test))?;
            if is_in(&String::from_utf8_lossy(&text), groups) {
                found.push(test);
            }
        }
    }
    Ok(found)
}

/// Refuses groups that have no test on any of the filesystems.
pub fn require(
    checkout: &Path,
    ours: &Path,
    filesystems: &[Filesystem],
    groups: &[String],
) -> Result<()> {
    for fs in filesystems {
        if !list(checkout, ours, *fs, groups)?.is_empty() {
            return Ok(());
        }
    }
    Err(Failure::new(
        Kind::Usage,
        format!(
            "no test of the checkout is in the group {}",
            groups.join(" or ")
        ),
    )
    .hint(format!(
        "see {}",
        checkout.join("doc/group-names.txt").display()
    ))
    .into())
}

/// Names of tests are numbers.
fn numbers(folder: &Path) -> Result<Vec<String>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.len() >= 3 && name.bytes().all(|byte| byte.is_ascii_digit()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Whether the line of a test that names its groups has one of these.
fn is_in(text: &str, groups: &[String]) -> bool {
    text.lines()
        .find_map(|line| line.strip_prefix("_begin_fstest "))
        .is_some_and(|own| {
            own.split_whitespace()
                .any(|group| groups.iter().any(|wanted| wanted == group))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::write_if_changed;

    #[test]
    fn the_checkouts_own_tests_of_a_group_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let (checkout, ours) = (folder.path().join("checkout"), folder.path().join("ours"));
        for (top, name, groups) in [
            (&checkout, "generic/472", "auto quick swap"),
            (&checkout, "generic/356.out", "swap"),
            (&checkout, "generic/001", "auto swapext"),
            (&checkout, "generic/901", "auto swap"),
            (&ours, "generic/901", "auto swap"),
            (&checkout, "xfs/500", "swap"),
            (&checkout, "ext4/500", "swap"),
        ] {
            let text = format!("#! /bin/bash\n. ./common/preamble\n_begin_fstest {groups}\n");
            write_if_changed(&top.join("tests").join(name), text.as_bytes()).unwrap();
        }
        let groups = ["swap".to_owned()];
        let found = list(&checkout, &ours, Filesystem::Xfs, &groups).unwrap();
        assert_eq!(found, ["generic/472", "xfs/500"]);
        let both = [Filesystem::Btrfs, Filesystem::Xfs];
        require(&checkout, &ours, &both, &groups).unwrap();
        let none = require(&checkout, &ours, &both, &["no".to_owned()]);
        assert_eq!(crate::fail::status_of(&none.unwrap_err()), 2);
    }
}
