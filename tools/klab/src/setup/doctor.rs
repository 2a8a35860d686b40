//! The state of every requirement.

use anyhow::Result;
use serde::Serialize;

use super::{apt, base, bindgen, machine, rust_src};
use crate::cache::{Cache, free_space};
use crate::sandbox;
use crate::ui::bytes;

#[derive(Debug, Serialize)]
pub struct Finding {
    pub name: &'static str,
    pub good: bool,
    pub detail: String,
    /// The command that mends it.
    pub mend: Option<String>,
}

/// Looks, and changes nothing.
pub fn examine(cache: &Cache) -> Vec<Finding> {
    let setup = || Some("cargo klab setup".to_owned());
    // Without a mend of its own, a finding has the hint of the refusal.
    let own = || None;
    vec![
        finding(
            "processor",
            machine::require_x86_64().map(|()| "x86-64".into()),
            own,
        ),
        finding(
            "root",
            machine::require_root("guests are kept from the host by mount namespaces")
                .map(|()| "yes".into()),
            own,
        ),
        finding("Debian", machine::require_debian(), own),
        finding("package archive", archive(cache), own),
        finding("packages", packages(), setup),
        finding("rustc", machine::rustc_version(), || {
            Some("rustup update stable".into())
        }),
        finding("Rust library source", there(rust_src::find(cache)), setup),
        finding("bindgen", there(bindgen::find(cache)), setup),
        finding("kernel source", kernel(cache), setup),
        finding("disk", disk(cache), own),
        finding("memory", memory(), || {
            Some("one guest at a time needs 3 GiB: cargo klab demo --fs xfs".into())
        }),
        finding(
            "namespaces",
            sandbox::probe().map(|()| "can be made".into()),
            own,
        ),
    ]
}

fn finding(
    name: &'static str,
    state: Result<String>,
    mend: impl FnOnce() -> Option<String>,
) -> Finding {
    match state {
        Ok(detail) => Finding {
            name,
            good: true,
            detail,
            mend: None,
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
                mend: mend().or(hint),
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
        return Ok(format!("{}, not needed any more", mirror.uri));
    }
    apt::require_archive(&mirror)?;
    Ok(format!("{} answers", mirror.uri))
}

fn packages() -> Result<String> {
    let missing = machine::missing_packages(&machine::PACKAGES)?;
    anyhow::ensure!(missing.is_empty(), "not installed: {}", missing.join(" "));
    Ok(format!("all {} installed", machine::PACKAGES.len()))
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
        "two guests need 6 GiB, there are {}",
        bytes(total)
    );
    Ok(bytes(total))
}
