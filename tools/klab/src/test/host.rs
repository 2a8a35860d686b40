//! The workspace's own tests, run by cargo on this machine.

use std::collections::BTreeSet;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use super::board::{Board, Case, Verdict};
use super::suite::Lab;
use crate::exec::text_of;
use crate::setup::bindgen;
use crate::signals::Watched;

/// What cargo and the tests print.
pub const LOG: &str = "host.log";

/// Names the generator of bindings for the test that makes them anew.
const BINDGEN: &str = "BINDGEN";

/// A crate that is tested in further ways.
const DRIVER: &str = "blksnap-host";

/// One way to run tests.
struct Way {
    /// Told with the names of the tests, unless it is the usual way.
    name: &'static str,
    /// What cargo is asked to do.
    words: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
    /// Whether the program can be started in a way that tells times.
    timed: bool,
}

impl Way {
    fn new(name: &'static str, words: &str) -> Self {
        Self {
            name,
            words: words.split(' ').map(str::to_owned).collect(),
            environment: Vec::new(),
            timed: true,
        }
    }
}

/// Everything, what only the model checker can test, and what finds mistakes in the use of memory.
/// Those that this toolchain cannot do come with the reason.
fn ways() -> Vec<Result<Way, (&'static str, String)>> {
    vec![
        Ok(Way::new("", "test --workspace --release")),
        Ok(Way::new(
            "",
            &format!("test --package {DRIVER} --features loom --release"),
        )),
        sanitized(),
        interpreted(),
    ]
}

fn sanitized() -> Result<Way, (&'static str, String)> {
    let name = "address sanitizer";
    let told = |words: &[&str]| {
        text_of(Command::new("rustc").args(words)).map_err(|error| (name, format!("{error:#}")))
    };
    let version = told(&["-vV"])?;
    let target = version.lines().find_map(|line| line.strip_prefix("host: "));
    let target = target.ok_or((name, "rustc does not name its target".to_owned()))?;
    let sysroot = told(&["--print", "sysroot"])?;
    let folder = Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(target)
        .join("lib");
    let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    if !names.into_iter().any(|name| name.ends_with("_rt.asan.a")) {
        return Err((name, "the toolchain lacks its runtime".to_owned()));
    }
    let words = format!("test --package {DRIVER} --lib --release --target {target}");
    let mut way = Way::new(name, &words);
    // Of those that a stable compiler has, but wants to be asked for in this way.
    way.environment = vec![
        ("RUSTC_BOOTSTRAP", "1"),
        ("RUSTFLAGS", "-Zsanitizer=address"),
    ];
    Ok(way)
}

fn interpreted() -> Result<Way, (&'static str, String)> {
    let name = "miri";
    if text_of(Command::new("cargo").args(["miri", "--version"])).is_err() {
        let reason = "the toolchain has no `cargo miri`: rustup +nightly component add miri, \
                      then RUSTUP_TOOLCHAIN=nightly";
        return Err((name, reason.to_owned()));
    }
    let mut way = Way::new(name, &format!("miri test --package {DRIVER} --lib"));
    // It has a runner of its own.
    way.timed = false;
    // The corpus is in files.
    way.environment = vec![("MIRIFLAGS", "-Zmiri-disable-isolation")];
    Ok(way)
}

/// How cargo starts a test program. The standard harness tells times only to those who ask for
/// unstable options, in the program's environment; other harnesses do not know the option.
const RUNNER: &str = r#"target.x86_64-unknown-linux-gnu.runner = ["sh", "-c", """
if "$1" --help 2> /dev/null | grep -q -e --report-time; then
    program=$1; shift
    RUSTC_BOOTSTRAP=1 exec "$program" -Z unstable-options --report-time "$@"
