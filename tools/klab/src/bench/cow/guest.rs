//! The measurements as they are made in the guest.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use blksnap::sys::Linux;
use clap::{Args, ValueEnum};

use super::device::{Device, make_filesystem};
use super::load::{Load, Order};
use super::measures;
use super::model::{
    Case, Count, Findings, InFlight, Medium, Memory, Series, Spread, Take, Traffic,
};
use super::system::{Bed, Engaged, System, manager};
use crate::exec::text_of;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Sizes of the original and of both storages, by medium.
const RAMDISK: (u64, u64) = (1024 * MIB, 1152 * MIB);
const FIXED_LATENCY: (u64, u64) = (512 * MIB, 576 * MIB);

/// Bytes of all ramdisks; they have one size, and take only the memory that is written to.
pub const RAMDISK_BYTES: u64 = 1152 * MIB;
/// Ramdisks that the guest needs.
pub const RAMDISKS: u32 = 3;

/// The smallest chunk.
const CHUNK: u64 = 4 * KIB;

/// First writes that are far from each other lie one in so much.
const REGION: u64 = 256 * KIB;

/// Devices that a snapshot is taken of while they are idle, and their sizes. They have queues, as
/// most do, which have to be looked at, too.
const IDLE: u32 = 8;
const IDLE_BYTES: u64 = 64 * MIB;

/// Further repeats are made until all have taken so long together.
const ENOUGH: Duration = Duration::from_millis(1000);

/// What one processor does is done again until so many I/Os were made, or so many bytes: what is over
/// in some milliseconds says nothing.
const ENOUGH_IOS: u64 = 64 * KIB;
const ENOUGH_BYTES: u64 = 2048 * MIB;

/// How long devices are left alone before they are frozen. A filesystem that was frozen just before
/// is frozen the sooner: it need not wait for readers under RCU again.
const REST: Duration = Duration::from_millis(200);

/// After so long only what has a goal is measured, and no oftener than it must be. All of it takes
/// about 20 minutes where an I/O to memory takes twelve microseconds.
const TIME: Duration = Duration::from_secs(21 * 60);

/// The same if what one processor does is left to another guest, and in that one.
const TIME_OF_TWO: Duration = Duration::from_secs(18 * 60);
const TIME_OF_ONE: Duration = Duration::from_secs(5 * 60);

/// The same for a look.
const QUICK_TIME: Duration = Duration::from_secs(150);

/// After so long a look is over.
const QUICK_END: Duration = Duration::from_secs(210);

#[derive(Clone, Debug, Args)]
pub struct GuestBench {
    #[arg(long)]
    pub results: PathBuf,
    #[arg(long)]
    pub quick: bool,
    /// Only cases with this in their name
    #[arg(long)]
    pub filter: Option<String>,
    /// Only what is for a kernel of so many processors
    #[arg(long)]
    pub share: Option<Share>,
}

/// What a guest measures if there are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Share {
    /// What the processor does for each I/O, with nobody else at work.
    One,
    /// All the rest.
    Two,
}

impl Share {
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Two => "two",
        }
    }
}

/// Runs them and writes what was found; returns the exit status.
pub fn main(args: &GuestBench) -> Result<i32> {
    let start = Instant::now();
    let mut bench = Bench {
        args: args.clone(),
        findings: Findings::default(),
        seed: 1,
        start,
    };
    bench.findings.kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?
        .trim()
        .to_owned();
    let told = bench.whole();
    bench.findings.finished = told.is_ok();
    bench.findings.seconds = start.elapsed().as_secs_f64();
    let path = args.results.join(super::host::FINDINGS);
    fs::write(path, serde_json::to_vec_pretty(&bench.findings)?)?;
    if let Err(error) = told {
        println!("stopped: {error:#}");
        return Ok(1);
    }
    Ok(0)
}

/// What is there when the time is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing is copied yet.
    Fresh,
    /// All that the load touches has been copied.
    Copied,
}

/// What the load runs on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Origin,
    Image,
    /// The image, while somebody writes to the original.
    BusyImage,
}

