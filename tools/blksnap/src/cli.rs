// SPDX-License-Identifier: GPL-2.0

//! The command line.

use crate::error::{EXIT_STATUS, Failure, Kind};
use crate::kernel::Kernel;
use crate::manager::{DeviceInfo, Event, Manager, SECTOR, State, Stop, Tracking};
use crate::registry::{Record, Registry};
use crate::stats::Statistics;
use crate::storage;
use crate::top;
use blksnap_uapi::blksnap_sectors;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, CommandFactory, Parser, Subcommand};
use serde::Serialize;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use uuid::Uuid;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Snapshots of block devices
///
/// Makes, shows and destroys snapshots of block devices through the blksnap
/// driver. What is overwritten while a snapshot is held goes to a difference
/// storage: a file with all its blocks allocated, which may lie on the very
/// filesystem that is being snapshotted.
#[derive(Debug, Parser)]
#[command(
    name = "blksnap",
    version,
    styles = STYLES,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = after_help()
)]
pub struct Cli {
    /// Print JSON, and errors as JSON too
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

fn after_help() -> String {
    let mut text = String::from(
        "Examples:
  blksnap storage create /mnt/data/diff --size 1G
  blksnap snapshot --storage /mnt/data/diff /dev/sdb1
  mount -o ro \"$(blksnap image /dev/sdb1)\" /mnt/before
  blksnap destroy --all

Exit status:
    0  done
",
    );
    for (kind, meaning) in EXIT_STATUS {
        text += &format!("  {:>3}  {meaning}\n", *kind as u8);
    }
    text.truncate(text.trim_end().len());
    text
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Print the driver's version
    #[command(after_help = "Examples:\n  blksnap version\n  blksnap version --json")]
    Version,

    /// Put the filter on devices, which starts change tracking
    #[command(after_help = "Examples:\n  blksnap attach /dev/sdb1 /dev/sdc")]
    Attach(Devices),

    /// Take the filter off devices
    #[command(after_help = "Examples:\n  blksnap detach /dev/sdb1")]
    Detach(Devices),

    /// Make a snapshot without devices and print its id
    #[command(
        after_help = "Examples:\n  id=$(blksnap create --storage /mnt/data/diff --limit 4G)\n  blksnap add \"$id\" /dev/sdb1\n  blksnap take \"$id\""
    )]
    Create(Storage),

    /// Add devices to a snapshot that has not been taken
    #[command(after_help = "Examples:\n  blksnap add \"$id\" /dev/sdb1 /dev/sdc1")]
    Add {
        /// Snapshot, as `create` printed it
        id: Uuid,
        /// Devices; the filter is attached where it is missing
        #[arg(required = true, value_name = "DEVICE")]
        devices: Vec<PathBuf>,
    },

    /// Take a snapshot of all devices added to it, at one moment
    #[command(after_help = "Examples:\n  blksnap take \"$id\"")]
    Take {
        /// Snapshot, as `create` printed it
        id: Uuid,
    },

    /// Make and take a snapshot of devices in one go
    ///
    /// Does what create, attach, add and take do. If a part fails, or on Ctrl-C,
    /// everything is as it was before.
    #[command(
        after_help = "Examples:\n  blksnap snapshot --storage /mnt/data/diff /dev/sdb1\n  blksnap snapshot --storage /mnt/data/diff --limit 4G /dev/sdb1 /dev/sdc1 --json"
    )]
    Snapshot {
        #[command(flatten)]
        storage: Storage,
        /// Devices
        #[arg(required = true, value_name = "DEVICE")]
        devices: Vec<PathBuf>,
    },

    /// List the snapshots
    #[command(
        visible_alias = "collect",
        after_help = "Examples:\n  blksnap list\n  blksnap list --json"
    )]
    List,

    /// Show the state of devices, of all that have the filter if none is named
    #[command(after_help = "Examples:\n  blksnap info\n  blksnap info /dev/sdb1 --json")]
    Info {
        /// Devices
        #[arg(value_name = "DEVICE")]
        devices: Vec<PathBuf>,
    },

    /// Print the device node of a device's image
    #[command(after_help = "Examples:\n  mount -o ro \"$(blksnap image /dev/sdb1)\" /mnt/before")]
    Image {
        /// Original device
        device: PathBuf,
    },

    /// Destroy snapshots; their images go, the filter stays on the devices
    #[command(after_help = "Examples:\n  blksnap destroy \"$id\"\n  blksnap destroy --all")]
    Destroy {
        /// Snapshots
        #[arg(required_unless_present = "all")]
        ids: Vec<Uuid>,
        /// Destroy all there are, those of other programs too
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },

    /// Learn what happens to snapshots: lost images, storage that is full or nearly so
    #[command(subcommand)]
    Events(EventsVerb),

    /// Show what snapshots are doing, all of them if none is named
    #[command(after_help = "Examples:\n  blksnap stats\n  blksnap stats \"$id\" --json")]
    Stats {
        /// Snapshots
        ids: Vec<Uuid>,
    },

    /// Watch what the snapshots are doing, until Ctrl-C
    #[command(after_help = "Examples:\n  blksnap top\n  blksnap top --interval 500ms")]
    Top {
        /// How often to look
        #[arg(long, value_parser = interval, default_value = "1s")]
        interval: Duration,
    },

    /// Prepare or check difference storage, or give more of it to a snapshot
    #[command(subcommand)]
    Storage(StorageVerb),

    /// Read or change which blocks count as changed
    #[command(subcommand, visible_alias = "tracking")]
    Cbt(TrackingVerb),

    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  blksnap completions bash > /etc/bash_completion.d/blksnap"
    )]
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },

    /// Write the manual pages to a folder
    #[command(hide = true)]
    Man {
        /// Folder, which has to exist
        dir: PathBuf,
    },
}

