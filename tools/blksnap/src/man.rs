// SPDX-License-Identifier: GPL-2.0

//! Manual pages, made of the help texts.

use clap::Command;
use clap_mangen::Man;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Writes a page for the command and for each of its subcommands to `dir`.
pub fn generate_to(command: Command, dir: &Path) -> io::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut names = Vec::new();
    collect_names(&command, &mut names);
    write_pages(&command, &names, dir)
}

fn page_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set())
}

fn collect_names(command: &Command, names: &mut Vec<String>) {
    names.push(page_name(command).to_owned());
    for sub in visible(command) {
        collect_names(sub, names);
    }
}

fn write_pages(command: &Command, names: &[String], dir: &Path) -> io::Result<()> {
    let file = dir.join(format!("{}.1", page_name(command)));
    fs::write(file, page(command, names)?)?;
    visible(command).try_for_each(|sub| write_pages(sub, names, dir))
}

fn page(command: &Command, names: &[String]) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone()).manual("Snapshots of block devices");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if visible(command).next().is_some() {
        man.render_subcommands_section(&mut out)?;
    }
    let after = command.get_after_long_help().or(command.get_after_help());
    if let Some(text) = after {
        sections(&text.to_string(), &mut out)?;
    }
    see_also(page_name(command), names, &mut out)?;
    Ok(out)
}

/// Each heading, at the start of a line and with a colon at its end, begins a section.
fn sections(text: &str, out: &mut Vec<u8>) -> io::Result<()> {
    let mut open = false;
    for line in text.lines() {
        let heading = line.strip_suffix(':').filter(|_| !line.starts_with(' '));
        match heading {
            Some(heading) => {
                if open {
                    writeln!(out, ".fi")?;
                }
                writeln!(out, ".SH \"{}\"\n.nf", escape(&heading.to_uppercase()))?;
                open = true;
            }
            None => writeln!(out, "{}", escape(line.strip_prefix("  ").unwrap_or(line)))?,
        }
    }
    match open {
        true => writeln!(out, ".fi"),
        false => Ok(()),
    }
}

/// The command above refers to all pages, and they to it.
fn see_also(name: &str, names: &[String], out: &mut Vec<u8>) -> io::Result<()> {
    let top = &names[..1];
    let others = match name == names[0] {
        true => &names[1..],
        false => top,
    };
    let pages: Vec<_> = others
        .iter()
        .map(|other| format!("\\fB{}\\fR(1)", escape(other)))
        .chain(["lsblk", "findmnt", "dmsetup"].map(|other| format!("\\fB{other}\\fR(8)")))
        .collect();
    writeln!(out, ".SH \"SEE ALSO\"\n{}", pages.join(",\n"))?;
    writeln!(
        out,
        ".PP\nDocumentation/block/blksnap.rst in the source of the kernel"
    )
}

/// A line that is printed as it is.
fn escape(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    fn pages() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        generate_to(Cli::command(), dir.path()).unwrap();
        dir
    }

    #[test]
    fn the_main_page_has_the_usual_sections() {
        let page = fs::read_to_string(pages().path().join("blksnap.1")).unwrap();
        for section in [
            "NAME",
            "SYNOPSIS",
            "OPTIONS",
            "EXAMPLES",
            "EXIT STATUS",
            "ENVIRONMENT",
            "FILES",
            "SEE ALSO",
        ] {
            let plain = format!(".SH {section}\n");
            let quoted = format!(".SH \"{section}\"\n");
            assert!(page.contains(&plain) || page.contains(&quoted), "{section}");
        }
        assert!(page.contains("BLKSNAP_STATE_DIR"));
        assert!(page.contains(r"\fBblksnap\-storage\-create\fR(1)"));
    }

    #[test]
    fn there_is_a_page_for_each_command() {
        let dir = pages();
        let mut names = Vec::new();
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        collect_names(&command, &mut names);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), names.len());
        for name in &names[1..] {
            let page = fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
            assert!(page.contains(r"\fBblksnap\fR(1)"), "{name}");
        }
        assert!(names.contains(&"blksnap-cbt-map".to_owned()));
    }

    #[test]
    fn what_looks_like_a_request_is_text() {
        assert_eq!(escape(".x"), r"\&.x");
        assert_eq!(escape("'x"), r"\&'x");
        assert_eq!(escape(r"a\b --c"), r"a\eb \-\-c");
    }
}