/// A case to be measured with some systems.
struct Planned {
    pattern: String,
    load: Load,
    before: Before,
    target: Target,
    systems: Vec<System>,
}

impl Planned {
    fn first_writes(pattern: &str, load: Load) -> Self {
        Self {
            pattern: pattern.into(),
            load,
            before: Before::Fresh,
            target: Target::Origin,
            systems: blksnap_and(&System::DM),
        }
    }

    fn case(&self, medium: Medium) -> Case {
        Case {
            medium,
            pattern: self.pattern.clone(),
            depth: self.load.depth,
            jobs: self.load.jobs,
        }
    }

    fn name(&self, medium: Medium) -> String {
        let (depth, jobs) = (self.load.depth, self.load.jobs);
        format!("{}/{}/{depth}/{jobs}", medium.name(), self.pattern)
    }

    /// Whether it is told how much memory its copies take.
    fn shows_copies_in_flight(&self, medium: Medium) -> bool {
        let first = self.target == Target::Origin && self.before == Before::Fresh;
        medium == Medium::FixedLatency && first && (self.load.depth, self.load.jobs) == DEEP
    }

    /// The same with a quarter of the work, and no more of the others than it takes.
    fn at_a_glance(mut self, medium: Medium) -> Self {
        self.load.area /= 4;
        let case = self.case(medium);
        let dm = |system: &System| matches!(system, System::DmSnapshot { .. });
        if let Some(first) = self.systems.iter().position(dm)
            && !measures::counts(&case, &self.systems[first].name())
        {
            self.systems.truncate(first + 1);
        }
        self
    }
}

fn blksnap_and(others: &[System]) -> Vec<System> {
    [&[System::Blksnap], others].concat()
}

/// How many at a time, and how many jobs.
const ONE: (usize, usize) = (1, 1);
const ONE_OF_TWO: (usize, usize) = (1, 2);
const DEEP: (usize, usize) = (32, 1);
const DEEP_OF_TWO: (usize, usize) = (32, 2);

fn fixed_latency() -> Vec<Planned> {
    let (random, sequential) = (Order::Random, Order::Sequential);
    let (sparse, whole) = (Order::OnePer(REGION), FIXED_LATENCY.0);
    let mut all = Vec::new();
    // What is done by one at a time takes its time for each.
    for (pattern, block, order, one, many) in [
        (
            "4k random first writes, sparse",
            4 * KIB,
            sparse,
            whole,
            whole,
        ),
        (
            "4k random first writes, dense",
            4 * KIB,
            random,
            16 * MIB,
            64 * MIB,
        ),
        (
            "4k sequential first writes",
            4 * KIB,
            sequential,
            16 * MIB,
            64 * MIB,
        ),
        (
            "64k sequential first writes",
            64 * KIB,
            sequential,
            128 * MIB,
            256 * MIB,
        ),
        (
            "1M sequential first writes",
            MIB,
            sequential,
            256 * MIB,
            256 * MIB,
        ),
    ] {
        for (depth, jobs) in [ONE, DEEP, DEEP_OF_TWO] {
            let area = if depth == 1 { one } else { many };
            let load = load(true, block, order, area, depth, jobs);
            all.push(Planned::first_writes(pattern, load));
        }
    }
    // For the counts, which are the same each time.
    for (pattern, block, order) in [
        ("4k random rewrites", 4 * KIB, random),
        ("64k sequential rewrites", 64 * KIB, sequential),
    ] {
        all.push(Planned {
            before: Before::Copied,
            systems: blksnap_and(&System::DM[..1]),
            ..Planned::first_writes(pattern, load(true, block, order, 64 * MIB, 32, 1))
        });
    }
    for (pattern, block, order) in [
        ("4k random image reads", 4 * KIB, random),
        ("1M sequential image reads", MIB, sequential),
    ] {
        for (before, word) in [(Before::Fresh, "not copied"), (Before::Copied, "copied")] {
            all.push(Planned {
                before,
                target: Target::Image,
                systems: blksnap_and(&System::DM[..1]),
                ..Planned::first_writes(
                    &format!("{pattern}, {word}, idle"),
                    load(false, block, order, 64 * MIB, 32, 1),
                )
            });
        }
    }
    all
}

