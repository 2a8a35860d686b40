// SPDX-License-Identifier: GPL-2.0

//! Block I/O requests.

use super::{SECTOR_SHIFT, SECTOR_SIZE, bdev::BlockDevice};
use crate::alloc::{AllocError, Flags, KVec, may_allocate};
use crate::error::{Error, Result, code::*};
use crate::page::PAGE_SIZE;
use crate::sync::Arc;
use crate::{Init, sim};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::rc::Rc;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    Read,
    Write,
    Discard,
    SecureErase,
    WriteZeroes,
    Other,
}

/// What is done at the end.
pub type End = Box<dyn FnOnce(Result)>;

/// What a submitter has to say.
pub struct Request {
    /// Where a bio goes that is let go on.
    pub bdev: BlockDevice,
    /// What is asked for.
    pub op: Op,
    /// First sector, on the whole disk.
    pub sector: u64,
    /// Number of sectors.
    pub sectors: u64,
    /// Rather than wait, fail.
    pub nowait: bool,
    /// What is written or was read.
    pub data: Rc<RefCell<Vec<u8>>>,
    /// Called at the end.
    pub end: End,
}

/// A bio that somebody else has submitted.
pub struct Bio(Option<Box<Request>>);

impl Bio {
    /// From a submitter.
    pub fn submit(request: Request) -> Self {
        Bio(Some(Box::new(request)))
    }

    fn request(&self) -> &Request {
        self.0.as_ref().expect("in use until consumed")
    }

    /// What is asked for.
    pub fn op(&self) -> Op {
        self.request().op
    }

    /// First sector.
    pub fn sector(&self) -> u64 {
        self.request().sector
    }

    /// Number of sectors.
    pub fn sectors(&self) -> u64 {
        self.request().sectors
    }

    /// Whether it must not wait.
    pub fn is_nowait(&self) -> bool {
        self.request().nowait
    }

    /// Completes it.
    pub fn end(mut self, result: Result) {
        let request = self.0.take().expect("in use until consumed");
        (request.end)(result);
    }

    /// Submits it once more, to whatever filters the device.
    pub fn resubmit(self) {
        sim::might_sleep("submission");
        sim::preempt();
        self.request().bdev.clone().submit(self);
    }

    /// Hands it to the device, below the filter.
    ///
    /// The device may take only a part of it. It submits the rest by itself, to the filter: at once
    /// or when much else has happened.
    pub fn pass_on(mut self) {
        sim::might_sleep("submission");
        let request = self.0.take().expect("in use until consumed");
        sim::preempt();
        if request.bdev.is_filtered() && request.sectors > 1 && sim::device_splits() {
            if request.nowait {
                // As for any device that cannot take all of it.
                return (request.end)(Err(EAGAIN));
            }
            let sectors = 1 + sim::below(request.sectors - 1);
            let (front, rest) = request.split(sectors);
            front.start();
            let rest = Bio::submit(rest);
            if sim::comes_at_once() {
                rest.resubmit();
            } else {
                sim::step(move || rest.resubmit());
            }
            return;
        }
        request.start();
    }
}

impl Request {
    /// Its first `sectors`, and what is left. It ends when both have.
    fn split(self, sectors: u64) -> (Self, Self) {
        // What is read would have to be put together again.
        assert_ne!(self.op, Op::Read, "reads do not pass filters");
        let at = sectors as usize * SECTOR_SIZE;
        let (first, second) = {
            let data = self.data.borrow();
            let (first, second) = data.split_at(at);
            (first.to_vec(), second.to_vec())
        };
        let ends = Rc::new(Ends {
            left: Cell::new(2),
            result: Cell::new(Ok(())),
            whole: Cell::new(Some(self.end)),
        });
        let part = |sector, sectors, data| {
            let ends = ends.clone();
            Request {
                bdev: self.bdev.clone(),
                op: self.op,
                sector,
                sectors,
                nowait: self.nowait,
                data: Rc::new(RefCell::new(data)),
                end: Box::new(move |result| ends.one(result)),
            }
        };
        (
            part(self.sector, sectors, first),
            part(self.sector + sectors, self.sectors - sectors, second),
        )
    }

