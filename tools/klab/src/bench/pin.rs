//! What activating a swap file costs for each of its extents, on the unpatched kernel and on the
//! patched one.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::docs;
use super::machine::Machine;
use crate::cache::{Cache, write_if_changed};
use crate::cli::Filesystem;
use crate::exec::text_of;
use crate::guest::session::{self, Silent, Spec};
use crate::runner::machine::Runner;
use crate::ui::{Ui, bytes};

const BLOCK: u64 = 4096;
const DEVICE: &str = "/dev/ubda";
const TOP: &str = "/mnt/pin";
const FINDINGS: &str = "pin.json";

/// Activations of a file in one guest, after one that is not counted.
const ACTIVATIONS: usize = 41;

/// What pinning may cost beside the unpatched kernel.
const GOAL: f64 = 1.05;

/// Up to so much more for each extent, where there are many times as many, counts as in proportion.
const LINEAR: f64 = 1.25;

/// Extents from which on the time for each is looked at: fewer take less than the rest of swapon.
const MANY: u64 = 500;

/// What the virtual disk takes of this machine's: for each extent, and besides.
const DISK_BYTES: (u64, u64) = (1 << 10, 1 << 30);

/// Everything the verb needs.
pub struct Plan<'a> {
    pub cache: &'a Cache,
    pub runner: &'a dyn Runner,
    pub ui: &'a Ui,
    /// This program, for the guest.
    pub klab: PathBuf,
    pub stock: PathBuf,
    pub patched: PathBuf,
    pub filesystems: Vec<Filesystem>,
    /// Numbers of extents.
    pub extents: Vec<u64>,
    /// Guests of each kernel for each filesystem, in turns.
    pub rounds: usize,
    pub results: PathBuf,
    /// The file of the documentation that gets the results, if any.
    pub docs: Option<PathBuf>,
}

/// The part that runs in a guest.
#[derive(Clone, Debug, Args)]
pub struct GuestPin {
    #[arg(long)]
    pub fs: String,
    #[arg(long, value_delimiter = ',')]
    pub extents: Vec<u64>,
    #[arg(long)]
    pub results: PathBuf,
}

/// What a guest tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Told {
    /// Release of its kernel.
    kernel: String,
    findings: Vec<Finding>,
}

/// What a guest found out about a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Finding {
    wanted: u64,
    /// What the filesystem really made of it.
    extents: u64,
    nanoseconds: Vec<u64>,
    /// Growth of the kernel's slabs while the file is active.
    slab_bytes: u64,
}

/// A distribution: what is in the middle, and where the quarters end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |quarter: usize| values[(last * quarter + 2) / 4];
        Some(Self {
            median: at(2),
            low: at(1),
            high: at(3),
        })
    }
}

/// A file of so many extents on a filesystem.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub filesystem: String,
    pub extents: u64,
    /// Microseconds of one activation.
    pub stock: Spread,
    pub patched: Spread,
    /// Patched to stock, of one round each.
    pub ratio: Spread,
    pub patched_ns_per_extent: f64,
    /// Kernel memory for each extent.
    pub stock_bytes: f64,
    pub patched_bytes: f64,
}

/// What is to be reached with a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measure {
    pub name: String,
    pub value: f64,
    pub goal: f64,
    pub reached: bool,
}

/// What is written for people and machines.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    /// Releases of the kernels.
    pub stock: String,
    pub patched: String,
    pub rows: Vec<Row>,
    pub measures: Vec<Measure>,
    /// Whether the time grows in proportion to the extents, in words, for each filesystem.
    pub growth: Vec<String>,
}

