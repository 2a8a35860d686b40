// SPDX-License-Identifier: GPL-2.0

//! The command line.

use crate::error::{EXIT_STATUS, Failure, Kind};
use crate::json::Shown;
use crate::kernel::Kernel;
use crate::man;
use crate::manager::{DeviceInfo, Event, Manager, Name, SECTOR, Snapshot, State, Stop, Tracking};
use crate::registry::{Record, Registry};
use crate::stats::Statistics;
use crate::storage;
use crate::top;
use blksnap_uapi::blksnap_sectors;
use clap::builder::styling::{AnsiColor, Styles};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use serde::Serialize;
use serde_json::json;
use std::ffi::OsString;
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
/// Creates, shows and destroys snapshots of block devices through the blksnap
/// driver. What is overwritten while a snapshot is held is copied to its
/// difference storage first: a block device, or a file, which may lie on the
/// very filesystem that is being snapshotted.
#[derive(Debug, Parser)]
#[command(
    name = "blksnap",
    version,
    styles = STYLES,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = after_help(),
    after_long_help = after_long_help()
)]
pub struct Cli {
    /// Print JSON, and errors as JSON too; sizes are in bytes
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

fn after_help() -> String {
    "Examples:
  blksnap storage create /mnt/data/diff --size 1G
  blksnap snapshot --storage /mnt/data/diff /dev/sdb1
  mount -o ro \"$(blksnap image /dev/sdb1)\" /mnt/before
  blksnap destroy --all"
        .into()
}

fn after_long_help() -> String {
    let mut text = after_help();
    text += "

Notes:
  The first digits of a snapshot's id will do wherever an id is asked for, as long as no other
  snapshot's id begins with them.

  Where several devices or snapshots are named, one that fails does not keep the others from
  being dealt with. Each failure is reported, and the exit status is that of the first.
  `snapshot` is the exception: it does all or nothing.

JSON:
  With --json the result goes to standard output as one JSON value, and each error or warning
  goes to standard error as an object on a line of its own. All sizes are in bytes, except for
  the ranges of `cbt`, which are in sectors of 512 bytes. In a path, what is not UTF-8 is
  replaced.

Exit status:
    0  done
";
    for (kind, meaning) in EXIT_STATUS {
        text += &format!("  {:>3}  {meaning}\n", *kind as u8);
    }
    text += "
Environment:
  BLKSNAP_STATE_DIR  directory to use in place of /run/blksnap
  NO_COLOR           if set, errors are printed without colours

Files:
  /run/blksnap                which storage and devices snapshots were created with
  /dev/blksnap-control        the driver's control device
  /dev/blksnap-MAJOR-MINOR    image of the device with that number
  /sys/kernel/debug/blksnap   statistics of the snapshots, in debugfs

Manual pages and completions:
  blksnap man /usr/local/share/man/man1
  blksnap completions bash > /etc/bash_completion.d/blksnap";
    text
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Print the driver's version
    #[command(after_help = "Examples:\n  blksnap version\n  blksnap version --json")]
    Version,

    /// Attach the filter to devices, which starts change tracking
    ///
    /// If this fails for one device, the others are still dealt with; the exit
    /// status is that of the first failure.
    #[command(after_help = "Examples:\n  blksnap attach /dev/sdb1 /dev/sdc")]
    Attach(Devices),

    /// Detach the filter from devices, which ends change tracking
    ///
    /// If this fails for one device, the others are still dealt with; the exit
    /// status is that of the first failure.
    #[command(after_help = "Examples:\n  blksnap detach /dev/sdb1")]
    Detach(Devices),

    /// Create a snapshot without devices and print its id
    ///
    /// If the id cannot be printed, or on Ctrl-C, there is no snapshot.
    #[command(
        after_help = "Examples:\n  id=$(blksnap create --storage /mnt/data/diff --limit 4G)\n  blksnap add \"$id\" /dev/sdb1\n  blksnap take \"$id\""
    )]
    Create(Storage),

    /// Add devices to a snapshot that has not been taken
    ///
    /// If this fails for one device, the others are still dealt with; the exit
    /// status is that of the first failure.
    #[command(after_help = "Examples:\n  blksnap add \"$id\" /dev/sdb1 /dev/sdc1")]
    Add {
        /// Snapshot, as `create` printed it
        id: Name,
        /// Devices; the filter is attached where it is missing
        #[arg(required = true, value_name = "DEVICE")]
        devices: Vec<PathBuf>,
    },

    /// Take a snapshot of all devices added to it, at one moment
    #[command(after_help = "Examples:\n  blksnap take \"$id\"")]
    Take {
        /// Snapshot, as `create` printed it
        id: Name,
    },

    /// Create and take a snapshot of devices in one go
    ///
    /// Does what create, attach, add and take do. If any part fails, if the
    /// result cannot be printed, or on Ctrl-C, everything is as it was before.
    #[command(
        after_help = "Examples:\n  blksnap snapshot --storage /mnt/data/diff /dev/sdb1\n  blksnap snapshot --storage /mnt/data/diff --limit 4G /dev/sdb1 /dev/sdc1 --json\n  id=$(blksnap snapshot --quiet --storage /mnt/data/diff /dev/sdb1)"
    )]
    Snapshot {
        #[command(flatten)]
        storage: Storage,
        /// Print nothing but the id of the snapshot
        #[arg(long, short)]
        quiet: bool,
        /// Devices
        #[arg(required = true, value_name = "DEVICE")]
        devices: Vec<PathBuf>,
    },

    /// List the snapshots
    ///
    /// Shows how far the storage of each may grow, and which storage and
    /// devices it was created with, unless another program created it. Also
    /// called `collect`.
    #[command(
        visible_alias = "collect",
        after_help = "Examples:\n  blksnap list\n  blksnap list --json"
    )]
    List,

    /// Show the state of devices, by default of all that have the filter
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

    /// Destroy snapshots and their images; the filter stays on the devices
    ///
    /// If this fails for one snapshot, the others are still dealt with; the exit
    /// status is that of the first failure.
    #[command(after_help = "Examples:\n  blksnap destroy \"$id\"\n  blksnap destroy --all")]
    Destroy {
        /// Snapshots
        #[arg(required_unless_present = "all", value_name = "ID")]
        ids: Vec<Name>,
        /// Destroy all snapshots, including those of other programs
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },

    /// Report what happens to snapshots: images lost, storage full or nearly full
    ///
    /// Reading an event consumes it: each is told once, to one of those who
    /// wait for it. The driver keeps the last 128 of a snapshot. With --json,
    /// `time` is when the event happened, in nanoseconds of the monotonic clock
    /// (CLOCK_MONOTONIC), which begins at boot and stands still in suspend.
    #[command(subcommand)]
    Events(EventsVerb),

    /// Show what snapshots are doing, by default all of them
    ///
    /// The names are those of the driver's documentation. With --json all sizes
    /// are in bytes, those of the storage too.
    #[command(after_help = "Examples:\n  blksnap stats\n  blksnap stats \"$id\" --json")]
    Stats {
        /// Snapshots
        #[arg(value_name = "ID")]
        ids: Vec<Name>,
    },

    /// Watch what the snapshots are doing, until Ctrl-C
    #[command(after_help = "Examples:\n  blksnap top\n  blksnap top --interval 500ms")]
    Top {
        /// Time between two updates, such as 500ms, 2s or 2
        #[arg(long, value_parser = interval, default_value = "1s")]
        interval: Duration,
    },

    /// Prepare or check difference storage, or give more of it to a snapshot
    #[command(subcommand)]
    Storage(StorageVerb),

    /// Read the change map of a device, or mark blocks as changed
    ///
    /// Also called `tracking`.
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

    /// Write the manual pages to a directory
    #[command(after_help = "Examples:\n  blksnap man /usr/local/share/man/man1")]
    Man {
        /// Directory, which has to exist
        dir: PathBuf,
    },
}

