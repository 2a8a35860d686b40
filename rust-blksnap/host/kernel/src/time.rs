// SPDX-License-Identifier: GPL-2.0

//! Time, which does not pass here.

pub mod hrtimer;

/// A length of time.
#[derive(Clone, Copy, Debug)]
pub struct Delta(());

impl Delta {
    /// So many milliseconds.
    pub fn from_millis(_: i64) -> Self {
        Delta(())
    }
}

/// The clock that is never set.
#[derive(Debug)]
pub struct Monotonic(());