/// Runs all guests; the report is also written into the results folder.
pub fn run(plan: &Plan<'_>) -> Result<Report> {
    let extents = that_fit(plan)?;
    let mut report = Report {
        machine: Machine::now()?,
        stock: String::new(),
        patched: String::new(),
        rows: Vec::new(),
        measures: Vec::new(),
        growth: Vec::new(),
    };
    for fs in &plan.filesystems {
        let mut rounds = Vec::new();
        for round in 0..plan.rounds {
            plan.ui.say(format!(
                "{}: round {} of {}",
                fs.name(),
                round + 1,
                plan.rounds
            ));
            let stock = guest(plan, *fs, &extents, "stock", &plan.stock, round)?;
            let patched = guest(plan, *fs, &extents, "patched", &plan.patched, round)?;
            report.stock = stock.kernel;
            report.patched = patched.kernel;
            rounds.push((stock.findings, patched.findings));
        }
        let rows = summarise(fs.name(), &extents, &rounds)?;
        report.growth.extend(growth(&rows));
        report.rows.extend(rows);
    }
    report.measures = report.rows.iter().map(Row::measure).collect();
    let text = serde_json::to_string_pretty(&report)?;
    write_if_changed(&plan.results.join("pin.json"), text.as_bytes())?;
    let page = markdown(&report);
    write_if_changed(&plan.results.join("pin.md"), page.as_bytes())?;
    if let Some(file) = &plan.docs {
        docs::update(file, "pin", &page)?;
    }
    Ok(report)
}

/// The numbers of extents for whose metadata this machine has room.
fn that_fit(plan: &Plan<'_>) -> Result<Vec<u64>> {
    crate::cache::make(plan.cache.root())?;
    let there = rustix::fs::statvfs(plan.cache.root())?;
    let free = there.f_bavail * there.f_frsize;
    let (fit, others): (Vec<u64>, Vec<u64>) = plan
        .extents
        .iter()
        .partition(|extents| room_for(**extents) <= free);
    for extents in others {
        plan.ui.say(format!(
            "{extents} extents are left out: {} are free, and they take {}",
            bytes(free),
            bytes(room_for(extents))
        ));
    }
    ensure!(!fit.is_empty(), "there is no room for a virtual disk");
    Ok(fit)
}

/// What a guest fills of its disk.
pub fn room_for(extents: u64) -> u64 {
    DISK_BYTES.0 * extents + DISK_BYTES.1
}

impl Row {
    fn measure(&self) -> Measure {
        Measure {
            name: format!("{}, {} extents", self.filesystem, self.extents),
            value: self.ratio.median,
            goal: GOAL,
            reached: self.ratio.median <= GOAL,
        }
    }
}

/// How the time grows from the least to the most of many extents of one filesystem.
fn growth(rows: &[Row]) -> Option<String> {
    let many = || rows.iter().filter(|row| row.extents >= MANY);
    let least = many().min_by_key(|row| row.extents)?;
    let most = many().max_by_key(|row| row.extents)?;
    if least.extents == most.extents {
        return None;
    }
    let times = most.extents as f64 / least.extents as f64;
    let longer = most.patched.median / least.patched.median;
    let word = if longer <= times * LINEAR {
        "in proportion"
    } else {
        "more than in proportion"
    };
    Some(format!(
        "{}: {times:.0} times as many extents ({} instead of {}) take {longer:.0} times as long, \
         {word}; {:.0} times without the series.",
        most.filesystem,
        most.extents,
        least.extents,
        most.stock.median / least.stock.median
    ))
}

pub const MEMORY_MIB: u64 = 2048;

fn guest(
    plan: &Plan<'_>,
    fs: Filesystem,
    extents: &[u64],
    name: &str,
    kernel: &Path,
    round: usize,
) -> Result<Told> {
    let results = plan
        .results
        .join(format!("{}-{name}-{}", fs.name(), round + 1));
    crate::cache::make(&results)?;
    let results = results.canonicalize()?;
    let findings = results.join(FINDINGS);
    if findings.exists() {
        std::fs::remove_file(&findings)?;
    }
    let most = extents.iter().max().copied().unwrap_or(1);
    let extents: Vec<String> = extents.iter().map(u64::to_string).collect();
    let words = [
        plan.klab.display().to_string(),
        "guest-bench-pin".into(),
        "--fs".into(),
        fs.name().into(),
        "--extents".into(),
        extents.join(","),
        "--results".into(),
        results.display().to_string(),
    ];
    let spec = Spec {
        kernel: kernel.to_owned(),
        memory_mib: MEMORY_MIB,
        // Two files of so many blocks, the same once more if they have to be made again, and room
        // for the filesystem. Nothing is written to the blocks.
        disks: vec![4 * most * BLOCK + (2 << 30)],
        kernel_words: Vec::new(),
        command: words.to_vec(),
        environment: BTreeMap::new(),
        folder: PathBuf::from("/"),
        results: results.clone(),
        interactive: false,
        silence: Some(Duration::from_secs(900)),
    };
    let outcome = session::run(plan.cache, plan.runner, &spec, &mut Silent)?;
    let status = outcome.into_status()?;
    ensure!(
        status == 0,
        "the measurement in the guest failed with status {status}, see {}",
        results.join("output.log").display()
    );
    let bytes = std::fs::read(&findings)
        .with_context(|| format!("the guest left no {}", findings.display()))?;
    Ok(serde_json::from_slice(&bytes)?)
}

