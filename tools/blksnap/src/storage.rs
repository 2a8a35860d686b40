// SPDX-License-Identifier: GPL-2.0

//! Files that can be difference storage.
//!
//! The kernel writes to the blocks of such a file directly. What the file
//! contained is lost by that, so that a file with data is refused here unless
//! the user says that it may be overwritten; the kernel does not ask. The other
//! checks find the usual mistakes early and in plain words; the kernel's own,
//! made with the filesystem's locks held, are the ones that count.

use crate::error::{Failure, Kind, errno_name};
use crate::fiemap::{self, Extent};
use crate::json;
use crate::manager::Stop;
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

/// Bytes that are allocated between two looks whether the user wants to stop.
const PORTION: u64 = if cfg!(test) { 1 << 20 } else { 1 << 30 };

/// A file there only says how much memory may be used; what is stored goes elsewhere, and the
/// file's content stays.
const TMPFS: u64 = 0x0102_1994;

/// Filesystems without blocks of their own on a disk, and what people call them.
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
    #[serde(serialize_with = "json::path")]
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Pieces on the disk; 0 for a block device, and for a file that is in memory or has none yet.
    pub extents: usize,
}

fn os(path: &Path, doing: &str, errno: Errno) -> Failure {
    let kind = match errno {
        Errno::NOENT | Errno::NOTDIR => Kind::NotFound,
        Errno::EXIST | Errno::BUSY | Errno::TXTBSY => Kind::Busy,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Kind::Denied,
        Errno::NOSPC | Errno::DQUOT => Kind::NoSpace,
        Errno::OPNOTSUPP | Errno::NOTTY => Kind::Unsuitable,
        Errno::INTR => Kind::Interrupted,
        _ => Kind::Other,
    };
    let hint = match errno {
        Errno::NOENT | Errno::NOTDIR => "check the path, the directory has to exist",
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
        format!("{} cannot be difference storage: {why}", path.display()),
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

/// Makes a file of `size` bytes whose blocks are all there and were never written. There is none
/// if that fails or the user stops it.
pub fn create(path: &Path, size: u64, stop: Stop<'_>) -> Result<Report, Failure> {
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
    .map_err(|e| os(dir, "open the directory", e))?;
    let magic = magic(&dir_fd, dir)?;
    refuse_without_blocks(path, magic)?;

    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let fd = open(path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| os(path, "create", e))?;
    let made = allocate(&fd, path, magic, size, stop)
        .and_then(|()| check_file(&fd, path, magic, size))
        .and_then(|report| go_on(path, stop).map(|()| report));
    if made.is_err() {
        remove(path);
    }
    made
}

/// Removes a file that was made in vain. The failure that made it so is the one to tell.
pub fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}

fn allocate(
    fd: &OwnedFd,
    path: &Path,
    magic: u64,
    size: u64,
    stop: Stop<'_>,
) -> Result<(), Failure> {
    if magic == TMPFS {
        return ftruncate(fd, size).map_err(|e| os(path, "set the size of", e));
    }
    for offset in (0..size).step_by(PORTION as usize) {
        go_on(path, stop)?;
        let length = PORTION.min(size - offset);
        fallocate(fd, FallocateFlags::empty(), offset, length)
            .map_err(|e| os(path, "allocate", e))?;
    }
    fsync(fd).map_err(|e| os(path, "write back", e))
}

fn go_on(path: &Path, stop: Stop<'_>) -> Result<(), Failure> {
    match stop() {
        false => Ok(()),
        true => Err(Failure::new(
            Kind::Interrupted,
            format!("interrupted; {} has been removed", path.display()),
        )),
    }
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

/// Looks whether a file or block device can be difference storage.
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
        _ => Err(
            unsuitable(path, "it is not a regular file or a block device")
                .hint("make a file with `blksnap storage create`"),
        ),
    }
}

/// Refuses a file whose content would be lost. What cannot be storage anyhow is left to the kernel
/// to refuse, and so is what is not there.
pub fn refuse_data(path: &Path) -> Result<(), Failure> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = match open(path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other.map_err(|e| os(path, "open", e))?,
    };
    let stat = fstat(&fd).map_err(|e| os(path, "look at", e))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || magic(&fd, path)? == TMPFS
    {
        return Ok(());
    }
    match first_data(&fd, path, stat.st_size as u64)? {
        None => Ok(()),
        Some(at) => Err(has_data(path, at)),
    }
}

