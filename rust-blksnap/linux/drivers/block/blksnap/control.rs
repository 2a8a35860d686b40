// SPDX-License-Identifier: GPL-2.0

//! The control device.

use crate::{
    snapshot::Snapshots,
    wire::{self, Append, Collect, Create, Happened, Wait},
};
use kernel::{
    alloc::KVec,
    bindings,
    fs::File,
    ioctl::{_IOR, _IOW, _IOWR},
    miscdevice::{MiscDevice, MiscDeviceRegistration},
    prelude::*,
    str::CStr,
    sync::Arc,
    uaccess::{UserPtr, UserSlice},
    uuid::Uuid,
};

/// Version of the interface: major, minor, revision, build.
const VERSION: [u16; 4] = [2, 0, 0, 0];

const IOCTL_VERSION: u32 = _IOR::<[u8; wire::VERSION]>('V' as u32, 0);
const IOCTL_CREATE: u32 = _IOWR::<[u8; wire::CREATE]>('V' as u32, 1);
const IOCTL_DESTROY: u32 = _IOW::<[u8; wire::UUID]>('V' as u32, 2);
const IOCTL_TAKE: u32 = _IOW::<[u8; wire::UUID]>('V' as u32, 3);
const IOCTL_COLLECT: u32 = _IOR::<[u8; wire::COLLECT]>('V' as u32, 4);
const IOCTL_WAIT: u32 = _IOR::<[u8; wire::EVENT]>('V' as u32, 5);
const IOCTL_APPEND: u32 = _IOW::<[u8; wire::APPEND]>('V' as u32, 6);

/// An open control device.
pub(crate) struct Control(Arc<Snapshots>);

#[vtable]
impl MiscDevice for Control {
    type Data = Arc<Snapshots>;
    type Ptr = KBox<Self>;

    fn open(_file: &File, misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
        Ok(KBox::new(Self(misc.data().clone()), GFP_KERNEL)?)
    }

    fn ioctl(this: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let arg = UserPtr::from_addr(arg);
        match cmd {
            IOCTL_VERSION => write(arg, &wire::version(VERSION))?,
            IOCTL_CREATE => {
                let request = Create::decode(&read(arg)?);
                let path = read_path(request.path)?;
                let uuid = this.0.create(as_path(&path)?, request.limit)?;
                if let Err(e) = write(arg.wrapping_byte_add(Create::UUID_AT), uuid.as_bytes()) {
                    // Nobody knows of it.
                    let _ = this.0.destroy(uuid);
                    return Err(e);
                }
            }
            IOCTL_DESTROY => this.0.destroy(Uuid::from_bytes(read(arg)?))?,
            IOCTL_TAKE => this.0.take(Uuid::from_bytes(read(arg)?))?,
            IOCTL_COLLECT => {
                let request = Collect::decode(&read(arg)?);
                let count = this.0.collect(&request)?;
                write(arg, &count.to_ne_bytes())?;
                if request.uuids != 0 && count > request.count {
                    return Err(ENODATA);
                }
            }
            IOCTL_WAIT => {
                let request = Wait::decode(&read(arg)?);
                let mut answer = KVec::zeroed(wire::EVENT - Happened::AT, GFP_KERNEL)?;
                this.0.wait(&request, |(happened, time)| {
                    answer[..Happened::SIZE].copy_from_slice(&happened.encode(*time));
                    write(arg.wrapping_byte_add(Happened::AT), &answer)
                })?;
            }
            IOCTL_APPEND => {
                let request = Append::decode(&read(arg)?);
                let path = read_path(request.path)?;
                this.0
                    .append(Uuid::from_bytes(request.uuid), as_path(&path)?)?;
            }
            _ => return Err(ENOTTY),
        }
        Ok(0)
    }
}

fn read<const N: usize>(arg: UserPtr) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    UserSlice::new(arg, N).reader().read_slice(&mut bytes)?;
    Ok(bytes)
}

fn write(arg: UserPtr, bytes: &[u8]) -> Result {
    UserSlice::new(arg, bytes.len()).writer().write_slice(bytes)
}

/// Reads a path, with its NUL.
fn read_path(addr: u64) -> Result<KVec<u8>> {
    let mut path = KVec::zeroed(bindings::PATH_MAX as usize, GFP_KERNEL)?;
    let addr = UserPtr::from_addr(usize::try_from(addr)?);
    let len = UserSlice::new(addr, path.len())
        .reader()
        .strcpy_into_buf(&mut path)?
        .to_bytes_with_nul()
        .len();
    if len == path.len() {
        return Err(ENAMETOOLONG);
    }
    path.truncate(len);
    Ok(path)
}

fn as_path(path: &[u8]) -> Result<&CStr> {
    CStr::from_bytes_until_nul(path).map_err(|_| EINVAL)
}