type Round = (Vec<Finding>, Vec<Finding>);

fn summarise(fs: &str, extents: &[u64], rounds: &[Round]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for wanted in extents {
        let mut times = (Vec::new(), Vec::new());
        let mut bytes = (Vec::new(), Vec::new());
        let mut ratios = Vec::new();
        let mut counts = Vec::new();
        for (stock, patched) in rounds {
            let pick = |findings: &[Finding]| {
                let found = findings.iter().find(|finding| finding.wanted == *wanted);
                found.cloned().context("a guest left a file out")
            };
            let (stock, patched) = (pick(stock)?, pick(patched)?);
            let median = |finding: &Finding| {
                let all = finding.nanoseconds.iter().map(|ns| *ns as f64);
                Spread::of(all.collect())
                    .map(|spread| spread.median)
                    .context("a guest measured nothing")
            };
            ratios.push(median(&patched)? / median(&stock)?);
            for (finding, times, bytes) in [
                (&stock, &mut times.0, &mut bytes.0),
                (&patched, &mut times.1, &mut bytes.1),
            ] {
                times.extend(finding.nanoseconds.iter().map(|ns| *ns as f64 / 1000.0));
                bytes.push(finding.slab_bytes as f64 / finding.extents as f64);
                counts.push(finding.extents as f64);
            }
        }
        let spread = |values| Spread::of(values).context("there was no round");
        let count = spread(counts)?.median;
        let patched = spread(times.1)?;
        rows.push(Row {
            filesystem: fs.to_owned(),
            extents: count as u64,
            stock: spread(times.0)?,
            patched,
            ratio: spread(ratios)?,
            patched_ns_per_extent: patched.median * 1000.0 / count,
            stock_bytes: spread(bytes.0)?.median,
            patched_bytes: spread(bytes.1)?.median,
        });
    }
    Ok(rows)
}

/// The results for people.
pub fn markdown(report: &Report) -> String {
    let mut text = format!(
        "{}; User Mode Linux {} and {}.\n\n",
        report.machine.line(),
        report.stock,
        report.patched
    );
    text.push_str(
        "| filesystem | extents | stock, µs | patched, µs | ratio | patched, ns per extent | \
         bytes per extent of the copy that swap keeps, stock, patched |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
    );
    for row in &report.rows {
        let spread = |spread: &Spread, digits: usize| {
            format!(
                "{:.digits$} ({:.digits$}-{:.digits$})",
                spread.median, spread.low, spread.high
            )
        };
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {:.0} | {:.0}, {:.0} |\n",
            row.filesystem,
            row.extents,
            spread(&row.stock, 0),
            spread(&row.patched, 0),
            spread(&row.ratio, 2),
            row.patched_ns_per_extent,
            row.stock_bytes,
            row.patched_bytes,
        ));
    }
    text.push_str(
        "\nIn parentheses: lower and upper quartile. The copy is what the kernel's \
         slabs grow by.\n\n",
    );
    let missed: Vec<String> = report
        .measures
        .iter()
        .filter(|measure| !measure.reached)
        .map(|measure| format!("{} ({:.2})", measure.name, measure.value))
        .collect();
    text.push_str(&match missed.is_empty() {
        true => format!("All ratios are at most {GOAL}, the target.\n"),
        false => format!(
            "The target is a ratio of at most {GOAL}. **Not reached**: {}.\n",
            missed.join("; ")
        ),
    });
    for line in &report.growth {
        text.push_str(&format!("\n{line}\n"));
    }
    text
}