/// Some devices.
#[derive(Debug, Args)]
pub struct Devices {
    /// Devices
    #[arg(required = true, value_name = "DEVICE")]
    pub devices: Vec<PathBuf>,
}

/// Where the difference storage is.
#[derive(Debug, Args)]
pub struct Storage {
    /// File or block device to keep overwritten data in
    #[arg(long, value_name = "FILE")]
    pub storage: PathBuf,
    /// How far the file may grow, such as 512M or 4G; its present size if not given
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub limit: Option<u64>,
}

/// What to do with a file.
#[derive(Debug, Subcommand)]
pub enum StorageVerb {
    /// Make a file with all its blocks allocated and none written
    #[command(after_help = "Examples:\n  blksnap storage create /mnt/data/diff --size 1G")]
    Create {
        /// File, which must not exist
        file: PathBuf,
        /// Size, such as 512M or 4G
        #[arg(long, value_parser = size)]
        size: u64,
    },
    /// Add a further file or block device to the storage of a snapshot
    #[command(after_help = "Examples:\n  blksnap storage append \"$id\" /mnt/data/more")]
    Append {
        /// Snapshot, taken or not
        id: Uuid,
        /// File or block device, used as large as it is
        file: PathBuf,
    },
    /// Look whether a file can be a difference storage
    #[command(after_help = "Examples:\n  blksnap storage check /mnt/data/diff")]
    Check {
        /// File or block device
        file: PathBuf,
    },
}

/// What to do with events.
#[derive(Debug, Subcommand)]
pub enum EventsVerb {
    /// Wait until something happens to a snapshot, and print what
    #[command(
        after_help = "Examples:\n  blksnap events wait \"$id\"\n  blksnap events wait \"$id\" --timeout 90s"
    )]
    Wait {
        /// Snapshot
        id: Uuid,
        /// How long, such as 500ms, 90s or 2h; for ever if not given
        #[arg(long, value_parser = humantime::parse_duration)]
        timeout: Option<Duration>,
    },
    /// Print what happens to snapshots, all of them if none is named, until Ctrl-C
    ///
    /// With --json each event is an object on a line of its own. Ends by itself
    /// when none of the named snapshots is left.
    #[command(
        after_help = "Examples:\n  blksnap events follow\n  blksnap events follow \"$id\" --json"
    )]
    Follow {
        /// Snapshots
        ids: Vec<Uuid>,
    },
}

/// What to do with change tracking.
#[derive(Debug, Subcommand)]
pub enum TrackingVerb {
    /// Show generation, change number and block size
    #[command(after_help = "Examples:\n  blksnap cbt info /dev/sdb1")]
    Info {
        /// Device
        device: PathBuf,
    },
    /// Print what changed up to the last snapshot, in sectors, or write the map to a file
    ///
    /// Each line is FIRST+COUNT, a range of sectors of 512 bytes, and the number
    /// of the period in which it last changed.
    #[command(
        after_help = "Examples:\n  blksnap cbt map /dev/sdb1\n  blksnap cbt map /dev/sdb1 --since 7\n  blksnap cbt map /dev/sdb1 --output map.bin"
    )]
    Map {
        /// Device
        device: PathBuf,
        /// Only what changed after the period of this number, as `info` showed it then
        #[arg(
            long,
            value_name = "NUMBER",
            default_value_t = 0,
            conflicts_with = "output"
        )]
        since: u8,
        /// File to write the whole map to, one byte a block
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Mark ranges as changed
    #[command(after_help = "Examples:\n  blksnap cbt dirty /dev/sdb1 0+2048 4096+8")]
    Dirty {
        /// Device
        device: PathBuf,
        /// First sector and number of sectors of 512 bytes
        #[arg(required = true, value_name = "FIRST+COUNT", value_parser = range)]
        ranges: Vec<Range>,
    },
}

