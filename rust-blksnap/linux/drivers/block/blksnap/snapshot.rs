// SPDX-License-Identifier: GPL-2.0

//! Snapshots: devices that are held at one point in time together.
//!
//! The list's lock is held for looking and for changing a snapshot's phase only. Whoever has
//! changed the phase to [`Phase::Busy`] has the snapshot to itself, and works on it without a lock:
//! taking one freezes filesystems, destroying one removes disks, and both take locks under which
//! commands arrive here.

use crate::{
    cow::{Cow, Sizes},
    events::{Event, Events},
    module_parameters,
    ranges::Ranges,
    report::Report,
    space::UNIT,
    storage::Storage,
    trace,
    tracker::{Device, Membership},
    wire,
};
use core::ops::Range;
use kernel::{
    block::{
        bdev::{BlockDevice, FrozenFilesystem},
        bio_disk::{BioDisk, Geometry},
        filter::{self, Freezing},
    },
    debugfs,
    fs::File,
    new_mutex,
    prelude::*,
    str::{CStr, CString},
    sync::{aref::ARef, Arc, Mutex},
    uaccess::{UserPtr, UserSlice},
    uuid::Uuid,
    workqueue::{queue_flags, OwnedQueue},
};

/// A device that has been taken, and its image.
pub(crate) struct Taken {
    device: Arc<Device>,
    pub(crate) cow: Arc<Cow>,
    disk: Option<BioDisk<Cow>>,
    /// The device, open: drivers take apart what nobody has open, whatever they are working on.
    _open: ARef<File>,
    /// Last, to be given back when nothing uses it any more.
    _queue: CopyQueue,
}

/// How far a snapshot is.
enum Phase {
    /// Devices can be added.
    Open,
    /// Somebody is creating, taking or destroying it.
    Busy,
    /// It is held.
    Taken(KVec<Taken>),
}

struct Snapshot {
    uuid: Uuid,
    events: Arc<Events>,
    storage: Arc<Storage>,
    /// Does not change once it is not open any more.
    devices: KVec<Arc<Device>>,
    phase: Phase,
    report: Pin<KBox<debugfs::File<Report>>>,
}

impl Snapshot {
    /// Whether something is, or is about to be, as it was at some moment: `is_on` says that it is
    /// on one of the devices, or on an image.
    fn holds(&self, is_on: impl Fn(&BlockDevice) -> bool) -> bool {
        let is_below = || self.devices.iter().any(|d| is_on(d.bdev()));
        match &self.phase {
            Phase::Open => false,
            Phase::Busy => is_below(),
            Phase::Taken(taken) => {
                let mut images = taken.iter().filter_map(|t| t.disk.as_ref());
                is_below() || images.any(|image| is_on(image.bdev()))
            }
        }
    }

    /// Whether it can still be taken.
    fn is_open(&self) -> Result {
        match self.phase {
            Phase::Open => Ok(()),
            Phase::Busy => Err(EBUSY),
            Phase::Taken(_) => Err(EALREADY),
        }
    }

    /// Lets go of devices that were never taken, and of those who wait for events.
    fn end(self) {
        for device in &self.devices {
            let mut member = device.filter().member.lock();
            if matches!(&*member, Membership::Added(uuid) if *uuid == self.uuid) {
                *member = Membership::None { errno: 0 };
            }
        }
        self.events.close();
    }
}

/// All snapshots.
#[pin_data]
pub(crate) struct Snapshots {
    #[pin]
    list: Mutex<KVec<Snapshot>>,
    /// Queues for copies, and whether a device uses them. Once there, a queue stays until the
    /// module goes, so that work on it never has the last reference to it.
    #[pin]
    queues: Mutex<KVec<(Arc<OwnedQueue>, bool)>>,
    /// Files grow here, which is left to their filesystems.
    growth: OwnedQueue,
    dir: debugfs::Dir,
}

