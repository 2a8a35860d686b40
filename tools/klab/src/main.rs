//! The laboratory of the project: see `cargo klab --help`.

mod bench;
mod build;
mod cache;
mod clean;
mod cli;
mod demo;
mod exec;
mod fail;
mod git;
mod guest;
mod kconfig;
mod manual;
mod markers;
mod parallel;
mod paths;
mod preflight;
mod programs;
mod project;
mod results;
mod runner;
mod sandbox;
mod series;
mod setup;
mod signals;
mod test;
mod ui;
mod verbs;

use clap::Parser;

fn main() {
    let words = guest::init::words();
    let ended = if cli::Internal::is_meant(&words) {
        verbs::start_internal(cli::Internal::parse_from(words).verb)
    } else {
        verbs::start(cli::Cli::parse_from(words))
    };
    let status = match ended {
        Ok(status) => status,
        Err(error) => {
            ui::tell(format!("klab: {}", fail::explain(&error)));
            fail::status_of(&error)
        }
    };
    std::process::exit(status);
}
