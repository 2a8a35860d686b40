//! The measurements as the host sees them: one guest, its lines, a table, files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::guest::{RAMDISK_BYTES, RAMDISKS, Share};
use super::measures::{self, Measure};
use super::model::{Findings, Spread};
use super::plot;
use crate::bench::docs;
use crate::bench::machine::Machine;
use crate::cache::Cache;
use crate::fail::{Failure, Kind};
use crate::guest::session::{self, Lines, Spec};
use crate::runner::machine::Runner;
use crate::ui::Ui;

/// Where the guest leaves what it found, and where the host leaves what it makes of it.
pub const FINDINGS: &str = "findings.json";
pub const REPORT: &str = "cow.json";

pub const MEMORY_MIB: u64 = 5120;

/// The folder beside the documentation where its pictures are.
const PICTURES: &str = "bench";

pub struct Plan<'a> {
    pub cache: &'a Cache,
    pub runner: &'a dyn Runner,
    pub ui: &'a Ui,
    /// This program, for the guest.
    pub klab: PathBuf,
    pub kernel: PathBuf,
    /// One for a single processor, for what one does. Else all is measured on the same.
    pub single: Option<PathBuf>,
    pub results: PathBuf,
    pub quick: bool,
    pub filter: Option<String>,
    /// No lines while it runs.
    pub quiet: bool,
    /// The folder of the documentation that gets the results, if any.
    pub docs: Option<PathBuf>,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub medium: &'static str,
    pub pattern: String,
    pub depth: usize,
    pub jobs: usize,
    pub system: String,
    pub repeats: usize,
    pub ratio: Spread,
}

/// What is written for people and machines.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    /// Release of the kernel that was measured.
    pub kernel: String,
    pub lines: Vec<Line>,
    pub measures: Vec<Measure>,
    pub findings: Findings,
    pub pictures: Vec<String>,
    pub results: PathBuf,
}

/// The folder of the guest with a single processor.
pub const SINGLE: &str = "single";

/// Runs the guests and makes the report.
pub fn run(plan: &Plan<'_>) -> Result<Report> {
    crate::cache::make(&plan.results)?;
    let results = plan.results.canonicalize()?;
    let findings = match &plan.single {
        None => measure(plan, &plan.kernel, &results, None)?,
        Some(single) => {
            let mut findings = measure(plan, &plan.kernel, &results, Some(Share::Two))?;
            let folder = results.join(SINGLE);
            findings.add(measure(plan, single, &folder, Some(Share::One))?);
            findings
        }
    };
    let report = Report {
        machine: Machine::now()?,
        kernel: findings.kernel.clone(),
        lines: lines_of(&findings),
        measures: measures::of(&findings),
        pictures: plot::draw(&findings, &results)?,
        results: results.clone(),
        findings,
    };
    let text = serde_json::to_vec_pretty(&report)?;
    crate::cache::write_if_changed(&results.join(REPORT), &text)?;
    if let Some(folder) = &plan.docs {
        document(&report, folder)?;
    }
    Ok(report)
}

/// Has a guest measure its share, or all.
fn measure(
    plan: &Plan<'_>,
    kernel: &Path,
    results: &Path,
    share: Option<Share>,
) -> Result<Findings> {
    crate::cache::make(results)?;
    let text = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .context("a path is not UTF-8")
    };
    let mut command = vec![
        text(&plan.klab)?,
        "guest-bench".into(),
        "--results".into(),
        text(results)?,
    ];
    if plan.quick {
        command.push("--quick".into());
    }
    if let Some(filter) = &plan.filter {
        command.extend(["--filter".into(), filter.clone()]);
    }
    if let Some(share) = share {
        command.extend(["--share".into(), share.name().into()]);
    }
    let spec = Spec {
        kernel: kernel.to_owned(),
        memory_mib: MEMORY_MIB,
        disks: Vec::new(),
        kernel_words: vec![
            format!("brd.rd_nr={RAMDISKS}"),
            format!("brd.rd_size={}", RAMDISK_BYTES >> 10),
        ],
        command,
        environment: BTreeMap::new(),
        folder: PathBuf::from("/"),
        results: results.to_owned(),
        interactive: false,
        silence: Some(Duration::from_secs(300)),
    };
    let mut lines = Lines::new(|line| {
        if !plan.quiet {
            plan.ui.result(line);
        }
    });
    let outcome = session::run(plan.cache, plan.runner, &spec, &mut lines)?;
    let console = outcome.console.display().to_string();
    outcome.into_status()?;
    let findings: Findings = match std::fs::read(results.join(FINDINGS)) {
        Ok(text) => serde_json::from_slice(&text)?,
        Err(_) => Findings::default(),
    };
    if !findings.finished {
        return Err(Failure::new(
            Kind::Guest,
            "the guest did not come to the end of its measurements",
        )
        .hint(format!(
            "its last output line says why; the kernel log is {console}"
        ))
        .into());
    }
    Ok(findings)
}

/// Writes the results into the documentation, with the pictures beside it.
fn document(report: &Report, folder: &Path) -> Result<()> {
    let pictures = folder.join(PICTURES);
    crate::cache::make(&pictures)?;
    for name in &report.pictures {
        let bytes = std::fs::read(report.results.join(name))?;
        crate::cache::write_if_changed(&pictures.join(name), &bytes)?;
    }
    docs::update(&folder.join("BENCH.md"), "cow", &markdown(report))
}