fn ramdisk() -> Vec<Planned> {
    let (random, sequential) = (Order::Random, Order::Sequential);
    let (sparse, whole) = (Order::OnePer(REGION), RAMDISK.0);
    let mut all = Vec::new();
    for (depth, jobs) in [ONE, DEEP, DEEP_OF_TWO] {
        all.push(Planned {
            systems: vec![System::Bare, System::Attached],
            ..Planned::first_writes(
                "4k random writes",
                load(true, 4 * KIB, random, 256 * MIB, depth, jobs),
            )
        });
    }
    for (pattern, block, order, area) in [
        ("4k random first writes, sparse", 4 * KIB, sparse, whole),
        ("4k random first writes, dense", 4 * KIB, random, 128 * MIB),
        (
            "64k sequential first writes",
            64 * KIB,
            sequential,
            256 * MIB,
        ),
        ("1M sequential first writes", MIB, sequential, 256 * MIB),
    ] {
        for (depth, jobs) in [ONE, ONE_OF_TWO, DEEP, DEEP_OF_TWO] {
            let load = load(true, block, order, area, depth, jobs);
            all.push(Planned::first_writes(pattern, load));
        }
    }
    for (pattern, block, order, (depth, jobs)) in [
        ("4k random rewrites", 4 * KIB, random, ONE),
        ("4k random rewrites", 4 * KIB, random, DEEP),
        ("4k random rewrites", 4 * KIB, random, DEEP_OF_TWO),
        ("64k sequential rewrites", 64 * KIB, sequential, ONE),
        ("64k sequential rewrites", 64 * KIB, sequential, DEEP),
        ("64k sequential rewrites", 64 * KIB, sequential, DEEP_OF_TWO),
    ] {
        all.push(Planned {
            before: Before::Copied,
            ..Planned::first_writes(pattern, load(true, block, order, 128 * MIB, depth, jobs))
        });
    }
    for (pattern, block, order, area, depth) in [
        ("4k random image reads", 4 * KIB, random, 64 * MIB, 1),
        ("4k random image reads", 4 * KIB, random, 64 * MIB, 32),
        ("1M sequential image reads", MIB, sequential, 256 * MIB, 1),
    ] {
        for (before, word) in [(Before::Fresh, "not copied"), (Before::Copied, "copied")] {
            for (target, state, others) in [
                (Target::Image, "idle", &System::DM[..]),
                (Target::BusyImage, "busy", &System::DM[..1]),
            ] {
                all.push(Planned {
                    before,
                    target,
                    systems: blksnap_and(others),
                    ..Planned::first_writes(
                        &format!("{pattern}, {word}, {state}"),
                        load(false, block, order, area, depth, 1),
                    )
                });
            }
        }
    }
    all
}

fn make_bed(medium: Medium) -> Result<Bed> {
    let ((bytes, more), make): (_, fn(u32, u64) -> Result<Device>) = match medium {
        Medium::Ramdisk => (RAMDISK, |number, _| Ok(Device::ramdisk(number))),
        Medium::FixedLatency => (FIXED_LATENCY, |number, bytes| {
            Device::fixed_latency(number, bytes, true)
        }),
    };
    let (origin, storage, cow) = (make(0, bytes)?, make(1, more)?, make(2, more)?);
    for (device, bytes) in [(&origin, bytes), (&storage, more), (&cow, more)] {
        device.fill(bytes)?;
    }
    Ok(Bed {
        origin,
        storage,
        cow,
        bytes,
    })
}

fn leave_bed(medium: Medium) -> Result<()> {
    if medium == Medium::FixedLatency {
        for number in 0..3 {
            Device::remove(number)?;
        }
    }
    Ok(())
}

struct Bench {
    args: GuestBench,
    findings: Findings,
    seed: u64,
    start: Instant,
}

fn load(write: bool, block: u64, order: Order, area: u64, depth: usize, jobs: usize) -> Load {
    Load {
        write,
        block,
        order,
        area,
        depth,
        jobs,
        passes: 1,
    }
}

