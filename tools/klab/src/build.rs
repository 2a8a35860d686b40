//! Building the kernel.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

use crate::cache::{Cache, Lock, write_if_changed};
use crate::exec::{Step, read_optional};
use crate::fail::{Failure, Kind};
use crate::kconfig;
use crate::runner::machine::Platform;
use crate::series::store::Store;
use crate::series::tree::{self, Base, Tree};
use crate::setup;
use crate::setup::ensure::Toolchain;
use crate::signals::Scratch;
use crate::ui::Ui;

/// Start of the names of object folders, which lie inside the tree: so the compiler sees the
/// same relative paths in every tree, and what one tree compiled is found again for another.
pub const OBJECTS: &str = "o-";

/// Lines that a whole build prints, for the first progress bar.
const FIRST_GUESS: u64 = 1700;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Small and fast.
    Release,
    /// What benchmarks measure: for one processor, without debugging of pinned layouts.
    #[value(skip)]
    Lean,
    /// Lock checking, assertions of the filesystems and of Rust.
    Debug,
    /// Finds memory that nothing points to any more.
    Leaks,
}

impl Profile {
    pub fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Lean => "lean",
            Self::Debug => "debug",
            Self::Leaks => "leaks",
        }
    }
}

/// What kbuild has to know of a platform.
struct Target {
    arch: &'static str,
    /// What make is asked for.
    goal: &'static str,
    /// Where it lies among the objects.
    image: &'static str,
    /// Before the profile in the names of folders and logs.
    prefix: &'static str,
    fragment: &'static str,
}

fn target(platform: Platform) -> Target {
    match platform {
        Platform::Uml => Target {
            arch: "um",
            goal: "linux",
            image: "linux",
            prefix: "",
            fragment: "um",
        },
        Platform::Qemu => Target {
            arch: "x86_64",
            goal: "bzImage",
            image: "arch/x86/boot/bzImage",
            prefix: "x86-",
            fragment: "x86",
        },
    }
}

/// What to build.
#[derive(Clone, Debug)]
pub struct Plan {
    pub platform: Platform,
    pub profile: Profile,
    /// Without the series.
    pub stock: bool,
    /// Somebody's own kernel repository instead of the cached base.
    pub kdir: Option<PathBuf>,
}

/// A kernel that can be booted.
#[derive(Clone, Debug, Serialize)]
pub struct Kernel {
    pub image: PathBuf,
    pub tree: PathBuf,
    pub commit: String,
}

/// Does all set-up and builds; returns at once if nothing changed since the last time.
pub fn build(cache: &Cache, store: &Store, plan: &Plan, ui: &Ui) -> Result<Kernel> {
    let release = store.base()?;
    let wanted = plan.kdir.is_none().then_some(release.as_str());
    let toolchain = setup::ensure::ensure(cache, ui, wanted)?;
    let source = source(cache, store, plan, ui)?;
    let target = target(plan.platform);
    let name = format!("{}{}", target.prefix, plan.profile.name());
    let objects = source.folder.join(format!("{OBJECTS}{name}"));
    let image = objects.join(target.image);
    let kernel = Kernel {
        image: image.clone(),
        tree: source.folder.clone(),
        commit: source.commit.clone(),
    };
    // The options of the series exist once there is a mail that adds them.
    let series = !plan.stock && !store.names()?.is_empty();
    let settings = settings(store, plan.platform, series, plan.profile)?;
    let stamp = stamp(&source.commit, &toolchain, &settings)?;
    let stamp_file = objects.join(".klab-built");
    if image.is_file() && read_optional(&stamp_file)?.as_deref() == Some(stamp.as_str()) {
        return Ok(kernel);
    }
    cache.require_space(3 << 30, "a kernel build")?;
    if stamp_file.exists() {
        std::fs::remove_file(&stamp_file)?;
    }
    let kind = if plan.stock { "stock" } else { "patched" };
    let make = Make {
        cache,
        toolchain: &toolchain,
        folder: &source.folder,
        objects: &objects,
        platform: plan.platform,
        label: format!("building the {kind} kernel ({name})"),
        log: cache.log(&format!("build-{kind}-{name}")),
    };
    make.configure(&settings, plan.kdir.is_some(), ui)?;
    make.compile(ui)?;
    anyhow::ensure!(image.is_file(), "make made no {}", image.display());
    write_if_changed(&stamp_file, stamp.as_bytes())?;
    Ok(kernel)
}

struct Source {
    folder: PathBuf,
    commit: String,
    /// Held until the build is over: nobody may change the tree under it.
    _lock: Lock,
}

fn source(cache: &Cache, store: &Store, plan: &Plan, ui: &Ui) -> Result<Source> {
    let base = match &plan.kdir {
        Some(folder) => Base::own(folder)?,
        None => Base::pristine(cache)?,
    };
    if plan.stock && plan.kdir.is_none() {
        let lock = cache.lock("tree-base", ui)?;
        return Ok(Source {
            folder: base.repository,
            commit: base.commit,
            _lock: lock,
        });
    }
    if plan.stock {
        // Their checkout is not ours to build in: a worktree with no mail applied.
        let empty = Scratch::folder()?;
        let bare = Store::at(empty.path());
        let base = Base {
            name: format!("{}-stock", base.name),
            ..base
        };
        return Ok(held(tree::ensure(cache, &bare, &base, ui)?));
    }
    Ok(held(tree::ensure(cache, store, &base, ui)?))
}

fn held(tree: Tree) -> Source {
    Source {
        folder: tree.folder,
        commit: tree.commit,
        _lock: tree.lock,
    }
}

