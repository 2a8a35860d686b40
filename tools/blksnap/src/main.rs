// SPDX-License-Identifier: GPL-2.0

//! Administration of block device snapshots.

use blksnap::cli::{self, Cli, Env};
use blksnap::registry::Registry;
use blksnap::sys::{self, Linux};
use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where facts about snapshots are kept; `BLKSNAP_STATE_DIR` names another directory.
const STATE_DIR: &str = "/run/blksnap";

fn main() -> ExitCode {
    let mut err = anstream::stderr();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.use_stderr() && cli::wants_json(std::env::args_os()) => {
            let failure = cli::usage_error(&e);
            cli::report(&failure, true, &mut err);
            return ExitCode::from(failure.exit_code());
        }
        Err(e) => e.exit(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    if cli.verb.ends_in_order()
        && let Err(e) = heed_signals(&stop)
    {
        let text = format!("Ctrl-C will end this without tidying up: {e}");
        cli::warn(&text, cli.json, &mut err);
    }
    let registry =
        Registry::new(std::env::var_os("BLKSNAP_STATE_DIR").unwrap_or_else(|| STATE_DIR.into()));
    // A reader that goes away is noticed as an error, not by SIGPIPE, which Rust has ignored: what
    // has to be undone then must not be skipped. Not through anstream either, since not everything
    // that is printed is text.
    let result = cli::run(
        &cli,
        &mut Env {
            kernel: &Linux::new(),
            registry: &registry,
            out: &mut std::io::stdout(),
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

/// Has signals that ask to end only ask.
fn heed_signals(stop: &Arc<AtomicBool>) -> std::io::Result<()> {
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        // What `nohup` has started is to go on after its terminal.
        if signal == SIGHUP && sys::is_ignored(signal) {
            continue;
        }
        signal_hook::flag::register(signal, Arc::clone(stop))?;
    }
    Ok(())
}
