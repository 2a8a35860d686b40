//! QEMU: a PC with one kernel, and nothing else of a PC.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::command_line::{self, word};
use super::machine::{Consoles, Machine, Runner, Running, lettered};
use super::process;
use crate::exec::find_program;
use crate::guest::job::Share;
use crate::sandbox::{COMMAND_INPUT, COMMAND_OUTPUT};

pub const PROGRAM: &str = "qemu-system-x86_64";

/// Tags of the folders of the host.
const ROOT: &str = "host";
const RESULTS: &str = "results";

/// In the largest pieces that its transport takes.
const TRANSPORT: &str = "trans=virtio,version=9p2000.L,msize=512000";

/// Persistent memory lies above all that devices of 32 bits use.
const PERSISTENT_MIB: u64 = 1024;
const PERSISTENT_AT_MIB: u64 = 4096;

/// What the kernel keeps of it in other memory: 64 bytes a page.
const STRUCTURES_MIB: u64 = PERSISTENT_MIB / 64;

/// Memory that lies below those devices, at most.
const LOW_MIB: u64 = 2048;

pub struct Qemu {
    /// The program that makes the sandbox and is the guest's first process.
    klab: PathBuf,
    program: PathBuf,
    /// Whether the processor runs the guest itself; it is emulated otherwise.
    kvm: bool,
}

impl Qemu {
    pub fn new(klab: PathBuf) -> Self {
        Self {
            klab,
            // The sandbox has a search path of its own.
            program: find_program(PROGRAM).unwrap_or_else(|| PROGRAM.into()),
            kvm: has_kvm(),
        }
    }
}

/// Whether the host lets us, and its processor can: there is a KVM without the processor's help that
/// runs only kernels made for it.
pub fn has_kvm() -> bool {
    let opened = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    opened.is_ok() && std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| can_help(&text))
}

/// From proc(5)'s `cpuinfo`: what Intel and AMD call it.
fn can_help(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags"));
    flags.is_some_and(|flags| {
        flags
            .split_whitespace()
            .any(|flag| flag == "vmx" || flag == "svm")
    })
}

impl Runner for Qemu {
    fn start(&self, machine: &Machine, consoles: Consoles) -> Result<Box<dyn Running>> {
        let interactive = consoles.command.is_none();
        let mut command = vec![word(&self.program)?];
        command.extend(options(&self.klab, machine, interactive, self.kvm)?);
        process::start(&self.klab, machine, consoles, command, self.kvm)
    }

    fn console(&self) -> &'static str {
        // Slower than the console of virtio, which drops what its reader is slow to take.
        "/dev/ttyS1"
    }

    fn share(&self, _: &Path) -> Result<Share> {
        Ok(Share {
            kind: "9p".into(),
            source: RESULTS.into(),
            // The host reads what the guest writes, at once.
            options: format!("{TRANSPORT},cache=none"),
        })
    }

    fn disk(&self, number: usize) -> String {
        lettered("/dev/vd", number)
    }

    fn persistent_memory(&self) -> Option<&'static str> {
        Some("/dev/pmem0")
    }

    fn slowness(&self) -> u32 {
        if self.kvm { 1 } else { 5 }
    }
}

