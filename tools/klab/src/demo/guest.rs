//! The demonstration as it happens in the guest, for one filesystem.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use walkdir::WalkDir;

use super::picture::{self, Picture};
use super::report::{Answer, Report, Step};
use super::writer::{self, Writer};
use super::{digest, tamper};
use crate::exec::{capture, text_of};
use crate::paths::text;
use crate::ui::bytes;

/// Names of the steps that the closing table shows.
pub const TAKE: &str = "take the snapshot while the writer works";
pub const COMPARE: &str = "compare the read-only image";
pub const COMPARE_WRITABLE: &str = "write to the image and compare again";
pub const ZEROES: &str = "the storage reads as zeroes";
pub const CHECK: &str = "check the filesystem";

/// Where it tells what it found.
pub const REPORT: &str = "report.json";

const DEVICE: &str = "/dev/ubda";
const TOP: &str = "/mnt/demo";
const IMAGE: &str = "/mnt/image";
pub const STORAGE_BYTES: u64 = 512 << 20;

#[derive(Clone, Debug, Args)]
pub struct GuestDemo {
    #[arg(long)]
    pub fs: String,
    #[arg(long)]
    pub data: PathBuf,
    #[arg(long)]
    pub results: PathBuf,
    #[arg(long)]
    pub blksnap: PathBuf,
}

/// Runs it and writes the report; returns the exit status.
pub fn main(args: &GuestDemo) -> Result<i32> {
    let start = Instant::now();
    let mut demo = Demo {
        args: args.clone(),
        report: Report {
            filesystem: args.fs.clone(),
            ..Report::default()
        },
    };
    let told = demo.whole();
    demo.report.finished = told.is_ok();
    demo.report.seconds = start.elapsed().as_secs_f64();
    let path = args.results.join(REPORT);
    std::fs::write(path, serde_json::to_vec_pretty(&demo.report)?)?;
    if let Err(error) = told {
        println!("stopped: {error:#}");
    }
    Ok(if demo.report.held() { 0 } else { 1 })
}

struct Demo {
    args: GuestDemo,
    report: Report,
}

