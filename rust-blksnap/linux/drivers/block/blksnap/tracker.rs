// SPDX-License-Identifier: GPL-2.0

//! The filter on a device: it tracks what changes, and has it copied while there is a snapshot.

use crate::{
    change_map::{ChangeMap, Limits},
    cow::{Context, Cow},
    module_parameters,
    snapshot::Snapshots,
    wire::{self, Dirty, ReadMap},
};
use core::ops::Range;
use kernel::{
    block::{
        bdev::BlockDevice,
        bio::Bio,
        filter::{Answer, Attached, Filter},
        SECTOR_SHIFT, //
    },
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    str::CString,
    sync::{Arc, ArcBorrow, Mutex},
    uaccess::{UserPtr, UserSlice},
    uuid::Uuid,
};

/// A filtered device.
pub(crate) type Device = Attached<Tracker>;

/// Commands of the filter, as in `enum blksnap_filter_cmd`.
mod cmd {
    pub(super) const TRACKING_INFO: u32 = 0;
    pub(super) const TRACKING_MAP: u32 = 1;
    pub(super) const TRACKING_DIRTY: u32 = 2;
    pub(super) const SNAPSHOT_ADD: u32 = 3;
    pub(super) const SNAPSHOT_INFO: u32 = 4;
}

/// How many blocks of the change map are marked under the lock.
const MARKED_AT_ONCE: u64 = 4096;

/// How a device is part of a snapshot.
pub(crate) enum Membership {
    /// It is in none. What the last one that it was in came to.
    None { errno: i32 },
    /// It will be in the one with this UUID when that is taken.
    Added(Uuid),
    /// It is in one that has been taken.
    Taken {
        cow: Arc<Cow>,
        /// Whether there is an image.
        shown: bool,
    },
    /// The filter is being taken off.
    Detached,
}

/// What has changed since when.
struct Changes {
    /// Begins when the map does.
    generation: Uuid,
    /// The period that is going on.
    number: u8,
    map: Arc<ChangeMap>,
    /// What the map was when the last snapshot was taken. This is what user space gets to see.
    taken: Taken,
    /// Which disk all that is about.
    disk: u64,
    /// Maps for a device whose size has changed, or that is another one now.
    next: Option<(u64, [Arc<ChangeMap>; 2])>,
}

/// A map that does not change any more.
struct Taken {
    generation: Uuid,
    /// The period that ended, or zero if none has.
    number: u8,
    map: Arc<ChangeMap>,
}

/// What the filter works by.
pub(crate) struct State {
    changes: Arc<ChangeMap>,
    /// The period that is going on.
    number: u8,
    /// Where writes are copied if there is a snapshot.
    pub(crate) cow: Option<Arc<Cow>>,
}

/// The filter.
#[pin_data]
pub(crate) struct Tracker {
    snapshots: Arc<Snapshots>,
    #[pin]
    changes: Mutex<Changes>,
    /// The innermost lock of the control path.
    #[pin]
    pub(crate) member: Mutex<Membership>,
}

impl Tracker {
    /// Makes what [`begin_period`](Self::begin_period) will need.
    pub(crate) fn prepare(&self, bdev: &BlockDevice) -> Result {
        let (sectors, disk) = (bdev.sectors(), bdev.sequence_number());
        let same = {
            let changes = self.changes.lock();
            changes.map.sectors() == sectors && changes.disk == disk
        };
        let next = match same {
            true => None,
            false => Some((disk, [new_map(sectors)?, new_map(sectors)?])),
        };
        self.changes.lock().next = next;
        Ok(())
    }

    /// Ends a period. Nobody is inside the filter, whose state this is.
    pub(crate) fn begin_period(&self, state: &mut State) {
        let mut changes = self.changes.lock();
        if let Some((disk, [map, taken])) = changes.next.take() {
            // Nothing can be compared.
            changes.disk = disk;
            changes.map = map;
            changes.taken.map = taken;
            changes.generation = Uuid::random();
            changes.number = 1;
        }

        changes.taken.map.copy_from(&changes.map);
        changes.taken.generation = changes.generation;
        changes.taken.number = changes.number;

        match changes.number.checked_add(1) {
            Some(number) => changes.number = number,
            None => {
                changes.map.clear();
                changes.generation = Uuid::random();
                changes.number = 1;
            }
        }
        state.changes = changes.map.clone();
        state.number = changes.number;
    }

