//! What is to be reached, and whether it was.

use serde::Serialize;

use super::model::{Case, Count, Findings, Medium, Series, Spread};

const ATTACHED: &str = "attached";
const BLKSNAP: &str = "blksnap";
const DM: &str = "dm-snapshot";
/// What copies in flight may take, in MiB.
const MAX_BUFFERED: f64 = 16.0;
/// Bytes of a copy of the smallest size.
const CHUNK: u64 = 4096;

/// One thing that is to be reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measure {
    pub name: String,
    pub value: f64,
    pub goal: f64,
    /// Whether less is better.
    pub at_most: bool,
}

impl Measure {
    pub fn reached(&self) -> bool {
        if self.at_most {
            self.value <= self.goal
        } else {
            self.value >= self.goal
        }
    }
}

fn median(series: &Series) -> Option<f64> {
    Spread::of(&series.ratios).map(|spread| spread.median)
}

/// All measures for which there are findings.
pub fn of(findings: &Findings) -> Vec<Measure> {
    let mut all = Vec::new();
    for series in &findings.series {
        speed(series, findings, &mut all);
    }
    for count in findings
        .counts
        .iter()
        .filter(|count| count.system == BLKSNAP)
    {
        traffic(count, &mut all);
    }
    for memory in &findings.memory {
        all.push(Measure {
            name: format!(
                "bytes of memory per chunk copied, one written in {} KiB",
                memory.region >> 10
            ),
            value: memory.bytes as f64 / memory.chunks as f64,
            goal: 16.0,
            at_most: true,
        });
    }
    for seen in &findings.in_flight {
        all.push(Measure {
            name: format!("MiB of memory of copies in flight, {}", seen.case.name()),
            value: seen.bytes as f64 / (1 << 20) as f64,
            goal: MAX_BUFFERED,
            at_most: true,
        });
    }
    if let Some(take) = &findings.take
        && let Some(alone) = Spread::of(&take.freeze_and_thaw)
        && let Some(whole) = Spread::of(&take.take)
    {
        all.push(Measure {
            name: format!(
                "ms per device to take {} idle ones, beyond freeze and thaw",
                take.devices
            ),
            value: (whole.median - alone.median) / take.devices as f64,
            goal: 2.0,
            at_most: true,
        });
    }
    all
}

/// What is to be reached in a case.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Goals {
    /// Beside the bare device, with the filter alone.
    attached: Option<f64>,
    /// Beside the bare device.
    bare: Option<f64>,
    /// Beside dm-snapshot at its best chunk size.
    dm: Option<f64>,
}

fn goals(case: &Case) -> Goals {
    let pattern = case.pattern.as_str();
    let first = pattern.contains("first writes");
    let mut goals = Goals::default();
    match case.medium {
        // Where every write needs a copy of its own.
        Medium::FixedLatency if first && pattern.ends_with("sparse") && case.jobs == 1 => {
            if case.depth == 1 {
                goals.bare = Some(0.48);
                goals.dm = Some(1.4);
            } else {
                goals.bare = Some(0.45);
            }
        }
        Medium::FixedLatency => {}
        Medium::Ramdisk if first => goals.dm = Some(1.2),
        Medium::Ramdisk if pattern.contains("rewrites") => goals.bare = Some(0.95),
        Medium::Ramdisk if pattern.ends_with("idle") => goals.bare = Some(0.90),
        Medium::Ramdisk if pattern == "4k random writes" => goals.attached = Some(0.97),
        Medium::Ramdisk => {}
    }
    goals
}

/// Whether it is what the processor does for each I/O that is looked at, with nobody else at work:
/// neither a worker that stores copies, nor a second job.
pub fn is_for_one_processor(case: &Case) -> bool {
    let goals = goals(case);
    case.medium == Medium::Ramdisk
        && case.jobs == 1
        && (goals.attached.is_some() || goals.bare.is_some())
}

