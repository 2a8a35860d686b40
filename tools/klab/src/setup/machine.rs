//! Facts of this machine, and the refusals that must come before anything is half done.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::exec::{find_program, read_optional, text_of};
use crate::fail::{Failure, Kind};
use crate::ui::bytes;

/// The oldest compiler that klab itself takes; the kernel takes older ones.
pub const OLDEST_RUSTC: &str = env!("CARGO_PKG_RUST_VERSION");

/// What the kernel's build, the guests and the tests use, as Debian calls it.
pub const PACKAGES: [&str; 32] = [
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
    "shellcheck",
    "tar",
    "util-linux",
    "xfsprogs",
    "xz-utils",
];

/// Those of them that are used even if no kernel is built.
pub const FOR_GUESTS: [&str; 17] = [
    "acl",
    "attr",
    "btrfs-progs",
    "dmsetup",
    "e2fsprogs",
    "fio",
    "gawk",
    "gcc",
    "git",
    "kmod",
    "libc6-dev",
    "make",
    "perl",
    "quota",
    "shellcheck",
    "util-linux",
    "xfsprogs",
];

/// What runs guests that are virtual machines, only installed when one is asked for.
pub const FOR_QEMU: [&str; 1] = ["qemu-system-x86"];

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
            .hint(as_root())
            .into(),
    )
}

/// The command line as it was given, for root: sudo by itself forgets where cargo and the cache are.
pub fn as_root() -> String {
    let mut words = vec!["sudo".to_owned(), "env".to_owned()];
    for name in [
        "HOME",
        "PATH",
        "XDG_CACHE_HOME",
        "CARGO_HOME",
        "RUSTUP_HOME",
    ] {
        if let Ok(value) = std::env::var(name) {
            words.push(format!("{name}={}", quoted(&value)));
        }
    }
    words.extend(["cargo".to_owned(), "klab".to_owned()]);
    words.extend(std::env::args().skip(1).map(|word| quoted(&word)));
    words.join(" ")
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |ch: char| ch.is_ascii_alphanumeric() || "-_./=:,@%+".contains(ch);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Returns its name.
pub fn require_debian() -> Result<String> {
    let release = read_optional(Path::new("/etc/os-release"))?.unwrap_or_default();
    let tools = find_program("apt-get").is_some() && find_program("dpkg").is_some();
    let name = os_release(&release, "PRETTY_NAME").unwrap_or("this system");
    if tools && is_new_debian(&release) {
        return Ok(name.to_owned());
    }
    Err(Failure::new(
        Kind::Requirement,
        format!("set-up supports only Debian 12 and newer, and this is {name}"),
    )
    .hint("debootstrap bookworm /srv/klab && chroot /srv/klab, and run klab there")
    .into())
}

/// Testing and unstable have no number.
fn is_new_debian(release: &str) -> bool {
    let number = os_release(release, "VERSION_ID").map(str::parse::<u32>);
    os_release(release, "ID") == Some("debian")
        && number.is_none_or(|number| number.is_ok_and(|number| number >= 12))
}

/// Refuses guests that would have the machine swap, or the guest killed half-way.
pub fn require_memory(need_mib: u64, what: &str) -> Result<()> {
    let text = read_optional(Path::new("/proc/meminfo"))?.unwrap_or_default();
    let Some(free) = meminfo(&text, "MemAvailable") else {
        return Ok(());
    };
    if free >= need_mib << 20 {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Requirement,
        format!(
            "{what} needs {} of memory, and {} are available",
            bytes(need_mib << 20),
            bytes(free)
        ),
    )
    .hint("close other programs; one guest at a time needs less: --fs xfs, or run --memory 1G")
    .into())
}

/// The bytes behind a name in proc(5)'s `meminfo`.
pub fn meminfo(text: &str, name: &str) -> Option<u64> {
    let (_, value) = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| *key == name)?;
    Some(value.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

pub fn require_x86_64() -> Result<()> {
    if cfg!(target_arch = "x86_64") {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Requirement,
        "User Mode Linux guests need an x86-64 machine",
    )
    .hint("run klab on an x86-64 machine")
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
pub fn missing_packages(wanted: &[&'static str]) -> Result<Vec<&'static str>> {
    let mut command = Command::new("dpkg-query");
    command
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"])
        .args(wanted);
    // It fails when one is unknown, and still lists the others.
    let output = crate::exec::capture(&mut command, None)?;
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(not_installed(wanted, &listing))
}

fn not_installed(wanted: &[&'static str], listing: &str) -> Vec<&'static str> {
    wanted
        .iter()
        .copied()
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
    if !is_new_enough(&version) {
        return Err(Failure::new(
            Kind::Requirement,
            format!("rustc {OLDEST_RUSTC} or newer is needed, this is `{text}`"),
        )
        .hint("rustup update stable")
        .into());
    }
    Ok(version)
}

/// What is not understood is older than anything.
fn is_new_enough(rustc: &str) -> bool {
    parse_version(rustc) >= parse_version(OLDEST_RUSTC)
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
        assert_eq!(not_installed(&PACKAGES, &listing), ["bc", "flex"]);
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(is_new_enough("1.100.0") && is_new_enough(OLDEST_RUSTC));
        assert!(!is_new_enough("1.88.1") && !is_new_enough("unknown"));
        assert_eq!(parse_version("1.95.0-nightly"), Some((1, 95)));
        assert_eq!(parse_version("unknown"), None);
    }

    #[test]
    fn the_readme_names_the_oldest_compiler() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
        let text = std::fs::read_to_string(readme).unwrap();
        assert!(text.contains(&format!("Rust {OLDEST_RUSTC} or newer")));
    }

    #[test]
    fn packages_for_guests_are_among_all() {
        assert!(FOR_GUESTS.iter().all(|name| PACKAGES.contains(name)));
    }

    #[test]
    fn only_debian_from_twelve_on_will_do() {
        for (text, good) in [
            ("ID=debian\nVERSION_ID=\"12\"\n", true),
            ("ID=debian\nVERSION_ID=\"11\"\n", false),
            ("ID=debian\n", true),
            ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n", false),
            ("", false),
        ] {
            assert_eq!(is_new_debian(text), good, "{text}");
        }
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("--fs"), "--fs");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn memory_is_read_by_its_name() {
        let text = "MemTotal: 8 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(meminfo(text, "MemAvailable"), Some(2 << 20));
        assert_eq!(meminfo(text, "MemTotal"), Some(8 << 10));
        assert_eq!(meminfo(text, "Mem"), None);
    }

    #[test]
    fn os_release_values_may_be_quoted() {
        let text = "ID=debian\nVERSION_CODENAME=\"bookworm\"\n";
        assert_eq!(os_release(text, "ID"), Some("debian"));
        assert_eq!(os_release(text, "VERSION_CODENAME"), Some("bookworm"));
        assert_eq!(os_release(text, "NAME"), None);
    }
}
