//! The results as JUnit XML.

use std::path::Path;

use anyhow::Result;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::board::{Board, Case, Verdict};
use crate::cache::write_if_changed;

/// Its name in the folder of results.
pub const FILE: &str = "junit.xml";

pub fn write(board: &Board, path: &Path) -> Result<()> {
    let mut report = Report::new("klab");
    report.set_time(board.elapsed());
    let cases = board.cases();
    let mut names: Vec<&str> = cases.iter().map(|case| case.suite.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let mut suite = TestSuite::new(name);
        let own = cases.iter().filter(|case| case.suite == name);
        suite.add_test_cases(own.map(convert));
        report.add_test_suite(suite);
    }
    write_if_changed(path, report.to_string()?.as_bytes())?;
    Ok(())
}

fn convert(case: &Case) -> TestCase {
    let status = match case.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Fail => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(case.reason.clone());
            status
        }
        Verdict::Skip => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(case.reason.clone());
            status
        }
    };
    let mut converted = TestCase::new(case.name.clone(), status);
    converted.set_classname(case.suite.clone());
    converted.set_time(std::time::Duration::from_secs_f64(case.seconds.max(0.0)));
    converted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Ui;

    #[test]
    fn counts_and_reasons_are_in_the_report() {
        let board = Board::new(&Ui::new(), true);
        board.add(Case::new(
            "xfs",
            "generic/901",
            Verdict::Fail,
            "output mismatch: <x>",
        ));
        board.add(Case::new(
            "xfs",
            "generic/902",
            Verdict::Skip,
            "no such device",
        ));
        board.add(Case::new("host", "a::b", Verdict::Pass, ""));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("junit.xml");
        write(&board, &path).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(
            text.contains("tests=\"3\"") && text.contains("failures=\"1\""),
            "{text}"
        );
        assert!(text.contains("output mismatch: &lt;x&gt;") && text.contains("no such device"));
    }
}