/// A range of sectors.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    first: u64,
    count: u64,
}

fn size(text: &str) -> Result<u64, String> {
    let size = parse_size::Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|e| format!("{e}; write a number with K, M, G or T after it"))?;
    match size {
        0 => Err("the size must not be 0".into()),
        _ => Ok(size),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    match interval < Duration::from_millis(100) {
        true => Err("less than 100ms would keep the machine busy with looking".into()),
        false => Ok(interval),
    }
}

fn range(text: &str) -> Result<Range, String> {
    let parsed = text.split_once('+').and_then(|(first, count)| {
        let (first, count): (u64, u64) = (first.parse().ok()?, count.parse().ok()?);
        first.checked_add(count)?;
        (count > 0).then_some(Range { first, count })
    });
    parsed.ok_or_else(|| "write it as FIRST+COUNT in sectors, such as 0+2048".into())
}

/// What a command runs in.
pub struct Env<'a> {
    /// Whom it asks.
    pub kernel: &'a dyn Kernel,
    /// What is known about snapshots besides.
    pub registry: &'a Registry,
    /// Where results go.
    pub out: &'a mut dyn Write,
    /// Where warnings go.
    pub err: &'a mut dyn Write,
    /// Whether the user wants it to end.
    pub stop: Stop<'a>,
    /// Whether results go to a terminal.
    pub terminal: bool,
}

#[derive(Serialize)]
struct ListEntry {
    id: Uuid,
    #[serde(flatten)]
    record: Option<Record>,
}

/// An event of one of several snapshots.
#[derive(Serialize)]
struct Followed<'a> {
    id: Uuid,
    #[serde(flatten)]
    event: &'a Event,
}

/// How soon Ctrl-C is noticed.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// A size as people read it.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match value.fract() == 0.0 {
        true => format!("{value} {}", UNITS[unit]),
        false => format!("{value:.1} {}", UNITS[unit]),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The limit that was asked for, or the size of what is there.
fn limit(storage: &Storage) -> Result<u64, Failure> {
    match storage.limit {
        Some(limit) => Ok(limit),
        None => storage::size(&storage.storage),
    }
}

struct Run<'e, 'a> {
    json: bool,
    env: &'e mut Env<'a>,
}

/// Runs a command.
pub fn run(cli: &Cli, env: &mut Env<'_>) -> Result<(), Failure> {
    Run {
        json: cli.json,
        env,
    }
    .verb(&cli.verb)
}