fn has_data(path: &Path, at: u64) -> Failure {
    Failure::new(
        Kind::Unsuitable,
        format!(
            "{} contains data (at offset {at}), which would be lost",
            path.display()
        ),
    )
    .hint(
        "make a new file with `blksnap storage create`, or use this one with --overwrite if \
         nothing in it is needed",
    )
}

/// Where the first data of a file of `size` bytes is.
fn first_data(fd: &OwnedFd, path: &Path, size: u64) -> Result<Option<u64>, Failure> {
    match fiemap::extents(fd.as_fd()) {
        Ok(extents) => Ok(written(&extents, size)),
        // Not every filesystem tells where its extents are. What this finds may be more than there
        // is, but never less.
        Err(Errno::OPNOTSUPP | Errno::NOTTY) => match seek(fd, SeekFrom::Data(0)) {
            Ok(at) => Ok(Some(at)),
            Err(Errno::NXIO) => Ok(None),
            Err(e) => Err(os(path, "look for data in", e)),
        },
        Err(e) => Err(os(path, "find the blocks of", e)),
    }
}

/// Where the first extent is that has a content.
fn written(extents: &[Extent], size: u64) -> Option<u64> {
    extents
        .iter()
        .find(|extent| extent.offset < size && !extent.unwritten())
        .map(|extent| extent.offset)
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
    if let Some(at) = written(&extents, size) {
        return Err(has_data(path, at));
    }
    match problem(&extents, size) {
        Some(why) => {
            Err(unsuitable(path, &why).hint("make a new file with `blksnap storage create`"))
        }
        None => Ok(Report {
            path: path.to_owned(),
            size,
            extents: extents.len(),
        }),
    }
}

/// The first thing about extents without data that speaks against the file.
fn problem(extents: &[Extent], size: u64) -> Option<String> {
    if size == 0 {
        return Some("it is empty".into());
    }
    extents
        .iter()
        .filter(|extent| extent.offset < size)
        .find_map(|extent| Some(obstacle(extent)?.replace("{}", &extent.offset.to_string())))
}