/// Measures in the guest and writes the findings; returns the exit status.
pub fn main(args: &GuestPin) -> Result<i32> {
    std::fs::create_dir_all(TOP)?;
    let program = format!("mkfs.{}", args.fs);
    let force = if args.fs == "ext4" { "-F" } else { "-f" };
    text_of(Command::new(program).args(["-q", force, DEVICE]))?;
    text_of(Command::new("mount").args(["-t", &args.fs, DEVICE, TOP]))?;
    let mut findings = Vec::new();
    for wanted in &args.extents {
        findings.push(measure(&args.fs, *wanted)?);
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let told = Told {
        kernel: kernel.trim().to_owned(),
        findings,
    };
    std::fs::write(args.results.join(FINDINGS), serde_json::to_vec(&told)?)?;
    text_of(Command::new("umount").arg(TOP))?;
    Ok(0)
}

fn measure(fs: &str, wanted: u64) -> Result<Finding> {
    let path = Path::new(TOP).join(format!("swap-{wanted}"));
    let extents = in_pieces(fs, &path, wanted)?;
    let mut nanoseconds = Vec::new();
    let mut slab_bytes = 0;
    // The first one reads the metadata, and is not counted.
    for turn in 0..=ACTIVATIONS {
        forget(&path)?;
        let before = slab()?;
        let start = Instant::now();
        swap(&path, true)?;
        let time = start.elapsed();
        if turn > 0 {
            nanoseconds.push(u64::try_from(time.as_nanos())?);
        }
        slab_bytes = slab()?.saturating_sub(before);
        swap(&path, false)?;
    }
    println!("{wanted} extents wanted, {extents} made");
    std::fs::remove_file(&path)?;
    Ok(Finding {
        wanted,
        extents,
        nanoseconds,
        slab_bytes,
    })
}

/// A swap file of so many extents. The allocator may find a place for each of the two files; then
/// the place is left to them, and the next ones are tried.
fn in_pieces(fs: &str, path: &Path, wanted: u64) -> Result<u64> {
    let mut extents = 0;
    for attempt in 0..8 {
        fragmented(fs, path, wanted)?;
        extents = count_extents(path)?;
        if extents >= wanted - wanted / 20 {
            return Ok(extents);
        }
        std::fs::rename(path, path.with_extension(attempt.to_string()))?;
    }
    bail!("{fs} made {extents} extents where {wanted} were wanted");
}

/// A swap file in so many pieces: where the last request ended is where the next one goes, so two
/// files that grow in turns get in each other's way. One piece is 4 MiB, others are a block each.
fn fragmented(fs: &str, path: &Path, pieces: u64) -> Result<()> {
    let other = path.with_extension("between");
    let open = |path: &Path| -> Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        if fs == "btrfs" {
            text_of(Command::new("chattr").arg("+C").arg(path))?;
        }
        Ok(file)
    };
    let (file, between) = (open(path)?, open(&other)?);
    let none = rustix::fs::FallocateFlags::empty();
    let size = if pieces == 1 {
        rustix::fs::fallocate(&file, none, 0, 1024 * BLOCK)?;
        1024 * BLOCK
    } else {
        for piece in 0..pieces {
            rustix::fs::fallocate(&file, none, piece * BLOCK, BLOCK)?;
            rustix::fs::fallocate(&between, none, piece * BLOCK, BLOCK)?;
            if piece % 100_000 == 99_999 {
                // A sign of life for whoever watches.
                println!("{} pieces of {pieces}", piece + 1);
            }
        }
        pieces * BLOCK
    };
    let mut header = vec![0_u8; BLOCK as usize];
    let last = u32::try_from(size / BLOCK - 1).context("the file is too large for swap")?;
    header[1024..1028].copy_from_slice(&1_u32.to_ne_bytes());
    header[1028..1032].copy_from_slice(&last.to_ne_bytes());
    header[BLOCK as usize - 10..].copy_from_slice(b"SWAPSPACE2");
    file.write_all_at(&header, 0)?;
    file.sync_all()?;
    std::fs::remove_file(&other)?;
    rustix::fs::syncfs(&file)?;
    Ok(())
}

/// Takes a file out of the page cache, so that its header has to be read, as it has when a machine
/// starts. With the series it is read each time.
fn forget(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    Ok(rustix::fs::fadvise(
        &file,
        0,
        None,
        rustix::fs::Advice::DontNeed,
    )?)
}

