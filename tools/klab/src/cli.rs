//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::bench::cow::guest::GuestBench;
use crate::bench::pin::GuestPin;
use crate::build::{Plan, Profile};
use crate::demo::guest::GuestDemo;
use crate::fail::EXIT_STATUSES;
use crate::runner::machine::Platform;
use crate::sandbox::Sandbox;

#[derive(Debug, Parser)]
#[command(
    name = "klab",
    bin_name = "cargo klab",
    version,
    about = "Builds, boots and tests the layout-pin and block-snapshot kernel series",
    after_help = EXIT_STATUSES,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Print every program as it is run
    #[arg(long, short, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Install and download whatever is missing
    #[command(after_help = "Example:\n  cargo klab setup")]
    Setup,
    /// Show the state of every requirement
    #[command(after_help = "Examples:\n  cargo klab doctor\n  cargo klab doctor --json")]
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the patched kernel tree and print its path
    #[command(
        after_help = "Examples:\n  git -C \"$(cargo klab tree)\" log --oneline\n  \
        cargo klab tree --base-dir\n  cargo klab tree --kdir ~/linux"
    )]
    Tree(TreeArgs),
    /// Build the kernel; the last line on stdout is the path of the image
    #[command(
        after_help = "Examples:\n  cargo klab build\n  cargo klab build --profile debug\n  \
        cargo klab build --machine qemu\n  \
        linux=$(cargo klab build | tail -n 1)"
    )]
    Build(BuildArgs),
    /// Boot a guest and get a shell in it
    #[command(after_help = "Examples:\n  cargo klab boot\n  \
        cargo klab boot --disk 2G --disk 500M --profile debug\n  \
        cargo klab boot --machine qemu")]
    Boot(GuestArgs),
    /// Run one command in a guest; returns its exit status
    #[command(after_help = "Examples:\n  cargo klab run -- uname -a\n  \
        cargo klab run --disk 1G -- sh -c 'mkfs.xfs /dev/ubda && mount /dev/ubda /mnt && df /mnt'\n  \
        cargo klab run --machine qemu -- sh -c 'mkfs.xfs /dev/pmem0 && \\\n    \
        mount -o dax=always /dev/pmem0 /mnt'")]
    Run(RunArgs),
    /// Snapshot a live filesystem into a file on that same filesystem, and show that it held
    #[command(
        after_help = "Examples:\n  cargo klab demo\n  cargo klab demo --fs xfs\n  \
        cargo klab demo --data ~/photos --json"
    )]
    Demo(DemoArgs),
    /// Run all tests; the last line is `N passed, M failed`
    #[command(
        after_help = "Examples:\n  cargo klab test\n  cargo klab test --fs xfs\n  \
        cargo klab test --profile debug --filter generic/92\n  \
        cargo klab test --machine qemu --filter generic/928   # files on persistent memory\n  \
        cargo klab test --stock                # the bugs of the kernel without the series, on both\n  \
        cargo klab test --suite fstests --fstests ~/xfstests-dev\n  \
        cargo klab test --fstests ~/xfstests-dev --group swap   # upstream's own tests\n  \
        cargo klab test --fstests ~/xfstests-dev --group swap \\\n    \
        --kernel \"$(cargo klab build --stock | tail -n 1)\""
    )]
    Test(TestArgs),
    /// Measure performance
    #[command(subcommand)]
    Bench(BenchVerb),
    /// Work with the series of kernel changes
    #[command(subcommand)]
    Series(SeriesVerb),
    /// Remove what can be built or downloaded again
    #[command(after_help = "Examples:\n  cargo klab clean\n  cargo klab clean --all")]
    Clean(CleanArgs),
    /// Print a completion script for the program `klab`; cargo completes nothing after `cargo klab`
    #[command(after_help = "Examples:\n  \
        cargo klab completions bash > ~/.local/share/bash-completion/completions/klab\n  \
        ln -s \"$PWD/target/release/klab\" ~/.local/bin/    # for `klab` to be found")]
    Completions { shell: Shell },
    /// Write manual pages into a folder, or print the main one
    #[command(after_help = "Examples:\n  cargo klab man | man -l -\n  cargo klab man man1/")]
    Man {
        /// Where the pages go, one for each verb; made if it is not there
        folder: Option<PathBuf>,
    },
}

