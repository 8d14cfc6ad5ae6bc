//! A table for people: which columns a width has room for, and what is cut where it has not.

use std::borrow::Cow;
use std::iter::repeat_n;

/// Narrower than this no column gets.
const LEAST: usize = 8;
/// Between two columns.
const GAP: usize = 2;

/// From which width on a column is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) enum Shown {
    /// Always.
    Any,
    /// 120 columns.
    Medium,
    /// 200 columns.
    Large,
    /// `-o wide` alone.
    Wide,
}

/// How wide the output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Width {
    /// A terminal's: longer lines are cut.
    Columns(usize),
    /// A pipe's or a file's: nothing is cut.
    Unlimited,
    /// All columns, nothing is cut.
    Wide,
}

impl Width {
    fn shows(self, from: Shown) -> bool {
        match self {
            Self::Wide => true,
            Self::Unlimited => from <= Shown::Medium,
            Self::Columns(columns) => match from {
                Shown::Any => true,
                Shown::Medium => columns >= 120,
                Shown::Large => columns >= 200,
                Shown::Wide => false,
            },
        }
    }
}

#[derive(Clone, Debug)]
struct Column {
    head: &'static str,
    from: Shown,
    /// To the right.
    number: bool,
    /// Never cut.
    whole: bool,
}

/// Lines of cells.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Grid {
    columns: Vec<Column>,
    lines: Vec<Vec<String>>,
}

impl Grid {
    /// A column of text, cut in its middle where there is no room.
    pub(in crate::cli) fn text(mut self, head: &'static str, from: Shown) -> Self {
        self.columns.push(Column { head, from, number: false, whole: false });
        self
    }

    /// A column of words, which are never cut.
    pub(in crate::cli) fn word(mut self, head: &'static str, from: Shown) -> Self {
        self.columns.push(Column { head, from, number: false, whole: true });
        self
    }

    /// A column of numbers.
    pub(in crate::cli) fn number(mut self, head: &'static str, from: Shown) -> Self {
        self.columns.push(Column { head, from, number: true, whole: true });
        self
    }

    /// A line; as many cells as there are columns, or a heading alone.
    pub(in crate::cli) fn line(&mut self, cells: impl IntoIterator<Item = String>) {
        self.lines.push(cells.into_iter().collect());
    }

    /// A line whose cells are made only where the width has room for their columns.
    pub(in crate::cli) fn line_within<'c>(
        &mut self,
        width: Width,
        cells: impl IntoIterator<Item = &'c dyn Fn() -> String>,
    ) {
        let shown = self.columns.iter().map(|column| width.shows(column.from));
        let cells = cells.into_iter().zip(shown).map(|(cell, shown)| if shown { cell() } else { String::new() });
        self.lines.push(cells.collect());
    }

    /// Whether no line was added.
    pub(in crate::cli) const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// All cells but those that change by themselves.
    pub(in crate::cli) fn without_ages(&self) -> String {
        let stays = |at: usize| !matches!(self.columns[at].head, "AGE" | "IDLE");
        let cells = self.lines.iter().flat_map(|line| line.iter().enumerate().filter(|(at, _)| stays(*at)));
        cells.map(|(_, cell)| cell.as_str()).collect::<Vec<_>>().join("\t")
    }

    /// The lines, each ended; the first is that of the heads, if wanted.
    pub(in crate::cli) fn render(&self, width: Width, heads: bool) -> Vec<String> {
        let shown: Vec<usize> = (0..self.columns.len()).filter(|&at| width.shows(self.columns[at].from)).collect();
        let head: Vec<String> = self.columns.iter().map(|column| column.head.to_owned()).collect();
        let lines = || heads.then_some(&head).into_iter().chain(&self.lines);
        let mut widths = vec![0; shown.len()];
        for line in lines().filter(|line| !self.is_heading(line)) {
            for (room, &at) in widths.iter_mut().zip(&shown) {
                *room = line.get(at).map_or(0, |cell| length(cell)).max(*room);
            }
        }
        if let Width::Columns(room) = width {
            self.fit(&shown, &mut widths, room);
        }
        lines().map(|line| self.line_of(line, &shown, &widths, width)).collect()
    }

    /// A line of one cell, which goes over all columns.
    fn is_heading(&self, line: &[String]) -> bool {
        line.len() == 1 && self.columns.len() > 1
    }

    fn line_of(&self, line: &[String], shown: &[usize], widths: &[usize], width: Width) -> String {
        if let ([all], true) = (line, self.is_heading(line)) {
            return if let Width::Columns(room) = width { cut(all, room).into_owned() } else { all.clone() };
        }
        let mut text = String::with_capacity(widths.iter().sum::<usize>() + GAP * widths.len());
        for (place, (&at, &room)) in shown.iter().zip(widths).enumerate() {
            let cut = cut(line.get(at).map_or("", String::as_str), room);
            let gap = if place == 0 { 0 } else { GAP };
            let pad = room.saturating_sub(length(&cut));
            let (before, after) = if self.columns[at].number { (gap + pad, 0) } else { (gap, pad) };
            text.extend(repeat_n(' ', before));
            text.push_str(&cut);
            text.extend(repeat_n(' ', after));
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// Takes room from the widest texts until all fits.
    fn fit(&self, shown: &[usize], widths: &mut [usize], room: usize) {
        let gaps = GAP * shown.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > room {
            let least = |at: usize| self.columns[shown[at]].head.len().max(LEAST);
            let text = |&at: &usize| !self.columns[shown[at]].whole && widths[at] > least(at);
            let Some(widest) = (0..widths.len()).filter(text).max_by_key(|&at| widths[at]) else { return };
            widths[widest] -= 1;
        }
    }
}

/// Characters of a text: the bytes of almost every one.
fn length(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}

/// Cut in its middle: both ends of a name tell more than its middle.
fn cut(text: &str, room: usize) -> Cow<'_, str> {
    let length = length(text);
    if length <= room || room == 0 {
        return Cow::Borrowed(text);
    }
    let end = (room - 1) / 2;
    let begin = room - 1 - end;
    Cow::Owned(text.chars().take(begin).chain(['…']).chain(text.chars().skip(length - end)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::default().text("NAME", Shown::Any).number("COUNT", Shown::Any).text("MORE", Shown::Medium);
        grid.line(["shop/web-frontend-with-a-long-name".to_owned(), "7".to_owned(), "x".to_owned()]);
        grid.line(["a".to_owned(), "1234567".to_owned(), String::new()]);
        grid
    }

    #[test]
    fn a_terminal_cuts_texts_in_their_middle_and_numbers_never() {
        let lines = grid().render(Width::Columns(24), true);
        assert_eq!(lines, ["NAME               COUNT", "shop/we…ng-name        7", "a                1234567"]);
        assert!(lines.iter().all(|line| line.chars().count() <= 24));
    }

    #[test]
    fn a_pipe_cuts_nothing_and_wider_terminals_show_more() {
        let lines = grid().render(Width::Unlimited, false);
        assert_eq!(lines[0], "shop/web-frontend-with-a-long-name        7  x");
        assert!(!grid().render(Width::Columns(80), true)[0].contains("MORE"));
        assert!(grid().render(Width::Columns(120), true)[0].contains("MORE"));
    }
}