impl Run<'_, '_> {
    fn manager(&self) -> Manager<'_> {
        Manager::new(self.env.kernel, self.env.stop)
    }

    /// Prints one of the two.
    fn print(&mut self, value: impl Serialize, text: &str) -> Result<(), Failure> {
        if self.json {
            let line = serde_json::to_string_pretty(&value).map_err(std::io::Error::from)?;
            writeln!(self.env.out, "{line}")?;
        } else if !text.is_empty() {
            writeln!(self.env.out, "{}", text.trim_end())?;
        }
        Ok(())
    }

    /// The record serves the listing only, so that failing to keep it is no failure.
    fn note(&mut self, result: std::io::Result<()>) {
        if let Err(e) = result {
            let _ = writeln!(
                self.env.err,
                "warning: `blksnap list` will not show everything: {e}"
            );
        }
    }

    fn verb(&mut self, verb: &Verb) -> Result<(), Failure> {
        match verb {
            Verb::Version => {
                let [major, minor, revision, build] = self.manager().version()?;
                let version = format!("{major}.{minor}.{revision}.{build}");
                self.print(
                    json!({ "version": version, "major": major, "minor": minor,
                            "revision": revision, "build": build }),
                    &version,
                )
            }
            Verb::Attach(Devices { devices }) => self.attach(devices),
            Verb::Detach(Devices { devices }) => {
                for device in devices {
                    self.manager().detach(device)?;
                }
                self.print(json!({ "detached": devices }), "")
            }
            Verb::Create(storage) => {
                let limit = limit(storage)?;
                let id = self.manager().create(&storage.storage, limit)?;
                self.remember(id, storage, limit, &[]);
                self.print(json!({ "id": id }), &id.to_string())
            }
            Verb::Add { id, devices } => self.add(*id, devices),
            Verb::Take { id } => {
                self.manager().take(*id)?;
                self.print(json!({ "id": id }), "")
            }
            Verb::Snapshot { storage, devices } => self.snapshot(storage, devices),
            Verb::List => self.list(),
            Verb::Info { devices } => self.info(devices),
            Verb::Image { device } => {
                let image = self.manager().image(device)?;
                self.print(
                    json!({ "device": device, "image": image }),
                    &image.display().to_string(),
                )
            }
            Verb::Destroy { ids, all } => self.destroy(ids, *all),
            Verb::Events(verb) => self.events(verb),
            Verb::Stats { ids } => self.stats(ids),
            Verb::Top { interval } => self.top(*interval),
            Verb::Storage(verb) => self.storage(verb),
            Verb::Cbt(verb) => self.tracking(verb),
            Verb::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(*shell, &mut Cli::command(), "blksnap", &mut script);
                Ok(self.env.out.write_all(&script)?)
            }
            Verb::Man { dir } => clap_mangen::generate_to(Cli::command(), dir).map_err(|e| {
                Failure::new(
                    Kind::Other,
                    format!("cannot write the manual pages to {}: {e}", dir.display()),
                )
            }),
        }
    }

    fn attach(&mut self, devices: &[PathBuf]) -> Result<(), Failure> {
        let mut entries = Vec::new();
        let mut text = String::new();
        for device in devices {
            let new = self.manager().attach(device)?;
            entries.push(json!({ "device": device, "attached_before": !new }));
            if !new {
                text += &format!("{} has the filter already\n", device.display());
            }
        }
        self.print(json!({ "devices": entries }), &text)
    }

    fn add(&mut self, id: Uuid, devices: &[PathBuf]) -> Result<(), Failure> {
        let mut entries = Vec::new();
        for device in devices {
            let attached = self.manager().add(device, id)?;
            let noted = self.env.registry.add_device(id, &absolute(device));
            self.note(noted);
            entries.push(json!({ "device": device, "attached": attached }));
        }
        self.print(json!({ "id": id, "devices": entries }), "")
    }

    fn remember(&mut self, id: Uuid, storage: &Storage, limit: u64, devices: &[PathBuf]) {
        let record = Record {
            storage: absolute(&storage.storage),
            limit,
            devices: devices.iter().map(|device| absolute(device)).collect(),
        };
        let noted = self.env.registry.store(id, &record);
        self.note(noted);
    }

    fn snapshot(&mut self, storage: &Storage, devices: &[PathBuf]) -> Result<(), Failure> {
        let limit = limit(storage)?;
        let snapshot = self.manager().snapshot(devices, &storage.storage, limit)?;
        self.remember(snapshot.id, storage, limit, devices);
        let mut text = format!("{}\n", snapshot.id);
        for added in &snapshot.devices {
            text += &format!("{} -> {}\n", added.device.display(), added.image.display());
        }
        self.print(snapshot, &text)
    }

    fn list(&mut self) -> Result<(), Failure> {
        let snapshots: Vec<_> = self
            .manager()
            .list()?
            .into_iter()
            .map(|id| ListEntry {
                id,
                record: self.env.registry.load(id),
            })
            .collect();
        let mut text = String::new();
        for ListEntry { id, record } in &snapshots {
            text += &id.to_string();
            if let Some(record) = record {
                text += &format!(
                    "  {} (up to {})",
                    record.storage.display(),
                    human(record.limit)
                );
                for device in &record.devices {
                    text += &format!("  {}", device.display());
                }
            }
            text += "\n";
        }
        self.print(json!({ "snapshots": snapshots }), &text)
    }

    fn info(&mut self, devices: &[PathBuf]) -> Result<(), Failure> {
        let infos = if devices.is_empty() {
            self.manager().info_all()?
        } else {
            devices
                .iter()
                .map(|device| self.manager().info(device))
                .collect::<Result<_, _>>()?
        };
        let text: String = infos.iter().map(describe_device).collect();
        self.print(json!({ "devices": infos }), &text)
    }

    fn destroy(&mut self, ids: &[Uuid], all: bool) -> Result<(), Failure> {
        let ids = match all {
            true => self.manager().list()?,
            false => ids.to_vec(),
        };
        let mut first = None;
        let mut destroyed = Vec::new();
        // One that is in use does not keep the others.
        for id in ids {
            match self.manager().destroy(id) {
                Ok(()) => {
                    let noted = self.env.registry.forget(id);
                    self.note(noted);
                    destroyed.push(id);
                }
                Err(failure) => {
                    if let Some(again) = first.replace(failure) {
                        let _ = writeln!(self.env.err, "error: {again}");
                    }
                }
            }
        }
        self.print(json!({ "destroyed": destroyed }), "")?;
        first.map_or(Ok(()), Err)
    }

    fn events(&mut self, verb: &EventsVerb) -> Result<(), Failure> {
        let ids = match verb {
            EventsVerb::Wait { id, timeout } => {
                let event = self.manager().wait(*id, *timeout)?;
                let text = describe(&event);
                return self.print(event, &text);
            }
            EventsVerb::Follow { ids } => ids,
        };
        let manager = Manager::new(self.env.kernel, self.env.stop);
        let (json, out) = (self.json, &mut *self.env.out);
        manager.follow(ids, &mut |id, event| {
            match json {
                true => {
                    let line = serde_json::to_string(&Followed { id, event })
                        .map_err(std::io::Error::from)?;
                    writeln!(out, "{line}")?;
                }
                false => writeln!(out, "{id}: {}", describe(event))?,
            }
            // Whoever reads this wants it now.
            Ok(out.flush()?)
        })
    }

    fn stats(&mut self, ids: &[Uuid]) -> Result<(), Failure> {
        let all = match ids.is_empty() {
            true => self.manager().all_statistics()?,
            false => ids
                .iter()
                .map(|&id| self.manager().statistics(id))
                .collect::<Result<_, _>>()?,
        };
        let text: String = all.iter().map(describe_statistics).collect();
        self.print(json!({ "snapshots": all }), &text)
    }

    fn top(&mut self, interval: Duration) -> Result<(), Failure> {
        if self.json || !self.env.terminal {
            return Err(
                Failure::new(Kind::Usage, "the live view needs a terminal to be shown on")
                    .hint("`blksnap stats --json` gives the numbers to programs"),
            );
        }
        let manager = Manager::new(self.env.kernel, self.env.stop);
        // What can go wrong should do so before the terminal looks different.
        let mut now = manager.all_statistics()?;
        let mut before = Vec::new();
        let mut elapsed = Duration::ZERO;
        let mut screen = top::Screen::new(&mut *self.env.out)?;
        loop {
            let looked = Instant::now();
            screen.show(&top::page(&now, &before, elapsed, top::size()))?;
            while looked.elapsed() < interval {
                if (self.env.stop)() {
                    return Ok(());
                }
                std::thread::sleep(STOP_CHECK.min(interval.saturating_sub(looked.elapsed())));
            }
            before = std::mem::replace(&mut now, manager.all_statistics()?);
            elapsed = looked.elapsed();
        }
    }

    fn storage(&mut self, verb: &StorageVerb) -> Result<(), Failure> {
        let (report, what) = match verb {
            StorageVerb::Append { id, file } => {
                self.manager().append(*id, file)?;
                return self.print(json!({ "id": id, "appended": file }), "");
            }
            StorageVerb::Create { file, size } => (storage::create(file, *size)?, "made"),
            StorageVerb::Check { file } => (storage::check(file)?, "suitable"),
        };
        let text = match report.extents {
            0 => format!("{what}: {}, {}", report.path.display(), human(report.size)),
            n => format!(
                "{what}: {}, {} in {n} extent{}",
                report.path.display(),
                human(report.size),
                if n == 1 { "" } else { "s" }
            ),
        };
        self.print(report, &text)
    }

    fn tracking(&mut self, verb: &TrackingVerb) -> Result<(), Failure> {
        match verb {
            TrackingVerb::Info { device } => {
                let t = self.manager().tracking(device)?;
                let text = format!(
                    "generation {}\nchange number {}\nblock size {}\nblocks {}\ncapacity {}",
                    t.generation,
                    t.change_number,
                    human(t.block_size.into()),
                    t.block_count,
                    human(t.capacity)
                );
                self.print(t, &text)
            }
            TrackingVerb::Map {
                device,
                since,
                output: None,
            } => {
                let t = self.manager().tracking(device)?;
                let map = self.manager().tracking_map(device)?;
                let ranges = changed(&map, *since, &t);
                let text: String = ranges
                    .iter()
                    .map(|r| format!("{}+{} {}\n", r.first, r.count, r.number))
                    .collect();
                self.print(
                    json!({ "device": device, "generation": t.generation,
                            "change_number": t.change_number, "since": since,
                            "ranges": ranges }),
                    &text,
                )
            }
            TrackingVerb::Map {
                device,
                output: Some(output),
                ..
            } => {
                let map = self.manager().tracking_map(device)?;
                std::fs::write(output, &map).map_err(|e| {
                    Failure::new(
                        Kind::Other,
                        format!("cannot write {}: {e}", output.display()),
                    )
                })?;
                self.print(
                    json!({ "device": device, "output": output, "blocks": map.len() }),
                    "",
                )
            }
            TrackingVerb::Dirty { device, ranges } => {
                let sectors: Vec<_> = ranges
                    .iter()
                    .map(|&Range { first, count }| blksnap_sectors { first, count })
                    .collect();
                self.manager().mark_dirty(device, &sectors)?;
                self.print(json!({ "device": device, "ranges": ranges.len() }), "")
            }
        }
    }
}