    fn tracking_info(&self) -> [u8; wire::TRACKING_INFO] {
        let taken = &self.changes.lock().taken;
        wire::tracking_info(
            taken.map.sectors() << SECTOR_SHIFT,
            u32::try_from(taken.map.block_size()).unwrap_or(u32::MAX),
            taken.map.blocks(),
            taken.generation.as_bytes(),
            taken.number,
        )
    }

    /// Copies a part of the map to user space. Returns how many bytes.
    fn read_map(&self, request: &ReadMap) -> Result<usize> {
        let taken = self.changes.lock().taken.map.clone();
        let mut page = KVec::zeroed(PAGE_SIZE, GFP_KERNEL)?;
        let mut writer = UserSlice::new(
            UserPtr::from_addr(request.buffer as usize),
            request.length as usize,
        )
        .writer();
        let mut done = 0;
        while done < request.length as usize {
            let want = page.len().min(request.length as usize - done);
            let Some(offset) = request.offset.checked_add(done as u32) else {
                break;
            };
            let n = taken.read(offset, &mut page[..want]);
            writer.write_slice(&page[..n])?;
            done += n;
            if n < want {
                break;
            }
        }
        Ok(done)
    }

    /// Marks ranges as changed: in the current period, and for who reads the map of the last one.
    fn mark_dirty(&self, request: &Dirty) -> Result {
        let size = (request.count as usize)
            .checked_mul(wire::SECTORS)
            .ok_or(EINVAL)?;
        let mut reader = UserSlice::new(UserPtr::from_addr(request.ranges as usize), size).reader();
        while !reader.is_empty() {
            let mut bytes = [0; wire::SECTORS];
            reader.read_slice(&mut bytes)?;
            let range = wire::sectors(&bytes).ok_or(EINVAL)?;

            if current!().signal_pending() {
                return Err(EINTR);
            }
            self.mark_range(range)?;
        }
        Ok(())
    }

    fn mark_range(&self, range: Range<u64>) -> Result {
        let mut first = range.start;
        loop {
            let changes = self.changes.lock();
            if range.end > changes.map.sectors() {
                return Err(EINVAL);
            }
            // Not all at once: whoever takes a snapshot may be waiting.
            let step = (changes.map.block_size() >> SECTOR_SHIFT) * MARKED_AT_ONCE;
            let end = range.end.min(first.saturating_add(step));
            changes.map.mark(first..end, changes.number);
            changes.taken.map.mark(first..end, changes.taken.number);
            drop(changes);

            if end == range.end {
                return Ok(());
            }
            first = end;
        }
    }

    /// The device's snapshot, if there is one, cannot be kept: what is written may not be seen.
    fn give_up(&self) {
        if let Membership::Taken { cow, .. } = &*self.member.lock() {
            cow.fail(ENODEV);
        }
    }

    fn snapshot_info(&self, bdev: &BlockDevice) -> Result<[u8; wire::INFO]> {
        let (major, minor) = bdev.dev();
        let image = CString::try_from_fmt(fmt!("blksnap-{major}-{minor}"))?;
        Ok(match &*self.member.lock() {
            Membership::Taken { cow, shown } => {
                let errno = cow.error().map_or_else(|e| e.to_errno(), |()| 0);
                wire::info(errno, if *shown { image.to_bytes() } else { b"" })
            }
            Membership::None { errno } => wire::info(*errno, b""),
            Membership::Added(_) | Membership::Detached => wire::info(0, b""),
        })
    }
}

/// A map for a device of this many sectors, in which nothing has changed.
fn new_map(sectors: u64) -> Result<Arc<ChangeMap>> {
    let limits = Limits {
        min_shift: module_parameters::tracking_block_minimum_shift.value(),
        max_shift: module_parameters::tracking_block_maximum_shift.value(),
        max_blocks: module_parameters::tracking_block_maximum_count
            .value()
            .into(),
    };
    Ok(Arc::new(ChangeMap::new(sectors, &limits)?, GFP_KERNEL)?)
}

