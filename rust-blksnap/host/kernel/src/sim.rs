// SPDX-License-Identifier: GPL-2.0

//! A machine in one thread: what could run at once runs in an order drawn by lot.
//!
//! I/O, its completion, work items and whatever a test adds are steps. A step
//! may be interrupted wherever the driver takes a lock or touches an atomic,
//! and others then run in its middle, as if on another processor. What must not
//! be done in interrupts or under spinning locks is found out.

use crate::alloc::AllocError;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// How deep steps may interrupt each other.
const DEPTH: u32 = 3;

/// One in so many places where a step may be interrupted, it is.
const ODDS: u64 = 6;

/// After so many places and steps passed, something goes round in circles.
const PATIENCE: u64 = 2_000_000;

type Run = Box<dyn FnOnce()>;

struct Step {
    run: Run,
    /// Set while the step's work item runs: it never runs twice at once.
    busy: Option<Rc<Cell<bool>>>,
    interrupt: bool,
}

struct Machine {
    steps: Vec<Step>,
    lot: u64,
    depth: u32,
    locks: u32,
    interrupt: bool,
    passed: u64,
    log: String,
    /// One in so many allocations that may not wait fails, none if zero.
    no_memory: u64,
    /// One in so many I/Os fails, none if zero.
    io_errors: u64,
    /// There are no pages for copies.
    no_pages: bool,
    /// How often somebody has waited for some nevertheless.
    waited: u64,
}

thread_local! {
    static MACHINE: RefCell<Option<Machine>> = const { RefCell::new(None) };
}

fn with<R>(f: impl FnOnce(&mut Machine) -> R) -> Option<R> {
    MACHINE.with_borrow_mut(|machine| machine.as_mut().map(f))
}

impl Machine {
    fn pass(&mut self) {
        self.passed += 1;
        assert!(self.passed < PATIENCE, "goes on for ever");
    }

    fn draw(&mut self) -> u64 {
        // xorshift64*
        self.lot ^= self.lot >> 12;
        self.lot ^= self.lot << 25;
        self.lot ^= self.lot >> 27;
        self.lot.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.draw().is_multiple_of(n)
    }
}

/// The machine of this thread, until dropped.
pub struct Boot(());

/// Starts a machine. The same `seed` gives the same order.
pub fn boot(seed: u64, no_memory: u64, io_errors: u64) -> Boot {
    MACHINE.set(Some(Machine {
        steps: Vec::new(),
        lot: seed | 1,
        depth: 0,
        locks: 0,
        interrupt: false,
        passed: 0,
        log: String::new(),
        no_memory,
        io_errors,
        no_pages: false,
        waited: 0,
    }));
    Boot(())
}

impl Drop for Boot {
    fn drop(&mut self) {
        // Dropped outside the cell: steps own what uses the machine in its own drop.
        let machine = MACHINE.take();
        if let Some(machine) = machine.filter(|_| std::thread::panicking()) {
            eprint!("{}", machine.log);
        }
    }
}

/// Keeps a line of the log, which is shown if a test fails.
pub fn log(line: std::fmt::Arguments<'_>) {
    use std::fmt::Write;

    let kept = with(|m| m.log.write_fmt(line));
    // The model checker would show it for every order.
    if kept.is_none() && !cfg!(feature = "loom") {
        eprint!("{line}");
    }
}

/// Adds a step.
pub fn step(run: impl FnOnce() + 'static) {
    add(Box::new(run), None, false);
}

/// Adds a step that runs as an interrupt does.
pub(crate) fn interrupt(run: impl FnOnce() + 'static) {
    add(Box::new(run), None, true);
}

/// Runs `f` now, as an interrupt does.
pub(crate) fn as_interrupt(f: impl FnOnce()) {
    let saved = with(|m| std::mem::replace(&mut m.interrupt, true));
    f();
    with(|m| m.interrupt = saved.unwrap_or(false));
}

/// Whether a device does something before a submission to it returns.
pub(crate) fn comes_at_once() -> bool {
    with(|m| m.one_in(3)) == Some(true)
}

/// Whether a device takes only a part of a bio.
pub(crate) fn device_splits() -> bool {
    with(|m| m.one_in(3)) == Some(true)
}

/// A number below `n`.
pub(crate) fn below(n: u64) -> u64 {
    with(|m| m.draw() % n).unwrap_or(0)
}