impl Verb {
    /// Whether a signal only asks this verb to end: because it then undoes what it has begun, or
    /// ends in order what goes on until it is stopped. Any other has nothing to tidy up, and just
    /// ends.
    pub fn ends_in_order(&self) -> bool {
        match self {
            Verb::Create(_) | Verb::Add { .. } | Verb::Snapshot { .. } => true,
            Verb::Events(EventsVerb::Wait { .. } | EventsVerb::Follow { .. }) => true,
            Verb::Top { .. } => true,
            Verb::Storage(StorageVerb::Create { .. }) => true,
            Verb::Storage(StorageVerb::Append { .. } | StorageVerb::Check { .. }) => false,
            Verb::Version | Verb::Attach(_) | Verb::Detach(_) | Verb::Take { .. } => false,
            Verb::List | Verb::Info { .. } | Verb::Image { .. } | Verb::Destroy { .. } => false,
            Verb::Stats { .. } | Verb::Cbt(_) | Verb::Completions { .. } | Verb::Man { .. } => {
                false
            }
        }
    }
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
    /// File or block device to copy overwritten data to; what it contains is lost
    #[arg(long, value_name = "FILE")]
    pub storage: PathBuf,
    /// How far the file may grow, such as 512M or 4G; by default its present size
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub limit: Option<u64>,
    /// Use the file even if it contains data, which is lost
    #[arg(long)]
    pub overwrite: bool,
}