/// What klab asks of itself: before a guest, as its first process, and in it. These verbs are apart,
/// so that no help, completion or manual page offers them.
#[derive(Debug, Parser)]
#[command(name = "klab", disable_help_subcommand = true)]
pub struct Internal {
    #[command(subcommand)]
    pub verb: InternalVerb,
}

#[derive(Debug, Subcommand)]
pub enum InternalVerb {
    /// Make the namespaces of a guest
    Sandbox(Sandbox),
    /// Arrange the mounts of a guest's namespace
    SandboxInside(Sandbox),
    /// Be the first process of a guest
    GuestInit { job: PathBuf },
    /// The part of the demonstration that runs in a guest
    GuestDemo(GuestDemo),
    /// The part of `bench pin` that runs in a guest
    GuestBenchPin(GuestPin),
    /// The part of `bench cow` that runs in a guest
    GuestBench(GuestBench),
}

impl Internal {
    /// Whether these words, with the program in front, are meant for an internal verb.
    pub fn is_meant(words: &[OsString]) -> bool {
        let verb = words.get(1).and_then(|word| word.to_str());
        verb.is_some_and(InternalVerb::has_subcommand)
    }
}

/// A guest that is asked for by hand.
#[derive(Debug, Args)]
pub struct GuestArgs {
    #[command(flatten)]
    pub source: Source,
    /// Boot this kernel instead of building one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stock", "kdir", "profile"])]
    pub kernel: Option<PathBuf>,
    /// Add an empty virtual disk (/dev/ubda, /dev/ubdb and so on; with QEMU /dev/vda); may be repeated
    #[arg(long, value_name = "SIZE", value_parser = disk)]
    pub disk: Vec<u64>,
    /// Memory of the guest, 128M or more
    #[arg(long, value_name = "SIZE", value_parser = memory, default_value = "2G")]
    pub memory: u64,
    /// The only folder of the host that the guest can write to
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Add a word to the kernel's command line; may be repeated
    #[arg(long, value_name = "WORD", value_parser = kernel_word)]
    pub append: Vec<String>,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub guest: GuestArgs,
    /// Kill the guest after so many seconds without any output; 0 means never
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u64,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// The groups of tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// Unit tests of the workspace, on this machine
    Host,
    /// Unit tests in the kernel
    Kunit,
    /// Proof that a guest cannot change the host
    Isolation,
    /// Tests of filesystems, under xfstests/
    Fstests,
    /// Tests of those tests: their form, and whether the harness notices every failure
    Harness,
    /// The form of the series, and its round trip through git
    Series,
}

#[derive(Debug, Args)]
pub struct TestArgs {
    #[command(flatten)]
    pub source: Source,
    /// Test this kernel instead of building one; tell with `--profile` how it was
    /// configured: debug and leaks kernels get three times as long
    #[arg(long, value_name = "FILE", conflicts_with = "kdir")]
    pub kernel: Option<PathBuf>,
    /// With --stock: use this unpatched kernel instead of building one
    #[arg(long, value_name = "FILE", requires = "stock", conflicts_with = "kdir")]
    pub stock_kernel: Option<PathBuf>,
    /// With --stock: write the table into README.md as well
    #[arg(long, requires = "stock", conflicts_with_all = ["fs", "filter", "machine"])]
    pub update_readme: bool,
    /// Only these groups; may be repeated
    #[arg(long, value_enum)]
    pub suite: Vec<Group>,
    /// Only these filesystems; may be repeated
    #[arg(long, value_enum)]
    pub fs: Vec<Filesystem>,
    /// Only tests whose name contains this, such as `generic/901`
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Set a variable for the tests in a guest; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// Run the filesystem tests inside this xfstests checkout, which must have been built
    #[arg(long, value_name = "DIR")]
    pub fstests: Option<PathBuf>,
    /// With --fstests: the checkout's own tests of this group, and nothing else; may be repeated
    #[arg(long, value_name = "NAME", requires = "fstests",
        conflicts_with_all = ["stock", "suite"])]
    pub group: Vec<String>,
    /// Where logs and JUnit XML go
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Print all results as JSON at the end, instead of lines
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    #[command(flatten)]
    pub source: Patched,
    /// Use this User Mode Linux kernel instead of building one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kdir", "profile"])]
    pub kernel: Option<PathBuf>,
    /// Only these filesystems; may be repeated
    #[arg(long, value_enum)]
    pub fs: Vec<Filesystem>,
    /// The files to fill the filesystems with, instead of the kernel's Documentation/
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where logs and pictures go
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchVerb {
    /// Compare copy-on-write with the bare device and with dm-snapshot
    #[command(after_help = "Examples:\n  cargo klab bench cow\n  \
        cargo klab bench cow --quick\n  \
        cargo klab bench cow --update-docs    # 28 minutes\n  \
        cargo klab bench cow --filter \"ramdisk/4k random first writes\"")]
    Cow(CowArgs),
    /// Compare what swapon costs for each extent with the unpatched kernel
    #[command(after_help = "Examples:\n  cargo klab bench pin\n  \
        cargo klab bench pin --fs xfs --extents 1000 --extents 1000000")]
    Pin(PinArgs),
}

