//! The folder where everything that can be made again lives, and the locks on its parts.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::fail::{Failure, Kind};
use crate::signals::{Scratch, remove};
use crate::ui::{Ui, bytes};

#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache of this user: `$XDG_CACHE_HOME/klab`, else `~/.cache/klab`.
    pub fn locate() -> Result<Self> {
        let set = |name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let home = match set("XDG_CACHE_HOME").filter(|path| path.is_absolute()) {
            Some(path) => path,
            None => set("HOME")
                .ok_or_else(|| {
                    Failure::new(Kind::Usage, "neither XDG_CACHE_HOME nor HOME is set")
                        .hint("export XDG_CACHE_HOME=/var/cache")
                })?
                .join(".cache"),
        };
        Ok(Self::at(home.join("klab")))
    }

    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The pristine kernel, a git repository.
    pub fn base(&self) -> PathBuf {
        self.root.join("base")
    }

    /// The patched trees, worktrees of a base.
    pub fn trees(&self) -> PathBuf {
        self.root.join("trees")
    }

    pub fn apt(&self) -> PathBuf {
        self.root.join("apt")
    }

    pub fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }

    pub fn rust_src(&self) -> PathBuf {
        self.root.join("rust-src")
    }

    /// Programs installed by cargo.
    pub fn tools(&self) -> PathBuf {
        self.root.join("tools")
    }

    pub fn ccache(&self) -> PathBuf {
        self.root.join("ccache")
    }

    /// Private folders of guests that are running: virtual disks.
    pub fn running(&self) -> PathBuf {
        self.root.join("running")
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    /// A scratch path on the same filesystem as `target`, for making it and renaming it into place.
    pub fn scratch_for(&self, target: &Path) -> Result<Scratch> {
        let folder = target.parent().unwrap_or(&self.root);
        make(folder)?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        Ok(Scratch::new(
            folder.join(format!(".{name}.{}", std::process::id())),
        ))
    }

    /// A folder of this process alone, for a guest: its disks, programs that it runs.
    pub fn private_folder(&self) -> Result<Scratch> {
        let folder = self.running();
        make(&folder)?;
        let path = tempfile::Builder::new()
            .prefix(&format!("{}-", std::process::id()))
            .tempdir_in(&folder)
            .context("cannot make a private folder for a guest")?
            .keep();
        Ok(Scratch::new(path.canonicalize()?))
    }

    /// Removes what processes that were killed left half done.
    pub fn sweep(&self, ui: &Ui) -> Result<()> {
        if left_over(&self.running(), &self.root)?.is_empty() {
            return Ok(());
        }
        let _lock = self.lock("setup", ui)?;
        for path in left_over(&self.running(), &self.root)? {
            ui.say(format!(
                "removing what was left unfinished: {}",
                path.display()
            ));
            remove(&path);
        }
        Ok(())
    }

    /// Processes that have guests running, or are about to.
    pub fn users(&self) -> Result<Vec<u32>> {
        let mut users: Vec<u32> = names(&self.running())?
            .iter()
            .filter_map(|name| name.split('-').next()?.parse().ok())
            .filter(|pid| lives(*pid) && *pid != std::process::id())
            .collect();
        users.sort_unstable();
        users.dedup();
        Ok(users)
    }

    /// Takes the lock of a part; waits for another process that has it, and says so.
    pub fn lock(&self, part: &str, ui: &Ui) -> Result<Lock> {
        let folder = self.root.join("locks");
        make(&folder)?;
        let path = folder.join(part);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open the lock {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                ui.say(format!(
                    "waiting for process {} to release {part}",
                    holder.trim()
                ));
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())?;
        Ok(Lock { _file: file })
    }

    /// Refuses to start what would fill the disk.
    pub fn require_space(&self, need: u64, what: &str) -> Result<()> {
        let free = free_space(&self.root)?;
        if free < need {
            return Err(Failure::new(
                Kind::Requirement,
                format!(
                    "{what} needs {} free under {}, and only {} are",
                    bytes(need),
                    self.root.display(),
                    bytes(free)
                ),
            )
            .hint("free some, or point XDG_CACHE_HOME at a larger disk: export XDG_CACHE_HOME=DIR")
            .into());
        }
        Ok(())
    }
}

