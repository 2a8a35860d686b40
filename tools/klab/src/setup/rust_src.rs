//! The source of Rust's standard library in the version of the machine's compiler.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::apt::{Apt, unpack};
use super::machine::rustc_version;
use crate::cache::Cache;
use crate::exec::text_of;
use crate::fail::{Failure, Kind};
use crate::ui::Ui;

/// Where the source is, if it is there.
pub fn find(cache: &Cache) -> Result<Option<PathBuf>> {
    let sysroot = text_of(Command::new("rustc").args(["--print", "sysroot"]))?;
    let own = PathBuf::from(sysroot).join("lib/rustlib/src/rust/library");
    let fetched = cache.rust_src().join(rustc_version()?).join("library");
    Ok([own, fetched]
        .into_iter()
        .find(|folder| folder.join("core/src/lib.rs").is_file()))
}

/// Gets the source if the compiler came without it.
pub fn ensure(cache: &Cache, ui: &Ui) -> Result<PathBuf> {
    if let Some(folder) = find(cache)? {
        return Ok(folder);
    }
    let version = rustc_version()?;
    let start = format!("{version}+");
    let missing = || {
        Failure::new(
            Kind::Requirement,
            format!("the archive has no rust-src for the machine's rustc {version}"),
        )
        .hint("rustup component add rust-src")
    };
    let file = Apt::new(cache)?
        .download(ui, "rust-src", |found| found.starts_with(&start))?
        .ok_or_else(missing)?;
    let target = cache.rust_src().join(&version);
    let scratch = cache.scratch_for(&target)?;
    let task = ui.task(format!("unpacking the Rust library source {version}"), None);
    unpack(&file, scratch.path())?;
    let library = scratch
        .path()
        .join(format!("usr/src/rustc-{version}/library"));
    if !library.join("core/src/lib.rs").is_file() {
        return Err(missing().into());
    }
    if target.exists() {
        std::fs::remove_dir_all(&target)?;
    }
    crate::cache::make(&target)?;
    std::fs::rename(&library, target.join("library"))?;
    task.done();
    Ok(target.join("library"))
}