/// What to do with a file.
#[derive(Debug, Subcommand)]
pub enum StorageVerb {
    /// Create a file with all its blocks allocated and none written
    #[command(after_help = "Examples:\n  blksnap storage create /mnt/data/diff --size 1G")]
    Create {
        /// File, which must not exist
        file: PathBuf,
        /// Size, such as 512M or 4G
        #[arg(long, value_parser = size)]
        size: u64,
    },
    /// Add another file or block device to the storage of a snapshot
    #[command(after_help = "Examples:\n  blksnap storage append \"$id\" /mnt/data/more")]
    Append {
        /// Snapshot, taken or not
        id: Name,
        /// File or block device, used at its present size; what it contains is lost
        file: PathBuf,
        /// Use the file even if it contains data, which is lost
        #[arg(long)]
        overwrite: bool,
    },
    /// Check whether a file can be difference storage
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
    ///
    /// The event is consumed: nobody else is told of it.
    #[command(
        after_help = "Examples:\n  blksnap events wait \"$id\"\n  blksnap events wait \"$id\" --timeout 90s"
    )]
    Wait {
        /// Snapshot
        id: Name,
        /// How long to wait, such as 500ms, 90s, 2h or 90 (seconds); by default without end
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Print what happens to snapshots, by default all of them, until Ctrl-C
    ///
    /// With --json each event is an object on a line of its own. Ends by itself
    /// when none of the named snapshots is left. The events are consumed: nobody
    /// else is told of them.
    #[command(
        after_help = "Examples:\n  blksnap events follow\n  blksnap events follow \"$id\" --json"
    )]
    Follow {
        /// Snapshots
        #[arg(value_name = "ID")]
        ids: Vec<Name>,
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
        /// Only what changed after the period with this number, as `info` showed it then
        #[arg(
            long,
            value_name = "NUMBER",
            default_value_t = 0,
            conflicts_with = "output"
        )]
        since: u8,
        /// File to write the whole map to, one byte per block; `-` is standard output
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
        .map_err(|e| format!("{e}; write a number, followed by K, M, G or T if need be"))?;
    match size {
        0 => Err("the size must not be 0".into()),
        _ => Ok(size),
    }
}

/// A number without a unit is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).map_err(|e| e.to_string()),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    match interval < Duration::from_millis(100) {
        true => Err("an interval below 100ms would keep the machine busy".into()),
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

