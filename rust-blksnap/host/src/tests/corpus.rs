// SPDX-License-Identifier: GPL-2.0

//! What fuzzers have found worth keeping, as it is and changed a little.

use crate::fuzz;
use std::{fmt::Write, fs, path::Path};

/// Shows the input that a test fails with, so that it can be added to those that are kept.
struct Shown<'a> {
    name: &'a str,
    bytes: &'a [u8],
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut hex = String::new();
            for byte in self.bytes {
                let _ = write!(hex, "{byte:02x}");
            }
            eprintln!("fails with {} as changed here: {hex}", self.name);
        }
    }
}

struct Lot(u64);

impl Lot {
    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + 1 + self.below(8)).min(bytes.len());
        let byte = [0, 1, 0x7f, 0x80, 0xff, self.below(256) as u8][self.below(6)];
        match self.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = byte,
            2 => bytes.insert(at, byte),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                bytes.truncate(at);
                bytes.extend(&other[self.below(other.len() + 1)..]);
            }
        }
    }
}

/// Replays all inputs that are kept for a target, and `changed` that are made from them.
fn replay(target: &str, run: fn(&[u8]), changed: u64) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut inputs: Vec<(String, Vec<u8>)> = fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("cannot read {}: {e}", dir.display()))
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    assert!(!inputs.is_empty(), "nothing in {}", dir.display());
    // The same inputs give the same changes, whatever the order in the folder.
    inputs.sort_unstable();

    for (name, bytes) in &inputs {
        let _shown = Shown { name, bytes };
        run(bytes);
    }
    for seed in 0..if cfg!(miri) { changed / 100 } else { changed } {
        let mut lot = Lot(seed);
        let (name, bytes) = &inputs[lot.below(inputs.len())];
        let other = lot.below(inputs.len());
        let mut bytes = bytes.clone();
        for _ in 0..=lot.below(6) {
            lot.change(&mut bytes, &inputs[other].1);
        }
        let _shown = Shown {
            name,
            bytes: &bytes,
        };
        run(&bytes);
    }
}

#[test]
fn arguments_are_decoded() {
    replay("arguments", fuzz::arguments, 20_000);
}

#[test]
fn chunks_keep_their_content() {
    replay("chunks", fuzz::chunks, 400);
}