/// Reads an argument of a command, of which there may be more than is known.
fn read<const N: usize>(arg: UserSlice, len: usize) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    if len < N {
        return Err(EINVAL);
    }
    arg.reader().read_slice(&mut bytes)?;
    Ok(bytes)
}

/// Answers a command.
fn answer(arg: UserSlice, len: usize, bytes: &[u8]) -> Result<Answer> {
    if len < bytes.len() {
        return Err(EINVAL);
    }
    arg.writer().write_slice(bytes)?;
    Ok(Answer {
        len: bytes.len(),
        value: 0,
    })
}

#[vtable]
impl Filter for Tracker {
    const NAME: &'static CStr = c"blksnap";

    type Context = Arc<Snapshots>;

    type State = State;

    fn attach(
        snapshots: &Arc<Snapshots>,
        bdev: &BlockDevice,
    ) -> Result<(impl PinInit<Self, Error>, Self::State)> {
        if bdev.is_zoned() {
            // Zones are reset and appended to, which nothing here can undo.
            let (major, minor) = bdev.dev();
            pr_err!("{major}:{minor} is zoned, which is not supported\n");
            return Err(EOPNOTSUPP);
        }
        if bdev.has_direct_access() {
            let (major, minor) = bdev.dev();
            pr_err!("{major}:{minor} can be written to past the block layer (DAX)\n");
            return Err(EOPNOTSUPP);
        }
        let snapshots = snapshots.clone();
        let generation = Uuid::random();
        let number = 1;
        let map = new_map(bdev.sectors())?;
        let state = State {
            changes: map.clone(),
            number,
            cow: None,
        };
        let taken = Taken {
            generation,
            number: 0,
            map: new_map(bdev.sectors())?,
        };
        let changes = Changes {
            generation,
            number,
            map,
            taken,
            disk: bdev.sequence_number(),
            next: None,
        };
        let init = try_pin_init!(Self {
            snapshots,
            changes <- new_mutex!(changes, "blksnap::changes"),
            member <- new_mutex!(Membership::None { errno: 0 }, "blksnap::member"),
        });
        Ok((init, state))
    }

    fn may_detach(this: ArcBorrow<'_, Device>) -> Result {
        let mut member = this.filter().member.lock();
        match *member {
            Membership::None { .. } => {
                // A command may be under way that would add it.
                *member = Membership::Detached;
                Ok(())
            }
            _ => Err(EBUSY),
        }
    }

    fn gone(this: ArcBorrow<'_, Device>) {
        this.filter().give_up();
    }

    fn detach(this: Arc<Device>) {
        // It may have been taken since the device began to go.
        this.filter().give_up();
    }

    fn ctl(this: ArcBorrow<'_, Device>, cmd: u32, arg: UserSlice, len: usize) -> Result<Answer> {
        let tracker = this.filter();
        match cmd {
            cmd::TRACKING_INFO => answer(arg, len, &tracker.tracking_info()),
            cmd::TRACKING_MAP => {
                let request = ReadMap::decode(&read(arg, len)?);
                Ok(Answer {
                    len: 0,
                    value: tracker.read_map(&request)?.try_into()?,
                })
            }
            cmd::TRACKING_DIRTY => {
                let request = Dirty::decode(&read(arg, len)?);
                tracker.mark_dirty(&request)?;
                Ok(Answer::default())
            }
            cmd::SNAPSHOT_ADD => {
                let uuid = Uuid::from_bytes(read(arg, len)?);
                tracker.snapshots.add(uuid, this.into())?;
                Ok(Answer::default())
            }
            cmd::SNAPSHOT_INFO => answer(arg, len, &tracker.snapshot_info(this.bdev())?),
            _ => Err(ENOTTY),
        }
    }

    fn submit_bio(device: &Device, state: &Self::State, bio: Bio) -> Option<Bio> {
        if let Some(first) = bio.sector().checked_sub(device.bdev().start_sector()) {
            state
                .changes
                .mark(first..first + bio.sectors(), state.number);
        }
        match &state.cow {
            Some(cow) => cow.write(bio, Context::Submitter),
            None => Some(bio),
        }
    }
}
