// SPDX-License-Identifier: GPL-2.0

//! A live view of the snapshots, for a terminal.

use crate::cli::human;
use crate::stats::{DeviceStatistics, Statistics};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

/// Columns and rows of a terminal that does not tell.
const USUAL: (usize, usize) = (80, 24);

/// The terminal while the view is shown; it is as before when this is dropped.
pub struct Screen<'a> {
    out: &'a mut dyn Write,
}

impl<'a> Screen<'a> {
    /// Switches to a page of its own, without a cursor.
    pub fn new(out: &'a mut dyn Write) -> io::Result<Self> {
        out.write_all(b"\x1b[?1049h\x1b[?25l")?;
        out.flush()?;
        Ok(Screen { out })
    }

    /// Shows a page in place of the last one.
    pub fn show(&mut self, page: &str) -> io::Result<()> {
        let mut text = String::from("\x1b[H");
        for line in page.lines() {
            text += line;
            text += "\x1b[K\r\n";
        }
        // The last line must not scroll the page.
        text.truncate(text.trim_end().len());
        text += "\x1b[J";
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = self.out.write_all(b"\x1b[?25h\x1b[?1049l");
        let _ = self.out.flush();
    }
}

/// Columns and rows of the terminal that standard output is.
pub fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => USUAL,
    }
}

/// How much a second, if there is something to compare with.
fn rate(now: u64, before: Option<u64>, elapsed: Duration) -> String {
    match before {
        Some(before) if elapsed > Duration::ZERO => {
            let per_second = now.saturating_sub(before) as f64 / elapsed.as_secs_f64();
            format!("{}/s", human(per_second as u64))
        }
        _ => "-".to_owned(),
    }
}

fn bar(used: u64, capacity: u64, width: usize) -> String {
    let filled = match capacity {
        0 => 0,
        _ => (used as f64 / capacity as f64 * width as f64).ceil() as usize,
    };
    let filled = filled.min(width);
    format!("[{}{}]", "#".repeat(filled), ".".repeat(width - filled))
}

fn device_line(
    now: &DeviceStatistics,
    before: Option<&DeviceStatistics>,
    elapsed: Duration,
) -> String {
    format!(
        "  {:<8} {:>10} {:>12} {:>6} {:>10} {:>6} {:>8} {:>8}",
        now.device,
        human(now.number("bytes_copied")),
        rate(
            now.number("bytes_copied"),
            before.map(|b| b.number("bytes_copied")),
            elapsed
        ),
        now.number("jobs_in_flight"),
        human(now.number("buffered_bytes")),
        now.number("parked"),
        now.number("image_reads"),
        now.number("image_writes"),
    )
}

/// The page: what is known now, compared with what was known `elapsed` ago.
pub fn page(
    now: &[Statistics],
    before: &[Statistics],
    elapsed: Duration,
    (width, height): (usize, usize),
) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} snapshot{}, Ctrl-C ends",
        now.len(),
        if now.len() == 1 { "" } else { "s" }
    );
    for snapshot in now {
        let old = before.iter().find(|b| b.id == snapshot.id);
        let [used, capacity, limit] = snapshot.storage();
        let _ = writeln!(
            text,
            "\n{}  {}\n  storage {} {} of {}, up to {}",
            snapshot.id,
            snapshot.state(),
            bar(used, capacity, 16),
            human(used),
            human(capacity),
            human(limit),
        );
        if snapshot.devices.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "  {:<8} {:>10} {:>12} {:>6} {:>10} {:>6} {:>8} {:>8}",
            "device", "copied", "rate", "flying", "buffered", "parked", "reads", "writes"
        );
        for device in &snapshot.devices {
            let old = old.and_then(|old| old.devices.iter().find(|d| d.device == device.device));
            let _ = writeln!(text, "{}", device_line(device, old, elapsed));
        }
    }
    clip(&text, width, height)
}

/// As much of the page as the terminal can show.
fn clip(page: &str, width: usize, height: usize) -> String {
    page.lines()
        .take(height)
        .map(|line| line.chars().take(width).collect::<String>() + "\n")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn snapshot(copied: u64) -> Vec<Statistics> {
        let text = format!(
            "state held\nstorage_used 1024\nstorage_capacity 2048\nstorage_limit 4096\n\
             device 8:1\nbytes_copied {copied}\njobs_in_flight 2\n"
        );
        vec![Statistics::parse(Uuid::nil(), &text)]
    }

    #[test]
    fn a_rate_needs_two_looks() {
        let second = Duration::from_secs(1);
        let first = page(&snapshot(4096), &[], second, (120, 24));
        assert!(first.contains(" - "), "{first}");
        let next = page(&snapshot(8192), &snapshot(4096), second * 2, (120, 24));
        assert!(next.contains("2 KiB/s"), "{next}");
        assert!(
            next.contains("[########........] 512 KiB of 1 MiB, up to 2 MiB"),
            "{next}"
        );
        // What was reset, as a device that was taken again, has no rate below zero.
        let reset = page(&snapshot(0), &snapshot(4096), second, (120, 24));
        assert!(reset.contains("0 B/s"), "{reset}");
    }

    #[test]
    fn a_page_fits_its_terminal() {
        let many: Vec<_> = (0..10).flat_map(snapshot).collect();
        for (width, height) in [(1, 1), (20, 5), (80, 24)] {
            let page = page(&many, &[], Duration::ZERO, (width, height));
            assert!(page.lines().count() <= height);
            assert!(page.lines().all(|line| line.chars().count() <= width));
        }
    }

    #[test]
    fn the_terminal_is_given_back() {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out).unwrap();
        screen.show("one\ntwo\n").unwrap();
        drop(screen);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("\x1b[?1049h\x1b[?25l"));
        assert!(text.contains("one\x1b[K\r\ntwo"));
        assert!(text.ends_with("\x1b[?25h\x1b[?1049l"));
    }
}
