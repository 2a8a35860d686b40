//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::bench::cow::guest::GuestBench;
use crate::bench::pin::GuestPin;
use crate::build::Profile;
use crate::demo::guest::GuestDemo;
use crate::fail::EXIT_STATUSES;
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
    /// Say every program that is run
    #[arg(long, short, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Get everything that the machine lacks
    #[command(after_help = "Example:\n  cargo klab setup")]
    Setup,
    /// Show the state of every requirement
    #[command(after_help = "Examples:\n  cargo klab doctor\n  cargo klab doctor --json")]
    Doctor {
        /// For machines
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
        linux=$(cargo klab build | tail -n 1)"
    )]
    Build(BuildArgs),
    /// Boot a guest and get a shell in it
    #[command(after_help = "Examples:\n  cargo klab boot\n  \
        cargo klab boot --disk 2G --disk 500M --profile debug")]
    Boot(GuestArgs),
    /// Run one command in a guest; returns its exit status
    #[command(after_help = "Examples:\n  cargo klab run -- uname -a\n  \
        cargo klab run --disk 1G -- sh -c 'mkfs.xfs /dev/ubda && mount /dev/ubda /mnt && df /mnt'")]
    Run(RunArgs),
    /// Snapshot a live filesystem into a file that lies on it, and show that everything held
    #[command(
        after_help = "Examples:\n  cargo klab demo\n  cargo klab demo --fs xfs\n  \
        cargo klab demo --data ~/photos --json"
    )]
    Demo(DemoArgs),
    /// Run every test there is; the last line is `N passed, M failed`
    #[command(
        after_help = "Examples:\n  cargo klab test\n  cargo klab test --fs xfs\n  \
        cargo klab test --profile debug --filter generic/92\n  \
        cargo klab test --stock                # the bugs of the kernel without the series, on both\n  \
        cargo klab test --suite fstests --fstests ~/xfstests-dev\n  \
        cargo klab test --fstests ~/xfstests-dev --group swap   # upstream's own tests\n  \
        cargo klab test --fstests ~/xfstests-dev --group swap \\\n    \
        --kernel \"$(cargo klab build --stock | tail -n 1)\""
    )]
    Test(TestArgs),
    /// Measure
    #[command(subcommand)]
    Bench(BenchVerb),
    /// Work with the series of kernel changes
    #[command(subcommand)]
    Series(SeriesVerb),
    /// Remove what can be made again
    #[command(after_help = "Examples:\n  cargo klab clean\n  cargo klab clean --all")]
    Clean(CleanArgs),
    /// Print a completion script
    #[command(after_help = "Example:\n  cargo klab completions bash > \
        ~/.local/share/bash-completion/completions/klab")]
    Completions { shell: Shell },
    /// Write manual pages into a folder, or the main one to stdout
    #[command(after_help = "Examples:\n  cargo klab man | man -l -\n  cargo klab man man1/")]
    Man { folder: Option<PathBuf> },
    /// (internal) make the namespaces of a guest
    #[command(hide = true)]
    Sandbox(Sandbox),
    /// (internal) arrange the mounts of a guest's namespace
    #[command(hide = true)]
    SandboxInside(Sandbox),
    /// (internal) be the first process of a guest
    #[command(hide = true)]
    GuestInit { job: PathBuf },
    /// (internal) the part of the demonstration that runs in a guest
    #[command(hide = true)]
    GuestDemo(GuestDemo),
    /// (internal) the part of `bench pin` that runs in a guest
    #[command(hide = true)]
    GuestBenchPin(GuestPin),
    /// (internal) the part of the measurements that runs in a guest
    #[command(hide = true)]
    GuestBench(GuestBench),
}

/// A guest that is asked for by hand.
#[derive(Debug, Args)]
pub struct GuestArgs {
    #[command(flatten)]
    pub source: Source,
    /// Boot this User Mode Linux kernel instead of building one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stock", "kdir", "profile"])]
    pub kernel: Option<PathBuf>,
    /// Add an empty virtual disk (/dev/ubda, /dev/ubdb and so on); may be repeated
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub disk: Vec<u64>,
    /// Memory of the guest
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "2G")]
    pub memory: u64,
    /// The only folder of the host that the guest can write to
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Add a word to the kernel's command line; may be repeated
    #[arg(long, value_name = "WORD")]
    pub append: Vec<String>,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub guest: GuestArgs,
    /// Kill the guest if nothing comes from it for so many seconds
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
    /// The tests of those tests: their form, and whether their harness sees what goes wrong
    Harness,
    /// The form of the series, and the way to git and back
    Series,
}

