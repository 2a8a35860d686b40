//! Set-up as a whole: refuse first, then say what will be done, then do it.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{apt, base, bindgen, machine, rust_src};
use crate::cache::Cache;
use crate::exec::find_program;
use crate::fail::{Failure, Kind};
use crate::runner::qemu;
use crate::ui::Ui;

/// What a kernel build needs from us.
#[derive(Clone, Debug)]
pub struct Toolchain {
    pub bindgen: PathBuf,
    pub rust_library: PathBuf,
}

/// Gets everything that is missing; `release` is the base kernel, unless the user brings one.
pub fn ensure(cache: &Cache, ui: &Ui, release: Option<&str>) -> Result<Toolchain> {
    cache.sweep(ui)?;
    machine::require_x86_64()?;
    machine::rustc_version()?;
    machine::require_debian()?;
    let packages = machine::missing_packages(&machine::PACKAGES)?;
    let need_base = release.is_some() && !base::is_there(cache);
    if packages.is_empty()
        && !need_base
        && let (Some(bindgen), Some(rust_library)) = (bindgen::find(cache)?, rust_src::find(cache)?)
    {
        return Ok(Toolchain {
            bindgen,
            rust_library,
        });
    }
    if !packages.is_empty() {
        machine::require_root("Debian packages have to be installed")?;
    }
    if need_base {
        cache.require_space(12 << 30, "the kernel source with its builds")?;
    }
    let _lock = cache.lock("setup", ui)?;
    announce(cache, ui, &packages, need_base)?;
    // Looked at before anything is begun, so that a broken configuration or network stops us early.
    let mirror = apt::mirror_of_machine(Path::new("/etc/apt"))?;
    let source = release.map(|release| format!("linux-source-{release}"));
    let mut downloads = Vec::new();
    if rust_src::find(cache)?.is_none() {
        downloads.push("rust-src");
    }
    if need_base {
        downloads.extend(source.as_deref());
    }
    let mut offline = packages.is_empty();
    for package in downloads {
        offline &= apt::is_downloaded(cache, package)?;
    }
    if !offline {
        apt::require_archive(&mirror)?;
    }
    if !packages.is_empty() {
        apt::install(cache, ui, &packages)?;
    }
    // Building bindgen is work for the processor; the rest mostly waits for network and disk.
    std::thread::scope(|scope| {
        let builder = scope.spawn(|| bindgen::ensure(cache, ui));
        let fetched = (|| -> Result<PathBuf> {
            let rust_library = rust_src::ensure(cache, ui)?;
            if let Some(release) = release {
                base::ensure(cache, ui, release)?;
            }
            Ok(rust_library)
        })();
        let bindgen = builder.join().map_err(|_| {
            Failure::new(Kind::Internal, "the thread that builds bindgen crashed")
        })??;
        Ok(Toolchain {
            bindgen,
            rust_library: fetched?,
        })
    })
}

/// Gets what guests and tests use, for a kernel that somebody brings along.
pub fn guest_tools(cache: &Cache, ui: &Ui) -> Result<()> {
    packages(cache, ui, &machine::FOR_GUESTS)
}

/// Gets what runs virtual machines, unless the user has it from elsewhere.
pub fn qemu(cache: &Cache, ui: &Ui) -> Result<()> {
    if find_program(qemu::PROGRAM).is_some() {
        return Ok(());
    }
    packages(cache, ui, &machine::FOR_QEMU)
}

fn packages(cache: &Cache, ui: &Ui, wanted: &[&'static str]) -> Result<()> {
    cache.sweep(ui)?;
    machine::require_x86_64()?;
    machine::require_debian()?;
    let packages = machine::missing_packages(wanted)?;
    if packages.is_empty() {
        return Ok(());
    }
    machine::require_root("Debian packages have to be installed")?;
    let _lock = cache.lock("setup", ui)?;
    say_packages(ui, &packages);
    apt::require_archive(&apt::mirror_of_machine(Path::new("/etc/apt"))?)?;
    apt::install(cache, ui, &packages)
}

fn say_packages(ui: &Ui, packages: &[&str]) {
    ui.say("klab sets up this machine once:");
    if !packages.is_empty() {
        ui.say(format!(
            "  with apt-get, for the whole machine: {} packages ({})",
            packages.len(),
            packages.join(" ")
        ));
    }
}

fn announce(cache: &Cache, ui: &Ui, packages: &[&str], need_base: bool) -> Result<()> {
    say_packages(ui, packages);
    let mut parts = Vec::new();
    if need_base {
        parts.push("the kernel source (165 MB to download, 3.5 GB on disk)");
    }
    if rust_src::find(cache)?.is_none() {
        parts.push("the Rust library source (45 MB)");
    }
    if bindgen::find(cache)?.is_none() {
        parts.push("bindgen, built by cargo");
    }
    if !parts.is_empty() {
        ui.say(format!(
            "  into {}: {}",
            cache.root().display(),
            parts.join(", ")
        ));
    }
    Ok(())
}