/// How often one processor does a load before its time is taken.
fn passes_of_one(load: &Load) -> u64 {
    (ENOUGH_IOS / load.ios())
        .min(ENOUGH_BYTES / load.bytes())
        .max(1)
}

/// Writes all that a load touches.
fn overwriting(load: &Load) -> Load {
    Load {
        write: true,
        block: MIB,
        order: Order::Sequential,
        depth: 8,
        jobs: 1,
        passes: 1,
        ..*load
    }
}

impl Bench {
    fn whole(&mut self) -> Result<()> {
        if self.args.share == Some(Share::One) {
            return self.medium(Medium::Ramdisk, ramdisk());
        }
        println!(
            "{:14} {:34} {:>3} {:>4}  {:16} speed, bare device = 1",
            "medium", "pattern", "at", "jobs", "system"
        );
        self.medium(Medium::FixedLatency, fixed_latency())?;
        self.memory()?;
        self.medium(Medium::Ramdisk, ramdisk())?;
        self.take()
    }

    /// Whether a case is for this guest.
    fn is_ours(&self, case: &Case) -> bool {
        let share = match measures::is_for_one_processor(case) {
            true => Share::One,
            false => Share::Two,
        };
        self.args.share.is_none_or(|ours| ours == share)
    }

    fn wants(&self, name: &str) -> bool {
        let filter = self.args.filter.as_deref();
        filter.is_none_or(|filter| name.contains(filter))
    }

    /// Measures all cases of a medium, if any is wanted.
    fn medium(&mut self, medium: Medium, planned: Vec<Planned>) -> Result<()> {
        let mut wanted: Vec<Planned> = planned
            .into_iter()
            .filter(|planned| self.is_ours(&planned.case(medium)))
            .filter(|planned| self.wants(&planned.name(medium)))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        if self.args.quick {
            let all = wanted.into_iter();
            wanted = all.map(|planned| planned.at_a_glance(medium)).collect();
        }
        let bed = make_bed(medium)?;
        for mut planned in wanted {
            self.hurry(medium, &mut planned);
            if self.args.share == Some(Share::One) && !self.args.quick {
                planned.load.passes = passes_of_one(&planned.load);
            }
            if planned.systems.is_empty() {
                continue;
            }
            self.compare(medium, &planned, &bed)?;
            if planned.shows_copies_in_flight(medium) {
                self.copies_in_flight(medium, &planned, &bed)?;
            }
        }
        leave_bed(medium)
    }

    fn is_late(&self) -> bool {
        let time = match self.args.share {
            _ if self.args.quick => QUICK_TIME,
            None => TIME,
            Some(Share::Two) => TIME_OF_TWO,
            Some(Share::One) => TIME_OF_ONE,
        };
        self.start.elapsed() > time
    }

    /// Leaves systems out of a case that there is no time for.
    fn hurry(&mut self, medium: Medium, planned: &mut Planned) {
        if !self.is_late() {
            return;
        }
        let (case, name) = (planned.case(medium), planned.name(medium));
        let over = self.args.quick && self.start.elapsed() > QUICK_END;
        let mut left_out = Vec::new();
        planned.systems.retain(|system| {
            let system = system.name();
            if !over && measures::counts(&case, &system) {
                return true;
            }
            println!("{name}, {system}: left out, there is no time");
            left_out.push(system);
            false
        });
        if !left_out.is_empty() {
            self.findings.left_out.push(format!(
                "{}, {} ({})",
                medium.name(),
                case.name(),
                left_out.join(", ")
            ));
        }
    }

    /// The least number of repeats, and for how long more are made, up to a largest one.
    fn repeats(&self, case: &Case, system: &str) -> (usize, Duration, usize) {
        if self.args.quick {
            (2, Duration::ZERO, 2)
        } else if measures::counts(case, system) {
            let enough = if self.is_late() {
                Duration::ZERO
            } else {
                ENOUGH
            };
            (5, enough, 15)
        } else {
            (3, Duration::ZERO, 3)
        }
    }

