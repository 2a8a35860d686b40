//! What a guest found out, as it is told to the host.

use serde::{Deserialize, Serialize};

use super::picture::Picture;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    pub held: bool,
    pub detail: String,
    pub seconds: f64,
}

/// How a try to tamper with the storage file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Refused,
    /// The same fails on an ordinary file of this filesystem: it proves nothing.
    Impossible,
    WentThrough,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempt {
    pub name: String,
    pub answer: Answer,
    /// Name of the error, if there was one.
    pub errno: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub filesystem: String,
    pub steps: Vec<Step>,
    pub attempts: Vec<Attempt>,
    pub picture: Option<Picture>,
    pub finished: bool,
    pub seconds: f64,
}

/// What has to be refused, rather than impossible anyway, for the demonstration to prove something.
const REQUIRED: [&str; 6] = [
    "write",
    "shared mapping",
    "truncate",
    "punch a hole",
    "unlink",
    "defragment",
];

/// The same where files can share blocks: ext4 has no such call, so that nothing can be proven.
const REQUIRED_TO_SHARE: [&str; 2] = ["reflink from it", "reflink over it"];

impl Report {
    /// Whether everything held that had to.
    pub fn held(&self) -> bool {
        self.finished
            && !self.steps.is_empty()
            && self.steps.iter().all(|step| step.held)
            && self.required().all(|name| self.refused(name))
            && self
                .attempts
                .iter()
                .all(|attempt| attempt.answer != Answer::WentThrough)
    }

    fn required(&self) -> impl Iterator<Item = &'static str> {
        let sharing: &[&str] = if self.filesystem == "ext4" {
            &[]
        } else {
            &REQUIRED_TO_SHARE
        };
        REQUIRED.iter().chain(sharing).copied()
    }

    fn refused(&self, name: &str) -> bool {
        let mut tried = self.attempts.iter();
        tried.any(|attempt| attempt.name == name && attempt.answer == Answer::Refused)
    }

    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// `all 11 refused`, or what was not.
    pub fn refusals(&self) -> String {
        let count = |answer| self.attempts.iter().filter(|a| a.answer == answer).count();
        let open = self.required().filter(|name| !self.refused(name)).count();
        match (count(Answer::Refused), count(Answer::WentThrough)) {
            (0, 0) => "none tried".into(),
            (_, through @ 1..) => format!("{through} WENT THROUGH"),
            (_, 0) if open > 0 => format!("{open} NOT REFUSED"),
            (refused, 0) => format!("all {refused} refused"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(filesystem: &str) -> Report {
        let attempt = |name: &str, answer| Attempt {
            name: name.into(),
            answer,
            errno: "E".into(),
        };
        let sharing = if filesystem == "ext4" {
            Answer::Impossible
        } else {
            Answer::Refused
        };
        Report {
            filesystem: filesystem.into(),
            steps: vec![Step {
                name: "mkfs".into(),
                held: true,
                detail: String::new(),
                seconds: 1.0,
            }],
            attempts: REQUIRED
                .iter()
                .map(|name| attempt(name, Answer::Refused))
                .chain(REQUIRED_TO_SHARE.iter().map(|name| attempt(name, sharing)))
                .collect(),
            picture: None,
            finished: true,
            seconds: 2.0,
        }
    }

    #[test]
    fn it_holds_only_if_all_of_it_held() {
        assert!(report("xfs").held());
        assert_eq!(report("xfs").refusals(), "all 8 refused");
        let mut broken = report("xfs");
        broken.steps[0].held = false;
        assert!(!broken.held());
        let mut broken = report("xfs");
        broken.attempts[0].answer = Answer::WentThrough;
        assert!(!broken.held());
        assert_eq!(broken.refusals(), "1 WENT THROUGH");
        let mut broken = report("xfs");
        broken.finished = false;
        assert!(!broken.held());
        let mut broken = report("xfs");
        broken.attempts.clear();
        assert!(!broken.held());
    }

    #[test]
    fn what_is_impossible_proves_nothing() {
        assert!(report("ext4").held());
        assert_eq!(report("ext4").refusals(), "all 6 refused");
        for filesystem in ["xfs", "ext4", "btrfs"] {
            for number in 0..REQUIRED.len() {
                let mut broken = report(filesystem);
                broken.attempts[number].answer = Answer::Impossible;
                assert!(!broken.held());
                assert_eq!(broken.refusals(), "1 NOT REFUSED");
            }
        }
        let mut broken = report("btrfs");
        broken.attempts.truncate(REQUIRED.len());
        assert!(!broken.held());
    }

    #[test]
    fn what_is_required_is_tried() {
        let tried: Vec<&str> = super::super::tamper::names("xfs").collect();
        let all = REQUIRED.iter().chain(&REQUIRED_TO_SHARE);
        assert!(all.clone().all(|name| tried.contains(name)));
    }
}
