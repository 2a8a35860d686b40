//! The patched tree: a worktree of the base whose unchanged files keep their time stamps.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::apply::apply;
use super::store::Store;
use crate::cache::{Cache, Lock, make, write_if_changed};
use crate::exec::read_optional;
use crate::fail::{Failure, Kind};
use crate::git::Git;
use crate::paths::text;
use crate::setup::machine::quoted;
use crate::ui::Ui;

/// What the worktree was last made from.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct State {
    base: String,
    series: String,
    commit: String,
}

/// A tree that is ready; nobody else changes it while the lock is held.
pub struct Tree {
    pub folder: PathBuf,
    pub commit: String,
    pub lock: Lock,
}

/// Where the base comes from.
pub struct Base {
    pub repository: PathBuf,
    pub commit: String,
    /// Name of the worktree in the cache, different for different repositories.
    pub name: String,
}

/// Name of the worktree of the cached base.
const PRISTINE: &str = "series";

impl Base {
    /// The pristine kernel in the cache.
    pub fn pristine(cache: &Cache) -> Result<Self> {
        let repository = cache.base();
        let commit = Git::at(&repository).commit("refs/tags/base")?;
        Ok(Self {
            repository,
            commit,
            name: PRISTINE.into(),
        })
    }

    /// Where the worktree is, or will be.
    pub fn worktree(&self, cache: &Cache) -> PathBuf {
        cache.trees().join(&self.name)
    }

    /// Somebody's own kernel repository, at what is checked out there.
    pub fn own(folder: &Path) -> Result<Self> {
        let repository = folder.canonicalize().map_err(|error| {
            Failure::new(Kind::Usage, format!("--kdir {}: {error}", folder.display()))
        })?;
        let git = Git::at(&repository);
        let commit = git.commit("HEAD").map_err(|_| {
            Failure::new(
                Kind::Usage,
                format!(
                    "--kdir {} is not a git repository with a commit",
                    folder.display()
                ),
            )
            .hint(how_to_commit(folder))
        })?;
        let hash = blake3::hash(repository.as_os_str().as_encoded_bytes()).to_hex();
        Ok(Self {
            repository,
            commit,
            name: format!("kdir-{}", &hash[..12]),
        })
    }
}

/// Only a kernel source is worth putting into git.
fn how_to_commit(folder: &Path) -> String {
    if !folder.join("Kconfig").is_file() {
        return "name the top folder of a kernel source that is in git, such as a clone of Linux"
            .to_owned();
    }
    let folder = quoted(&folder.display().to_string());
    format!("git -C {folder} init && git -C {folder} add -A && git -C {folder} commit -m base")
}

/// Brings the worktree to the state of the series and returns it.
pub fn ensure(cache: &Cache, store: &Store, base: &Base, ui: &Ui) -> Result<Tree> {
    let folder = base.worktree(cache);
    let lock = cache.lock(&format!("tree-{}", base.name), ui)?;
    let git = Git::at(&base.repository);
    let recorded = state(cache, &base.name)?;
    let series = store.fingerprint()?;
    let there = folder.join(".git").exists();
    // A tree that nothing is known of is made anew, but not if somebody worked in it.
    let present = there && recorded.is_some();
    let work = if there {
        let known = known(&folder, &base.name, recorded.as_ref());
        own_work(&folder, known.as_deref())?
    } else {
        OwnWork::None
    };
    if let Some(state) = recorded.filter(|state| {
        present && work == OwnWork::None && state.base == base.commit && state.series == series
    }) {
        return Ok(Tree {
            folder,
            commit: state.commit,
            lock,
        });
    }
    let task = ui.task("applying the series", None);
    let applied = apply(store, &git, &base.commit)?;
    let commit = applied
        .last()
        .map_or(&base.commit, |last| &last.commit)
        .clone();
    task.done();
    match &work {
        OwnWork::None => {}
        // What was worked on there has become the series meanwhile.
        OwnWork::Commits(tree) if *tree == git.tree(&commit)? => {}
        OwnWork::Commits(_) | OwnWork::Uncommitted => {
            return Err(keep_own_work(&folder, &base.commit, &base.name));
        }
    }
    // A reference keeps the commits alive, and `git log` in the tree has a name to show.
    git.text(["update-ref", &format!("refs/klab/{}", base.name), &commit])?;
    if !present {
        let task = ui.task(format!("checking out the tree {}", folder.display()), None);
        create(cache, &git, &folder, &commit)?;
        task.done();
    } else {
        Git::at(&folder).text(["checkout", "--quiet", "--detach", &commit])?;
    }
    let state = State {
        base: base.commit.clone(),
        series,
        commit: commit.clone(),
    };
    write_if_changed(
        &state_file(cache, &base.name),
        serde_json::to_string_pretty(&state)?.as_bytes(),
    )?;
    Ok(Tree {
        folder,
        commit,
        lock,
    })
}