#[derive(Debug, Args)]
pub struct TestArgs {
    #[command(flatten)]
    pub source: Source,
    /// Test this User Mode Linux kernel instead of building one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kdir", "profile"])]
    pub kernel: Option<PathBuf>,
    /// With --stock: this unpatched kernel instead of building one
    #[arg(long, value_name = "FILE", requires = "stock", conflicts_with_all = ["kdir", "profile"])]
    pub stock_kernel: Option<PathBuf>,
    /// With --stock: write the table into README.md as well
    #[arg(long, requires = "stock", conflicts_with_all = ["fs", "filter"])]
    pub update_readme: bool,
    /// Only these groups; may be repeated
    #[arg(long, value_enum)]
    pub suite: Vec<Group>,
    /// Only these filesystems; may be repeated
    #[arg(long, value_enum)]
    pub fs: Vec<Filesystem>,
    /// Only tests with this in their name, such as `generic/901`
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Set a variable for the tests in a guest; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// Run the filesystem tests inside this real xfstests checkout, built before
    #[arg(long, value_name = "DIR")]
    pub fstests: Option<PathBuf>,
    /// With --fstests: the checkout's own tests of this group, and nothing else; may be repeated
    #[arg(long, value_name = "NAME", requires = "fstests",
        conflicts_with_all = ["stock", "suite"])]
    pub group: Vec<String>,
    /// Where logs and JUnit XML go
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// All results as JSON at the end, instead of lines
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    #[command(flatten)]
    pub source: Source,
    /// Use this User Mode Linux kernel instead of building one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stock", "kdir", "profile"])]
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
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchVerb {
    /// Compare copy-on-write with the bare device and with dm-snapshot
    #[command(after_help = "Examples:\n  cargo klab bench cow\n  \
        cargo klab bench cow --quick\n  \
        cargo klab bench cow --update-docs    # 25 minutes\n  \
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
    pub source: Source,
    /// The patched kernel, instead of building one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stock", "kdir", "profile"])]
    pub kernel: Option<PathBuf>,
    /// The unpatched kernel, instead of building one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stock", "kdir", "profile"])]
    pub stock_kernel: Option<PathBuf>,
    /// Only these filesystems; may be repeated
    #[arg(long, value_enum)]
    pub fs: Vec<Filesystem>,
    /// Extents of the file; may be repeated
    #[arg(long, value_name = "COUNT", default_values_t = [1, 1000, 100_000, 1_000_000],
        value_parser = clap::value_parser!(u64).range(1..=4_000_000))]
    pub extents: Vec<u64>,
    /// Guests of each kernel for each filesystem, in turns
    #[arg(long, value_name = "COUNT", default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Write the results into fs-hooks/BENCH.md
    #[arg(long, conflicts_with = "fs")]
    pub update_docs: bool,
    /// Where tables and logs go
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CowArgs {
    #[command(flatten)]
    pub source: Source,
    /// Use this User Mode Linux kernel instead of building one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stock", "kdir", "profile"])]
    pub kernel: Option<PathBuf>,
    /// Two repeats of a quarter of everything, in four minutes: a look, not a measurement
    #[arg(long)]
    pub quick: bool,
    /// Write the results into rust-blksnap/BENCH.md, and the plots beside it
    #[arg(long, conflicts_with_all = ["quick", "filter"])]
    pub update_docs: bool,
    /// Only cases with this in their name, `MEDIUM/PATTERN/DEPTH/JOBS`, or `memory` or `take`
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Where findings, plots and logs go
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// For machines
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
        unit => return Err(format!("`{unit}` is no unit: use K, M, G or T")),
    };
    let count: u64 = number
        .parse()
        .map_err(|_| format!("`{number}` is no whole number"))?;
    match count.checked_mul(1 << shift) {
        Some(bytes @ 1..) => Ok(bytes),
        _ => Err("must be more than zero and fit in 64 bits".into()),
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
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// Which kernel is meant, for every verb that needs one.
#[derive(Clone, Debug, Args)]
pub struct Source {
    /// How the kernel is configured
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    pub profile: Profile,
    /// The kernel without the series; `test` compares it with the patched one
    #[arg(long)]
    pub stock: bool,
    /// Build from the commit checked out in this kernel repository (in a worktree)
    #[arg(long, value_name = "DIR")]
    pub kdir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct BuildArgs {
    #[command(flatten)]
    pub source: Source,
    /// For machines
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
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Check the form of the series, and that import and apply are each other's reverse
    #[command(after_help = "Example:\n  cargo klab series check")]
    Check {
        /// Check against this kernel repository instead of the cached base
        #[arg(long, value_name = "DIR")]
        kdir: Option<PathBuf>,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Build the kernel at every mail, as somebody who bisects would; goes on where it ended
    #[command(after_help = "Example:\n  cargo klab series build")]
    Build {
        /// Build in this kernel repository instead of the cached base
        #[arg(long, value_name = "DIR")]
        kdir: Option<PathBuf>,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Write complete mails, new files and all, ready for `git am` in any kernel tree
    #[command(
        after_help = "Example:\n  cargo klab series format outgoing && git -C ~/linux am \
        \"$PWD\"/outgoing/0*.patch"
    )]
    Format {
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
    fn a_kernel_of_ones_own_is_not_built() {
        let parse = |words: &str| Cli::try_parse_from(words.split(' '));
        assert!(parse("klab run --kernel /k --disk 1G -- true").is_ok());
        assert!(parse("klab run --kernel /k --stock -- true").is_err());
        assert!(parse("klab run").is_err());
    }

    #[test]
    fn groups_are_of_a_checkout() {
        let parse = |words: &str| Cli::try_parse_from(words.split(' '));
        assert!(parse("klab test --fstests /x --group swap --kernel /k").is_ok());
        assert!(parse("klab test --group swap").is_err());
        assert!(parse("klab test --fstests /x --group swap --stock").is_err());
    }
}
