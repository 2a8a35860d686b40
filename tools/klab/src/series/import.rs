//! Commits to mails: the reverse of applying.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::mail::Mail;
use super::store::{Mails, Store, malformed};
use crate::cache::write_if_changed;
use crate::fail::{Failure, Kind};
use crate::git::Git;

/// What an import did.
#[derive(Debug, Serialize)]
pub struct Imported {
    pub mails: usize,
    pub new_files: usize,
    /// Files in the folders of new files that no mail names.
    pub unnamed: Vec<String>,
    /// Sources in the worktree that git ignores: they look new, and are in no commit.
    pub ignored: Vec<String>,
}

/// What to import, and how.
pub struct Options<'a> {
    pub base: &'a str,
    pub head: &'a str,
    /// `Name <address>`, the sender of every mail; none keeps the authors of the commits.
    pub sender: Option<&'a str>,
    /// Later changes to a new file are folded into the mail that adds it.
    pub fold: bool,
}

struct Change {
    status: char,
    mode: String,
    path: String,
}

/// The repository with the commits, which the user names.
pub fn source(folder: &Path) -> Result<Git> {
    let git = Git::at(folder);
    if git.commit("HEAD").is_ok() {
        return Ok(git);
    }
    let why = if folder.is_dir() {
        "is not a git worktree with a commit"
    } else {
        "is not a folder"
    };
    Err(
        Failure::new(Kind::Usage, format!("{} {why}", folder.display()))
            .hint("name the worktree with the series: cargo klab series import DIR --base REV")
            .into(),
    )
}

/// Writes the commits `base..head` of a kernel repository as mails and new files.
pub fn import(store: &Store, git: &Git, options: &Options<'_>) -> Result<Imported> {
    let (base, head) = ends(git, options)?;
    record_release(store, git, options.base)?;
    let mails = mails_between(git, &base, &head, options)?;
    let named = write_new_files(store, git, &head, &mails)?;
    store.write_mails(&mails)?;
    let unnamed = store
        .new_files()?
        .into_keys()
        .filter(|path| !named.contains(path))
        .collect();
    Ok(Imported {
        mails: mails.len(),
        new_files: named.len(),
        unnamed,
        ignored: ignored_sources(git)?,
    })
}

/// The commits that the series starts from and ends at.
fn ends(git: &Git, options: &Options<'_>) -> Result<(String, String)> {
    let refuse = |why: String| {
        Failure::new(Kind::Usage, why)
            .hint("name the commit the series starts from: cargo klab series import DIR --base REV")
    };
    let find = |name: &str| {
        git.commit(name)
            .map_err(|_| refuse(format!("{} has no commit `{name}`", show(git))))
    };
    let (base, head) = (find(options.base)?, find(options.head)?);
    if git.holds(["merge-base", "--is-ancestor", &base, &head])? {
        return Ok((base, head));
    }
    Err(refuse(format!(
        "{} is not an ancestor of {} in {}",
        options.base,
        options.head,
        show(git)
    ))
    .into())
}

/// Which kernel the series is for does not change unnoticed.
fn record_release(store: &Store, git: &Git, base: &str) -> Result<()> {
    let found = release(git, base)?;
    let file = store.patches().join("base");
    if !file.is_file() {
        write_if_changed(&file, format!("{found}\n").as_bytes())?;
        return Ok(());
    }
    let wanted = store.base()?;
    if found == wanted {
        return Ok(());
    }
    Err(malformed(format!(
        "the series is for Linux {wanted}, but {base} in {} is Linux {found}",
        show(git)
    ))
    .into())
}