impl Snapshots {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let growth = OwnedQueue::new(c"blksnap-growth", queue_flags::UNBOUND)?;
        Arc::pin_init(
            pin_init!(Self {
                list <- new_mutex!(KVec::new(), "blksnap::snapshots"),
                queues <- new_mutex!(KVec::new(), "blksnap::queues"),
                growth,
                dir: debugfs::Dir::new(c"blksnap"),
            }),
            GFP_KERNEL,
        )
    }

    /// Where files grow.
    pub(crate) fn growth_queue(&self) -> &OwnedQueue {
        &self.growth
    }

    /// A queue for the copies of one device. Writing back dirty memory may depend on it, and, if
    /// devices are stacked, copies of one device on those of another: hence a queue for each.
    fn queue(self: &Arc<Self>) -> Result<CopyQueue> {
        let mut queues = self.queues.lock();
        let free = match queues.iter().position(|(_, in_use)| !in_use) {
            Some(free) => free,
            None => {
                let flags = queue_flags::UNBOUND | queue_flags::MEM_RECLAIM | queue_flags::HIGHPRI;
                let queue = Arc::new(OwnedQueue::new(c"blksnap", flags)?, GFP_KERNEL)?;
                queues.push((queue, false), GFP_KERNEL)?;
                queues.len() - 1
            }
        };
        queues[free].1 = true;
        Ok(CopyQueue {
            snapshots: self.clone(),
            queue: queues[free].0.clone(),
        })
    }

    /// Calls `f` unless there is a snapshot of one of `disks`, of which no free part may then be
    /// made use of: it may have had a content. None is taken meanwhile.
    pub(crate) fn unless_held<'a>(
        &self,
        mut disks: impl Iterator<Item = &'a BlockDevice>,
        f: impl FnOnce() -> Result,
    ) -> Result {
        let list = self.list.lock();
        match disks.any(|disk| list.iter().any(|s| s.holds(|lower| disk.is_on(lower)))) {
            false => f(),
            true => Err(EBUSY),
        }
    }

    /// Whether there is a snapshot of a device that a file is on.
    pub(crate) fn is_held(&self, file: &File) -> bool {
        let list = self.list.lock();
        list.iter().any(|s| s.holds(|lower| lower.has_file(file)))
    }

    /// Creates a snapshot with a storage file, which grows to `limit` sectors; zero means that it
    /// does not grow.
    pub(crate) fn create(self: &Arc<Self>, path: &CStr, limit: u64) -> Result<Uuid> {
        let uuid = Uuid::random();
        let events = Events::new()?;
        let storage = Storage::new(self, &events, limit)?;
        let name = CString::try_from_fmt(fmt!("{uuid}"))?;
        let report = Report::new(storage.clone(), events.clone());
        let snapshot = Snapshot {
            uuid,
            events,
            storage: storage.clone(),
            devices: KVec::new(),
            phase: Phase::Busy,
            report: KBox::pin_init(self.dir.read_only_file(&name, report), GFP_KERNEL)?,
        };
        // From here on whoever takes a snapshot sees what becomes storage.
        self.list.lock().push(snapshot, GFP_KERNEL)?;

        if let Err(e) = storage.open(path, limit) {
            storage.close();
            self.forget(uuid);
            return Err(e);
        }
        find(&mut self.list.lock(), uuid)?.phase = Phase::Open;

        let space = storage.space();
        pr_info!(
            "{uuid}: difference storage of {} sectors in {} extents\n",
            space.capacity(),
            space.extents()
        );
        Ok(uuid)
    }

    /// Takes a snapshot off the list.
    fn forget(&self, uuid: Uuid) {
        let mut list = self.list.lock();
        let at = list.iter().position(|s| s.uuid == uuid);
        let snapshot = at.and_then(|at| list.remove(at).ok());
        drop(list);
        if let Some(snapshot) = snapshot {
            snapshot.end();
        }
    }

    /// Adds the file at `path` to the storage of a snapshot.
    pub(crate) fn append(&self, uuid: Uuid, path: &CStr) -> Result {
        let storage = {
            let mut list = self.list.lock();
            let snapshot = find(&mut list, uuid)?;
            // The file may be on one of its images, which are not known yet.
            if matches!(snapshot.phase, Phase::Busy) {
                return Err(EBUSY);
            }
            snapshot.storage.clone()
        };
        storage.append(path)
    }

    /// Waits for something to happen to a snapshot, and calls `tell` with it. If that fails, it is
    /// there for the next one who waits.
    pub(crate) fn wait(&self, request: &wire::Wait, tell: impl FnOnce(&Event) -> Result) -> Result {
        let uuid = Uuid::from_bytes(request.uuid);
        let events = find(&mut self.list.lock(), uuid)?.events.clone();
        let event = events.wait(request.timeout_ms, request.code)?;
        tell(&event).inspect_err(|_| events.put_back(event))
    }

    /// Adds a device.
    pub(crate) fn add(&self, uuid: Uuid, device: Arc<Device>) -> Result {
        let (major, minor) = device.bdev().dev();
        if device.bdev().sectors() == 0 {
            pr_err!("{major}:{minor} is empty\n");
            return Err(ENODEV);
        }
        let mut list = self.list.lock();
        hidden_on(&list, device.bdev())?;
        let snapshot = find(&mut list, uuid)?;
        if !matches!(snapshot.phase, Phase::Open) {
            return Err(EBUSY);
        }

        let mut member = device.filter().member.lock();
        match &*member {
            Membership::None { .. } => {}
            Membership::Added(other) if *other == uuid => return Err(EALREADY),
            Membership::Detached => return Err(ENODEV),
            _ => return Err(EBUSY),
        }
        snapshot.devices.push(device.clone(), GFP_KERNEL)?;
        *member = Membership::Added(uuid);
        Ok(())
    }

    /// Takes a snapshot: all of its devices as they are at one moment.
    pub(crate) fn take(self: &Arc<Self>, uuid: Uuid) -> Result {
        let devices = self.prepare(uuid)?;

        // What will not be part of the images: where any storage lies. None is added there from
        // here on, since the devices are about to be held.
        let mut hidden = KVec::with_capacity(devices.len(), GFP_KERNEL)?;
        let mut list = self.list.lock();
        let storage = {
            let snapshot = find(&mut list, uuid)?;
            snapshot.is_open()?;
            if snapshot.devices.len() != devices.len() {
                return Err(EBUSY);
            }
            if let Some(device) = devices.iter().find(|d| has_namesake(&list, d)) {
                let (major, minor) = device.bdev().dev();
                pr_err!("there is still an image of another device {major}:{minor}\n");
                return Err(EBUSY);
            }
            let snapshot = find(&mut list, uuid)?;
            snapshot.phase = Phase::Busy;
            snapshot.storage.clone()
        };
        let found = storage
            .is_below(devices.iter().map(|d| d.bdev()))
            .and_then(|()| {
                devices
                    .iter()
                    .try_for_each(|d| Ok(hidden.push(hidden_on(&list, d.bdev())?, GFP_KERNEL)?))
            });
        drop(list);

        let result = found.and_then(|()| self.take_devices(uuid, &devices, &storage, hidden));
        let mut list = self.list.lock();
        let snapshot = find(&mut list, uuid)?;
        match result {
            Ok(taken) => {
                snapshot.report.show(&taken);
                snapshot.phase = Phase::Taken(taken);
                Ok(())
            }
            Err(e) => {
                for device in &devices {
                    *device.filter().member.lock() = Membership::Added(uuid);
                }
                snapshot.phase = Phase::Open;
                Err(e)
            }
        }
    }

    /// Looks for the devices of a snapshot that is to be taken, and lets storage that lies on them
    /// grow, which it cannot do afterwards.
    fn prepare(&self, uuid: Uuid) -> Result<KVec<Arc<Device>>> {
        let mut devices = KVec::new();
        let mut storages = KVec::new();
        let mut list = self.list.lock();
        let snapshot = find(&mut list, uuid)?;
        snapshot.is_open()?;
        for device in &snapshot.devices {
            devices.push(device.clone(), GFP_KERNEL)?;
        }
        for snapshot in list.iter() {
            storages.push(snapshot.storage.clone(), GFP_KERNEL)?;
        }
        drop(list);
        if devices.is_empty() {
            return Err(ENODEV);
        }
        for storage in storages {
            storage.prepare(devices.iter().map(|d| d.bdev()));
        }
        Ok(devices)
    }

    fn take_devices(
        self: &Arc<Self>,
        uuid: Uuid,
        devices: &[Arc<Device>],
        storage: &Arc<Storage>,
        hidden: KVec<Ranges>,
    ) -> Result<KVec<Taken>> {
        let sizes = Sizes {
            min_shift: module_parameters::chunk_minimum_shift.value(),
            max_count_shift: module_parameters::chunk_maximum_count_shift.value(),
            max_shift: module_parameters::chunk_maximum_shift.value(),
            max_jobs: module_parameters::chunk_maximum_in_queue.value(),
        };
        let mut taken = KVec::with_capacity(devices.len(), GFP_KERNEL)?;
        for (device, hidden) in devices.iter().zip(hidden) {
            let queue = self.queue()?;
            taken.push(
                Taken {
                    device: device.clone(),
                    cow: Cow::new(device.bdev(), storage, hidden, &sizes, &queue.queue)?,
                    disk: None,
                    _open: device.bdev().open()?,
                    _queue: queue,
                },
                GFP_KERNEL,
            )?;
        }
        self.hold(&taken)?;

        // From here on writes are copied; what fails has to be undone.
        for member in taken.iter_mut() {
            if let Err(e) = member.show() {
                release(taken, Some(uuid));
                return Err(e);
            }
        }
        Ok(taken)
    }

    /// Begins to copy what is written, from the same moment on for all devices.
    fn hold(&self, taken: &[Taken]) -> Result {
        // All memory first: none may be reclaimed through what is frozen.
        let mut members = KVec::with_capacity(taken.len(), GFP_KERNEL)?;
        let mut bdevs = KVec::with_capacity(taken.len(), GFP_KERNEL)?;
        let mut partitions = KVec::with_capacity(taken.len(), GFP_KERNEL)?;
        let mut nr_fs = taken.len();
        let mut prepared = KVec::with_capacity(taken.len(), GFP_KERNEL)?;
        for member in taken {
            prepared.push(member.device.prepare_freeze(), GFP_KERNEL)?;
            member.device.filter().prepare(member.device.bdev())?;
            members.push(member, GFP_KERNEL)?;
        }
        sort_by_level(&mut members);
        for member in &members {
            let bdev = member.device.bdev();
            let parts = bdev.partitions()?;
            nr_fs += parts.len();
            partitions.push(parts, GFP_KERNEL)?;
            bdevs.push(bdev, GFP_KERNEL)?;
        }
        let levels = levels(&bdevs)?;
        let mut frozen_fs = FrozenFilesystems(KVec::with_capacity(nr_fs, GFP_KERNEL)?);
        let mut freezing = KVec::with_capacity(taken.len(), GFP_KERNEL)?;
        let mut frozen = KVec::with_capacity(taken.len(), GFP_KERNEL)?;

        // What is frozen needs what it is on to come to rest, so that this goes from the top down.
        for level in levels {
            for (bdev, partitions) in bdevs[level.clone()].iter().zip(&partitions[level.clone()]) {
                frozen_fs.0.push(bdev.freeze_filesystem()?, GFP_KERNEL)?;
                for partition in partitions {
                    frozen_fs
                        .0
                        .push(partition.freeze_filesystem()?, GFP_KERNEL)?;
                }
            }
            for member in &members[level.clone()] {
                if member.device.bdev().has_direct_access() {
                    // It had none when the filter was attached.
                    return Err(EOPNOTSUPP);
                }
                freezing.push(member.device.freeze()?, GFP_KERNEL)?;
            }
            for filter in freezing.drain_all() {
                frozen.push(filter.wait()?, GFP_KERNEL)?;
            }
            for bdev in &bdevs[level] {
                filter::drain(bdev)?;
            }
        }
        for (filter, member) in frozen.iter_mut().zip(&members) {
            if member.device.bdev().sectors() != member.cow.sectors {
                // It was resized meanwhile.
                return Err(EAGAIN);
            }
            *member.device.filter().member.lock() = Membership::Taken {
                cow: member.cow.clone(),
                shown: false,
            };
            // Either this is seen here, or the membership when the filter is detached.
            if filter.is_detached() {
                return Err(ENODEV);
            }
        }
        for (filter, member) in frozen.iter_mut().zip(&members) {
            member.device.filter().begin_period(filter.state());
            filter.state().cow = Some(member.cow.clone());
            trace::blksnap_taken(member.device.bdev().dev_t());
        }
        // Devices first, so that filesystems find them going when they are thawed.
        drop(frozen);
        drop(frozen_fs);
        Ok(())
    }

    /// Ends a snapshot and gives its storage back.
    pub(crate) fn destroy(&self, uuid: Uuid) -> Result {
        let mut list = self.list.lock();
        let snapshot = find(&mut list, uuid)?;
        if let Phase::Busy = snapshot.phase {
            return Err(EBUSY);
        }
        let phase = core::mem::replace(&mut snapshot.phase, Phase::Busy);
        snapshot.report.hide();
        let storage = snapshot.storage.clone();
        drop(list);

        if let Phase::Taken(taken) = phase {
            release(taken, None);
        }
        storage.close();
        let used = storage.space().used();
        pr_info!("{uuid}: ends, {used} sectors were stored\n");

        self.forget(uuid);
        Ok(())
    }

    /// Copies the UUIDs of all snapshots to user space if they fit. Returns their number.
    pub(crate) fn collect(&self, request: &wire::Collect) -> Result<u32> {
        let list = self.list.lock();
        let mut bytes = KVec::with_capacity(list.len() * wire::UUID, GFP_KERNEL)?;
        for snapshot in list.iter() {
            bytes.extend_from_slice(snapshot.uuid.as_bytes(), GFP_KERNEL)?;
        }
        drop(list);

        let count = (bytes.len() / wire::UUID) as u32;
        if request.uuids != 0 && count <= request.count {
            let ptr = UserPtr::from_addr(request.uuids as usize);
            UserSlice::new(ptr, bytes.len())
                .writer()
                .write_slice(&bytes)?;
        }
        Ok(count)
    }

    /// Ends all snapshots, when nobody can reach them any more.
    pub(crate) fn shut_down(&self) {
        let snapshots = core::mem::take(&mut *self.list.lock());
        for mut snapshot in snapshots {
            if let Phase::Taken(taken) = core::mem::replace(&mut snapshot.phase, Phase::Busy) {
                release(taken, None);
            }
            snapshot.storage.close();
            snapshot.end();
        }
        // The queues must not go while work on them holds a reference to them.
        for (queue, _) in self.queues.lock().iter() {
            queue.flush();
        }
        self.growth.flush();
    }
}

