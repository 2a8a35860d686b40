//! One mail of the series: headers, message, changes to files that the base has.

use anyhow::{Context, Result, bail, ensure};

const SUBJECT: &str = "[PATCH] ";
const NEW_FILE: &str = "X-New-File";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub author: String,
    /// RFC 2822, as in the mail.
    pub date: String,
    pub subject: String,
    /// Kernel paths of the files that this mail adds.
    pub new_files: Vec<String>,
    pub body: String,
    pub diff: Vec<u8>,
}

impl Mail {
    pub fn render(&self) -> Vec<u8> {
        let mut text = format!("From: {}\nDate: {}\n", self.author, self.date);
        text.push_str(&format!("Subject: {SUBJECT}{}\n", self.subject));
        let ascii = self.subject.is_ascii() && self.body.is_ascii() && self.author.is_ascii();
        if !ascii {
            text.push_str("MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n");
            text.push_str("Content-Transfer-Encoding: 8bit\n");
        }
        for path in &self.new_files {
            text.push_str(&format!("{NEW_FILE}: {path}\n"));
        }
        text.push('\n');
        if !self.body.is_empty() {
            text.push_str(&self.body);
            text.push('\n');
        }
        text.push_str("---\n");
        if !self.diff.is_empty() {
            text.push('\n');
        }
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.diff);
        bytes
    }

    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (head, rest) = split_at_line(bytes, b"").context("no empty line ends the headers")?;
        let head = std::str::from_utf8(head).context("headers are not UTF-8")?;
        let (mut author, mut date, mut subject) = (None, None, None);
        let mut new_files = Vec::new();
        for (name, value) in unfold(head)? {
            match name.as_str() {
                "From" => author = Some(value),
                "Date" => date = Some(value),
                "Subject" => subject = Some(value),
                NEW_FILE => new_files.push(value),
                _ => {}
            }
        }
        let subject = subject.context("no Subject header")?;
        let subject = match subject.strip_prefix("[PATCH") {
            Some(rest) => rest
                .split_once("] ")
                .context("no `]` ends `[PATCH`")?
                .1
                .to_owned(),
            None => subject,
        };
        let (body, diff) = split_at_line(rest, b"---").context("no line `---` ends the message")?;
        let body = std::str::from_utf8(body).context("the message is not UTF-8")?;
        // Whatever stands between `---` and the diff (a diffstat, remarks) is for readers only.
        let diff = match find(diff, b"diff --git ") {
            Some(start) => &diff[start..],
            None => &[],
        };
        let mail = Self {
            author: author.context("no From header")?,
            date: date.context("no Date header")?,
            subject,
            new_files,
            body: body.trim_end().to_owned(),
            diff: diff.to_vec(),
        };
        mail.author_parts()?;
        Ok(mail)
    }

    /// Name and address of the author.
    pub fn author_parts(&self) -> Result<(&str, &str)> {
        let parts = self
            .author
            .strip_suffix('>')
            .and_then(|text| text.split_once(" <"));
        match parts {
            Some((name, address)) if !name.is_empty() => Ok((name.trim_matches('"'), address)),
            _ => bail!("`{}` is not of the form `Name <address>`", self.author),
        }
    }

    /// The commit message.
    pub fn message(&self) -> String {
        if self.body.is_empty() {
            format!("{}\n", self.subject)
        } else {
            format!("{}\n\n{}\n", self.subject, self.body)
        }
    }

    /// Paths the diff touches.
    pub fn changed_files(&self) -> Result<Vec<String>> {
        let mut paths = Vec::new();
        for line in self.diff.split(|byte| *byte == b'\n') {
            if let Some(names) = line.strip_prefix(b"diff --git a/") {
                let names = std::str::from_utf8(names).context("a path is not UTF-8")?;
                // Nothing is renamed, so both halves are one path and the length tells where to cut.
                let length = names.len().saturating_sub(" b/".len()) / 2;
                let path = names.get(..length).context("a mangled `diff --git` line")?;
                ensure!(
                    names.get(length..) == Some(&format!(" b/{path}")),
                    "`{names}` is a rename; a mail only changes files in place"
                );
                paths.push(path.to_owned());
            }
        }
        Ok(paths)
    }

    /// Refuses a message that a mail cannot carry unharmed.
    pub fn check_message(&self) -> Result<()> {
        for line in self.body.lines() {
            ensure!(
                line != "---" && !line.starts_with("diff -") && !line.starts_with("Index: "),
                "the line `{line}` in the message would be taken for the start of the changes"
            );
        }
        let first = self.body.lines().next().unwrap_or_default();
        for header in ["From:", "Date:", "Subject:"] {
            ensure!(
                !first.starts_with(header),
                "the message starts with `{header}`, which would be taken for a header"
            );
        }
        Ok(())
    }

    /// File name of the mail at this place in the series.
    pub fn file_name(&self, number: usize) -> String {
        let mut slug = String::new();
        for ch in self.subject.chars() {
            if ch.is_ascii_alphanumeric() || ch == '.' || ch == '_' {
                slug.push(ch.to_ascii_lowercase());
            } else if !slug.ends_with('-') {
                slug.push('-');
            }
        }
        let slug: String = slug.trim_matches(['-', '.']).chars().take(52).collect();
        format!("{number:04}-{}.patch", slug.trim_end_matches(['-', '.']))
    }
}