#[derive(Debug, Args)]
pub struct PinArgs {
    #[command(flatten)]
    pub source: Patched,
    /// The patched kernel, instead of building one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kdir", "profile"])]
    pub kernel: Option<PathBuf>,
    /// The unpatched kernel, instead of building one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kdir", "profile"])]
    pub stock_kernel: Option<PathBuf>,
    /// Only these filesystems; may be repeated
    #[arg(long, value_enum)]
    pub fs: Vec<Filesystem>,
    /// Number of extents in the file; may be repeated
    #[arg(long, value_name = "COUNT", default_values_t = [1, 1000, 100_000, 1_000_000],
        value_parser = clap::value_parser!(u64).range(1..=4_000_000))]
    pub extents: Vec<u64>,
    /// Guests for each kernel and filesystem; the kernels take turns
    #[arg(long, value_name = "COUNT", default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Write the results into fs-hooks/BENCH.md
    #[arg(long, conflicts_with = "fs")]
    pub update_docs: bool,
    /// Where tables and logs go
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CowArgs {
    #[command(flatten)]
    pub source: Patched,
    /// Use this User Mode Linux kernel instead of building one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kdir", "profile"])]
    pub kernel: Option<PathBuf>,
    /// Two repeats of a quarter of the work, in four minutes: a first look, not a measurement
    #[arg(long)]
    pub quick: bool,
    /// Write the results into rust-blksnap/BENCH.md, and the plots beside it
    #[arg(long, conflicts_with_all = ["quick", "filter"])]
    pub update_docs: bool,
    /// Only cases whose name contains this: `MEDIUM/PATTERN/DEPTH/JOBS`, `memory` or `take`
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Where findings, plots and logs go
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Bytes, with an optional unit.
pub fn size(text: &str) -> Result<u64, String> {
    let number = text.trim_end_matches(|ch: char| ch.is_ascii_alphabetic());
    let shift = match text[number.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        unit => return Err(format!("`{unit}` is not a unit: use K, M, G or T")),
    };
    let count: u64 = number
        .parse()
        .map_err(|_| format!("`{number}` is not a whole number"))?;
    match count.checked_mul(1 << shift) {
        Some(bytes @ 1..) => Ok(bytes),
        _ => Err("must be more than zero and fit in 64 bits".into()),
    }
}

/// What a guest needs to come up, with each of the kernel's configurations.
const LEAST_MEMORY: u64 = 128 << 20;

/// A file of twice that size is more than ext4 takes.
const LARGEST_DISK: u64 = 8 << 40;

fn memory(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes if bytes < LEAST_MEMORY => Err("a guest needs at least 128M".into()),
        bytes => Ok(bytes),
    }
}

fn disk(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes if bytes > LARGEST_DISK => Err("a virtual disk can have at most 8T".into()),
        bytes => Ok(bytes),
    }
}

/// One word as the kernel takes its command line apart: at blanks outside of double quotes.
fn kernel_word(text: &str) -> Result<String, String> {
    let mut quoted = false;
    for ch in text.chars() {
        quoted ^= ch == '"';
        if ch.is_whitespace() && !quoted {
            return Err(
                "has a blank outside of double quotes: repeat --append for each word".into(),
            );
        }
    }
    match text {
        "" => Err("is empty".into()),
        "--" => Err("would end what the kernel reads".into()),
        _ if quoted => Err("has a double quote that is not closed".into()),
        _ => Ok(text.to_owned()),
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("must be NAME=VALUE".into()),
    }
}

