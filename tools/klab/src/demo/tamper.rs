//! Every way user space has to move, free, share or write the blocks of a file.
//!
//! Each is tried on an ordinary file first: what fails there too proves nothing about the pin.

use std::fs::{File, OpenOptions};
use std::io::{Error, Result, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::report::{Answer, Attempt};

const BLOCK: usize = 4096;
const CONTROL_BYTES: usize = 1 << 20;

const FS_NOCOW_FL: libc::c_int = 0x0080_0000;
/// `_IOW(0x94, 9, int)`
const FICLONE: libc::c_ulong = 0x4004_9409;
/// `_IOW(0x94, 2, struct of 4096 bytes)`, of btrfs
const BTRFS_DEFRAG: libc::c_ulong = 0x5000_9402;
/// `_IOWR('f', 15, struct of 40 bytes)`, of ext4
const EXT4_MOVE_EXT: libc::c_ulong = 0xc028_660f;
/// `_IOWR('X', 102, struct of 32 bytes)`, of XFS
const XFS_BULKSTAT_SINGLE: libc::c_ulong = 0xc020_5866;
/// `_IOWR('X', 109, struct of 192 bytes)`, of XFS
const XFS_SWAPEXT: libc::c_ulong = 0xc0c0_586d;

/// A file to tamper with, and a second one that some attempts need.
struct Target<'a> {
    path: &'a Path,
    helper: &'a Path,
}

type Try = fn(&Target<'_>) -> Result<()>;

/// What is tried on a filesystem.
fn attempts(filesystem: &str) -> Vec<(&'static str, Try)> {
    let mut list: Vec<(&'static str, Try)> = vec![
        ("write", write),
        ("append", append),
        ("direct write", direct_write),
        ("shared mapping", map),
        ("truncate", |target| resize(target, BLOCK as u64)),
        ("grow", |target| {
            let size = target.path.metadata()?.len();
            resize(target, size + (1 << 20))
        }),
        ("punch a hole", |target| {
            allocate(
                target,
                libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            )
        }),
        ("zero a range", |target| {
            allocate(target, libc::FALLOC_FL_ZERO_RANGE)
        }),
        ("reflink from it", |target| {
            clone(target.path, target.helper)
        }),
        ("reflink over it", |target| {
            clone(target.helper, target.path)
        }),
    ];
    match filesystem {
        "btrfs" => list.push(("defragment", btrfs_defragment)),
        "ext4" => list.push(("defragment", ext4_defragment)),
        "xfs" => list.push(("defragment", xfs_defragment)),
        _ => {}
    }
    list.push(("rename over it", |target| {
        std::fs::rename(target.helper, target.path)
    }));
    list.push(("unlink", |target| std::fs::remove_file(target.path)));
    list
}

/// What the attempts are called.
#[cfg(test)]
pub fn names(filesystem: &str) -> impl Iterator<Item = &'static str> {
    attempts(filesystem).into_iter().map(|(name, _)| name)
}