fi
exec "$@"
""", "runner"]"#;

/// Runs them, with a line for each as it ends.
pub fn run(lab: &Lab<'_>, board: &Board) -> Result<()> {
    crate::cache::make(&lab.results)?;
    let mut log = std::fs::File::create(lab.results.join(LOG))?;
    let generator = bindgen::find(lab.cache)?;
    for way in ways() {
        let way = match way {
            Ok(way) => way,
            Err((name, reason)) => {
                if lab.chosen(&format!("host {name}")) {
                    board.add(Case::new("host", name, Verdict::Skip, reason));
                }
                continue;
            }
        };
        let cargo = || {
            let mut command = Command::new("cargo");
            command
                .args(&way.words)
                .args(["--no-fail-fast", "--color", "never"])
                .envs(way.environment.iter().copied());
            if way.timed {
                command.args(["--config", RUNNER]);
            }
            if let Some(generator) = generator
                .as_ref()
                .filter(|_| env::var_os(BINDGEN).is_none())
            {
                command.env(BINDGEN, generator);
            }
            command
        };
        let mut command = cargo();
        if lab.filter.is_some() {
            // The harness looks for a part of the name alone; ours has the program in front.
            let mut list = cargo();
            list.args(["--", "--list"]);
            let names = run_cargo(lab, board, way.name, list, &mut log)?;
            if names.is_empty() {
                continue;
            }
            command.args(["--", "--exact"]).args(names);
        }
        run_cargo(lab, board, way.name, command, &mut log)?;
    }
    Ok(())
}

/// Returns the names of tests that are listed and asked for, as the harness has them.
fn run_cargo(
    lab: &Lab<'_>,
    board: &Board,
    way: &'static str,
    mut command: Command,
    log: &mut std::fs::File,
) -> Result<BTreeSet<String>> {
    let (reader, writer) = std::io::pipe()?;
    command
        .current_dir(&lab.root)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    tracing::debug!(?command, "running");
    let mut child = command.spawn().context("cannot start cargo")?;
    drop(command);
    let watched = Watched::new(child.id(), false);
    let what = match way {
        "" => "building and running the tests of the workspace".to_owned(),
        way => format!("building and running tests: {way}"),
    };
    let start = Instant::now();
    let mut task = lab.ui.task(what, None);
    let chosen = |name: &str| lab.chosen(&format!("host {name}"));
    let mut parser = Parser {
        way,
        ..Parser::default()
    };
    let mut names = BTreeSet::new();
    for (number, line) in BufReader::new(reader).split(b'\n').enumerate() {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(log, "{line}")?;
        task.at(number as u64, &line);
        if let Some(case) = parser.line(&line).filter(|case| chosen(&case.name)) {
            board.add(case);
        }
        if let Some(name) = listed(&line)
            && chosen(&format!("{} {name}", parser.program))
        {
            names.insert(name.to_owned());
        }
    }
    let status = child.wait()?;
    drop(watched);
    task.done();
    if !way.is_empty() {
        lab.ui
            .say(format!("{way}: {:.0} s", start.elapsed().as_secs_f64()));
    }
    if !status.success() && parser.failed == 0 {
        let reason = format!(
            "cargo test failed ({status}); see {}: {}",
            lab.results.join(LOG).display(),
            parser.error.unwrap_or_default()
        );
        let name = format!("cargo test {way}");
        board.add(Case::new("host", name.trim(), Verdict::Fail, reason));
    }
    Ok(names)
}

/// The name in a line of a harness that lists its tests.
fn listed(line: &str) -> Option<&str> {
    line.strip_suffix(": test")
}

/// The time at the end of a verdict, as in `ok <0.012s>`.
fn split_time(text: &str) -> (&str, f64) {
    let parts = text
        .strip_suffix("s>")
        .and_then(|text| text.rsplit_once(" <"));
    match parts.and_then(|(text, time)| Some((text, time.parse().ok()?))) {
        Some(parts) => parts,
        None => (text, 0.0),
    }
}

/// Reads what the standard test harness prints.
#[derive(Default)]
struct Parser {
    way: &'static str,
    program: String,
    /// A name whose verdict stands at the start of a later line, after what the test printed.
    pending: Option<String>,
    failed: usize,
    error: Option<String>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Option<Case> {
        let trimmed = line.trim();
        if let Some(rest) = trimmed.strip_prefix("Running ") {
            self.program = program(rest);
            return None;
        }
        if let Some(rest) = trimmed.strip_prefix("Doc-tests ") {
            self.program = format!("{rest} (documentation)");
            return None;
        }
        if self.error.is_none() && trimmed.starts_with("error") {
            self.error = Some(trimmed.to_owned());
        }
        if let Some((name, verdict)) = trimmed
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        {
            return self.verdict(name, verdict);
        }
        if let Some(name) = trimmed
            .strip_prefix("test ")
            .and_then(|r| r.strip_suffix(" ..."))
        {
            self.pending = Some(name.to_owned());
            return None;
        }
        let name = self.pending.clone()?;
        let case = self.verdict(&name, trimmed);
        if case.is_some() {
            self.pending = None;
        }
        case
    }

    fn verdict(&mut self, name: &str, text: &str) -> Option<Case> {
        let mut name = format!(
            "{} {}",
            self.program,
            name.trim_end_matches(" - should panic")
        );
        let (text, seconds) = split_time(text);
        let timed = |case: Case| Some(Case { seconds, ..case });
        if !self.way.is_empty() {
            name.push_str(&format!(" ({})", self.way));
        }
        if text == "ok" {
            timed(Case::new("host", &name, Verdict::Pass, ""))
        } else if text == "FAILED" {
            self.failed += 1;
            timed(Case::new("host", &name, Verdict::Fail, "see host.log"))
        } else if let Some(why) = text.strip_prefix("ignored") {
            let why = why.trim_start_matches([',', ' ']);
            let why = if why.is_empty() {
                "marked as ignored"
            } else {
                why
            };
            timed(Case::new("host", &name, Verdict::Skip, why))
        } else {
            None
        }
    }
}

/// `unittests src/lib.rs (target/release/deps/klab-0123abcd)` without the changing parts.
fn program(text: &str) -> String {
    let file = text
        .rsplit('/')
        .next()
        .unwrap_or(text)
        .trim_end_matches(')');
    let crate_name = file.rsplit_once('-').map_or(file, |(name, _)| name);
    match text.strip_prefix("unittests ") {
        Some(_) => crate_name.to_owned(),
        None => text.split(' ').next().unwrap_or(crate_name).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read() {
        let text = "   Compiling klab v0.1.0\n     Running unittests src/main.rs \
            (target/release/deps/klab-0123)\n\nrunning 4 tests\ntest a::b ... ok\n\
            test a::c ... FAILED\ntest a::d ... ignored, needs a disk\n\
            test slow ... some output\nok\n     Running tests/verbs.rs (target/x/verbs-1)\n\
            test e ... ok\n";
        let mut parser = Parser::default();
        let cases: Vec<Case> = text.lines().flat_map(|line| parser.line(line)).collect();
        let seen: Vec<(&str, Verdict)> = cases
            .iter()
            .map(|case| (case.name.as_str(), case.verdict))
            .collect();
        assert_eq!(
            seen,
            [
                ("klab a::b", Verdict::Pass),
                ("klab a::c", Verdict::Fail),
                ("klab a::d", Verdict::Skip),
                ("tests/verbs.rs e", Verdict::Pass),
            ]
        );
        assert_eq!(parser.failed, 1);
    }

    #[test]
    fn times_are_read() {
        let mut parser = Parser::default();
        let case = parser.line("test a::b ... ok <1.250s>").unwrap();
        assert_eq!((case.verdict, case.seconds), (Verdict::Pass, 1.25));
        let case = parser.line("test a::c ... FAILED <0.500s>").unwrap();
        assert_eq!((case.verdict, case.seconds), (Verdict::Fail, 0.5));
        assert!(parser.line("test slow ... some output").is_none());
        assert_eq!(
            split_time("ignored, only <here>"),
            ("ignored, only <here>", 0.0)
        );
    }

    #[test]
    fn listed_tests_are_no_verdicts() {
        assert_eq!(listed("a::b: test"), Some("a::b"));
        assert_eq!(listed("a::b: bench"), None);
        assert!(Parser::default().line("a::b: test").is_none());
    }

    #[test]
    fn tests_that_run_in_two_ways_have_two_names() {
        let mut parser = Parser {
            way: "miri",
            ..Parser::default()
        };
        parser.line("     Running unittests src/lib.rs (target/miri/x/deps/driver-0123)");
        let case = parser.line("test a::b ... ok").unwrap();
        assert_eq!(case.name, "driver a::b (miri)");
    }

    #[test]
    fn what_cannot_be_run_has_a_reason() {
        let all = ways();
        assert_eq!(all.len(), 4);
        assert!(all[..2].iter().all(Result::is_ok));
        let mut missing = all.iter().filter_map(|way| way.as_ref().err());
        assert!(missing.all(|(name, reason)| !name.is_empty() && reason.len() > 20));
    }

    #[test]
    fn a_build_that_fails_is_told() {
        let mut parser = Parser::default();
        assert!(parser.line("error[E0308]: mismatched types").is_none());
        assert_eq!(
            parser.error.as_deref(),
            Some("error[E0308]: mismatched types")
        );
    }
}