/// The results for people who read them elsewhere.
fn markdown(report: &Report) -> String {
    let mut text = format!(
        "{}; User Mode Linux {}; {:.0} minutes.\n\n",
        report.machine.line(),
        report.kernel,
        report.findings.seconds / 60.0
    );
    text.push_str("| measure | found | to reach | |\n|---|---:|---:|---|\n");
    for measure in &report.measures {
        let sign = if measure.at_most { "≤" } else { "≥" };
        let word = match measure.reached() {
            true => "",
            false => "**not reached**",
        };
        text.push_str(&format!(
            "| {} | {:.2} | {sign} {:.2} | {word} |\n",
            measure.name, measure.value, measure.goal
        ));
    }
    for name in report.pictures.iter().filter(|name| name.ends_with(".svg")) {
        text.push_str(&format!("\n![{name}]({PICTURES}/{name})\n"));
    }
    text.push_str(
        "\nAll speeds, the bare device just before being 1: the median, and where the middle half \
         lies.\n\n| medium | pattern | at a time | jobs | system | repeats | speed |\n\
         |---|---|---:|---:|---|---:|---:|\n",
    );
    for line in &report.lines {
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            line.medium, line.pattern, line.depth, line.jobs, line.system, line.repeats, line.ratio
        ));
    }
    if !report.findings.left_out.is_empty() {
        text.push_str("\nThere was no time for:\n\n");
        for case in &report.findings.left_out {
            text.push_str(&format!("- {case}\n"));
        }
    }
    text
}

fn lines_of(findings: &Findings) -> Vec<Line> {
    findings
        .series
        .iter()
        .filter_map(|series| {
            Some(Line {
                medium: series.case.medium.name(),
                pattern: series.case.pattern.clone(),
                depth: series.case.depth,
                jobs: series.case.jobs,
                system: series.system.clone(),
                repeats: series.ratios.len(),
                ratio: Spread::of(&series.ratios)?,
            })
        })
        .collect()
}

/// The closing table.
pub fn table(measures: &[Measure]) -> Vec<String> {
    let width = measures.iter().map(|m| m.name.len()).max().unwrap_or(0);
    let mut lines = vec![format!(
        "{:width$} {:>8} {:>10}",
        "measure", "found", "to reach"
    )];
    for measure in measures {
        let sign = if measure.at_most { "<=" } else { ">=" };
        let word = if measure.reached() {
            ""
        } else {
            "  not reached"
        };
        lines.push(format!(
            "{:width$} {:>8.2} {sign:>5} {:>4.2}{word}",
            measure.name, measure.value, measure.goal
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::job::Ending;
    use crate::runner::mock::Mock;

    fn report(findings: &'static str) -> Result<Report> {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache"));
        let ui = Ui::new();
        let mock = Mock::new(move |machine, _, _| {
            assert!(
                machine
                    .kernel_words
                    .iter()
                    .any(|word| word.starts_with("brd.rd_size="))
            );
            std::fs::write(machine.results.join(FINDINGS), findings).unwrap();
            Ending {
                status: 0,
                problem: None,
            }
            .write(&machine.results)
            .unwrap();
        });
        let plan = Plan {
            cache: &cache,
            runner: &mock,
            ui: &ui,
            klab: "/p".into(),
            kernel: "/k".into(),
            single: None,
            results: folder.path().join("results"),
            quick: true,
            filter: None,
            quiet: true,
            docs: Some(folder.path().join("docs")),
        };
        let docs = folder.path().join("docs");
        crate::cache::make(&docs)?;
        let page = docs.join("BENCH.md");
        let markers = "<!-- results: written by cargo klab bench cow --update-docs -->\n\
                       <!-- end of results -->\n";
        std::fs::write(&page, markers)?;
        let report = run(&plan)?;
        let page = std::fs::read_to_string(page)?;
        assert!(
            page.contains("| 0.94 | ≥ 0.95 | **not reached** |"),
            "{page}"
        );
        assert!(page.contains("(bench/ramdisk.svg)") && page.contains("Linux 7.3.0-test"));
        assert!(docs.join("bench/ramdisk.png").is_file());
        assert!(plan.results.join(REPORT).is_file() && plan.results.join("ramdisk.svg").is_file());
        Ok(report)
    }

    #[test]
    fn findings_become_a_report() {
        let report = report(
            r#"{"series":[{"case":{"medium":"ramdisk","pattern":"4k random rewrites","depth":1,
            "jobs":1},"system":"blksnap","ratios":[0.9,0.94,0.99]}],"counts":[],"memory":[],
            "take":null,"finished":true,"seconds":1.0,"kernel":"7.3.0-test"}"#,
        )
        .unwrap();
        assert_eq!(report.lines[0].ratio.median, 0.94);
        let table = table(&report.measures);
        assert!(
            table[1].contains("0.94") && table[1].ends_with("not reached"),
            "{table:?}"
        );
    }

    #[test]
    fn half_a_measurement_is_a_failure() {
        let told = report(
            r#"{"series":[],"counts":[],"memory":[],"take":null,"finished":false,"seconds":1.0}"#,
        );
        assert_eq!(crate::fail::status_of(&told.unwrap_err()), 114);
    }
}