/// A snapshot in the list, with what is known about it.
#[derive(Serialize)]
struct ListEntry {
    id: Uuid,
    #[serde(flatten)]
    record: Option<Record>,
    /// Of a snapshot without a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

impl ListEntry {
    /// `told` is what the driver tells of the limit; that of the record is what was asked for.
    fn new(id: Uuid, record: Option<Record>, told: Option<u64>) -> Self {
        match record {
            Some(mut record) => {
                record.limit = told.unwrap_or(record.limit);
                ListEntry {
                    id,
                    record: Some(record),
                    limit: None,
                }
            }
            None => ListEntry {
                id,
                record: None,
                limit: told,
            },
        }
    }
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

/// Refuses a file with data unless the user has allowed to overwrite it.
fn guard(file: &Path, overwrite: bool) -> Result<(), Failure> {
    match overwrite {
        true => Ok(()),
        false => storage::refuse_data(file),
    }
}

/// Both have been tried: what failed first comes first.
fn both(first: Result<(), Failure>, second: Result<(), Failure>) -> Result<(), Failure> {
    match (first, second) {
        (Err(first), Err(second)) => Err(first.and(second)),
        (first, second) => first.and(second),
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

impl<'a> Run<'_, 'a> {
    fn manager(&self) -> Manager<'a> {
        Manager::new(self.env.kernel, self.env.stop)
    }

    /// Prints one of the two, and finds out whether that was possible.
    fn print(&mut self, value: impl Serialize, text: &str) -> Result<(), Failure> {
        if self.json {
            let line = serde_json::to_string_pretty(&value).map_err(std::io::Error::from)?;
            writeln!(self.env.out, "{line}")?;
        } else if !text.is_empty() {
            writeln!(self.env.out, "{}", text.trim_end())?;
        }
        Ok(self.env.out.flush()?)
    }

    /// The record serves the listing only, so that failing to keep it is not a failure.
    fn note(&mut self, result: std::io::Result<()>) {
        if let Err(e) = result {
            let text = format!("`blksnap list` will not show everything: {e}");
            warn(&text, self.json, self.env.err);
        }
    }

    /// Does something to each of several things. One that fails does not keep the others from being
    /// dealt with; only an interrupt does. Returns what has come of it, and what failed.
    fn each<T, R>(
        &mut self,
        things: &[T],
        mut act: impl FnMut(&mut Self, &T) -> Result<R, Failure>,
    ) -> (Vec<R>, Result<(), Failure>) {
        let mut done = Vec::new();
        let mut failed = Ok(());
        for thing in things {
            match act(self, thing) {
                Ok(result) => done.push(result),
                Err(failure) => {
                    let interrupted = failure.kind == Kind::Interrupted;
                    failed = both(failed, Err(failure));
                    if interrupted {
                        break;
                    }
                }
            }
        }
        (done, failed)
    }

    /// The snapshots of these names. To be called before anything is done to one of them: after
    /// that, a name might mean another one.
    fn resolve(&mut self, names: &[Name]) -> (Vec<Uuid>, Result<(), Failure>) {
        self.each(names, |run, name| run.manager().resolve(name))
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
            Verb::Detach(Devices { devices }) => self.detach(devices),
            Verb::Create(storage) => self.create(storage),
            Verb::Add { id, devices } => self.add(id, devices),
            Verb::Take { id } => {
                let id = self.manager().resolve(id)?;
                self.manager().take(id)?;
                self.print(json!({ "id": id }), "")
            }
            Verb::Snapshot {
                storage,
                quiet,
                devices,
            } => self.snapshot(storage, devices, *quiet),
            Verb::List => self.list(),
            Verb::Info { devices } => self.info(devices),
            Verb::Image { device } => {
                let image = self.manager().image(device)?;
                self.print(
                    json!({ "device": Shown(device), "image": Shown(&image) }),
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
                self.write(&script)
            }
            Verb::Man { dir } => man::generate_to(Cli::command(), dir).map_err(|e| {
                Failure::new(
                    Kind::Other,
                    format!("cannot write the manual pages to {}: {e}", dir.display()),
                )
            }),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.env.out.write_all(bytes)?;
        Ok(self.env.out.flush()?)
    }

    fn attach(&mut self, devices: &[PathBuf]) -> Result<(), Failure> {
        let mut text = String::new();
        let (entries, failed) = self.each(devices, |run, device| {
            let new = run.manager().attach(device)?;
            if !new {
                text += &format!("the filter is already attached to {}\n", device.display());
            }
            Ok(json!({ "device": Shown(device), "attached_before": !new }))
        });
        let printed = self.print(json!({ "devices": entries }), &text);
        both(failed, printed)
    }

    fn detach(&mut self, devices: &[PathBuf]) -> Result<(), Failure> {
        let (entries, failed) = self.each(devices, |run, device| {
            run.manager().detach(device)?;
            Ok(json!(Shown(device)))
        });
        let printed = self.print(json!({ "detached": entries }), "");
        both(failed, printed)
    }

    fn create(&mut self, storage: &Storage) -> Result<(), Failure> {
        guard(&storage.storage, storage.overwrite)?;
        let limit = limit(storage)?;
        self.manager()
            .create_and(&storage.storage, limit, &mut |id| {
                self.remember(id, storage, limit, &[]);
                let printed = self.print(json!({ "id": id }), &id.to_string());
                self.or_forget(id, printed)
            })
    }

    fn add(&mut self, id: &Name, devices: &[PathBuf]) -> Result<(), Failure> {
        let id = self.manager().resolve(id)?;
        let (entries, failed) = self.each(devices, |run, device| {
            if (run.env.stop)() {
                let text = format!("interrupted; {} has not been added", device.display());
                return Err(Failure::new(Kind::Interrupted, text));
            }
            let attached = run.manager().add(device, id)?;
            let noted = run.env.registry.add_device(id, &absolute(device));
            run.note(noted);
            Ok(json!({ "device": Shown(device), "attached": attached }))
        });
        let printed = self.print(json!({ "id": id, "devices": entries }), "");
        both(failed, printed)
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

    /// A snapshot that could not be told of is undone, so that there is nothing to remember.
    fn or_forget(&mut self, id: Uuid, printed: Result<(), Failure>) -> Result<(), Failure> {
        if printed.is_err() {
            let noted = self.env.registry.forget(id);
            self.note(noted);
        }
        printed
    }

    fn snapshot(
        &mut self,
        storage: &Storage,
        devices: &[PathBuf],
        quiet: bool,
    ) -> Result<(), Failure> {
        guard(&storage.storage, storage.overwrite)?;
        let limit = limit(storage)?;
        let manager = self.manager();
        let tell = &mut |snapshot: &Snapshot| {
            self.remember(snapshot.id, storage, limit, devices);
            let text = match quiet {
                true => snapshot.id.to_string(),
                false => describe_snapshot(snapshot),
            };
            let printed = self.print(snapshot, &text);
            self.or_forget(snapshot.id, printed)
        };
        manager.snapshot_and(devices, &storage.storage, limit, tell)?;
        Ok(())
    }

    fn list(&mut self) -> Result<(), Failure> {
        let manager = self.manager();
        let ids = self.env.registry.tidy(|| manager.list())?;
        let snapshots: Vec<_> = ids
            .into_iter()
            .map(|id| {
                let told = manager.statistics(id).ok().and_then(|s| s.limit());
                ListEntry::new(id, self.env.registry.load(id), told)
            })
            .collect();
        let text: String = snapshots.iter().map(describe_entry).collect();
        self.print(json!({ "snapshots": snapshots }), &text)
    }

    fn info(&mut self, devices: &[PathBuf]) -> Result<(), Failure> {
        let (infos, failed) = if devices.is_empty() {
            let all = self.manager().info_all()?;
            self.each(&all, |_, info| info.clone())
        } else {
            self.each(devices, |run, device| run.manager().info(device))
        };
        let text: String = infos.iter().map(describe_device).collect();
        let printed = self.print(json!({ "devices": infos }), &text);
        both(failed, printed)
    }

    fn destroy(&mut self, names: &[Name], all: bool) -> Result<(), Failure> {
        let (ids, unknown) = match all {
            true => (self.manager().list()?, Ok(())),
            false => self.resolve(names),
        };
        let (destroyed, failed) = self.each(&ids, |run, &id| {
            run.manager().destroy(id)?;
            let noted = run.env.registry.forget(id);
            run.note(noted);
            Ok(id)
        });
        let printed = self.print(json!({ "destroyed": destroyed }), "");
        both(both(unknown, failed), printed)
    }

    fn events(&mut self, verb: &EventsVerb) -> Result<(), Failure> {
        let manager = self.manager();
        let names = match verb {
            EventsVerb::Wait { id, timeout } => {
                let event = manager.wait(manager.resolve(id)?, *timeout)?;
                let text = describe(&event);
                return self.print(event, &text);
            }
            EventsVerb::Follow { ids } => ids,
        };
        let (ids, unknown) = self.resolve(names);
        unknown?;
        let (json, out) = (self.json, &mut *self.env.out);
        manager.follow(&ids, &mut |id, event| {
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

    fn stats(&mut self, names: &[Name]) -> Result<(), Failure> {
        let (all, failed) = match names.is_empty() {
            true => (self.manager().all_statistics()?, Ok(())),
            false => self.each(names, |run, name| {
                let manager = run.manager();
                manager.statistics(manager.resolve(name)?)
            }),
        };
        let text: String = all.iter().map(describe_statistics).collect();
        let printed = self.print(json!({ "snapshots": all }), &text);
        both(failed, printed)
    }

    fn top(&mut self, interval: Duration) -> Result<(), Failure> {
        if self.json || !self.env.terminal {
            return Err(Failure::new(Kind::Usage, "the live view needs a terminal")
                .hint("`blksnap stats --json` prints the numbers for programs"));
        }
        let manager = self.manager();
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
        match verb {
            StorageVerb::Append {
                id,
                file,
                overwrite,
            } => {
                let id = self.manager().resolve(id)?;
                guard(file, *overwrite)?;
                self.manager().append(id, file)?;
                self.print(json!({ "id": id, "appended": Shown(file) }), "")
            }
            StorageVerb::Create { file, size } => {
                let report = storage::create(file, *size, self.env.stop)?;
                let printed = self.print(&report, &describe_report("created", &report));
                // As it is with snapshots: either it is there and told of, or it is not there.
                if printed.is_err() {
                    storage::remove(file);
                }
                printed
            }
            StorageVerb::Check { file } => {
                let report = storage::check(file)?;
                self.print(&report, &describe_report("suitable", &report))
            }
        }
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
                    json!({ "device": Shown(device), "generation": t.generation,
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
                if output == "-" {
                    return self.write(&map);
                }
                std::fs::write(output, &map).map_err(|e| {
                    Failure::new(
                        Kind::Other,
                        format!("cannot write {}: {e}", output.display()),
                    )
                })?;
                self.print(
                    json!({ "device": Shown(device), "output": Shown(output),
                            "blocks": map.len() }),
                    "",
                )
            }
            TrackingVerb::Dirty { device, ranges } => {
                let sectors: Vec<_> = ranges
                    .iter()
                    .map(|&Range { first, count }| blksnap_sectors { first, count })
                    .collect();
                self.manager().mark_dirty(device, &sectors)?;
                self.print(
                    json!({ "device": Shown(device), "ranges": ranges.len() }),
                    "",
                )
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

fn describe_snapshot(snapshot: &Snapshot) -> String {
    let mut text = format!("{}\n", snapshot.id);
    for added in &snapshot.devices {
        text += &format!("{} -> {}\n", added.device.display(), added.image.display());
    }
    text
}

fn describe_entry(entry: &ListEntry) -> String {
    let mut text = entry.id.to_string();
    if let Some(record) = &entry.record {
        text += &format!(
            "  {} (up to {})",
            record.storage.display(),
            human(record.limit)
        );
        for device in &record.devices {
            text += &format!("  {}", device.display());
        }
    } else if let Some(limit) = entry.limit {
        text += &format!("  (up to {})", human(limit));
    }
    text + "\n"
}

fn describe_report(what: &str, report: &storage::Report) -> String {
    let text = format!("{what}: {}, {}", report.path.display(), human(report.size));
    match report.extents {
        0 => text,
        1 => text + " in 1 extent",
        n => text + &format!(" in {n} extents"),
    }
}

fn describe_statistics(statistics: &Statistics) -> String {
    let mut text = format!("{}\n", statistics.id);
    for (name, value) in &statistics.values {
        text += &format!("  {name} {}\n", value.human(name));
    }
    for device in &statistics.devices {
        text += &format!("  device {}\n", device.device);
        for (name, value) in &device.values {
            text += &format!("    {name} {}\n", value.human(name));
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

/// Prints a failure, and those that came after it, the way the rest of the output is printed.
pub fn report(failure: &Failure, json: bool, err: &mut dyn Write) {
    let all = std::iter::once(failure).chain(&failure.more);
    // Whoever closes the other end of a pipe knows. What had to be undone is something else.
    let worth_telling = |failure: &&Failure| failure.kind != Kind::Unread || failure.hint.is_some();
    for failure in all.filter(worth_telling) {
        // Nothing can be done about a standard error that is closed.
        let _ = report_one(failure, json, err);
    }
}

fn report_one(failure: &Failure, json: bool, err: &mut dyn Write) -> std::io::Result<()> {
    if json {
        let value = json!({ "error": failure, "exit_code": failure.exit_code() });
        return writeln!(err, "{value}");
    }
    let red = AnsiColor::Red.on_default().bold();
    let cyan = AnsiColor::Cyan.on_default().bold();
    let code = failure.errno.as_ref().map(|e| format!(" ({e})"));
    let code = code.unwrap_or_default();
    writeln!(err, "{red}error:{red:#} {failure}{code}")?;
    match &failure.hint {
        Some(hint) => writeln!(err, "{cyan}hint:{cyan:#} {hint}"),
        None => Ok(()),
    }
}

/// Prints what is not a failure the same way.
pub fn warn(text: &str, json: bool, err: &mut dyn Write) {
    // As above.
    let _ = match json {
        true => writeln!(err, "{}", json!({ "warning": text })),
        false => writeln!(err, "warning: {text}"),
    };
}

/// Whether errors are to be JSON, of a command line that could not be read.
pub fn wants_json(args: impl Iterator<Item = OsString>) -> bool {
    // What follows two dashes are names.
    args.take_while(|arg| arg != "--")
        .any(|arg| arg == "--json")
}

/// A mistake on the command line as a failure like any other.
pub fn usage_error(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    // The first paragraph says what is wrong, the others how it would be right.
    let first = text.split("\n\n").next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let message = match error.kind() {
        // That prints the help instead.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "a command or an argument is missing".into()
        }
        _ => first.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    Failure::new(Kind::Usage, message).hint("`--help` shows the usage")
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
            let mut out = Vec::new();
            let (err, code) = self.run_to(line.split_whitespace(), &mut out);
            let mut text = String::from_utf8(out).unwrap() + &err;
            if code != 0 {
                text += &format!("exit {code}\n");
            }
            text
        }

        /// What a command prints as errors, and its exit code.
        fn run_to<T: Into<OsString> + Clone>(
            &self,
            line: impl IntoIterator<Item = T>,
            out: &mut dyn Write,
        ) -> (String, u8) {
            let cli = Cli::try_parse_from(line).unwrap();
            let mut err = Vec::new();
            let mut env = Env {
                kernel: &self.mock,
                registry: &self.registry,
                out,
                err: &mut err,
                stop: &|| false,
                terminal: false,
            };
            let code = match run(&cli, &mut env) {
                Ok(()) => 0,
                Err(failure) => {
                    report(&failure, cli.json, &mut err);
                    failure.exit_code()
                }
            };
            let text = String::from_utf8(err).unwrap();
            let text = anstream::adapter::strip_str(&text).to_string();
            (text, code)
        }
    }

    /// Takes nothing.
    struct Full(std::io::ErrorKind);

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn words(line: &str) -> impl Iterator<Item = &str> {
        line.split_whitespace()
    }

    const CREATE: &str = "blksnap create --storage /mnt/diff --limit 1M";
    const SNAPSHOT: &str = "blksnap snapshot --storage /mnt/diff --limit 1M /dev/a";

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
            format!("{ID}  /mnt/diff (up to 2 MiB)  /dev/a\n")
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
        assert!(out.contains("by somebody else"), "{out}");
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
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("5s"), duration("5"));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("2"), Ok(Duration::from_secs(2)));
        assert!(duration("5 apples").is_err());
        assert!(duration("-5").is_err());
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

    #[test]
    fn what_can_be_undone_heeds_signals() {
        let heeds = |line: &str| {
            let cli = Cli::try_parse_from(words(line)).unwrap();
            cli.verb.ends_in_order()
        };
        assert!(heeds(SNAPSHOT));
        assert!(heeds(CREATE));
        assert!(heeds("blksnap add a /dev/a"));
        assert!(heeds("blksnap storage create f --size 1M"));
        assert!(heeds("blksnap events follow"));
        assert!(heeds("blksnap top"));
        assert!(!heeds("blksnap list"));
        assert!(!heeds("blksnap storage check f"));
    }

    #[test]
    fn what_cannot_be_printed_is_undone() {
        for kind in [
            std::io::ErrorKind::StorageFull,
            std::io::ErrorKind::BrokenPipe,
        ] {
            for line in [CREATE, SNAPSHOT] {
                let bench = Bench::new();
                let (err, code) = bench.run_to(words(line), &mut Full(kind));
                assert!(bench.mock.is_clean(), "{line}");
                assert_eq!(bench.registry.load(ID), None, "{line}");
                // Even if nobody reads it: something was done and undone.
                assert!(err.contains("cannot write the output"), "{err}");
                assert!(err.contains("has been undone"), "{err}");
                assert_ne!(code, 0);
            }
        }
    }

    #[test]
    fn a_file_that_cannot_be_told_of_is_not_left() {
        let bench = Bench::new();
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("file");
        let line = format!("blksnap storage create {} --size 64K", path.display());
        let full = &mut Full(std::io::ErrorKind::StorageFull);
        let (_, code) = bench.run_to(words(&line), full);
        // Some of the filesystems people build on are refused before that.
        assert!(code == 1 || code == 9);
        assert!(!path.exists());
    }

    #[test]
    fn nobody_hears_of_a_reader_that_has_gone() {
        let bench = Bench::new();
        bench.run("blksnap attach /dev/a");
        bench.run(CREATE);
        let mut event = blksnap_event::new_zeroed();
        event.code = 1;
        bench.mock.set_event(event);
        for line in [
            "blksnap list",
            "blksnap cbt map /dev/a",
            "blksnap completions bash",
            "blksnap events follow --json",
        ] {
            let closed = &mut Full(std::io::ErrorKind::BrokenPipe);
            let ended = bench.run_to(words(line), closed);
            assert_eq!(ended, (String::new(), 141), "{line}");
        }
        assert_eq!(bench.mock.snapshots(), [ID]);
    }

    #[test]
    fn one_device_that_fails_does_not_keep_the_others() {
        let bench = Bench::new();
        let [b, c] = ["/dev/b", "/dev/c"].map(Path::new);
        bench.mock.cannot_open(b, Errno::NOENT);
        bench.mock.cannot_open(c, Errno::ACCESS);
        let out = bench.run("blksnap attach /dev/b /dev/a /dev/c");
        assert_eq!(bench.mock.attached(), ["/dev/a"]);
        let at = |device: &str| out.find(&format!("attach the filter to {device}")).unwrap();
        assert!(at("/dev/b") < at("/dev/c"), "{out}");
        assert!(out.ends_with("exit 3\n"), "{out}");

        bench.run(CREATE);
        let out = bench.run(&format!("blksnap add {ID} /dev/b /dev/a /dev/d"));
        assert_eq!(out.matches("error: ").count(), 1, "{out}");
        assert_eq!(bench.mock.attached(), ["/dev/a", "/dev/d"]);
        let devices = bench.registry.load(ID).unwrap().devices;
        assert_eq!(devices, ["/dev/a", "/dev/d"].map(PathBuf::from));
        bench.run(&format!("blksnap destroy {ID}"));

        let out = bench.run("blksnap detach /dev/x /dev/a /dev/d");
        assert!(out.contains("from /dev/x: no filter"), "{out}");
        assert!(bench.mock.attached().is_empty());

        let out = bench.run("blksnap info /dev/b /dev/a");
        assert!(out.starts_with("/dev/a: no filter\n"), "{out}");
        assert!(out.ends_with("exit 3\n"), "{out}");
    }

    #[test]
    fn an_interrupt_leaves_the_devices_that_come_later() {
        let bench = Bench::new();
        bench.run(CREATE);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let asked = std::cell::Cell::new(0);
        let line = format!("blksnap add {ID} /dev/a /dev/b /dev/c");
        let cli = Cli::try_parse_from(words(&line)).unwrap();
        let mut env = Env {
            kernel: &bench.mock,
            registry: &bench.registry,
            out: &mut out,
            err: &mut err,
            stop: &|| asked.replace(asked.get() + 1) > 0,
            terminal: false,
        };
        let failure = run(&cli, &mut env).unwrap_err();
        assert_eq!(failure.kind, Kind::Interrupted);
        assert!(failure.message.contains("/dev/b"), "{failure}");
        assert!(failure.more.is_empty());
        assert_eq!(bench.mock.attached(), ["/dev/a"]);
    }

    #[test]
    fn each_error_is_a_line_of_json() {
        let bench = Bench::new();
        let line = format!("blksnap destroy {ID} {} --json", Uuid::nil());
        let (err, code) = bench.run_to(words(&line), &mut Vec::new());
        assert_eq!((err.lines().count(), code), (2, 3));
        for line in err.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["error"]["errno"], "ESRCH");
        }

        let mut bench = Bench::new();
        bench.registry = Registry::new("/dev/null/nowhere");
        let line = format!("{CREATE} --json");
        let (err, _) = bench.run_to(words(&line), &mut Vec::new());
        let value: serde_json::Value = serde_json::from_str(&err).unwrap();
        assert!(value["warning"].is_string(), "{err}");
    }

    #[test]
    fn mistakes_on_the_command_line_are_json_too() {
        let failure = |line: &str| {
            let error = Cli::try_parse_from(words(line)).unwrap_err();
            assert!(error.use_stderr());
            usage_error(&error)
        };
        let missing = failure("blksnap destroy --json");
        assert_eq!(missing.kind, Kind::Usage);
        let message = missing.message.as_str();
        assert!(message.contains("not provided: <ID>..."), "{message}");
        let bad = failure("blksnap take xyz --json").message;
        assert!(bad.contains("not the id of a snapshot"), "{bad}");
        assert!(!bad.contains('\n') && !bad.starts_with("error"), "{bad}");
        let none = failure("blksnap --json events").message;
        assert!(none.contains("missing"), "{none}");

        let args = |line: &str| wants_json(words(line).map(OsString::from));
        assert!(args("blksnap destroy --json"));
        assert!(!args("blksnap destroy"));
        assert!(!args("blksnap info -- --json"));
    }

    #[test]
    fn a_name_that_is_not_unicode_is_shown_in_json() {
        use std::os::unix::ffi::OsStrExt;
        let odd = |text: &[u8]| std::ffi::OsStr::from_bytes(text).to_owned();
        let bench = Bench::new();
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let file = dir.path().join(odd(b"\xff"));
        let device = odd(b"/dev/\xff");
        let lines: &[&[OsString]] = &[
            &[
                "storage".into(),
                "create".into(),
                "--size=64K".into(),
                file.into(),
            ],
            &["attach".into(), device.clone()],
            &["info".into(), device.clone()],
            &["detach".into(), device.clone()],
            &[
                "snapshot".into(),
                "--limit=1M".into(),
                "--storage".into(),
                odd(b"/\xff"),
                device,
            ],
            &["list".into()],
        ];
        for line in lines {
            let line = [&["blksnap".into()], *line, &["--json".into()]].concat();
            let mut out = Vec::new();
            let (err, code) = bench.run_to(line.clone(), &mut out);
            // Some of the filesystems people build on cannot have storage.
            if code != 9 {
                assert_eq!((err.as_str(), code), ("", 0), "{line:?}");
                let text = String::from_utf8(out).unwrap();
                assert!(text.contains('\u{fffd}'), "{text}");
            }
        }
    }

    #[test]
    fn the_list_shows_what_is_and_not_what_was() {
        let bench = Bench::new();
        bench.run(CREATE);
        // Somebody else destroys it and makes another.
        let gone = Uuid::from_u128(1);
        let record = bench.registry.load(ID).unwrap();
        bench.registry.store(gone, &record).unwrap();
        bench.registry.forget(ID).unwrap();
        assert_eq!(bench.run("blksnap list"), format!("{ID}  (up to 2 MiB)\n"));
        assert_eq!(bench.registry.load(gone), None);

        bench.registry.store(ID, &record).unwrap();
        let limit = || {
            let text = bench.run("blksnap list --json");
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            value["snapshots"][0]["limit"].clone()
        };
        assert_eq!(limit(), 2 << 20);
        // Without debugfs there is only what was asked for.
        bench.mock.fail_once("statistics", Errno::NOENT);
        assert_eq!(limit(), 1 << 20);
    }

    #[test]
    fn the_map_goes_to_standard_output() {
        let bench = Bench::new();
        bench.run("blksnap attach /dev/a");
        let mut out = Vec::new();
        let ended = bench.run_to(words("blksnap cbt map /dev/a -o -"), &mut out);
        assert_eq!(ended, (String::new(), 0));
        assert_eq!(out, bench.mock.map());
        assert!(!Path::new("-").exists());
    }

    #[test]
    fn quietly_there_is_only_the_id() {
        let bench = Bench::new();
        assert_eq!(bench.run(&format!("{SNAPSHOT} -q")), format!("{ID}\n"));
    }

    #[test]
    fn the_first_digits_name_a_snapshot() {
        let bench = Bench::new();
        bench.run(CREATE);
        assert_eq!(bench.run("blksnap add a11 /dev/a"), "");
        assert_eq!(bench.run("blksnap take A11CE"), "");
        assert_eq!(bench.run("blksnap storage append a1 /mnt/more"), "");
        assert!(bench.run("blksnap stats a").starts_with(&ID.to_string()));
        bench.run(CREATE);
        let out = bench.run("blksnap destroy a11");
        assert!(out.contains("ambiguous"), "{out}");
        assert!(out.ends_with("exit 2\n"), "{out}");
        // Which is meant does not depend on what is destroyed before.
        let out = bench.run(&format!("blksnap destroy {ID} a11"));
        assert!(out.contains("ambiguous"), "{out}");
        assert_eq!(bench.mock.snapshots().len(), 1);
    }

    #[test]
    fn a_file_with_data_is_not_overwritten_unasked() {
        let bench = Bench::new();
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "precious").unwrap();
        bench.mock.create_snapshot();
        let path = path.display();
        for line in [
            format!("blksnap create --storage {path}"),
            format!("blksnap snapshot --storage {path} --limit 1G /dev/a"),
            format!("blksnap storage append {ID} {path}"),
        ] {
            bench.mock.clear_log();
            let out = bench.run(&line);
            assert!(out.contains("contains data"), "{out}");
            assert!(out.contains("--overwrite"), "{out}");
            assert!(out.ends_with("exit 9\n"), "{out}");
            assert!(bench.mock.log().is_empty(), "{line}");
            let out = bench.run(&format!("{line} --overwrite"));
            assert!(!out.contains("exit"), "{out}");
            assert!(!bench.mock.log().is_empty());
        }
    }
}
