// SPDX-License-Identifier: GPL-2.0

//! Errors are negative numbers.

use crate::alloc::AllocError;
use std::num::TryFromIntError;

/// An error code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error(i32);

/// As the standard one, with the kernel's error unless said otherwise.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// The codes by name.
#[rustfmt::skip]
pub mod code {
    use super::Error;

    macro_rules! codes {
        ($($name:ident = $number:literal)*) => {
            $(#[doc = stringify!($name)] pub const $name: Error = Error(-$number);)*

            pub(super) fn name(errno: i32) -> &'static str {
                match -errno {
                    $($number => stringify!($name),)*
                    _ => "unknown error",
                }
            }
        };
    }

    codes! {
        EPERM = 1 ENOENT = 2 EIO = 5 EAGAIN = 11 ENOMEM = 12 EBUSY = 16 EEXIST = 17 ENODEV = 19
        EINVAL = 22 ENOTTY = 25 EFBIG = 27 ENOSPC = 28 ERANGE = 34 ENODATA = 61 EOVERFLOW = 75
        EOPNOTSUPP = 95 EALREADY = 114
    }
}

impl Error {
    /// The negative number.
    pub fn to_errno(self) -> i32 {
        self.0
    }
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(code::name(self.0))
    }
}

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Self {
        code::ENOMEM
    }
}

impl From<TryFromIntError> for Error {
    fn from(_: TryFromIntError) -> Self {
        code::EINVAL
    }
}

/// Negative numbers are errors.
pub fn to_result(errno: i32) -> Result {
    match errno {
        0.. => Ok(()),
        _ => Err(Error(errno)),
    }
}
