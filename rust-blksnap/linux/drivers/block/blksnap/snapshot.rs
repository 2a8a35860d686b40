// SPDX-License-Identifier: GPL-2.0

//! Snapshots: devices that are held at one point in time together.
//!
//! The list's lock is held for looking and for changing a snapshot's phase only. Whoever has
//! changed the phase to [`Phase::Busy`] has the snapshot to itself, and works on it without a lock:
//! taking one freezes filesystems, destroying one removes disks, and both take locks under which
//! commands arrive here.

use crate::{
    cow::Cow,
    storage::Storage,
    tracker::{Device, Membership},
    wire,
};
use kernel::{
    block::{
        bio_disk::{BioDisk, Geometry},
        filter::Freezing,
    },
    new_mutex,
    prelude::*,
    str::{CStr, CString},
    sync::{Arc, Mutex},
    uaccess::{UserPtr, UserSlice},
    uuid::Uuid,
    workqueue::{queue_flags, OwnedQueue},
};

/// A device that has been taken, and its image.
struct Taken {
    device: Arc<Device>,
    cow: Arc<Cow>,
    disk: Option<BioDisk<Cow>>,
}

/// How far a snapshot is.
enum Phase {
    /// Devices can be added.
    Open(KVec<Arc<Device>>),
    /// Somebody is taking or destroying it.
    Busy,
    /// It is held.
    Taken(KVec<Taken>),
}

struct Snapshot {
    uuid: Uuid,
    storage: Arc<Storage>,
    phase: Phase,
}

/// All snapshots.
#[pin_data]
pub(crate) struct Snapshots {
    #[pin]
    list: Mutex<KVec<Snapshot>>,
    queue: Arc<OwnedQueue>,
}

