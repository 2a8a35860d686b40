//! Parts of documents that klab writes, each between two markers.

use std::path::Path;

use anyhow::{Context, Result};

use crate::cache::write_if_changed;

/// Replaces what is between two markers of a file.
pub fn update(file: &Path, begin: &str, end: &str, content: &str) -> Result<()> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let new = replace(&text, begin, end, content).with_context(|| {
        format!(
            "{} lacks the lines `{begin}` and `{end}`, between which the results go",
            file.display()
        )
    })?;
    write_if_changed(file, new.as_bytes())?;
    Ok(())
}

/// The text with other content between the markers, if it has them.
pub fn replace(text: &str, begin: &str, end: &str, content: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    let content = content.trim();
    Some(format!("{before}{begin}\n\n{content}\n\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = "a\n<begin>\nold\n<end>\nb\n";
        let replace = |text: &str, content: &str| replace(text, "<begin>", "<end>", content);
        let once = replace(text, "| new |\n").unwrap();
        assert_eq!(once, "a\n<begin>\n\n| new |\n\n<end>\nb\n");
        assert_eq!(replace(&once, "| new |\n").unwrap(), once);
        assert_eq!(replace("a\nb\n", "t"), None);
    }

    #[test]
    fn a_file_without_markers_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("page.md");
        std::fs::write(&file, "text").unwrap();
        let error = update(&file, "<begin>", "<end>", "new").unwrap_err();
        assert!(error.to_string().contains("page.md lacks"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
    }
}
