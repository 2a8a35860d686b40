//! The state of every requirement.

use anyhow::Result;
use serde::Serialize;

use super::{apt, base, bindgen, machine, rust_src};
use crate::cache::{Cache, free_space};
use crate::exec::find_program;
use crate::runner::qemu;
use crate::sandbox;
use crate::ui::bytes;

#[derive(Debug, Serialize)]
pub struct Finding {
    pub name: &'static str,
    pub good: bool,
    pub detail: String,
    /// The command that fixes it.
    pub fix: Option<String>,
}

/// Looks, and changes nothing.
pub fn examine(cache: &Cache) -> Vec<Finding> {
    let setup = || Some("cargo klab setup".to_owned());
    let none = || None;
    vec![
        finding(
            "processor",
            machine::require_x86_64().map(|()| "x86-64".into()),
            none,
        ),
        finding(
            "root",
            machine::require_root("mount namespaces isolate guests from the host")
                .map(|()| "yes".into()),
            none,
        ),
        finding("Debian", machine::require_debian(), none),
        finding("package archive", archive(cache), none),
        finding("packages", packages(), setup),
        finding("rustc", machine::rustc_version(), none),
        finding("Rust library source", there(rust_src::find(cache)), setup),
        finding("QEMU", Ok(qemu()), none),
        finding("bindgen", there(bindgen::find(cache)), setup),
        finding("kernel source", kernel(cache), setup),
        finding("disk", disk(cache), none),
        finding("memory", memory(), || {
            Some("one guest at a time needs 3 GiB: cargo klab demo --fs xfs".into())
        }),
        finding(
            "namespaces",
            sandbox::probe().map(|()| "can be made".into()),
            none,
        ),
    ]
}

/// The error's own hint comes first: it knows what failed.
fn finding(
    name: &'static str,
    state: Result<String>,
    fix: impl FnOnce() -> Option<String>,
) -> Finding {
    match state {
        Ok(detail) => Finding {
            name,
            good: true,
            detail,
            fix: None,
        },
        Err(error) => {
            let (detail, hint) = match error.downcast_ref::<crate::fail::Failure>() {
                Some(failure) => (failure.what.clone(), failure.hint.clone()),
                None => (format!("{error:#}"), None),
            };
            Finding {
                name,
                good: false,
                detail,
                fix: hint.or_else(fix),
            }
        }
    }
}

/// Whether it can be reached matters only as long as something has to be fetched.
fn archive(cache: &Cache) -> Result<String> {
    let mirror = apt::mirror_of_machine(std::path::Path::new("/etc/apt"))?;
    let complete = machine::missing_packages(&machine::PACKAGES)?.is_empty()
        && rust_src::find(cache)?.is_some()
        && base::is_there(cache);
    if complete {
        return Ok(format!("{}, no longer needed", mirror.uri));
    }
    apt::require_archive(&mirror)?;
    Ok(format!("{} answers", mirror.uri))
}

fn packages() -> Result<String> {
    let missing = machine::missing_packages(&machine::PACKAGES)?;
    anyhow::ensure!(missing.is_empty(), "not installed: {}", missing.join(" "));
    Ok(format!("all {} installed", machine::PACKAGES.len()))
}

/// Nothing needs it until a guest is to be a virtual machine.
fn qemu() -> String {
    match (find_program(qemu::PROGRAM), qemu::has_kvm()) {
        (None, _) => "not installed; --machine qemu does it".into(),
        (Some(path), true) => format!("{}, with KVM", path.display()),
        (Some(path), false) => format!("{}, without KVM: guests are slow", path.display()),
    }
}

fn there(found: Result<Option<std::path::PathBuf>>) -> Result<String> {
    let path = found?.ok_or_else(|| anyhow::anyhow!("not there yet"))?;
    Ok(path.display().to_string())
}

fn kernel(cache: &Cache) -> Result<String> {
    anyhow::ensure!(base::is_there(cache), "not there yet");
    Ok(cache.base().display().to_string())
}

fn disk(cache: &Cache) -> Result<String> {
    let need = if base::is_there(cache) {
        4 << 30
    } else {
        12 << 30
    };
    cache.require_space(need, "the cache")?;
    Ok(format!(
        "{} free under {}",
        bytes(free_space(cache.root())?),
        cache.root().display()
    ))
}

fn memory() -> Result<String> {
    let info = rustix::system::sysinfo();
    let total = info.totalram as u64 * u64::from(info.mem_unit);
    anyhow::ensure!(
        total >= 6 << 30,
        "two guests need 6 GiB, and there are {}",
        bytes(total)
    );
    Ok(bytes(total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fail::{Failure, Kind};

    #[test]
    fn the_hint_of_an_error_is_the_fix() {
        let fix = |error: anyhow::Error| {
            let setup = || Some("cargo klab setup".to_owned());
            finding("bindgen", Err(error), setup).fix.unwrap()
        };
        let failure = Failure::new(Kind::Requirement, "no rustc").hint("install Rust");
        assert_eq!(fix(failure.into()), "install Rust");
        assert_eq!(fix(anyhow::anyhow!("not there yet")), "cargo klab setup");
    }
}
