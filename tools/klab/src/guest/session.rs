//! One guest from start to end, seen from the host.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::console::complaints;
use super::job::{ENDING, Ending, Job};
use crate::cache::{Cache, make};
use crate::fail::{Failure, Kind};
use crate::runner::machine::{Consoles, Machine, Runner};
use crate::signals::Terminal;
use crate::ui::bytes;

/// What a guest leaves in the folder of its results.
pub const FILES: [&str; 4] = [CONSOLE, OUTPUT, JOB, ENDING];

const CONSOLE: &str = "console.log";
pub const OUTPUT: &str = "output.log";
const JOB: &str = "job.json";

const TICK: Duration = Duration::from_millis(50);

/// What to run in a guest, and in what kind of guest.
#[derive(Clone, Debug)]
pub struct Spec {
    pub kernel: PathBuf,
    pub memory_mib: u64,
    /// Sizes of the virtual disks, in bytes.
    pub disks: Vec<u64>,
    pub kernel_words: Vec<String>,
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub folder: PathBuf,
    pub results: PathBuf,
    pub interactive: bool,
    /// The guest is killed if nothing at all comes from it for so long.
    pub silence: Option<Duration>,
}

/// How a guest ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Exit status of the command, if it got to its end.
    pub status: Option<i32>,
    pub problem: Option<String>,
    pub complaints: Vec<String>,
    pub timed_out: bool,
    pub console: PathBuf,
}

impl Outcome {
    /// The status of the command, unless the guest itself is the problem.
    pub fn into_status(self) -> Result<i32> {
        let log = self.console.display();
        if self.timed_out {
            return Err(Failure::new(
                Kind::Timeout,
                format!("the guest was silent for too long; see {log}"),
            )
            .into());
        }
        if let Some(first) = self.complaints.first() {
            return Err(Failure::new(
                Kind::Guest,
                format!("the guest's kernel complained ({first}); see {log}"),
            )
            .into());
        }
        if let Some(problem) = self.problem {
            let kind = match self.status {
                Some(status) if status == Kind::CannotRun as i32 => Kind::CannotRun,
                Some(status) if status == Kind::NotFound as i32 => Kind::NotFound,
                _ => Kind::Guest,
            };
            return Err(Failure::new(kind, format!("in the guest: {problem}")).into());
        }
        self.status
            .ok_or_else(|| Failure::new(Kind::Guest, format!("the guest died; see {log}")).into())
    }
}

/// Follows a guest while it runs.
pub trait Observer {
    /// More output of the command.
    fn output(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Called many times a second, and once after the end; true if something new was seen.
    fn tick(&mut self) -> Result<bool> {
        Ok(false)
    }
}

/// Hands on what a guest prints, line by line.
pub struct Lines<F> {
    show: F,
    rest: Vec<u8>,
}

impl<F: FnMut(&str)> Lines<F> {
    pub fn new(show: F) -> Self {
        let rest = Vec::new();
        Lines { show, rest }
    }
}

impl<F: FnMut(&str)> Observer for Lines<F> {
    fn output(&mut self, bytes: &[u8]) -> Result<()> {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            (self.show)(String::from_utf8_lossy(&line).trim_end());
        }
        Ok(())
    }
}

/// For whom the outcome is enough.
pub struct Silent;

impl Observer for Silent {}

/// Passes the output of the command on to ours.
pub struct PassOn;

impl Observer for PassOn {
    fn output(&mut self, bytes: &[u8]) -> Result<()> {
        crate::ui::pass_on(bytes);
        Ok(())
    }
}

/// Runs a guest to its end.
pub fn run(
    cache: &Cache,
    runner: &dyn Runner,
    spec: &Spec,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    make(&spec.results)?;
    let results = spec.results.canonicalize()?;
    Ending::remove(&results)?;
    let private = cache.private_folder()?;
    let disks = make_disks(private.path(), &spec.disks)?;
    let job = Job {
        command: spec.command.clone(),
        environment: spec.environment.clone(),
        folder: spec.folder.clone(),
        results: results.clone(),
        share: runner.share(&results)?,
        console: runner.console().to_owned(),
        interactive: spec.interactive,
    };
    let job_file = results.join(JOB);
    job.write(&job_file)?;
    let machine = Machine {
        kernel: spec.kernel.clone(),
        memory_mib: spec.memory_mib,
        disks,
        results: results.clone(),
        job: job_file,
        kernel_words: spec.kernel_words.clone(),
    };
    let console = results.join(CONSOLE);
    let kernel = File::create(&console)?;
    let timed_out = if spec.interactive {
        let terminal = Terminal::save();
        let mut running = runner.start(
            &machine,
            Consoles {
                kernel,
                command: None,
            },
        )?;
        while !running.ended()? {
            std::thread::sleep(TICK);
        }
        drop(terminal);
        false
    } else {
        watch(runner, &machine, kernel, spec, observer)?
    };
    observer.tick()?;
    let log = String::from_utf8_lossy(&std::fs::read(&console)?).into_owned();
    let ending = Ending::read(&results);
    Ok(Outcome {
        status: ending.as_ref().map(|ending| ending.status),
        problem: ending.and_then(|ending| ending.problem),
        complaints: complaints(&log),
        timed_out,
        console,
    })
}

