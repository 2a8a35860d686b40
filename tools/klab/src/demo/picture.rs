//! Where the storage lies on the disk, for the terminal and as SVG.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::ui::bytes;

/// Where the kernel shows what is pinned.
pub const PINS: &str = "/sys/kernel/debug/layout/pins";

const COLUMNS: u64 = 64;
const ROWS: u64 = 4;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    pub file_offset: u64,
    pub disk_offset: u64,
    pub length: u64,
    pub unwritten: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    pub title: String,
    pub disk_bytes: u64,
    pub extents: Vec<Extent>,
}

/// The extents of one pinned file, from the kernel's list of all.
///
/// A pin is a line `consumer device inode path`, followed by lines
/// `position address length device state`.
pub fn extents_of(pins: &str, path: &str) -> Result<Vec<Extent>> {
    let mut extents = Vec::new();
    let mut inside = false;
    for line in pins.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_extent = words.len() == 5 && words[0].parse::<u64>().is_ok();
        if !is_extent {
            // The kernel tells the path within the filesystem.
            inside = words.last().is_some_and(|last| path.ends_with(last));
        } else if inside {
            let number = |at: usize| -> Result<u64> {
                words[at]
                    .parse()
                    .with_context(|| format!("`{line}` in {PINS}"))
            };
            extents.push(Extent {
                file_offset: number(0)?,
                disk_offset: number(1)?,
                length: number(2)?,
                unwritten: words[4] == "unwritten",
            });
        }
    }
    Ok(extents)
}

impl Picture {
    pub fn storage_bytes(&self) -> u64 {
        self.extents.iter().map(|extent| extent.length).sum()
    }

    fn caption(&self) -> String {
        let count = self.extents.len();
        format!(
            "{}: storage of {} in {count} extent{} on a disk of {}",
            self.title,
            bytes(self.storage_bytes()),
            if count == 1 { "" } else { "s" },
            bytes(self.disk_bytes)
        )
    }

    /// How much of a part of the disk is storage, from 0 to 1.
    fn share(&self, from: u64, to: u64) -> f64 {
        let covered: u64 = self
            .extents
            .iter()
            .map(|extent| {
                let end = extent.disk_offset + extent.length;
                end.min(to).saturating_sub(extent.disk_offset.max(from))
            })
            .sum();
        covered as f64 / (to - from).max(1) as f64
    }

    /// Rows of cells, each a part of the disk.
    pub fn terminal(&self) -> Vec<String> {
        let mut lines = vec![self.caption()];
        let cells = COLUMNS * ROWS;
        for row in 0..ROWS {
            let cell = |column: u64| {
                let at = |n: u64| {
                    (u128::from(self.disk_bytes) * u128::from(n) / u128::from(cells)) as u64
                };
                let number = row * COLUMNS + column;
                match self.share(at(number), at(number + 1)) {
                    share if share <= 0.0 => '·',
                    share if share < 0.34 => '░',
                    share if share < 0.67 => '▒',
                    share if share < 1.0 => '▓',
                    _ => '█',
                }
            };
            lines.push((0..COLUMNS).map(cell).collect());
        }
        lines
    }

    pub fn svg(&self) -> String {
        const WIDTH: f64 = 960.0;
        const ROW: f64 = 28.0;
        let height = 70.0 + ROW * ROWS as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1000 {height}\" \
             font-family=\"sans-serif\" font-size=\"15\">\n\
             <rect width=\"1000\" height=\"{height}\" fill=\"#ffffff\"/>\n\
             <text x=\"20\" y=\"28\">{}</text>\n",
            escape(&self.caption())
        );
        let row_bytes = self.disk_bytes.div_ceil(ROWS).max(1);
        for row in 0..ROWS {
            let top = 44.0 + ROW * row as f64;
            let start = row * row_bytes;
            svg.push_str(&format!(
                "<rect x=\"20\" y=\"{top}\" width=\"{WIDTH}\" height=\"22\" fill=\"#e8e8e8\"/>\n"
            ));
            for extent in &self.extents {
                let from = extent.disk_offset.max(start);
                let to = (extent.disk_offset + extent.length).min(start + row_bytes);
                if from < to {
                    let scale = WIDTH / row_bytes as f64;
                    let left = 20.0 + (from - start) as f64 * scale;
                    let width = ((to - from) as f64 * scale).max(1.0);
                    let colour = if extent.unwritten {
                        "#2a7ab0"
                    } else {
                        "#b0452a"
                    };
                    svg.push_str(&format!(
                        "<rect x=\"{left:.2}\" y=\"{top}\" width=\"{width:.2}\" height=\"22\" \
                         fill=\"{colour}\"><title>{} at {}</title></rect>\n",
                        bytes(extent.length),
                        bytes(extent.disk_offset)
                    ));
                }
            }
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS_TEXT: &str = "swap 98:16 131 /swapfile\n0 4096 8192 98:16 unwritten\n\
        blksnap 98:0 133 /storage\n0 1048576 524288 98:0 unwritten\n\
        524288 3145728 524288 98:0 written\n";

    #[test]
    fn only_the_extents_of_the_file_are_taken() {
        let extents = extents_of(PINS_TEXT, "/mnt/demo/storage").unwrap();
        assert_eq!(extents.len(), 2);
        assert_eq!(extents[0].disk_offset, 1 << 20);
        assert!(extents[0].unwritten && !extents[1].unwritten);
        assert!(extents_of(PINS_TEXT, "/mnt/demo/other").unwrap().is_empty());
    }

    #[test]
    fn the_cells_show_where_it_lies() {
        let extents = extents_of(PINS_TEXT, "/storage").unwrap();
        let picture = Picture {
            title: "a<b".into(),
            disk_bytes: 4 << 20,
            extents,
        };
        let lines = picture.terminal();
        assert!(
            lines[0].contains("1.0 MiB in 2 extents on a disk of 4.0 MiB"),
            "{}",
            lines[0]
        );
        // The second and the fourth quarter of the disk are a row each, half full.
        assert_eq!(lines[1], "·".repeat(64));
        assert_eq!(lines[2], "█".repeat(32) + &"·".repeat(32));
        assert_eq!(lines[4], "█".repeat(32) + &"·".repeat(32));
        let svg = picture.svg();
        assert!(svg.contains("a&lt;b") && svg.matches("<title>").count() == 2);
        assert!(svg.contains("width=\"480.00\""));
    }
}
