//! `sluice top` on a terminal, and the lines that it shows.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::{DefaultTerminal, Frame};

use super::rates::{By, Row, Sample, between};
use crate::cli::list::{Grid, Owner, Shown, Width, amount};

/// The keys, in the last line.
const KEYS: &str = "q quit   s sort   b Services or backends   p pause";

/// Before the first numbers are shown.
const FIRST: Duration = Duration::from_millis(500);

/// What is shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct View {
    pub(super) backends: bool,
    pub(super) by: By,
    pub(super) paused: bool,
}

/// By second, of an amount in so many milliseconds.
const fn rate(amount: u64, millis: u64) -> u64 {
    amount.saturating_mul(1000).saturating_add(millis / 2) / millis
}

impl View {
    /// The sum, the heads, and at most so many rows.
    pub(super) fn lines(self, rows: &[Row], millis: u64, width: Width, most: usize) -> Vec<String> {
        let sum = rows.iter().fold(Row::default(), |sum, row| sum.plus(row));
        let per_second = |amount| rate(amount, millis);
        let [there, back] = sum.bytes.map(|bytes| amount::bytes(per_second(bytes)));
        let title = format!(
            "{} {}; by second: {} connections, {there}B to backends, {back}B back; {} unanswered, {} refused, {} failed{}",
            rows.len(),
            if self.backends { "backends" } else { "Service ports" },
            per_second(sum.connections),
            per_second(sum.unanswered),
            per_second(sum.refused),
            per_second(sum.failed),
            if self.paused { "; paused" } else { "" },
        );
        let title = match width {
            Width::Columns(room) => title.chars().take(room).collect(),
            _ => title,
        };
        let mut grid = Grid::default()
            .text(if self.backends { "BACKEND" } else { "SERVICE" }, Shown::Any)
            .text("OF", if self.backends { Shown::Any } else { Shown::Wide })
            .number("CONN/S", Shown::Any)
            .number("UNANSWERED/S", Shown::Any)
            .number("REFUSED/S", Shown::Any)
            .number("FAILED/S", Shown::Any)
            .number("BYTES/S", Shown::Any)
            .number("BACK/S", Shown::Any)
            .number("PACKETS/S", Shown::Medium)
            .number("PACKETS-BACK/S", Shown::Medium);
        for row in rows.iter().take(most) {
            let service = format!("{}/{}", row.owner.service_port(), row.owner.protocol);
            let of = |amount| per_second(amount).to_string();
            grid.line([
                row.backend.map_or_else(|| service.clone(), |backend| backend.to_string()),
                service,
                of(row.connections),
                of(row.unanswered),
                of(row.refused),
                of(row.failed),
                amount::bytes(per_second(row.bytes[0])),
                amount::bytes(per_second(row.bytes[1])),
                of(row.packets[0]),
                of(row.packets[1]),
            ]);
        }
        [title].into_iter().chain(grid.render(width, true)).collect()
    }

    /// Fills a frame.
    pub(super) fn draw(self, frame: &mut Frame<'_>, rows: &[Row], millis: u64) {
        let area = frame.area();
        let room = usize::from(area.height).saturating_sub(3);
        let lines = self.lines(rows, millis, Width::Columns(area.width.into()), room);
        let mut text: Vec<Line<'_>> = Vec::new();
        for (at, line) in lines.into_iter().enumerate() {
            let style = match at {
                0 => Style::new().add_modifier(Modifier::BOLD),
                1 => Style::new().add_modifier(Modifier::REVERSED),
                _ if rows.get(at - 2).is_some_and(Row::has_errors) => Style::new().fg(Color::Red),
                _ => Style::new(),
            };
            text.push(Line::styled(line, style));
        }
        text.resize(usize::from(area.height).saturating_sub(1), Line::default());
        text.push(Line::styled(format!("{KEYS}   sorted by {}", self.by.name()), Style::new().fg(Color::DarkGray)));
        frame.render_widget(Text::from(text), area);
    }
}

