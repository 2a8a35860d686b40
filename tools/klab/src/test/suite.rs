//! The plan of a test run, and running its suites side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::board::{Board, Case, Verdict};
use super::{fstests, harness, host, isolation, kunit, series};
use crate::cache::Cache;
use crate::cli::Filesystem;
use crate::guest::session::Spec;
use crate::parallel;
use crate::runner::machine::Runner;
use crate::ui::Ui;

/// Guests that run at a time.
pub const GUESTS: usize = 2;

pub const MEMORY_MIB: u64 = 2048;

/// What a test of filesystems fills of its sparse disks.
pub const FILLED: u64 = 2 << 30;

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
    /// The checkout's own tests of these groups instead of the project's.
    pub groups: Vec<String>,
    /// Kernels that check more are slower.
    pub patience: u32,
}

impl Lab<'_> {
    /// A guest for a suite; its folder is writable, and keeps the console log.
    pub fn spec(&self, suite: &str, command: Vec<String>) -> Spec {
        Spec {
            kernel: self.kernel.clone(),
            memory_mib: MEMORY_MIB,
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

/// A suite that leaves room for others beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    Kunit,
    Isolation,
    Filesystem(Filesystem),
    /// The harness of the tests of filesystems.
    Selftest,
    Lint,
    Series,
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Kunit => "kunit",
            Self::Isolation => "isolation",
            Self::Filesystem(fs) => fs.name(),
            Self::Selftest | Self::Lint => "harness",
            Self::Series => "series",
        }
    }

    /// Whether it starts a guest.
    pub fn is_guest(self) -> bool {
        !matches!(self, Self::Lint | Self::Series)
    }

    /// Whether it uses the programs of the tests of filesystems, and disks.
    pub fn is_of_filesystems(self) -> bool {
        matches!(self, Self::Filesystem(_) | Self::Selftest)
    }

    fn run(self, lab: &Lab<'_>, board: &Board) -> Result<()> {
        match self {
            Self::Kunit => kunit::run(lab, board),
            Self::Isolation => isolation::run(lab, board),
            Self::Filesystem(fs) => fstests::run(lab, board, fs),
            Self::Selftest => harness::selftest(lab, board),
            Self::Lint => harness::lint(lab, board),
            Self::Series => series::run(lab, board),
        }
    }
}

/// The tests of the host, which keep all processors busy by themselves.
pub fn run_host(lab: &Lab<'_>, board: &Board) {
    settle("host", host::run(lab, board), board);
}

/// All other suites, some at a time. Without the programs they need, some fail as a whole.
pub fn run_beside(lab: &Lab<'_>, board: &Board, suites: &[Suite]) {
    let mut suites = suites.to_vec();
    if suites.iter().any(|suite| suite.is_of_filesystems())
        && let Err(error) = fstests::prepare(lab)
    {
        settle("fstests", Err(error), board);
        suites.retain(|suite| !suite.is_of_filesystems());
    }
    parallel::each(suites, GUESTS, |suite| {
        settle(suite.name(), suite.run(lab, board), board);
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
    use crate::runner::machine::Machine;
    use crate::runner::mock::Mock;
    use std::io::Write;

    /// A guest whose kernel runs one unit test, and which says no more.
    fn one_test(machine: &Machine, kernel: &mut dyn Write, _: &mut dyn Write) {
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
    }

    /// Runs suites in such guests; returns the cases, and how many guests there were.
    fn run(suites: &[Suite], filter: Option<&str>) -> (Vec<Case>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache"));
        let runner = Mock::new(one_test);
        let ui = Ui::new();
        let lab = Lab {
            cache: &cache,
            runner: &runner,
            ui: &ui,
            root: folder.path().to_owned(),
            kernel: "/k".into(),
            results: folder.path().join("results"),
            filter: filter.map(str::to_owned),
            only: None,
            environment: BTreeMap::new(),
            checkout: None,
            groups: Vec::new(),
            patience: 1,
        };
        let board = Board::new(&ui, true);
        run_beside(&lab, &board, suites);
        (board.cases(), runner.started.lock().unwrap().len())
    }

    #[test]
    fn a_guest_that_dies_fails_its_suite_and_spares_the_others() {
        let (cases, _) = run(&[Suite::Isolation, Suite::Kunit], None);
        let of = |verdict| cases.iter().filter(move |case| case.verdict == verdict);
        assert!(of(Verdict::Fail).count() > 0);
        assert!(of(Verdict::Fail).all(|case| case.suite == "isolation"));
        assert_eq!(of(Verdict::Pass).count(), 2);
    }

    #[test]
    fn programs_that_cannot_be_built_fail_the_tests_that_need_them() {
        let suites = [Suite::Filesystem(Filesystem::Xfs), Suite::Kunit];
        let (cases, guests) = run(&suites, None);
        assert_eq!(
            (cases[0].suite.as_str(), cases[0].verdict),
            ("fstests", Verdict::Fail)
        );
        assert_eq!((cases.len(), guests), (3, 1));
    }

    #[test]
    fn a_filter_is_for_all_suites() {
        let suites = [Suite::Isolation, Suite::Kunit, Suite::Lint, Suite::Series];
        let (cases, _) = run(&suites, Some("kunit s/t"));
        assert_eq!(cases.len(), 1);
        assert_eq!(cases[0].name, "s/t");
        let (cases, guests) = run(&suites, Some("no such test"));
        // Only the kernel knows its unit tests.
        assert_eq!((cases.len(), guests), (0, 1));
        let (cases, _) = run(&suites, Some("series"));
        assert_eq!((cases.len(), cases[0].verdict), (1, Verdict::Skip));
    }
}