/// A run of blocks that last changed in one period.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Changed {
    first: u64,
    count: u64,
    number: u8,
}

/// What changed after the period `since`, in sectors; the last block may end with the device.
fn changed(map: &[u8], since: u8, tracking: &Tracking) -> Vec<Changed> {
    let block = u64::from(tracking.block_size) / SECTOR;
    let end = tracking.capacity / SECTOR;
    let mut ranges: Vec<Changed> = Vec::new();
    for (i, &number) in map.iter().enumerate() {
        let first = i as u64 * block;
        if number <= since || first >= end {
            continue;
        }
        let count = block.min(end - first);
        match ranges.last_mut() {
            Some(last) if last.number == number && last.first + last.count == first => {
                last.count += count;
            }
            _ => ranges.push(Changed {
                first,
                count,
                number,
            }),
        }
    }
    ranges
}

fn describe_statistics(statistics: &Statistics) -> String {
    let mut text = format!("{}\n", statistics.id);
    for (name, value) in &statistics.values {
        text += &format!("  {name} {value}\n");
    }
    for device in &statistics.devices {
        text += &format!("  device {}\n", device.device);
        for (name, value) in &device.values {
            text += &format!("    {name} {value}\n");
        }
    }
    text
}

fn describe(event: &Event) -> String {
    match event {
        Event::Corrupted { device, error, .. } => {
            format!("the image of device {device} is corrupted ({error})")
        }
        Event::NoSpace { requested, .. } => format!(
            "no space left in the difference storage ({} more needed)",
            human(*requested)
        ),
        Event::LowSpace { free, capacity, .. } => format!(
            "only {} of {} left in the difference storage, which cannot grow",
            human(*free),
            human(*capacity)
        ),
        Event::Unknown { code, .. } => format!("event {code}, which is newer than this program"),
    }
}

