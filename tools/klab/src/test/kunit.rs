//! The kernel's own unit tests, in a guest that does nothing else.

use std::time::Instant;

use anyhow::Result;

use super::board::{Board, Case, Verdict};
use super::ktap;
use super::suite::Lab;
use crate::guest::session::{self, Silent};

pub fn run(lab: &Lab<'_>, board: &Board) -> Result<()> {
    let start = Instant::now();
    let mut spec = lab.spec("kunit", vec!["true".into()]);
    for word in ["kunit.enable=1", "kunit.autorun=1"] {
        spec.kernel_words.push(word.into());
    }
    let outcome = session::run(lab.cache, lab.runner, &spec, &mut Silent)?;
    let log = String::from_utf8_lossy(&std::fs::read(&outcome.console)?).into_owned();
    let ktap = ktap::parse(&log);
    let chosen = ktap
        .cases
        .iter()
        .filter(|case| lab.chosen(&format!("kunit {}", case.name)));
    for case in chosen {
        board.add(case.clone());
    }
    let mut problem = None;
    match ktap.announced {
        None => problem = Some("the kernel ran no unit tests".to_owned()),
        Some(count) if count != ktap.finished => {
            problem = Some(format!("{} of {count} suites finished", ktap.finished));
        }
        Some(_) => {}
    }
    let (verdict, reason) = match (outcome.into_status(), problem) {
        (Err(error), _) => (Verdict::Fail, error.to_string()),
        (Ok(_), Some(problem)) => (Verdict::Fail, problem),
        (Ok(_), None) => (Verdict::Pass, String::new()),
    };
    // A guest that went wrong does not say whether a test that is asked for ran at all.
    if lab.chosen("kunit guest") || verdict == Verdict::Fail {
        board.add(Case::new("kunit", "guest", verdict, reason).took(start.elapsed()));
    }
    Ok(())
}