/// Sorts devices so that each comes before those that it is on.
fn sort_by_level(all: &mut KVec<&Taken>) {
    for at in 0..all.len() {
        let rest = &all[at..];
        let top = rest.iter().position(|this| {
            let is_below = |other: &&Taken| is_stacked(other.device.bdev(), this.device.bdev());
            !rest.iter().any(is_below)
        });
        // There is one, unless somebody builds a loop of devices right now.
        all.swap(at, at + top.unwrap_or(0));
    }
}

/// Which of some sorted devices can be frozen at the same time, because none is on another one.
fn levels(sorted: &[&BlockDevice]) -> Result<KVec<Range<usize>>> {
    let mut levels = KVec::with_capacity(sorted.len(), GFP_KERNEL)?;
    let mut start = 0;
    for (end, bdev) in sorted.iter().enumerate() {
        if sorted[start..end]
            .iter()
            .any(|upper| is_stacked(upper, bdev))
        {
            levels.push(start..end, GFP_KERNEL)?;
            start = end;
        }
    }
    levels.push(start..sorted.len(), GFP_KERNEL)?;
    Ok(levels)
}

/// Whether a device is on another one, and not just on the same disk.
fn is_stacked(upper: &BlockDevice, lower: &BlockDevice) -> bool {
    !upper.overlaps(lower) && upper.is_on(lower)
}

