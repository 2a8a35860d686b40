// SPDX-License-Identifier: GPL-2.0

//! Atomics with the kernel's interface.
//!
//! The kernel's memory model is mapped to that of the language: `Full` to
//! sequentially consistent, a failed `cmpxchg` to no ordering at all.

use crate::sim::preempt;
use ordering::{AcquireOrRelaxed, Ordering, ReleaseOrRelaxed};
use std::sync::atomic::Ordering as Std;

/// Orderings are types.
pub mod ordering {
    use std::sync::atomic::Ordering as Std;

    /// Any ordering.
    pub trait Ordering {
        /// For an operation that reads and writes.
        const BOTH: Std;
    }

    /// An ordering for reads.
    pub trait AcquireOrRelaxed: Ordering {
        /// For a read.
        const READ: Std;
    }

    /// An ordering for writes.
    pub trait ReleaseOrRelaxed: Ordering {
        /// For a write.
        const WRITE: Std;
    }

    /// No ordering.
    pub struct Relaxed;
    /// What follows stays behind.
    pub struct Acquire;
    /// What precedes stays before.
    pub struct Release;
    /// Nothing passes.
    pub struct Full;

    impl Ordering for Relaxed {
        const BOTH: Std = Std::Relaxed;
    }
    impl Ordering for Acquire {
        const BOTH: Std = Std::Acquire;
    }
    impl Ordering for Release {
        const BOTH: Std = Std::Release;
    }
    impl Ordering for Full {
        const BOTH: Std = Std::SeqCst;
    }
    impl AcquireOrRelaxed for Relaxed {
        const READ: Std = Std::Relaxed;
    }
    impl AcquireOrRelaxed for Acquire {
        const READ: Std = Std::Acquire;
    }
    impl ReleaseOrRelaxed for Relaxed {
        const WRITE: Std = Std::Relaxed;
    }
    impl ReleaseOrRelaxed for Release {
        const WRITE: Std = Std::Release;
    }
}

pub use ordering::{Acquire, Full, Relaxed, Release};

/// A type that can be atomic.
pub trait AtomicType: Copy {
    /// The standard library's or the model checker's atomic.
    type Cell;

    #[doc(hidden)]
    fn cell(value: Self) -> Self::Cell;
    #[doc(hidden)]
    fn load(cell: &Self::Cell, order: Std) -> Self;
    #[doc(hidden)]
    fn store(cell: &Self::Cell, value: Self, order: Std);
    #[doc(hidden)]
    fn swap(cell: &Self::Cell, value: Self, order: Std) -> Self;
    #[doc(hidden)]
    fn cmpxchg(cell: &Self::Cell, old: Self, new: Self, order: Std) -> Result<Self, Self>;
    #[doc(hidden)]
    fn fetch_add(cell: &Self::Cell, value: Self, order: Std) -> Self;
    #[doc(hidden)]
    fn fetch_sub(cell: &Self::Cell, value: Self, order: Std) -> Self;
}

/// A value that threads may change at once.
///
/// It can be made in a constant, which the model checker's cannot: so with
/// them it cannot, and else its cell is made when first used.
pub struct Atomic<T: AtomicType> {
    #[cfg(not(feature = "loom"))]
    initial: T,
    #[cfg(not(feature = "loom"))]
    cell: std::sync::OnceLock<T::Cell>,
    #[cfg(feature = "loom")]
    cell: T::Cell,
}

#[cfg(not(feature = "loom"))]
impl<T: AtomicType> Atomic<T> {
    /// With this value.
    pub const fn new(initial: T) -> Self {
        Atomic {
            initial,
            cell: std::sync::OnceLock::new(),
        }
    }

    fn cell(&self) -> &T::Cell {
        self.cell.get_or_init(|| T::cell(self.initial))
    }
}

#[cfg(feature = "loom")]
impl<T: AtomicType> Atomic<T> {
    /// With this value.
    pub fn new(initial: T) -> Self {
        Atomic {
            cell: T::cell(initial),
        }
    }

    fn cell(&self) -> &T::Cell {
        &self.cell
    }
}

impl<T: AtomicType> Atomic<T> {
    /// The value.
    pub fn load<O: AcquireOrRelaxed>(&self, _: O) -> T {
        preempt();
        T::load(self.cell(), O::READ)
    }

    /// Changes the value.
    pub fn store<O: ReleaseOrRelaxed>(&self, value: T, _: O) {
        preempt();
        T::store(self.cell(), value, O::WRITE);
    }

    /// Changes the value and returns the old one.
    pub fn xchg<O: Ordering>(&self, value: T, _: O) -> T {
        preempt();
        T::swap(self.cell(), value, O::BOTH)
    }

    /// Changes the value if it is `old`; returns what it was.
    pub fn cmpxchg<O: Ordering>(&self, old: T, new: T, _: O) -> Result<T, T> {
        preempt();
        T::cmpxchg(self.cell(), old, new, O::BOTH)
    }

    /// Adds to the value and returns the old one.
    pub fn fetch_add<O: Ordering>(&self, value: T, _: O) -> T {
        preempt();
        T::fetch_add(self.cell(), value, O::BOTH)
    }

    /// Subtracts from the value and returns the old one.
    pub fn fetch_sub<O: Ordering>(&self, value: T, _: O) -> T {
        preempt();
        T::fetch_sub(self.cell(), value, O::BOTH)
    }
}

macro_rules! atomic {
    ($($ty:ty => $cell:ident;)*) => {
        $(
            impl AtomicType for $ty {
                #[cfg(not(feature = "loom"))]
                type Cell = std::sync::atomic::$cell;
                #[cfg(feature = "loom")]
                type Cell = loom::sync::atomic::$cell;

                fn cell(value: Self) -> Self::Cell {
                    Self::Cell::new(value)
                }

                fn load(cell: &Self::Cell, order: Std) -> Self {
                    cell.load(order)
                }

                fn store(cell: &Self::Cell, value: Self, order: Std) {
                    cell.store(value, order);
                }

                fn swap(cell: &Self::Cell, value: Self, order: Std) -> Self {
                    cell.swap(value, order)
                }

                fn cmpxchg(
                    cell: &Self::Cell,
                    old: Self,
                    new: Self,
                    order: Std,
                ) -> Result<Self, Self> {
                    cell.compare_exchange(old, new, order, Std::Relaxed)
                }

                fn fetch_add(cell: &Self::Cell, value: Self, order: Std) -> Self {
                    cell.fetch_add(value, order)
                }

                fn fetch_sub(cell: &Self::Cell, value: Self, order: Std) -> Self {
                    cell.fetch_sub(value, order)
                }
            }
        )*
    };
}

atomic! {
    i32 => AtomicI32;
    u32 => AtomicU32;
    i64 => AtomicI64;
    u64 => AtomicU64;
    usize => AtomicUsize;
}
