// SPDX-License-Identifier: GPL-2.0

//! Files that can be a difference storage.
//!
//! The kernel writes to the blocks of such a file directly, so that each block
//! has to be there, belong to nothing else, and never have been written. These
//! checks find the usual mistakes early and in plain words; the kernel's own,
//! made with the filesystem's locks held, are the ones that count.

use crate::error::{Failure, Kind, errno_name};
use crate::fiemap::{self, Extent};
use rustix::fs::{
    FallocateFlags, FileType, Mode, OFlags, SeekFrom, fallocate, fstat, fstatfs, fsync, ftruncate,
    open, seek,
};
use rustix::io::Errno;
use serde::Serialize;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Sizes are rounded up to this, the largest block size in common use.
const ALIGN: u64 = 4096;

/// Only says how much memory may be used; what is stored goes elsewhere.
const TMPFS: u64 = 0x0102_1994;

/// Filesystems without blocks of their own on a disk, and how people call them.
const WITHOUT_BLOCKS: &[(u64, &str)] = &[
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlayfs"),
    (0x6573_5546, "a FUSE filesystem"),
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9p"),
    (0x00c0_ffee, "hostfs"),
];

/// A file that passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Its path.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Pieces on the disk; 0 for a block device and for a file in memory.
    pub extents: usize,
}

fn os(path: &Path, doing: &str, errno: Errno) -> Failure {
    let kind = match errno {
        Errno::NOENT | Errno::NOTDIR => Kind::NotFound,
        Errno::EXIST | Errno::BUSY | Errno::TXTBSY => Kind::Busy,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Kind::Denied,
        Errno::NOSPC | Errno::DQUOT => Kind::NoSpace,
        Errno::OPNOTSUPP | Errno::NOTTY => Kind::Unsuitable,
        _ => Kind::Other,
    };
    let hint = match errno {
        Errno::NOENT | Errno::NOTDIR => "check the path, the folder has to exist",
        Errno::EXIST => "remove it first, or check it with `blksnap storage check`",
        Errno::ACCESS | Errno::PERM => "run this as root",
        Errno::ROFS => "choose a filesystem that can be written",
        Errno::NOSPC | Errno::DQUOT => "choose a smaller size or make room",
        Errno::OPNOTSUPP | Errno::NOTTY => "put the storage on XFS, ext4 or btrfs",
        _ => "",
    };
    let text = std::io::Error::from(errno).to_string();
    // The number that std appends is in the failure's own field.
    let text = text
        .split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase();
    let mut failure = Failure::new(kind, format!("cannot {doing} {}: {text}", path.display()));
    failure.errno = Some(errno_name(errno));
    match hint {
        "" => failure,
        _ => failure.hint(hint),
    }
}

fn unsuitable(path: &Path, why: &str) -> Failure {
    Failure::new(
        Kind::Unsuitable,
        format!("{} cannot be a difference storage: {why}", path.display()),
    )
}

fn refuse_without_blocks(path: &Path, magic: u64) -> Result<(), Failure> {
    match WITHOUT_BLOCKS.iter().find(|(number, _)| *number == magic) {
        Some((_, name)) => Err(unsuitable(
            path,
            &format!("it is on {name}, which has no blocks on a disk"),
        )
        .hint("put the storage on XFS, ext4 or btrfs")),
        None => Ok(()),
    }
}

fn magic(fd: &OwnedFd, path: &Path) -> Result<u64, Failure> {
    let stat = fstatfs(fd).map_err(|e| os(path, "look at the filesystem of", e))?;
    // The field is signed on some architectures; the numbers have 32 bits.
    Ok(stat.f_type as u64 & 0xffff_ffff)
}

/// Makes a file of `size` bytes whose blocks are all there and were never written.
pub fn create(path: &Path, size: u64) -> Result<Report, Failure> {
    let size = match size.checked_next_multiple_of(ALIGN) {
        Some(size) if size > 0 && i64::try_from(size).is_ok() => size,
        _ => return Err(Failure::new(Kind::Usage, "no file can have that size")),
    };
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    let dir_fd = open(
        dir,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY,
        Mode::empty(),
    )
    .map_err(|e| os(dir, "open the folder", e))?;
    let magic = magic(&dir_fd, dir)?;
    refuse_without_blocks(path, magic)?;

    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let fd = open(path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| os(path, "create", e))?;
    let made = allocate(&fd, path, magic, size).and_then(|()| check_file(&fd, path, magic, size));
    if made.is_err() {
        // The first failure is the one to tell.
        let _ = std::fs::remove_file(path);
    }
    made
}

fn allocate(fd: &OwnedFd, path: &Path, magic: u64, size: u64) -> Result<(), Failure> {
    if magic == TMPFS {
        return ftruncate(fd, size).map_err(|e| os(path, "set the size of", e));
    }
    fallocate(fd, FallocateFlags::empty(), 0, size).map_err(|e| os(path, "allocate", e))?;
    fsync(fd).map_err(|e| os(path, "write back", e))
}

/// Size of a file or block device in bytes.
pub fn size(path: &Path) -> Result<u64, Failure> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = open(path, flags, Mode::empty()).map_err(|e| os(path, "open", e))?;
    end_of(&fd, path)
}

fn end_of(fd: &OwnedFd, path: &Path) -> Result<u64, Failure> {
    seek(fd, SeekFrom::End(0)).map_err(|e| os(path, "read the size of", e))
}

