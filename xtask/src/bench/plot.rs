//! Bars with whiskers as SVG: one picture for each set of figures.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::spread::Spread;

/// One bar.
pub(super) struct Bar {
    /// What it is.
    pub(super) label: String,
    /// How long it is, from the least to the greatest.
    pub(super) value: Spread,
    /// What is written at its end.
    pub(super) note: String,
    /// Whose it is, for its colour.
    pub(super) side: Side,
}

/// Whose a bar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Without a proxy, or another measure.
    Base,
    /// Sluice's.
    Sluice,
    /// kube-proxy's.
    KubeProxy,
}

impl Side {
    const fn color(self) -> RGBColor {
        match self {
            Self::Base => RGBColor(150, 150, 150),
            Self::Sluice => RGBColor(38, 110, 180),
            Self::KubeProxy => RGBColor(215, 120, 40),
        }
    }
}

/// A picture.
pub(super) struct Chart<'a> {
    /// Above it.
    pub(super) title: &'a str,
    /// Below it: what the bars' length is.
    pub(super) axis: &'a str,
    /// Where a line is drawn that the bars are compared with.
    pub(super) line: Option<f64>,
    /// From top to bottom.
    pub(super) bars: &'a [Bar],
}

const WIDTH: i32 = 960;
const ROW: i32 = 26;
const LABELS: i32 = 400;
const NOTES: i32 = 130;
const TOP: i32 = 44;
const BOTTOM: i32 = 52;
const GRID: RGBColor = RGBColor(225, 225, 225);

impl Chart<'_> {
    /// Writes it.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        // What goes wrong in a back end borrows from it; only the words of it are of interest.
        self.draw(path).map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
    }

    fn draw(&self, path: &Path) -> Result<(), Box<dyn std::error::Error + '_>> {
        let rows = i32::try_from(self.bars.len())?;
        let height = TOP + rows * ROW + BOTTOM;
        let root = SVGBackend::new(path, (WIDTH.unsigned_abs(), height.unsigned_abs())).into_drawing_area();
        root.fill(&WHITE)?;
        let greatest = self.bars.iter().map(|bar| bar.value.max).chain(self.line).fold(0.0, f64::max);
        let (step, end) = scale(greatest);
        let width = WIDTH - LABELS - NOTES;
        #[allow(clippy::cast_possible_truncation, reason = "a pixel of a picture a thousand of them wide")]
        let x = |value: f64| LABELS + (f64::from(width) * value / end) as i32;
        let bottom = TOP + rows * ROW;
        let text = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
        let at = |h, v, size| text(size).pos(Pos::new(h, v));

        root.draw(&Text::new(self.title, (WIDTH / 2, 14), at(HPos::Center, VPos::Top, 17)))?;
        root.draw(&Text::new(self.axis, (LABELS + width / 2, bottom + 30), at(HPos::Center, VPos::Top, 13)))?;
        for tick in ticks(step, end) {
            root.draw(&PathElement::new([(x(tick), TOP), (x(tick), bottom)], GRID))?;
            root.draw(&Text::new(label(tick, step), (x(tick), bottom + 6), at(HPos::Center, VPos::Top, 12)))?;
        }
        for (row, bar) in (0..).zip(self.bars) {
            let (top, middle) = (TOP + row * ROW, TOP + row * ROW + ROW / 2);
            let color = bar.side.color();
            let Spread { min, median, max } = bar.value;
            root.draw(&Rectangle::new([(x(0.0), top + 5), (x(median), top + ROW - 5)], color.filled()))?;
            root.draw(&PathElement::new([(x(min), middle), (x(max), middle)], BLACK))?;
            for end in [min, max] {
                root.draw(&PathElement::new([(x(end), middle - 4), (x(end), middle + 4)], BLACK))?;
            }
            root.draw(&Text::new(bar.label.as_str(), (LABELS - 8, middle), at(HPos::Right, VPos::Center, 13)))?;
            let end = x(max).max(x(median)) + 6;
            root.draw(&Text::new(bar.note.as_str(), (end, middle), at(HPos::Left, VPos::Center, 12)))?;
        }
        if let Some(line) = self.line {
            root.draw(&PathElement::new([(x(line), TOP), (x(line), bottom)], RGBColor(180, 40, 40)))?;
        }
        root.present()?;
        Ok(())
    }
}

/// Distance of the ticks, and where the axis ends: at least at the greatest value.
fn scale(greatest: f64) -> (f64, f64) {
    let greatest = if greatest > 0.0 { greatest } else { 1.0 };
    let magnitude = 10f64.powf((greatest / 6.0).log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * magnitude);
    let step = steps.into_iter().find(|step| greatest / step <= 7.0).unwrap_or(10.0 * magnitude);
    (step, (greatest / step).ceil() * step)
}

fn ticks(step: f64, end: f64) -> impl Iterator<Item = f64> {
    (0..).map(move |n| f64::from(n) * step).take_while(move |tick| *tick <= end + step / 1e6)
}

fn label(tick: f64, step: f64) -> String {
    let digits = if step >= 1.0 {
        0
    } else if step >= 0.1 {
        1
    } else {
        2
    };
    format!("{tick:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_holds_the_greatest_value_in_a_few_round_steps() {
        for greatest in [0.003, 0.4, 1.0, 1.27, 9.0, 33.3, 1_234.0] {
            let (step, end) = scale(greatest);
            assert!(end >= greatest && end < greatest + step + 1e-9, "{greatest}: {step} {end}");
            assert!((2..=8).contains(&ticks(step, end).count()), "{greatest}: {step} {end}");
        }
        assert!(scale(0.0).1 > 0.0);
    }

    #[test]
    fn a_picture_has_each_bar_with_its_label_and_its_note() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.svg");
        let value = Spread { min: 0.8, median: 0.9, max: 1.0 };
        let bars = [Bar { label: "tax".into(), value, note: "0.90".into(), side: Side::Sluice }];
        Chart { title: "CRR", axis: "rate", line: Some(1.0), bars: &bars }.write(&path).unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        for part in ["<svg", "tax", "0.90", "CRR", "#266EB4"] {
            assert!(svg.contains(part), "{part}");
        }
    }
}
