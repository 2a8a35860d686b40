// SPDX-License-Identifier: GPL-2.0

//! Makes files of the driver compile that only the kernel's build fully understands.
//!
//! They are not pure: they lock, sleep and do I/O, which the crate `kernel`
//! simulates. Taken out are attributes that arrange values in memory and make
//! tables of functions; and `Arc::new`, which takes two arguments, is named so
//! that it does not clash with that of the standard library. For the model
//! checker, whose atomics cannot be made in a constant, an array of them is made
//! in another way, and there are fewer of them, which are fewer orders to try.
//! All else stays as it is, line by line.

use std::path::Path;
use std::{env, fs};

const FROM: &str = "../linux/drivers/block/blksnap";
const FILES: &[&str] = &["jobs.rs", "cow.rs", "image.rs", "space.rs", "chunk_map.rs"];

/// Sizes that the model checker wants to be small.
const SMALL: &[(&str, &str)] = &[
    ("JOBS: usize", "64"),
    ("SEGMENTS: usize", "4"),
    ("REGION: u64", "8"),
    ("FEW: usize", "2"),
    ("SHARDS: u64", "2"),
];

fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let loom = env::var_os("CARGO_FEATURE_LOOM").is_some();
    for file in FILES {
        let from = Path::new(FROM).join(file);
        println!("cargo::rerun-if-changed={}", from.display());
        let source = fs::read_to_string(&from)
            .unwrap_or_else(|e| panic!("cannot read {}: {e}", from.display()));
        fs::write(Path::new(&out).join(file), for_the_host(&source, loom))
            .unwrap_or_else(|e| panic!("cannot write {file}: {e}"));
    }
}

fn for_the_host(source: &str, loom: bool) -> String {
    source
        .lines()
        .map(|line| match line.trim() {
            "#[pin_data]" | "#[pin]" | "#[vtable]" => "//".to_owned(),
            // Documentation of the module, which may not stand in what is included.
            text if text.starts_with("//!") => String::new(),
            _ if loom => for_the_model_checker(line),
            _ => line.to_owned(),
        })
        .map(|line| line.replace("Arc::new(", "NewArc::new(") + "\n")
        .collect()
}

fn for_the_model_checker(line: &str) -> String {
    for (name, value) in SMALL {
        if let Some((before, _)) = line.split_once(&format!("const {name} =")) {
            return format!("{before}const {name} = {value};");
        }
    }
    line.replace(
        "[const { Atomic::new(0) }; JOBS / 64]",
        "core::array::from_fn(|_| Atomic::new(0))",
    )
}
