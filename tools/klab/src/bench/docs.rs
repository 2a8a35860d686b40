//! Results in the documentation, between two markers.

use std::path::Path;

use anyhow::Result;

use crate::markers;

const END: &str = "<!-- end of results -->";

fn begin(verb: &str) -> String {
    format!("<!-- results: written by cargo klab bench {verb} --update-docs -->")
}

/// Replaces the results of a verb.
pub fn update(file: &Path, verb: &str, results: &str) -> Result<()> {
    markers::update(file, &begin(verb), END, results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_have_the_markers() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for (verb, file) in [
            ("cow", "rust-blksnap/BENCH.md"),
            ("pin", "fs-hooks/BENCH.md"),
        ] {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            let new = markers::replace(&text, &begin(verb), END, "");
            assert!(new.is_some(), "{file}");
            let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
            assert!(readme.contains(file), "README.md has no link to {file}");
        }
    }
}
