//! KUnit's results as they stand in a kernel's log.

use super::board::{Case, Verdict};

/// What a log holds.
#[derive(Debug, Default)]
pub struct Ktap {
    pub cases: Vec<Case>,
    /// How many suites the log announces.
    pub announced: Option<usize>,
    /// How many came to an end.
    pub finished: usize,
}

/// A suite or a parameterised test that has begun.
struct Open {
    indent: usize,
    name: String,
    failed_inside: bool,
    messages: Vec<String>,
}

/// Reads all results; lines of others in between do not matter.
pub fn parse(log: &str) -> Ktap {
    let mut ktap = Ktap::default();
    let mut open: Vec<Open> = Vec::new();
    let mut messages: Vec<String> = Vec::new();
    // When the last test ended, or the first suite began: tests run one after the other.
    let mut before = 0.0;
    for line in log.lines() {
        let (stamp, line) = split_stamp(line);
        let text = line.trim_start_matches(' ');
        let indent = line.len() - text.len();
        if let Some(name) = text.strip_prefix("# Subtest: ") {
            open.push(Open {
                indent: indent.saturating_sub(4),
                name: name.trim().to_owned(),
                failed_inside: false,
                messages: std::mem::take(&mut messages),
            });
            before = stamp.unwrap_or(before);
        } else if let Some(count) = text.strip_prefix("1..").filter(|_| indent == 0) {
            ktap.announced = count.trim().parse().ok();
        } else if let Some((good, name, skip)) = result(text) {
            let parent = open.iter().rposition(|open| open.indent == indent);
            let path = |open: &[Open], depth: usize| {
                let outer: Vec<&str> = open
                    .iter()
                    .filter(|open| open.indent < depth)
                    .map(|open| open.name.as_str())
                    .chain([name])
                    .collect();
                outer.join("/")
            };
            let now = stamp.unwrap_or(before);
            let seconds = now - std::mem::replace(&mut before, now);
            let timed = |case: Case| Case { seconds, ..case };
            if let Some(at) = parent {
                let ended = open.split_off(at).swap_remove(0);
                if !good && !ended.failed_inside {
                    let reason = reason(ended.messages, messages.drain(..));
                    let name = path(&open, indent);
                    let case = Case::new("kunit", &name, Verdict::Fail, reason);
                    ktap.cases.push(timed(case));
                    mark(&mut open);
                } else if !good {
                    mark(&mut open);
                }
                // A suite that is skipped as a whole has no tests that say so.
                if let Some(why) = skip.filter(|_| good && indent == 0) {
                    let name = path(&open, indent);
                    ktap.cases
                        .push(Case::new("kunit", &name, Verdict::Skip, why));
                }
            } else {
                let verdict = match (good, skip) {
                    (true, Some(_)) => Verdict::Skip,
                    (true, None) => Verdict::Pass,
                    (false, _) => Verdict::Fail,
                };
                let reason = match (verdict, skip) {
                    (Verdict::Fail, _) => reason(Vec::new(), messages.drain(..)),
                    (_, why) => why.unwrap_or_default().to_owned(),
                };
                if verdict == Verdict::Fail {
                    mark(&mut open);
                }
                let case = Case::new("kunit", &path(&open, indent), verdict, reason);
                ktap.cases.push(timed(case));
            }
            if indent == 0 {
                ktap.finished += 1;
            }
            messages.clear();
        } else if let Some(message) = text.strip_prefix("# ") {
            messages.push(message.to_owned());
        } else if !text.is_empty() && !messages.is_empty() {
            messages.push(text.to_owned());
        }
    }
    ktap
}

fn mark(open: &mut [Open]) {
    for outer in open {
        outer.failed_inside = true;
    }
}

fn reason(mut first: Vec<String>, more: impl Iterator<Item = String>) -> String {
    first.extend(more);
    first.truncate(6);
    first.join("; ")
}

/// The time that printk puts in front, in seconds, and what follows.
fn split_stamp(line: &str) -> (Option<f64>, &str) {
    let rest = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "));
    match rest {
        Some((stamp, rest)) => match stamp.trim().parse() {
            Ok(stamp) => (Some(stamp), rest),
            Err(_) => (None, line),
        },
        None => (None, line),
    }
}

