//! The demonstration as the host sees it: guests, lines as they come, pictures, a table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use walkdir::WalkDir;

use super::guest::{CHECK, COMPARE, COMPARE_WRITABLE, REPORT, STORAGE_BYTES, TAKE, ZEROES};
use super::report::{Report, Step};
use crate::cache::{Cache, write_if_changed};
use crate::cli::Filesystem;
use crate::fail::{Failure, Kind};
use crate::guest::session::{self, Lines, Spec};
use crate::parallel;
use crate::paths::text;
use crate::runner::machine::Runner;
use crate::test::suite::GUESTS;
use crate::ui::{Ui, bytes};

/// What is left in the folder of each filesystem.
pub const FILES: [&str; 2] = [REPORT, PICTURE];
const PICTURE: &str = "storage.svg";

const DISK: u64 = 3 << 30;

/// What is left for files: beside the storage, filesystem and writer need some.
const MOST_BYTES: u64 = DISK - STORAGE_BYTES - (512 << 20);

/// ext4 has an inode for each 16 KiB; some are for others than these files.
const MOST_FILES: u64 = (DISK >> 14) - 20_000;

/// What is really filled of the sparse disk of a guest.
pub const FILLED: u64 = 2 << 30;

pub const MEMORY_MIB: u64 = 2048;

/// Refuses files that the guests could not make use of.
pub fn check_data(folder: &Path) -> Result<()> {
    let refuse = |why: String| {
        Failure::new(
            Kind::Usage,
            format!("the files in {} {why}", folder.display()),
        )
        .hint("name the files to fill the filesystems with: cargo klab demo --data DIR")
    };
    if !folder.is_dir() {
        return Err(refuse("cannot be used: it is not a folder".into()).into());
    }
    let (mut files, mut sum) = (0, 0);
    for entry in WalkDir::new(folder) {
        let entry = entry.map_err(|error| refuse(format!("cannot be read: {error}")))?;
        if entry.file_type().is_file() {
            let size = entry
                .metadata()
                .map_err(|error| refuse(format!("cannot be read: {error}")))?
                .len();
            files += 1;
            // Filesystems hand out whole blocks.
            sum += size.next_multiple_of(4096);
            if sum > MOST_BYTES || files > MOST_FILES {
                return Err(refuse(format!(
                    "are too many: a guest has room for {MOST_FILES} files and {}",
                    bytes(MOST_BYTES)
                ))
                .into());
            }
        }
    }
    if files == 0 {
        return Err(refuse("cannot be used: there are none".into()).into());
    }
    Ok(())
}

pub struct Plan<'a> {
    pub cache: &'a Cache,
    pub runner: &'a dyn Runner,
    pub ui: &'a Ui,
    pub kernel: PathBuf,
    /// This program, for the guest.
    pub klab: PathBuf,
    pub blksnap: PathBuf,
    pub data: PathBuf,
    pub results: PathBuf,
    pub filesystems: Vec<Filesystem>,
    /// No lines while it runs.
    pub quiet: bool,
}

/// Runs the guests, some at a time; reports come in the order of the filesystems.
pub fn run(plan: &Plan<'_>) -> Vec<Report> {
    parallel::each(plan.filesystems.clone(), GUESTS, |fs| {
        one(plan, fs)
            .unwrap_or_else(|error| failed(fs, &crate::fail::explain(&error), Report::default()))
    })
}

fn failed(fs: Filesystem, why: &str, report: Report) -> Report {
    let mut report = Report {
        filesystem: fs.name().into(),
        finished: false,
        ..report
    };
    let step = Step {
        name: "guest".into(),
        held: false,
        detail: why.into(),
        seconds: 0.0,
    };
    report.steps.push(step);
    report
}

fn one(plan: &Plan<'_>, fs: Filesystem) -> Result<Report> {
    let results = plan.results.join(fs.name());
    crate::cache::make(&results)?;
    let results = results.canonicalize()?;
    let report_file = results.join(REPORT);
    let words = [
        text(&plan.klab)?,
        "guest-demo",
        "--fs",
        fs.name(),
        "--data",
        text(&plan.data)?,
        "--results",
        text(&results)?,
        "--blksnap",
        text(&plan.blksnap)?,
    ];
    let spec = Spec {
        kernel: plan.kernel.clone(),
        memory_mib: MEMORY_MIB,
        disks: vec![DISK],
        kernel_words: Vec::new(),
        command: words.map(str::to_owned).to_vec(),
        environment: BTreeMap::new(),
        folder: PathBuf::from("/"),
        results,
        interactive: false,
        silence: Some(Duration::from_secs(240)),
    };
    let mut lines = Lines::new(|line| {
        if !plan.quiet {
            plan.ui.result(format!("{:5} {line}", fs.name()));
        }
    });
    let outcome = session::run(plan.cache, plan.runner, &spec, &mut lines)?;
    let report: Report = match std::fs::read(&report_file) {
        Ok(text) => serde_json::from_slice(&text)?,
        Err(_) => Report::default(),
    };
    if let Some(picture) = &report.picture {
        write_if_changed(&spec.results.join(PICTURE), picture.svg().as_bytes())?;
    }
    Ok(match outcome.into_status() {
        Ok(_) => report,
        Err(error) => failed(fs, &crate::fail::explain(&error), report),
    })
}