/// A lock that ends when dropped (or when the process dies, however it dies).
pub struct Lock {
    _file: File,
}

/// What processes that are no more have left: folders of guests, and scratch paths.
fn left_over(running: &Path, root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in names(running)? {
        let pid = name.split('-').next().and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| !lives(pid)) {
            found.push(running.join(name));
        }
    }
    for folder in [root.to_owned(), root.join("trees"), root.join("rust-src")] {
        for name in names(&folder)? {
            let pid = name
                .strip_prefix('.')
                .and_then(|name| name.rsplit_once('.')?.1.parse().ok());
            if pid.is_some_and(|pid| !lives(pid)) {
                found.push(folder.join(name));
            }
        }
    }
    Ok(found)
}

/// Names of what lies in a folder, if it is there.
fn names(folder: &Path) -> Result<Vec<String>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn lives(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// The free space where a folder is, or will be made.
pub fn free_space(path: &Path) -> Result<u64> {
    let there = path.ancestors().find(|path| path.exists());
    let stat = rustix::fs::statvfs(there.unwrap_or(path))
        .with_context(|| format!("cannot determine the free space of {}", path.display()))?;
    Ok(stat.f_bavail * stat.f_frsize)
}

pub fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))
}

/// Makes a folder that the user names; what cannot become one is the user's mistake.
pub fn make_given(folder: &Path, hint: &str) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| {
        let what = if folder.exists() {
            format!("{} is not a folder", folder.display())
        } else {
            format!("the folder {} cannot be created: {error}", folder.display())
        };
        Failure::new(Kind::Usage, what).hint(hint).into()
    })
}

/// Writes a file whole or not at all; leaves it alone, with its time stamp, if nothing changes.
pub fn write_if_changed(path: &Path, content: &[u8]) -> Result<bool> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    let folder = path.parent().context("a file needs a folder")?;
    make(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot write in {}", folder.display()))?;
    file.write_all(content)?;
    use std::os::unix::fs::PermissionsExt;
    file.as_file()
        .set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.persist(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_file_keeps_its_inode() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        assert!(write_if_changed(&path, b"one").unwrap());
        let inode = path.metadata().unwrap().ino();
        assert!(!write_if_changed(&path, b"one").unwrap());
        assert_eq!(path.metadata().unwrap().ino(), inode);
        assert!(write_if_changed(&path, b"two").unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_the_users_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for (wrong, why) in [(file.clone(), "not a folder"), (file.join("a"), "created")] {
            let error = make_given(&wrong, "name another").unwrap_err();
            assert_eq!(crate::fail::status_of(&error), 2);
            let told = error.to_string();
            assert!(told.contains(why) && told.contains("/file"), "{told}");
        }
        make_given(&folder.path().join("new/deep"), "").unwrap();
        assert!(folder.path().join("new/deep").is_dir());
    }

    #[test]
    fn a_lock_keeps_others_out() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned());
        let held = cache.lock("part", &Ui::new()).unwrap();
        let other = File::open(folder.path().join("locks/part")).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        assert!(other.try_lock().is_ok());
    }

    #[test]
    fn what_dead_processes_left_goes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned());
        let own = cache.private_folder().unwrap();
        let base = cache.scratch_for(&cache.base()).unwrap();
        make(base.path()).unwrap();
        // No process can have such a number.
        let dead = [
            folder.path().join(".base.999999999"),
            cache.running().join("999999999-abc"),
        ];
        for path in &dead {
            make(path).unwrap();
        }
        make(&cache.trees().join("series")).unwrap();
        cache.sweep(&Ui::new()).unwrap();
        assert!(dead.iter().all(|path| !path.exists()));
        assert!(own.path().exists() && base.path().exists());
        assert!(cache.trees().join("series").exists() && cache.users().unwrap().is_empty());
    }

    #[test]
    fn too_little_space_is_a_requirement() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned());
        let error = cache.require_space(u64::MAX, "everything").unwrap_err();
        assert_eq!(crate::fail::status_of(&error), 110);
        cache.require_space(1, "nothing").unwrap();
    }
}
