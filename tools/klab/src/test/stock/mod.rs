//! The unpatched kernel beside the patched one: each bug that a test names must show on the one and
//! be gone on the other.

mod holes;
mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use self::holes::Hole;
use self::table::Table;
use super::board::{Board, Case};
use super::suite::{self, Lab, Suite};
use super::{fstests, junit};
use crate::cache::{make, write_if_changed};
use crate::cli::Filesystem;
use crate::fail::{Failure, Kind};
use crate::markers;
use crate::ui::{Ui, coloured, print};

/// What it leaves in the folder of results.
pub const FILES: [&str; 2] = [TABLE_JSON, TABLE_PAGE];
const TABLE_JSON: &str = "stock.json";
const TABLE_PAGE: &str = "stock.md";

/// Around the table in the project's README.
const BEGIN: &str = "<!-- holes: written by cargo klab test --stock --update-readme -->";
const END: &str = "<!-- end of holes -->";

pub struct Plan<'a> {
    /// For the patched kernel; its results folder is where all results go.
    pub lab: Lab<'a>,
    pub stock: PathBuf,
    /// Release of the unpatched kernel.
    pub release: String,
    pub filesystems: Vec<Filesystem>,
    pub update_readme: bool,
    /// All results as JSON at the end, instead of lines.
    pub json: bool,
}

/// Runs the tests on both kernels; true if every hole is open on the one and closed on the other.
pub fn run(plan: &Plan<'_>, ui: &Ui) -> Result<bool> {
    let lab = &plan.lab;
    let holes = chosen(lab, &plan.filesystems)?;
    if holes.is_empty() {
        return Err(Failure::new(
            Kind::Usage,
            "no test of a bug of the unpatched kernel matches",
        )
        .hint("such tests have a line _layout_hole: grep -r _layout_hole xfstests/tests")
        .into());
    }
    // Here nothing else has run that would be lost.
    fstests::prepare(lab)?;
    let mut cases = Vec::new();
    for (name, words, kernel) in [
        (
            "stock",
            "the unpatched kernel, where all should fail:",
            &plan.stock,
        ),
        (
            "patched",
            "the patched kernel, where all should pass:",
            &lab.kernel,
        ),
    ] {
        if !plan.json {
            ui.say(words);
        }
        cases.push(on(plan, &holes, kernel, &lab.results.join(name), ui)?);
    }
    let table = Table::new(
        &plan.release,
        &holes,
        &plan.filesystems,
        &cases[0],
        &cases[1],
    );
    let board = Board::new(ui, true);
    for case in table.judge() {
        board.add(case);
    }
    report(plan, &table, &board, ui)?;
    Ok(board.good())
}

/// The holes whose tests are asked for, on one of the filesystems at least.
fn chosen(lab: &Lab<'_>, filesystems: &[Filesystem]) -> Result<Vec<Hole>> {
    let mut holes = holes::read(&lab.root.join("xfstests/tests"))?;
    holes.retain(|hole| {
        filesystems
            .iter()
            .any(|fs| hole.is_on(*fs) && lab.chosen(&format!("{} {}", fs.name(), hole.test)))
    });
    Ok(holes)
}

fn on(
    plan: &Plan<'_>,
    holes: &[Hole],
    kernel: &Path,
    results: &Path,
    ui: &Ui,
) -> Result<Vec<Case>> {
    make(results)?;
    let mut only = BTreeSet::new();
    let mut suites = Vec::new();
    for fs in &plan.filesystems {
        let before = only.len();
        let names = holes.iter().filter(|hole| hole.is_on(*fs));
        only.extend(names.map(|hole| format!("{} {}", fs.name(), hole.test)));
        if only.len() > before {
            suites.push(Suite::Filesystem(*fs));
        }
    }
    let lab = Lab {
        kernel: kernel.to_owned(),
        results: results.to_owned(),
        only: Some(only),
        ..plan.lab.clone()
    };
    let board = Board::new(ui, plan.json);
    suite::run_beside(&lab, &board, &suites);
    Ok(board.cases())
}

fn report(plan: &Plan<'_>, table: &Table, board: &Board, ui: &Ui) -> Result<()> {
    let results = &plan.lab.results;
    let markdown = table.markdown();
    let all = json!({ "table": table, "proven": board.cases(), "sum": board.sum() });
    let text = serde_json::to_string_pretty(&all)?;
    write_if_changed(&results.join(TABLE_JSON), text.as_bytes())?;
    write_if_changed(&results.join(TABLE_PAGE), markdown.as_bytes())?;
    junit::write(board, &results.join(junit::FILE))?;
    if plan.update_readme {
        let readme = plan.lab.root.join("README.md");
        markers::update(&readme, BEGIN, END, &markdown)?;
    }
    if plan.json {
        print(text);
        return Ok(());
    }
    print(format!("\n{markdown}"));
    ui.say(format!(
        "{TABLE_PAGE}, {TABLE_JSON}, {} and the logs are in {}",
        junit::FILE,
        results.display()
    ));
    for line in board.closing() {
        print(coloured(&line));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_the_markers() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
        let text = std::fs::read_to_string(readme).unwrap();
        assert!(markers::replace(&text, BEGIN, END, "").is_some());
    }
}
