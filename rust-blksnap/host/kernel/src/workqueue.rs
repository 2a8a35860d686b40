// SPDX-License-Identifier: GPL-2.0

//! Work that is done later.

use crate::sim;
use crate::sync::Arc;
use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;

/// A work item of a `T`.
pub struct Work<T: ?Sized, const ID: u64> {
    pending: Rc<Cell<bool>>,
    running: Rc<Cell<bool>>,
    of: PhantomData<fn(&T)>,
}

impl<T: ?Sized, const ID: u64> Default for Work<T, ID> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ?Sized, const ID: u64> Work<T, ID> {
    /// Not queued.
    pub fn new() -> Self {
        Work {
            pending: Rc::default(),
            running: Rc::default(),
            of: PhantomData,
        }
    }
}

/// Has a work item.
pub trait HasWork<const ID: u64> {
    /// Where it is.
    fn work(&self) -> &Work<Self, ID>;
}

/// Does the work.
pub trait WorkItem<const ID: u64> {
    /// What is queued.
    type Pointer;

    /// Does it.
    fn run(this: Self::Pointer);
}

/// Can be queued.
pub trait Enqueue<const ID: u64>: Sized {
    /// Queues it, or gives it back if it is queued already.
    fn enqueue(self) -> Result<(), Self>;
}

impl<T, const ID: u64> Enqueue<ID> for Arc<T>
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasWork<ID> + 'static,
{
    fn enqueue(self) -> Result<(), Self> {
        sim::preempt();
        let work = <T as HasWork<ID>>::work(&self);
        if work.pending.replace(true) {
            return Err(self);
        }
        let (pending, running) = (work.pending.clone(), work.running.clone());
        sim::exclusive(running, move || {
            // It may be queued again from here on.
            pending.set(false);
            T::run(self);
        });
        Ok(())
    }
}

/// A queue of its own.
#[derive(Debug, Default)]
pub struct OwnedQueue(());

impl OwnedQueue {
    /// Queues work; gives it back if it is queued already.
    pub fn enqueue<W: Enqueue<ID>, const ID: u64>(&self, work: W) -> Result<(), W> {
        work.enqueue()
    }
}
