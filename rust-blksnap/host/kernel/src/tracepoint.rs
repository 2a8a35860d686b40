// SPDX-License-Identifier: GPL-2.0

//! Tracepoints, of which nobody is told here.

/// Declares functions that do nothing.
#[macro_export]
macro_rules! declare_safe_trace {
    ($($(#[$attr:meta])* $pub:vis fn $name:ident($($arg:ident : $typ:ty),* $(,)?);)*) => {$(
        $( #[$attr] )*
        $pub fn $name($($arg: $typ),*) {
            $( let _ = $arg; )*
        }
    )*};
}

pub use declare_safe_trace;