#[derive(Debug, Args)]
pub struct TreeArgs {
    /// Print the path of the pristine base instead
    #[arg(long, conflicts_with = "kdir")]
    pub base_dir: bool,
    /// Print the path of the patched tree as it is, without applying anything
    #[arg(long, conflicts_with = "base_dir")]
    pub path: bool,
    /// Apply the series to the commit checked out in this kernel repository (in a worktree)
    #[arg(long, value_name = "DIR")]
    pub kdir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which kernel with the series is meant.
#[derive(Clone, Debug, Args)]
pub struct Patched {
    /// How the kernel is configured
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    pub profile: Profile,
    /// Build from the commit checked out in this kernel repository (in a worktree)
    #[arg(long, value_name = "DIR")]
    pub kdir: Option<PathBuf>,
}

impl Patched {
    pub fn plan(&self) -> Plan {
        Plan {
            platform: Platform::Uml,
            profile: self.profile,
            stock: false,
            kdir: self.kdir.clone(),
        }
    }
}

/// Which kernel is meant, for the verbs that can also do without the series.
#[derive(Clone, Debug, Args)]
pub struct Source {
    #[command(flatten)]
    pub patched: Patched,
    /// The kernel without the series; `test` compares it with the patched one
    #[arg(long)]
    pub stock: bool,
    /// What the kernel is for, and guests are run by; QEMU is installed when it is asked for
    #[arg(long, value_enum, default_value_t)]
    pub machine: Platform,
}

impl Source {
    pub fn plan(&self) -> Plan {
        Plan {
            stock: self.stock,
            ..self.patched_plan()
        }
    }

    /// The kernel with the series that one without it is compared with.
    pub fn patched_plan(&self) -> Plan {
        Plan {
            platform: self.machine,
            ..self.patched.plan()
        }
    }
}

#[derive(Debug, Args)]
pub struct BuildArgs {
    #[command(flatten)]
    pub source: Source,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum SeriesVerb {
    /// Write the commits of a kernel worktree as mails and new files
    #[command(
        after_help = "Examples:\n  cargo klab series import ~/linux --base master\n  \
        cargo klab series import \"$(cargo klab tree --path)\" --base refs/tags/base"
    )]
    Import {
        /// A kernel worktree whose HEAD is the end of the series
        worktree: PathBuf,
        /// The commit the series starts from
        #[arg(long, default_value = "master")]
        base: String,
        /// Fold later changes to a new file into the mail that adds it
        #[arg(long)]
        fold: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check the form of the series, and that importing what was applied changes nothing
    #[command(after_help = "Example:\n  cargo klab series check")]
    Check {
        /// Check against this kernel repository instead of the cached base
        #[arg(long, value_name = "DIR")]
        kdir: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Build the kernel at every mail, as a bisection would; resumes where it stopped
    #[command(after_help = "Example:\n  cargo klab series build")]
    Build {
        /// Build in this kernel repository instead of the cached base
        #[arg(long, value_name = "DIR")]
        kdir: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write complete mails, new files and all, ready for `git am` in any kernel tree
    #[command(
        after_help = "Example:\n  cargo klab series format outgoing && git -C ~/linux am \
        \"$PWD\"/outgoing/*.patch"
    )]
    Format {
        /// Where the mails go; those of an earlier run are replaced, and other patches refused
        folder: PathBuf,
        /// Apply to this kernel repository instead of the cached base
        #[arg(long, value_name = "DIR")]
        kdir: Option<PathBuf>,
    },
}

/// The filesystems that layouts can be pinned on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Filesystem {
    Xfs,
    Ext4,
    Btrfs,
}

impl Filesystem {
    pub const ALL: [Self; 3] = [Self::Xfs, Self::Ext4, Self::Btrfs];

    pub fn name(self) -> &'static str {
        match self {
            Self::Xfs => "xfs",
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
        }
    }
}