    /// Measures one case with some systems, each time after the bare device.
    fn compare(&mut self, medium: Medium, planned: &Planned, bed: &Bed) -> Result<()> {
        let Planned {
            load,
            before,
            target,
            ..
        } = *planned;
        let case = planned.case(medium);
        for system in &planned.systems {
            let (least, enough, most) = self.repeats(&case, &system.name());
            let mut ratios = Vec::new();
            let mut spent = Duration::ZERO;
            while ratios.len() < least || (spent < enough && ratios.len() < most) {
                // The same start for both: written, and then at rest.
                if before == Before::Copied {
                    overwriting(&load).run(&bed.origin.path(), 0)?;
                    settle(&bed.origin)?;
                }
                let bare = self.timed(&load, &bed.origin.path(), &bed.origin.path(), target)?;
                let engaged = Engaged::new(*system, bed)?;
                let told = self.with(&load, before, target, &engaged, bed, *system);
                // Before the error, so that what is in place does not hide it. Waits for what is
                // still being stored.
                engaged.release()?;
                let (time, origin, storage) = told?;
                if ratios.is_empty() && medium == Medium::FixedLatency {
                    self.findings.counts.push(Count {
                        case: case.clone(),
                        system: system.name(),
                        bytes: load.bytes(),
                        ios: load.ios(),
                        origin: bed.origin.traffic()?.since(origin),
                        storage: storage_of(*system, bed).traffic()?.since(storage),
                    });
                }
                ratios.push(bare.as_secs_f64() / time.as_secs_f64());
                spent += bare + time;
            }
            self.tell(&case, &system.name(), &ratios);
            self.findings.series.push(Series {
                case: case.clone(),
                system: system.name(),
                ratios,
            });
        }
        Ok(())
    }

    /// Runs a load on a system that is in place; returns the time, and what had been counted on the
    /// original and the storage before.
    fn with(
        &mut self,
        load: &Load,
        before: Before,
        target: Target,
        engaged: &Engaged,
        bed: &Bed,
        system: System,
    ) -> Result<(Duration, Traffic, Traffic)> {
        if before == Before::Copied {
            overwriting(load).run(engaged.origin(), 0)?;
            settle(storage_of(system, bed))?;
        }
        let place = match target {
            Target::Origin => engaged.origin(),
            Target::Image | Target::BusyImage => engaged.image()?,
        };
        let origin = bed.origin.traffic()?;
        let storage = storage_of(system, bed).traffic()?;
        let time = self.timed(load, place, engaged.origin(), target)?;
        Ok((time, origin, storage))
    }

    /// Looks again and again at the memory of copies in flight, in a run that is not timed: to look
    /// takes time, too.
    fn copies_in_flight(&mut self, medium: Medium, planned: &Planned, bed: &Bed) -> Result<()> {
        self.seed += 1;
        let engaged = Engaged::new(System::Blksnap, bed)?;
        let told = most_in_flight(&planned.load, self.seed, &engaged);
        engaged.release()?;
        let (bytes, samples) = told?;
        let case = planned.case(medium);
        println!(
            "{} KiB of copies in flight at most, seen {samples} times: {}",
            bytes >> 10,
            case.name()
        );
        self.findings.in_flight.push(InFlight {
            case,
            bytes,
            samples,
        });
        Ok(())
    }

