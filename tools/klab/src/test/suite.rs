//! The plan of a test run, and running its suites side by side.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use super::board::{Board, Case, Verdict};
use super::{fstests, host, isolation, kunit};
use crate::cache::Cache;
use crate::cli::Filesystem;
use crate::guest::session::Spec;
use crate::runner::machine::Runner;
use crate::ui::Ui;

/// Guests that run at a time.
pub const GUESTS: usize = 2;

/// What every suite needs.
#[derive(Clone)]
pub struct Lab<'a> {
    pub cache: &'a Cache,
    pub runner: &'a dyn Runner,
    pub ui: &'a Ui,
    pub root: PathBuf,
    pub kernel: PathBuf,
    pub results: PathBuf,
    pub filter: Option<String>,
    /// No other tests than these, each with its suite in front.
    pub only: Option<BTreeSet<String>>,
    /// What the guests' environment has besides.
    pub environment: BTreeMap<String, String>,
    /// A real xfstests checkout to run the filesystem tests in.
    pub checkout: Option<PathBuf>,
    /// Kernels that check more are slower.
    pub patience: u32,
}

impl Lab<'_> {
    /// A guest for a suite; its folder is writable, and keeps the console log.
    pub fn spec(&self, suite: &str, command: Vec<String>) -> Spec {
        Spec {
            kernel: self.kernel.clone(),
            memory_mib: 2048,
            disks: Vec::new(),
            kernel_words: Vec::new(),
            command,
            environment: self.environment.clone(),
            folder: self.root.clone(),
            results: self.results.join(suite),
            interactive: false,
            silence: Some(Duration::from_secs(360) * self.patience),
        }
    }

    /// Whether a test is asked for.
    pub fn chosen(&self, name: &str) -> bool {
        let by_filter = self
            .filter
            .as_ref()
            .is_none_or(|filter| name.contains(filter.as_str()));
        by_filter && self.only.as_ref().is_none_or(|only| only.contains(name))
    }
}

/// A suite that runs in a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    Kunit,
    Isolation,
    Filesystem(Filesystem),
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Kunit => "kunit",
            Self::Isolation => "isolation",
            Self::Filesystem(fs) => fs.name(),
        }
    }

    fn run(self, lab: &Lab<'_>, board: &Board) -> Result<()> {
        match self {
            Self::Kunit => kunit::run(lab, board),
            Self::Isolation => isolation::run(lab, board),
            Self::Filesystem(fs) => fstests::run(lab, board, fs),
        }
    }
}

/// The tests of the host, which keep all processors busy by themselves.
pub fn run_host(lab: &Lab<'_>, board: &Board) {
    settle("host", host::run(lab, board), board);
}

/// All guests' suites, some at a time.
pub fn run_guests(lab: &Lab<'_>, board: &Board, suites: &[Suite]) {
    let queue: Mutex<VecDeque<Suite>> = Mutex::new(suites.iter().copied().collect());
    std::thread::scope(|scope| {
        for _ in 0..GUESTS.min(suites.len()) {
            scope.spawn(|| {
                loop {
                    let next = queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(suite) = next else { return };
                    settle(suite.name(), suite.run(lab, board), board);
                }
            });
        }
    });
}

/// A suite that cannot be run is a failed test, not an end to the others.
fn settle(suite: &str, ended: Result<()>, board: &Board) {
    if let Err(error) = ended {
        let reason = crate::fail::explain(&error);
        board.add(Case::new(suite, "run", Verdict::Fail, reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::job::Ending;
    use crate::runner::mock::Mock;

    #[test]
    fn a_guest_that_dies_fails_its_suite_and_spares_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache"));
        let runner = Mock::new(|machine, kernel, _| {
            if machine.results.ends_with("kunit") {
                kernel
                    .write_all(b"1..1\n    # Subtest: s\n    ok 1 t\nok 1 s\n")
                    .unwrap();
                Ending {
                    status: 0,
                    problem: None,
                }
                .write(&machine.results)
                .unwrap();
            }
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
            environment: BTreeMap::new(),
            checkout: None,
            patience: 1,
        };
        let board = Board::new(&ui, true);
        run_guests(&lab, &board, &[Suite::Isolation, Suite::Kunit]);
        let failed: Vec<String> = board
            .cases()
            .iter()
            .filter(|case| case.verdict == Verdict::Fail)
            .map(|case| case.suite.clone())
            .collect();
        assert!(!failed.is_empty() && failed.iter().all(|suite| suite == "isolation"));
        assert_eq!(board.sum().passed, 2);
    }
}