    /// The device takes all of it.
    fn start(self) {
        self.bdev.begin();
        sim::step(move || {
            let Request {
                bdev,
                op,
                sector,
                sectors,
                data,
                end,
                ..
            } = self;
            let at = sector - bdev.start_sector();
            bdev.access(at, sectors, |there| match op {
                Op::Read => data.borrow_mut().copy_from_slice(there),
                Op::Write => there.copy_from_slice(&data.borrow()),
                _ => there.fill(0),
            });
            bdev.end();
            sim::interrupt(move || end(Ok(())));
        });
    }
}

/// The ends of two parts.
struct Ends {
    left: Cell<u32>,
    result: Cell<Result>,
    whole: Cell<Option<End>>,
}

impl Ends {
    fn one(&self, result: Result) {
        self.result.set(self.result.get().and(result));
        self.left.set(self.left.get() - 1);
        if self.left.get() == 0 {
            let end = self.whole.take().expect("ends once");
            end(self.result.get());
        }
    }
}

impl Drop for Bio {
    fn drop(&mut self) {
        // A test that has failed must not fail again on its way out.
        if let Some(request) = self.0.take().filter(|_| !std::thread::panicking()) {
            (request.end)(Err(EIO));
        }
    }
}

/// A queue of bios.
#[derive(Default)]
pub struct BioList(VecDeque<Bio>);

impl BioList {
    /// Empty.
    pub const fn new() -> Self {
        BioList(VecDeque::new())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds one.
    pub fn push(&mut self, bio: Bio) {
        self.0.push_back(bio);
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<Bio> {
        self.0.pop_front()
    }

    /// Takes all of another's.
    pub fn append(&mut self, other: &mut BioList) {
        self.0.append(&mut other.0);
    }
}

/// A bio worked on in parts, completed when the last reference goes.
pub struct SharedBio {
    bio: Cell<Option<Bio>>,
    op: Op,
    sector: u64,
    sectors: u64,
    data: Rc<RefCell<Vec<u8>>>,
    error: Cell<Option<Error>>,
    again: Cell<bool>,
}

impl SharedBio {
    /// Shares a bio, or gives it back if there is no memory.
    pub fn new(bio: Bio, flags: Flags) -> Result<Arc<Self>, Bio> {
        if may_allocate(flags).is_err() {
            return Err(bio);
        }
        Ok(std::sync::Arc::new(SharedBio {
            op: bio.op(),
            sector: bio.sector(),
            sectors: bio.sectors(),
            data: bio.request().data.clone(),
            bio: Cell::new(Some(bio)),
            error: Cell::new(None),
            again: Cell::new(false),
        }))
    }

    /// What is asked for.
    pub fn op(&self) -> Op {
        self.op
    }

    /// First sector.
    pub fn sector(&self) -> u64 {
        self.sector
    }

    /// Number of sectors.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// A part has failed.
    pub fn set_error(&self, error: Error) {
        self.error.set(Some(self.error.get().unwrap_or(error)));
    }

    /// All of it has to be worked on again.
    pub fn do_again(&self) {
        self.again.set(true);
    }

    /// Lets go of a reference. Gives back what has to be worked on again with the last one.
    pub fn put(this: Arc<Self>) -> Option<Bio> {
        let last = std::sync::Arc::into_inner(this)?;
        match last.again.get() && last.error.get().is_none() {
            true => last.bio.take(),
            false => None,
        }
    }

    /// Fills a part with zeroes.
    pub fn zero(&self, range: Range<usize>) {
        self.data.borrow_mut()[range].fill(0);
    }

    /// Fills a part from pages.
    pub fn copy_from(&self, range: Range<usize>, pages: &Pages, from: usize) {
        let len = range.len();
        let pages = pages.0.borrow();
        self.data.borrow_mut()[range].copy_from_slice(&pages[from..from + len]);
    }

    /// Copies the bytes from `at` on into `bytes`.
    pub fn read(&self, at: usize, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.data.borrow()[at..at + bytes.len()]);
    }

    /// Copies `bytes` to the bytes from `at` on.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        self.data.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Drop for SharedBio {
    fn drop(&mut self) {
        if let Some(bio) = self.bio.take().filter(|_| !std::thread::panicking()) {
            assert!(
                !self.again.get() || self.error.get().is_some(),
                "a bio that was to be worked on again"
            );
            bio.end(self.error.get().map_or(Ok(()), Err));
        }
    }
}

/// What memory contains before anything is put there.
pub const POISON: u8 = 0xa5;

/// Memory for I/O.
pub struct Pages(RefCell<Vec<u8>>);

impl Pages {
    /// Allocates pages with anything in them.
    pub fn new(nr: usize, flags: Flags) -> Result<Self, AllocError> {
        let mut pages = KVec::<u8>::new();
        pages.reserve(nr, flags)?;
        sim::may_have_pages(flags.may_wait())?;
        Ok(Pages(RefCell::new(vec![POISON; nr * PAGE_SIZE])))
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.0.borrow().len()
    }

