// SPDX-License-Identifier: GPL-2.0-only

//! Checks the headers themselves, and that `generated.rs` is made from them.
//!
//! `BINDGEN=/path/to/bindgen` names the generator, otherwise the one on PATH is
//! used. `BLKSNAP_UAPI_WRITE=1` writes the file instead of comparing it.

use libtest_mimic::{Arguments, Failed, Trial};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The release that made `generated.rs`; others word the same bindings differently.
const GENERATOR: &str = "bindgen 0.72.";

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let generator = generator();
    if let Err(reason) = &generator {
        eprintln!("skipped: generated_file_matches_headers: {reason}");
    }
    let skipped = generator.is_err();
    let tests = vec![
        Trial::test("headers_compile_alone", headers_compile_alone),
        Trial::test("generated_file_matches_headers", move || {
            generated_file_matches_headers(&generator?)
        })
        .with_ignored_flag(skipped),
    ];
    libtest_mimic::run(&args, tests).exit_code()
}

fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn headers() -> PathBuf {
    crate_dir().join("../../rust-blksnap/linux/include/uapi/linux")
}

/// Runs `command` and returns its stdout, or its stderr as the failure.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|e| format!("cannot run {:?}: {e}", command.get_program()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "{:?} failed ({}):\n{}",
            command.get_program(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

fn generator() -> Result<OsString, String> {
    let program = env::var_os("BINDGEN").unwrap_or_else(|| "bindgen".into());
    let version = run(Command::new(&program).arg("--version")).map_err(|e| {
        format!("{e}; install it with `cargo install bindgen-cli --version 0.72.1` or set BINDGEN")
    })?;
    if version.starts_with(GENERATOR) {
        Ok(program)
    } else {
        Err(format!(
            "{} is not the {GENERATOR}x that made generated.rs",
            version.trim()
        ))
    }
}

/// Each header stands alone, in C and C++, and no structure has unnamed padding.
fn headers_compile_alone() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    for header in ["blk-filter.h", "blksnap.h"] {
        let source = dir.path().join("alone.c");
        fs::write(
            &source,
            format!("#include \"{header}\"\n#include \"{header}\"\n"),
        )?;
        for standard in ["c99", "c11", "gnu17"] {
            run(Command::new(&compiler)
                .arg(format!("-std={standard}"))
                .args([
                    "-Wall",
                    "-Wextra",
                    "-Wpadded",
                    "-pedantic",
                    "-Werror",
                    "-fsyntax-only",
                ])
                .arg("-I")
                .arg(headers())
                .arg(&source))?;
        }
    }
    Ok(())
}

fn generated_file_matches_headers(generator: &OsString) -> Result<(), Failed> {
    let scratch = tempfile::tempdir()?;
    let generated = run(Command::new(generator)
        .current_dir(crate_dir())
        .arg("wrapper.h")
        .args(["--disable-header-comment", "--formatter=prettyplease"])
        .args(["--rust-target=1.85", "--rust-edition=2024", "--use-core"])
        .args([
            "--generate-cstr",
            "--no-doc-comments",
            "--no-derive-default",
        ])
        .args(["--default-enum-style=consts", "--no-prepend-enum-name"])
        .args([
            "--allowlist-type=(blksnap|blkfilter)_.*",
            "--allowlist-var=(BLKSNAP|BLKFILTER)_.*",
        ])
        // The ioctl numbers are expressions with sizeof, which only clang itself can work out.
        .arg("--clang-macro-fallback")
        .arg("--clang-macro-fallback-build-dir")
        .arg(scratch.path())
        .arg(
            "--with-derive-custom-struct=.*=FromBytes,IntoBytes,Immutable,KnownLayout,PartialEq,Eq",
        )
        .args(["--raw-line=// SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note"])
        .args([
            "--raw-line=",
            "--raw-line=use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};",
        ])
        .arg("--")
        .arg("-I")
        .arg(headers()))?;
    let file = crate_dir().join("src/generated.rs");
    if env::var_os("BLKSNAP_UAPI_WRITE").is_some() {
        fs::write(&file, &generated)?;
    }
    let committed = fs::read_to_string(&file)?;
    if generated == committed {
        return Ok(());
    }
    let line = generated
        .lines()
        .zip(committed.lines())
        .position(|(new, old)| new != old)
        .unwrap_or_else(|| generated.lines().count().min(committed.lines().count()));
    Err(format!(
        "generated.rs differs from what the headers give, first in line {}; \
         regenerate it with BLKSNAP_UAPI_WRITE=1 cargo test -p blksnap-uapi --test headers",
        line + 1
    )
    .into())
}