/// The closing table.
pub fn table(reports: &[Report]) -> Vec<String> {
    let columns: [(&str, &str); 5] = [
        ("snapshot", TAKE),
        ("image ro", COMPARE),
        ("image rw", COMPARE_WRITABLE),
        ("zeroes", ZEROES),
        ("fsck", CHECK),
    ];
    let mut head = format!("{:6}", "");
    for (title, _) in columns {
        head.push_str(&format!("{title:10}"));
    }
    head.push_str(&format!("{:18}{:>8}  {}", "tampering", "seconds", "result"));
    let mut lines = vec![head];
    for report in reports {
        let mut line = format!("{:6}", report.filesystem);
        for (_, name) in columns {
            let word = match report.step(name) {
                Some(step) if step.held => "held",
                Some(_) => "FAILED",
                None => "-",
            };
            line.push_str(&format!("{word:10}"));
        }
        let result = if report.held() { "held" } else { "FAILED" };
        line.push_str(&format!(
            "{:18}{:>8.1}  {result}",
            report.refusals(),
            report.seconds
        ));
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::job::Ending;
    use crate::runner::mock::Mock;

    fn plan<'a>(
        folder: &std::path::Path,
        cache: &'a Cache,
        mock: &'a Mock,
        ui: &'a Ui,
    ) -> Plan<'a> {
        Plan {
            cache,
            runner: mock,
            ui,
            kernel: "/k".into(),
            klab: "/p".into(),
            blksnap: "/b".into(),
            data: "/d".into(),
            results: folder.join("results"),
            filesystems: vec![Filesystem::Xfs, Filesystem::Btrfs],
            quiet: true,
        }
    }

    #[test]
    fn data_that_cannot_be_used_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused =
            |path: &Path| check_data(path).is_err_and(|error| crate::fail::status_of(&error) == 2);
        assert!(refused(&folder.path().join("none")));
        assert!(refused(folder.path()));
        let file = std::fs::File::create(folder.path().join("file")).unwrap();
        check_data(folder.path()).unwrap();
        file.set_len(MOST_BYTES).unwrap();
        check_data(folder.path()).unwrap();
        std::fs::write(folder.path().join("drop"), "one too many").unwrap();
        assert!(refused(folder.path()));
    }

    #[test]
    fn a_guest_without_a_report_is_a_failure_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache"));
        let ui = Ui::new();
        let mock = Mock::new(|machine, _, _| {
            if machine.results.ends_with("btrfs") {
                let text = r#"{"filesystem":"btrfs","steps":[{"name":"x","held":true,"detail":"",
                    "seconds":1.0}],"attempts":[ATTEMPTS],"picture":{"title":"btrfs","disk_bytes":100,
                    "extents":[{"file_offset":0,"disk_offset":10,"length":5,"unwritten":true}]},
                    "finished":true,"seconds":3.0}"#;
                let attempts: Vec<String> = crate::demo::tamper::names("btrfs")
                    .map(|name| {
                        format!(r#"{{"name":"{name}","answer":"refused","errno":"ETXTBSY"}}"#)
                    })
                    .collect();
                let text = text.replace("ATTEMPTS", &attempts.join(","));
                std::fs::write(machine.results.join(REPORT), text).unwrap();
                Ending {
                    status: 0,
                    problem: None,
                }
                .write(&machine.results)
                .unwrap();
            }
        });
        let reports = run(&plan(folder.path(), &cache, &mock, &ui));
        assert!(!reports[0].held() && reports[1].held());
        assert!(folder.path().join("results/btrfs/storage.svg").is_file());
        let table = table(&reports);
        assert!(
            table[1].starts_with("xfs") && table[1].ends_with("FAILED"),
            "{table:?}"
        );
        assert!(
            table[2].ends_with("held") && table[2].contains("all 13 refused"),
            "{table:?}"
        );
    }
}
