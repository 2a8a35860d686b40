//! The findings as pictures: one bar for each system, the middle half of the repeats as a line.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::model::{Case, Findings, Medium, Series, Spread};

const FONT: &str = "sans-serif";
const WIDTH: u32 = 1100;
const BAR: u32 = 20;
const GAP: u32 = 22;
const MARGIN: u32 = 90;
const LABELS: i32 = 420;

/// Draws one picture for each medium there are findings of, as SVG and as PNG.
pub fn draw(findings: &Findings, folder: &Path) -> Result<Vec<String>> {
    register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
        .map_err(|_| anyhow!("the font cannot be read"))?;
    let mut names = Vec::new();
    for (medium, name) in [
        (Medium::Ramdisk, "ramdisk"),
        (Medium::FixedLatency, "fixed-latency"),
    ] {
        let series: Vec<&Series> = findings
            .series
            .iter()
            .filter(|series| series.case.medium == medium && !series.ratios.is_empty())
            .collect();
        if series.is_empty() {
            continue;
        }
        let size = (WIDTH, height(&series));
        let svg = folder.join(format!("{name}.svg"));
        chart(
            &SVGBackend::new(&svg, size).into_drawing_area(),
            medium,
            &series,
        )?;
        let png = folder.join(format!("{name}.png"));
        chart(
            &BitMapBackend::new(&png, size).into_drawing_area(),
            medium,
            &series,
        )?;
        names.extend([format!("{name}.svg"), format!("{name}.png")]);
    }
    Ok(names)
}

/// Series of one case are neighbours.
fn cases<'a>(series: &[&'a Series]) -> Vec<(&'a Case, Vec<&'a Series>)> {
    let mut cases: Vec<(&Case, Vec<&Series>)> = Vec::new();
    for one in series {
        match cases.last_mut() {
            Some((case, list)) if **case == one.case => list.push(one),
            _ => cases.push((&one.case, vec![one])),
        }
    }
    cases
}

fn height(series: &[&Series]) -> u32 {
    series.len() as u32 * BAR + cases(series).len() as u32 * GAP + 2 * MARGIN
}

fn color(system: &str) -> RGBColor {
    match system {
        "attached" => RGBColor(120, 120, 120),
        "blksnap" => RGBColor(20, 110, 180),
        "dm-snapshot 4k" => RGBColor(230, 140, 50),
        "dm-snapshot 64k" => RGBColor(240, 180, 110),
        _ => RGBColor(250, 215, 170),
    }
}

fn chart<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    medium: Medium,
    series: &[&Series],
) -> Result<()>
where
    B::ErrorType: 'static,
{
    let (width, height) = area.dim_in_pixel();
    let spreads = series.iter().filter_map(|one| Spread::of(&one.ratios));
    let top = spreads.map(|spread| spread.high).fold(1.0, f64::max) * 1.05;
    let span = f64::from(width as i32 - LABELS - 40);
    let x = |ratio: f64| LABELS + (ratio / top * span) as i32;
    area.fill(&WHITE)?;
    let text = |size: u32| (FONT, size).into_font().color(&BLACK);
    let title = format!(
        "{}: speed, bare device = 1 (median and middle half)",
        medium.name()
    );
    area.draw(&Text::new(title, (20, 20), text(20)))?;

    let bottom = height as i32 - MARGIN as i32 / 2;
    for tenth in 0..=(top * 10.0) as i32 {
        let at = x(f64::from(tenth) / 10.0);
        let strong = tenth % 10 == 0;
        let style = BLACK.mix(if strong { 0.6 } else { 0.12 });
        area.draw(&PathElement::new(
            vec![(at, MARGIN as i32 - 10), (at, bottom)],
            style,
        ))?;
        if tenth % 2 == 0 {
            let number = format!("{:.1}", f64::from(tenth) / 10.0);
            area.draw(&Text::new(number, (at - 8, bottom + 6), text(14)))?;
        }
    }

    let mut y = MARGIN as i32;
    for (case, list) in cases(series) {
        let jobs = if case.jobs > 1 {
            format!(", {} jobs", case.jobs)
        } else {
            String::new()
        };
        let label = format!("{}, {} at a time{jobs}", case.pattern, case.depth);
        area.draw(&Text::new(label, (20, y + 3), text(14)))?;
        for one in list {
            let Some(spread) = Spread::of(&one.ratios) else {
                continue;
            };
            let (from, to) = (y + 2, y + BAR as i32 - 2);
            let middle = (from + to) / 2;
            area.draw(&Rectangle::new(
                [(x(0.0), from), (x(spread.median), to)],
                color(&one.system).filled(),
            ))?;
            area.draw(&PathElement::new(
                vec![(x(spread.low), middle), (x(spread.high), middle)],
                BLACK.stroke_width(2),
            ))?;
            let label = format!("{} {:.2}", one.system, spread.median);
            let at = (x(spread.high.max(spread.median)) + 6).min(width as i32 - 150);
            area.draw(&Text::new(label, (at, from + 1), text(13)))?;
            y += BAR as i32;
        }
        y += GAP as i32;
    }
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_show_every_system() {
        let case = Case {
            medium: Medium::Ramdisk,
            pattern: "4k random first writes".into(),
            depth: 1,
            jobs: 1,
        };
        let series = |system: &str, ratios: &[f64]| Series {
            case: case.clone(),
            system: system.into(),
            ratios: ratios.to_vec(),
        };
        let findings = Findings {
            series: vec![
                series("blksnap", &[0.4, 0.5, 0.6]),
                series("dm-snapshot 4k", &[0.3]),
            ],
            ..Findings::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let names = draw(&findings, folder.path()).unwrap();
        assert_eq!(names, ["ramdisk.svg", "ramdisk.png"]);
        let svg = std::fs::read_to_string(folder.path().join("ramdisk.svg")).unwrap();
        assert!(svg.contains("blksnap 0.50") && svg.contains("dm-snapshot 4k 0.30"));
        let png = std::fs::read(folder.path().join("ramdisk.png")).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.len() > 4000);
    }
}