/// A mail for each commit, with the new files that are still there at the end.
fn mails_between(git: &Git, base: &str, head: &str, options: &Options<'_>) -> Result<Mails> {
    let in_base = git.paths(base)?;
    let listing = git.text(["rev-list", "--reverse", &format!("{base}..{head}")])?;
    let mut added: BTreeMap<String, String> = BTreeMap::new();
    let mut mails: Mails = Vec::new();
    let mut parent = base;
    for commit in listing.lines() {
        let number = mails.len() + 1;
        if git.text(["show", "-s", "--format=%P", commit])? != parent {
            return Err(malformed(format!(
                "{commit} in {} is a merge, or not part of a linear history",
                show(git)
            ))
            .hint("rebase the branch so that its history is linear")
            .into());
        }
        let mail = mail_of(git, parent, commit, &in_base, &mut added, options)?;
        mails.push((mail.file_name(number), mail));
        parent = commit;
    }
    // With folding, what a mail adds may be removed again further on: only what the end has counts.
    let at_end = git.paths(head)?;
    for (_, mail) in &mut mails {
        mail.new_files.retain(|path| at_end.contains(path));
    }
    Ok(mails)
}

/// Writes what the mails add, and removes what only earlier mails added; returns the paths.
fn write_new_files(
    store: &Store,
    git: &Git,
    head: &str,
    mails: &Mails,
) -> Result<BTreeSet<String>> {
    let added = |mails: &Mails| -> BTreeSet<String> {
        let mails = mails.iter();
        mails.flat_map(|(_, mail)| mail.new_files.clone()).collect()
    };
    let obsolete = store.mails().map(|old| added(&old)).unwrap_or_default();
    let named = added(mails);
    for path in &named {
        write_new_file(store, git, head, path)?;
    }
    for path in obsolete.difference(&named) {
        remove_new_file(store, path)?;
    }
    Ok(named)
}

/// A distribution's `.gitignore` may hide new sources from `git add`; generated ones lie in folders
/// that hold no file of git's.
fn ignored_sources(git: &Git) -> Result<Vec<String>> {
    let listing = git.text([
        "ls-files",
        "--others",
        "--ignored",
        "--exclude-standard",
        "--directory",
        "--",
        "*.c",
        "*.h",
        "*.rs",
        "*.rst",
    ])?;
    let is_source = |path: &&str| {
        let named = [".c", ".h", ".rs", ".rst"]
            .iter()
            .any(|ending| path.ends_with(ending));
        named && !path.ends_with(".mod.c")
    };
    Ok(listing
        .lines()
        .filter(is_source)
        .map(str::to_owned)
        .collect())
}

fn show(git: &Git) -> String {
    git.folder().display().to_string()
}

/// `7.3` of a kernel commit, from its Makefile.
pub fn release(git: &Git, commit: &str) -> Result<String> {
    let makefile = git.text(["show", &format!("{commit}:Makefile")])?;
    let (version, patchlevel, _) = version_of(&makefile)?;
    Ok(format!("{version}.{patchlevel}"))
}

/// The three numbers at the top of a kernel's Makefile.
pub fn version_of(makefile: &str) -> Result<(u32, u32, u32)> {
    let number = |name: &str| -> Result<u32> {
        makefile
            .lines()
            .filter_map(|line| line.split_once('='))
            .find(|(key, _)| key.trim() == name)
            .and_then(|(_, value)| value.trim().parse().ok())
            .with_context(|| format!("the Makefile has no {name}: is this a kernel tree?"))
    };
    Ok((
        number("VERSION")?,
        number("PATCHLEVEL")?,
        number("SUBLEVEL")?,
    ))
}

