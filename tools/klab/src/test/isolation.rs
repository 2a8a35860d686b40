//! A guest's root tries to change the host; the host looks whether anything changed.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::board::{Board, Case, Verdict};
use super::suite::Lab;
use crate::guest::session;
use crate::paths::text;
use crate::signals::Scratch;

pub const SUITE: &str = "isolation";
const BEFORE: &str = "as it was\n";
const TRIED: &str = "tried.tsv";

/// What the attack leaves in the folder of its results, under names that may be anybody's elsewhere.
pub const FILES: [&str; 4] = ["attack.log", "link", TRIED, "written"];

/// What the guest tries. Each line of the file it writes is a name and whether it went through.
const ATTACK: &str = r#"
victim=$1 results=$2
try() {
    local name=$1; shift
    if "$@" 2>> "$results/attack.log"; then state=done; else state=refused; fi
    printf '%s\t%s\n' "$name" "$state" >> "$results/tried.tsv"
}
overwrite() { echo changed > "$1/file"; }
try 'write through the overlay' overwrite "$victim"
mkdir -p /tmp/raw
try 'mount a fresh hostfs' mount -t hostfs none /tmp/raw -o /
try 'write through a fresh hostfs' overwrite "/tmp/raw$victim"
try 'create through a fresh hostfs' touch "/tmp/raw$victim/new"
try 'remove through a fresh hostfs' rm "/tmp/raw$victim/file"
try 'change the mode through a fresh hostfs' chmod 777 "/tmp/raw$victim/file"
try 'make a node through a fresh hostfs' mknod "/tmp/raw$victim/node" b 8 0
try 'remount the fresh hostfs writable' mount -o remount,rw /tmp/raw
try 'write after the remount' overwrite "/tmp/raw$victim"
mkdir -p /tmp/direct
try 'mount just the folder' mount -t hostfs none /tmp/direct -o "$victim"
try 'write into just the folder' overwrite /tmp/direct
try 'a setting of the host' sh -c 'echo 1 > /tmp/raw/proc/sys/kernel/panic'
try 'climb out of the results folder' sh -c 'mount -t hostfs none /tmp/direct -o "$1/.." && echo changed > "/tmp/direct/$2"' sh "$results" escaped
ln -s "$victim/file" "$results/link"
try 'follow a link out of the results folder' sh -c 'echo changed > "$1/link"' sh "$results"
mkdir -p /tmp/nodes
try 'mount the devices of the host' mount -t hostfs none /tmp/nodes -o /dev
try 'write to the results folder' touch "$results/written"
"#;

/// Attempts that must go through: else the test would prove nothing.
const MUST_WORK: [&str; 3] = [
    "write through the overlay",
    "mount a fresh hostfs",
    "write to the results folder",
];

/// Attempts that may go through: mounting alone harms nobody, and the guest follows a link in its own
/// root, where writing goes to memory. Whether the host was harmed, the host finds out itself.
const HARMLESS: [&str; 3] = ["mount ", "remount ", "follow "];

/// The last case: the only one that no attempt stands for.
const UNCHANGED: &str = "the host is as it was";

pub fn run(lab: &Lab<'_>, board: &Board) -> Result<()> {
    let chosen = |name: &str| lab.chosen(&format!("{SUITE} {name}"));
    if !names().chain([UNCHANGED]).any(chosen) {
        return Ok(());
    }
    let start = Instant::now();
    let victim = Scratch::folder()?;
    let file = victim.path().join("file");
    std::fs::write(&file, BEFORE)?;
    let mut spec = lab.spec(SUITE, Vec::new());
    crate::cache::make(&spec.results)?;
    let results = spec.results.canonicalize()?;
    let words = ["bash", "-c", ATTACK, "attack"].map(str::to_owned);
    spec.command = words.to_vec();
    for path in [victim.path(), &results] {
        spec.command.push(text(path)?.to_owned());
    }
    let panic_before = std::fs::read_to_string("/proc/sys/kernel/panic")?;
    let outcome = session::run(lab.cache, lab.runner, &spec, &mut session::Silent)?;
    let ended = outcome.into_status();
    let tried = std::fs::read_to_string(results.join(TRIED)).unwrap_or_default();
    for (name, verdict, reason) in judge(&tried).into_iter().filter(|(name, ..)| chosen(name)) {
        board.add(Case::new(SUITE, &name, verdict, reason));
    }
    let mut problems = changes(victim.path(), &file)?;
    if std::fs::read_to_string("/proc/sys/kernel/panic")? != panic_before {
        problems.push("/proc/sys/kernel/panic was changed".into());
    }
    if results.with_file_name("escaped").exists() {
        problems.push("a file was made beside the results folder".into());
    }
    if let Err(error) = ended {
        problems.push(error.to_string());
    }
    let verdict = if problems.is_empty() {
        Verdict::Pass
    } else {
        Verdict::Fail
    };
    // Harm is told whatever was asked for.
    if chosen(UNCHANGED) || verdict == Verdict::Fail {
        let case = Case::new(SUITE, UNCHANGED, verdict, problems.join("; "));
        board.add(case.took(start.elapsed()));
    }
    Ok(())
}