/// Whether anything is to be reached that depends on this system in this case.
pub fn counts(case: &Case, system: &str) -> bool {
    let goals = goals(case);
    match system {
        BLKSNAP => goals.bare.is_some() || goals.dm.is_some(),
        system if system.starts_with(DM) => goals.dm.is_some(),
        // The filter, and the device beside itself.
        _ => goals.attached.is_some(),
    }
}

fn speed(series: &Series, findings: &Findings, all: &mut Vec<Measure>) {
    let Some(value) = median(series) else { return };
    let case = &series.case;
    let goals = goals(case);
    let name = format!("{}, {}", case.medium.name(), case.name());
    let mut push = |beside: &str, value, goal: Option<f64>| {
        if let Some(goal) = goal {
            all.push(Measure {
                name: format!("{name}, {beside}"),
                value,
                goal,
                at_most: false,
            });
        }
    };
    if series.system == ATTACHED {
        push("no snapshot, to the bare device", value, goals.attached);
    }
    if series.system != BLKSNAP {
        return;
    }
    push("to the bare device", value, goals.bare);
    // The best of device-mapper for this case.
    let best = findings
        .series
        .iter()
        .filter(|other| other.case == *case && other.system.starts_with(DM))
        .filter_map(median)
        .max_by(f64::total_cmp);
    if let Some(best) = best.filter(|best| *best > 0.0) {
        push("to dm-snapshot at its best", value / best, goals.dm);
    }
}