impl Snapshots {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let flags = queue_flags::UNBOUND | queue_flags::MEM_RECLAIM | queue_flags::HIGHPRI;
        let queue = Arc::new(OwnedQueue::new(c"blksnap", flags)?, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                list <- new_mutex!(KVec::new(), "blksnap::snapshots"),
                queue,
            }),
            GFP_KERNEL,
        )
    }

    /// Creates a snapshot with a storage file, of which at most `limit` sectors are used; zero
    /// means all of it.
    pub(crate) fn create(&self, path: &CStr, limit: u64) -> Result<Uuid> {
        let limit = if limit == 0 { u64::MAX } else { limit };
        let storage = Storage::open(path, limit)?;
        let space = storage.space();
        pr_info!(
            "difference storage of {} sectors in {} extents\n",
            space.capacity(),
            space.extents()
        );
        let uuid = Uuid::random();
        let snapshot = Snapshot {
            uuid,
            storage,
            phase: Phase::Open(KVec::new()),
        };
        self.list.lock().push(snapshot, GFP_KERNEL)?;
        Ok(uuid)
    }

    /// Adds a device.
    pub(crate) fn add(&self, uuid: Uuid, device: Arc<Device>) -> Result {
        let mut list = self.list.lock();
        let snapshot = find(&mut list, uuid)?;
        let Phase::Open(devices) = &mut snapshot.phase else {
            return Err(EBUSY);
        };

        let mut member = device.filter().member.lock();
        match &*member {
            Membership::None => {}
            Membership::Added(other) if *other == uuid => return Err(EALREADY),
            _ => return Err(EBUSY),
        }
        devices.push(device.clone(), GFP_KERNEL)?;
        *member = Membership::Added(uuid);
        Ok(())
    }

    /// Takes a snapshot: all of its devices as they are at one moment.
    pub(crate) fn take(&self, uuid: Uuid) -> Result {
        let (devices, storage) = {
            let mut list = self.list.lock();
            let snapshot = find(&mut list, uuid)?;
            match core::mem::replace(&mut snapshot.phase, Phase::Busy) {
                Phase::Open(devices) if !devices.is_empty() => (devices, snapshot.storage.clone()),
                Phase::Open(devices) => {
                    snapshot.phase = Phase::Open(devices);
                    return Err(ENODEV);
                }
                Phase::Busy => return Err(EBUSY),
                taken => {
                    snapshot.phase = taken;
                    return Err(EALREADY);
                }
            }
        };

        let result = self.take_devices(&devices, &storage);
        let mut list = self.list.lock();
        let snapshot = find(&mut list, uuid)?;
        match result {
            Ok(taken) => {
                snapshot.phase = Phase::Taken(taken);
                Ok(())
            }
            Err(e) => {
                for device in &devices {
                    *device.filter().member.lock() = Membership::Added(uuid);
                }
                snapshot.phase = Phase::Open(devices);
                Err(e)
            }
        }
    }

    fn take_devices(&self, devices: &[Arc<Device>], storage: &Arc<Storage>) -> Result<KVec<Taken>> {
        let mut taken = KVec::with_capacity(devices.len(), GFP_KERNEL)?;
        for device in devices {
            taken.push(
                Taken {
                    device: device.clone(),
                    cow: Cow::new(device.bdev(), storage, &self.queue)?,
                    disk: None,
                },
                GFP_KERNEL,
            )?;
        }
        self.hold(&taken)?;

        // From here on writes are copied; what fails has to be undone.
        for member in taken.iter_mut() {
            if let Err(e) = member.show() {
                release(taken);
                return Err(e);
            }
        }
        Ok(taken)
    }

    /// Begins to copy what is written, from the same moment on for all devices.
    fn hold(&self, taken: &[Taken]) -> Result {
        // All memory first: none may be reclaimed through what is frozen.
        let mut frozen_fs = KVec::with_capacity(taken.len(), GFP_KERNEL)?;
        let mut freezing = KVec::with_capacity(taken.len(), GFP_KERNEL)?;
        let mut frozen = KVec::with_capacity(taken.len(), GFP_KERNEL)?;

        for member in taken {
            frozen_fs.push(member.device.bdev().freeze_filesystem()?, GFP_KERNEL)?;
        }
        for member in taken {
            freezing.push(member.device.freeze()?, GFP_KERNEL)?;
        }
        for filter in freezing.drain_all() {
            frozen.push(filter.wait()?, GFP_KERNEL)?;
        }
        for (filter, member) in frozen.iter_mut().zip(taken) {
            filter.drain();
            if member.device.bdev().sectors() != member.cow.sectors {
                // It was resized meanwhile, or has gone.
                return Err(EAGAIN);
            }
        }
        for (filter, member) in frozen.iter_mut().zip(taken) {
            *filter.state() = Some(member.cow.clone());
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
        let storage = snapshot.storage.clone();
        drop(list);

        end(phase);
        storage.close();
        pr_info!("{} sectors were stored\n", storage.space().used());

        self.list.lock().retain(|s| s.uuid != uuid);
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
        if count > 0 && count <= request.count {
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
        for snapshot in snapshots {
            end(snapshot.phase);
            snapshot.storage.close();
        }
        // The queue must not go while work on it holds a reference to it.
        self.queue.flush();
    }
}

fn find(list: &mut KVec<Snapshot>, uuid: Uuid) -> Result<&mut Snapshot> {
    list.iter_mut().find(|s| s.uuid == uuid).ok_or(ENOENT)
}

impl Taken {
    /// Adds the image's disk.
    fn show(&mut self) -> Result {
        let bdev = self.device.bdev();
        let (major, minor) = bdev.dev();
        let image = CString::try_from_fmt(fmt!("blksnap-{major}-{minor}"))?;
        self.disk = Some(BioDisk::new(
            fmt!("blksnap-{major}-{minor}"),
            &Geometry {
                sectors: self.cow.sectors,
                logical_block_size: self.cow.logical_block_size(),
                physical_block_size: bdev.physical_block_size(),
                read_only: false,
            },
            self.cow.clone(),
        )?);
        *self.device.filter().member.lock() = Membership::Taken {
            cow: self.cow.clone(),
            image,
        };
        Ok(())
    }
}

fn end(phase: Phase) {
    match phase {
        Phase::Open(devices) => {
            for device in devices {
                *device.filter().member.lock() = Membership::None;
            }
        }
        Phase::Taken(taken) => release(taken),
        Phase::Busy => {}
    }
}

/// Removes the images, lets writes go on without copies and waits for those in flight.
fn release(mut taken: KVec<Taken>) {
    for member in taken.iter_mut() {
        member.disk = None;
    }
    for member in taken {
        member.cow.close();
        match member.device.freeze().and_then(Freezing::wait) {
            Ok(mut frozen) => *frozen.state() = None,
            // It stays, closed, which lets all writes pass, until another one takes its place.
            Err(e) => pr_warn!("a filter could not be frozen: {e:?}\n"),
        }
        member.cow.wait_idle();
        *member.device.filter().member.lock() = Membership::None;
    }
}
