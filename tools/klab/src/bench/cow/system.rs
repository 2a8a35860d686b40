//! What is measured beside the bare device.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use blksnap::manager::Manager;
use blksnap::sys::Linux;
use uuid::Uuid;

use super::device::Device;
use crate::exec::text_of;

/// What lies between the load and the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Nothing: how far the device differs from itself is how far the others can be trusted.
    Bare,
    /// The filter, without a snapshot.
    Attached,
    /// The filter, with a snapshot.
    Blksnap,
    /// A snapshot of device-mapper that is not persistent.
    DmSnapshot { chunk_kib: u64 },
}

impl System {
    pub const DM: [Self; 3] = [
        Self::DmSnapshot { chunk_kib: 4 },
        Self::DmSnapshot { chunk_kib: 64 },
        Self::DmSnapshot { chunk_kib: 256 },
    ];

    pub fn name(self) -> String {
        match self {
            Self::Bare => "bare device".into(),
            Self::Attached => "attached".into(),
            Self::Blksnap => "blksnap".into(),
            Self::DmSnapshot { chunk_kib } => format!("dm-snapshot {chunk_kib}k"),
        }
    }
}

/// The devices that systems work with.
#[derive(Clone, Debug)]
pub struct Bed {
    pub origin: Device,
    /// Where blksnap stores.
    pub storage: Device,
    /// Where dm-snapshot stores.
    pub cow: Device,
    /// Bytes of the origin.
    pub bytes: u64,
}

/// A system that is in place. To be taken away by [`release`](Self::release).
pub struct Engaged {
    origin: PathBuf,
    kind: Kind,
}

enum Kind {
    Nothing,
    Filter,
    Snapshot { id: Uuid, image: PathBuf },
    Dm,
}

impl Engaged {
    pub fn new(system: System, bed: &Bed) -> Result<Self> {
        let origin = bed.origin.path();
        let kind = match system {
            System::Bare => Kind::Nothing,
            System::Attached => {
                manager(&Linux::new()).attach(&origin)?;
                Kind::Filter
            }
            System::Blksnap => {
                let id = snapshot(&bed.storage.path(), std::slice::from_ref(&origin))?;
                let image = manager(&Linux::new()).image(&origin)?;
                Kind::Snapshot { id, image }
            }
            System::DmSnapshot { chunk_kib } => {
                let (origin, cow) = (origin.display(), bed.cow.path());
                let (sectors, chunk) = (bed.bytes / 512, chunk_kib * 2);
                // The snapshot first: the origin asks it for its chunk size.
                dm(
                    "snap",
                    &format!("0 {sectors} snapshot {origin} {} N {chunk}", cow.display()),
                )?;
                dm("origin", &format!("0 {sectors} snapshot-origin {origin}"))?;
                Kind::Dm
            }
        };
        Ok(Self {
            origin: bed.origin.path(),
            kind,
        })
    }

    /// Where the original is read and written.
    pub fn origin(&self) -> &Path {
        match self.kind {
            Kind::Dm => Path::new("/dev/mapper/origin"),
            _ => &self.origin,
        }
    }

    /// Where the image is read.
    pub fn image(&self) -> Result<&Path> {
        match &self.kind {
            Kind::Nothing | Kind::Filter => bail!("without a snapshot there is no image"),
            Kind::Snapshot { image, .. } => Ok(image),
            Kind::Dm => Ok(Path::new("/dev/mapper/snap")),
        }
    }

    /// Memory that copies in flight take now, in bytes.
    pub fn buffered(&self) -> Result<u64> {
        let Kind::Snapshot { id, .. } = &self.kind else {
            bail!("there is no snapshot of ours");
        };
        let kernel = Linux::new();
        Ok(manager(&kernel).statistics(*id)?.number("buffered_bytes"))
    }

    /// Takes it away, after making sure that it held: a snapshot that was given up costs nothing.
    pub fn release(self) -> Result<()> {
        let kernel = Linux::new();
        let manager = manager(&kernel);
        match self.kind {
            Kind::Nothing => return Ok(()),
            Kind::Filter => {}
            Kind::Snapshot { id, .. } => {
                let error = manager.info(&self.origin)?.error;
                manager.destroy(id)?;
                if let Some(error) = error {
                    bail!("the snapshot was given up: {error}");
                }
            }
            Kind::Dm => {
                let status = dmsetup(&["status", "snap"])?;
                dmsetup(&["remove", "origin"])?;
                dmsetup(&["remove", "snap"])?;
                ensure!(status.contains('/'), "dm-snapshot gave up: {status}");
                return Ok(());
            }
        }
        manager.detach(&self.origin)?;
        Ok(())
    }
}

/// Requests to the driver, with errors for people.
pub fn manager(kernel: &Linux) -> Manager<'_> {
    Manager::new(kernel, &|| false)
}

/// Takes a snapshot of devices that have the filter.
pub fn snapshot(storage: &Path, devices: &[PathBuf]) -> Result<Uuid> {
    let kernel = Linux::new();
    Ok(manager(&kernel).snapshot(devices, storage, 0)?.id)
}

fn dm(name: &str, table: &str) -> Result<()> {
    dmsetup(&["create", name, "--table", table])?;
    Ok(())
}

fn dmsetup(arguments: &[&str]) -> Result<String> {
    // Nobody else makes the nodes in a guest.
    text_of(
        Command::new("dmsetup")
            .env("DM_DISABLE_UDEV", "1")
            .args(arguments),
    )
    .with_context(|| format!("dmsetup {}", arguments.join(" ")))
}