/// What the kernel is configured with.
pub fn settings(
    store: &Store,
    platform: Platform,
    series: bool,
    profile: Profile,
) -> Result<Vec<kconfig::Setting>> {
    let mut fragments = vec!["base", target(platform).fragment];
    if series {
        fragments.push("series");
    }
    match profile {
        Profile::Release => {}
        Profile::Lean => {
            fragments.push("single");
            fragments.extend(series.then_some("lean"));
        }
        Profile::Debug => fragments.push("debug"),
        // Not with lock checking: that complains of how User Mode Linux starts processors then.
        Profile::Leaks => fragments.push("leaks"),
    }
    kconfig::read(&store.root().join("tools/klab/config"), &fragments)
}

/// All that a build depends on, in one line; `source` is the name git has for the files.
pub fn stamp(source: &str, toolchain: &Toolchain, settings: &[kconfig::Setting]) -> Result<String> {
    Ok(format!(
        "{source} {} {} {}",
        setup::machine::rustc_version()?,
        toolchain.bindgen.display(),
        blake3::hash(kconfig::render(settings).as_bytes()).to_hex()
    ))
}

/// kbuild at work on what is checked out in a folder.
pub struct Make<'a> {
    pub cache: &'a Cache,
    pub toolchain: &'a Toolchain,
    pub folder: &'a Path,
    /// A folder in `folder`.
    pub objects: &'a Path,
    pub platform: Platform,
    /// What the progress says.
    pub label: String,
    pub log: PathBuf,
}

impl Make<'_> {
    fn command(&self) -> Result<Command> {
        let objects = self
            .objects
            .file_name()
            .context("object folders have names")?;
        let mut command = Command::new("make");
        command
            .current_dir(self.folder)
            .arg(format!("ARCH={}", target(self.platform).arch))
            .arg("CC=ccache gcc")
            .arg(format!("O={}", objects.to_string_lossy()))
            .arg(format!("BINDGEN={}", self.toolchain.bindgen.display()))
            .env("LIBCLANG_PATH", setup::machine::LIBCLANG)
            .env("RUST_LIB_SRC", &self.toolchain.rust_library)
            .env("CCACHE_DIR", self.cache.ccache())
            .env("CCACHE_MAXSIZE", "6G")
            .env("CCACHE_NOHASHDIR", "1")
            .env("CCACHE_SLOPPINESS", "time_macros")
            .env("KBUILD_BUILD_USER", "klab")
            .env("KBUILD_BUILD_HOST", "klab")
            .env("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 1970")
            .env("LC_ALL", "C.UTF-8");
        for name in [
            "MAKEFLAGS",
            "MFLAGS",
            "MAKELEVEL",
            "ARCH",
            "CROSS_COMPILE",
            "LLVM",
        ] {
            command.env_remove(name);
        }
        // cargo's settings for this workspace are not meant for the kernel.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER"] {
            command.env_remove(name);
        }
        Ok(command)
    }

    /// Writes `.config`. Settings that this source does not know are an error, or (`foreign`) a
    /// warning.
    pub fn configure(&self, settings: &[kconfig::Setting], foreign: bool, ui: &Ui) -> Result<()> {
        let wrong = self.try_configure(settings, ui)?;
        if wrong.is_empty() {
            return Ok(());
        }
        let what = format!(
            "{} settings did not take effect: {}",
            wrong.len(),
            wrong.join("; ")
        );
        if !foreign {
            return Err(Failure::new(Kind::Build, what)
                .hint("see tools/klab/config and the dependencies in the kernel's Kconfig files")
                .into());
        }
        ui.say(format!("warning: {what}"));
        Ok(())
    }

    /// Writes `.config`; returns what did not take effect.
    pub fn try_configure(&self, settings: &[kconfig::Setting], ui: &Ui) -> Result<Vec<String>> {
        let wanted = self.objects.join(".klab-wanted");
        write_if_changed(&wanted, kconfig::render(settings).as_bytes())?;
        // Whatever no fragment names is off, also in later kernels: nothing is built by default.
        let mut command = self.command()?;
        command
            .arg("allnoconfig")
            .arg("KCONFIG_CONFIG=.klab-config")
            .env("KCONFIG_ALLCONFIG", &wanted);
        Step::new(
            "configuring the kernel",
            self.cache.log("configure"),
            Kind::Build,
        )
        .run(ui, command)?;
        let config = std::fs::read(self.objects.join(".klab-config"))?;
        // kbuild compares time stamps: an equal configuration must look untouched.
        write_if_changed(&self.objects.join(".config"), &config)?;
        Ok(kconfig::not_in_effect(
            settings,
            &String::from_utf8_lossy(&config),
        ))
    }

    pub fn compile(&self, ui: &Ui) -> Result<()> {
        let count_file = self.objects.join(".klab-lines");
        let expected = read_optional(&count_file)?.and_then(|text| text.parse().ok());
        let jobs = std::thread::available_parallelism()?;
        let mut command = self.command()?;
        command
            .arg(format!("-j{jobs}"))
            .arg(target(self.platform).goal);
        let lines = Step::new(self.label.clone(), self.log.clone(), Kind::Build)
            .total(Some(expected.unwrap_or(FIRST_GUESS)))
            .run(ui, command)?;
        // Later builds are partial: only a larger one says how much a whole one is.
        if expected.is_none_or(|expected| lines > expected) {
            write_if_changed(&count_file, lines.to_string().as_bytes())?;
        }
        Ok(())
    }
}
