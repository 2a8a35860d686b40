//! The load: which blocks, in what order, by how many, and how long it takes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::aio::{Buffer, Queue};

/// What blocks are touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One block in each region of this many bytes, in random order.
    OnePer(u64),
    /// Every block once, in random order.
    Random,
    /// Every block once, from the first to the last.
    Sequential,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub write: bool,
    pub block: u64,
    pub order: Order,
    /// Bytes of the device that are touched, from its start.
    pub area: u64,
    pub depth: usize,
    pub jobs: usize,
    /// How often all of it is touched, each time in an order of its own.
    pub passes: u64,
}

/// splitmix64: the same numbers for the same seed.
struct Lot(u64);

impl Lot {
    fn draw(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn shuffle(&mut self, list: &mut [u64]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.draw(i as u64 + 1) as usize);
        }
    }
}

impl Load {
    /// Number of I/Os.
    pub fn ios(&self) -> u64 {
        let once = match self.order {
            Order::OnePer(region) => self.area / region,
            Order::Random | Order::Sequential => self.area / self.block,
        };
        once * self.passes
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.ios() * self.block
    }

    /// The offsets of each job. Two jobs share the area: halves of it in sequence, or every other
    /// one of a random order.
    fn offsets(&self, seed: u64) -> Vec<Vec<u64>> {
        let mut lot = Lot(seed);
        let mut jobs = vec![Vec::new(); self.jobs];
        for _ in 0..self.passes {
            let pass = self.pass(&mut lot);
            let share = pass.len().div_ceil(self.jobs);
            for (job, offsets) in jobs.iter_mut().zip(pass.chunks(share)) {
                job.extend_from_slice(offsets);
            }
        }
        jobs
    }

    /// The offsets of one pass.
    fn pass(&self, lot: &mut Lot) -> Vec<u64> {
        let mut all: Vec<u64> = match self.order {
            Order::OnePer(region) => (0..self.area / region)
                .map(|i| i * region + lot.draw(region / self.block) * self.block)
                .collect(),
            Order::Random | Order::Sequential => (0..self.area / self.block)
                .map(|i| i * self.block)
                .collect(),
        };
        if self.order != Order::Sequential {
            lot.shuffle(&mut all);
        }
        all
    }

    /// Does it all and returns how long it took.
    pub fn run(&self, device: &Path, seed: u64) -> Result<Duration> {
        let jobs = self.offsets(seed);
        let barrier = Barrier::new(jobs.len());
        let times = std::thread::scope(|scope| {
            let threads: Vec<_> = jobs
                .iter()
                .map(|offsets| scope.spawn(|| self.job(device, offsets, &barrier)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("jobs do not panic"))
                .collect::<Result<Vec<_>>>()
        })?;
        let start = times.iter().map(|(start, _)| *start).min();
        let end = times.iter().map(|(_, end)| *end).max();
        let (start, end) = start.zip(end).context("no job")?;
        Ok(end - start)
    }

    fn job(&self, device: &Path, offsets: &[u64], all: &Barrier) -> Result<(Instant, Instant)> {
        // Whoever cannot begin must not leave the others waiting.
        let ready = Worker::new(self, device);
        all.wait();
        let mut offsets = offsets.iter().copied();
        let mut worker = ready?;
        let start = Instant::now();
        worker.run(|| offsets.next())?;
        Ok((start, Instant::now()))
    }

    /// Goes on, over and over, until told to stop.
    pub fn until(&self, device: &Path, seed: u64, stop: &AtomicBool) -> Result<()> {
        let offsets = self.offsets(seed).concat();
        let mut offsets = offsets.iter().copied().cycle();
        Worker::new(self, device)?.run(|| {
            let go_on = !stop.load(Ordering::Relaxed);
            go_on.then(|| offsets.next()).flatten()
        })
    }
}

/// One job, ready to begin: making and ending a queue takes its time, which is not measured.
enum Worker {
    One {
        file: File,
        buffer: Buffer,
        write: bool,
    },
    Many(Queue),
}

impl Worker {
    fn new(load: &Load, device: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(load.write)
            .custom_flags(libc::O_DIRECT)
            .open(device)
            .with_context(|| format!("cannot open {}", device.display()))?;
        let block = load.block as usize;
        Ok(match load.depth {
            0 | 1 => Self::One {
                file,
                buffer: Buffer::new(block)?,
                write: load.write,
            },
            depth => Self::Many(Queue::new(file, load.write, block, depth)?),
        })
    }

    fn run(&mut self, mut next: impl FnMut() -> Option<u64>) -> Result<()> {
        match self {
            Self::One {
                file,
                buffer,
                write,
            } => {
                while let Some(offset) = next() {
                    if *write {
                        file.write_all_at(buffer.bytes(), offset)?;
                    } else {
                        file.read_exact_at(buffer.bytes(), offset)?;
                    }
                }
                Ok(())
            }
            Self::Many(queue) => queue.run(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load {
        write: true,
        block: 4096,
        order: Order::Random,
        area: 1 << 20,
        depth: 8,
        jobs: 2,
        passes: 1,
    };

    #[test]
    fn jobs_touch_every_block_once_together() {
        for order in [Order::Random, Order::Sequential] {
            let load = Load { order, ..LOAD };
            let jobs = load.offsets(1);
            assert_eq!(jobs.len(), 2);
            let mut all = jobs.concat();
            assert_eq!(all.len() as u64, load.ios());
            assert_eq!(all.is_sorted(), order == Order::Sequential);
            all.sort_unstable();
            assert!((0..256).map(|i| i * 4096).eq(all));
        }
    }

    #[test]
    fn sparse_blocks_lie_in_regions_of_their_own() {
        let load = Load {
            order: Order::OnePer(65536),
            jobs: 1,
            ..LOAD
        };
        let all = load.offsets(7).concat();
        assert_eq!((all.len() as u64, load.bytes()), (16, 65536));
        let mut regions: Vec<_> = all.iter().map(|offset| offset / 65536).collect();
        regions.sort_unstable();
        assert!((0..16).eq(regions));
        assert!(all.iter().any(|offset| offset % 65536 != 0));
        assert_ne!(all, load.offsets(8).concat());
    }

    #[test]
    fn each_pass_touches_all_of_it_in_an_order_of_its_own() {
        let load = Load {
            passes: 3,
            jobs: 1,
            ..LOAD
        };
        let all = load.offsets(1).concat();
        assert_eq!(all.len() as u64, load.ios());
        let passes: Vec<&[u64]> = all.chunks(256).collect();
        assert!(passes.len() == 3 && passes[0] != passes[1] && passes[1] != passes[2]);
        for pass in passes {
            let mut pass = pass.to_vec();
            pass.sort_unstable();
            assert!((0..256).map(|i| i * 4096).eq(pass));
        }
    }

    #[test]
    fn a_device_that_cannot_be_opened_stops_all_jobs() {
        assert!(LOAD.run(Path::new("/nonexistent/device"), 1).is_err());
    }
}