/// Fills the terminal until a key ends it.
pub(super) fn run(
    view: View,
    interval: Duration,
    iterations: Option<u64>,
    first: Sample,
    look: impl Fn() -> anyhow::Result<Sample>,
    wants: impl Fn(&Owner) -> bool,
) -> anyhow::Result<()> {
    let mut terminal = ratatui::try_init().context("cannot use the terminal: try --batch")?;
    let done = follow(&mut terminal, view, interval, iterations, first, look, wants);
    ratatui::restore();
    done
}

fn follow(
    terminal: &mut DefaultTerminal,
    mut view: View,
    interval: Duration,
    iterations: Option<u64>,
    first: Sample,
    look: impl Fn() -> anyhow::Result<Sample>,
    wants: impl Fn(&Owner) -> bool,
) -> anyhow::Result<()> {
    // A moment, for the first numbers to mean something.
    thread::sleep(interval.min(FIRST));
    let (mut before, mut after) = (first, look()?);
    let (mut due, mut left) = (Instant::now() + interval, iterations);
    loop {
        let (mut rows, millis) = between(&before, &after, view.backends, view.by);
        rows.retain(|row| wants(&row.owner));
        terminal.draw(|frame| view.draw(frame, &rows, millis)).context("cannot draw")?;
        while let Some(key) = pressed(due)? {
            match key {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                KeyCode::Char('s') => view.by = view.by.next(),
                KeyCode::Char('b') => view.backends = !view.backends,
                KeyCode::Char('p') => view.paused = !view.paused,
                _ => continue,
            }
            break;
        }
        if Instant::now() < due {
            continue;
        }
        due = Instant::now() + interval;
        left = left.map(|left| left.saturating_sub(1));
        if left == Some(0) {
            return Ok(());
        }
        if !view.paused {
            before = std::mem::replace(&mut after, look()?);
        }
    }
}

/// The next key, if one is pressed in time; Ctrl-C is `q`.
fn pressed(until: Instant) -> anyhow::Result<Option<KeyCode>> {
    loop {
        let wait = until.saturating_duration_since(Instant::now());
        if !event::poll(wait).context("cannot read the terminal")? {
            return Ok(None);
        }
        if let Event::Key(key) = event::read().context("cannot read the terminal")?
            && key.kind == KeyEventKind::Press
        {
            let ends = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            return Ok(Some(if ends { KeyCode::Char('q') } else { key.code }));
        }
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::rates::tests::sample;
    use super::*;
    use crate::cli::list::golden;

    fn rows(backends: bool) -> (Vec<Row>, u64) {
        let begin = Instant::now();
        let (before, after) = (sample(begin, 100, 10), sample(begin + Duration::from_secs(2), 300, 1010));
        between(&before, &after, backends, By::Errors)
    }

    #[test]
    fn rates_are_printed_as_the_golden_files_say() {
        for (name, backends) in [("top", false), ("top-backends", true)] {
            let (rows, millis) = rows(backends);
            for columns in [80, 120, 200] {
                let view = View { backends, ..View::default() };
                let lines = view.lines(&rows, millis, Width::Columns(columns), 10);
                assert!(lines.iter().all(|line| line.chars().count() <= columns), "{lines:#?}");
                golden::compare(&format!("{name}.{columns}"), &lines.join("\n"));
            }
        }
    }

    #[test]
    fn a_terminal_shows_rates_errors_in_red_and_the_keys() {
        let (rows, millis) = rows(false);
        let mut terminal = Terminal::new(TestBackend::new(100, 12)).unwrap();
        terminal.draw(|frame| View::default().draw(frame, &rows, millis)).unwrap();
        let screen = terminal.backend().buffer().clone();
        let line = |y: u16| (0..100).map(|x| screen[(x, y)].symbol()).collect::<String>();
        assert!(line(0).starts_with("2 Service ports; by second: 300 connections"), "{}", line(0));
        assert!(line(1).starts_with("SERVICE") && line(2).starts_with("shop/orders/TCP"), "{}{}", line(1), line(2));
        assert_eq!(screen[(0, 2)].fg, Color::Red);
        assert!(line(11).starts_with("q quit") && line(11).contains("sorted by errors"), "{}", line(11));
    }
}