/// Why blocks that were never written cannot be storage.
fn obstacle(extent: &Extent) -> Option<&'static str> {
    if extent.inline() {
        Some("what is at offset {} has no block of its own")
    } else if extent.encoded() {
        Some("what is at offset {} is compressed or encrypted")
    } else if extent.unknown() {
        Some("what is at offset {} has no place on the disk yet")
    } else if extent.shared() {
        Some("the blocks at offset {} are shared with another file")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const UNWRITTEN: u32 = 0x800;

    #[test]
    fn files_without_data_pass_unless_others_use_their_blocks() {
        let e = Extent::new;
        let cases = [
            (vec![e(0, 8192, UNWRITTEN)], None),
            (vec![e(0, 4096, UNWRITTEN), e(4096, 8192, UNWRITTEN)], None),
            // With holes is as good as without.
            (vec![], None),
            (vec![e(0, 4096, UNWRITTEN)], None),
            (vec![e(4096, 4096, UNWRITTEN)], None),
            // Beyond the end there is nothing that could be read.
            (vec![e(8192, 4096, 0x200)], None),
            (vec![e(0, 8192, UNWRITTEN | 0x2000)], Some("shared")),
            (
                vec![e(0, 8192, UNWRITTEN | 0x200)],
                Some("no block of its own"),
            ),
            (
                vec![e(0, 4096, UNWRITTEN), e(4096, 4096, UNWRITTEN | 0x8)],
                Some("4096 is compressed"),
            ),
            (vec![e(0, 8192, UNWRITTEN | 0x6)], Some("no place")),
        ];
        for (extents, expected) in cases {
            let found = problem(&extents, 8192);
            match expected {
                None => assert_eq!(found, None, "{extents:?}"),
                Some(words) => assert!(
                    found.as_ref().is_some_and(|why| why.contains(words)),
                    "{extents:?}: {found:?}"
                ),
            }
        }
        assert!(problem(&[], 0).unwrap().contains("empty"));
    }

    #[test]
    fn whatever_is_not_unwritten_is_data() {
        let e = Extent::new;
        assert_eq!(written(&[], 8192), None);
        assert_eq!(written(&[e(0, 8192, UNWRITTEN | 0x8)], 8192), None);
        // However it is kept: plainly, inline, compressed or not placed yet.
        for flags in [0, 0x1, 0x208, 0x8, 0x6] {
            let extents = [e(0, 4096, UNWRITTEN), e(4096, 4096, flags)];
            assert_eq!(written(&extents, 8192), Some(4096), "{flags:#x}");
            assert_eq!(written(&extents, 4096), None, "{flags:#x}");
        }
    }

    /// On a disk, where the kernel would take the file's blocks.
    fn dir_on_disk() -> tempfile::TempDir {
        tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap()
    }

    #[test]
    fn a_file_with_data_is_refused_and_one_without_is_not() {
        let dir = dir_on_disk();
        let path = dir.path().join("file");
        refuse_data(&path).unwrap();
        refuse_data(dir.path()).unwrap();

        let file = fs::File::create(&path).unwrap();
        refuse_data(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        refuse_data(&path).unwrap();
        if fallocate(&file, FallocateFlags::empty(), 0, 1 << 19).is_ok() {
            refuse_data(&path).unwrap();
        }
        // Not written back yet, and behind a hole.
        std::os::unix::fs::FileExt::write_all_at(&file, b"precious", 600 << 10).unwrap();
        let failure = refuse_data(&path).unwrap_err();
        if let Err(told) = check(&path) {
            // Others are the filesystems that cannot have storage.
            assert!(told == failure || told.message.contains("it is on"));
        }
        assert_eq!(failure.kind, Kind::Unsuitable);
        assert!(failure.message.contains("contains data"), "{failure}");
        assert!(failure.hint.unwrap().contains("--overwrite"));
        assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20);
    }

    #[test]
    fn what_is_stopped_leaves_no_file() {
        let dir = dir_on_disk();
        let path = dir.path().join("file");
        for answers in 0..3 {
            let asked = std::cell::Cell::new(0);
            let stop = || asked.replace(asked.get() + 1) >= answers;
            match create(&path, 2 * PORTION, &stop) {
                Err(failure) if failure.kind == Kind::Unsuitable => {
                    // Some of the filesystems people build on cannot do it at all.
                }
                Err(failure) => {
                    assert_eq!(failure.kind, Kind::Interrupted, "{failure}");
                    assert_eq!(asked.get(), answers + 1);
                }
                Ok(_) => panic!("not stopped"),
            }
            assert!(!path.exists());
        }
    }

    #[test]
    fn filesystems_without_blocks_are_named() {
        let failure = refuse_without_blocks("/x".as_ref(), 0x6969).unwrap_err();
        assert_eq!(failure.kind, Kind::Unsuitable);
        assert!(failure.message.contains("NFS"));
        assert!(refuse_without_blocks("/x".as_ref(), TMPFS).is_ok());
    }

    #[test]
    fn what_is_not_a_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let failure = check(dir.path()).unwrap_err();
        assert_eq!(failure.kind, Kind::Unsuitable);
        let failure = check(&dir.path().join("missing")).unwrap_err();
        assert_eq!(failure.kind, Kind::NotFound);
    }

    #[test]
    fn an_existing_file_is_left_alone() {
        let dir = dir_on_disk();
        let path = dir.path().join("file");
        fs::write(&path, "precious").unwrap();
        // Some of the filesystems people build on are refused before that.
        let failure = create(&path, 8192, &|| false).unwrap_err();
        assert!(
            matches!(failure.kind, Kind::Busy | Kind::Unsuitable),
            "{failure}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_size_nothing_can_have_is_refused() {
        for size in [0, u64::MAX, 1 << 63] {
            let failure = create("/nonexistent/file".as_ref(), size, &|| false).unwrap_err();
            assert_eq!(failure.kind, Kind::Usage);
        }
        let failure = create("/nonexistent/file".as_ref(), 1, &|| false).unwrap_err();
        assert_eq!(failure.kind, Kind::NotFound);
    }
}
