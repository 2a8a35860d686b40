//! The form of the series, and that nothing of it is lost on the way to git and back.

use std::time::Instant;

use anyhow::Result;

use super::board::{Board, Case, Verdict};
use super::suite::Lab;
use crate::git::Git;
use crate::series::check::check;
use crate::series::store::Store;
use crate::series::tree::Base;
use crate::setup::base;

const SUITE: &str = "series";

/// Checks it against the base in the cache, whatever kernel is tested; about 15 seconds.
pub fn run(lab: &Lab<'_>, board: &Board) -> Result<()> {
    if !lab.chosen("series check") {
        return Ok(());
    }
    if !base::is_there(lab.cache) {
        let why = "the kernel source is not in the cache: cargo klab setup";
        board.add(Case::new(SUITE, "check", Verdict::Skip, why));
        return Ok(());
    }
    let start = Instant::now();
    let base = Base::pristine(lab.cache)?;
    let report = check(
        &Store::at(&lab.root),
        &Git::at(&base.repository),
        &base.commit,
    )?;
    let verdict = if report.problems.is_empty() {
        Verdict::Pass
    } else {
        Verdict::Fail
    };
    let reason = report.problems.join("; ");
    board.add(Case::new(SUITE, "check", verdict, reason).took(start.elapsed()));
    Ok(())
}
