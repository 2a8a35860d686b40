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
const FILES: &[&str] = &["jobs.rs", "cow.rs", "image.rs"];

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
    let instead: &[(&str, &str)] = match loom {
        true => &[
            (
                "[const { Atomic::new(0) }; JOBS / 64]",
                "core::array::from_fn(|_| Atomic::new(0))",
            ),
            ("const JOBS: usize = 256;", "const JOBS: usize = 64;"),
        ],
        false => &[],
    };
    source
        .lines()
        .map(|line| match line.trim() {
            "#[pin_data]" | "#[pin]" | "#[vtable]" => "//".to_owned(),
            // Documentation of the module, which may not stand in what is included.
            text if text.starts_with("//!") => String::new(),
            _ => instead.iter().fold(
                line.replace("Arc::new(", "NewArc::new("),
                |line, (from, to)| line.replace(from, to),
            ),
        })
        .flat_map(|line| [line, "\n".to_owned()])
        .collect()
}
