//! The tests under `xfstests/`, in a guest, with the stand-alone harness or in a real checkout.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::board::{Board, Case, Verdict};
use super::suite::Lab;
use super::upstream;
use crate::cli::Filesystem;
use crate::exec::text_of;
use crate::fail::{Failure, Kind};
use crate::guest::session::{self, Observer, Spec};
use crate::paths;

/// Sizes of the disks: test, scratch, real-time, log of writes.
const DISKS: [u64; 4] = [2 << 30, 3 << 30, 2 << 30, 2 << 30];

/// Lists of results, and the logs of a harness: ours, or that of a checkout.
pub const FILES: [&str; 4] = [TABLE, "check.log", "check.time", "test_dev.log"];
const TABLE: &str = "results.tsv";

/// What a test leaves, each after the number of the test.
pub const ENDINGS: [&str; 6] = ["dmesg", "fsck", "full", "hints", "notrun", "out.bad"];

/// A guest that keeps dying is not started for ever.
const MOST_GUESTS: usize = 8;

/// What is the same for all filesystems, built once before any guest starts.
pub fn prepare(lab: &Lab<'_>) -> Result<()> {
    let programs = programs(lab);
    crate::cache::make(&programs)?;
    text_of(
        Command::new("make")
            .args(["--silent", "-C"])
            .arg(lab.root.join("xfstests/src"))
            .arg(format!("O={}", programs.display()))
            .env_remove("MAKEFLAGS"),
    )
    .map_err(|error| {
        let what = format!("cannot build the programs of the filesystem tests: {error:#}");
        Failure::new(Kind::Build, what)
    })?;
    Ok(())
}

pub fn programs(lab: &Lab<'_>) -> PathBuf {
    lab.root.join("target/klab/fstests-bin")
}

pub fn run(lab: &Lab<'_>, board: &Board, fs: Filesystem) -> Result<()> {
    let all = list(lab, fs)?;
    let mut left: Vec<String> = all
        .into_iter()
        .filter(|test| lab.chosen(&format!("{} {test}", fs.name())))
        .collect();
    let suite = fs.name();
    for guest in 1..=MOST_GUESTS {
        if left.is_empty() {
            return Ok(());
        }
        let folder = if guest == 1 {
            suite.to_owned()
        } else {
            format!("{suite}-{guest}")
        };
        let mut spec = spec(lab, &folder, fs)?;
        set_up(lab, fs, &left, &mut spec)?;
        let table = spec.results.join(TABLE);
        std::fs::File::create(&table)?;
        let mut reader = Reader {
            table,
            read: 0,
            suite,
            seen: BTreeSet::new(),
            board,
        };
        let outcome = session::run(lab.cache, lab.runner, &spec, &mut reader)?;
        let before = left.len();
        left.retain(|test| !reader.seen.contains(test));
        let status = outcome.clone().into_status();
        if left.is_empty() {
            // The harness has judged complaints of the kernel test by test; one that came while
            // no test ran, or a guest that did not end well, is still a failure.
            if let Err(error) = status {
                board.add(Case::new(suite, "guest", Verdict::Fail, error.to_string()));
            }
            return Ok(());
        }
        let why = match status {
            Ok(status) => format!(
                "the harness ended early with status {status}: {}",
                last(&spec)
            ),
            Err(error) => error.to_string(),
        };
        // The first test without a result is the one the guest died in.
        board.add(Case::new(
            suite,
            &left.remove(0),
            Verdict::Fail,
            why.clone(),
        ));
        if left.len() + 1 == before && guest > 1 {
            // Nothing ran at all, twice: the others would fare no better.
            for test in left.drain(..) {
                board.add(Case::new(suite, &test, Verdict::Fail, why.clone()));
            }
        }
    }
    for test in left {
        let why = format!("not run: {MOST_GUESTS} guests died before");
        board.add(Case::new(suite, &test, Verdict::Fail, why));
    }
    Ok(())
}

