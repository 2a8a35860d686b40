// SPDX-License-Identifier: GPL-2.0

//! The image of a device: what it contained when the snapshot was taken.
//!
//! Reads never hold up writers. What is on the original is read from there, and then the chunk's
//! state is looked at again: if it is still there, no write was let go on before the read had
//! ended, so that what was read is old. Else the copy is taken, from memory while it is being
//! stored. Writes go to copies, which they wait for, and so never reach the original.

use crate::{
    chunk_map::State,
    cow::{Context, Cow, Stop},
    storage::Target,
    trace,
};
use core::ops::Range;
use kernel::{
    block::{
        bio::{Bio, BioList, EndedIo, Io, IoOwner, Op, SharedBio},
        bio_disk::BioDriver,
        SECTOR_SHIFT, //
    },
    fs::MemoryFile,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::ordering::{Acquire, Full, Relaxed},
        rcu,
        Arc, //
    },
};

/// What each I/O for the image carries.
pub(crate) struct ImageIo {
    cow: Arc<Cow>,
    /// What is read from the original, in sectors from the start of the bio.
    original: Option<Range<u64>>,
}

impl IoOwner for ImageIo {
    fn complete(io: EndedIo<Self>) {
        // Whoever waits until nothing is in flight waits for this to return, too.
        let _rcu = rcu::read_lock();
        let ImageIo { cow, original } = io.data();
        if let Some(bio) = io.part_of() {
            // The states first: a chunk goes back to the original only after the error is set.
            let late = original
                .as_ref()
                .is_some_and(|range| !cow.is_still_original(bio, range));
            if let Err(e) = io.result().and(cow.error()) {
                bio.set_error(e);
            } else if late {
                cow.late_reads.fetch_add(1, Relaxed);
                trace::blksnap_late_read(cow.origin.dev_t(), bio.sector(), bio.sectors());
                bio.do_again();
            } else if let Some(range) = original {
                cow.hide(bio, range);
            }
        }
        // Freed here and not by the worker, who may be waiting for this memory.
        let (ImageIo { cow, .. }, bio) = io.into_parts();
        if let Some(bio) = bio {
            cow.put(bio);
        }
        cow.image_io_ended();
    }
}

#[vtable]
impl BioDriver for Cow {
    fn submit_bio(this: &Arc<Self>, bio: Bio) {
        if bio.op() == Op::Read {
            this.image_reads.fetch_add(1, Relaxed);
        }
        if this.storage.may_sleep() {
            let mut bios = BioList::new();
            bios.push(bio);
            return this.queue_image(&mut bios);
        }
        this.image_bio(bio, Context::Submitter);
    }
}

impl Cow {
    /// A bio for the image.
    fn image_bio(self: &Arc<Self>, bio: Bio, context: Context) {
        if let Err(e) = self.error() {
            pr_debug!("image read or write after {e:?}\n");
            return bio.end(Err(EIO));
        }
        match bio.op() {
            Op::Read => match SharedBio::new(bio, GFP_NOIO) {
                Ok(bio) => {
                    self.image_read(&bio);
                    self.put(bio);
                }
                Err(bio) => bio.end(Err(ENOMEM)),
            },
            Op::Write => self.image_write(bio, context),
            // What is not needed any more may stay.
            Op::Discard => bio.end(Ok(())),
            _ => bio.end(Err(EOPNOTSUPP)),
        }
    }

    /// What the image's worker does.
    pub(crate) fn image_work(self: &Arc<Self>) {
        loop {
            let mut image = self.image.lock();
            let Some(bio) = image.pop() else { break };
            // Counted as in flight, so that nobody takes this for idle.
            self.image_in_flight.fetch_add(1, Relaxed);
            drop(image);
            self.image_bio(bio, Context::Worker);
            self.image_io_ended();
        }
    }

    fn image_io_ended(&self) {
        // Fully ordered: whoever sees none in flight sees what those that were have done.
        if self.image_in_flight.fetch_sub(1, Full) == 1 {
            let image = self.image.lock();
            if self.image_is_idle(&image) {
                self.image_idle.notify_all();
            }
        }
    }

    /// Whether there is nothing to do and nothing in flight for the image.
    pub(crate) fn image_is_idle(&self, image: &BioList) -> bool {
        image.is_empty() && self.image_in_flight.load(Acquire) == 0
    }

