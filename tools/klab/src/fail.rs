//! Expected errors: one sentence, one hint, one exit status.
//!
//! Whatever is not a [`Failure`] is a fault of the tool itself and is reported with its whole chain.

use std::fmt;

/// The exit statuses of the tool. `klab run` passes on the status of the command it ran, so its
/// own ones lie where commands seldom put theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A test failed, or the demonstration saw something it must not see.
    Tests = 1,
    /// The command line or an input file makes no sense.
    Usage = 2,
    /// Something the machine must provide is missing.
    Requirement = 110,
    /// A build failed.
    Build = 111,
    /// The series is malformed or does not apply.
    Series = 112,
    /// A guest made no progress for too long.
    Timeout = 113,
    /// A guest died, or its kernel complained.
    Guest = 114,
    /// A fault of the tool.
    Internal = 115,
    /// The command for the guest is there and cannot be run.
    CannotRun = 126,
    /// The command for the guest is not there.
    NotFound = 127,
    /// Interrupted by a signal.
    Interrupted = 130,
}

/// Text of the `--help` section on exit statuses; kept beside the numbers.
pub const EXIT_STATUSES: &str = "\
Exit status:
  0    everything was done, and held
  1    a test failed, none passed, or the demonstration did not hold
  2    usage error
  101  the tool crashed
  110  a requirement is missing (see `cargo klab doctor`)
  111  a build failed
  112  the series is malformed or does not apply
  113  a guest made no progress for too long
  114  a guest died, or its kernel complained
  115  any other failure of the tool
  126  the command of `klab run` cannot be run in the guest
  127  the command of `klab run` was not found in the guest
  130  interrupted
  `klab run` otherwise returns the status of the command it ran.";

/// An error the user can do something about.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Failure {
    pub kind: Kind,
    pub what: String,
    pub hint: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl Failure {
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            hint: None,
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The exit status that belongs to an error.
pub fn status_of(error: &anyhow::Error) -> i32 {
    match error.downcast_ref::<Failure>() {
        Some(failure) => failure.kind as i32,
        None => Kind::Internal as i32,
    }
}

/// What the user reads: the sentence of an expected error, the whole chain of any other.
pub fn explain(error: &anyhow::Error) -> String {
    match error.downcast_ref::<Failure>() {
        Some(failure) => failure.to_string(),
        None => format!("{error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_documented() {
        for kind in [
            Kind::Tests,
            Kind::Usage,
            Kind::Requirement,
            Kind::Build,
            Kind::Series,
            Kind::Timeout,
            Kind::Guest,
            Kind::Internal,
            Kind::CannotRun,
            Kind::NotFound,
            Kind::Interrupted,
        ] {
            let line = format!("\n  {:<5}", kind as i32);
            assert!(EXIT_STATUSES.contains(&line), "{kind:?} is not in the help");
        }
    }

    #[test]
    fn a_wrapped_failure_keeps_its_status() {
        let error = anyhow::Error::new(Failure::new(Kind::Timeout, "x")).context("while booting");
        assert_eq!(status_of(&error), 113);
        assert_eq!(status_of(&anyhow::anyhow!("y")), 115);
    }
}