/// Filesystems, in the order in which they were frozen. They are thawed in the opposite one.
struct FrozenFilesystems(KVec<FrozenFilesystem>);

impl Drop for FrozenFilesystems {
    fn drop(&mut self) {
        while let Some(last) = self.0.pop() {
            drop(last);
        }
    }
}

/// A queue that a device has to itself.
struct CopyQueue {
    snapshots: Arc<Snapshots>,
    queue: Arc<OwnedQueue>,
}

impl Drop for CopyQueue {
    fn drop(&mut self) {
        let mut queues = self.snapshots.queues.lock();
        if let Some(entry) = queues.iter_mut().find(|(q, _)| Arc::ptr_eq(q, &self.queue)) {
            entry.1 = false;
        }
    }
}

fn find(list: &mut KVec<Snapshot>, uuid: Uuid) -> Result<&mut Snapshot> {
    // Not ENOENT, by which a client knows that it has to attach the filter.
    list.iter_mut().find(|s| s.uuid == uuid).ok_or(ESRCH)
}

/// Whether there is an image of a device that is gone, whose number this one has got.
fn has_namesake(list: &[Snapshot], device: &Device) -> bool {
    list.iter()
        .filter(|s| matches!(s.phase, Phase::Taken(_)))
        .flat_map(|s| s.devices.iter())
        .any(|d| d.bdev().dev_t() == device.bdev().dev_t() && d.bdev() != device.bdev())
}

