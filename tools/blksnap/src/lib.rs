// SPDX-License-Identifier: GPL-2.0

//! Administration of block device snapshots.
//!
//! [`kernel::Kernel`] is the driver's interface with Rust types,
//! [`sys::Linux`] speaks it to the running kernel and is the only place with
//! unsafe code. [`manager::Manager`] puts the single requests together into
//! what a person wants done, and undoes it when a part fails. [`cli`] is the
//! command line on top.

#![deny(unsafe_code)]

pub mod cli;
pub mod error;
pub mod fiemap;
pub mod json;
pub mod kernel;
pub mod man;
pub mod manager;
pub mod registry;
pub mod stats;
pub mod storage;
pub mod sys;
pub mod top;

#[cfg(test)]
mod mock;
