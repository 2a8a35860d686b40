// SPDX-License-Identifier: GPL-2.0

//! What the driver's files import with one line.

pub use crate::alloc::{AllocError, Flags, KBox, KVVec, KVec, flags::*};
pub use crate::error::{Error, Result, code::*};
pub use crate::sync::{ArcExt, NewArc};
pub use crate::{pr_debug, pr_err, try_pin_init};
pub use std::mem::{align_of, align_of_val, size_of, size_of_val};
