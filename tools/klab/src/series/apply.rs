//! Mails to commits, without touching any checkout: one commit a mail, on top of a base.

use anyhow::Result;

use super::mail::Mail;
use super::store::{Store, malformed};
use crate::exec;
use crate::git::Git;
use crate::signals::Scratch;

/// One applied mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub name: String,
    pub commit: String,
    pub tree: String,
}

/// Makes the commits; the same series on the same base gives the same commits everywhere.
pub fn apply(store: &Store, git: &Git, base: &str) -> Result<Vec<Applied>> {
    let scratch = Scratch::folder()?;
    let git = git.with_index(&scratch.path().join("index"));
    git.text(["read-tree", base])?;
    let mut parent = base.to_owned();
    let mut applied = Vec::new();
    for (name, mail) in store.mails()? {
        apply_changes(&git, &name, &mail)?;
        add_new_files(store, &git, &name, &mail)?;
        let tree = git.text(["write-tree"])?;
        let (author, address) = mail
            .author_parts()
            .map_err(|error| malformed(format!("{name}: {error}")))?;
        let commit = git
            .with_env("GIT_AUTHOR_NAME", author)
            .with_env("GIT_AUTHOR_EMAIL", address)
            .with_env("GIT_AUTHOR_DATE", &mail.date)
            .with_env("GIT_COMMITTER_NAME", author)
            .with_env("GIT_COMMITTER_EMAIL", address)
            .with_env("GIT_COMMITTER_DATE", &mail.date);
        let commit = commit.bytes(
            ["commit-tree", "-p", &parent, "-F", "-", &tree],
            Some(mail.message().as_bytes()),
        )?;
        parent = String::from_utf8(commit)?.trim().to_owned();
        applied.push(Applied {
            name,
            commit: parent.clone(),
            tree,
        });
    }
    Ok(applied)
}

fn apply_changes(git: &Git, name: &str, mail: &Mail) -> Result<()> {
    if mail.diff.is_empty() {
        return Ok(());
    }
    let mut command = git.command(["apply", "--cached", "--whitespace=nowarn", "-"]);
    let output = exec::capture(&mut command, Some(&mail.diff))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr)
        .trim()
        .replace('\n', "\n  | ");
    Err(malformed(format!(
        "{name} does not apply to {} with the mails before it:\n  | {said}",
        git.folder().display()
    ))
    .into())
}

fn add_new_files(store: &Store, git: &Git, name: &str, mail: &Mail) -> Result<()> {
    let mut entries = Vec::new();
    for path in &mail.new_files {
        if !git.text(["ls-files", "--cached", "--", path])?.is_empty() {
            return Err(malformed(format!("{name} adds {path}, which already exists")).into());
        }
        let file = store.read_new_file(path)?;
        let blob = git.bytes(["hash-object", "-w", "--stdin"], Some(&file.content))?;
        let blob = String::from_utf8(blob)?;
        let mode = if file.executable { "100755" } else { "100644" };
        entries.extend_from_slice(format!("{mode} {}\t{path}\0", blob.trim()).as_bytes());
    }
    if !entries.is_empty() {
        git.bytes(
            ["update-index", "--add", "-z", "--index-info"],
            Some(&entries),
        )?;
    }
    Ok(())
}
