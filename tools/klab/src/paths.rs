//! Paths as text: command lines of guests and of git have no other form.

use std::path::Path;

use anyhow::{Context, Result};

/// The path as text, or an error that names it.
pub fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("the path {} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_path_that_is_not_text_is_named() {
        assert_eq!(text(Path::new("/a b")).unwrap(), "/a b");
        let error = text(Path::new(OsStr::from_bytes(b"/known/\xff"))).unwrap_err();
        assert!(error.to_string().contains("/known/"), "{error}");
    }
}
