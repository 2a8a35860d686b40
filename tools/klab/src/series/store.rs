//! Where the series lies in the project: `patches/`, and the two folders of new files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use walkdir::WalkDir;

use super::mail::Mail;
use crate::cache::write_if_changed;
use crate::exec::read_optional;
use crate::fail::{Failure, Kind};
use crate::paths::text;

/// Folders of new kernel files; the first one takes what belongs to the layout-pin interface.
pub const FOLDERS: [&str; 2] = ["fs-hooks/linux", "rust-blksnap/linux"];

/// Starts of kernel paths that belong to the layout-pin interface.
const LAYOUT_PATHS: [&str; 5] = [
    "fs/layout",
    "fs/iomap/layout",
    "include/linux/layout",
    "rust/kernel/fs/layout",
    "Documentation/filesystems/layout",
];

/// The folder of the project, with the series in it.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// The mails in order, with their file names.
pub type Mails = Vec<(String, Mail)>;

/// A problem with a file of the series.
pub fn malformed(what: impl Into<String>) -> Failure {
    Failure::new(Kind::Series, what).hint("see all problems at once with: cargo klab series check")
}

impl Store {
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn patches(&self) -> PathBuf {
        self.root.join("patches")
    }

    /// The kernel release the series is made for, such as `7.3`.
    pub fn base(&self) -> Result<String> {
        let path = self.patches().join("base");
        let text = read_optional(&path)?
            .ok_or_else(|| malformed(format!("{} is missing", path.display())))?;
        Ok(text.trim().to_owned())
    }

    /// File names of the mails, in order.
    pub fn names(&self) -> Result<Vec<String>> {
        let text = read_optional(&self.patches().join("series"))?.unwrap_or_default();
        Ok(text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(str::to_owned)
            .collect())
    }

    pub fn mails(&self) -> Result<Mails> {
        self.names()?
            .into_iter()
            .map(|name| {
                let path = self.patches().join(&name);
                let bytes = std::fs::read(&path).map_err(|error| {
                    malformed(format!("cannot read the mail {}: {error}", path.display()))
                })?;
                let mail = Mail::parse(&bytes)
                    .map_err(|error| malformed(format!("{}: {error:#}", path.display())))?;
                Ok((name, mail))
            })
            .collect()
    }

    /// Every new file that lies in the project: kernel path to the places it lies at.
    pub fn new_files(&self) -> Result<BTreeMap<String, Vec<PathBuf>>> {
        let mut files: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for folder in FOLDERS {
            let folder = self.root.join(folder);
            if !folder.is_dir() {
                continue;
            }
            for entry in WalkDir::new(&folder).sort_by_file_name() {
                let entry = entry?;
                if entry.file_type().is_dir() {
                    continue;
                }
                let path = entry.path().strip_prefix(&folder)?;
                let path = text(path)?.to_owned();
                files.entry(path).or_default().push(entry.into_path());
            }
        }
        Ok(files)
    }

    /// Where a new file lies or, if it is not there yet, has to lie.
    pub fn place_of(&self, kernel_path: &str) -> PathBuf {
        let mut existing = FOLDERS
            .iter()
            .map(|folder| self.root.join(folder).join(kernel_path));
        let layout = LAYOUT_PATHS
            .iter()
            .any(|start| kernel_path.starts_with(start));
        let by_rule = self
            .root
            .join(FOLDERS[usize::from(!layout)])
            .join(kernel_path);
        existing.find(|path| path.is_file()).unwrap_or(by_rule)
    }

    /// Writes the list of the mails and the mails; removes those that are no longer listed.
    pub fn write_mails(&self, mails: &Mails) -> Result<()> {
        let patches = self.patches();
        let mut list = String::new();
        for (name, mail) in mails {
            list.push_str(name);
            list.push('\n');
            write_if_changed(&patches.join(name), &mail.render())?;
        }
        let listed = self.names()?;
        write_if_changed(&patches.join("series"), list.as_bytes())?;
        for name in listed {
            if !mails.iter().any(|(kept, _)| *kept == name) && patches.join(&name).is_file() {
                std::fs::remove_file(patches.join(&name))?;
            }
        }
        Ok(())
    }

    /// A hash of everything that goes into the patched tree.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        let mut add = |name: &str, content: &[u8]| {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(&(content.len() as u64).to_le_bytes());
            hasher.update(content);
        };
        for (name, mail) in self.mails()? {
            add(&name, &mail.render());
            for path in &mail.new_files {
                add(path, &self.read_new_file(path)?.content);
            }
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    pub fn read_new_file(&self, kernel_path: &str) -> Result<NewFile> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.place_of(kernel_path);
        let read = || -> std::io::Result<NewFile> {
            let content = std::fs::read(&path)?;
            let executable = path.metadata()?.permissions().mode() & 0o100 != 0;
            Ok(NewFile {
                content,
                executable,
            })
        };
        read().map_err(|error| {
            malformed(format!(
                "the new file {} cannot be read: {error}",
                path.display()
            ))
            .into()
        })
    }
}

pub struct NewFile {
    pub content: Vec<u8>,
    pub executable: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_files_go_where_they_belong() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let rule = |path: &str| {
            store
                .place_of(path)
                .strip_prefix(folder.path())
                .unwrap()
                .display()
                .to_string()
        };
        assert_eq!(rule("fs/layout_test.c"), "fs-hooks/linux/fs/layout_test.c");
        assert_eq!(
            rule("fs/iomap/layout.c"),
            "fs-hooks/linux/fs/iomap/layout.c"
        );
        assert_eq!(
            rule("block/blk-filter.c"),
            "rust-blksnap/linux/block/blk-filter.c"
        );
        let there = folder.path().join("fs-hooks/linux/block/odd.c");
        write_if_changed(&there, b"x").unwrap();
        assert_eq!(rule("block/odd.c"), "fs-hooks/linux/block/odd.c");
    }

    #[test]
    fn the_fingerprint_sees_every_change() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let mail = |body: &str| Mail {
            author: "A <a@b>".into(),
            date: "d".into(),
            subject: "s".into(),
            new_files: vec!["fs/layout.c".into()],
            body: body.into(),
            diff: Vec::new(),
        };
        let write = |body: &str, content: &[u8]| {
            store
                .write_mails(&vec![("0001-s.patch".into(), mail(body))])
                .unwrap();
            write_if_changed(&store.place_of("fs/layout.c"), content).unwrap();
            store.fingerprint().unwrap()
        };
        let first = write("a", b"1");
        assert_eq!(first, write("a", b"1"));
        assert_ne!(first, write("b", b"1"));
        assert_ne!(first, write("a", b"2"));
    }
}
