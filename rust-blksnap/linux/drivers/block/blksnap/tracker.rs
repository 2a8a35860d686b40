// SPDX-License-Identifier: GPL-2.0

//! The filter on a device.

use crate::{
    cow::{Context, Cow},
    snapshot::Snapshots,
    wire,
};
use kernel::{
    block::{
        bdev::BlockDevice,
        bio::Bio,
        filter::{Attached, Filter},
    },
    new_mutex,
    prelude::*,
    str::CString,
    sync::{Arc, ArcBorrow, Mutex},
    uaccess::UserSlice,
    uuid::Uuid,
};

/// A filtered device.
pub(crate) type Device = Attached<Tracker>;

/// Commands of the filter, as in `enum blksnap_filter_cmd`.
mod cmd {
    pub(super) const SNAPSHOT_ADD: u32 = 3;
    pub(super) const SNAPSHOT_INFO: u32 = 4;
}

/// How a device is part of a snapshot.
pub(crate) enum Membership {
    /// It is in none.
    None,
    /// It will be in the one with this UUID when that is taken.
    Added(Uuid),
    /// It is in one that has been taken.
    Taken { cow: Arc<Cow>, image: CString },
}

/// The filter.
#[pin_data]
pub(crate) struct Tracker {
    snapshots: Arc<Snapshots>,
    /// The innermost lock of the control path.
    #[pin]
    pub(crate) member: Mutex<Membership>,
}

#[vtable]
impl Filter for Tracker {
    const NAME: &'static CStr = c"blksnap";

    type Context = Arc<Snapshots>;

    /// Writes are copied if there is a snapshot.
    type State = Option<Arc<Cow>>;

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
        let snapshots = snapshots.clone();
        let init = try_pin_init!(Self {
            snapshots,
            member <- new_mutex!(Membership::None, "blksnap::member"),
        });
        Ok((init, None))
    }

    fn may_detach(this: ArcBorrow<'_, Device>) -> Result {
        match *this.filter().member.lock() {
            Membership::None => Ok(()),
            _ => Err(EBUSY),
        }
    }

    fn detach(this: Arc<Device>) {
        if let Membership::Taken { cow, .. } = &*this.filter().member.lock() {
            cow.fail(ENODEV);
        }
    }

    fn ctl(this: ArcBorrow<'_, Device>, cmd: u32, arg: UserSlice, len: usize) -> Result<usize> {
        match cmd {
            cmd::SNAPSHOT_ADD => {
                let mut uuid = [0; wire::UUID];
                if len < uuid.len() {
                    return Err(EINVAL);
                }
                arg.reader().read_slice(&mut uuid)?;
                let this: Arc<Device> = this.into();
                this.filter()
                    .snapshots
                    .add(Uuid::from_bytes(uuid), this.clone())?;
                Ok(0)
            }
            cmd::SNAPSHOT_INFO => {
                if len < wire::INFO {
                    return Err(EINVAL);
                }
                let info = match &*this.filter().member.lock() {
                    Membership::Taken { cow, image, .. } => {
                        let errno = cow.error().map_or_else(|e| e.to_errno(), |()| 0);
                        wire::info(errno, image.to_bytes())
                    }
                    _ => wire::info(0, b""),
                };
                arg.writer().write_slice(&info)?;
                Ok(info.len())
            }
            _ => Err(ENOTTY),
        }
    }

    fn submit_bio(_device: &Device, state: &Self::State, bio: Bio) -> Option<Bio> {
        match state {
            Some(cow) => cow.write(bio, Context::Submitter),
            None => Some(bio),
        }
    }
}
