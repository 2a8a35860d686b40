//! The table in the project's README, between two markers.

use std::path::Path;

use anyhow::{Context, Result};

use crate::cache::write_if_changed;

const BEGIN: &str = "<!-- holes: written by cargo klab test --stock --update-readme -->";
const END: &str = "<!-- end of holes -->";

pub fn update(readme: &Path, table: &str) -> Result<()> {
    let text = std::fs::read_to_string(readme)
        .with_context(|| format!("cannot read {}", readme.display()))?;
    let new = replace(&text, table).with_context(|| {
        format!(
            "{} lacks the lines `{BEGIN}` and `{END}`, between which the table goes",
            readme.display()
        )
    })?;
    write_if_changed(readme, new.as_bytes())?;
    Ok(())
}

fn replace(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let once = replace(&text, "| new |\n").unwrap();
        assert_eq!(once, format!("a\n{BEGIN}\n\n| new |\n\n{END}\nb\n"));
        assert_eq!(replace(&once, "| new |\n").unwrap(), once);
        assert_eq!(replace("a\nb\n", "t"), None);
    }

    #[test]
    fn the_readme_has_the_markers() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
        let text = std::fs::read_to_string(readme).unwrap();
        assert!(replace(&text, "").is_some());
    }
}
