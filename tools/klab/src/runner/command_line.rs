//! Words for a guest's kernel that are the same whatever runs it.

use std::path::Path;

use anyhow::Result;

use super::machine::Machine;
use crate::guest::init::VERB;
use crate::paths;

/// A path as one word, or a part of one, that nothing takes apart.
pub fn word(path: &Path) -> Result<String> {
    let text = paths::text(path)?;
    anyhow::ensure!(
        !text.contains(|ch: char| ch.is_whitespace() || ch == ',' || ch == '"'),
        "the path `{text}` has characters that a kernel command line cannot hold"
    );
    Ok(text.to_owned())
}

/// The whole line: `own` are the words of the platform, `klab` is the first process.
pub fn words(klab: &Path, machine: &Machine, own: Vec<String>) -> Result<Vec<String>> {
    let mut words = own;
    words.extend([
        "ro".into(),
        // Simulated SCSI disks that verify, made when a test asks for them.
        "scsi_debug.add_host=0".into(),
        "scsi_debug.dev_size_mb=64".into(),
        "scsi_debug.dif=1".into(),
        "scsi_debug.dix=1".into(),
        format!("init={}", word(klab)?),
    ]);
    words.extend(machine.kernel_words.iter().cloned());
    words.extend(["--".into(), VERB.into(), word(&machine.job)?]);
    Ok(words)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn machine() -> Machine {
        Machine {
            kernel: "/k/linux".into(),
            memory_mib: 512,
            disks: vec!["/s/a".into(), "/s/b".into()],
            results: "/r".into(),
            job: "/r/job.json".into(),
            kernel_words: vec!["kunit.enable=1".into()],
        }
    }

    #[test]
    fn the_root_is_read_only_and_the_job_comes_last() {
        let words = words(Path::new("/p/klab"), &machine(), vec!["root=x".into()]).unwrap();
        assert_eq!(words[0], "root=x");
        assert!(words.contains(&"ro".into()) && !words.contains(&"rw".into()));
        assert!(words.contains(&"kunit.enable=1".into()));
        assert_eq!(
            words[words.len() - 3..],
            ["--", "guest-init", "/r/job.json"]
        );
    }

    #[test]
    fn a_path_that_would_break_the_command_line_is_refused() {
        let machine = Machine {
            job: "/a b/job".into(),
            ..machine()
        };
        assert!(words(Path::new("/p/klab"), &machine, Vec::new()).is_err());
    }
}