#[derive(Debug, Args)]
pub struct CleanArgs {
    /// Remove the whole cache, downloads and compiler cache too
    #[arg(long)]
    pub all: bool,
    /// Remove downloaded packages
    #[arg(long)]
    pub downloads: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        Internal::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("3G"), Ok(3 << 30));
        assert_eq!(size("16MiB"), Ok(16 << 20));
        for wrong in ["", "0", "G", "-1", "1X", "99999999T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn guests_that_cannot_be_are_refused() {
        assert_eq!(memory("128M"), Ok(128 << 20));
        for wrong in ["10M", "1K", "127M", "x"] {
            assert!(memory(wrong).is_err(), "{wrong}");
        }
        assert_eq!(disk("8T"), Ok(8 << 40));
        assert!(disk("100000T").is_err());
    }

    #[test]
    fn a_word_for_the_kernel_is_one_word() {
        for good in ["foo", "a=b", "dyndbg=\"file a.c +p\""] {
            assert_eq!(kernel_word(good).as_deref(), Ok(good));
        }
        for wrong in ["", "--", "a b", "a\tb", "a=\"b c", "a=\"b\" c"] {
            assert!(kernel_word(wrong).is_err(), "{wrong}");
        }
    }

    fn parse(words: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(words.split(' '))
    }

    #[test]
    fn a_kernel_of_ones_own_is_not_built() {
        assert!(parse("klab run --kernel /k --disk 1G -- true").is_ok());
        for option in ["--stock", "--kdir /d", "--profile debug"] {
            let line = format!("klab run --kernel /k {option} -- true");
            assert!(parse(&line).is_err(), "{line}");
        }
        assert!(parse("klab run").is_err());
    }

    #[test]
    fn tests_of_a_kernel_of_ones_own_can_be_told_how_it_is_configured() {
        let cli = parse("klab test --kernel /k --profile debug").unwrap();
        let Verb::Test(args) = cli.verb else {
            panic!("another verb")
        };
        assert_eq!(args.source.plan().profile, Profile::Debug);
        assert!(parse("klab test --stock --stock-kernel /k --profile leaks").is_ok());
        assert!(parse("klab test --kernel /k --kdir /d").is_err());
    }

    #[test]
    fn what_needs_the_series_takes_no_kernel_without_it() {
        for verb in ["demo", "bench cow", "bench pin"] {
            assert!(parse(&format!("klab {verb}")).is_ok());
            assert!(parse(&format!("klab {verb} --stock")).is_err(), "{verb}");
        }
        assert!(parse("klab build --stock --profile debug").is_ok());
    }

    #[test]
    fn guests_of_user_mode_linux_are_the_usual_ones() {
        let machine = |words: &str| match parse(words).unwrap().verb {
            Verb::Build(args) => args.source.plan().platform,
            verb => panic!("{verb:?}"),
        };
        assert_eq!(machine("klab build"), Platform::Uml);
        assert_eq!(machine("klab build --machine qemu --stock"), Platform::Qemu);
        // The table is of one of them, and does not say which.
        assert!(parse("klab test --stock --update-readme --machine qemu").is_err());
        // What is measured is measured with one of them.
        for verb in ["demo", "bench cow", "bench pin"] {
            assert!(
                parse(&format!("klab {verb} --machine qemu")).is_err(),
                "{verb}"
            );
        }
    }

    #[test]
    fn internal_verbs_are_not_offered() {
        let words = |words: &str| -> Vec<OsString> { words.split(' ').map(Into::into).collect() };
        for verb in ["guest-init /job", "sandbox -- true", "guest-demo"] {
            assert!(Internal::is_meant(&words(&format!("klab {verb}"))));
            assert!(parse(&format!("klab {verb}")).is_err());
        }
        assert!(!Internal::is_meant(&words("klab run -- sandbox")));
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Cli::command(), "klab", &mut script);
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("doctor"));
        assert!(!script.contains("guest-") && !script.contains("sandbox"));
    }

    #[test]
    fn groups_are_of_a_checkout() {
        assert!(parse("klab test --fstests /x --group swap --kernel /k").is_ok());
        assert!(parse("klab test --group swap").is_err());
        assert!(parse("klab test --fstests /x --group swap --stock").is_err());
    }
}