fn describe_device(info: &DeviceInfo) -> String {
    let mut text = format!("{}: ", info.device.display());
    text += match info.state {
        State::Unfiltered => "no filter",
        State::Attached => "filter attached, no image",
        State::Snapshot => "snapshot",
        State::Corrupted => "snapshot corrupted",
    };
    if let Some(error) = &info.error {
        text += &match info.state {
            State::Corrupted => format!(" ({error})"),
            _ => format!(", the last one was lost ({error})"),
        };
    }
    if let Some(image) = &info.image {
        text += &format!(", image {}", image.display());
    }
    if let Some(tracking) = &info.tracking {
        text += &format!(
            ", change number {} in blocks of {}",
            tracking.change_number,
            human(tracking.block_size.into())
        );
    }
    text + "\n"
}

/// Prints a failure the way the rest of the output is printed.
pub fn report(failure: &Failure, json: bool, err: &mut dyn Write) {
    // Nothing can be done about a standard error that is closed.
    let _ = if json {
        let value = json!({ "error": failure, "exit_code": failure.exit_code() });
        writeln!(err, "{value:#}")
    } else {
        let red = AnsiColor::Red.on_default().bold();
        let cyan = AnsiColor::Cyan.on_default().bold();
        let code = failure
            .errno
            .as_ref()
            .map_or(String::new(), |e| format!(" ({e})"));
        writeln!(err, "{red}error:{red:#} {failure}{code}").and_then(|()| match &failure.hint {
            Some(hint) => writeln!(err, "{cyan}hint:{cyan:#} {hint}"),
            None => Ok(()),
        })
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::{ID, Mock};
    use blksnap_uapi::blksnap_event;
    use rustix::io::Errno;
    use zerocopy::FromZeros;

    struct Bench {
        mock: Mock,
        registry: Registry,
        _dir: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Bench {
                mock: Mock::default(),
                registry: Registry::new(dir.path()),
                _dir: dir,
            }
        }

        /// What a command prints, or its failure as the user sees it.
        fn run(&self, line: &str) -> String {
            let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut env = Env {
                kernel: &self.mock,
                registry: &self.registry,
                out: &mut out,
                err: &mut err,
                stop: &|| false,
                terminal: false,
            };
            if let Err(failure) = run(&cli, &mut env) {
                report(&failure, cli.json, &mut err);
                err.extend_from_slice(format!("exit {}\n", failure.exit_code()).as_bytes());
            }
            out.extend_from_slice(&err);
            anstream::adapter::strip_str(&String::from_utf8(out).unwrap()).to_string()
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help() {
        let mut text = String::new();
        let mut command = Cli::command().term_width(100);
        text += &command.render_long_help().to_string();
        fn all(command: &mut clap::Command, text: &mut String) {
            let names: Vec<_> = command
                .get_subcommands()
                .map(|sub| sub.get_name().to_owned())
                .collect();
            for name in names {
                let sub = command.find_subcommand_mut(&name).unwrap();
                *text += &format!("\n==== {name} ====\n{}", sub.render_long_help());
                all(sub, text);
            }
        }
        command.build();
        all(&mut command, &mut text);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn every_verb_has_an_example() {
        fn check(command: &clap::Command) {
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                let leaf = sub.get_subcommands().next().is_none();
                let examples = sub.get_after_help().map(|text| text.to_string());
                assert!(
                    !leaf || examples.is_some_and(|text| text.contains("Examples:")),
                    "{}",
                    sub.get_name()
                );
                check(sub);
            }
        }
        check(&Cli::command());
    }

    #[test]
    fn output_for_people_and_machines() {
        let mut text = String::new();
        for json in ["", " --json"] {
            let bench = Bench::new();
            let mut step = |line: &str| {
                text += &format!("$ {line}{json}\n{}", bench.run(&format!("{line}{json}")));
            };
            step("blksnap version");
            step("blksnap list");
            step("blksnap info");
            step("blksnap attach /dev/b");
            step("blksnap attach /dev/b");
            step("blksnap snapshot --storage /mnt/diff --limit 1G /dev/a /dev/b");
            step("blksnap list");
            step("blksnap image /dev/a");
            bench.mock.corrupt("/dev/b".as_ref(), -28);
            step("blksnap info");
            step("blksnap cbt info /dev/a");
            step("blksnap cbt dirty /dev/a 0+8 4096+1");
            step("blksnap stats");
            step("blksnap top");
            step(&format!("blksnap storage append {ID} /mnt/more"));
            let mut event = blksnap_event::new_zeroed();
            event.code = 1;
            event.data[0] = 64;
            bench.mock.set_event(event);
            step(&format!("blksnap events wait {ID} --timeout 1s"));
            step(&format!("blksnap events wait {ID} --timeout 0s"));
            step("blksnap destroy --all");
            step(&format!("blksnap destroy {ID}"));
            step(&format!("blksnap events wait {ID} --timeout 0s"));
            step(&format!("blksnap events follow {ID}"));
            step(&format!("blksnap stats {ID}"));
            step(&format!("blksnap storage append {ID} /mnt/more"));
            step("blksnap detach /dev/a /dev/b");
            step("blksnap info /dev/a");
            step("blksnap image /dev/a");
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn steps_one_by_one_are_remembered() {
        let bench = Bench::new();
        let out = bench.run("blksnap create --storage /mnt/diff --limit 1M");
        assert_eq!(out, format!("{ID}\n"));
        assert_eq!(bench.run(&format!("blksnap add {ID} /dev/a")), "");
        assert_eq!(bench.run(&format!("blksnap take {ID}")), "");
        assert_eq!(
            bench.run("blksnap list"),
            format!("{ID}  /mnt/diff (up to 1 MiB)  /dev/a\n")
        );
        assert_eq!(bench.run(&format!("blksnap destroy {ID}")), "");
        assert_eq!(bench.run("blksnap list"), "");
        assert_eq!(bench.registry.load(ID), None);
    }

    #[test]
    fn one_snapshot_in_use_does_not_keep_the_others() {
        let bench = Bench::new();
        bench.run("blksnap create --storage /a --limit 1M");
        bench.run("blksnap create --storage /b --limit 1M");
        bench.mock.fail_once("destroy", Errno::BUSY);
        let out = bench.run("blksnap destroy --all");
        assert!(out.contains("an image is in use"), "{out}");
        assert!(out.ends_with("exit 4\n"), "{out}");
        assert_eq!(bench.mock.snapshots(), [ID]);
    }

    #[test]
    fn a_record_that_cannot_be_kept_is_a_warning() {
        let mut bench = Bench::new();
        bench.registry = Registry::new("/dev/null/nowhere");
        let out = bench.run("blksnap create --storage /a --limit 1M");
        assert!(out.starts_with(&format!("{ID}\nwarning: ")), "{out}");
        assert!(!out.contains("exit"), "{out}");
    }

    #[test]
    fn the_map_goes_to_a_file() {
        let bench = Bench::new();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("map");
        bench.run("blksnap attach /dev/a");
        let line = format!("blksnap cbt map /dev/a --output {}", path.display());
        assert_eq!(bench.run(&line), "");
        assert_eq!(std::fs::read(path).unwrap(), bench.mock.map());
    }

    #[test]
    fn changed_blocks_become_ranges() {
        let tracking = Tracking {
            capacity: 5 * 65536 - 4096,
            block_size: 65536,
            block_count: 5,
            generation: ID,
            change_number: 3,
        };
        let range = |first, count, number| Changed {
            first,
            count,
            number,
        };
        let map = [1, 1, 0, 2, 2];
        assert_eq!(
            changed(&map, 0, &tracking),
            [range(0, 256, 1), range(384, 248, 2)]
        );
        assert_eq!(changed(&map, 1, &tracking), [range(384, 248, 2)]);
        assert_eq!(changed(&map, 2, &tracking), []);
        // Longer than the device: what is not there has not changed.
        assert_eq!(changed(&[0, 0, 0, 0, 0, 9], 0, &tracking), []);
    }

    #[test]
    fn events_are_followed_line_by_line() {
        let bench = Bench::new();
        bench.run("blksnap create --storage /a --limit 1M");
        let mut event = blksnap_event::new_zeroed();
        event.code = 2;
        event.data[0] = 8;
        event.data[8] = 64;
        bench.mock.set_event(event);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let asked = std::cell::Cell::new(0);
        let cli = Cli::try_parse_from(["blksnap", "events", "follow", "--json"]).unwrap();
        let mut env = Env {
            kernel: &bench.mock,
            registry: &bench.registry,
            out: &mut out,
            err: &mut err,
            stop: &|| asked.replace(asked.get() + 1) > 1,
            terminal: false,
        };
        run(&cli, &mut env).unwrap();
        let lines = String::from_utf8(out).unwrap();
        assert_eq!(lines.lines().count(), 1);
        let event: serde_json::Value = serde_json::from_str(&lines).unwrap();
        assert_eq!(event["id"], ID.to_string());
        assert_eq!(event["event"], "low-space");
        assert_eq!(event["free"], 4096);
    }

    #[test]
    fn the_live_view_gives_the_terminal_back() {
        let bench = Bench::new();
        bench.run("blksnap create --storage /a --limit 1M");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let asked = std::cell::Cell::new(0);
        let cli = Cli::try_parse_from(["blksnap", "top", "--interval", "100ms"]).unwrap();
        let mut env = Env {
            kernel: &bench.mock,
            registry: &bench.registry,
            out: &mut out,
            err: &mut err,
            stop: &|| asked.replace(asked.get() + 1) > 4,
            terminal: true,
        };
        run(&cli, &mut env).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(&ID.to_string()));
        assert!(text.ends_with("\x1b[?1049l"));
        assert!(Cli::try_parse_from(["blksnap", "top", "--interval", "1ms"]).is_err());
    }

    #[test]
    fn sizes_and_ranges() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!(size("4GiB"), Ok(4 << 30));
        assert!(size("0").is_err());
        assert!(size("many").is_err());
        assert!(range("8+1").is_ok());
        for bad in ["8", "8+0", "+", "a+b", "18446744073709551615+1", "-1+2"] {
            assert!(range(bad).is_err(), "{bad}");
        }
        assert_eq!(human(0), "0 B");
        assert_eq!(human(1536), "1.5 KiB");
        assert_eq!(human(4 << 30), "4 GiB");
    }

    #[test]
    fn completions_and_manual_pages_are_made() {
        let bench = Bench::new();
        for shell in ["bash", "zsh", "fish"] {
            let script = bench.run(&format!("blksnap completions {shell}"));
            assert!(script.contains("snapshot"), "{shell}");
        }
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            bench.run(&format!("blksnap man {}", dir.path().display())),
            ""
        );
        let page = std::fs::read_to_string(dir.path().join("blksnap-snapshot.1")).unwrap();
        assert!(page.contains("storage"));
    }
}
