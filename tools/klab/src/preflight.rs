//! What can be known to fail is refused before anything is built.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cache::Cache;
use crate::fail::{Failure, Kind};
use crate::runner::machine::{MOST_DISKS, Platform};
use crate::{project, sandbox, setup::machine};

/// What a verb is going to ask of the machine.
pub struct Guests<'a> {
    cache: &'a Cache,
    /// The clone of the project.
    root: PathBuf,
    results: &'a Path,
    memory_mib: u64,
    at_once: u64,
    platform: Platform,
    /// Kernels that are given, not built: the option that names each, and the file.
    kernels: Vec<(&'a str, &'a Path)>,
    /// Folders that guests read, likewise.
    folders: Vec<(&'a str, &'a Path)>,
    /// Disks of one guest; of the sparse files only so much is filled.
    disks: usize,
    disk_bytes: u64,
}

impl<'a> Guests<'a> {
    /// One guest without disks.
    pub fn new(cache: &'a Cache, results: &'a Path, memory_mib: u64) -> Result<Self> {
        Ok(Self {
            cache,
            root: project::root()?,
            results,
            memory_mib,
            at_once: 1,
            platform: Platform::Uml,
            kernels: Vec::new(),
            folders: Vec::new(),
            disks: 0,
            disk_bytes: 0,
        })
    }

    pub fn at_once(mut self, count: usize) -> Self {
        self.at_once = count as u64;
        self
    }

    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// A kernel that may be given with an option.
    pub fn kernel(mut self, option: &'a str, given: Option<&'a Path>) -> Self {
        self.kernels.extend(given.map(|file| (option, file)));
        self
    }

    /// A folder that may be given with an option.
    pub fn folder(mut self, what: &'a str, given: Option<&'a Path>) -> Self {
        self.folders.extend(given.map(|folder| (what, folder)));
        self
    }

    pub fn disks(mut self, count: usize, filled: u64) -> Self {
        self.disks = count;
        self.disk_bytes = filled;
        self
    }

    pub fn check(&self) -> Result<()> {
        machine::require_root("mount namespaces isolate guests from the host")?;
        if self.disks > MOST_DISKS {
            return Err(Failure::new(
                Kind::Usage,
                format!("a guest can have {MOST_DISKS} disks at most"),
            )
            .into());
        }
        for (what, path) in [
            ("the clone", self.root.as_path()),
            ("the cache", self.cache.root()),
            ("the results folder", self.results),
        ] {
            visible(what, path)?;
            fits_kernel_line(what, path)?;
        }
        for (option, kernel) in &self.kernels {
            visible(option, kernel)?;
            fits_kernel_line(option, kernel)?;
            bootable(option, kernel, self.platform)?;
        }
        for (what, folder) in &self.folders {
            visible(what, folder)?;
        }
        sandbox::probe()?;
        let what = match self.at_once {
            1 => "a guest".to_owned(),
            count => format!("{count} guests at a time"),
        };
        machine::require_memory(self.at_once * self.memory_mib, &what)?;
        self.cache
            .require_space(self.at_once * self.disk_bytes, &what)
    }
}

/// Folders that are the guest's own, so that what the host has there is not seen.
const HIDDEN: [&str; 4] = ["/dev", "/proc", "/run", "/sys"];

fn visible(what: &str, path: &Path) -> Result<()> {
    let real = real(path)?;
    match HIDDEN.iter().find(|hidden| real.starts_with(hidden)) {
        None => Ok(()),
        Some(hidden) => Err(Failure::new(
            Kind::Usage,
            format!(
                "{what} {} cannot be used: in a guest, {hidden} is the guest's own",
                path.display()
            ),
        )
        .hint("use another folder, on a disk")
        .into()),
    }
}

/// The guest's kernel takes its command line apart at such characters.
fn fits_kernel_line(what: &str, path: &Path) -> Result<()> {
    let real = real(path)?;
    let splits = |ch: char| ch.is_whitespace() || ch == ',' || ch == '"';
    let why = match real.to_str() {
        None => "is not UTF-8",
        Some(text) if text.contains(splits) => "has a blank, a comma or a quote",
        Some(_) => return Ok(()),
    };
    Err(Failure::new(
        Kind::Usage,
        format!(
            "the path of {what} {} {why}, which a kernel command line cannot contain",
            real.display()
        ),
    )
    .hint("rename it; the cache can lie elsewhere: export XDG_CACHE_HOME=DIR")
    .into())
}

