// SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note

//! The ioctl interface of the block filter and of blksnap.
//!
//! `generated.rs` is what bindgen makes of the headers in
//! `rust-blksnap/linux/include/uapi/linux`; the test `headers` regenerates it
//! and compares. It is committed so that building needs no libclang.
//!
//! Every structure is free of padding and valid for any bit pattern, which the
//! zerocopy derives prove, so that it can be handed to the kernel as bytes.

#![no_std]
#![forbid(unsafe_code)]

#[rustfmt::skip]
#[allow(non_camel_case_types, missing_docs)]
mod generated;
mod layout;

pub use generated::*;