fn mail_of(
    git: &Git,
    parent: &str,
    commit: &str,
    in_base: &HashSet<String>,
    added: &mut BTreeMap<String, String>,
    options: &Options<'_>,
) -> Result<Mail> {
    let date = git.text(["show", "-s", "--format=%aD", commit])?;
    let message = git.text(["show", "-s", "--format=%B", commit])?;
    let (subject, body) = message.split_once('\n').unwrap_or((&message, ""));
    let mut in_place = Vec::new();
    let mut new_files = Vec::new();
    for change in changes(git, parent, commit)? {
        let path = change.path;
        if in_base.contains(&path) {
            if change.status == 'A' {
                return Err(malformed(format!(
                    "{subject}: {path} is in the base, was deleted, and is added again"
                ))
                .into());
            }
            in_place.push(path);
        } else if let Some(first) = added.get(&path) {
            if !options.fold {
                return Err(malformed(format!(
                    "\"{subject}\" changes {path}, which \"{first}\" adds: a new file is added \
                     whole"
                ))
                .hint("squash the change into that commit, or import with --fold")
                .into());
            }
        } else {
            if !["100644", "100755"].contains(&change.mode.as_str()) {
                return Err(malformed(format!("{subject}: {path} is not a regular file")).into());
            }
            added.insert(path.clone(), subject.to_owned());
            new_files.push(path);
        }
    }
    let mail = Mail {
        author: match options.sender {
            Some(sender) => sender.to_owned(),
            None => git.text(["show", "-s", "--format=%an <%ae>", commit])?,
        },
        date,
        subject: subject.trim().to_owned(),
        new_files,
        body: body.trim().to_owned(),
        diff: diff(git, parent, commit, &in_place)?,
    };
    mail.check_message()
        .map_err(|error| malformed(format!("\"{subject}\": {error}")))?;
    Ok(mail)
}

fn changes(git: &Git, parent: &str, commit: &str) -> Result<Vec<Change>> {
    let raw = git.bytes(
        [
            "diff-tree",
            "-r",
            "-z",
            "--no-renames",
            "--raw",
            parent,
            commit,
        ],
        None,
    )?;
    let raw = String::from_utf8(raw).context("a path is not UTF-8")?;
    let mut fields = raw.split_terminator('\0');
    let mut changes = Vec::new();
    while let Some(meta) = fields.next() {
        let path = fields
            .next()
            .context("git printed half a change")?
            .to_owned();
        let words: Vec<&str> = meta.split(' ').collect();
        let &[_, mode, _, _, status] = words.as_slice() else {
            anyhow::bail!("git printed `{meta}`");
        };
        let status = status.chars().next().context("git printed no status")?;
        changes.push(Change {
            status,
            mode: mode.to_owned(),
            path,
        });
    }
    Ok(changes)
}

fn diff(git: &Git, parent: &str, commit: &str, paths: &[String]) -> Result<Vec<u8>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    // Every choice is spelt out: the settings of whoever imports must not show in the mails.
    let fixed = [
        "diff-tree",
        "-p",
        "-r",
        "--no-renames",
        "--full-index",
        "--binary",
        "--no-ext-diff",
        "--no-textconv",
        "--no-color",
        "--diff-algorithm=histogram",
        "--unified=3",
        "--src-prefix=a/",
        "--dst-prefix=b/",
        parent,
        commit,
        "--",
    ];
    git.bytes(
        fixed.into_iter().chain(paths.iter().map(String::as_str)),
        None,
    )
}

fn write_new_file(store: &Store, git: &Git, head: &str, path: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let content = git.bytes(["cat-file", "blob", &format!("{head}:{path}")], None)?;
    let mode = git.text(["ls-tree", "--format=%(objectmode)", head, "--", path])?;
    let place = store.place_of(path);
    write_if_changed(&place, &content)?;
    let bits = if mode == "100755" { 0o755 } else { 0o644 };
    if place.metadata()?.permissions().mode() & 0o777 != bits {
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(bits))?;
    }
    Ok(())
}

fn remove_new_file(store: &Store, path: &str) -> Result<()> {
    let place = store.place_of(path);
    if !place.is_file() {
        return Ok(());
    }
    std::fs::remove_file(&place)?;
    let mut folder = place.parent();
    while let Some(empty) = folder.filter(|f| *f != store.root() && is_empty(f)) {
        std::fs::remove_dir(empty)?;
        folder = empty.parent();
    }
    Ok(())
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_makefile() {
        let text = "# SPDX\nVERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\nEXTRAVERSION =\n";
        assert_eq!(version_of(text).unwrap(), (7, 3, 4));
        assert!(version_of("all:\n\ttrue\n").is_err());
    }
}
