//! What must hold for the series: its form, and that nothing is lost on the way to git and back.

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use serde::Serialize;

use super::apply::apply;
use super::import::{Options, import};
use super::store::{Mails, Store};
use crate::git::Git;

#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub mails: usize,
    pub new_files: usize,
    /// The tree the whole series makes, if it applies.
    pub tree: Option<String>,
    pub problems: Vec<String>,
}

/// Checks the series against the base it is made for.
pub fn check(store: &Store, git: &Git, base: &str) -> Result<Report> {
    let mails = store.mails()?;
    let mut report = Report {
        mails: mails.len(),
        problems: form(store, &mails, &git.paths(base)?)?,
        ..Report::default()
    };
    report.new_files = mails.iter().map(|(_, mail)| mail.new_files.len()).sum();
    let release = super::import::release(git, base)?;
    if store.base()? != release {
        report.problems.push(format!(
            "patches/base says {}, not {release}",
            store.base()?
        ));
    }
    if report.problems.is_empty() {
        round_trip(store, git, base, &mut report)?;
    }
    Ok(report)
}

/// The rules each mail and each new file follows.
fn form(store: &Store, mails: &Mails, in_base: &HashSet<String>) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut named: BTreeMap<&str, &str> = BTreeMap::new();
    let files = store.new_files()?;
    for (number, (name, mail)) in mails.iter().enumerate() {
        if *name != mail.file_name(number + 1) {
            problems.push(format!(
                "{name}: its name should be {}",
                mail.file_name(number + 1)
            ));
        }
        if mail
            .diff
            .split(|byte| *byte == b'\n')
            .any(|line| line.starts_with(b"new file mode"))
        {
            problems.push(format!(
                "{name}: adds a file in its diff, not as a source file"
            ));
        }
        if let Err(error) = mail.check_message() {
            problems.push(format!("{name}: {error}"));
        }
        match mail.changed_files() {
            Ok(paths) => {
                for path in paths.iter().filter(|path| !in_base.contains(*path)) {
                    problems.push(format!(
                        "{name}: changes {path}, which the base does not have"
                    ));
                }
            }
            Err(error) => problems.push(format!("{name}: {error}")),
        }
        for path in &mail.new_files {
            if in_base.contains(path) {
                problems.push(format!("{name}: adds {path}, which the base has"));
            }
            if let Some(first) = named.insert(path, name) {
                problems.push(format!("{path}: added by {first} and by {name}"));
            }
            if !files.contains_key(path) {
                problems.push(format!(
                    "{name}: adds {path}, but there is no such source file"
                ));
            }
        }
    }
    for (path, places) in &files {
        if !named.contains_key(path.as_str()) {
            problems.push(format!("{}: no mail names it", places[0].display()));
        }
        if places.len() > 1 {
            problems.push(format!("{path}: lies in more than one folder"));
        }
    }
    let listed: HashSet<&str> = mails.iter().map(|(name, _)| name.as_str()).collect();
    for entry in std::fs::read_dir(store.patches())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".patch") && !listed.contains(name.as_str()) {
            problems.push(format!("{name}: not listed in patches/series"));
        }
    }
    Ok(problems)
}

/// Applies, imports into an empty project, applies that, and compares.
fn round_trip(store: &Store, git: &Git, base: &str, report: &mut Report) -> Result<()> {
    let first = match apply(store, git, base) {
        Ok(first) => first,
        Err(error) => {
            report.problems.push(format!("{error:#}"));
            return Ok(());
        }
    };
    let Some(last) = first.last() else {
        report.tree = Some(git.tree(base)?);
        return Ok(());
    };
    report.tree = Some(last.tree.clone());
    let folder = tempfile::tempdir()?;
    let copy = Store::at(folder.path());
    let options = Options {
        base,
        head: &last.commit,
        sender: None,
        fold: false,
    };
    import(&copy, git, &options)?;
    let second = apply(&copy, git, base)?;
    let end = second.last().map_or(base, |applied| &applied.commit);
    if git.tree(end)? != last.tree {
        report
            .problems
            .push("importing the applied series gives another tree".into());
    }
    // An all-equal line of range-diff reads `1:  abc = 1:  def subject`.
    let ranges = [format!("{base}..{}", last.commit), format!("{base}..{end}")];
    let compared = git.text(["range-diff", "--no-color", "-s", &ranges[0], &ranges[1]])?;
    for line in compared.lines() {
        if line.split_whitespace().nth(2) != Some("=") {
            report
                .problems
                .push(format!("range-diff after importing again: {line}"));
        }
    }
    if compared.lines().count() != first.len() {
        report
            .problems
            .push("range-diff did not compare every mail".into());
    }
    Ok(())
}