impl Demo {
    /// Does a step and tells how it went; the error is for steps that the rest builds on.
    fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce(&Self) -> Result<(T, String)>,
    ) -> Result<T> {
        let start = Instant::now();
        let done = work(self);
        let seconds = start.elapsed().as_secs_f64();
        let (held, detail) = match &done {
            Ok((_, detail)) => (true, detail.clone()),
            Err(error) => (false, format!("{error:#}")),
        };
        let word = if held { "ok  " } else { "FAIL" };
        println!(
            "{word} {name} ({seconds:.1} s){}{detail}",
            if detail.is_empty() { "" } else { ": " }
        );
        self.report.steps.push(Step {
            name: name.into(),
            held,
            detail,
            seconds,
        });
        done.map(|(value, _)| value)
            .with_context(|| name.to_owned())
    }

    fn whole(&mut self) -> Result<()> {
        let top = Path::new(TOP);
        let tree = top.join("tree");
        let busy = top.join("busy");
        let storage = top.join("storage");
        self.step("make the filesystem", |demo| {
            make_filesystem(&demo.args.fs)?;
            std::fs::create_dir_all(TOP)?;
            std::fs::create_dir_all(IMAGE)?;
            mount(DEVICE, TOP, &demo.args.fs, "")?;
            Ok(((), String::new()))
        })?;
        self.step("fill it", |demo| {
            let (files, sum) = copy(&demo.args.data, &tree)?;
            Ok(((), format!("{files} files, {}", bytes(sum))))
        })?;
        self.step("create the storage on it", |demo| {
            let size = STORAGE_BYTES.to_string();
            demo.blksnap(&["storage", "create", text(&storage)?, "--size", &size])?;
            Ok((
                (),
                format!("{} in {}", bytes(STORAGE_BYTES), storage.display()),
            ))
        })?;
        let before = self.step("compute the checksum of every file", |_| {
            let before = digest::of(&tree)?;
            let (files, _) = digest::size(&before);
            ensure!(files > 0, "there are no files");
            Ok((before, format!("{files} checksums")))
        })?;
        let victims = files_below(&tree)?;
        let writer = Writer::start(busy, victims);
        let snapshot = self.step(TAKE, |demo| {
            writer.wait_for_rounds(20)?;
            let from = writer.rounds();
            let snapshot = demo.take(&storage)?;
            let detail = format!(
                "{}, {} rounds of the writer meanwhile",
                snapshot.image,
                writer.rounds() - from
            );
            Ok((snapshot, detail))
        })?;
        writer.work_on_the_tree_too();
        self.after_the_snapshot(&before, writer, &snapshot, &storage)
    }

    fn after_the_snapshot(
        &mut self,
        before: &digest::Tree,
        writer: Writer,
        snapshot: &Snapshot,
        storage: &Path,
    ) -> Result<()> {
        // From here on a step that fails does not keep the next ones from being told.
        let mut first: Option<anyhow::Error> = None;
        let mut note = |result: Result<()>| {
            if let Err(error) = result {
                first.get_or_insert(error);
            }
        };
        note(self.compare_image(before, &writer, snapshot));
        note(self.write_to_image(before, snapshot));
        note(self.see_storage(storage));
        note(self.tamper_with_storage(storage));
        let changes = writer.tree_changes();
        note(self.stop_writer(writer));
        note(self.compare_original(before, changes));
        self.step("destroy the snapshot", |demo| {
            demo.blksnap(&["destroy", &snapshot.id])?;
            demo.blksnap(&["detach", DEVICE])?;
            Ok(((), String::new()))
        })?;
        note(self.step(ZEROES, |_| Ok(((), bytes(only_zeroes(storage)?)))));
        self.step(CHECK, |demo| {
            umount(TOP)?;
            check(&demo.args.fs)?;
            Ok(((), String::new()))
        })?;
        first.map_or(Ok(()), Err)
    }

    fn compare_image(
        &mut self,
        before: &digest::Tree,
        writer: &Writer,
        snapshot: &Snapshot,
    ) -> Result<()> {
        self.step(COMPARE, |demo| {
            writer.wait_for_rounds(50)?;
            mount(&snapshot.image, IMAGE, &demo.args.fs, "ro")?;
            let told = compare(before);
            umount(IMAGE)?;
            let (files, whole) = told?;
            Ok((
                (),
                format!("{files} files as before, {whole} files by the writer intact"),
            ))
        })
    }

    fn write_to_image(&mut self, before: &digest::Tree, snapshot: &Snapshot) -> Result<()> {
        self.step(COMPARE_WRITABLE, |demo| {
            mount(&snapshot.image, IMAGE, &demo.args.fs, "rw")?;
            let told = write_and_compare(before);
            umount(IMAGE)?;
            Ok(((), told?))
        })
    }

    fn see_storage(&mut self, storage: &Path) -> Result<()> {
        let picture = self.step("see where the storage lies", |demo| {
            let pins = std::fs::read_to_string(picture::PINS)
                .with_context(|| format!("cannot read {}", picture::PINS))?;
            let extents = picture::extents_of(&pins, text(storage)?)?;
            ensure!(!extents.is_empty(), "{} is not pinned", storage.display());
            let mut device = File::open(DEVICE)?;
            let picture = Picture {
                title: demo.args.fs.clone(),
                disk_bytes: device.seek(SeekFrom::End(0))?,
                extents,
            };
            ensure!(
                picture.storage_bytes() >= STORAGE_BYTES,
                "only {} are pinned",
                bytes(picture.storage_bytes())
            );
            let detail = match picture.extents.len() {
                1 => "1 extent".to_owned(),
                count => format!("{count} extents"),
            };
            Ok((picture, detail))
        })?;
        self.report.picture = Some(picture);
        Ok(())
    }

    fn tamper_with_storage(&mut self, storage: &Path) -> Result<()> {
        self.report.attempts = self.step("tamper with the storage", |demo| {
            let tried = tamper::all(&demo.args.fs, storage)?;
            for attempt in &tried {
                let told = match attempt.answer {
                    Answer::Refused => attempt.errno.clone(),
                    Answer::Impossible => format!("{}, as for any file here", attempt.errno),
                    Answer::WentThrough => "WENT THROUGH".into(),
                };
                println!("     {}: {told}", attempt.name);
            }
            let count = tried.len();
            Ok((tried, format!("{count} ways")))
        })?;
        Ok(())
    }

    fn stop_writer(&mut self, writer: Writer) -> Result<()> {
        let (rounds, changes) = (writer.rounds(), writer.tree_changes());
        self.step("stop the writer", |_| {
            writer.stop()?;
            Ok((
                (),
                format!("{rounds} rounds, {changes} changes to files with a checksum"),
            ))
        })
    }

    /// Whether the snapshot had something to keep; `changes` is what the writer did to the files.
    fn compare_original(&mut self, before: &digest::Tree, changes: u64) -> Result<()> {
        self.step(
            "the image is still good, the original has changed",
            |demo| {
                ensure!(
                    changes > 0,
                    "the writer never changed a file with a checksum"
                );
                let error = demo.image_error()?;
                ensure!(
                    error.is_none(),
                    "the snapshot is corrupted: {}",
                    error.unwrap_or_default()
                );
                let now = digest::of(&Path::new(TOP).join("tree"))?;
                let count = digest::differences(before, &now).len();
                ensure!(
                    count > 0,
                    "the original is as before: the writer had no effect"
                );
                Ok(((), format!("{count} differences")))
            },
        )
    }

    /// Runs the administration command; what it prints is JSON.
    fn blksnap(&self, words: &[&str]) -> Result<serde_json::Value> {
        let mut command = Command::new(&self.args.blksnap);
        let output = capture(command.args(words).arg("--json"), None)?;
        let read = |bytes: &[u8]| -> Result<serde_json::Value> {
            serde_json::from_slice(bytes)
                .with_context(|| format!("`{}` is not JSON", String::from_utf8_lossy(bytes)))
        };
        if output.status.success() {
            return read(&output.stdout);
        }
        let error = read(&output.stderr)?["error"].take();
        let word = |name: &str| error[name].as_str().unwrap_or("no word").to_owned();
        bail!(
            "blksnap {}: {} ({})",
            words[0],
            word("message"),
            word("errno")
        );
    }

    fn take(&self, storage: &Path) -> Result<Snapshot> {
        let told = self.blksnap(&["snapshot", "--storage", text(storage)?, DEVICE])?;
        let word = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        Ok(Snapshot {
            id: word(&told["id"]).context("the answer has no snapshot id")?,
            image: word(&told["devices"][0]["image"]).context("the answer names no image")?,
        })
    }

    fn image_error(&self) -> Result<Option<String>> {
        let told = self.blksnap(&["info", DEVICE])?;
        Ok(told["devices"][0]["error"].as_str().map(str::to_owned))
    }
}

