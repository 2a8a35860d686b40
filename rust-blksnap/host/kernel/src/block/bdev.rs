// SPDX-License-Identifier: GPL-2.0

//! Whole disks and partitions.

use super::SECTOR_SIZE;
use super::bio::Bio;
use crate::sim;
use crate::sync::aref::ARef;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

/// What I/O to a device has to respect, which nothing here does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoLimits;

impl IoLimits {
    /// Those that every device has.
    pub const LEAST: Self = IoLimits;

    /// What respects both.
    pub fn and(self, _: Self) -> Self {
        self
    }
}

struct Disk {
    minor: u32,
    data: RefCell<Vec<u8>>,
    forbidden: RefCell<Vec<Range<u64>>>,
    /// Bios that were handed over and are not done.
    in_flight: Cell<u32>,
    /// Sectors that cannot be read.
    bad: RefCell<Vec<Range<u64>>>,
    /// What waits while the disk is held, if it is.
    held: RefCell<Option<Vec<Held>>>,
}

type Filter = Rc<dyn Fn(Bio)>;
type Held = Box<dyn FnOnce()>;

/// A part of a disk, or all of it.
#[derive(Clone)]
pub struct BlockDevice {
    disk: Rc<Disk>,
    filter: Rc<RefCell<Option<Filter>>>,
    start: u64,
    sectors: u64,
}

impl From<&BlockDevice> for ARef<BlockDevice> {
    fn from(bdev: &BlockDevice) -> Self {
        ARef::new(bdev.clone())
    }
}

impl PartialEq for BlockDevice {
    fn eq(&self, other: &Self) -> bool {
        self.same_disk(other) && self.start == other.start && self.sectors == other.sectors
    }
}

impl BlockDevice {
    /// A disk full of zeroes.
    pub fn new(minor: u32, sectors: u64) -> Self {
        BlockDevice {
            disk: Rc::new(Disk {
                minor,
                data: RefCell::new(vec![0; sectors as usize * SECTOR_SIZE]),
                forbidden: RefCell::default(),
                in_flight: Cell::new(0),
                bad: RefCell::default(),
                held: RefCell::default(),
            }),
            filter: Rc::default(),
            start: 0,
            sectors,
        }
    }

    /// A partition of the disk.
    pub fn partition(&self, start: u64, sectors: u64) -> Self {
        assert!(start + sectors <= self.sectors);
        BlockDevice {
            disk: self.disk.clone(),
            filter: Rc::default(),
            start: self.start + start,
            sectors,
        }
    }

    /// From here on `filter` gets what is submitted to the device, also what the device itself
    /// submits.
    pub fn attach(&self, filter: impl Fn(Bio) + 'static) {
        *self.filter.borrow_mut() = Some(Rc::new(filter));
    }

    pub(crate) fn is_filtered(&self) -> bool {
        self.filter.borrow().is_some()
    }

    pub(crate) fn submit(&self, bio: Bio) {
        let filter = self.filter.borrow().clone();
        match filter {
            Some(filter) => filter(bio),
            None => bio.pass_on(),
        }
    }

    pub(crate) fn begin(&self) {
        self.disk.in_flight.set(self.disk.in_flight.get() + 1);
    }

    pub(crate) fn end(&self) {
        self.disk.in_flight.set(self.disk.in_flight.get() - 1);
    }

    /// Whether the disk has done all bios that were handed to it.
    pub fn is_drained(&self) -> bool {
        self.disk.in_flight.get() == 0
    }

    /// From here on the driver cannot read these sectors. They can be written, as on disks that have
    /// others to take their place.
    pub fn wear_out(&self, sector: u64, sectors: u64) {
        let from = self.start + sector;
        self.disk.bad.borrow_mut().push(from..from + sectors);
    }

    pub(crate) fn is_bad(&self, sector: u64, sectors: u64) -> bool {
        let range = self.start + sector..self.start + sector + sectors;
        let bad = self.disk.bad.borrow();
        bad.iter()
            .any(|bad| bad.start < range.end && range.start < bad.end)
    }

    /// From here on the driver's I/O to the disk does not end.
    pub fn hold(&self) {
        self.disk.held.borrow_mut().get_or_insert_default();
    }

    /// It ends again.
    pub fn release(&self) {
        for io in self.disk.held.take().into_iter().flatten() {
            sim::step(io);
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.disk.held.borrow().is_some()
    }

    /// Keeps what waits for the disk, which is held.
    pub(crate) fn keep(&self, io: impl FnOnce() + 'static) {
        let mut held = self.disk.held.borrow_mut();
        held.get_or_insert_default().push(Box::new(io));
    }

    /// From here on I/O to these sectors is a mistake.
    pub fn forbid(&self, sector: u64, sectors: u64) {
        let from = self.start + sector;
        self.disk.forbidden.borrow_mut().push(from..from + sectors);
    }

    /// Both numbers in one.
    pub fn dev_t(&self) -> u32 {
        let (major, minor) = self.dev();
        major << 20 | minor
    }

    /// Major and minor number.
    pub fn dev(&self) -> (u32, u32) {
        (1 + self.start as u32, self.disk.minor)
    }

    /// Size in sectors.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// First sector on the disk.
    pub fn start_sector(&self) -> u64 {
        self.start
    }

    /// Whether both lie on the same disk.
    pub fn same_disk(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.disk, &other.disk)
    }

    /// Smallest unit in bytes.
    pub fn logical_block_size(&self) -> u32 {
        SECTOR_SIZE as u32
    }

    /// What I/O has to respect.
    pub fn io_limits(&self) -> IoLimits {
        IoLimits
    }

    /// Smallest unit in bytes that is written without reading.
    pub fn physical_block_size(&self) -> u32 {
        SECTOR_SIZE as u32
    }

    /// Looks at what the device contains, or changes it.
    pub fn access<R>(&self, sector: u64, sectors: u64, f: impl FnOnce(&mut [u8]) -> R) -> R {
        let range = self.start + sector..self.start + sector + sectors;
        let forbidden = self.disk.forbidden.borrow();
        assert!(
            !forbidden
                .iter()
                .any(|f| f.start < range.end && range.start < f.end),
            "I/O to what has been given back: {range:?}"
        );
        assert!(
            sector + sectors <= self.sectors,
            "I/O beyond the end: {sector}+{sectors} of {}",
            self.sectors
        );
        let from = (self.start + sector) as usize * SECTOR_SIZE;
        f(&mut self.disk.data.borrow_mut()[from..from + sectors as usize * SECTOR_SIZE])
    }
}
