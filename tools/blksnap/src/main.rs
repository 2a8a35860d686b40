// SPDX-License-Identifier: GPL-2.0

//! Administration of block device snapshots.

use blksnap::cli::{self, Cli, Env, Verb};
use blksnap::registry::Registry;
use blksnap::sys::Linux;
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where facts about snapshots are kept; `BLKSNAP_STATE_DIR` names another folder.
const STATE_DIR: &str = "/run/blksnap";

fn main() -> ExitCode {
    let cli = Cli::parse();
    let stop = Arc::new(AtomicBool::new(false));
    // What takes several steps is undone, what goes on until it is stopped ends in order; anything
    // else just ends.
    if matches!(
        cli.verb,
        Verb::Snapshot { .. } | Verb::Events(_) | Verb::Top { .. }
    ) {
        for signal in [SIGINT, SIGTERM] {
            if let Err(e) = signal_hook::flag::register(signal, Arc::clone(&stop)) {
                eprintln!("warning: Ctrl-C will end this without tidying up: {e}");
            }
        }
    }
    let registry =
        Registry::new(std::env::var_os("BLKSNAP_STATE_DIR").unwrap_or_else(|| STATE_DIR.into()));
    let mut err = anstream::stderr();
    let result = cli::run(
        &cli,
        &mut Env {
            kernel: &Linux::new(),
            registry: &registry,
            out: &mut anstream::stdout(),
            err: &mut err,
            stop: &|| stop.load(Ordering::Relaxed),
            terminal: std::io::stdout().is_terminal(),
        },
    );
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            cli::report(&failure, cli.json, &mut err);
            ExitCode::from(failure.exit_code())
        }
    }
}
