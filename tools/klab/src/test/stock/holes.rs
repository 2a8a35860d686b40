//! Which tests are about a bug of the unpatched kernel, from their own headers.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::cli::Filesystem;

/// A bug of the unpatched kernel that a test shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hole {
    /// Such as `generic/911`.
    pub test: String,
    /// What goes wrong, in words.
    pub what: String,
    pub fixes: Vec<Fix>,
}

/// A mail of the series that closes the hole, on some filesystems or on all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fix {
    pub subject: String,
    /// Empty: on all.
    pub filesystems: Vec<String>,
}

impl Hole {
    /// Whether the unpatched kernel has the hole on this filesystem.
    pub fn is_on(&self, fs: Filesystem) -> bool {
        let folder = self.test.split('/').next().unwrap_or_default();
        let runs = folder == "generic" || folder == fs.name();
        runs && self.fixes.iter().any(|fix| {
            fix.filesystems.is_empty() || fix.filesystems.iter().any(|name| name == fs.name())
        })
    }
}

/// All holes that the tests of a folder name, in the order of the tests.
pub fn read(tests: &Path) -> Result<Vec<Hole>> {
    let mut holes = Vec::new();
    for folder in ["generic", "xfs", "ext4", "btrfs"] {
        let path = tests.join(folder);
        if !path.is_dir() {
            continue;
        }
        let mut names: Vec<String> = std::fs::read_dir(&path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_>>()?;
        names.retain(|name| name.len() == 3 && name.bytes().all(|byte| byte.is_ascii_digit()));
        names.sort();
        for name in names {
            let text = std::fs::read_to_string(path.join(&name))?;
            let test = format!("{folder}/{name}");
            holes.extend(parse(&test, &text).with_context(|| format!("xfstests/tests/{test}"))?);
        }
    }
    Ok(holes)
}

/// Looks for `_layout_hole "WORDS"` and `_fixed_by_patch "SUBJECT" [FILESYSTEM...]`.
fn parse(test: &str, text: &str) -> Result<Option<Hole>> {
    let mut what = None;
    let mut fixes = Vec::new();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(' ') else {
            continue;
        };
        match name {
            "_layout_hole" => {
                let (words, rest) = quoted(rest)?;
                if !rest.is_empty() || what.replace(words).is_some() {
                    bail!("_layout_hole takes one sentence, and appears once");
                }
            }
            "_fixed_by_patch" => {
                let (subject, rest) = quoted(rest)?;
                let filesystems: Vec<String> = rest.split(' ').map(str::to_owned).collect();
                let filesystems = if rest.is_empty() {
                    Vec::new()
                } else {
                    filesystems
                };
                for fs in &filesystems {
                    if !Filesystem::ALL.iter().any(|known| known.name() == fs) {
                        bail!("_fixed_by_patch: `{fs}` is not a filesystem of the tests");
                    }
                }
                fixes.push(Fix {
                    subject,
                    filesystems,
                });
            }
            _ => {}
        }
    }
    match (what, fixes.is_empty()) {
        (None, true) => Ok(None),
        (Some(what), false) => Ok(Some(Hole {
            test: test.to_owned(),
            what,
            fixes,
        })),
        _ => bail!("_layout_hole and _fixed_by_patch need each other"),
    }
}

/// The text between double quotes at the start, and what follows it.
fn quoted(text: &str) -> Result<(String, &str)> {
    let (inside, rest) = text
        .strip_prefix('"')
        .and_then(|text| text.split_once('"'))
        .context("the words after the name of the function are in double quotes, on one line")?;
    Ok((inside.to_owned(), rest.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::store::Store;

    fn project() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    #[test]
    fn every_hole_names_mails_of_the_series() {
        let holes = read(&project().join("xfstests/tests")).unwrap();
        assert!(!holes.is_empty());
        let mails = Store::at(project()).mails().unwrap();
        for hole in holes {
            for fix in &hole.fixes {
                assert!(
                    mails.iter().any(|(_, mail)| mail.subject == fix.subject),
                    "{}: no mail has the subject `{}`",
                    hole.test,
                    fix.subject
                );
            }
            assert!(
                Filesystem::ALL.iter().any(|fs| hole.is_on(*fs)),
                "{} is on no filesystem that it runs on",
                hole.test
            );
        }
    }

    #[test]
    fn headers_are_read() {
        let text = "_layout_hole \"it grows\"\n_fixed_by_patch \"fs: a\"\n";
        let hole = parse("xfs/901", text).unwrap().unwrap();
        assert_eq!(hole.what, "it grows");
        assert!(hole.is_on(Filesystem::Xfs) && !hole.is_on(Filesystem::Ext4));
        let text = "_layout_hole \"it grows\"\n_fixed_by_patch \"fs: a\" xfs ext4\n";
        let hole = parse("generic/901", text).unwrap().unwrap();
        assert!(hole.is_on(Filesystem::Ext4) && !hole.is_on(Filesystem::Btrfs));
        assert_eq!(parse("generic/901", "echo _layout_hole\n").unwrap(), None);
    }

    #[test]
    fn half_a_header_is_refused() {
        for text in [
            "_layout_hole \"a\"",
            "_fixed_by_patch \"a\"",
            "_layout_hole a\n_fixed_by_patch \"a\"",
            "_layout_hole \"a\"\n_fixed_by_patch \"a\" ext2",
            "_layout_hole \"a\"\n_layout_hole \"b\"\n_fixed_by_patch \"a\"",
        ] {
            assert!(parse("generic/901", text).is_err(), "{text}");
        }
    }
}
