//! The pristine kernel source, as a git repository with one commit.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::{Apt, unpack};
use crate::cache::Cache;
use crate::exec::Step;
use crate::fail::{Failure, Kind};
use crate::git::Git;
use crate::series::import::version_of;
use crate::ui::Ui;

/// Files in the source, for the progress bar.
const FILES: u64 = 100_000;

pub fn is_there(cache: &Cache) -> bool {
    cache.base().join(".git/refs/tags/base").is_file()
}

/// Fetches the source of this release (`7.3`, any point release) and commits it.
pub fn ensure(cache: &Cache, ui: &Ui, release: &str) -> Result<()> {
    if is_there(cache) {
        return Ok(());
    }
    cache.require_space(12 << 30, "the kernel source with its builds")?;
    let package = format!("linux-source-{release}");
    let start = format!("{release}.");
    let file = Apt::new(cache)?
        .download(ui, &package, |version| version.starts_with(&start))?
        .ok_or_else(|| {
            Failure::new(
                Kind::Requirement,
                format!("the archive has no package {package}"),
            )
            .hint("use a kernel tree of your own: cargo klab build --kdir DIR")
        })?;
    let scratch = cache.scratch_for(&cache.base())?;
    if scratch.path().exists() {
        std::fs::remove_dir_all(scratch.path())?;
    }
    let task = ui.task("unpacking the package", None);
    unpack(&file, scratch.path())?;
    task.done();
    let tarball = scratch.path().join(format!("usr/src/{package}.tar.xz"));
    let mut command = Command::new("tar");
    command
        .arg("--verbose")
        .arg("-xf")
        .arg(&tarball)
        .arg("-C")
        .arg(scratch.path());
    Step::new(
        "unpacking the kernel source",
        cache.log("unpack"),
        Kind::Requirement,
    )
    .hint("the download may be damaged: cargo klab clean --downloads, then cargo klab setup")
    .total(Some(FILES))
    .run(ui, command)?;
    let tree = scratch.path().join(&package);
    let makefile = std::fs::read_to_string(tree.join("Makefile"))
        .with_context(|| format!("{} does not contain a kernel", file.display()))?;
    let (version, patchlevel, sublevel) = version_of(&makefile)?;
    anyhow::ensure!(
        format!("{version}.{patchlevel}") == release,
        "{} holds Linux {version}.{patchlevel}.{sublevel}",
        file.display()
    );
    unhide_new_files(&tree)?;
    commit(
        cache,
        ui,
        &tree,
        &format!("Linux {version}.{patchlevel}.{sublevel}"),
    )?;
    if cache.base().exists() {
        std::fs::remove_dir_all(cache.base())?;
    }
    std::fs::rename(&tree, cache.base())?;
    Ok(())
}

/// Debian's source ignores every file that upstream does not have, which hides a developer's new
/// files from `git status` and `git add`: that part of `.gitignore` goes.
fn unhide_new_files(tree: &Path) -> Result<()> {
    let path = tree.join(".gitignore");
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, without_packaging(&text))?;
    Ok(())
}

fn without_packaging(text: &str) -> String {
    let packaging = ["/*", "!/debian/"];
    let mut kept = String::new();
    for line in text.lines().filter(|line| !packaging.contains(line)) {
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// Makes the tree a repository; the same source gives the same commit on every machine.
fn commit(cache: &Cache, ui: &Ui, tree: &Path, subject: &str) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let date = format!("@{} +0000", tree.join("Makefile").metadata()?.mtime());
    let git = Git::at(tree);
    git.text(["init", "--quiet", "--initial-branch=master"])?;
    for (name, value) in [
        ("core.compression", "0"),
        ("gc.auto", "0"),
        ("maintenance.auto", "false"),
        ("core.untrackedCache", "true"),
        ("index.version", "4"),
    ] {
        git.text(["config", name, value])?;
    }
    Step::new(
        "putting the kernel source into git",
        cache.log("git-add"),
        Kind::Internal,
    )
    .total(Some(FILES))
    .run(ui, git.command(["add", "--all", "--force", "--verbose"]))?;
    let mut git = git;
    for role in ["AUTHOR", "COMMITTER"] {
        git = git
            .with_env(&format!("GIT_{role}_NAME"), "Base")
            .with_env(&format!("GIT_{role}_EMAIL"), "base@localhost")
            .with_env(&format!("GIT_{role}_DATE"), &date);
    }
    git.text(["commit", "--quiet", "--no-gpg-sign", "--message", subject])?;
    git.text(["tag", "base"])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::without_packaging;

    #[test]
    fn only_the_packaging_rules_go() {
        let text = "*.o\n/tags\n# Debian packaging\n/*\n!/debian/\n";
        assert_eq!(without_packaging(text), "*.o\n/tags\n# Debian packaging\n");
    }
}
