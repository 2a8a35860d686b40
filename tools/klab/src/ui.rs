//! What the user sees while long steps run. All of it goes to stderr; stdout is for results.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::builder::styling::AnsiColor;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Without a terminal, a sign of life is printed this often.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// A line on stdout. If nobody reads there any more, that ends the program: quietly, and tidily.
pub fn print(line: impl Display) {
    end_if_failed(writeln!(anstream::stdout().lock(), "{line}"));
}

/// The same for bytes that are not ours, as they are.
pub fn pass_on(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    drop(out);
    end_if_failed(written);
}

/// A line on stderr.
pub fn tell(line: impl Display) {
    end_if_failed(writeln!(anstream::stderr().lock(), "{line}"));
}

fn end_if_failed(written: std::io::Result<()>) {
    if let Err(error) = written {
        crate::signals::cannot_print(&error);
    }
}

/// The line of a test, its first word in the colour of the verdict.
pub fn coloured(line: &str) -> String {
    let colour = match line.split(' ').next() {
        Some("pass") => AnsiColor::Green,
        Some("FAIL") => AnsiColor::Red,
        Some("skip") => AnsiColor::Yellow,
        _ => return line.to_owned(),
    };
    let style = colour.on_default().bold();
    let (word, rest) = line.split_at(4);
    format!("{style}{word}{style:#}{rest}")
}

#[derive(Clone)]
pub struct Ui {
    bars: MultiProgress,
    live: bool,
}

impl Default for Ui {
    fn default() -> Self {
        Self::new()
    }
}

impl Ui {
    pub fn new() -> Self {
        Self {
            bars: MultiProgress::new(),
            live: std::io::stderr().is_terminal(),
        }
    }

    /// A line that stays.
    pub fn say(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        if self.live {
            self.bars.suspend(|| tell(text));
        } else {
            tell(text);
        }
    }

    /// A line of results on stdout, kept apart from the bars.
    pub fn result(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        if self.live {
            self.bars.suspend(|| print(text));
        } else {
            print(text);
        }
    }

    /// Starts a long step; `total` is what [`Task::at`] counts up to, if known.
    pub fn task(&self, label: impl Into<String>, total: Option<u64>) -> Task {
        let label = label.into();
        let bar = if self.live {
            let bar = self.bars.add(match total {
                Some(total) => ProgressBar::new(total),
                None => ProgressBar::new_spinner(),
            });
            let template = match total {
                Some(_) => "{prefix} [{elapsed}] {bar:24} {percent}% {wide_msg}",
                None => "{prefix} [{elapsed}] {spinner} {wide_msg}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(label.clone());
            bar.enable_steady_tick(Duration::from_millis(200));
            Some(bar)
        } else {
            tell(format!("{label} ..."));
            None
        };
        Task {
            ui: self.clone(),
            label,
            total,
            bar,
            start: Instant::now(),
            spoke: Instant::now(),
        }
    }
}

/// A long step under way.
pub struct Task {
    ui: Ui,
    label: String,
    total: Option<u64>,
    bar: Option<ProgressBar>,
    start: Instant,
    spoke: Instant,
}

impl Task {
    /// Shows where the step is.
    pub fn at(&mut self, position: u64, message: &str) {
        match &self.bar {
            Some(bar) => {
                if self.total.is_some() {
                    bar.set_position(position);
                }
                bar.set_message(message.to_owned());
            }
            None if self.spoke.elapsed() >= HEARTBEAT => {
                self.spoke = Instant::now();
                let share = match self.total {
                    Some(total) if total > 0 => format!(" {}%", (position * 100 / total).min(99)),
                    _ => String::new(),
                };
                let seconds = self.start.elapsed().as_secs();
                tell(format!("{} ...{share} ({seconds} s) {message}", self.label));
            }
            None => {}
        }
    }

    /// Ends the step with a line that stays.
    pub fn done(self) {
        let text = format!(
            "{}: done in {:.1} s",
            self.label,
            self.start.elapsed().as_secs_f32()
        );
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.ui.say(text);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Bytes for people.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::{bytes, coloured};

    #[test]
    fn sizes_are_rounded_to_one_digit() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
    }

    #[test]
    fn only_the_verdict_is_coloured() {
        let line = coloured("pass xfs generic/901 (1.00 s)");
        assert!(line.starts_with('\x1b') && line.ends_with(" xfs generic/901 (1.00 s)"));
        assert_eq!(coloured("3 passed, 0 failed"), "3 passed, 0 failed");
        assert_eq!(coloured(""), "");
    }
}
