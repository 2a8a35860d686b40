// SPDX-License-Identifier: GPL-2.0

//! Stands in for the kernel's own `kernel` crate on the host.
//!
//! Only names and behaviour that the driver's files use, so that these compile
//! unchanged. Memory can be made to run out, see [`alloc::fail_after`], and
//! with the feature `loom` atomics are those of the model checker.

#![forbid(unsafe_code)]
// The simulated machine is one thread.
#![allow(clippy::arc_with_non_send_sync)]

pub mod alloc;
pub mod block;
pub mod error;
pub mod fs;
pub mod page;
pub mod prelude;
pub use std::ffi;
pub mod sim;
pub mod sync;
pub mod time;
pub mod tracepoint;
pub mod workqueue;

/// Prints an error.
#[macro_export]
macro_rules! pr_err {
    ($($arg:tt)*) => { $crate::sim::log(format_args!($($arg)*)) };
}

/// Prints what only a developer wants to know: nothing here.
#[macro_export]
macro_rules! pr_debug {
    ($($arg:tt)*) => { let _ = format_args!($($arg)*); };
}

/// What makes a value in place in the kernel, and just makes it here.
pub struct Init<F>(F);

impl<T, F: FnOnce() -> error::Result<T>> Init<F> {
    /// By this.
    pub fn new(make: F) -> Self {
        Init(make)
    }

    pub(crate) fn make(self) -> error::Result<T> {
        (self.0)()
    }
}

/// Makes a structure, each field by a value or by what makes one.
#[macro_export]
macro_rules! try_pin_init {
    (@ $ty:ident { $($done:tt)* }) => { $ty { $($done)* } };
    (@ $ty:ident { $($done:tt)* } $field:ident <- $value:expr, $($rest:tt)*) => {
        $crate::try_pin_init!(@ $ty { $($done)* $field: $value, } $($rest)*)
    };
    (@ $ty:ident { $($done:tt)* } $field:ident: $value:expr, $($rest:tt)*) => {
        $crate::try_pin_init!(@ $ty { $($done)* $field: $value, } $($rest)*)
    };
    (@ $ty:ident { $($done:tt)* } $field:ident, $($rest:tt)*) => {
        $crate::try_pin_init!(@ $ty { $($done)* $field, } $($rest)*)
    };
    ($ty:ident { $($fields:tt)* }) => {
        $crate::Init::new(move || Ok($crate::try_pin_init!(@ $ty {} $($fields)*)))
    };
}

/// A spinning lock.
#[macro_export]
macro_rules! new_spinlock {
    ($value:expr, $name:literal) => {
        $crate::sync::SpinLock::new($value)
    };
}

/// A spinning lock that interrupts take too.
#[macro_export]
macro_rules! new_spinlock_irq {
    ($value:expr, $name:literal) => {
        $crate::sync::SpinLockIrq::new($value)
    };
}

/// Something to wait for.
#[macro_export]
macro_rules! new_condvar {
    ($name:literal) => {
        $crate::sync::CondVar::new()
    };
}

/// Work to be done.
#[macro_export]
macro_rules! new_work {
    ($name:literal) => {
        $crate::workqueue::Work::new()
    };
}

/// Says where in a structure its timer is.
#[macro_export]
macro_rules! impl_has_hr_timer {
    (impl HasHrTimer<Self> for $ty:ident { mode: $mode:ty, field: self.$field:ident }) => {
        impl $crate::time::hrtimer::HasHrTimer<Self> for $ty {
            type Mode = $mode;

            fn timer(&self) -> &$crate::time::hrtimer::HrTimer<Self> {
                &self.$field
            }
        }
    };
}

/// Says where in a structure its work items are.
#[macro_export]
macro_rules! impl_has_work {
    ($(impl HasWork<Self, $id:ident> for $ty:ident { self.$field:ident })*) => {
        $(
            impl $crate::workqueue::HasWork<$id> for $ty {
                fn work(&self) -> &$crate::workqueue::Work<Self, $id> {
                    &self.$field
                }
            }
        )*
    };
}
