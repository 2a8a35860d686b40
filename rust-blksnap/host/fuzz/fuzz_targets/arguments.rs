// SPDX-License-Identifier: GPL-2.0

//! Arguments of the ioctls.
//!
//! From the folder of blksnap-host: `cargo +nightly fuzz run arguments corpus/arguments`

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| blksnap_host::fuzz::arguments(bytes));
