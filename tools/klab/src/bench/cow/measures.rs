//! What is to be reached, and whether it was.

use serde::Serialize;

use super::model::{Count, Findings, Medium, Series, Spread};

const BLKSNAP: &str = "blksnap";
const DM: &str = "dm-snapshot";
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
                "bytes of memory a chunk copied, one written in {} KiB",
                memory.region >> 10
            ),
            value: memory.bytes as f64 / memory.chunks as f64,
            goal: 16.0,
            at_most: true,
        });
    }
    if let Some(take) = &findings.take
        && let Some(alone) = Spread::of(&take.freeze_and_thaw)
        && let Some(whole) = Spread::of(&take.take)
    {
        all.push(Measure {
            name: format!(
                "ms a device to take {} idle ones, beyond freeze and thaw",
                take.devices
            ),
            value: (whole.median - alone.median) / take.devices as f64,
            goal: 2.0,
            at_most: true,
        });
    }
    all
}

fn speed(series: &Series, findings: &Findings, all: &mut Vec<Measure>) {
    let Some(value) = median(series) else { return };
    let case = &series.case;
    let mut name = format!(
        "{}, {}, {} at a time",
        case.medium.name(),
        case.pattern,
        case.depth
    );
    if case.jobs > 1 {
        name.push_str(&format!(", {} jobs", case.jobs));
    }
    let mut push = |name: String, value, goal| {
        all.push(Measure {
            name,
            value,
            goal,
            at_most: false,
        });
    };
    if series.system == "attached" {
        push(
            format!("{name}, no snapshot, to the bare device"),
            value,
            0.97,
        );
    }
    if series.system != BLKSNAP {
        return;
    }
    // The best of device-mapper for this case.
    let best = findings
        .series
        .iter()
        .filter(|other| other.case == *case && other.system.starts_with(DM))
        .filter_map(median)
        .max_by(f64::total_cmp);
    let beside = |times: f64| {
        best.filter(|best| *best > 0.0)
            .map(|best| (value / best, times))
    };
    let first = case.pattern.contains("first writes");
    match case.medium {
        // Where every write needs a copy of its own.
        Medium::FixedLatency if first && case.pattern.ends_with("sparse") => {
            push(
                format!("{name}, to the bare device"),
                value,
                if case.depth == 1 { 0.48 } else { 0.45 },
            );
            if let Some((value, goal)) = beside(1.4).filter(|_| case.depth == 1) {
                push(format!("{name}, to dm-snapshot at its best"), value, goal);
            }
        }
        Medium::Ramdisk if first => {
            if let Some((value, goal)) = beside(1.2) {
                push(format!("{name}, to dm-snapshot at its best"), value, goal);
            }
        }
        Medium::Ramdisk if case.pattern.contains("rewrites") => {
            push(format!("{name}, to the bare device"), value, 0.95);
        }
        Medium::Ramdisk if case.pattern.ends_with("idle") => {
            push(format!("{name}, to the bare device"), value, 0.90);
        }
        _ => {}
    }
}

fn traffic(count: &Count, all: &mut Vec<Measure>) {
    let case = &count.case;
    let goal = match case.pattern.as_str() {
        pattern if pattern.contains("sparse") => 4.0,
        pattern if pattern.contains("dense") => 1.1,
        _ => 1.0,
    };
    let name = format!("{}, {} at a time", case.pattern, case.depth);
    for (what, bytes) in [
        ("read from the origin", count.origin.read_bytes),
        ("stored", count.storage.write_bytes),
    ] {
        all.push(Measure {
            name: format!("bytes {what} a byte overwritten, {name}"),
            value: bytes as f64 / count.bytes as f64,
            goal,
            at_most: true,
        });
    }
    if case.pattern.contains("sequential") {
        all.push(Measure {
            name: format!("writes to the storage a chunk copied, {name}"),
            value: count.storage.writes as f64 / (count.bytes / CHUNK) as f64,
            goal: 1.0 / 8.0,
            at_most: true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cow::model::{Case, Memory, Take, Traffic};

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
            take: Some(Take {
                devices: 2,
                freeze_and_thaw: vec![5.0],
                take: vec![8.0],
            }),
            ..Findings::default()
        };
        let all = of(&findings);
        let told: Vec<bool> = all.iter().map(Measure::reached).collect();
        assert_eq!(told, [true, false, false, false, true], "{all:?}");
    }
}
