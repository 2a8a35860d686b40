// SPDX-License-Identifier: GPL-2.0

//! A snapshot with everything that happens to it.
//!
//! From the folder of blksnap-host: `cargo +nightly fuzz run chunks corpus/chunks`

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| blksnap_host::fuzz::chunks(bytes));
