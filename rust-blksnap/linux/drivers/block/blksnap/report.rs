// SPDX-License-Identifier: GPL-2.0

//! What a snapshot is doing, in `/sys/kernel/debug/blksnap`.

use crate::{cow::Cow, events::Events, snapshot::Taken, storage::Storage};
use kernel::{
    debugfs::Writer,
    fmt, new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
};

/// A snapshot's file: a name and a number in each line. What counts things that have happened only
/// grows.
#[pin_data]
pub(crate) struct Report {
    storage: Arc<Storage>,
    events: Arc<Events>,
    /// Empty unless the snapshot is held.
    #[pin]
    devices: Mutex<KVec<Arc<Cow>>>,
}

impl Report {
    pub(crate) fn new(storage: Arc<Storage>, events: Arc<Events>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            storage,
            events,
            devices <- new_mutex!(KVec::new(), "blksnap::report"),
        })
    }

    /// The snapshot is held. What there is no memory for is not shown.
    pub(crate) fn show(&self, taken: &[Taken]) {
        let mut devices = self.devices.lock();
        for member in taken {
            if devices.push(member.cow.clone(), GFP_KERNEL).is_err() {
                break;
            }
        }
    }

    /// It is not held any more.
    pub(crate) fn hide(&self) {
        let devices = core::mem::take(&mut *self.devices.lock());
        drop(devices);
    }
}

impl Writer for Report {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devices = self.devices.lock();
        let error = devices.iter().find_map(|cow| cow.error().err());
        let state = match (devices.is_empty(), error) {
            (true, _) => "open",
            (false, None) => "held",
            (false, Some(_)) => "corrupted",
        };
        let space = self.storage.space();
        writeln!(f, "state {state}")?;
        writeln!(f, "storage_used {}", space.used())?;
        writeln!(f, "storage_free {}", space.free())?;
        writeln!(f, "storage_capacity {}", space.capacity())?;
        writeln!(f, "storage_limit {}", space.limit())?;
        writeln!(f, "extents {}", space.extents())?;
        writeln!(f, "events {}", self.events.raised())?;
        for cow in devices.iter() {
            let (major, minor) = cow.origin.dev();
            writeln!(f, "device {major}:{minor}")?;
            let errno = cow.error().map_or_else(|e| e.to_errno(), |()| 0);
            writeln!(f, "error {errno}")?;
            let c = cow.counters();
            for (name, value) in [
                ("chunk_bytes", c.chunk_bytes),
                ("chunks_copied", c.chunks_copied),
                ("bytes_copied", c.chunks_copied * c.chunk_bytes),
                ("copies_failed", c.copies_failed),
                ("jobs_in_flight", c.jobs_in_flight),
                ("buffered_bytes", c.buffered_bytes),
                ("parked", c.parked),
                ("waits", c.waits),
                ("refused", c.refused),
                ("image_reads", c.image_reads),
                ("image_writes", c.image_writes),
                ("late_reads", c.late_reads),
            ] {
                writeln!(f, "{name} {value}")?;
            }
        }
        Ok(())
    }
}
