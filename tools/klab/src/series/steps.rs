//! Builds the kernel at every mail: whoever looks for a bug by bisection meets each of them.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::apply::apply;
use super::store::Store;
use super::tree::Base;
use crate::build::{self, Make, OBJECTS, Profile};
use crate::cache::{Cache, make};
use crate::exec::read_optional;
use crate::fail::{Failure, Kind};
use crate::git::Git;
use crate::runner::machine::Platform;
use crate::setup;
use crate::ui::Ui;

/// The one that builds fastest.
const PLATFORM: Platform = Platform::Uml;

/// What was built, of what there is.
#[derive(Debug, serde::Serialize)]
pub struct Built {
    pub mails: usize,
    /// Of these: built by an earlier run, from the same files with the same tools.
    pub before: usize,
}

/// Builds after each mail, in their order; ends at the first that does not build.
pub fn build(cache: &Cache, store: &Store, base: &Base, ui: &Ui) -> Result<Built> {
    let toolchain = setup::ensure::ensure(cache, ui, None)?;
    // The worktree is the tool's own: what is checked out in it changes all the time.
    let name = format!("{}-steps", base.name);
    let _lock = cache.lock(&format!("tree-{name}"), ui)?;
    let git = Git::at(&base.repository);
    let steps = apply(store, &git, &base.commit)?;
    let folder = cache.trees().join(&name);
    let objects = folder.join(format!("{OBJECTS}{}", Profile::Release.name()));
    let settings = build::settings(store, PLATFORM, true, Profile::Release)?;
    let record = cache.trees().join(format!("{name}.built"));
    let known = read_optional(&record)?.unwrap_or_default();
    let known: HashSet<&str> = known.lines().collect();
    let mut built = Built {
        mails: steps.len(),
        before: 0,
    };
    for (number, step) in steps.iter().enumerate() {
        let stamp = build::stamp(&step.tree, &toolchain, &settings)?;
        if known.contains(stamp.as_str()) {
            built.before += 1;
            continue;
        }
        cache.require_space(3 << 30, "a kernel build")?;
        // The reference tells `klab clean` that nobody has work of their own in the tree.
        git.text([
            "update-ref",
            &format!("refs/klab/{name}"),
            step.commit.as_str(),
        ])?;
        check_out(cache, &git, &folder, &step.commit)?;
        let title = format!("mail {} of {} ({})", number + 1, steps.len(), step.name);
        let make = Make {
            cache,
            toolchain: &toolchain,
            folder: &folder,
            objects: &objects,
            platform: PLATFORM,
            label: title.clone(),
            log: cache.log("build-steps"),
        };
        // What later mails add to Kconfig does not take effect yet.
        let wrong = make.try_configure(&settings, ui)?;
        if number + 1 == steps.len() && !wrong.is_empty() {
            return Err(Failure::new(
                Kind::Build,
                format!("{title}: did not take effect: {}", wrong.join("; ")),
            )
            .into());
        }
        make.compile(ui)?;
        remember(&record, &stamp)?;
    }
    Ok(built)
}

fn remember(record: &Path, stamp: &str) -> Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(record)
        .with_context(|| format!("cannot write {}", record.display()))?;
    Ok(writeln!(file, "{stamp}")?)
}

fn check_out(cache: &Cache, git: &Git, folder: &Path, commit: &str) -> Result<()> {
    if folder.join(".git").exists() {
        Git::at(folder).text(["checkout", "--quiet", "--force", "--detach", commit])?;
        return Ok(());
    }
    make(&cache.trees())?;
    super::tree::create(cache, git, folder, commit)
}
