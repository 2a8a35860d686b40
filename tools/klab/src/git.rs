//! Git, as the store of the kernel trees.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::exec;

#[derive(Clone, Debug)]
pub struct Git {
    folder: PathBuf,
    /// An index of our own, so that nobody's checkout is touched.
    index: Option<PathBuf>,
    env: Vec<(String, String)>,
}

impl Git {
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            index: None,
            env: Vec::new(),
        }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The same in another folder.
    #[cfg(test)]
    pub fn moved_to(&self, folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            ..self.clone()
        }
    }

    pub fn with_index(&self, index: &Path) -> Self {
        Self {
            index: Some(index.to_owned()),
            ..self.clone()
        }
    }

    pub fn with_env(&self, name: &str, value: &str) -> Self {
        let mut git = self.clone();
        git.env.push((name.to_owned(), value.to_owned()));
        git
    }

    /// A git command that no setting of the user can bend.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("git");
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
            command.env_remove(name);
        }
        command
            .arg("-C")
            .arg(&self.folder)
            .args(["-c", "core.quotePath=false", "-c", "core.autocrlf=false"])
            .args([
                "-c",
                "core.hooksPath=/dev/null",
                "-c",
                "gc.auto=0",
                "-c",
                "safe.directory=*",
            ])
            .args([
                "-c",
                "core.compression=0",
                "-c",
                "advice.detachedHead=false",
            ])
            .args(arguments);
        if let Some(index) = &self.index {
            command.env("GIT_INDEX_FILE", index);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn text<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        exec::text_of(&mut self.command(arguments))
    }

    pub fn bytes<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: Option<&[u8]>,
    ) -> Result<Vec<u8>> {
        exec::stdout_of(&mut self.command(arguments), input)
    }

    /// Whether the command succeeds.
    pub fn holds<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<bool> {
        Ok(exec::capture(&mut self.command(arguments), None)?
            .status
            .success())
    }

    /// The commit a name stands for.
    pub fn commit(&self, name: &str) -> Result<String> {
        self.text([
            "rev-parse",
            "--verify",
            "--quiet",
            &format!("{name}^{{commit}}"),
        ])
        .with_context(|| format!("{} has no commit `{name}`", self.folder.display()))
    }

    /// The tree of a commit.
    pub fn tree(&self, commit: &str) -> Result<String> {
        self.text([
            "rev-parse",
            "--verify",
            "--quiet",
            &format!("{commit}^{{tree}}"),
        ])
        .with_context(|| format!("{} has no tree of `{commit}`", self.folder.display()))
    }

    /// Every path of a commit.
    pub fn paths(&self, commit: &str) -> Result<std::collections::HashSet<String>> {
        let listing = self.bytes(["ls-tree", "-r", "-z", "--name-only", commit], None)?;
        Ok(String::from_utf8(listing)?
            .split_terminator('\0')
            .map(str::to_owned)
            .collect())
    }
}