/// Adds a step that waits until `busy` is not set.
pub fn exclusive(busy: Rc<Cell<bool>>, run: impl FnOnce() + 'static) {
    add(Box::new(run), Some(busy), false);
}

fn add(run: Run, busy: Option<Rc<Cell<bool>>>, interrupt: bool) {
    let added = with(|m| {
        m.steps.push(Step {
            run,
            busy,
            interrupt,
        })
    });
    assert!(added.is_some(), "I/O or work without a machine");
}

/// Runs one step drawn by lot. Returns whether there was one.
pub fn run_one() -> bool {
    let drawn = with(|m| {
        m.pass();
        let may: Vec<usize> = (0..m.steps.len())
            .filter(|&i| m.steps[i].busy.as_ref().is_none_or(|busy| !busy.get()))
            .collect();
        let nth = m.draw() as usize;
        let index = *may.get(nth % may.len().max(1))?;
        let step = m.steps.swap_remove(index);
        let saved = std::mem::replace(&mut m.interrupt, step.interrupt);
        m.depth += 1;
        Some((step, saved))
    });
    let Some((step, saved)) = drawn.flatten() else {
        return false;
    };
    if let Some(busy) = &step.busy {
        busy.set(true);
    }
    (step.run)();
    if let Some(busy) = &step.busy {
        busy.set(false);
    }
    with(|m| {
        m.interrupt = saved;
        m.depth -= 1;
        assert_eq!(m.locks, 0, "a step ended with a lock held");
    });
    true
}

/// Runs steps until there is none.
pub fn run_all() {
    while run_one() {}
}

/// A place where others may run.
pub(crate) fn preempt() {
    with(Machine::pass);
    while with(|m| m.locks == 0 && m.depth > 0 && m.depth < DEPTH && m.one_in(ODDS)) == Some(true) {
        if !run_one() {
            break;
        }
    }
}

/// The caller is about to sleep, or might.
pub(crate) fn might_sleep(what: &str) {
    with(|m| {
        assert!(!m.interrupt, "{what}: sleeps in an interrupt");
        assert_eq!(m.locks, 0, "{what}: sleeps with a spinning lock held");
    });
}

pub(crate) fn lock(irq: bool) {
    preempt();
    with(|m| {
        assert!(
            irq || !m.interrupt,
            "a lock that tasks take with interrupts on is taken in an interrupt"
        );
        m.locks += 1;
    });
}

pub(crate) fn unlock() {
    with(|m| m.locks -= 1);
}

/// Whether an allocation that may not wait fails now.
pub(crate) fn memory_is_short() -> bool {
    with(|m| m.one_in(m.no_memory)) == Some(true)
}

/// Whether an I/O fails now.
pub(crate) fn io_fails() -> bool {
    with(|m| m.one_in(m.io_errors)) == Some(true)
}

/// Sets how often things fail from now on.
pub fn trouble(no_memory: u64, io_errors: u64) {
    with(|m| {
        m.no_memory = no_memory;
        m.io_errors = io_errors;
    });
}

/// Says whether there are pages for copies from now on.
pub fn no_pages(none: bool) {
    with(|m| m.no_pages = none);
}

/// How often somebody has waited for pages when there were none.
pub fn waited_for_pages() -> u64 {
    with(|m| m.waited).unwrap_or(0)
}

pub(crate) fn may_have_pages(may_wait: bool) -> Result<(), AllocError> {
    let none = with(|m| {
        m.waited += u64::from(m.no_pages && may_wait);
        m.no_pages
    });
    match none {
        Some(true) => Err(AllocError),
        _ => Ok(()),
    }
}

/// Why a step was given up: it would have had to wait for one that it has interrupted.
///
/// On a real machine that one would go on meanwhile. Here it cannot, so the
/// step has to be tried again.
#[derive(Debug)]
pub struct WouldWait;

pub(crate) fn would_wait() {
    if with(|m| m.depth > 1) == Some(true) {
        std::panic::resume_unwind(Box::new(WouldWait));
    }
}

/// Runs `f`; returns whether it came to its end without having to wait for what it has interrupted.
pub fn try_to(f: impl FnOnce()) -> bool {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        Ok(()) => true,
        Err(reason) if reason.is::<WouldWait>() => false,
        Err(reason) => std::panic::resume_unwind(reason),
    }
}
