//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::build::Profile;
use crate::fail::EXIT_STATUSES;

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
    #[command(after_help = "Examples:\n  git -C \"$(cargo klab tree)\" log --oneline\n  \
        cargo klab tree --base-dir\n  cargo klab tree --kdir ~/linux")]
    Tree(TreeArgs),
    /// Build the kernel; the last line on stdout is the path of the image
    #[command(after_help = "Examples:\n  cargo klab build\n  cargo klab build --profile debug\n  \
        linux=$(cargo klab build | tail -n 1)")]
    Build(BuildArgs),
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
}

#[derive(Debug, Args)]
pub struct TreeArgs {
    /// Print the path of the pristine base instead
    #[arg(long, conflicts_with = "kdir")]
    pub base_dir: bool,
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
    /// The kernel without the series
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
    #[command(after_help = "Examples:\n  cargo klab series import ~/linux --base master\n  \
        cargo klab series import \"$(cargo klab tree)\" --base refs/tags/base")]
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
    /// Write complete mails, new files and all, ready for `git am` in any kernel tree
    #[command(after_help = "Example:\n  cargo klab series format outgoing && git -C ~/linux am \
        \"$PWD\"/outgoing/0*.patch")]
    Format {
        folder: PathBuf,
        /// Apply to this kernel repository instead of the cached base
        #[arg(long, value_name = "DIR")]
        kdir: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Filesystem {
    Xfs,
    Ext4,
    Btrfs,
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
