//! The devices of the guest: made, filled and counted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::load::{Load, Order};
use super::model::Traffic;
use crate::exec::text_of;

const NULLB: &str = "/sys/kernel/config/nullb";

/// What every I/O of a device with a fixed latency takes.
pub const LATENCY_NS: u64 = 100_000;

/// A block device of the guest.
#[derive(Clone, Debug)]
pub struct Device {
    name: String,
}

impl Device {
    pub fn ramdisk(number: u32) -> Self {
        Self {
            name: format!("ram{number}"),
        }
    }

    /// A device without a schedule of its own whose I/Os end after a fixed time. With `keep` it
    /// keeps what is written.
    pub fn fixed_latency(number: u32, bytes: u64, keep: bool) -> Result<Self> {
        let name = format!("bench{number}");
        let folder = Path::new(NULLB).join(&name);
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (irqmode, latency) = if keep { ("2", LATENCY_NS) } else { ("0", 0) };
        for (setting, value) in [
            ("size", (bytes >> 20).to_string()),
            ("memory_backed", u32::from(keep).to_string()),
            ("irqmode", irqmode.to_owned()),
            ("completion_nsec", latency.to_string()),
            ("submit_queues", "2".to_owned()),
            // As large as real devices take them, and not the least that is safe.
            ("max_sectors", "2560".to_owned()),
            ("no_sched", "1".to_owned()),
            ("power", "1".to_owned()),
        ] {
            let path = folder.join(setting);
            fs::write(&path, &value)
                .with_context(|| format!("cannot set {} to {value}", path.display()))?;
        }
        Ok(Self { name })
    }

    /// Removes what [`fixed_latency`](Self::fixed_latency) made.
    pub fn remove(number: u32) -> Result<()> {
        let folder = Path::new(NULLB).join(format!("bench{number}"));
        fs::remove_dir(&folder).with_context(|| format!("cannot remove {}", folder.display()))
    }

    pub fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// Writes the first `bytes` once, so that no memory is allocated for them later.
    pub fn fill(&self, bytes: u64) -> Result<()> {
        let load = Load {
            write: true,
            block: 1 << 20,
            order: Order::Sequential,
            area: bytes,
            depth: 8,
            jobs: 1,
            passes: 1,
        };
        load.run(&self.path(), 0)?;
        Ok(())
    }

    /// What the block layer has counted so far.
    pub fn traffic(&self) -> Result<Traffic> {
        let path = format!("/sys/block/{}/stat", self.name);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        parse(&text).with_context(|| format!("{path} is not understood"))
    }
}

fn parse(text: &str) -> Option<Traffic> {
    let fields: Vec<u64> = text
        .split_whitespace()
        .map(|field| field.parse().ok())
        .collect::<Option<_>>()?;
    Some(Traffic {
        reads: *fields.first()?,
        read_bytes: fields.get(2)? * 512,
        writes: *fields.get(4)?,
        write_bytes: fields.get(6)? * 512,
    })
}

/// Makes a small filesystem and mounts it.
pub fn make_filesystem(device: &Path, place: &Path) -> Result<()> {
    let options = ["-q", "-F", "-E", "nodiscard"];
    text_of(
        Command::new("mkfs.ext4")
            .args(options)
            .arg(device)
            .arg("64M"),
    )?;
    fs::create_dir_all(place)?;
    text_of(Command::new("mount").arg(device).arg(place))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_by_their_place() {
        let text = "  10  1  80  5  20  2  320  7  0  9 12 0 0 0 0 3 1\n";
        let traffic = parse(text).unwrap();
        assert_eq!((traffic.reads, traffic.read_bytes), (10, 40960));
        assert_eq!((traffic.writes, traffic.write_bytes), (20, 163_840));
        assert!(parse("1 2 x").is_none() && parse("1 2 3").is_none());
    }
}