/// The worktree as it is, with what is checked out there; makes nothing.
pub fn existing(cache: &Cache, kdir: Option<&Path>) -> Result<(PathBuf, String)> {
    let name = match kdir {
        Some(folder) => Base::own(folder)?.name,
        None => PRISTINE.to_owned(),
    };
    let folder = cache.trees().join(name);
    // Without this git would take a repository further up.
    let there = folder.join(".git").exists();
    let commit = there
        .then(|| Git::at(&folder).commit("HEAD").ok())
        .flatten();
    match commit {
        Some(commit) => Ok((folder, commit)),
        None => Err(Failure::new(
            Kind::Usage,
            format!("there is no tree {} yet", folder.display()),
        )
        .hint(match kdir {
            Some(_) => "make it with: cargo klab tree --kdir DIR",
            None => "make it with: cargo klab tree",
        })
        .into()),
    }
}

/// Makes the worktree under another name first, so that one that is there is whole.
pub fn create(cache: &Cache, git: &Git, folder: &Path, commit: &str) -> Result<()> {
    make(&cache.trees())?;
    if folder.exists() {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    forget_gone(git, &cache.trees())?;
    let scratch = cache.scratch_for(folder)?;
    let (half, whole) = (text(scratch.path())?, text(folder)?);
    git.text([
        "worktree", "add", "--quiet", "--force", "--detach", half, commit,
    ])?;
    git.text(["worktree", "move", half, whole])?;
    Ok(())
}

/// Drops what git remembers of worktrees of ours that are gone. Those of others may be absent for a
/// while only, and are left alone.
fn forget_gone(git: &Git, trees: &Path) -> Result<()> {
    let common = git.text(COMMON_DIR)?;
    let entries = Path::new(&common).join("worktrees");
    if !entries.is_dir() {
        return Ok(());
    }
    let trees = trees.canonicalize()?;
    for entry in std::fs::read_dir(&entries)? {
        let entry = entry?.path();
        let text = read_optional(&entry.join("gitdir"))?.unwrap_or_default();
        let place = Path::new(text.trim());
        if place.starts_with(&trees) && !place.exists() {
            std::fs::remove_dir_all(&entry)
                .with_context(|| format!("cannot remove {}", entry.display()))?;
        }
    }
    Ok(())
}

const COMMON_DIR: [&str; 3] = ["rev-parse", "--path-format=absolute", "--git-common-dir"];

/// Names of the trees there are.
pub fn names(cache: &Cache) -> Result<Vec<String>> {
    let mut names = Vec::new();
    if cache.trees().is_dir() {
        for entry in std::fs::read_dir(cache.trees())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() && !name.starts_with('.') {
                names.push(name);
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Refuses to lose what somebody did in a tree.
pub fn require_no_work(cache: &Cache, name: &str) -> Result<()> {
    let folder = cache.trees().join(name);
    if !folder.join(".git").exists() {
        return Ok(());
    }
    let recorded = state(cache, name)?;
    let known = known(&folder, name, recorded.as_ref());
    match own_work(&folder, known.as_deref())? {
        OwnWork::None => Ok(()),
        OwnWork::Commits(_) | OwnWork::Uncommitted => {
            let base = recorded.map_or("refs/tags/base".to_owned(), |state| state.base);
            Err(keep_own_work(&folder, &base, name))
        }
    }
}

/// The same for the base itself.
pub fn require_pristine(cache: &Cache) -> Result<()> {
    let base = cache.base();
    if !base.join(".git").exists() {
        return Ok(());
    }
    let pristine = Git::at(&base).commit("refs/tags/base").ok();
    if own_work(&base, pristine.as_deref())? == OwnWork::None {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Usage,
        format!(
            "the kernel source {} contains work that klab did not do",
            base.display()
        ),
    )
    .hint(format!(
        "save it elsewhere, or discard it with: git -C {} checkout --force --detach refs/tags/base",
        quoted(&base.display().to_string())
    ))
    .into())
}

/// Removes a tree, and what its repository knows of it.
pub fn remove(cache: &Cache, name: &str) -> Result<()> {
    let folder = cache.trees().join(name);
    let common = Git::at(&folder).text(COMMON_DIR);
    // Under another name first, so that no half of a tree passes for one.
    let scratch = cache.scratch_for(&folder)?;
    std::fs::rename(&folder, scratch.path())
        .with_context(|| format!("cannot remove {}", folder.display()))?;
    drop(scratch);
    crate::signals::remove(&state_file(cache, name));
    // A repository that is gone knows nothing any more.
    if let Ok(common) = common {
        let git = Git::at(common);
        git.text(["update-ref", "-d", &format!("refs/klab/{name}")])?;
        forget_gone(&git, &cache.trees())?;
    }
    Ok(())
}

fn state_file(cache: &Cache, name: &str) -> PathBuf {
    cache.trees().join(format!("{name}.json"))
}

fn state(cache: &Cache, name: &str) -> Result<Option<State>> {
    let text = read_optional(&state_file(cache, name))?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// The commit that klab itself checked out last.
fn known(folder: &Path, name: &str, recorded: Option<&State>) -> Option<String> {
    match recorded {
        Some(state) => Some(state.commit.clone()),
        None => Git::at(folder).commit(&format!("refs/klab/{name}")).ok(),
    }
}

/// What somebody did in the tree.
#[derive(Debug, PartialEq, Eq)]
enum OwnWork {
    None,
    /// With the git tree they end at.
    Commits(String),
    Uncommitted,
}

/// Looks for what is neither committed nor the commit that klab checked out.
fn own_work(folder: &Path, known: Option<&str>) -> Result<OwnWork> {
    let git = Git::at(folder);
    let look = || -> Result<(String, String)> {
        let changed = git.text(["status", "--porcelain", "--untracked-files=no"])?;
        Ok((changed, git.commit("HEAD")?))
    };
    let (changed, head) = look().map_err(|error| {
        let folder = folder.display();
        Failure::new(
            Kind::Usage,
            format!("git cannot tell what is in the tree {folder}: {error:#}"),
        )
        .hint(format!("save what you need from it, then: rm -r {folder}"))
    })?;
    if !changed.is_empty() {
        return Ok(OwnWork::Uncommitted);
    }
    if known.is_some_and(|commit| commit == head) {
        return Ok(OwnWork::None);
    }
    Ok(OwnWork::Commits(git.tree(&head)?))
}

/// It is theirs to keep or to throw away.
fn keep_own_work(folder: &Path, base: &str, name: &str) -> anyhow::Error {
    let folder = folder.display();
    Failure::new(
        Kind::Usage,
        format!("the tree {folder} contains work that klab did not do"),
    )
    .hint(format!(
        "commit it there, then: cargo klab series import {folder} --base {base}; or discard it \
             with: git -C {folder} checkout --force --detach refs/klab/{name}"
    ))
    .into()
}