/// What of a device lies under the storage of any snapshot. It must not be all.
fn hidden_on(list: &[Snapshot], bdev: &BlockDevice) -> Result<Ranges> {
    let mut ranges = KVVec::new();
    for snapshot in list {
        snapshot.storage.within(bdev, &mut ranges)?;
    }
    let ranges = Ranges::new(ranges);
    // What is too little for a piece of storage is left out at its end.
    if ranges.start_with(bdev.sectors().saturating_sub(UNIT - 1)) {
        let (major, minor) = bdev.dev();
        pr_err!("all of {major}:{minor} is difference storage\n");
        return Err(EINVAL);
    }
    Ok(ranges)
}

impl Taken {
    /// Adds the image's disk.
    fn show(&mut self) -> Result {
        let bdev = self.device.bdev();
        let (major, minor) = bdev.dev();
        self.disk = Some(BioDisk::new(
            fmt!("blksnap-{major}-{minor}"),
            &Geometry {
                sectors: self.cow.sectors,
                limits: self.cow.io_limits(),
                physical_block_size: bdev.physical_block_size(),
                discard_granularity: bdev.physical_block_size(),
                read_only: false,
            },
            self.cow.clone(),
        )?);
        *self.device.filter().member.lock() = Membership::Taken {
            cow: self.cow.clone(),
            shown: true,
        };
        Ok(())
    }
}

/// Removes the images, lets writes go on without copies and waits for those in flight. The devices
/// stay part of a snapshot that could not be taken.
fn release(mut taken: KVec<Taken>, still: Option<Uuid>) {
    for member in taken.iter_mut() {
        member.disk = None;
    }
    for member in taken {
        let errno = member.cow.error().map_or_else(|e| e.to_errno(), |()| 0);
        member.cow.close();
        let frozen = member.device.freeze();
        match frozen.and_then(Freezing::wait_for_submitters) {
            Ok(mut frozen) => frozen.state().cow = None,
            // It goes, or has gone.
            Err(e) if e == ENODEV => member.device.wait_detached(),
            // It stays, closed, which lets all writes pass, until another one takes its place.
            Err(e) => pr_warn!("a filter could not be frozen: {e:?}\n"),
        }
        member.cow.wait_idle();
        trace::blksnap_released(member.device.bdev().dev_t(), errno);
        *member.device.filter().member.lock() = match still {
            Some(uuid) => Membership::Added(uuid),
            None => Membership::None { errno },
        };
    }
}