/// Names of the attempts that are judged.
fn names() -> impl Iterator<Item = &'static str> {
    ATTACK
        .lines()
        .filter_map(|line| line.strip_prefix("try '")?.split('\'').next())
        .filter(|name| is_judged(name))
}

fn is_judged(name: &str) -> bool {
    MUST_WORK.contains(&name) || !HARMLESS.iter().any(|start| name.starts_with(start))
}

/// Attempts are necessary, harmless or forbidden.
fn judge(tried: &str) -> Vec<(String, Verdict, String)> {
    let mut cases = Vec::new();
    for (name, state) in tried.lines().filter_map(|line| line.split_once('\t')) {
        let wanted = match name {
            name if MUST_WORK.contains(&name) => "done",
            name if !is_judged(name) => continue,
            _ => "refused",
        };
        let verdict = if state == wanted {
            Verdict::Pass
        } else {
            Verdict::Fail
        };
        let reason = if state == wanted {
            String::new()
        } else {
            format!("it was {state}")
        };
        cases.push((name.to_owned(), verdict, reason));
    }
    for name in MUST_WORK {
        if !cases.iter().any(|(tried, _, _)| tried == name) {
            cases.push((name.to_owned(), Verdict::Fail, "it was never tried".into()));
        }
    }
    cases
}

fn changes(victim: &Path, file: &Path) -> Result<Vec<String>> {
    use std::os::unix::fs::PermissionsExt;
    let mut problems = Vec::new();
    match std::fs::read_to_string(file) {
        Ok(text) if text == BEFORE => {
            if file.metadata()?.permissions().mode() & 0o777 == 0o777 {
                problems.push("the mode of the host's file was changed".into());
            }
        }
        Ok(_) => problems.push("the host's file was changed".into()),
        Err(error) => problems.push(format!("the host's file: {error}")),
    }
    let count = std::fs::read_dir(victim)?.count();
    if count != 1 {
        problems.push(format!("the host's folder has {count} files instead of 1"));
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_through_is_a_failure() {
        let tried = "write through the overlay\tdone\nmount a fresh hostfs\tdone\n\
            write to the results folder\tdone\nwrite through a fresh hostfs\tdone\n\
            remount the fresh hostfs writable\tdone\nmake a node through a fresh hostfs\trefused\n";
        let failed: Vec<String> = judge(tried)
            .into_iter()
            .filter(|(_, verdict, _)| *verdict == Verdict::Fail)
            .map(|(name, _, _)| name)
            .collect();
        assert_eq!(failed, ["write through a fresh hostfs"]);
        assert_eq!(judge("").len(), MUST_WORK.len());
    }

    #[test]
    fn every_judged_attempt_has_its_name_known_before() {
        let names: Vec<&str> = names().collect();
        assert!(MUST_WORK.iter().all(|name| names.contains(name)));
        assert!(names.contains(&"a setting of the host"));
        assert!(!names.contains(&"remount the fresh hostfs writable"));
    }

    #[test]
    fn every_kind_of_change_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        assert_eq!(changes(folder.path(), &file).unwrap().len(), 2);
        std::fs::write(&file, BEFORE).unwrap();
        assert!(changes(folder.path(), &file).unwrap().is_empty());
        std::fs::write(folder.path().join("new"), "").unwrap();
        assert_eq!(changes(folder.path(), &file).unwrap().len(), 1);
        std::fs::write(&file, "changed\n").unwrap();
        assert_eq!(changes(folder.path(), &file).unwrap().len(), 2);
    }
}