/// What it said last.
pub fn last(spec: &Spec) -> String {
    let text = std::fs::read(spec.results.join(session::OUTPUT)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("no output")
        .to_owned()
}

/// The tests there are for a filesystem, in order.
fn list(lab: &Lab<'_>, fs: Filesystem) -> Result<Vec<String>> {
    if let Some(checkout) = lab.checkout.as_ref().filter(|_| !lab.groups.is_empty()) {
        return upstream::list(checkout, &lab.root.join("xfstests"), fs, &lab.groups);
    }
    let check = lab.root.join("xfstests/check");
    let text = text_of(Command::new(check).args(["--list", "--fstyp", fs.name()]))?;
    let names = text.lines().filter_map(|line| line.split('\t').next());
    Ok(names.map(str::to_owned).collect())
}

/// A guest with the devices that the harness wants, without a command.
pub fn spec(lab: &Lab<'_>, folder: &str, fs: Filesystem) -> Result<Spec> {
    let mut spec = lab.spec(folder, Vec::new());
    spec.disks = DISKS.to_vec();
    crate::cache::make(&spec.results)?;
    spec.results = spec.results.canonicalize()?;
    for (name, value) in [
        ("FSTYP", fs.name()),
        ("TEST_DIR", "/mnt/test"),
        ("SCRATCH_MNT", "/mnt/scratch"),
    ] {
        spec.environment.insert(name.into(), value.into());
    }
    for (number, name) in ["TEST_DEV", "SCRATCH_DEV", "SCRATCH_RTDEV", "LOGWRITES_DEV"]
        .into_iter()
        .enumerate()
    {
        spec.environment
            .insert(name.into(), lab.runner.disk(number));
    }
    if let Some(device) = lab.runner.persistent_memory() {
        spec.environment
            .insert("SCRATCH_DAXDEV".into(), device.into());
    }
    Ok(spec)
}

fn set_up(lab: &Lab<'_>, fs: Filesystem, tests: &[String], spec: &mut Spec) -> Result<()> {
    let text = |path: &Path| paths::text(path).map(str::to_owned);
    let results = text(&spec.results)?;
    spec.command = match &lab.checkout {
        None => {
            let seconds = (300 * lab.patience).to_string();
            let mut words = vec![text(&lab.root.join("xfstests/check"))?];
            for (name, value) in [
                ("--fstyp", fs.name().to_owned()),
                ("--results", results),
                ("--bin", text(&programs(lab))?),
                ("--timeout", seconds),
            ] {
                words.push(name.into());
                words.push(value);
            }
            words
        }
        Some(checkout) => {
            spec.environment
                .insert("RESULT_BASE".into(), format!("{results}/checkout"));
            let install = if lab.groups.is_empty() {
                text(&lab.root.join("xfstests/install"))?
            } else {
                // Their tests need nothing of ours, and say nothing until they end.
                spec.silence = Some(upstream::LONGEST * lab.patience);
                "true".into()
            };
            vec![
                "bash".into(),
                "-c".into(),
                IN_CHECKOUT.into(),
                "fstests".into(),
                text(checkout)?,
                install,
                results,
            ]
        }
    };
    spec.command.extend(tests.iter().cloned());
    Ok(())
}

/// Runs tests in a checkout, which the guest sees under its overlay: changes stay in memory.
/// The checkout's own harness tells a verdict only in words, which are turned into our table.
const IN_CHECKOUT: &str = r#"
checkout=$1 install=$2 results=$3
shift 3
set -e
mkdir -p "$TEST_DIR" "$SCRATCH_MNT" "$RESULT_BASE"
"$install" "$checkout"
cd "$checkout"
case $FSTYP in
btrfs)  mkfs.btrfs -q -f "$TEST_DEV" ;;
ext4)   mkfs.ext4 -q -F "$TEST_DEV" ;;
xfs)    mkfs.xfs -q -f "$TEST_DEV" ;;
esac
export HOST_OPTIONS=/dev/null
unset USE_EXTERNAL LOGWRITES_DEV
scratch=$SCRATCH_DEV
set +e
for test; do
    export USE_EXTERNAL= SCRATCH_DEV=$scratch
    grep -q '^_begin_fstest.*realtime' "tests/$test" && USE_EXTERNAL=yes
    grep -q '^_begin_fstest.* dax' "tests/$test" && SCRATCH_DEV=${SCRATCH_DAXDEV:-$scratch}
    begin=$(date +%s)
    text=$(./check "$test" 2>&1)
    code=$?
    seconds=$(($(date +%s) - begin))
    printf '%s\n' "$text"
    reason=
    if printf '%s\n' "$text" | grep -q '\[not run\]'; then
        status=skip
        reason=$(printf '%s\n' "$text" | sed -n 's/.*\[not run\] *//p' | head -n 1)
    elif [ $code = 0 ] && printf '%s\n' "$text" | grep -q '^Passed all'; then
        status=pass
    else
        status=fail
        reason=$(printf '%s\n' "$text" | grep -E 'failed|mismatch|dmesg|inconsistent' | head -n 1)
    fi
    printf '%s\t%s\t%s\t%s\n' "$status" "$test" "$seconds" "$reason" >> "$results/results.tsv"
