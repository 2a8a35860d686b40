// SPDX-License-Identifier: GPL-2.0

//! Timers, which may end at any time: steps come in any order.

use super::Delta;
use crate::sim;
use crate::sync::{Arc, ArcBorrow};
use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;

/// A timer of a `T`.
pub struct HrTimer<T> {
    running: Rc<Cell<bool>>,
    of: PhantomData<fn(&T)>,
}

impl<T> Default for HrTimer<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> HrTimer<T> {
    /// Not set.
    pub fn new() -> Self {
        HrTimer {
            running: Rc::default(),
            of: PhantomData,
        }
    }
}

/// Times are from now on.
#[derive(Debug)]
pub struct RelativeMode<C>(PhantomData<C>);

/// What a timer does when it has ended.
#[derive(Debug)]
pub enum HrTimerRestart {
    /// No more.
    NoRestart,
}

/// What a callback knows of its timer.
pub struct HrTimerCallbackContext<'a, T>(PhantomData<&'a T>);

/// Has a timer.
pub trait HasHrTimer<T> {
    /// What times mean.
    type Mode;

    /// Where it is.
    fn timer(&self) -> &HrTimer<T>;
}

/// Does what the timer is for.
pub trait HrTimerCallback: Sized {
    /// What is kept while the timer runs.
    type Pointer<'a>;

    /// Does it.
    fn run(this: ArcBorrow<'_, Self>, _: HrTimerCallbackContext<'_, Self>) -> HrTimerRestart;
}

/// Keeps a timer that was set.
pub struct ArcHrTimerHandle<T> {
    running: Rc<Cell<bool>>,
    _of: Arc<T>,
}

impl<T> Drop for ArcHrTimerHandle<T> {
    fn drop(&mut self) {
        assert!(
            !self.running.get(),
            "a timer that somebody needs is stopped"
        );
    }
}

/// Can set a timer.
pub trait HrTimerPointer {
    /// What keeps it.
    type TimerHandle;

    /// Sets it.
    fn start(self, after: Delta) -> Self::TimerHandle;
}

impl<T: HasHrTimer<T> + HrTimerCallback + 'static> HrTimerPointer for Arc<T> {
    type TimerHandle = ArcHrTimerHandle<T>;

    fn start(self, _: Delta) -> ArcHrTimerHandle<T> {
        let running = self.timer().running.clone();
        assert!(!running.replace(true), "a timer is set twice");
        let (of, still) = (self.clone(), running.clone());
        sim::interrupt(move || {
            // Whoever lets go of it from here on waits for this to return.
            still.set(false);
            let HrTimerRestart::NoRestart =
                T::run(ArcBorrow::from(&of), HrTimerCallbackContext(PhantomData));
        });
        ArcHrTimerHandle { running, _of: self }
    }
}
