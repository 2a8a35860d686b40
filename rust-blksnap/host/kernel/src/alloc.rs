// SPDX-License-Identifier: GPL-2.0

//! Memory that may run out.

use crate::sim;
use std::cell::Cell;
use std::ops::{Deref, DerefMut};

/// There is no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllocError;

/// How to allocate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(u32);

impl std::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.or(other)
    }
}

impl Flags {
    const fn or(self, other: Self) -> Self {
        Flags(self.0 | other.0)
    }

    /// Whether whoever allocates may be made to wait.
    pub(crate) const fn may_wait(self) -> bool {
        self.0 & flags::GFP_NOWAIT.or(flags::GFP_ATOMIC).0 == 0
    }
}

/// Ways to allocate.
pub mod flags {
    use super::Flags;

    /// May do anything.
    pub const GFP_KERNEL: Flags = Flags(1);
    /// Starts no I/O.
    pub const GFP_NOIO: Flags = Flags(2);
    /// Waits for nothing.
    pub const GFP_NOWAIT: Flags = Flags(4);
    /// From an interrupt.
    pub const GFP_ATOMIC: Flags = Flags(8);
    /// Says nothing if it fails.
    pub const __GFP_NOWARN: Flags = Flags(16);
    /// With zeroes in it.
    pub const __GFP_ZERO: Flags = Flags(32);
    /// Waits for memory, but not for ever.
    pub const __GFP_RETRY_MAYFAIL: Flags = Flags(64);
}

thread_local! {
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    static IN_VECTORS: Cell<usize> = const { Cell::new(0) };
}

/// Items that this thread's vectors have room for.
pub fn in_vectors() -> usize {
    IN_VECTORS.get()
}

/// Lets this thread allocate `count` times more and then never again, until told otherwise.
pub fn fail_after(count: Option<usize>) {
    LEFT.set(count);
}

/// To be asked before anything is allocated.
pub fn may_allocate(flags: Flags) -> Result<(), AllocError> {
    if flags.may_wait() {
        sim::might_sleep("allocation");
        // Still short after a while.
        let may_fail = flags.0 & flags::__GFP_RETRY_MAYFAIL.0 != 0;
        if may_fail && sim::memory_is_short() && sim::memory_is_short() {
            return Err(AllocError);
        }
    } else if sim::memory_is_short() {
        return Err(AllocError);
    }
    match LEFT.get() {
        None => Ok(()),
        Some(0) => Err(AllocError),
        Some(left) => {
            LEFT.set(Some(left - 1));
            Ok(())
        }
    }
}

/// No room was reserved.
#[derive(Debug)]
pub struct PushError<T>(pub T);

/// A vector whose growth may fail. It never has more room than was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct KVec<T> {
    items: Vec<T>,
    /// What was asked for; the standard library may round up.
    room: usize,
}

/// Larger ones come from elsewhere in the kernel; here they do not.
pub type KVVec<T> = KVec<T>;

impl<T> Default for KVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for KVec<T> {
    fn drop(&mut self) {
        IN_VECTORS.set(IN_VECTORS.get().wrapping_sub(self.room));
    }
}

impl<T> KVec<T> {
    /// Without memory.
    pub const fn new() -> Self {
        KVec {
            items: Vec::new(),
            room: 0,
        }
    }

    /// With room for `capacity` items.
    pub fn with_capacity(capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut vec = Self::new();
        vec.reserve(capacity, flags)?;
        Ok(vec)
    }

    /// Makes room for `additional` items.
    pub fn reserve(&mut self, additional: usize, flags: Flags) -> Result<(), AllocError> {
        let need = self.items.len() + additional;
        if need > self.room {
            may_allocate(flags)?;
            self.items.reserve(additional);
            let room = need.max(self.room * 2);
            IN_VECTORS.set(IN_VECTORS.get() + room - self.room);
            self.room = room;
        }
        Ok(())
    }

    /// Adds an item.
    pub fn push(&mut self, item: T, flags: Flags) -> Result<(), AllocError> {
        self.reserve(1, flags)?;
        self.items.push(item);
        Ok(())
    }

    /// Adds an item if there is room.
    pub fn push_within_capacity(&mut self, item: T) -> Result<(), PushError<T>> {
        if self.items.len() == self.room {
            return Err(PushError(item));
        }
        self.items.push(item);
        Ok(())
    }

    /// Takes the last item.
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop()
    }

    /// Drops items from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.items.truncate(len);
    }

    /// Drops all items.
    pub fn clear(&mut self) {
        self.items.clear();
    }

    /// Keeps the items that `keep` wants.
    pub fn retain(&mut self, keep: impl FnMut(&mut T) -> bool) {
        self.items.retain_mut(keep);
    }

    /// Items that fit without growing.
    pub fn capacity(&self) -> usize {
        self.room
    }
}

impl<T: Clone + Default> KVec<T> {
    /// With `len` items that are zero.
    pub fn zeroed(len: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut vec = Self::with_capacity(len, flags)?;
        vec.items.resize(len, T::default());
        Ok(vec)
    }
}

impl<T> Deref for KVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> DerefMut for KVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items
    }
}

impl<'a, T> IntoIterator for &'a KVec<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl<T> IntoIterator for KVec<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(mut self) -> Self::IntoIter {
        std::mem::take(&mut self.items).into_iter()
    }
}

/// An allocated value.
#[derive(Debug, PartialEq, Eq)]
pub struct KBox<T>(Box<T>);

impl<T> KBox<T> {
    /// Moves `value` there.
    pub fn new(value: T, flags: Flags) -> Result<Self, AllocError> {
        may_allocate(flags)?;
        Ok(KBox(Box::new(value)))
    }
}

impl<T> Deref for KBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for KBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{flags::GFP_KERNEL, *};

    #[test]
    fn memory_runs_out_when_told_to() {
        fail_after(Some(1));
        let mut vec = KVec::with_capacity(1, GFP_KERNEL).unwrap();
        vec.push(1, GFP_KERNEL).unwrap();
        assert_eq!(vec.push(2, GFP_KERNEL), Err(AllocError));
        assert!(vec.push_within_capacity(2).is_err());
        assert_eq!(*vec, [1]);
        fail_after(None);
        vec.push(2, GFP_KERNEL).unwrap();
        assert_eq!(*vec, [1, 2]);
    }
}