/// Returns whether the guest had to be killed.
fn watch(
    runner: &dyn Runner,
    machine: &Machine,
    kernel: File,
    spec: &Spec,
    observer: &mut dyn Observer,
) -> Result<bool> {
    let console = machine.results.join(CONSOLE);
    let (mut reader, writer) = std::io::pipe()?;
    let (sender, receiver) = std::sync::mpsc::channel::<Vec<u8>>();
    let pump = std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut copy = File::create(machine.results.join(OUTPUT))?;
    let mut running = runner.start(
        machine,
        Consoles {
            kernel,
            command: Some(writer),
        },
    )?;
    let mut heard = Instant::now();
    let mut size = 0;
    let mut timed_out = false;
    loop {
        let ended = running.ended()?;
        while let Ok(bytes) = receiver.try_recv() {
            copy.write_all(&bytes)?;
            observer.output(&bytes)?;
            heard = Instant::now();
        }
        let now = console.metadata()?.len();
        if observer.tick()? || now != size {
            size = now;
            heard = Instant::now();
        }
        if ended {
            break;
        }
        if spec.silence.is_some_and(|limit| heard.elapsed() > limit) {
            timed_out = true;
            running.kill();
            break;
        }
        std::thread::sleep(TICK);
    }
    drop(running);
    // What was still on its way; the pipe ends because nobody is left to write to it.
    while let Ok(bytes) = receiver.recv() {
        copy.write_all(&bytes)?;
        observer.output(&bytes)?;
    }
    drop(pump.join());
    Ok(timed_out)
}

fn make_disks(folder: &Path, sizes: &[u64]) -> Result<Vec<PathBuf>> {
    let folder = folder.canonicalize()?;
    let mut disks = Vec::new();
    for (number, size) in sizes.iter().enumerate() {
        let path = folder.join(format!("disk{number}"));
        let file = File::create(&path)?;
        file.set_len(*size).map_err(|error| {
            Failure::new(
                Kind::Usage,
                format!("a disk of {} cannot be made: {error}", bytes(*size)),
            )
            .hint(format!(
                "make it smaller: it is a sparse file in {}",
                folder.display()
            ))
        })?;
        disks.push(path);
    }
    Ok(disks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::mock::Mock;

    fn spec(folder: &Path) -> Spec {
        Spec {
            kernel: "/k".into(),
            memory_mib: 1,
            disks: vec![1 << 20],
            kernel_words: Vec::new(),
            command: vec!["true".into()],
            environment: BTreeMap::new(),
            folder: "/".into(),
            results: folder.join("results"),
            interactive: false,
            silence: Some(Duration::from_millis(200)),
        }
    }

    fn outcome(mock: &Mock) -> (Outcome, Vec<u8>) {
        struct Keep(Vec<u8>);
        impl Observer for Keep {
            fn output(&mut self, bytes: &[u8]) -> Result<()> {
                self.0.extend_from_slice(bytes);
                Ok(())
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache"));
        let mut keep = Keep(Vec::new());
        let outcome = run(&cache, mock, &spec(folder.path()), &mut keep).unwrap();
        let left = std::fs::read_dir(cache.running()).unwrap().count();
        assert_eq!(left, 0, "disks are left behind");
        (outcome, keep.0)
    }

    #[test]
    fn the_status_of_the_command_comes_back() {
        let mock = Mock::new(|machine, _, output| {
            assert_eq!(machine.disks[0].metadata().unwrap().len(), 1 << 20);
            output.write_all(b"hello").unwrap();
            Ending {
                status: 7,
                problem: None,
            }
            .write(&machine.results)
            .unwrap();
        });
        let (outcome, output) = outcome(&mock);
        assert_eq!(output, b"hello");
        assert_eq!(outcome.into_status().unwrap(), 7);
        assert_eq!(mock.started.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_command_that_was_not_found_is_no_death_of_the_guest() {
        let status = |status: i32| {
            let mock = Mock::new(move |machine, _, _| {
                let problem = Some("`nosuch` was not found".to_owned());
                let ending = Ending { status, problem };
                ending.write(&machine.results).unwrap();
            });
            let error = outcome(&mock).0.into_status().unwrap_err();
            assert!(error.to_string().contains("`nosuch`"), "{error}");
            crate::fail::status_of(&error)
        };
        assert_eq!((status(127), status(126), status(114)), (127, 126, 114));
    }

    #[test]
    fn a_disk_that_no_filesystem_holds_is_a_usage_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = make_disks(folder.path(), &[u64::MAX]).unwrap_err();
        assert_eq!(crate::fail::status_of(&error), 2);
    }

    #[test]
    fn a_complaint_is_worth_more_than_success() {
        let (outcome, _) = outcome(&Mock::new(|machine, kernel, _| {
            kernel
                .write_all(b"[ 1.0] WARNING: CPU: 0 PID: 1 at x\n")
                .unwrap();
            Ending {
                status: 0,
                problem: None,
            }
            .write(&machine.results)
            .unwrap();
        }));
        assert_eq!(
            crate::fail::status_of(&outcome.into_status().unwrap_err()),
            114
        );
    }

    #[test]
    fn a_guest_that_died_has_no_status() {
        let (outcome, _) = outcome(&Mock::new(|_, _, _| {}));
        assert_eq!(
            crate::fail::status_of(&outcome.into_status().unwrap_err()),
            114
        );
    }

    #[test]
    fn a_silent_guest_is_killed() {
        let mut mock = Mock::new(|_, _, _| {});
        mock.ends = false;
        let (outcome, _) = outcome(&mock);
        assert_eq!(
            crate::fail::status_of(&outcome.into_status().unwrap_err()),
            113
        );
    }
}
