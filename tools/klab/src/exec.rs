//! Running other programs: their noise goes to a log, and into the error when they fail.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};

use crate::fail::{Failure, Kind};
use crate::signals::Watched;
use crate::ui::Ui;

/// How many of the last lines of a failed program are shown.
const TAIL: usize = 12;

/// How many of the first lines that speak of an error are shown above them.
const ERRORS: usize = 12;

/// A long-running program with progress and a log of its own.
pub struct Step {
    pub label: String,
    pub log: PathBuf,
    pub kind: Kind,
    pub hint: String,
    pub total: Option<u64>,
    pub protected: bool,
}

impl Step {
    pub fn new(label: impl Into<String>, log: PathBuf, kind: Kind) -> Self {
        Self {
            label: label.into(),
            log,
            kind,
            hint: String::new(),
            total: None,
            protected: false,
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    pub fn total(mut self, total: Option<u64>) -> Self {
        self.total = total;
        self
    }

    /// Ctrl-C waits for this program instead of killing it.
    pub fn protected(mut self) -> Self {
        self.protected = true;
        self
    }

    /// Runs the program; returns how many lines it printed.
    pub fn run(self, ui: &Ui, mut command: Command) -> Result<u64> {
        let program = command.get_program().to_string_lossy().into_owned();
        if let Some(folder) = self.log.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut log = File::create(&self.log)
            .with_context(|| format!("cannot create the log {}", self.log.display()))?;
        let (reader, writer) = std::io::pipe()?;
        command
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0);
        tracing::debug!(?command, "running");
        let mut child = spawn(&mut command, &program)?;
        // The command holds the write ends of the pipe: without this the reader never ends.
        drop(command);
        let watched = Watched::new(child.id(), self.protected);
        let mut task = ui.task(self.label.clone(), self.total);
        let mut tail: VecDeque<String> = VecDeque::new();
        let mut errors: Vec<String> = Vec::new();
        let mut lines = 0;
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            log.write_all(&line)?;
            lines += 1;
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if !text.is_empty() {
                task.at(lines, &text);
                tail.push_back(text);
                // Programs that work in parallel print much after what went wrong.
                let pushed_out = if tail.len() > TAIL {
                    tail.pop_front()
                } else {
                    None
                };
                if let Some(text) = pushed_out
                    && errors.len() < ERRORS
                    && (text.contains("error") || text.contains("***") || text.starts_with("E: "))
                {
                    errors.push(text);
                }
            }
            line.clear();
        }
        let status = child.wait()?;
        drop(watched);
        if status.success() {
            task.done();
            return Ok(lines);
        }
        drop(task);
        let mut text = format!("{}: `{program}` failed ({status})", self.label);
        for line in errors.into_iter().chain(tail) {
            text.push_str("\n  | ");
            text.push_str(&line);
        }
        text.push_str(&format!("\n  whole log: {}", self.log.display()));
        let mut failure = Failure::new(self.kind, text);
        if !self.hint.is_empty() {
            failure = failure.hint(self.hint);
        }
        Err(failure.into())
    }
}

fn spawn(command: &mut Command, program: &str) -> Result<std::process::Child> {
    command.spawn().map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            Failure::new(
                Kind::Requirement,
                format!("the program `{program}` is not installed"),
            )
            .hint(how_to_get(program))
            .into()
        } else {
            anyhow::Error::new(error).context(format!("cannot start `{program}`"))
        }
    })
}

/// Set-up installs what Debian has; Rust must be there before klab can be built at all.
fn how_to_get(program: &str) -> &'static str {
    match program {
        "cargo" | "rustc" => "install Rust from https://rustup.rs and put it in PATH",
        _ => "install what is missing with: cargo klab setup",
    }
}

/// Runs a short program and hands back whatever it did.
pub fn capture(command: &mut Command, input: Option<&[u8]>) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    // In its own group, so that a signal for us is ours to pass on.
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    tracing::debug!(?command, "running");
    let mut child = spawn(command, &program)?;
    let watched = Watched::new(child.id(), false);
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| -> Result<Output> {
        // A program that fails early closes its end; what it says on stderr explains it.
        let feeder = scope.spawn(move || {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                stdin.write_all(input)
            } else {
                Ok(())
            }
        });
        let output = child.wait_with_output()?;
        match feeder.join() {
            Ok(Err(error)) if output.status.success() => Err(error.into()),
            _ => Ok(output),
        }
    })?;
    drop(watched);
    Ok(output)
}

/// Runs a short program that must succeed; returns its stdout.
pub fn stdout_of(command: &mut Command, input: Option<&[u8]>) -> Result<Vec<u8>> {
    let output = capture(command, input)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
    anyhow::bail!(
        "`{} {}` failed ({}): {}",
        command.get_program().to_string_lossy(),
        arguments.join(" "),
        output.status,
        said.trim()
    );
}

/// The same, as text without the last newline.
pub fn text_of(command: &mut Command) -> Result<String> {
    let out = stdout_of(command, None)?;
    Ok(String::from_utf8(out)
        .context("output is not UTF-8")?
        .trim_end()
        .to_owned())
}

/// Where a program lies, looking at PATH and the folders only root has on it.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Reads a whole file that may be absent.
pub fn read_optional(path: &Path) -> Result<Option<String>> {
    match File::open(path) {
        Ok(mut file) => {
            let mut text = String::new();
            file.read_to_string(&mut text)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Ok(Some(text))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_shows_the_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo first; echo the reason >&2; exit 3"]);
        let step = Step::new("try", folder.path().join("log"), Kind::Build).hint("try again");
        let error = step.run(&Ui::new(), command).unwrap_err();
        let failure = error.downcast_ref::<Failure>().unwrap();
        assert_eq!(failure.kind, Kind::Build);
        assert!(failure.what.contains("the reason"), "{}", failure.what);
        assert_eq!(failure.hint.as_deref(), Some("try again"));
        assert!(
            std::fs::read_to_string(folder.path().join("log"))
                .unwrap()
                .contains("first")
        );
    }

    #[test]
    fn a_missing_program_is_a_requirement() {
        let error = text_of(&mut Command::new("no-such-program-anywhere")).unwrap_err();
        assert_eq!(crate::fail::status_of(&error), Kind::Requirement as i32);
        assert!(error.to_string().contains("cargo klab setup"));
        // Set-up itself needs these.
        assert!(
            ["cargo", "rustc"]
                .map(how_to_get)
                .iter()
                .all(|hint| hint.contains("rustup"))
        );
    }

    #[test]
    fn input_larger_than_a_pipe_is_fed_while_output_is_read() {
        let input = vec![b'x'; 1 << 20];
        let out = stdout_of(&mut Command::new("cat"), Some(&input)).unwrap();
        assert_eq!(out, input);
    }
}