    /// Runs a load once, with a writer on `origin` if the target is busy.
    fn timed(
        &mut self,
        load: &Load,
        place: &Path,
        origin: &Path,
        target: Target,
    ) -> Result<Duration> {
        self.seed += 1;
        if target != Target::BusyImage {
            return load.run(place, self.seed);
        }
        let writes = Load {
            write: true,
            block: 4 * KIB,
            order: Order::Random,
            depth: 4,
            jobs: 1,
            ..*load
        };
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| writes.until(origin, 1, &stop));
            let time = load.run(place, self.seed);
            stop.store(true, Ordering::Relaxed);
            writer.join().expect("the writer does not panic")?;
            time
        })
    }

    fn tell(&self, case: &Case, system: &str, ratios: &[f64]) {
        if let Some(spread) = Spread::of(ratios) {
            println!(
                "{:14} {:34} {:>3} {:>4}  {system:16} {spread}",
                case.medium.name(),
                case.pattern,
                case.depth,
                case.jobs
            );
        }
    }

    /// Memory that chunks take which are copied far from each other.
    fn memory(&mut self) -> Result<()> {
        if !self.wants("memory") {
            return Ok(());
        }
        // So many that what else the kernel allocates meanwhile is little for each.
        let writes = if self.args.quick { 32 * KIB } else { 512 * KIB };
        // The first time is for the allocators to get their caches.
        for (round, region) in [32 * KIB, 4 * KIB, 32 * KIB, 256 * KIB, 2 * MIB]
            .into_iter()
            .enumerate()
        {
            let bytes = writes * region;
            // They keep nothing, so that they can be as large as it takes.
            let storage = Device::fixed_latency(1, 16 * writes * KIB, false)?;
            let bed = Bed {
                origin: Device::fixed_latency(0, bytes, false)?,
                cow: storage.clone(),
                storage,
                bytes,
            };
            let load = load(true, 4 * KIB, Order::OnePer(region), bytes, 32, 1);
            let engaged = Engaged::new(System::Blksnap, &bed)?;
            let told = used_by(&load, &engaged, &bed.storage);
            engaged.release()?;
            Device::remove(0)?;
            Device::remove(1)?;
            let (bytes, stored) = told?;
            if round == 0 {
                continue;
            }
            let chunks = stored / CHUNK;
            println!(
                "{:.1} bytes of memory for each of {chunks} chunks copied, one written in {} KiB",
                bytes as f64 / chunks as f64,
                region / KIB
            );
            self.findings.memory.push(Memory {
                chunks,
                region,
                bytes,
            });
        }
        Ok(())
    }

    /// Time to take idle devices, and to freeze and thaw them alone.
    fn take(&mut self) -> Result<()> {
        if !self.wants("take") {
            return Ok(());
        }
        let storage = Device::ramdisk(1).path();
        let mut places = Vec::new();
        let mut devices = Vec::new();
        for number in 0..IDLE {
            let device = Device::fixed_latency(number, IDLE_BYTES, true)?.path();
            let place = PathBuf::from(format!("/mnt/idle{number}"));
            make_filesystem(&device, &place)?;
            manager(&Linux::new()).attach(&device)?;
            places.push(place);
            devices.push(device);
        }
        let mut take = Take {
            devices: devices.len(),
            ..Take::default()
        };
        for _ in 0..if self.args.quick { 3 } else { 15 } {
            std::thread::sleep(REST);
            take.freeze_and_thaw
                .push(milliseconds(freeze_and_thaw(&places)?));
            let kernel = Linux::new();
            let manager = manager(&kernel);
            let id = manager.create(&storage, 0)?;
            for device in &devices {
                manager.add(device, id)?;
            }
            std::thread::sleep(REST);
            let start = Instant::now();
            manager.take(id)?;
            take.take.push(milliseconds(start.elapsed()));
            manager.destroy(id)?;
        }
        for (name, times) in [
            ("freeze and thaw", &take.freeze_and_thaw),
            ("take", &take.take),
        ] {
            let spread = Spread::of(times).context("no times")?;
            println!("{name} of {} idle devices: {spread} ms", take.devices);
        }
        self.findings.take = Some(take);
        for (device, place) in devices.iter().zip(&places) {
            manager(&Linux::new()).detach(device)?;
            text_of(Command::new("umount").arg(place))?;
        }
        for number in 0..IDLE {
            Device::remove(number)?;
        }
        Ok(())
    }
}

fn storage_of(system: System, bed: &Bed) -> &Device {
    match system {
        System::DmSnapshot { .. } => &bed.cow,
        System::Bare | System::Attached | System::Blksnap => &bed.storage,
    }
}

/// Waits until nothing more is stored of what has been copied.
fn settle(storage: &Device) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut last = storage.traffic()?;
    loop {
        // Copies are kept for some milliseconds, to be stored together.
        std::thread::sleep(Duration::from_millis(40));
        let now = storage.traffic()?;
        if now == last {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the copies are not stored");
        last = now;
    }
}

