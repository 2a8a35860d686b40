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

impl Report {
    /// Whether everything held that had to.
    pub fn held(&self) -> bool {
        self.finished
            && !self.steps.is_empty()
            && self.steps.iter().all(|step| step.held)
            && self
                .attempts
                .iter()
                .any(|attempt| attempt.answer == Answer::Refused)
            && self
                .attempts
                .iter()
                .all(|attempt| attempt.answer != Answer::WentThrough)
    }

    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// `all 11 refused`, or what was not.
    pub fn refusals(&self) -> String {
        let count = |answer| self.attempts.iter().filter(|a| a.answer == answer).count();
        match (count(Answer::Refused), count(Answer::WentThrough)) {
            (0, 0) => "none tried".into(),
            (refused, 0) => format!("all {refused} refused"),
            (_, through) => format!("{through} WENT THROUGH"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            filesystem: "xfs".into(),
            steps: vec![Step {
                name: "mkfs".into(),
                held: true,
                detail: String::new(),
                seconds: 1.0,
            }],
            attempts: vec![
                Attempt {
                    name: "write".into(),
                    answer: Answer::Refused,
                    errno: "ETXTBSY".into(),
                },
                Attempt {
                    name: "clone".into(),
                    answer: Answer::Impossible,
                    errno: "E".into(),
                },
            ],
            picture: None,
            finished: true,
            seconds: 2.0,
        }
    }

    #[test]
    fn it_holds_only_if_all_of_it_held() {
        assert!(report().held());
        assert_eq!(report().refusals(), "all 1 refused");
        let mut broken = report();
        broken.steps[0].held = false;
        assert!(!broken.held());
        let mut broken = report();
        broken.attempts[0].answer = Answer::WentThrough;
        assert!(!broken.held());
        assert_eq!(broken.refusals(), "1 WENT THROUGH");
        let mut broken = report();
        broken.finished = false;
        assert!(!broken.held());
        let mut broken = report();
        broken.attempts.clear();
        assert!(!broken.held());
    }
}
