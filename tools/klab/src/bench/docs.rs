//! Results in the documentation, between two markers.

use std::path::Path;

use anyhow::{Context, Result};

use crate::cache::write_if_changed;

const END: &str = "<!-- end of results -->";

fn begin(verb: &str) -> String {
    format!("<!-- results: written by cargo klab bench {verb} --update-docs -->")
}

/// Replaces the results of a verb.
pub fn update(file: &Path, verb: &str, results: &str) -> Result<()> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let new = replace(&text, verb, results).with_context(|| {
        format!(
            "{} lacks the lines `{}` and `{END}`, between which the results go",
            file.display(),
            begin(verb)
        )
    })?;
    write_if_changed(file, new.as_bytes())?;
    Ok(())
}

fn replace(text: &str, verb: &str, results: &str) -> Option<String> {
    let begin = begin(verb);
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(END)?;
    let results = results.trim();
    Some(format!("{before}{begin}\n\n{results}\n\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = format!("a\n{}\nold\n{END}\nb\n", begin("cow"));
        let once = replace(&text, "cow", "| new |\n").unwrap();
        let wanted = format!("a\n{}\n\n| new |\n\n{END}\nb\n", begin("cow"));
        assert_eq!(once, wanted);
        assert_eq!(replace(&once, "cow", "| new |\n").unwrap(), once);
        assert_eq!(replace(&once, "pin", ""), None);
    }

    #[test]
    fn the_files_have_the_markers() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for (verb, file) in [
            ("cow", "rust-blksnap/BENCH.md"),
            ("pin", "fs-hooks/BENCH.md"),
        ] {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            assert!(replace(&text, verb, "").is_some(), "{file}");
            let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
            assert!(readme.contains(file), "README.md has no link to {file}");
        }
    }
}