/// Tries everything on the pinned file.
pub fn all(filesystem: &str, pinned: &Path) -> anyhow::Result<Vec<Attempt>> {
    let folder = pinned.parent().unwrap_or(Path::new("/")).join("control");
    std::fs::create_dir_all(&folder)?;
    if filesystem == "btrfs" {
        // Files must be of the pinned one's kind: those that are copied on write and those that
        // are not never share blocks.
        without_copy_on_write(&folder)?;
    }
    let mut found = Vec::new();
    for (name, attempt) in attempts(filesystem) {
        let control = fresh(&folder, "ordinary")?;
        let helper = fresh(&folder, "helper")?;
        let ordinary = attempt(&Target {
            path: &control,
            helper: &helper,
        });
        let helper = fresh(&folder, "helper")?;
        let answer = attempt(&Target {
            path: pinned,
            helper: &helper,
        });
        let (answer, errno) = match (ordinary, answer) {
            (_, Ok(())) => (Answer::WentThrough, String::new()),
            (Err(_), Err(error)) => (Answer::Impossible, errno_name(&error)),
            (Ok(()), Err(error)) => (Answer::Refused, errno_name(&error)),
        };
        let stop = answer == Answer::WentThrough;
        found.push(Attempt {
            name: name.into(),
            answer,
            errno,
        });
        if stop && !pinned.exists() {
            break;
        }
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(found)
}

/// For the files that will be made in a folder.
fn without_copy_on_write(folder: &Path) -> Result<()> {
    let folder = File::open(folder)?;
    let mut flags: libc::c_int = 0;
    // SAFETY: both requests take a pointer to an integer, which lives through the calls.
    unsafe {
        ok(libc::ioctl(
            folder.as_raw_fd(),
            libc::FS_IOC_GETFLAGS,
            &raw mut flags,
        ))?;
        flags |= FS_NOCOW_FL;
        ok(libc::ioctl(
            folder.as_raw_fd(),
            libc::FS_IOC_SETFLAGS,
            &raw mut flags,
        ))
    }
}

fn fresh(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    let mut file = File::create(&path)?;
    // Two extents are enough for a defragmenter to find something to do.
    file.write_all(&vec![7; CONTROL_BYTES])?;
    file.sync_all()?;
    Ok(path)
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn ok(result: libc::c_int) -> Result<()> {
    if result < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(())
    }
}

fn write(target: &Target<'_>) -> Result<()> {
    let file = open(target.path)?;
    file.write_all_at(&[1; BLOCK], 0)?;
    file.sync_all()
}

fn append(target: &Target<'_>) -> Result<()> {
    OpenOptions::new()
        .append(true)
        .open(target.path)?
        .write_all(&[1; BLOCK])
}

#[repr(align(4096))]
struct Aligned([u8; BLOCK]);

fn direct_write(target: &Target<'_>) -> Result<()> {
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(target.path)?;
    let block = Box::new(Aligned([1; BLOCK]));
    file.write_all_at(&block.0, 0)
}

fn map(target: &Target<'_>) -> Result<()> {
    let file = open(target.path)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel chooses the address; the mapping is not touched, and taken away again.
    unsafe {
        let address = libc::mmap(
            std::ptr::null_mut(),
            BLOCK,
            protection,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        );
        if address == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        ok(libc::munmap(address, BLOCK))
    }
}

fn resize(target: &Target<'_>, size: u64) -> Result<()> {
    let path = std::ffi::CString::new(target.path.as_os_str().as_bytes())?;
    // SAFETY: the string ends with a NUL and lives through the call.
    ok(unsafe { libc::truncate(path.as_ptr(), size as libc::off_t) })
}

fn allocate(target: &Target<'_>, mode: libc::c_int) -> Result<()> {
    let file = open(target.path)?;
    // SAFETY: integers only.
    ok(unsafe { libc::fallocate(file.as_raw_fd(), mode, 0, BLOCK as libc::off_t) })
}

fn clone(from: &Path, to: &Path) -> Result<()> {
    let from = File::open(from)?;
    let to = open(to)?;
    // SAFETY: the argument of this ioctl is a descriptor.
    ok(unsafe { libc::ioctl(to.as_raw_fd(), FICLONE, from.as_raw_fd()) })
}

/// An ioctl on a structure of ours; `T` has the layout the kernel expects for `request`.
fn ioctl<T>(file: RawFd, request: libc::c_ulong, argument: &mut T) -> Result<()> {
    debug_assert_eq!((request >> 16 & 0x3fff) as usize, size_of::<T>());
    // SAFETY: the request encodes the size of the structure, which is that of `T`.
    ok(unsafe { libc::ioctl(file, request, std::ptr::from_mut(argument)) })
}

fn btrfs_defragment(target: &Target<'_>) -> Result<()> {
    let file = open(target.path)?;
    ioctl(file.as_raw_fd(), BTRFS_DEFRAG, &mut [0_u8; 4096])
}

#[repr(C)]
#[derive(Default)]
struct MoveExtent {
    reserved: u32,
    donor: u32,
    start: u64,
    donor_start: u64,
    length: u64,
    moved: u64,
}

fn ext4_defragment(target: &Target<'_>) -> Result<()> {
    let file = open(target.path)?;
    let donor = open(target.helper)?;
    let mut argument = MoveExtent {
        donor: donor.as_raw_fd() as u32,
        length: 1,
        ..MoveExtent::default()
    };
    ioctl(file.as_raw_fd(), EXT4_MOVE_EXT, &mut argument)
}

/// `struct xfs_bstat`, of which only the size matters here: it is handed back as it came.
type Bstat = [u64; 17];

#[repr(C)]
struct BulkRequest {
    last: *mut u64,
    count: i32,
    buffer: *mut Bstat,
    found: *mut i32,
}

#[repr(C)]
#[derive(Default)]
struct SwapExtents {
    version: i64,
    target: i64,
    donor: i64,
    offset: i64,
    length: i64,
    pad: [u8; 16],
    stat: Bstat,
}

fn xfs_defragment(target: &Target<'_>) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let file = open(target.path)?;
    let size = file.metadata()?.len();
    let donor = open(target.helper)?;
    // The two must be alike: the donor is what a defragmenter would have copied to.
    donor.set_len(0)?;
    // SAFETY: integers only.
    ok(unsafe { libc::fallocate(donor.as_raw_fd(), 0, 0, size as libc::off_t) })?;
    donor.sync_all()?;
    let mut inode = file.metadata()?.ino();
    let mut stat: Bstat = [0; 17];
    let mut request = BulkRequest {
        last: &raw mut inode,
        count: 1,
        buffer: &raw mut stat,
        found: std::ptr::null_mut(),
    };
    ioctl(file.as_raw_fd(), XFS_BULKSTAT_SINGLE, &mut request)?;
    let mut argument = SwapExtents {
        target: i64::from(file.as_raw_fd()),
        donor: i64::from(donor.as_raw_fd()),
        length: size as i64,
        stat,
        ..SwapExtents::default()
    };
    ioctl(file.as_raw_fd(), XFS_SWAPEXT, &mut argument)
}

/// The name of an error, as in errno(3).
fn errno_name(error: &Error) -> String {
    let names = [
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::EIO, "EIO"),
        (libc::EBADF, "EBADF"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::EACCES, "EACCES"),
        (libc::EFAULT, "EFAULT"),
        (libc::EBUSY, "EBUSY"),
        (libc::EINVAL, "EINVAL"),
        (libc::ENOTTY, "ENOTTY"),
        (libc::ETXTBSY, "ETXTBSY"),
        (libc::EFBIG, "EFBIG"),
        (libc::ENOSPC, "ENOSPC"),
        (libc::EROFS, "EROFS"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
    ];
    let code = error.raw_os_error().unwrap_or_default();
    match names.iter().find(|(number, _)| *number == code) {
        Some((_, name)) => (*name).to_owned(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_size_the_request_says() {
        let size = |request: libc::c_ulong| (request >> 16 & 0x3fff) as usize;
        assert_eq!(size_of::<MoveExtent>(), size(EXT4_MOVE_EXT));
        assert_eq!(size_of::<BulkRequest>(), size(XFS_BULKSTAT_SINGLE));
        assert_eq!(size_of::<SwapExtents>(), size(XFS_SWAPEXT));
        assert_eq!(4096, size(BTRFS_DEFRAG));
    }

    #[test]
    fn on_an_ordinary_file_things_go_through() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![0; CONTROL_BYTES]).unwrap();
        let found = all("other", &path).unwrap();
        let through = found
            .iter()
            .filter(|attempt| attempt.answer == Answer::WentThrough)
            .count();
        assert!(through >= 6, "{found:?}");
        assert_eq!(found.last().unwrap().name, "unlink");
        assert!(!path.exists());
    }

    #[test]
    fn errors_have_names() {
        assert_eq!(
            errno_name(&Error::from_raw_os_error(libc::ETXTBSY)),
            "ETXTBSY"
        );
    }
}