    /// Fills a part with zeroes.
    pub fn zero(&self, range: Range<usize>) {
        self.0.borrow_mut()[range].fill(0);
    }

    /// Copies the bytes from `at` on into `bytes`.
    pub fn read(&self, at: usize, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.0.borrow()[at..at + bytes.len()]);
    }
}

/// What an I/O carries.
pub trait IoOwner: Sized + 'static {
    /// The I/O has ended.
    fn complete(io: EndedIo<Self>);
}

enum Memory {
    Pages(Arc<Pages>, Range<usize>),
    List(KVec<(Arc<Pages>, usize)>),
    Part(Arc<SharedBio>, Range<usize>),
}

/// Where I/Os come from. Here, there are always enough.
pub struct IoPool<T>(PhantomData<T>);

impl<T: IoOwner> IoPool<T> {
    /// With a reserve.
    pub fn new(_reserve: u32) -> Init<impl FnOnce() -> Result<Self>> {
        Init::new(|| Ok(IoPool(PhantomData)))
    }

    /// An I/O with pages.
    #[allow(clippy::too_many_arguments)]
    pub fn for_pages(
        self: &Arc<Self>,
        bdev: &BlockDevice,
        op: Op,
        sector: u64,
        pages: &Arc<Pages>,
        range: Range<usize>,
        data: T,
        flags: Flags,
    ) -> Result<Io<T>, T> {
        let fits = range.end <= pages.size() && range.start.is_multiple_of(PAGE_SIZE);
        if !fits || may_allocate(flags).is_err() {
            return Err(data);
        }
        assert!(range.len().is_multiple_of(SECTOR_SIZE) && !range.is_empty());
        assert!(range.len() <= 256 * PAGE_SIZE, "more than a bio can hold");
        Ok(Io {
            bdev: bdev.clone(),
            op,
            sector,
            memory: Memory::Pages(pages.clone(), range),
            data,
            result: Ok(()),
        })
    }

    /// An I/O with several pages in a row.
    pub fn for_list(
        self: &Arc<Self>,
        bdev: &BlockDevice,
        op: Op,
        sector: u64,
        list: KVec<(Arc<Pages>, usize)>,
        data: T,
        flags: Flags,
    ) -> Result<Io<T>, T> {
        assert!(op == Op::Write, "only written in this way");
        let fits = list
            .iter()
            .all(|(pages, bytes)| *bytes <= pages.size() && bytes.is_multiple_of(PAGE_SIZE));
        if !fits || may_allocate(flags).is_err() {
            return Err(data);
        }
        let bytes: usize = list.iter().map(|(_, bytes)| bytes).sum();
        assert!(
            bytes > 0 && bytes <= 256 * PAGE_SIZE,
            "not what a bio holds"
        );
        Ok(Io {
            bdev: bdev.clone(),
            op,
            sector,
            memory: Memory::List(list),
            data,
            result: Ok(()),
        })
    }

