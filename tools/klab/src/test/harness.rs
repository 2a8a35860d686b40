//! The tests of the tests: their form, and that their harness tells success from failure.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use super::board::{Board, Case, Verdict};
use super::fstests;
use super::suite::Lab;
use crate::cli::Filesystem;
use crate::exec::capture;
use crate::guest::session::{self, Silent};
use crate::paths::text;

const SUITE: &str = "harness";

/// What its two tests leave.
pub const FILES: [&str; 2] = [LINT_LOG, "selftest.got"];
const LINT_LOG: &str = "lint.log";

/// The form of the tests of filesystems; 20 seconds of one processor.
pub fn lint(lab: &Lab<'_>, board: &Board) -> Result<()> {
    if !lab.chosen("harness lint") {
        return Ok(());
    }
    let start = Instant::now();
    let output = capture(&mut Command::new(lab.root.join("xfstests/lint")), None)?;
    let said = [output.stdout, output.stderr].concat();
    let log = lab.results.join(LINT_LOG);
    std::fs::write(&log, &said)?;
    let (verdict, reason) = if output.status.success() {
        (Verdict::Pass, String::new())
    } else {
        let first = complaint(&String::from_utf8_lossy(&said));
        (Verdict::Fail, format!("{first}; see {}", log.display()))
    };
    board.add(Case::new(SUITE, "lint", verdict, reason).took(start.elapsed()));
    Ok(())
}

/// The first line that says what is wrong.
fn complaint(said: &str) -> String {
    said.lines()
        .map(str::trim)
        .find(|line| line.starts_with("lint: ") || line.starts_with("In "))
        .unwrap_or("it failed")
        .to_owned()
}

/// Tests that go wrong in every way the harness watches for, in a guest: about a minute, a third
/// of which one of them waits. What each kernel message means, the harness says itself.
pub fn selftest(lab: &Lab<'_>, board: &Board) -> Result<()> {
    if !lab.chosen("harness selftest") {
        return Ok(());
    }
    let start = Instant::now();
    let mut spec = fstests::spec(lab, SUITE, Filesystem::Xfs)?;
    let results = spec.results.clone();
    for word in [
        lab.root.join("xfstests/selftest/run").as_path(),
        "--fstyp".as_ref(),
        Filesystem::Xfs.name().as_ref(),
        "--results".as_ref(),
        &results,
        "--bin".as_ref(),
        &fstests::programs(lab),
    ] {
        spec.command.push(text(word)?.to_owned());
    }
    let outcome = session::run(lab.cache, lab.runner, &spec, &mut Silent)?;
    let (verdict, reason) = match (outcome.timed_out, outcome.status) {
        (false, Some(0)) => (Verdict::Pass, String::new()),
        (false, Some(_)) => (Verdict::Fail, fstests::last(&spec)),
        _ => (
            Verdict::Fail,
            format!(
                "the guest did not finish; see {}",
                outcome.console.display()
            ),
        ),
    };
    board.add(Case::new(SUITE, "selftest", verdict, reason).took(start.elapsed()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use crate::guest::job::Ending;
    use crate::runner::mock::Mock;
    use crate::ui::Ui;

    fn verdict(status: i32) -> Verdict {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache"));
        let runner = Mock::new(move |machine, kernel, _| {
            kernel.write_all(b"WARNING: a selftest\n").unwrap();
            Ending {
                status,
                problem: None,
            }
            .write(&machine.results)
            .unwrap();
        });
        let ui = Ui::new();
        let lab = Lab {
            cache: &cache,
            runner: &runner,
            ui: &ui,
            root: folder.path().to_owned(),
            kernel: "/k".into(),
            results: folder.path().join("results"),
            filter: None,
            only: None,
            environment: std::collections::BTreeMap::new(),
            checkout: None,
            groups: Vec::new(),
            patience: 1,
        };
        let board = Board::new(&ui, true);
        selftest(&lab, &board).unwrap();
        board.cases()[0].verdict
    }

    #[test]
    fn complaints_of_the_kernel_are_part_of_the_selftest() {
        assert_eq!(verdict(0), Verdict::Pass);
        assert_eq!(verdict(1), Verdict::Fail);
    }

    #[test]
    fn the_first_complaint_is_told() {
        let said = "\nIn tests/generic/937 line 56:\n\tlocal a=$(b)\nlint: x\n";
        assert_eq!(complaint(said), "In tests/generic/937 line 56:");
        assert_eq!(complaint("nothing\n"), "it failed");
    }
}