fn traffic(count: &Count, all: &mut Vec<Measure>) {
    let case = &count.case;
    let name = case.name();
    let mut push = |what: &str, number: u64, of: u64, goal| {
        all.push(Measure {
            name: format!("{what}, {name}"),
            value: number as f64 / of as f64,
            goal,
            at_most: true,
        });
    };
    let (origin, storage) = (count.origin, count.storage);
    if case.pattern.contains("image reads") {
        return push(
            "bytes read from origin and storage per byte of the image",
            origin.read_bytes + storage.read_bytes,
            count.bytes,
            1.0,
        );
    }
    let goal = match case.pattern.as_str() {
        // All of it has been copied.
        pattern if pattern.contains("rewrites") => 0.0,
        pattern if pattern.contains("sparse") => 4.0,
        pattern if pattern.contains("dense") => 1.1,
        _ => 1.0,
    };
    for (what, bytes) in [
        ("read from the origin", origin.read_bytes),
        ("stored", storage.write_bytes),
    ] {
        let what = format!("bytes {what} per byte overwritten");
        push(&what, bytes, count.bytes, goal);
    }
    if case.pattern.contains("sequential first writes") {
        push(
            "writes to the storage per chunk copied",
            storage.writes,
            count.bytes / CHUNK,
            1.0 / 8.0,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cow::model::{InFlight, Memory, Take, Traffic};

    fn case(medium: Medium, pattern: &str) -> Case {
        Case {
            medium,
            pattern: pattern.into(),
            depth: 1,
            jobs: 1,
        }
    }

    fn series(pattern: &str, medium: Medium, system: &str, ratio: f64) -> Series {
        Series {
            case: case(medium, pattern),
            system: system.into(),
            ratios: vec![ratio],
        }
    }

    #[test]
    fn the_best_of_the_other_is_what_counts() {
        let medium = Medium::Ramdisk;
        let findings = Findings {
            series: vec![
                series("4k random first writes, dense", medium, "blksnap", 0.36),
                series(
                    "4k random first writes, dense",
                    medium,
                    "dm-snapshot 4k",
                    0.3,
                ),
                series(
                    "4k random first writes, dense",
                    medium,
                    "dm-snapshot 64k",
                    0.1,
                ),
            ],
            ..Findings::default()
        };
        let all = of(&findings);
        assert_eq!(all.len(), 1);
        assert!((all[0].value - 1.2).abs() < 1e-9 && all[0].goal == 1.2);
    }

    #[test]
    fn a_fixed_latency_has_a_goal_of_its_own_and_one_beside_the_other() {
        let medium = Medium::FixedLatency;
        let pattern = "4k random first writes, sparse";
        let findings = Findings {
            series: vec![
                series(pattern, medium, "blksnap", 0.47),
                series(pattern, medium, "dm-snapshot 4k", 0.33),
            ],
            ..Findings::default()
        };
        let told: Vec<bool> = of(&findings).iter().map(Measure::reached).collect();
        assert_eq!(told, [false, true]);
    }

    #[test]
    fn what_has_a_goal_counts() {
        let sparse = "4k random first writes, sparse";
        let ram = case(Medium::Ramdisk, sparse);
        assert!(counts(&ram, "blksnap") && counts(&ram, "dm-snapshot 64k"));
        let rewrites = case(Medium::Ramdisk, "4k random rewrites");
        assert!(counts(&rewrites, "blksnap") && !counts(&rewrites, "dm-snapshot 4k"));
        let attached = case(Medium::Ramdisk, "4k random writes");
        assert!(counts(&attached, "attached") && counts(&attached, "bare device"));
        let two = Case {
            jobs: 2,
            ..case(Medium::FixedLatency, sparse)
        };
        assert!(!counts(&two, "blksnap"));
    }

    #[test]
    fn first_writes_have_somebody_else_at_work() {
        let ram = |pattern| is_for_one_processor(&case(Medium::Ramdisk, pattern));
        assert!(ram("4k random writes") && ram("4k random rewrites"));
        assert!(ram("4k random image reads, copied, idle"));
        assert!(!ram("4k random image reads, copied, busy"));
        assert!(!ram("4k random first writes, sparse"));
        let two = Case {
            jobs: 2,
            ..case(Medium::Ramdisk, "4k random rewrites")
        };
        assert!(!is_for_one_processor(&two));
        let slow = case(Medium::FixedLatency, "4k random rewrites");
        assert!(!is_for_one_processor(&slow));
    }

    #[test]
    fn rewrites_copy_nothing_and_reads_read_once() {
        let traffic = |read_bytes, write_bytes| Traffic {
            reads: 1,
            read_bytes,
            writes: 1,
            write_bytes,
        };
        let count = |pattern: &str, origin, storage| Count {
            case: case(Medium::FixedLatency, pattern),
            system: BLKSNAP.into(),
            bytes: 100 * CHUNK,
            ios: 100,
            origin,
            storage,
        };
        let all = of(&Findings {
            counts: vec![
                count(
                    "4k random rewrites",
                    traffic(0, 100 * CHUNK),
                    traffic(0, CHUNK),
                ),
                count(
                    "1M sequential image reads, copied, idle",
                    traffic(50 * CHUNK, 0),
                    traffic(50 * CHUNK, 0),
                ),
            ],
            ..Findings::default()
        });
        let told: Vec<(f64, bool)> = all.iter().map(|m| (m.value, m.reached())).collect();
        assert_eq!(told, [(0.0, true), (0.01, false), (1.0, true)]);
    }

    #[test]
    fn less_traffic_memory_and_time_is_better() {
        let traffic = |bytes, writes| Traffic {
            reads: 1,
            read_bytes: bytes,
            writes,
            write_bytes: bytes,
        };
        let findings = Findings {
            counts: vec![Count {
                case: case(Medium::FixedLatency, "64k sequential first writes"),
                system: BLKSNAP.into(),
                bytes: 64 * CHUNK,
                ios: 4,
                origin: traffic(64 * CHUNK, 0),
                storage: traffic(65 * CHUNK, 9),
            }],
            memory: vec![Memory {
                chunks: 10,
                region: 1 << 20,
                bytes: 161,
            }],
            in_flight: vec![InFlight {
                case: case(Medium::FixedLatency, "4k random first writes, sparse"),
                bytes: 16 << 20,
                samples: 9,
            }],
            take: Some(Take {
                devices: 2,
                freeze_and_thaw: vec![5.0],
                take: vec![8.0],
            }),
            ..Findings::default()
        };
        let all = of(&findings);
        let told: Vec<bool> = all.iter().map(Measure::reached).collect();
        assert_eq!(told, [true, false, false, false, true, true], "{all:?}");
    }
}