/// Cuts before and after the first line that equals `wanted`.
fn split_at_line<'a>(bytes: &'a [u8], wanted: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut start = 0;
    while start < bytes.len() {
        let end = bytes[start..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map(|at| start + at);
        let line = &bytes[start..end.unwrap_or(bytes.len())];
        let next = end.map_or(bytes.len(), |end| end + 1);
        if line == wanted {
            return Some((&bytes[..start], &bytes[next..]));
        }
        start = next;
    }
    None
}

/// Finds `wanted` at the start of a line.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut start = 0;
    loop {
        if bytes[start..].starts_with(wanted) {
            return Some(start);
        }
        start += bytes[start..].iter().position(|byte| *byte == b'\n')? + 1;
    }
}

fn unfold(head: &str) -> Result<Vec<(String, String)>> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in head.lines() {
        if line.starts_with([' ', '\t']) {
            let (_, value) = headers.last_mut().context("the first header is indented")?;
            value.push(' ');
            value.push_str(line.trim());
        } else if line.starts_with("From ") && headers.is_empty() {
            // The separator line of a mailbox.
        } else {
            let (name, value) = line
                .split_once(':')
                .with_context(|| format!("`{line}` is not a header"))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Mail {
        Mail {
            author: "A Person <a@example.org>".into(),
            date: "Sun, 22 Nov 2026 17:00:00 +0000".into(),
            subject: "fs: add a thing".into(),
            new_files: vec!["fs/thing.c".into(), "include/linux/thing.h".into()],
            body: "Because.\n\n  indented\n\nLast line.".into(),
            diff: b"diff --git a/fs/Makefile b/fs/Makefile\n--- a/fs/Makefile\n+++ b/fs/Makefile\n"
                .to_vec(),
        }
    }

    #[test]
    fn a_mail_survives_the_way_there_and_back() {
        let mail = example();
        assert_eq!(Mail::parse(&mail.render()).unwrap(), mail);
        let bare = Mail {
            diff: Vec::new(),
            new_files: Vec::new(),
            body: String::new(),
            ..mail
        };
        assert_eq!(Mail::parse(&bare.render()).unwrap(), bare);
    }

    #[test]
    fn non_ascii_text_is_declared() {
        let mail = Mail {
            body: "Größe".into(),
            ..example()
        };
        let text = mail.render();
        assert!(find(&text, b"Content-Type: text/plain; charset=UTF-8").is_some());
        assert_eq!(Mail::parse(&text).unwrap(), mail);
    }

    #[test]
    fn mails_by_format_patch_are_read() {
        let text = b"From 0123 Mon Sep 17 00:00:00 2001\nFrom: A <a@b>\nDate: d\n\
            Subject: [PATCH 03/12] fs: a long\n subject\n\nBody\n---\n fs/a | 1 +\n\n\
            diff --git a/fs/a b/fs/a\nindex 1..2\n";
        let mail = Mail::parse(text).unwrap();
        assert_eq!(mail.subject, "fs: a long subject");
        assert_eq!(mail.body, "Body");
        assert_eq!(mail.changed_files().unwrap(), ["fs/a"]);
    }

    #[test]
    fn a_message_that_would_be_cut_is_refused() {
        for body in ["one\n---\ntwo", "x\ndiff --git a b", "From: someone\nrest"] {
            let mail = Mail {
                body: body.into(),
                ..example()
            };
            assert!(mail.check_message().is_err(), "{body:?}");
        }
        example().check_message().unwrap();
    }

    #[test]
    fn a_rename_is_refused() {
        let mail = Mail {
            diff: b"diff --git a/fs/a b/fs/c\n".to_vec(),
            ..example()
        };
        assert!(mail.changed_files().is_err());
    }

    #[test]
    fn file_names_are_plain() {
        assert_eq!(example().file_name(7), "0007-fs-add-a-thing.patch");
        let mail = Mail {
            subject: "rust: block: don't `panic`!".into(),
            ..example()
        };
        assert_eq!(mail.file_name(12), "0012-rust-block-don-t-panic.patch");
    }
}
