// SPDX-License-Identifier: GPL-2.0

//! Time, which does not pass here.

/// What the kernel counts time by.
pub type Jiffies = usize;

/// So many milliseconds.
pub fn msecs_to_jiffies(msecs: u32) -> Jiffies {
    msecs as Jiffies
}
