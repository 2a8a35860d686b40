//! User Mode Linux: the kernel as a process of the host.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use super::machine::{Consoles, Machine, Runner, Running};
use crate::guest::init::VERB;
use crate::paths;
use crate::sandbox::{COMMAND_INPUT, COMMAND_OUTPUT, Sandbox, die_with_parent};
use crate::signals::Watched;

/// As many as the kernel's driver takes.
pub const MOST_DISKS: usize = 8;

pub struct Uml {
    /// The program that makes the sandbox and is the guest's first process.
    klab: PathBuf,
}

impl Uml {
    pub fn new(klab: PathBuf) -> Self {
        Self { klab }
    }
}

impl Runner for Uml {
    fn start(&self, machine: &Machine, consoles: Consoles) -> Result<Box<dyn Running>> {
        let interactive = consoles.command.is_none();
        let mut writable = vec![machine.results.clone()];
        for disk in &machine.disks {
            let folder = disk.parent().context("a disk lies in a folder")?.to_owned();
            if !writable.contains(&folder) {
                writable.push(folder);
            }
        }
        let sandbox = Sandbox {
            writable,
            command: command_line(&self.klab, machine, interactive)?,
        };
        let mut command = sandbox.command(&self.klab);
        command.stderr(consoles.kernel);
        match consoles.command {
            Some(output) => {
                // In its own group, so that a signal for us is ours to pass on.
                command.stdin(Stdio::null()).stdout(output).process_group(0);
            }
            None => {
                command.stdin(Stdio::inherit()).stdout(Stdio::inherit());
            }
        }
        die_with_parent(&mut command);
        tracing::debug!(?command, "running");
        let child = command.spawn().context("cannot start the guest")?;
        let watched = if interactive {
            Watched::alone(child.id())
        } else {
            Watched::new(child.id(), false)
        };
        Ok(Box::new(Process {
            child,
            _watched: watched,
        }))
    }
}

fn command_line(klab: &Path, machine: &Machine, interactive: bool) -> Result<Vec<String>> {
    let text = |path: &Path| -> Result<String> {
        let text = paths::text(path)?;
        anyhow::ensure!(
            !text.contains(|ch: char| ch.is_whitespace() || ch == ',' || ch == '"'),
            "the path `{text}` has characters that a kernel command line cannot hold"
        );
        Ok(text.to_owned())
    };
    let mut words = vec![
        text(&machine.kernel)?,
        format!("mem={}M", machine.memory_mib),
        "ncpus=2".into(),
        // Needed for more than one processor, and faster than tracing.
        "seccomp=on".into(),
        "uml_dir=/dev/shm".into(),
        "root=none".into(),
        "rootfstype=hostfs".into(),
        "rootflags=/".into(),
        "ro".into(),
        "con=null".into(),
        "con0=null,fd:1".into(),
        if interactive {
            format!("con1=fd:{COMMAND_INPUT},fd:{COMMAND_OUTPUT}")
        } else {
            format!("con1=null,fd:{COMMAND_OUTPUT}")
        },
        "console=tty0".into(),
        // Simulated SCSI disks that verify, made when a test asks for them.
        "scsi_debug.add_host=0".into(),
        "scsi_debug.dev_size_mb=64".into(),
        "scsi_debug.dif=1".into(),
        "scsi_debug.dix=1".into(),
        format!("init={}", text(klab)?),
    ];
    for (number, disk) in machine.disks.iter().enumerate() {
        words.push(format!("ubd{number}={}", text(disk)?));
    }
    words.extend(machine.kernel_words.iter().cloned());
    words.push("--".into());
    words.push(VERB.into());
    words.push(text(&machine.job)?);
    Ok(words)
}

struct Process {
    child: Child,
    _watched: Watched,
}

impl Running for Process {
    fn ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    fn kill(&mut self) {
        // Its namespace dies with it. It may have ended by itself meanwhile, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            kernel: "/k/linux".into(),
            memory_mib: 512,
            disks: vec!["/s/a".into(), "/s/b".into()],
            results: "/r".into(),
            job: "/r/job.json".into(),
            kernel_words: vec!["kunit.enable=1".into()],
        }
    }

    #[test]
    fn the_root_is_read_only_and_the_job_comes_last() {
        let words = command_line(Path::new("/p/klab"), &machine(), false).unwrap();
        assert_eq!(words[0], "/k/linux");
        assert!(words.contains(&"ro".into()) && !words.contains(&"rw".into()));
        assert!(words.contains(&"ubd1=/s/b".into()) && words.contains(&"kunit.enable=1".into()));
        assert_eq!(
            words[words.len() - 3..],
            ["--", "guest-init", "/r/job.json"]
        );
    }

    #[test]
    fn a_path_that_would_break_the_command_line_is_refused() {
        let machine = Machine {
            job: "/a b/job".into(),
            ..machine()
        };
        assert!(command_line(Path::new("/p/klab"), &machine, false).is_err());
    }
}