struct Snapshot {
    id: String,
    image: String,
}

fn make_filesystem(fs: &str) -> Result<()> {
    let (program, options): (&str, &[&str]) = match fs {
        "xfs" => ("mkfs.xfs", &["-q", "-f"]),
        "ext4" => ("mkfs.ext4", &["-q", "-F"]),
        "btrfs" => ("mkfs.btrfs", &["-q", "-f"]),
        _ => bail!("cannot make a filesystem of type {fs}"),
    };
    text_of(Command::new(program).args(options).arg(DEVICE))?;
    Ok(())
}

fn mount(device: &str, place: &str, fs: &str, mode: &str) -> Result<()> {
    let mut options: Vec<&str> = Vec::new();
    if !mode.is_empty() {
        options.push(mode);
        // The image has the identity of the mounted original.
        if fs == "xfs" {
            options.push("nouuid");
        }
    }
    let mut command = Command::new("mount");
    command.args(["-t", fs]);
    if !options.is_empty() {
        command.arg("-o").arg(options.join(","));
    }
    text_of(command.arg(device).arg(place))?;
    Ok(())
}

fn umount(place: &str) -> Result<()> {
    text_of(Command::new("umount").arg(place))?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(usize, u64)> {
    let (mut files, mut sum) = (0, 0);
    for entry in WalkDir::new(from) {
        let entry = entry.with_context(|| format!("cannot walk {}", from.display()))?;
        let target = to.join(entry.path().strip_prefix(from)?);
        let kind = entry.file_type();
        if kind.is_dir() {
            std::fs::create_dir_all(&target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path())?, &target)?;
        } else if kind.is_file() {
            sum += std::fs::copy(entry.path(), &target)
                .with_context(|| format!("cannot copy {}", entry.path().display()))?;
            files += 1;
        }
    }
    Ok((files, sum))
}