    /// Lets go of a bio. If a part of it was read too late, all of it is read again: what was late
    /// is not on the original any more, so that this comes to an end.
    fn put(self: &Arc<Self>, bio: Arc<SharedBio>) {
        if let Some(bio) = SharedBio::put(bio) {
            let mut bios = BioList::new();
            bios.push(bio);
            self.queue_image(&mut bios);
        }
    }

    /// Whether all of a part of a bio is still on the original.
    fn is_still_original(&self, bio: &SharedBio, range: &Range<u64>) -> bool {
        let first = self.chunk_of(bio.sector() + range.start);
        let last = self.chunk_of(bio.sector() + range.end - 1);
        self.map.on_original(first, last) > last - first
    }

    /// Replaces what lies under the storage by zeroes in a part of a bio.
    fn hide(&self, bio: &SharedBio, range: &Range<u64>) {
        let at = bio.sector();
        for hidden in self.excluded(at + range.start..at + range.end) {
            let start = ((hidden.start - at) << SECTOR_SHIFT) as usize;
            let end = ((hidden.end - at) << SECTOR_SHIFT) as usize;
            bio.zero(start..end);
        }
    }

    fn image_io(self: &Arc<Self>, original: Option<Range<u64>>) -> ImageIo {
        self.image_in_flight.fetch_add(1, Relaxed);
        ImageIo {
            cow: self.clone(),
            original,
        }
    }

    /// Reads a bio, each piece from where it is.
    fn image_read(self: &Arc<Self>, bio: &Arc<SharedBio>) {
        let sectors = bio.sectors();
        let mut at = 0;
        while at < sectors {
            let chunk = self.chunk_of(bio.sector() + at);
            let last = self.chunk_of(bio.sector() + sectors - 1);
            let state = self.map.get(chunk);
            at = match state {
                State::Original | State::Copying(_) => {
                    let chunks = self.map.on_original(chunk, last).max(1);
                    let end = self.end_of(chunk + chunks, bio).min(sectors);
                    self.read_original(bio, at..end);
                    end
                }
                State::Storing(job) => {
                    let end = self.end_of(chunk + 1, bio).min(sectors);
                    if !self.read_memory(bio, at..end, chunk, job) {
                        // Stored meanwhile.
                        continue;
                    }
                    end
                }
                State::Copied(place) => {
                    let chunks = self
                        .map
                        .run(chunk, last, u64::MAX, |i| State::Copied(place + i))
                        .max(1);
                    let end = self.end_of(chunk + chunks, bio).min(sectors);
                    self.stored_io(bio, at..end, chunk, place);
                    end
                }
            };
        }
    }

    /// Where in the bio the chunks before `chunk` end, in sectors.
    fn end_of(&self, chunk: u64, bio: &SharedBio) -> u64 {
        chunk * self.chunk_sectors() - bio.sector()
    }

    fn read_original(self: &Arc<Self>, bio: &Arc<SharedBio>, part: Range<u64>) {
        let io = self.image_pool.for_part(
            &self.origin,
            bio.sector() + part.start,
            bio,
            part.clone(),
            self.image_io(Some(part)),
            GFP_NOIO,
        );
        self.submit_or_fail(io, bio);
    }

    fn submit_or_fail(&self, io: Result<Io<ImageIo>, ImageIo>, bio: &SharedBio) {
        match io {
            Ok(io) => io.submit(),
            Err(_) => {
                bio.set_error(ENOMEM);
                self.image_io_ended();
            }
        }
    }

    /// Takes a part of a bio, within `chunk`, from the memory of the job that is storing it.
    /// Returns whether it was still there.
    fn read_memory(&self, bio: &SharedBio, part: Range<u64>, chunk: u64, number: u32) -> bool {
        let mut jobs = self.jobs.lock();
        if self.map.get(chunk) != State::Storing(number) {
            return false;
        }
        let Some(job) = jobs.get(number) else {
            return false;
        };
        let first = job.first;
        let pages = job.pages.clone();
        drop(jobs);

        let from = bio.sector() + part.start - first * self.chunk_sectors();
        bio.copy_from(
            (part.start << SECTOR_SHIFT) as usize..(part.end << SECTOR_SHIFT) as usize,
            &pages,
            (from << SECTOR_SHIFT) as usize,
        );
        true
    }

