// SPDX-License-Identifier: GPL-2.0

//! What happened to a snapshot, for user space to wait for.

use crate::wire::Happened;
use kernel::{
    new_condvar, new_spinlock,
    prelude::*,
    sync::{Arc, CondVar, CondVarTimeoutResult, SpinLock},
    time::{msecs_to_jiffies, ClockSource, Monotonic, Msecs},
};

/// How many events are kept until somebody asks for them.
const KEPT: usize = 128;

/// What happened, and when, in nanoseconds of the monotonic clock.
pub(crate) type Event = (Happened, i64);

struct Queue {
    /// In the order in which they happened.
    events: KVec<Event>,
    /// How many there have been.
    raised: u64,
    closed: bool,
}

/// The events of a snapshot. Each of them is given to one of those who wait.
#[pin_data]
pub(crate) struct Events {
    #[pin]
    queue: SpinLock<Queue>,
    #[pin]
    more: CondVar,
}

impl Events {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let queue = Queue {
            events: KVec::with_capacity(KEPT, GFP_KERNEL)?,
            raised: 0,
            closed: false,
        };
        Arc::pin_init(
            pin_init!(Self {
                queue <- new_spinlock!(queue, "blksnap::events"),
                more <- new_condvar!("blksnap::events"),
            }),
            GFP_KERNEL,
        )
    }

    /// Something has happened. If nobody has asked for a long time, the oldest one is forgotten.
    pub(crate) fn raise(&self, event: Happened) {
        let mut queue = self.queue.lock();
        if queue.events.len() == KEPT {
            let _ = queue.events.remove(0);
        }
        // Within capacity.
        let _ = queue
            .events
            .push_within_capacity((event, Monotonic::ktime_get()));
        queue.raised += 1;
        drop(queue);
        self.more.notify_all();
    }

    /// Whoever has taken an event could not be told of it: it is there for the next one.
    pub(crate) fn put_back(&self, event: Event) {
        let mut queue = self.queue.lock();
        // If there is no room it was the oldest one.
        if queue.events.len() < KEPT {
            let _ = queue.events.insert_within_capacity(0, event);
        }
        drop(queue);
        self.more.notify_all();
    }

    /// How many events there have been, taken or not.
    pub(crate) fn raised(&self) -> u64 {
        self.queue.lock().raised
    }

    /// Nothing will happen any more.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.more.notify_all();
    }

    /// Waits for an event with a code up to `code`, for `timeout_ms` at most, and takes it. Others
    /// are left to those who know of them.
    ///
    /// # Errors
    ///
    /// [`ENOENT`] if there was none in time, [`EINTR`] after a signal, [`ESRCH`] when the snapshot
    /// is destroyed.
    pub(crate) fn wait(&self, timeout_ms: u32, code: u32) -> Result<Event> {
        let mut left = msecs_to_jiffies(Msecs::from(timeout_ms));
        let mut queue = self.queue.lock();
        loop {
            let known = queue.events.iter().position(|(e, _)| e.code() <= code);
            if let Some(event) = known.and_then(|at| queue.events.remove(at).ok()) {
                return Ok(event);
            }
            if queue.closed {
                return Err(ESRCH);
            }
            if left == 0 {
                return Err(ENOENT);
            }
            left = match self.more.wait_interruptible_timeout(&mut queue, left) {
                CondVarTimeoutResult::Woken { jiffies } => jiffies,
                CondVarTimeoutResult::Timeout => 0,
                CondVarTimeoutResult::Signal { .. } => return Err(EINTR),
            };
        }
    }
}