fn files_below(top: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in WalkDir::new(top).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// How many files of the image are as before, and how many files of the writer are whole.
fn compare(before: &digest::Tree) -> Result<(usize, usize)> {
    let image = Path::new(IMAGE);
    let now = digest::of(&image.join("tree"))?;
    let wrong = digest::differences(before, &now);
    ensure!(
        wrong.is_empty(),
        "{} differences: {}",
        wrong.len(),
        wrong.iter().take(5).cloned().collect::<Vec<_>>().join(", ")
    );
    let whole = writer::verify(&image.join("busy"))?;
    ensure!(
        whole > 0,
        "the image has no file by the writer, which was not working"
    );
    Ok((digest::size(&now).0, whole))
}

fn write_and_compare(before: &digest::Tree) -> Result<String> {
    let mark = Path::new(IMAGE).join("only-in-the-image");
    std::fs::write(&mark, vec![3; 1 << 20])?;
    File::open(&mark)?.sync_all()?;
    let (files, _) = compare(before)?;
    ensure!(
        !Path::new(TOP).join("only-in-the-image").exists(),
        "what was written to the image is in the original"
    );
    Ok(format!("{files} files as before"))
}

fn only_zeroes(path: &Path) -> Result<u64> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut sum = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            ensure!(sum > 0, "{} is empty", path.display());
            return Ok(sum);
        }
        if let Some(at) = buffer[..count].iter().position(|byte| *byte != 0) {
            bail!(
                "byte {} is not zero: what was stored can be read",
                sum + at as u64
            );
        }
        sum += count as u64;
    }
}

fn check(fs: &str) -> Result<()> {
    let (program, options): (&str, &[&str]) = match fs {
        "xfs" => ("xfs_repair", &["-n"]),
        "ext4" => ("e2fsck", &["-fn"]),
        "btrfs" => ("btrfs", &["check"]),
        _ => bail!("cannot check a filesystem of type {fs}"),
    };
    let output = capture(Command::new(program).args(options).arg(DEVICE), None)?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let last: Vec<&str> = said.lines().rev().take(8).collect();
        bail!(
            "{program}: {}",
            last.into_iter().rev().collect::<Vec<_>>().join(" | ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_left_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("storage");
        std::fs::write(&path, vec![0; 3 << 20]).unwrap();
        assert_eq!(only_zeroes(&path).unwrap(), 3 << 20);
        let mut bytes = vec![0; 3 << 20];
        bytes[(2 << 20) + 5] = 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(
            only_zeroes(&path)
                .unwrap_err()
                .to_string()
                .contains("2097157")
        );
        std::fs::write(&path, "").unwrap();
        assert!(only_zeroes(&path).is_err());
    }

    #[test]
    fn a_copy_is_equal() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        std::fs::create_dir_all(from.join("deep")).unwrap();
        std::fs::write(from.join("deep/file"), "text").unwrap();
        std::os::unix::fs::symlink("file", from.join("deep/link")).unwrap();
        let to = folder.path().join("to");
        assert_eq!(copy(&from, &to).unwrap(), (1, 4));
        let (from, to) = (digest::of(&from).unwrap(), digest::of(&to).unwrap());
        assert!(digest::differences(&from, &to).is_empty());
    }
}