/// Looks whether a file or block device can be a difference storage.
pub fn check(path: &Path) -> Result<Report, Failure> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = open(path, flags, Mode::empty()).map_err(|e| os(path, "open", e))?;
    let stat = fstat(&fd).map_err(|e| os(path, "look at", e))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => check_file(&fd, path, magic(&fd, path)?, stat.st_size as u64),
        FileType::BlockDevice => Ok(Report {
            path: path.to_owned(),
            size: end_of(&fd, path)?,
            extents: 0,
        }),
        _ => Err(unsuitable(path, "it is no regular file or block device")
            .hint("make a file with `blksnap storage create`")),
    }
}

fn check_file(fd: &OwnedFd, path: &Path, magic: u64, size: u64) -> Result<Report, Failure> {
    refuse_without_blocks(path, magic)?;
    if magic == TMPFS && size > 0 {
        return Ok(Report {
            path: path.to_owned(),
            size,
            extents: 0,
        });
    }
    let extents = fiemap::extents(fd.as_fd()).map_err(|e| os(path, "find the blocks of", e))?;
    match problem(&extents, size) {
        Some((why, hint)) => Err(unsuitable(path, &why).hint(hint)),
        None => Ok(Report {
            path: path.to_owned(),
            size,
            extents: extents.len(),
        }),
    }
}

/// The first thing about these extents that the kernel would refuse.
fn problem(extents: &[Extent], size: u64) -> Option<(String, &'static str)> {
    const ANEW: &str = "make a new file with `blksnap storage create`";
    if size == 0 {
        return Some(("it is empty".into(), ANEW));
    }
    let mut end = 0;
    for extent in extents {
        let at = extent.offset;
        if at >= size {
            break;
        }
        let why = if at > end {
            return Some((format!("it has a hole at offset {end}"), ANEW));
        } else if extent.inline() {
            "the data at offset {} has no block of its own"
        } else if extent.encoded() {
            "the data at offset {} is compressed or encrypted"
        } else if extent.unknown() {
            "the data at offset {} has no place on the disk yet"
        } else if extent.shared() {
            "the blocks at offset {} are shared with another file"
        } else if !extent.unwritten() {
            "the blocks at offset {} have been written"
        } else {
            end = at.saturating_add(extent.length);
            continue;
        };
        return Some((why.replace("{}", &at.to_string()), ANEW));
    }
    (end < size).then(|| (format!("it has a hole at offset {end}"), ANEW))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const UNWRITTEN: u32 = 0x800;

    #[test]
    fn only_whole_private_unwritten_files_pass() {
        let e = Extent::new;
        let cases = [
            (vec![e(0, 8192, UNWRITTEN)], None),
            (vec![e(0, 4096, UNWRITTEN), e(4096, 8192, UNWRITTEN)], None),
            (vec![], Some("hole at offset 0")),
            (vec![e(0, 4096, UNWRITTEN)], Some("hole at offset 4096")),
            (vec![e(4096, 4096, UNWRITTEN)], Some("hole at offset 0")),
            (vec![e(0, 8192, 0)], Some("written")),
            (vec![e(0, 8192, UNWRITTEN | 0x2000)], Some("shared")),
            (vec![e(0, 8192, 0x208)], Some("no block of its own")),
            (vec![e(0, 8192, 0x8)], Some("compressed")),
            (vec![e(0, 8192, 0x6)], Some("no place")),
            (
                vec![e(0, 4096, UNWRITTEN), e(4096, 4096, 0x1)],
                Some("4096 have been written"),
            ),
        ];
        for (extents, expected) in cases {
            let found = problem(&extents, 8192).map(|(why, _)| why);
            match expected {
                None => assert_eq!(found, None, "{extents:?}"),
                Some(words) => assert!(
                    found.as_ref().is_some_and(|why| why.contains(words)),
                    "{extents:?}: {found:?}"
                ),
            }
        }
        assert!(problem(&[], 0).unwrap().0.contains("empty"));
    }

    #[test]
    fn filesystems_without_blocks_are_named() {
        let failure = refuse_without_blocks("/x".as_ref(), 0x6969).unwrap_err();
        assert_eq!(failure.kind, Kind::Unsuitable);
        assert!(failure.message.contains("NFS"));
        assert!(refuse_without_blocks("/x".as_ref(), TMPFS).is_ok());
        assert!(refuse_without_blocks("/x".as_ref(), TMPFS).is_ok());
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let failure = check(dir.path()).unwrap_err();
        assert_eq!(failure.kind, Kind::Unsuitable);
        let failure = check(&dir.path().join("missing")).unwrap_err();
        assert_eq!(failure.kind, Kind::NotFound);
    }

    #[test]
    fn an_existing_file_is_left_alone() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "precious").unwrap();
        // Some of the filesystems people build on are refused before that.
        let failure = create(&path, 8192).unwrap_err();
        assert!(
            matches!(failure.kind, Kind::Busy | Kind::Unsuitable),
            "{failure}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_size_nothing_can_have_is_refused() {
        for size in [0, u64::MAX, 1 << 63] {
            let failure = create("/nonexistent/file".as_ref(), size).unwrap_err();
            assert_eq!(failure.kind, Kind::Usage);
        }
        let failure = create("/nonexistent/file".as_ref(), 1).unwrap_err();
        assert_eq!(failure.kind, Kind::NotFound);
    }
}
