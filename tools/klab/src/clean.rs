//! Removing what can be made again, and nothing else.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::build;
use crate::cache::{Cache, Lock};
use crate::cli::CleanArgs;
use crate::fail::{Failure, Kind};
use crate::series::tree;
use crate::ui::Ui;

pub fn clean(cache: &Cache, args: &CleanArgs, ui: &Ui) -> Result<()> {
    let _setup = cache.lock("setup", ui)?;
    if args.downloads && !args.all {
        return remove(vec![cache.downloads(), cache.apt()], ui);
    }
    if let Some(pid) = cache.users()?.first() {
        return Err(Failure::new(
            Kind::Usage,
            format!("process {pid} is running guests that use the cache"),
        )
        .hint(format!("wait for it to end, or: kill {pid}"))
        .into());
    }
    // Nobody builds in a tree meanwhile, and nothing goes before all have been looked at.
    let names = tree::names(cache)?;
    let mut locks: Vec<Lock> = Vec::new();
    for name in names.iter().map(String::as_str).chain(["base"]) {
        locks.push(cache.lock(&format!("tree-{name}"), ui)?);
    }
    for name in &names {
        tree::require_no_work(cache, name)?;
    }
    if args.all {
        tree::require_pristine(cache)?;
    }
    for name in &names {
        let task = ui.task(format!("removing the tree {name}"), None);
        tree::remove(cache, name)?;
        task.done();
    }
    if args.all {
        return remove(vec![cache.root().to_owned()], ui);
    }
    let mut parts = vec![cache.trees(), cache.running(), cache.root().join("logs")];
    parts.extend(objects_in_base(cache)?);
    remove(parts, ui)
}

fn objects_in_base(cache: &Cache) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if cache.base().is_dir() {
        for entry in std::fs::read_dir(cache.base())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() && name.starts_with(build::OBJECTS) {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

fn remove(parts: Vec<PathBuf>, ui: &Ui) -> Result<()> {
    for part in parts.iter().filter(|part| part.exists()) {
        let task = ui.task(format!("removing {}", part.display()), None);
        std::fs::remove_dir_all(part)
            .with_context(|| format!("cannot remove {}", part.display()))?;
        task.done();
    }
    Ok(())
}
