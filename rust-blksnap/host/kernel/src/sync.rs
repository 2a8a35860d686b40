// SPDX-License-Identifier: GPL-2.0

//! What threads share.

use crate::alloc::{AllocError, Flags, may_allocate};
use crate::error::Result;
use crate::{Init, sim};
use atomic::Atomic;
use atomic::ordering::{Acquire, Relaxed, Release};
use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

pub mod aref;
pub mod atomic;

/// The standard library's: methods on `&Arc<Self>` want it. What the kernel's has besides is in
/// [`ArcExt`] and [`NewArc`].
pub use std::sync::Arc;

/// What the standard library's has not.
pub trait ArcExt<T>: Sized {
    /// Makes a value there.
    fn pin_init<F: FnOnce() -> Result<T>>(init: Init<F>, flags: Flags) -> Result<Self>;
    /// The value, if nobody else has it.
    fn into_unique_or_drop(this: Self) -> Option<UniqueArc<T>>;
}

impl<T> ArcExt<T> for Arc<T> {
    fn pin_init<F: FnOnce() -> Result<T>>(init: Init<F>, flags: Flags) -> Result<Self> {
        may_allocate(flags)?;
        Ok(Arc::new(init.make()?))
    }

    fn into_unique_or_drop(this: Self) -> Option<UniqueArc<T>> {
        Arc::into_inner(this).map(UniqueArc)
    }
}

/// A reference that somebody else keeps.
#[derive(Debug)]
pub struct ArcBorrow<'a, T>(&'a Arc<T>);

impl<'a, T> From<&'a Arc<T>> for ArcBorrow<'a, T> {
    fn from(arc: &'a Arc<T>) -> Self {
        ArcBorrow(arc)
    }
}

impl<T> From<ArcBorrow<'_, T>> for Arc<T> {
    fn from(borrow: ArcBorrow<'_, T>) -> Self {
        borrow.0.clone()
    }
}

impl<T> std::ops::Deref for ArcBorrow<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0
    }
}

/// What nobody else has.
pub struct UniqueArc<T>(T);

impl<T> From<UniqueArc<T>> for Arc<T> {
    fn from(unique: UniqueArc<T>) -> Self {
        Arc::new(unique.0)
    }
}

/// Stands for `Arc` where that is made by `new`, which has an argument more than that of the
/// standard library.
pub struct NewArc(());

impl NewArc {
    /// Moves `value` there.
    #[allow(clippy::new_ret_no_self)]
    pub fn new<T>(value: T, flags: Flags) -> Result<Arc<T>, AllocError> {
        may_allocate(flags)?;
        Ok(Arc::new(value))
    }
}

/// Readers and their grace periods.
pub mod rcu {
    /// One who reads.
    #[derive(Debug)]
    pub struct Guard(());

    /// Begins to read.
    pub fn read_lock() -> Guard {
        Guard(())
    }

    /// Waits for interrupts that run now.
    pub fn synchronize_rcu() {
        crate::sim::might_sleep("grace period");
    }
}

/// A value set at most once.
pub struct SetOnce<T> {
    state: Atomic<u32>,
    value: OnceLock<T>,
}

impl<T> Default for SetOnce<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> SetOnce<T> {
    /// Without a value.
    pub fn new() -> Self {
        SetOnce {
            state: Atomic::new(0),
            value: OnceLock::new(),
        }
    }

    /// The value, if it has been set.
    pub fn as_ref(&self) -> Option<&T> {
        match self.state.load(Acquire) {
            2 => self.value.get(),
            _ => None,
        }
    }

    /// Sets the value unless somebody else has; says whether it did.
    pub fn populate(&self, value: T) -> bool {
        let first = self.state.cmpxchg(0, 1, Relaxed) == Ok(0) && self.value.set(value).is_ok();
        if first {
            self.state.store(2, Release);
        }
        first
    }
}

#[cfg(feature = "loom")]
use loom::sync::{Mutex as Inner, MutexGuard as Inside};
#[cfg(not(feature = "loom"))]
use std::cell::{RefCell as Inner, RefMut as Inside};

#[cfg(not(feature = "loom"))]
fn enter<T>(inner: &Inner<T>) -> Inside<'_, T> {
    inner.borrow_mut()
}

#[cfg(feature = "loom")]
fn enter<T>(inner: &Inner<T>) -> Inside<'_, T> {
    inner.lock().expect("nobody panics with it held")
}

/// A lock of the simulated machine, or of the model checker. Whoever holds it is not interrupted.
pub struct Lock<T, const IRQ: bool>(Inner<T>);

/// Taken by tasks only.
pub type SpinLock<T> = Lock<T, false>;
/// Taken by interrupts too.
pub type SpinLockIrq<T> = Lock<T, true>;

impl<T, const IRQ: bool> Lock<T, IRQ> {
    /// Not taken.
    pub fn new(value: T) -> Self {
        Lock(Inner::new(value))
    }

    /// Takes the lock.
    pub fn lock(&self) -> Guard<'_, T, IRQ> {
        sim::lock(IRQ);
        Guard {
            lock: self,
            value: Some(enter(&self.0)),
        }
    }
}

/// A lock of tasks that is held.
pub type SpinLockGuard<'a, T> = Guard<'a, T, false>;

/// A lock that is held.
pub struct Guard<'a, T, const IRQ: bool> {
    lock: &'a Lock<T, IRQ>,
    value: Option<Inside<'a, T>>,
}

impl<T, const IRQ: bool> Deref for Guard<'_, T, IRQ> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("held but while waiting")
    }
}

impl<T, const IRQ: bool> DerefMut for Guard<'_, T, IRQ> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("held but while waiting")
    }
}

impl<T, const IRQ: bool> Drop for Guard<'_, T, IRQ> {
    fn drop(&mut self) {
        if self.value.take().is_some() {
            sim::unlock();
        }
    }
}

/// Something to wait for.
#[derive(Default)]
pub struct CondVar(Cell<u64>);

impl CondVar {
    /// Nobody waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes those who wait.
    pub fn notify_all(&self) {
        self.0.set(self.0.get() + 1);
    }

    /// Lets go of the lock until woken. The others go on meanwhile; if nothing is left to go on, this
    /// would be for ever.
    pub fn wait<T, const IRQ: bool>(&self, guard: &mut Guard<'_, T, IRQ>) {
        let seen = self.0.get();
        guard.value = None;
        sim::unlock();
        sim::might_sleep("waiting");
        sim::would_wait();
        while self.0.get() == seen {
            assert!(
                sim::run_one(),
                "waits for ever: nothing is left that could wake it"
            );
        }
        sim::lock(IRQ);
        guard.value = Some(enter(&guard.lock.0));
    }
}