/// The most memory that copies are seen to take while a load runs, and how often it was looked at.
fn most_in_flight(load: &Load, seed: u64, engaged: &Engaged) -> Result<(u64, u64)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| -> Result<(u64, u64)> {
            let (mut most, mut samples) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                most = most.max(engaged.buffered()?);
                samples += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok((most, samples))
        });
        let told = load.run(engaged.origin(), seed);
        stop.store(true, Ordering::Relaxed);
        let seen = watcher.join().expect("the watcher does not panic");
        told?;
        seen
    })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Memory that is in use once a load has been done and what it made the system store is stored,
/// and how much that is, in bytes.
fn used_by(load: &Load, engaged: &Engaged, storage: &Device) -> Result<(i64, u64)> {
    let free = free_memory()?;
    let before = storage.traffic()?.write_bytes;
    load.run(engaged.origin(), 1)?;
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut last = before;
    loop {
        // Nothing tells when all is stored, but that no more comes.
        std::thread::sleep(Duration::from_millis(200));
        let now = storage.traffic()?.write_bytes;
        if now == last && now - before >= load.bytes() {
            return Ok((free - free_memory()?, now - before));
        }
        ensure!(Instant::now() < deadline, "the copies are not stored");
        last = now;
    }
}

/// Bytes that are free once all that can be dropped has been.
fn free_memory() -> Result<i64> {
    // Pages that processors keep for themselves count as used: let them keep next to none.
    fs::write("/proc/sys/vm/percpu_pagelist_high_fraction", "100000")?;
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    for cache in fs::read_dir("/sys/kernel/slab")? {
        let shrink = cache?.path().join("shrink");
        // Some are other names of others, and some go while this is done.
        if shrink.exists() {
            fs::write(shrink, "1").unwrap_or(());
        }
    }
    let text = fs::read_to_string("/proc/meminfo")?;
    let kib: i64 = text
        .lines()
        .find_map(|line| line.strip_prefix("MemFree:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .context("/proc/meminfo has no MemFree")?
        .trim()
        .parse()?;
    Ok(kib * 1024)
}

fn freeze_and_thaw(places: &[PathBuf]) -> Result<Duration> {
    let folders = places
        .iter()
        .map(fs::File::open)
        .collect::<Result<Vec<_>, _>>()?;
    let request = |folder: &fs::File, number: libc::Ioctl, what: &'static str| {
        // SAFETY: The request takes no argument that is used.
        let done = unsafe { libc::ioctl(folder.as_raw_fd(), number, 0) };
        if done < 0 {
            return Err(std::io::Error::last_os_error()).context(what);
        }
        Ok(())
    };
    let start = Instant::now();
    for folder in &folders {
        request(folder, 0xc004_5877, "FIFREEZE")?;
    }
    for folder in folders.iter().rev() {
        request(folder, 0xc004_5878, "FITHAW")?;
    }
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let mut names: Vec<String> = Vec::new();
        for (medium, all) in both() {
            names.extend(all.iter().map(|planned| planned.name(medium)));
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    fn both() -> [(Medium, Vec<Planned>); 2] {
        [
            (Medium::FixedLatency, fixed_latency()),
            (Medium::Ramdisk, ramdisk()),
        ]
    }

    #[test]
    fn one_processor_does_enough_and_not_too_much() {
        let passes = |block, area| passes_of_one(&load(true, block, Order::Random, area, 1, 1));
        assert_eq!(passes(4 * KIB, 64 * MIB), 4);
        assert_eq!(passes(4 * KIB, 1024 * MIB), 1);
        assert_eq!(passes(64 * KIB, 128 * MIB), 16);
        assert_eq!(passes(MIB, 256 * MIB), 8);
    }

    #[test]
    fn a_glance_leaves_out_nothing_that_counts() {
        for (medium, all) in both() {
            for planned in all {
                let case = planned.case(medium);
                let before = planned.systems.clone();
                let glance = planned.at_a_glance(medium);
                assert!(glance.load.ios() > 0 && glance.case(medium) == case);
                let counting = |systems: &[System]| {
                    let all = systems.iter().map(|system| system.name());
                    all.filter(|name| measures::counts(&case, name)).count()
                };
                assert_eq!(counting(&glance.systems), counting(&before));
            }
        }
    }
}
