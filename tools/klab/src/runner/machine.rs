//! What a guest needs, whatever runs it.

use std::fs::File;
use std::path::PathBuf;

use anyhow::Result;

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
}

/// A guest that has been started; killed when dropped.
pub trait Running {
    /// Whether it has ended.
    fn ended(&mut self) -> Result<bool>;
    /// Ends it now.
    fn kill(&mut self);
}
