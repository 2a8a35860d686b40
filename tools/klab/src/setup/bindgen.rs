//! The program that makes the kernel's Rust bindings.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::machine::parse_version;
use crate::cache::Cache;
use crate::exec::{Step, find_program, text_of};
use crate::fail::Kind;
use crate::signals::remove;
use crate::ui::Ui;

const VERSION: &str = "0.72.1";
const OLDEST: (u32, u32) = (0, 72);

/// A bindgen that is good enough: the cache's own, else the machine's.
pub fn find(cache: &Cache) -> Result<Option<PathBuf>> {
    let own = cache.tools().join("bin/bindgen");
    if own.is_file() {
        return Ok(Some(own));
    }
    let Some(found) = find_program("bindgen") else {
        return Ok(None);
    };
    let text = text_of(Command::new(&found).arg("--version"))?;
    let version = text.split_whitespace().nth(1).and_then(parse_version);
    Ok(version
        .is_some_and(|version| version >= OLDEST)
        .then_some(found))
}

pub fn ensure(cache: &Cache, ui: &Ui) -> Result<PathBuf> {
    if let Some(found) = find(cache)? {
        return Ok(found);
    }
    // In the cache, so that what was built before an interruption is not built again.
    let objects = cache.root().join("bindgen-objects");
    let mut command = Command::new("cargo");
    command
        .args([
            "install",
            "bindgen-cli",
            "--version",
            VERSION,
            "--locked",
            "--root",
        ])
        .arg(cache.tools())
        .arg("--target-dir")
        .arg(&objects)
        // The workspace's own settings are not meant for it.
        .current_dir(cache.root())
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS");
    Step::new(
        format!("building bindgen {VERSION} (about 2 minutes)"),
        cache.log("bindgen"),
        Kind::Requirement,
    )
    .hint("check whether cargo's registry can be reached, then continue with: cargo klab setup")
    .run(ui, command)?;
    remove(&objects);
    Ok(cache.tools().join("bin/bindgen"))
}
