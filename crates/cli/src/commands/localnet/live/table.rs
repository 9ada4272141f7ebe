//! Tables whose columns give way to the width: the least important are left out first, the last takes what is over.

use super::text::cut;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// The titles' style.
pub const TITLE: Style = Style::new().bold().fg(ratatui::style::Color::Cyan);
const GAP: usize = 2;
/// A cell of this width still says something.
const WORD: usize = 9;

/// A column and its cells, one for each row.
pub struct Column {
    title: &'static str,
    cells: Vec<Line<'static>>,
    /// Lower is more important; 0 is never left out.
    rank: u8,
    right: bool,
}

impl Column {
    /// Text, aligned left.
    pub fn left(rank: u8, title: &'static str, cells: Vec<Line<'static>>) -> Self {
        Self { title, cells, rank, right: false }
    }

    /// Numbers, aligned right.
    pub fn right(rank: u8, title: &'static str, cells: Vec<Line<'static>>) -> Self {
        Self { title, cells, rank, right: true }
    }

    fn width(&self) -> usize {
        self.cells.iter().map(Line::width).fold(self.title.chars().count(), usize::max)
    }
}

/// Draws the titles and as many rows as fit `area`; says so when some do not. The last column may be cut.
pub fn draw(mut columns: Vec<Column>, rows: usize, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    leave_out(&mut columns, usize::from(area.width));
    let widths = widths(&columns, usize::from(area.width));
    let titles = columns.iter().map(|column| Line::styled(column.title, TITLE));
    put(titles, &columns, &widths, area, 0, buffer);
    let room = usize::from(area.height) - 1;
    let shown = if rows > room { room.saturating_sub(1) } else { rows };
    for row in 0..shown {
        let cells = columns.iter().map(|column| column.cells.get(row).cloned().unwrap_or_default());
        put(cells, &columns, &widths, area, row + 1, buffer);
    }
    if shown < rows && room > 0 {
        let more = Span::styled(format!("… and {} more", rows - shown), Style::new().dim());
        buffer.set_span(area.x, area.y + shown as u16 + 1, &more, area.width);
    }
}

fn leave_out(columns: &mut Vec<Column>, width: usize) {
    // The last column may be cut, but never to less than its title or a word.
    let least = |columns: &[Column]| {
        let last = columns.last().map_or(0, |column| column.title.chars().count().max(column.width().min(WORD)));
        columns.iter().rev().skip(1).map(|column| column.width() + GAP).sum::<usize>() + last
    };
    while least(columns) > width {
        let Some((index, column)) = columns.iter().enumerate().max_by_key(|(_, column)| column.rank) else { return };
        if column.rank == 0 {
            return;
        }
        columns.remove(index);
    }
}

fn widths(columns: &[Column], width: usize) -> Vec<usize> {
    let mut left = width;
    let mut take = |column: &Column| {
        let taken = column.width().min(left);
        left = left.saturating_sub(taken + GAP);
        taken
    };
    columns.iter().map(&mut take).collect()
}

fn put(cells: impl Iterator<Item = Line<'static>>, columns: &[Column], widths: &[usize], area: Rect, row: usize, buffer: &mut Buffer) {
    let mut x = 0;
    for ((cell, column), &width) in cells.zip(columns).zip(widths) {
        let cell = fit(cell, width);
        let pad = if column.right { width - cell.width().min(width) } else { 0 };
        buffer.set_line(area.x + (x + pad) as u16, area.y + row as u16, &cell, (width - pad) as u16);
        x = (x + width + GAP).min(usize::from(area.width));
    }
}

/// `line` in at most `width` columns, with an ellipsis where it was cut.
pub fn fit(line: Line<'static>, width: usize) -> Line<'static> {
    if line.width() <= width {
        return line;
    }
    let mut left = width;
    let mut spans = Vec::new();
    for span in line.spans {
        let length = span.content.chars().count();
        // One column is kept for the ellipsis, since something follows or this is cut.
        let text = if length < left { span.content.into_owned() } else { cut(&format!("{} ", span.content), left) };
        left = left.saturating_sub(text.chars().count());
        spans.push(Span::styled(text, span.style));
        if left == 0 {
            break;
        }
    }
    Line { spans, ..line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_ends_with_an_ellipsis() {
        let line = Line::from(vec![Span::raw("abc"), Span::raw("defgh")]);
        let fitted = |width| fit(line.clone(), width).to_string();
        assert_eq!([8, 7, 4, 3, 1, 0].map(fitted), ["abcdefgh", "abcdef…", "abc…", "ab…", "…", ""]);
    }

    #[test]
    fn unimportant_columns_go_first() {
        let cells = |text: &'static str| vec![Line::from(text)];
        let table = |width| {
            let columns = vec![
                Column::left(0, "name", cells("miner-0")),
                Column::right(2, "rate", cells("12.3k")),
                Column::right(1, "weight", cells("0.5")),
            ];
            let area = Rect::new(0, 0, width, 2);
            let mut buffer = Buffer::empty(area);
            draw(columns, 1, area, &mut buffer);
            buffer.content().iter().map(|cell| cell.symbol()).collect::<String>()
        };
        assert_eq!(table(22), "name      rate  weightminer-0  12.3k     0.5");
        assert_eq!(table(15), "name     weightminer-0     0.5");
        assert_eq!(table(5), "name mine…");
    }
}
