//! What the user sees while long steps run. All of it goes to stderr; stdout is for results.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Without a terminal, a sign of life is printed this often.
const HEARTBEAT: Duration = Duration::from_secs(30);

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
            self.bars.suspend(|| eprintln!("{text}"));
        } else {
            eprintln!("{text}");
        }
    }

    /// A line of results on stdout, kept apart from the bars.
    pub fn result(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        if self.live {
            self.bars.suspend(|| println!("{text}"));
        } else {
            println!("{text}");
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
            eprintln!("{label} ...");
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
                eprintln!("{} ...{share} ({seconds} s) {message}", self.label);
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
    use super::bytes;

    #[test]
    fn sizes_are_rounded_to_one_digit() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
    }
}