    /// A part of a bio as an I/O.
    pub fn for_part(
        self: &Arc<Self>,
        bdev: &BlockDevice,
        sector: u64,
        bio: &Arc<SharedBio>,
        range: Range<u64>,
        data: T,
        flags: Flags,
    ) -> Result<Io<T>, T> {
        let fits = range.end <= bio.sectors() && !range.is_empty();
        if !fits || may_allocate(flags).is_err() {
            return Err(data);
        }
        let bytes = (range.start << SECTOR_SHIFT) as usize..(range.end << SECTOR_SHIFT) as usize;
        Ok(Io {
            bdev: bdev.clone(),
            op: bio.op(),
            sector,
            memory: Memory::Part(bio.clone(), bytes),
            data,
            result: Ok(()),
        })
    }
}

/// An I/O of our own.
pub struct Io<T> {
    bdev: BlockDevice,
    op: Op,
    sector: u64,
    memory: Memory,
    data: T,
    result: Result,
}

impl<T: IoOwner> Io<T> {
    /// The value carried.
    pub fn data(&self) -> &T {
        &self.data
    }

    /// The bio this is a part of.
    pub fn part_of(&self) -> Option<&Arc<SharedBio>> {
        match &self.memory {
            Memory::Part(bio, _) => Some(bio),
            Memory::Pages(..) | Memory::List(_) => None,
        }
    }

    fn sectors(&self) -> u64 {
        let bytes = match &self.memory {
            Memory::Pages(_, range) | Memory::Part(_, range) => range.len(),
            Memory::List(list) => list.iter().map(|(_, bytes)| bytes).sum(),
        };
        (bytes >> SECTOR_SHIFT) as u64
    }

    fn perform(&self) -> Result {
        if sim::io_fails() {
            return Err(EIO);
        }
        if self.op == Op::Read && self.bdev.is_bad(self.sector, self.sectors()) {
            return Err(EIO);
        }
        let (bytes, range) = match &self.memory {
            Memory::Pages(pages, range) => (&pages.0, range.clone()),
            Memory::Part(bio, range) => (&*bio.data, range.clone()),
            Memory::List(list) => {
                let mut sector = self.sector;
                for (pages, bytes) in list {
                    let sectors = (*bytes >> SECTOR_SHIFT) as u64;
                    self.bdev.access(sector, sectors, |there| {
                        there.copy_from_slice(&pages.0.borrow()[..*bytes]);
                    });
                    sector += sectors;
                }
                return Ok(());
            }
        };
        let sectors = (range.len() >> SECTOR_SHIFT) as u64;
        self.bdev
            .access(self.sector, sectors, |there| match self.op {
                Op::Read => bytes.borrow_mut()[range].copy_from_slice(there),
                _ => there.copy_from_slice(&bytes.borrow()[range]),
            });
        Ok(())
    }

    /// Starts it.
    pub fn submit(mut self) {
        sim::might_sleep("submission");
        sim::preempt();
        if self.bdev.is_held() {
            let bdev = self.bdev.clone();
            return bdev.keep(move || self.end());
        }
        if sim::comes_at_once() {
            self.result = self.perform();
            return sim::as_interrupt(move || T::complete(EndedIo(self)));
        }
        sim::step(move || self.end());
    }

    fn end(mut self) {
        self.result = self.perform();
        sim::interrupt(move || T::complete(EndedIo(self)));
    }
}

/// An I/O that has ended.
pub struct EndedIo<T>(Io<T>);

impl<T> EndedIo<T> {
    /// Whether it succeeded.
    pub fn result(&self) -> Result {
        self.0.result
    }

    /// Frees it.
    pub fn into_data(self) -> T {
        self.0.data
    }

    /// Frees it and gives back the bio that it was a part of, too.
    pub fn into_parts(self) -> (T, Option<Arc<SharedBio>>) {
        let part_of = match self.0.memory {
            Memory::Part(bio, _) => Some(bio),
            Memory::Pages(..) | Memory::List(_) => None,
        };
        (self.0.data, part_of)
    }
}

impl<T> Deref for EndedIo<T> {
    type Target = Io<T>;

    fn deref(&self) -> &Io<T> {
        &self.0
    }
}

/// What is submitted meanwhile is started afterwards; here, it may be at once.
pub fn plugged<R>(f: impl FnOnce() -> R) -> R {
    f()
}
