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

impl Base {
    /// The pristine kernel in the cache.
    pub fn pristine(cache: &Cache) -> Result<Self> {
        let repository = cache.base();
        let commit = Git::at(&repository).commit("refs/tags/base")?;
        Ok(Self {
            repository,
            commit,
            name: "series".into(),
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
                    "--kdir {} is no git repository with a commit",
                    folder.display()
                ),
            )
            .hint(format!(
                "git -C {} init && git add -A && git commit",
                folder.display()
            ))
        })?;
        let hash = blake3::hash(repository.as_os_str().as_encoded_bytes()).to_hex();
        Ok(Self {
            repository,
            commit,
            name: format!("kdir-{}", &hash[..12]),
        })
    }
}

/// Brings the worktree to the state of the series and returns it.
pub fn ensure(cache: &Cache, store: &Store, base: &Base, ui: &Ui) -> Result<Tree> {
    let folder = base.worktree(cache);
    let lock = cache.lock(&format!("tree-{}", base.name), ui)?;
    let git = Git::at(&base.repository);
    let state_file = cache.trees().join(format!("{}.json", base.name));
    let recorded: Option<State> =
        read_optional(&state_file)?.and_then(|text| serde_json::from_str(&text).ok());
    let series = store.fingerprint()?;
    let present = folder.join(".git").exists() && recorded.is_some();
    let work = if present {
        own_work(&folder, recorded.as_ref())?
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
        OwnWork::Commits(_) | OwnWork::Uncommitted => return Err(keep_own_work(&folder, base)),
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
        &state_file,
        serde_json::to_string_pretty(&state)?.as_bytes(),
    )?;
    Ok(Tree {
        folder,
        commit,
        lock,
    })
}

/// Makes the worktree under another name first, so that one that is there is whole.
fn create(cache: &Cache, git: &Git, folder: &Path, commit: &str) -> Result<()> {
    make(&cache.trees())?;
    if folder.exists() {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    git.text(["worktree", "prune"])?;
    let scratch = cache.scratch_for(folder)?;
    let half = scratch
        .path()
        .to_str()
        .context("the cache path is not UTF-8")?;
    let whole = folder.to_str().context("the cache path is not UTF-8")?;
    git.text([
        "worktree", "add", "--quiet", "--force", "--detach", half, commit,
    ])?;
    git.text(["worktree", "move", half, whole])?;
    exclude_objects(git)
}

/// Keeps object folders out of `git status`.
pub fn exclude_objects(git: &Git) -> Result<()> {
    let common = git.text(["rev-parse", "--path-format=absolute", "--git-common-dir"])?;
    let path = Path::new(&common).join("info/exclude");
    let mut text = read_optional(&path)?.unwrap_or_default();
    let line = format!("/{}*/", crate::build::OBJECTS);
    if !text.lines().any(|old| old == line) {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&line);
        text.push('\n');
        write_if_changed(&path, text.as_bytes())?;
    }
    Ok(())
}

/// What somebody did in the tree.
#[derive(Debug, PartialEq, Eq)]
enum OwnWork {
    None,
    /// With the git tree they end at.
    Commits(String),
    Uncommitted,
}

fn own_work(folder: &Path, recorded: Option<&State>) -> Result<OwnWork> {
    let git = Git::at(folder);
    let changed = git.text(["status", "--porcelain", "--untracked-files=no"])?;
    if !changed.is_empty() {
        return Ok(OwnWork::Uncommitted);
    }
    let head = git.commit("HEAD")?;
    if recorded.is_some_and(|state| state.commit == head) {
        return Ok(OwnWork::None);
    }
    Ok(OwnWork::Commits(git.tree(&head)?))
}

/// It is theirs to keep or to throw away.
fn keep_own_work(folder: &Path, base: &Base) -> anyhow::Error {
    let folder = folder.display();
    Failure::new(
        Kind::Usage,
        format!("the tree {folder} has work of its own in it"),
    )
    .hint(format!(
        "commit it there, then: cargo klab series import {folder} --base {}; or throw it \
             away with: git -C {folder} checkout --force --detach refs/klab/{}",
        base.commit, base.name
    ))
    .into()
}
