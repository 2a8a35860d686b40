//! Facts of this machine, and the refusals that must come before anything is half done.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::exec::{find_program, read_optional, text_of};
use crate::fail::{Failure, Kind};

/// The oldest compiler that the kernel takes.
pub const OLDEST_RUSTC: (u32, u32) = (1, 85);

/// What the kernel's build, the guests and the tests use, as Debian calls it.
pub const PACKAGES: [&str; 31] = [
    "acl",
    "attr",
    "bc",
    "binutils",
    "bison",
    "btrfs-progs",
    "ccache",
    "cpio",
    "dmsetup",
    "dosfstools",
    "e2fsprogs",
    "exfatprogs",
    "f2fs-tools",
    "fio",
    "flex",
    "gawk",
    "gcc",
    "git",
    "kmod",
    "libc6-dev",
    "libclang-19-dev",
    "libelf-dev",
    "libssl-dev",
    "make",
    "ntfs-3g",
    "perl",
    "quota",
    "tar",
    "util-linux",
    "xfsprogs",
    "xz-utils",
];

/// Where Debian's libclang of this version lies.
pub const LIBCLANG: &str = "/usr/lib/llvm-19/lib";

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Needed to install packages and to keep guests from the host.
pub fn require_root(why: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    Err(
        Failure::new(Kind::Requirement, format!("this needs root: {why}"))
            .hint("sudo --preserve-env=HOME,PATH,XDG_CACHE_HOME cargo klab ...")
            .into(),
    )
}

pub fn require_debian() -> Result<()> {
    let release = read_optional(Path::new("/etc/os-release"))?.unwrap_or_default();
    if find_program("apt-get").is_some() && find_program("dpkg").is_some() {
        return Ok(());
    }
    let name = os_release(&release, "PRETTY_NAME").unwrap_or("this system");
    Err(Failure::new(
        Kind::Requirement,
        format!("set-up knows Debian's package tools only, and {name} does not have them"),
    )
    .hint("debootstrap bookworm /srv/klab && chroot /srv/klab, and run klab in there")
    .into())
}

pub fn require_x86_64() -> Result<()> {
    if cfg!(target_arch = "x86_64") {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Requirement,
        "User Mode Linux guests need an x86-64 machine",
    )
    .into())
}

/// The value of a key of os-release(5).
pub fn os_release<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value.trim().trim_matches(['"', '\'']))
}

/// Which packages are not installed.
pub fn missing_packages() -> Result<Vec<&'static str>> {
    let mut command = Command::new("dpkg-query");
    command
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"])
        .args(PACKAGES);
    // It fails when one is unknown, and still lists the others.
    let output = crate::exec::capture(&mut command, None)?;
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(not_installed(&listing))
}

fn not_installed(listing: &str) -> Vec<&'static str> {
    PACKAGES
        .into_iter()
        .filter(|package| {
            !listing
                .lines()
                .any(|line| line == format!("{package} installed"))
        })
        .collect()
}

/// Version of the machine's Rust compiler, such as `1.95.0`.
pub fn rustc_version() -> Result<String> {
    let text = text_of(Command::new("rustc").arg("--version"))?;
    let version = text
        .split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    if parse_version(&version).is_none_or(|found| found < OLDEST_RUSTC) {
        return Err(Failure::new(
            Kind::Requirement,
            format!(
                "the kernel needs rustc {}.{} or newer, this is `{text}`",
                OLDEST_RUSTC.0, OLDEST_RUSTC.1
            ),
        )
        .hint("rustup update stable")
        .into());
    }
    Ok(version)
}

/// The first two numbers of a version.
pub fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(['.', '-', '+']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_package_counts_as_missing() {
        let listing: String = PACKAGES
            .iter()
            .filter(|name| **name != "bc")
            .map(|name| {
                let state = if *name == "flex" {
                    "config-files"
                } else {
                    "installed"
                };
                format!("{name} {state}\n")
            })
            .collect();
        assert_eq!(not_installed(&listing), ["bc", "flex"]);
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(parse_version("1.100.0").unwrap() > OLDEST_RUSTC);
        assert!(parse_version("1.84.1").unwrap() < OLDEST_RUSTC);
        assert_eq!(parse_version("1.95.0-nightly"), Some((1, 95)));
        assert_eq!(parse_version("unknown"), None);
    }

    #[test]
    fn os_release_values_may_be_quoted() {
        let text = "ID=debian\nVERSION_CODENAME=\"bookworm\"\n";
        assert_eq!(os_release(text, "ID"), Some("debian"));
        assert_eq!(os_release(text, "VERSION_CODENAME"), Some("bookworm"));
        assert_eq!(os_release(text, "NAME"), None);
    }
}
