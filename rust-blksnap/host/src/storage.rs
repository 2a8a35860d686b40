// SPDX-License-Identifier: GPL-2.0

//! Stands in for the driver's storage, whose extents come from a test instead of files.

use crate::space::{Piece, Room, Space};
use core::ops::Range;
use kernel::{
    block::bdev::{BlockDevice, IoLimits},
    fs::MemoryFile,
    prelude::*,
    sim,
    sync::{aref::ARef, Arc},
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

/// What a piece of the space is on.
pub(crate) enum Target {
    Disk(ARef<BlockDevice>),
    Memory(MemoryFile),
}

impl Target {
    fn disk(&self) -> Option<&BlockDevice> {
        match self {
            Target::Disk(bdev) => Some(bdev),
            Target::Memory(_) => None,
        }
    }
}

/// The largest chunks of any test, in sectors.
const LARGEST_CHUNK: u64 = 512;

/// What the driver has told its storage.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) corrupted: Vec<((u32, u32), Error)>,
    pub(crate) full: Vec<u64>,
    closed: bool,
}

pub(crate) struct Storage {
    space: Space,
    targets: Vec<Target>,
    /// By what it grows, portion by portion.
    portions: RefCell<VecDeque<Vec<Piece>>>,
    told: RefCell<Told>,
    growing: Rc<Cell<bool>>,
    /// Growth has begun and does not end.
    stuck: Cell<bool>,
}

impl Storage {
    /// With `extents` at first, and then one of `portions` whenever half of what was free is used.
    pub(crate) fn new(
        targets: Vec<Target>,
        extents: &[Piece],
        portions: impl IntoIterator<Item = Vec<Piece>>,
        limit: u64,
    ) -> Result<Arc<Self>> {
        let storage = Storage {
            space: Space::new(limit)?,
            targets,
            portions: RefCell::new(portions.into_iter().collect()),
            told: RefCell::default(),
            growing: Rc::default(),
            stuck: Cell::new(false),
        };
        storage.space.append(extents.iter().copied())?;
        storage.space.set_mark(storage.next_mark());
        let storage = Arc::new(storage);
        // There may be nothing to use at first.
        storage.grow_if_low();
        Ok(storage)
    }

    fn next_mark(&self) -> u64 {
        // Others may run wherever the space is looked at.
        let none_left = self.portions.borrow().is_empty();
        // Room for a chunk is never waited for in vain.
        let late = self.space.capacity().saturating_sub(2 * LARGEST_CHUNK);
        match none_left {
            true => Space::NEVER,
            false => late.min(self.space.used() + self.space.free() / 2),
        }
    }

    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    pub(crate) fn target(&self, piece: &Piece) -> &Target {
        &self.targets[piece.dev]
    }

    pub(crate) fn io_limits(&self) -> IoLimits {
        IoLimits::LEAST
    }

    pub(crate) fn may_sleep(&self) -> bool {
        self.targets.iter().any(|target| target.disk().is_none())
    }

    pub(crate) fn alloc(self: &Arc<Self>, unit: u64, want: u32) -> Room {
        self.space.alloc(unit, want, || self.kick())
    }

    fn grow_if_low(self: &Arc<Self>) {
        if self.space.is_low() {
            self.kick();
        }
    }

    /// Called with a spinning lock held, so that growth is left to a step of its own.
    fn kick(self: &Arc<Self>) {
        let storage = self.clone();
        // Work items do not run twice at once.
        sim::exclusive(self.growing.clone(), move || storage.grow());
    }

    /// Lets growth begin and not end.
    pub(crate) fn get_stuck(&self) {
        self.stuck.set(true);
    }

    fn grow(self: &Arc<Self>) {
        if self.told.borrow().closed || self.stuck.get() {
            return;
        }
        let portion = self.portions.borrow_mut().pop_front();
        let result = self.space.append(portion.unwrap_or_default().into_iter());
        result.expect("there are segments and memory");
        self.space.set_mark(self.next_mark());
        // What was used before the mark was there was not noticed.
        self.grow_if_low();
    }

    /// Whether it would grow if somebody told it what is used.
    pub(crate) fn waits_in_vain(&self) -> bool {
        // Growth that is under way looks at it by itself.
        !self.growing.get() && self.space.is_low()
    }

    pub(crate) fn close(&self) {
        self.told.borrow_mut().closed = true;
    }

    pub(crate) fn corrupted(&self, dev: (u32, u32), error: Error) {
        self.told.borrow_mut().corrupted.push((dev, error));
    }

    pub(crate) fn is_full(&self, requested: u64) {
        self.told.borrow_mut().full.push(requested);
    }

    pub(crate) fn told<R>(&self, f: impl FnOnce(&Told) -> R) -> R {
        f(&self.told.borrow())
    }

    /// Adds the sectors of `bdev` that lie under the storage to `ranges`.
    pub(crate) fn within(&self, bdev: &BlockDevice, ranges: &mut KVVec<Range<u64>>) -> Result {
        for piece in self.space.all() {
            let target = self.target(&piece).disk();
            if let Some(disk) = target.filter(|disk| disk.same_disk(bdev)) {
                let start = disk.start_sector() + piece.sector;
                let here = bdev.start_sector();
                let end = (start + piece.sectors).min(here + bdev.sectors());
                if start.max(here) < end {
                    ranges.push(start.max(here) - here..end - here, GFP_KERNEL)?;
                }
            }
        }
        Ok(())
    }
}
