//! Results of tests as they come in: a line each, and the sum at the end.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::parallel::lock;
use crate::ui::{Ui, coloured};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    Fail,
    Skip,
}

#[derive(Clone, Debug, Serialize)]
pub struct Case {
    pub suite: String,
    pub name: String,
    pub verdict: Verdict,
    pub seconds: f64,
    /// Why it failed or was skipped.
    pub reason: String,
}

impl Case {
    pub fn new(suite: &str, name: &str, verdict: Verdict, reason: impl Into<String>) -> Self {
        Self {
            suite: suite.to_owned(),
            name: name.to_owned(),
            verdict,
            seconds: 0.0,
            reason: reason.into(),
        }
    }

    /// With the time it took.
    pub fn took(mut self, time: Duration) -> Self {
        self.seconds = time.as_secs_f64();
        self
    }

    fn line(&self) -> String {
        let word = match self.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::Skip => "skip",
        };
        let mut line = format!(
            "{word} {} {} ({:.2} s)",
            self.suite, self.name, self.seconds
        );
        if !self.reason.is_empty() {
            line.push_str(": ");
            line.push_str(&self.reason);
        }
        line
    }
}

/// Where all suites put their results.
pub struct Board {
    ui: Ui,
    /// Lines are for people; machines get the whole at the end.
    quiet: bool,
    start: Instant,
    cases: Mutex<Vec<Case>>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Sum {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Board {
    pub fn new(ui: &Ui, quiet: bool) -> Self {
        Self {
            ui: ui.clone(),
            quiet,
            start: Instant::now(),
            cases: Mutex::new(Vec::new()),
        }
    }

    pub fn add(&self, case: Case) {
        if !self.quiet {
            self.ui.result(coloured(&case.line()));
        }
        lock(&self.cases).push(case);
    }

    pub fn cases(&self) -> Vec<Case> {
        lock(&self.cases).clone()
    }

    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn sum(&self) -> Sum {
        let cases = self.cases();
        let count = |verdict| cases.iter().filter(|case| case.verdict == verdict).count();
        Sum {
            passed: count(Verdict::Pass),
            failed: count(Verdict::Fail),
            skipped: count(Verdict::Skip),
        }
    }

    /// The last lines: what was skipped and what failed, again, then the sum alone.
    pub fn closing(&self) -> Vec<String> {
        let cases = self.cases();
        let mut lines = Vec::new();
        for verdict in [Verdict::Skip, Verdict::Fail] {
            lines.extend(
                cases
                    .iter()
                    .filter(|c| c.verdict == verdict)
                    .map(Case::line),
            );
        }
        let sum = self.sum();
        if sum.passed == 0 && sum.failed == 0 {
            let what = match sum.skipped {
                0 => "no test was run",
                _ => "every test was skipped",
            };
            lines.push(format!("{what}, which counts as a failure"));
        }
        let mut last = format!("{} passed, {} failed", sum.passed, sum.failed);
        if sum.skipped > 0 {
            last.push_str(&format!(", {} skipped", sum.skipped));
        }
        lines.push(last);
        lines
    }

    /// Success needs a test that ran, and none that failed.
    pub fn good(&self) -> bool {
        let sum = self.sum();
        sum.failed == 0 && sum.passed > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(verdicts: &[Verdict]) -> Board {
        let board = Board::new(&Ui::new(), true);
        for verdict in verdicts {
            board.add(Case::new("s", "n", *verdict, "why"));
        }
        board
    }

    #[test]
    fn skipped_tests_are_never_counted_as_passed() {
        let board = board(&[Verdict::Pass, Verdict::Skip, Verdict::Skip]);
        assert_eq!(
            board.closing().last().unwrap(),
            "1 passed, 0 failed, 2 skipped"
        );
        assert_eq!(board.closing()[0], "skip s n (0.00 s): why");
        assert!(board.good());
    }

    #[test]
    fn no_test_at_all_is_no_success() {
        assert!(!board(&[]).good());
        assert!(!board(&[Verdict::Skip]).good());
        assert!(!board(&[Verdict::Pass, Verdict::Fail]).good());
        let none = "no test was run, which counts as a failure";
        assert_eq!(board(&[]).closing(), [none, "0 passed, 0 failed"]);
        let skipped = board(&[Verdict::Skip]).closing();
        let all = "every test was skipped, which counts as a failure";
        assert_eq!(skipped[1..], [all, "0 passed, 0 failed, 1 skipped"]);
        let failed = board(&[Verdict::Fail, Verdict::Skip]).closing();
        assert_eq!(failed.len(), 3, "{failed:?}");
    }
}
