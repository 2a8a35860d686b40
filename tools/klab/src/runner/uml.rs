//! User Mode Linux: the kernel as a process of the host.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::command_line::{self, word};
use super::machine::{Consoles, Machine, Runner, Running, lettered};
use super::process;
use crate::guest::job::Share;
use crate::sandbox::{COMMAND_INPUT, COMMAND_OUTPUT};

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
        let command = command(&self.klab, machine, interactive)?;
        process::start(&self.klab, machine, consoles, command, false)
    }

    fn console(&self) -> &'static str {
        "/dev/tty1"
    }

    fn share(&self, results: &Path) -> Result<Share> {
        Ok(Share {
            kind: "hostfs".into(),
            source: "hostfs".into(),
            options: word(results)?,
        })
    }

    fn disk(&self, number: usize) -> String {
        lettered("/dev/ubd", number)
    }
}

fn command(klab: &Path, machine: &Machine, interactive: bool) -> Result<Vec<String>> {
    let mut own = vec![
        format!("mem={}M", machine.memory_mib),
        "ncpus=2".into(),
        // Needed for more than one processor, and faster than tracing.
        "seccomp=on".into(),
        "uml_dir=/dev/shm".into(),
        "root=none".into(),
        "rootfstype=hostfs".into(),
        "rootflags=/".into(),
        "con=null".into(),
        "con0=null,fd:1".into(),
        if interactive {
            format!("con1=fd:{COMMAND_INPUT},fd:{COMMAND_OUTPUT}")
        } else {
            format!("con1=null,fd:{COMMAND_OUTPUT}")
        },
        "console=tty0".into(),
    ];
    for (number, disk) in machine.disks.iter().enumerate() {
        own.push(format!("ubd{number}={}", word(disk)?));
    }
    let mut words = vec![word(&machine.kernel)?];
    words.extend(command_line::words(klab, machine, own)?);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::super::command_line::tests::machine;
    use super::*;

    #[test]
    fn the_kernel_is_the_program_and_has_its_disks() {
        let words = command(Path::new("/p/klab"), &machine(), false).unwrap();
        assert_eq!(words[0], "/k/linux");
        assert!(words.contains(&"mem=512M".into()) && words.contains(&"ubd1=/s/b".into()));
        assert!(words.contains(&"con1=null,fd:4".into()));
        let words = command(Path::new("/p/klab"), &machine(), true).unwrap();
        assert!(words.contains(&"con1=fd:3,fd:4".into()));
    }
}
