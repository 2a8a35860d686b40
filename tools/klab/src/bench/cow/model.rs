//! What was measured, as the guest tells it to the host.

use serde::{Deserialize, Serialize};

/// What kind of device the measurement was made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Medium {
    /// Memory: the cost is that of the processor.
    Ramdisk,
    /// Every I/O takes as long: the cost is that of I/Os that wait for each other.
    FixedLatency,
}

impl Medium {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ramdisk => "ramdisk",
            Self::FixedLatency => "fixed latency",
        }
    }
}

/// What is done, how often at a time, by how many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Case {
    pub medium: Medium,
    pub pattern: String,
    pub depth: usize,
    pub jobs: usize,
}

impl Case {
    /// For people.
    pub fn name(&self) -> String {
        let mut name = format!("{}, {} at a time", self.pattern, self.depth);
        if self.jobs > 1 {
            name.push_str(&format!(", {} jobs", self.jobs));
        }
        name
    }
}

/// One case with one system: the speed of each repeat, divided by that of the bare device just
/// before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub case: Case,
    pub system: String,
    pub ratios: Vec<f64>,
}

/// What the block layer counted in one case, for one system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Count {
    pub case: Case,
    pub system: String,
    /// Bytes that the case writes or reads.
    pub bytes: u64,
    /// I/Os that the case makes.
    pub ios: u64,
    pub origin: Traffic,
    pub storage: Traffic,
}

/// I/Os and bytes of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub write_bytes: u64,
}

impl Traffic {
    pub fn since(self, before: Self) -> Self {
        Self {
            reads: self.reads - before.reads,
            read_bytes: self.read_bytes - before.read_bytes,
            writes: self.writes - before.writes,
            write_bytes: self.write_bytes - before.write_bytes,
        }
    }
}

/// Kernel memory that copied chunks take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Chunks that were copied.
    pub chunks: u64,
    /// One of them lies in so many bytes.
    pub region: u64,
    /// Free memory before, minus free memory after.
    pub bytes: i64,
}

/// The most memory that copies in flight were seen to take during a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InFlight {
    pub case: Case,
    pub bytes: u64,
    /// How often it was looked at.
    pub samples: u64,
}

/// Time to take a snapshot of idle devices, and to freeze and thaw their filesystems alone, in
/// milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Take {
    pub devices: usize,
    pub freeze_and_thaw: Vec<f64>,
    pub take: Vec<f64>,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    pub series: Vec<Series>,
    pub counts: Vec<Count>,
    pub memory: Vec<Memory>,
    #[serde(default)]
    pub in_flight: Vec<InFlight>,
    pub take: Option<Take>,
    /// Release of the guest's kernel.
    #[serde(default)]
    pub kernel: String,
    /// Cases, and in brackets the systems, for which there was no time.
    #[serde(default)]
    pub left_out: Vec<String>,
    pub finished: bool,
    pub seconds: f64,
}

impl Findings {
    /// Adds what another guest has found after this one.
    pub fn add(&mut self, other: Self) {
        self.series.extend(other.series);
        self.counts.extend(other.counts);
        self.memory.extend(other.memory);
        self.in_flight.extend(other.in_flight);
        self.take = self.take.take().or(other.take);
        self.left_out.extend(other.left_out);
        self.finished &= other.finished;
        self.seconds += other.seconds;
    }
}

/// The middle and the middle half of some numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Spread {
    pub fn of(numbers: &[f64]) -> Option<Self> {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = |share: f64| {
            let place = share * last as f64;
            let below = sorted[place.floor() as usize];
            let above = sorted[place.ceil() as usize];
            below + (above - below) * place.fract()
        };
        Some(Self {
            low: at(0.25),
            median: at(0.5),
            high: at(0.75),
        })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:.2} ({:.2}-{:.2})", self.median, self.low, self.high);
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_the_quartiles_around_it() {
        assert_eq!(Spread::of(&[]), None);
        let one = Spread::of(&[3.0]).unwrap();
        assert_eq!((one.low, one.median, one.high), (3.0, 3.0, 3.0));
        let five = Spread::of(&[5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        assert_eq!((five.low, five.median, five.high), (2.0, 3.0, 4.0));
        let even = Spread::of(&[1.0, 2.0]).unwrap();
        assert_eq!((even.low, even.median, even.high), (1.25, 1.5, 1.75));
        assert_eq!(format!("{even:20}|"), "1.50 (1.25-1.75)    |");
    }
}