fn options(klab: &Path, machine: &Machine, interactive: bool, kvm: bool) -> Result<Vec<String>> {
    let memory_mib = machine.memory_mib + STRUCTURES_MIB;
    let low = memory_mib.min(LOW_MIB);
    let mut words = Vec::new();
    let mut add = |option: &str, value: String| words.extend([format!("-{option}"), value]);
    add("machine", format!("q35,max-ram-below-4g={low}M"));
    if kvm {
        add("accel", "kvm".into());
        add("cpu", "host".into());
    } else {
        add("accel", "tcg".into());
        add("cpu", "max".into());
    }
    add("smp", "2".into());
    add("m", format!("{}M", memory_mib + PERSISTENT_MIB));
    add("display", "none".into());
    add("kernel", word(&machine.kernel)?);
    add("append", kernel_words(klab, machine)?.join(" "));
    // The sandbox has the kernel's messages on standard output, and the command's console elsewhere:
    // a pipe, or a terminal that is read from too.
    add("chardev", "stdio,id=kernel,signal=off".into());
    add("serial", "chardev:kernel".into());
    let (kind, descriptor) = match interactive {
        true => ("serial", COMMAND_INPUT),
        false => ("file", COMMAND_OUTPUT),
    };
    add(
        "chardev",
        format!("{kind},id=command,path=/proc/self/fd/{descriptor}"),
    );
    add("serial", "chardev:command".into());
    // The sandbox lets nothing be written but the results; nor does QEMU.
    for (tag, folder, options) in [
        (ROOT, "/".to_owned(), "readonly=on,multidevs=remap"),
        (RESULTS, word(&machine.results)?, "multidevs=remap"),
    ] {
        add(
            "fsdev",
            format!("local,id={tag},path={folder},security_model=passthrough,{options}"),
        );
        add(
            "device",
            format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
        );
    }
    for (number, disk) in machine.disks.iter().enumerate() {
        let file = word(disk)?;
        // They do not outlive the guest: nothing has to reach the host's disk.
        add(
            "drive",
            format!("if=none,id=disk{number},format=raw,file={file},cache=unsafe,discard=unmap"),
        );
        add("device", format!("virtio-blk-pci,drive=disk{number}"));
    }
    words.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
    Ok(words)
}

fn kernel_words(klab: &Path, machine: &Machine) -> Result<Vec<String>> {
    let own = vec![
        "console=ttyS0".into(),
        // An end, since there is no second boot.
        "panic=-1".into(),
        format!("memmap={PERSISTENT_MIB}M!{PERSISTENT_AT_MIB}M"),
        format!("root={ROOT}"),
        "rootfstype=9p".into(),
        // Nobody changes the host's programs under a guest.
        format!("rootflags={TRANSPORT},cache=loose"),
    ];
    command_line::words(klab, machine, own)
}

#[cfg(test)]
mod tests {
    use super::super::command_line::tests::machine;
    use super::*;

    fn line(memory_mib: u64, interactive: bool, kvm: bool) -> String {
        let machine = Machine {
            memory_mib,
            ..machine()
        };
        let words = options(Path::new("/p/klab"), &machine, interactive, kvm).unwrap();
        format!("{} ", words.join(" "))
    }

    #[test]
    fn only_the_results_are_writable() {
        let line = line(512, false, true);
        let shared: Vec<&str> = line
            .split(' ')
            .filter(|word| word.starts_with("local,"))
            .collect();
        assert_eq!(shared.len(), 2);
        assert!(shared[0].contains("path=/,") && shared[0].contains("readonly=on"));
        assert!(shared[1].contains("path=/r,"));
        assert!(line.contains(" ro ") && !line.contains(" rw "));
        assert!(line.contains("id=disk1,format=raw,file=/s/b,"));
    }

    #[test]
    fn persistent_memory_is_where_memory_is() {
        let small = line(512, false, true);
        assert!(small.contains("max-ram-below-4g=528M") && small.contains(" -m 1552M "));
        let large = line(6144, false, true);
        assert!(large.contains("max-ram-below-4g=2048M") && large.contains(" -m 7184M "));
        assert!(large.contains(" memmap=1024M!4096M "));
    }

    #[test]
    fn a_processor_says_whether_it_helps() {
        assert!(can_help(
            "vendor_id\t: x\nflags\t\t: fpu vmx sse\nvmx flags\t: a\n"
        ));
        assert!(can_help("flags\t\t: svm\n"));
        assert!(!can_help("flags\t\t: fpu hypervisor\nvmx flags\t: svm\n"));
    }

    #[test]
    fn without_kvm_the_processor_is_emulated() {
        assert!(line(512, false, true).contains("-accel kvm -cpu host "));
        assert!(line(512, false, false).contains("-accel tcg -cpu max "));
    }

    #[test]
    fn only_a_terminal_is_read_from() {
        assert!(line(512, false, true).contains(" file,id=command,path=/proc/self/fd/4 "));
        assert!(line(512, true, true).contains(" serial,id=command,path=/proc/self/fd/3 "));
    }
}