fn swap(path: &Path, on: bool) -> Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: The name is a string that lives through the call, which only reads it.
    let status = unsafe {
        if on {
            libc::swapon(name.as_ptr(), 0)
        } else {
            libc::swapoff(name.as_ptr())
        }
    };
    if status != 0 {
        let error = std::io::Error::last_os_error();
        let call = if on { "swapon" } else { "swapoff" };
        bail!("{call} {}: {error}", path.display());
    }
    Ok(())
}

/// What the kernel's slabs take, in bytes.
fn slab() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Slab:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    Ok(kib.context("/proc/meminfo has no Slab")?.parse::<u64>()? * 1024)
}

/// Head of the argument of the ioctl; without room for extents it only counts them.
#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    room: u32,
    reserved: u32,
}

const FIEMAP: libc::c_ulong = 0xc020_660b;

fn count_extents(path: &Path) -> Result<u64> {
    let file = File::open(path)?;
    let mut argument = Fiemap {
        start: 0,
        length: u64::MAX,
        flags: 0,
        mapped: 0,
        room: 0,
        reserved: 0,
    };
    // SAFETY: The argument is of the size that is part of the ioctl's number, and has no room for
    // extents behind it, which it says.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), FIEMAP as _, &raw mut argument) };
    if status != 0 {
        return Err(std::io::Error::last_os_error()).context("FIEMAP");
    }
    ensure!(argument.mapped > 0, "the file has no extents");
    Ok(u64::from(argument.mapped))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(wanted: u64, nanoseconds: &[u64]) -> Finding {
        Finding {
            wanted,
            extents: wanted,
            nanoseconds: nanoseconds.to_vec(),
            slab_bytes: wanted * 48,
        }
    }

    #[test]
    fn the_spread_is_the_middle_and_the_quarters() {
        assert_eq!(Spread::of(Vec::new()), None);
        let spread = Spread::of(vec![5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 3.0, 4.0));
        let one = Spread::of(vec![7.0]).unwrap();
        assert_eq!((one.low, one.median, one.high), (7.0, 7.0, 7.0));
    }

    #[test]
    fn ratios_are_of_one_round_each() {
        let rounds = [
            (
                vec![finding(10, &[1000, 2000, 3000])],
                vec![finding(10, &[2000])],
            ),
            (vec![finding(10, &[4000])], vec![finding(10, &[6000])]),
            (vec![finding(10, &[1000])], vec![finding(10, &[3000])]),
        ];
        let rows = summarise("xfs", &[10], &rounds).unwrap();
        assert_eq!(rows[0].ratio.median, 1.5);
        assert_eq!(rows[0].extents, 10);
        assert_eq!(rows[0].patched_ns_per_extent, 300.0);
        assert_eq!(rows[0].patched_bytes, 48.0);
        assert!(summarise("xfs", &[11], &rounds).is_err());
        let page = markdown(&report(rows));
        assert!(page.contains("| xfs | 10 |"));
        assert!(page.contains("**Not reached**: xfs, 10 extents (1.50)."));
    }

    fn report(rows: Vec<Row>) -> Report {
        Report {
            machine: Machine::now().unwrap(),
            stock: "7.3.0".into(),
            patched: "7.3.0-series".into(),
            measures: rows.iter().map(Row::measure).collect(),
            growth: growth(&rows).into_iter().collect(),
            rows,
        }
    }

    #[test]
    fn growth_is_told_of_many_extents() {
        let counts = [1, 1000, 100_000];
        let all = |factor: u64| {
            let findings = counts.iter().map(|n| finding(*n, &[5000 + n * factor]));
            findings.collect::<Vec<_>>()
        };
        let rows = summarise("ext4", &counts, &[(all(100), all(101))]).unwrap();
        assert!(growth(&rows[..2]).is_none());
        let page = markdown(&report(rows.clone()));
        let told = "ext4: 100 times as many extents (100000 instead of 1000) take 95 times as long, \
                    in proportion; 95 times without the series.";
        assert!(
            page.contains(told) && page.contains("All ratios are at most"),
            "{page}"
        );
        let mut rows = rows;
        rows[2].patched.median *= 1.4;
        assert!(growth(&rows).unwrap().contains("more than in proportion"));
        assert!(room_for(1_000_000) < 3 << 30);
    }
}
