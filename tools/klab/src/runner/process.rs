//! A guest as a process of the host, in a sandbox of its own.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use super::machine::{Consoles, Machine, Running};
use crate::sandbox::{Sandbox, die_with_parent};
use crate::signals::Watched;

/// Starts what runs a guest; `klab` is the program that makes the sandbox.
pub fn start(
    klab: &Path,
    machine: &Machine,
    consoles: Consoles,
    command: Vec<String>,
    kvm: bool,
) -> Result<Box<dyn Running>> {
    let mut writable = vec![machine.results.clone()];
    for disk in &machine.disks {
        let folder = disk.parent().context("a disk lies in a folder")?.to_owned();
        if !writable.contains(&folder) {
            writable.push(folder);
        }
    }
    let sandbox = Sandbox {
        writable,
        kvm,
        command,
    };
    let mut command = sandbox.command(klab);
    command.stderr(consoles.kernel);
    let interactive = consoles.command.is_none();
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
