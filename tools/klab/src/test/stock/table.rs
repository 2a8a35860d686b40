//! What each hole looks like on the unpatched kernel and on the patched one.

use serde::Serialize;

use super::holes::Hole;
use crate::cli::Filesystem;
use crate::test::board::{Case, Verdict};

/// What a test says of a hole on one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The test fails.
    Open,
    /// The test passes.
    Closed,
    /// The test could not be run there.
    Untried,
}

/// The same, with the reason the test gave.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub state: State,
    pub reason: String,
}

impl Finding {
    fn of(cases: &[Case], fs: Filesystem, test: &str) -> Self {
        let case = cases
            .iter()
            .find(|case| case.suite == fs.name() && case.name == test);
        match case {
            None => Self {
                state: State::Untried,
                reason: "the test was not run".into(),
            },
            Some(case) => Self {
                state: match case.verdict {
                    Verdict::Fail => State::Open,
                    Verdict::Pass => State::Closed,
                    Verdict::Skip => State::Untried,
                },
                reason: case.reason.clone(),
            },
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    pub filesystem: &'static str,
    pub stock: Finding,
    pub patched: Finding,
}

#[derive(Clone, Debug, Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub hole: Hole,
    pub cells: Vec<Cell>,
}

/// Both kernels side by side.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Release of the unpatched kernel.
    pub release: String,
    pub rows: Vec<Row>,
}

impl Table {
    pub fn new(
        release: &str,
        holes: &[Hole],
        filesystems: &[Filesystem],
        stock: &[Case],
        patched: &[Case],
    ) -> Self {
        let rows = holes.iter().filter_map(|hole| {
            let on = filesystems.iter().filter(|fs| hole.is_on(**fs));
            let cells: Vec<Cell> = on
                .map(|fs| Cell {
                    filesystem: fs.name(),
                    stock: Finding::of(stock, *fs, &hole.test),
                    patched: Finding::of(patched, *fs, &hole.test),
                })
                .collect();
            (!cells.is_empty()).then(|| Row {
                hole: hole.clone(),
                cells,
            })
        });
        Self {
            release: release.to_owned(),
            rows: rows.collect(),
        }
    }

    /// What is proven, hole by hole and filesystem by filesystem.
    pub fn judge(&self) -> Vec<Case> {
        self.rows.iter().flat_map(Row::judge).collect()
    }

    pub fn markdown(&self) -> String {
        let mut text = format!(
            "| hole | on | Linux {} | with the series | test |\n|---|---|---|---|---|\n",
            self.release
        );
        for row in &self.rows {
            let on: Vec<&str> = row.cells.iter().map(|cell| cell.filesystem).collect();
            text.push_str(&format!(
                "| {} | {} | {} | {} | {} |\n",
                row.hole.what.replace('|', "\\|"),
                on.join(", "),
                row.words(|cell| cell.stock.state),
                row.words(|cell| cell.patched.state),
                row.hole.test
            ));
        }
        text
    }
}

impl Row {
    fn judge(&self) -> Vec<Case> {
        let cases = self.cells.iter().map(|cell| {
            let stock = cell.stock.state;
            let (verdict, reason) = match (stock, cell.patched.state) {
                (State::Open, State::Closed) => (Verdict::Pass, String::new()),
                (_, State::Open) => (
                    Verdict::Fail,
                    format!("open with the series: {}", cell.patched.reason),
                ),
                (State::Closed, _) => (
                    Verdict::Fail,
                    "the test does not fail on the unpatched kernel".to_owned(),
                ),
                (State::Untried, _) => (
                    Verdict::Skip,
                    format!("not tried on the unpatched kernel: {}", cell.stock.reason),
                ),
                (State::Open, State::Untried) => (
                    Verdict::Skip,
                    format!("not tried with the series: {}", cell.patched.reason),
                ),
            };
            Case::new(cell.filesystem, &self.hole.test, verdict, reason)
        });
        cases.collect()
    }

    /// One word if all filesystems agree, else one for each.
    fn words(&self, state: impl Fn(&Cell) -> State) -> String {
        let word = |cell: &Cell| match state(cell) {
            State::Open => "**open**",
            State::Closed => "closed",
            State::Untried => "not tried",
        };
        let first = word(&self.cells[0]);
        if self.cells.iter().all(|cell| word(cell) == first) {
            return first.to_owned();
        }
        let words: Vec<String> = self
            .cells
            .iter()
            .map(|cell| format!("{}: {}", cell.filesystem, word(cell)))
            .collect();
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::holes::Fix;
    use super::*;

    fn table(stock: &[(&str, Verdict)], patched: &[(&str, Verdict)]) -> Table {
        let hole = Hole {
            test: "generic/911".into(),
            what: "it | grows".into(),
            fixes: vec![Fix {
                subject: "fs: a".into(),
                filesystems: vec!["xfs".into(), "ext4".into()],
            }],
        };
        let cases = |list: &[(&str, Verdict)]| -> Vec<Case> {
            list.iter()
                .map(|(fs, verdict)| Case::new(fs, "generic/911", *verdict, "why"))
                .collect()
        };
        Table::new(
            "7.3",
            &[hole],
            &Filesystem::ALL,
            &cases(stock),
            &cases(patched),
        )
    }

    fn verdicts(table: &Table) -> Vec<Verdict> {
        table.judge().iter().map(|case| case.verdict).collect()
    }

    #[test]
    fn a_hole_is_closed_if_the_test_tells_the_kernels_apart() {
        use Verdict::{Fail, Pass, Skip};
        let both = |a, b| [("xfs", a), ("ext4", b)];
        let good = table(&both(Fail, Fail), &both(Pass, Pass));
        assert_eq!(verdicts(&good), [Pass, Pass]);
        let open = table(&both(Fail, Fail), &both(Pass, Fail));
        assert_eq!(verdicts(&open), [Pass, Fail]);
        let blind = table(&both(Pass, Fail), &both(Pass, Pass));
        assert_eq!(verdicts(&blind), [Fail, Pass]);
        let partly = table(&both(Skip, Fail), &both(Pass, Pass));
        assert_eq!(verdicts(&partly), [Skip, Pass]);
        let missing = table(&[], &both(Pass, Skip));
        assert_eq!(verdicts(&missing), [Skip, Skip]);
    }

    #[test]
    fn filesystems_that_agree_share_a_word() {
        use Verdict::{Fail, Pass, Skip};
        let both = |a, b| [("xfs", a), ("ext4", b)];
        let text = table(&both(Fail, Fail), &both(Pass, Skip)).markdown();
        assert!(
            text.ends_with(
                "| it \\| grows | xfs, ext4 | **open** | xfs: closed, ext4: not tried | generic/911 |\n"
            ),
            "{text}"
        );
    }
}