done
"#;

/// Follows the table of results that the harness appends to.
struct Reader<'a> {
    table: PathBuf,
    read: usize,
    suite: &'static str,
    seen: BTreeSet<String>,
    board: &'a Board,
}

impl Observer for Reader<'_> {
    fn output(&mut self, bytes: &[u8]) -> Result<()> {
        // It is kept in the results folder; only a debugging developer wants it live.
        if tracing::enabled!(tracing::Level::DEBUG) {
            std::io::stderr().write_all(bytes)?;
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<bool> {
        let text = std::fs::read(&self.table)?;
        // A line without its end is still being written.
        let Some(end) = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map(|at| at + 1)
        else {
            return Ok(false);
        };
        if end <= self.read {
            return Ok(false);
        }
        let new = String::from_utf8_lossy(&text[self.read..end]).into_owned();
        self.read = end;
        for line in new.lines() {
            let case = case(self.suite, line);
            self.seen.insert(case.name.clone());
            self.board.add(case);
        }
        Ok(true)
    }
}

fn case(suite: &str, line: &str) -> Case {
    let mut fields = line.splitn(4, '\t');
    let mut next = || fields.next().unwrap_or_default();
    let (status, name, seconds, reason) = (next(), next(), next(), next());
    let (verdict, reason) = match status {
        "pass" => (Verdict::Pass, reason.to_owned()),
        "skip" if !reason.is_empty() => (Verdict::Skip, reason.to_owned()),
        "skip" => (Verdict::Fail, "skipped without a reason".to_owned()),
        "fail" => (Verdict::Fail, reason.to_owned()),
        _ => (Verdict::Fail, format!("the harness wrote `{line}`")),
    };
    Case {
        seconds: seconds.parse().unwrap_or(0.0),
        ..Case::new(suite, name, verdict, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_table_become_cases() {
        let good = case("xfs", "pass\tgeneric/901\t1.25\t");
        assert_eq!((good.verdict, good.seconds), (Verdict::Pass, 1.25));
        let skip = case("xfs", "skip\tgeneric/902\t0.10\tno reflink");
        assert_eq!(
            (skip.verdict, skip.reason.as_str()),
            (Verdict::Skip, "no reflink")
        );
        assert_eq!(
            case("xfs", "skip\tgeneric/902\t0.10\t").verdict,
            Verdict::Fail
        );
        assert_eq!(case("xfs", "what\tgeneric/902").verdict, Verdict::Fail);
    }

    #[test]
    fn half_a_line_waits_for_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("results.tsv");
        let board = Board::new(&crate::ui::Ui::new(), true);
        let mut reader = Reader {
            table: table.clone(),
            read: 0,
            suite: "xfs",
            seen: BTreeSet::new(),
            board: &board,
        };
        std::fs::write(&table, "pass\tgeneric/901\t1.0\t\npass\tgener").unwrap();
        assert!(reader.tick().unwrap());
        assert!(!reader.tick().unwrap());
        std::fs::write(&table, "pass\tgeneric/901\t1.0\t\npass\tgeneric/902\t2\t\n").unwrap();
        assert!(reader.tick().unwrap());
        assert_eq!(board.sum().passed, 2);
        assert!(reader.seen.contains("generic/902"));
    }

    /// The tests in the first column of the table: such as `generic/901-904, 942, xfs/901`.
    fn in_table(readme: &str) -> Vec<String> {
        let mut named = Vec::new();
        for line in readme.lines() {
            let Some(cell) = line
                .strip_prefix("| ")
                .and_then(|row| row.split(" | ").next())
            else {
                continue;
            };
            let mut folder = "";
            for part in cell.split(", ") {
                let numbers = match part.split_once('/') {
                    Some((name, numbers)) => {
                        folder = name;
                        numbers
                    }
                    None => part,
                };
                let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
                if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
                    named.extend((first..=last).map(|number| format!("{folder}/{number}")));
                }
            }
        }
        named.sort();
        named
    }

    #[test]
    fn every_test_is_in_the_table_of_the_readme() {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xfstests");
        let mut there = Vec::new();
        for folder in ["btrfs", "ext4", "generic", "xfs"] {
            for entry in std::fs::read_dir(tests.join("tests").join(folder)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if !name.contains('.') {
                    there.push(format!("{folder}/{name}"));
                }
            }
        }
        there.sort();
        let readme = std::fs::read_to_string(tests.join("README.md")).unwrap();
        assert_eq!(in_table(&readme), there);
    }
}
