// SPDX-License-Identifier: GPL-2.0

//! Universally unique identifiers.
//!
//! C header: [`include/linux/uuid.h`](srctree/include/linux/uuid.h)

use crate::{bindings, fmt};

/// A universally unique identifier as in RFC 9562.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// A random one.
    pub fn random() -> Self {
        let mut uuid = bindings::uuid_t { b: [0; 16] };
        // SAFETY: `uuid` is valid for writes.
        unsafe { bindings::uuid_gen(&mut uuid) };
        Self(uuid.b)
    }

    /// The one with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if let 4 | 6 | 8 | 10 = i {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
