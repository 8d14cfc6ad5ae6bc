//! A value over time as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (960, 220);
const LEFT: i32 = 90;
const RIGHT: i32 = 940;
const TOP: i32 = 36;
const BOTTOM: i32 = 180;
const GRID: RGBColor = RGBColor(225, 225, 225);
const LINE: RGBColor = RGBColor(38, 110, 180);
const RESTART: RGBColor = RGBColor(215, 120, 40);
const STEPS: u32 = 4;

/// Writes the picture: points of seconds and values, and lines where the agent was started again.
pub(super) fn write(path: &Path, title: &str, points: &[(f64, f64)], restarts: &[f64]) -> Result<()> {
    // What goes wrong in a back end borrows from it; only the words of it are of interest.
    draw(path, title, points, restarts).map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}

fn draw<'a>(
    path: &'a Path,
    title: &str,
    points: &[(f64, f64)],
    restarts: &[f64],
) -> Result<(), Box<dyn std::error::Error + 'a>> {
    let end = points.iter().map(|(at, _)| *at).fold(1.0, f64::max);
    let most = points.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    #[expect(clippy::cast_possible_truncation, reason = "a pixel of a picture a thousand of them wide")]
    let x = |at: f64| LEFT + (f64::from(RIGHT - LEFT) * at / end) as i32;
    #[expect(clippy::cast_possible_truncation, reason = "the same")]
    let y = |value: f64| BOTTOM - (f64::from(BOTTOM - TOP) * value / most) as i32;
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let text = |size: i32, h, v| ("sans-serif", size).into_font().color(&BLACK).pos(Pos::new(h, v));
    root.draw(&Text::new(title, (LEFT, 12), text(16, HPos::Left, VPos::Top)))?;
    for step in 0..=STEPS {
        let part = f64::from(step) / f64::from(STEPS);
        let (value, at) = (most * part, end * part);
        root.draw(&PathElement::new([(LEFT, y(value)), (RIGHT, y(value))], GRID))?;
        root.draw(&Text::new(format!("{value:.0}"), (LEFT - 8, y(value)), text(12, HPos::Right, VPos::Center)))?;
        root.draw(&Text::new(format!("{at:.0} s"), (x(at), BOTTOM + 8), text(12, HPos::Center, VPos::Top)))?;
    }
    for at in restarts {
        root.draw(&PathElement::new([(x(*at), TOP), (x(*at), BOTTOM)], RESTART))?;
    }
    let line: Vec<(i32, i32)> = points.iter().map(|(at, value)| (x(*at), y(*value))).collect();
    root.draw(&PathElement::new(line, LINE))?;
    root.present()?;
    Ok(())
}