/// `ok 3 name # SKIP why`: whether it is good, its name, why it was skipped.
fn result(text: &str) -> Option<(bool, &str, Option<&str>)> {
    let (good, rest) = match text.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("ok ")?),
    };
    let (number, rest) = rest.split_once(' ')?;
    number.parse::<u32>().ok()?;
    let rest = rest.strip_prefix("- ").unwrap_or(rest);
    match rest.split_once(" # SKIP") {
        Some((name, why)) => Some((good, name.trim(), Some(why.trim()))),
        None => Some((good, rest.split(" # ").next().unwrap_or(rest).trim(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
[    0.100000] KTAP version 1
[    0.100000] 1..2
[    0.100000]     KTAP version 1
[    0.100000]     # Subtest: layout
[    0.100000]     # module: layout_test
[    0.100000]     1..4
[    0.110000]     ok 1 emits_in_order
[    0.110000] EXT4-fs (ubda): mounted filesystem
[    0.110000]     # refuses_holes: EXPECTATION FAILED at fs/layout_test.c:10
[    0.110000]     Expected error == 0, but
[    0.120000]     not ok 2 refuses_holes
[    0.120000]     ok 3 needs_a_disk # SKIP no disk
[    0.120000]         KTAP version 1
[    0.120000]         # Subtest: sizes
[    0.120000]         ok 1 small
[    0.120000]         ok 2 large
[    0.120000]     ok 4 sizes
[    0.130000] # layout: pass:2 fail:1 skip:1 total:4
[    0.130000] not ok 1 layout
[    0.130000]     KTAP version 1
[    0.130000]     # Subtest: rust_blksnap_map
[    0.130000]     1..1
[    0.140000]     ok 1 claims_once
[    0.150000] ok 2 rust_blksnap_map
";

    #[test]
    fn every_test_is_found_once() {
        let ktap = parse(LOG);
        let seen: Vec<(&str, Verdict)> = ktap
            .cases
            .iter()
            .map(|case| (case.name.as_str(), case.verdict))
            .collect();
        assert_eq!(
            seen,
            [
                ("layout/emits_in_order", Verdict::Pass),
                ("layout/refuses_holes", Verdict::Fail),
                ("layout/needs_a_disk", Verdict::Skip),
                ("layout/sizes/small", Verdict::Pass),
                ("layout/sizes/large", Verdict::Pass),
                ("rust_blksnap_map/claims_once", Verdict::Pass),
            ]
        );
        assert!(
            ktap.cases[1]
                .reason
                .contains("EXPECTATION FAILED at fs/layout_test.c:10")
        );
        assert_eq!(ktap.cases[2].reason, "no disk");
        assert_eq!((ktap.announced, ktap.finished), (Some(2), 2));
    }

    #[test]
    fn a_test_takes_the_time_since_the_one_before() {
        let times: Vec<f64> = parse(LOG).cases.iter().map(|case| case.seconds).collect();
        for (time, wanted) in times.iter().zip([0.01, 0.01, 0.0, 0.0, 0.0, 0.01]) {
            assert!((time - wanted).abs() < 1e-9, "{times:?}");
        }
    }

    #[test]
    fn a_suite_that_fails_by_itself_is_a_failure() {
        let log = "1..1\n    # Subtest: broken\n    # broken: cannot set up\nnot ok 1 broken\n";
        let ktap = parse(log);
        assert_eq!(ktap.cases.len(), 1);
        assert_eq!(
            (ktap.cases[0].name.as_str(), ktap.cases[0].verdict),
            ("broken", Verdict::Fail)
        );
    }

    #[test]
    fn a_log_that_stops_half_way_shows_it() {
        let log: String = LOG
            .lines()
            .take(9)
            .map(|line| format!("{line}\n"))
            .collect();
        let ktap = parse(&log);
        assert_eq!((ktap.announced, ktap.finished), (Some(2), 0));
    }
}
