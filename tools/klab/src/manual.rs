//! Manual pages, from the command line's own help.

use std::path::Path;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::cache::{make_given, write_if_changed};
use crate::cli::Cli;

/// Writes a page for each verb.
pub fn write(folder: &Path) -> Result<()> {
    make_given(folder, "name another folder")?;
    write_with_verbs(&whole(), folder)
}

/// The page that the others are named in.
pub fn main_page() -> Result<Vec<u8>> {
    page(&whole())
}

/// `help` is a verb that has no page.
fn whole() -> Command {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    command
}

fn write_with_verbs(command: &Command, folder: &Path) -> Result<()> {
    for verb in command.get_subcommands() {
        write_with_verbs(verb, folder)?;
    }
    let name = Man::new(command.clone()).get_filename();
    write_if_changed(&folder.join(name), &page(command)?)?;
    Ok(())
}

/// As [`Man::render`] has it, but for the synopsis, which is clap's own, and for what comes last:
/// examples and exit statuses under their names.
fn page(command: &Command) -> Result<Vec<u8>> {
    let source = format!("klab {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(source);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").context("no usage")?;
    section("SYNOPSIS", usage).to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(help) = command.get_after_help() {
        let help = help.to_string();
        let (title, text) = help.split_once(":\n").context("no title")?;
        section(title_of(title), text).to_writer(&mut page)?;
    }
    Ok(page)
}

/// The name that manual pages have for it.
fn title_of(title: &str) -> &'static str {
    match title {
        "Exit status" => "EXIT STATUS",
        _ => "EXAMPLES",
    }
}

/// A section whose lines stay as they are.
fn section(title: &str, text: &str) -> Roff {
    let mut roff = Roff::default();
    roff.control("SH", [title]);
    roff.control("nf", None::<&str>);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", None::<&str>);
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Vec<(String, String)> {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let pages = std::fs::read_dir(folder.path()).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            (name, text.replace("\\-", "-"))
        });
        pages.collect()
    }

    #[test]
    fn sections_have_the_names_that_readers_know() {
        let pages = pages();
        let page = |wanted: &str| {
            let found = pages.iter().find(|(name, _)| name == wanted);
            found.map(|(_, text)| text.as_str()).unwrap()
        };
        assert!(page("klab.1").contains(".SH \"EXIT STATUS\""));
        assert!(page("klab-run.1").contains("cargo klab run [OPTIONS] -- <COMMAND>..."));
        assert!(page("klab-run.1").contains("\n.SH EXAMPLES\n"));
        assert!(pages.iter().all(|(_, text)| !text.contains("EXTRA")));
    }

    #[test]
    fn pages_that_are_named_are_there() {
        let pages = pages();
        assert!(pages.iter().all(|(name, _)| !name.contains("guest-")));
        for (_, text) in &pages {
            let named = text.lines().filter_map(|line| line.strip_suffix("(1)"));
            for name in named {
                let file = format!("{name}.1");
                assert!(pages.iter().any(|(there, _)| *there == file), "{file}");
            }
        }
        let main = String::from_utf8(main_page().unwrap()).unwrap();
        assert!(!main.contains("klab\\-help"), "{main}");
    }
}