/// Without links, as far as the path exists.
fn real(path: &Path) -> Result<PathBuf> {
    let whole = std::path::absolute(path)?;
    for there in whole.ancestors() {
        if let Ok(real) = there.canonicalize() {
            return Ok(match whole.strip_prefix(there) {
                Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
                _ => real,
            });
        }
    }
    Ok(whole)
}

/// Refuses files that are no kernel of the platform.
fn bootable(option: &str, kernel: &Path, platform: Platform) -> Result<()> {
    let told = (|| -> std::io::Result<Option<&str>> {
        let mut head = Vec::new();
        let mode = kernel.metadata()?.permissions().mode();
        std::fs::File::open(kernel)?
            .take(HEAD)
            .read_to_end(&mut head)?;
        Ok(match platform {
            Platform::Uml if !is_elf(&head) => Some("is not an x86-64 executable"),
            Platform::Uml if mode & 0o111 == 0 => Some("is not executable"),
            Platform::Qemu if !is_boot_image(&head) => Some("is not a kernel for x86"),
            _ => None,
        })
    })();
    let why = match told {
        Ok(None) => return Ok(()),
        Ok(Some(why)) => why.to_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    let hint = match platform {
        Platform::Uml => "it is the file `linux` that make ARCH=um leaves at the top of the tree",
        Platform::Qemu => "it is the file arch/x86/boot/bzImage of the tree",
    };
    Err(
        Failure::new(Kind::Usage, format!("{option} {} {why}", kernel.display()))
            .hint(hint)
            .into(),
    )
}

/// As much of a kernel as tells what it is.
const HEAD: u64 = 0x206;

/// A kernel for User Mode Linux is a program: class and machine of elf(5), 64 bits, x86-64.
fn is_elf(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF\x02") && head.get(18..20) == Some(&62_u16.to_le_bytes())
}

/// The mark of the kernel's boot protocol for x86.
fn is_boot_image(head: &[u8]) -> bool {
    head.get(0x202..) == Some(b"HdrS")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(result: Result<()>) -> bool {
        result.is_err_and(|error| crate::fail::status_of(&error) == Kind::Usage as i32)
    }

    #[test]
    fn what_a_guest_does_not_see_is_refused() {
        for hidden in ["/run/clone", "/dev/shm/a/b", "/var/run/x", "/proc/self"] {
            assert!(refused(visible("x", Path::new(hidden))), "{hidden}");
        }
        visible("x", Path::new("/tmp")).unwrap();
        visible("x", Path::new("/running")).unwrap();
    }

    #[test]
    fn paths_that_break_the_command_line_are_refused() {
        for wrong in ["/a b", "/no/such,folder", "/a\"b", "/a\tb"] {
            assert!(refused(fits_kernel_line("x", Path::new(wrong))), "{wrong}");
        }
        fits_kernel_line("x", Path::new("/no/such/folder")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (named, link) = (folder.path().join("a b"), folder.path().join("link"));
        std::fs::create_dir(&named).unwrap();
        std::os::unix::fs::symlink(&named, &link).unwrap();
        assert!(refused(fits_kernel_line("x", &link.join("new"))));
    }

    #[test]
    fn a_kernel_is_a_program() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("linux");
        let check = |file: &Path| bootable("--kernel", file, Platform::Uml);
        assert!(refused(check(&file)));
        assert!(refused(check(folder.path())));
        std::fs::write(&file, "#!/bin/sh\n# long enough to be read\n").unwrap();
        assert!(refused(check(&file)));
        std::fs::copy("/proc/self/exe", &file).unwrap();
        check(&file).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(refused(check(&file)));
    }

    #[test]
    fn a_kernel_for_a_pc_is_none_for_user_mode_linux() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bzImage");
        std::fs::write(&file, [&[0; 0x202], b"HdrS....".as_slice()].concat()).unwrap();
        bootable("--kernel", &file, Platform::Qemu).unwrap();
        assert!(refused(bootable("--kernel", &file, Platform::Uml)));
        std::fs::copy("/proc/self/exe", &file).unwrap();
        assert!(refused(bootable("--kernel", &file, Platform::Qemu)));
    }
}
