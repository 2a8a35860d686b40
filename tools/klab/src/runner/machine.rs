//! What a guest needs, whatever runs it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use crate::guest::job::Share;

/// As many as the drivers of all platforms take.
pub const MOST_DISKS: usize = 8;

/// What a kernel is built for, and guests are run by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// User Mode Linux: the kernel is a process
    #[default]
    Uml,
    /// A virtual PC (x86-64), with persistent memory in /dev/pmem0
    Qemu,
}

impl Platform {
    /// What it is called in the names of files, after those of others; the usual one needs no name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Uml => "",
            Self::Qemu => "-qemu",
        }
    }
}

/// A guest to be.
#[derive(Clone, Debug)]
pub struct Machine {
    pub kernel: PathBuf,
    pub memory_mib: u64,
    /// Files that become the disks of the guest, in order.
    pub disks: Vec<PathBuf>,
    /// The one folder of the host that the guest may write to.
    pub results: PathBuf,
    /// What the guest's first process does, as a file that the guest can read.
    pub job: PathBuf,
    /// Further words for the kernel's command line.
    pub kernel_words: Vec<String>,
}

/// Where the guest's two consoles go.
pub struct Consoles {
    /// Messages of the kernel.
    pub kernel: File,
    /// Output of the command; none means our own terminal, input too.
    pub command: Option<std::io::PipeWriter>,
}

/// Something that runs guests.
pub trait Runner: Sync {
    fn start(&self, machine: &Machine, consoles: Consoles) -> Result<Box<dyn Running>>;

    /// The console of the command, as the guest calls it.
    fn console(&self) -> &'static str;

    /// How the guest mounts the folder that it may write to.
    fn share(&self, results: &Path) -> Result<Share>;

    /// A disk by its number, as the guest calls it.
    fn disk(&self, number: usize) -> String;

    /// A disk that is memory and keeps what is written to it, if there is one.
    fn persistent_memory(&self) -> Option<&'static str> {
        None
    }

    /// How many times as long as usual everything may take.
    fn slowness(&self) -> u32 {
        1
    }
}

/// A guest that has been started; killed when dropped.
pub trait Running {
    /// Whether it has ended.
    fn ended(&mut self) -> Result<bool>;
    /// Ends it now.
    fn kill(&mut self);
}

/// A name that ends in a letter for the number: `a` is the first.
pub fn lettered(start: &str, number: usize) -> String {
    format!("{start}{}", char::from(b'a' + number as u8))
}
