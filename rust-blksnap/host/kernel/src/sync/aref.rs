// SPDX-License-Identifier: GPL-2.0

//! References to what counts them itself.

use std::ops::Deref;

/// A reference. Here, simply the value, which is one itself.
#[derive(Clone)]
pub struct ARef<T>(T);

impl<T> ARef<T> {
    /// To `value`.
    pub fn new(value: T) -> Self {
        ARef(value)
    }
}

impl<T> Deref for ARef<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