    /// Reads or writes a part of a bio in the storage, where `chunk` and those that follow it are
    /// stored from `place` on.
    fn stored_io(self: &Arc<Self>, bio: &Arc<SharedBio>, part: Range<u64>, chunk: u64, place: u64) {
        let within = bio.sector() + part.start - chunk * self.chunk_sectors();
        let pos = place * self.chunk_sectors() + within;
        let mut at = part.start;
        for piece in self
            .storage
            .space()
            .pieces(pos..pos + (part.end - part.start))
        {
            let part = at..at + piece.sectors;
            at = part.end;
            match self.storage.target(&piece) {
                Target::Disk(bdev) => {
                    let io = self.image_pool.for_part(
                        bdev,
                        piece.sector,
                        bio,
                        part,
                        self.image_io(None),
                        GFP_NOIO,
                    );
                    self.submit_or_fail(io, bio);
                }
                Target::Memory(file) => {
                    if let Err(e) = io_in_memory(file, piece.sector, bio, part) {
                        bio.set_error(e);
                    }
                }
            }
        }
    }

    /// Writes to the image once all of the bio's chunks are stored.
    fn image_write(self: &Arc<Self>, bio: Bio, context: Context) {
        if bio.sectors() == 0 {
            return bio.end(Ok(()));
        }
        let first = self.chunk_of(bio.sector());
        let last = self.chunk_of(bio.sector() + bio.sectors() - 1);

        let mut chunk = first;
        while chunk <= last {
            match self.map.get(chunk) {
                State::Copied(_) => chunk += 1,
                State::Original => match self.start_copy(chunk, last, false, context) {
                    Ok(()) => {}
                    Err(Stop::Busy) => {
                        let mut jobs = self.jobs.lock();
                        jobs.image_parked.push(bio);
                        let kick = jobs.needs_kick();
                        drop(jobs);
                        if kick {
                            self.clone().kick_copy();
                        }
                        return;
                    }
                    Err(Stop::Failed) => return bio.end(Err(EIO)),
                },
                State::Copying(job) | State::Storing(job) => {
                    let mut jobs = self.jobs.lock();
                    let state = self.map.get(chunk);
                    if state == State::Copying(job) || state == State::Storing(job) {
                        if let Some(job) = jobs.get(job) {
                            job.image_writers.push(bio);
                            // It may be waiting for others to be stored with.
                            jobs.hurry = true;
                            drop(jobs);
                            return self.clone().kick_copy();
                        }
                    }
                }
            }
        }

        self.image_writes.fetch_add(1, Relaxed);
        let bio = match SharedBio::new(bio, GFP_NOIO) {
            Ok(bio) => bio,
            Err(bio) => return bio.end(Err(ENOMEM)),
        };
        let mut chunk = first;
        while chunk <= last {
            let State::Copied(place) = self.map.get(chunk) else {
                // Only if the snapshot was given up.
                return bio.set_error(EIO);
            };
            let chunks = self
                .map
                .run(chunk, last, u64::MAX, |i| State::Copied(place + i))
                .max(1);
            let start = (chunk * self.chunk_sectors()).saturating_sub(bio.sector());
            let end = self.end_of(chunk + chunks, &bio).min(bio.sectors());
            self.stored_io(&bio, start..end, chunk, place);
            chunk += chunks;
        }
    }
}

/// Reads or writes a part of a bio, in sectors from its start, in a file in memory from `sector`
/// on.
fn io_in_memory(file: &MemoryFile, sector: u64, bio: &SharedBio, part: Range<u64>) -> Result {
    let mut page = KVec::zeroed(PAGE_SIZE, GFP_NOIO)?;
    let range = (part.start << SECTOR_SHIFT) as usize..(part.end << SECTOR_SHIFT) as usize;
    for at in range.clone().step_by(PAGE_SIZE) {
        let len = PAGE_SIZE.min(range.end - at);
        let pos = (sector << SECTOR_SHIFT) + (at - range.start) as u64;
        if bio.op() == Op::Write {
            bio.read(at, &mut page[..len]);
            file.write_at(pos, &page[..len])?;
        } else {
            file.read_at(pos, &mut page[..len])?;
            bio.write(at, &page[..len]);
        }
    }
    Ok(())
}
