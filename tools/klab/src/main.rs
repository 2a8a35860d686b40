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
    let cli = cli::Cli::parse();
    let status = match verbs::start(cli) {
        Ok(status) => status,
        Err(error) => {
            ui::tell(format!("klab: {}", fail::explain(&error)));
            fail::status_of(&error)
        }
    };
    std::process::exit(status);
}
