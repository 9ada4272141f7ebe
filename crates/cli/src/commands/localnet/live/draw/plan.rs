//! Which part of the view gets which rows.

use ratatui::layout::Rect;

/// How many rows the parts could fill.
pub struct Wanted {
    /// Miners.
    pub miners: usize,
    /// Nodes, the miners included.
    pub nodes: usize,
    /// Nodes with a message.
    pub messages: usize,
    /// Nodes whose message is news.
    pub news: usize,
    /// Windows.
    pub windows: usize,
    /// Measured losses.
    pub losses: usize,
}

/// The areas of the parts, from top to bottom; those without room are empty. They never overlap.
#[derive(Debug)]
pub struct Plan {
    pub header: Rect,
    pub loss: Rect,
    pub curve: Rect,
    pub round: Rect,
    pub theta: Rect,
    pub miners: Rect,
    pub nodes: Rect,
    pub messages: Rect,
    pub history: Rect,
    pub hint: Rect,
}

const BARS: u16 = 3;
const CURVE_MAX: u16 = 20;
/// With fewer rows, the tables come before the messages.
const CROWDED: u16 = 10;

/// Rows that are still free.
struct Free(u16);

impl Free {
    /// Takes up to `rows`, but nothing if there are not even `least`.
    fn take(&mut self, rows: u16, least: u16) -> u16 {
        let taken = if self.0 < least { 0 } else { rows.min(self.0) };
        self.0 -= taken;
        taken
    }
}

impl Plan {
    /// Divides `area`.
    pub fn new(area: Rect, wanted: &Wanted) -> Self {
        let rows = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        let mut free = Free(area.height);
        let header = free.take(1, 1);
        let [theta, loss, hint, round] = [(); 4].map(|()| free.take(1, 1));
        let [all_messages, news] = [wanted.messages, wanted.news].map(|number| rows(number).saturating_add(1));
        let some = |want: u16, limit: u16| if want < 2 { 0 } else { want.min(limit) };
        // A trouble's words must not be crowded out by long tables.
        let mut messages = if free.0 < CROWDED { 0 } else { free.take(some(news, 3), 2) };
        let (miners_want, nodes_want) = (rows(wanted.miners).saturating_add(1), rows(wanted.nodes).saturating_add(1));
        // Where both tables do not fit, the miners' gets the larger part: it tells what the others do not.
        let miners_most = miners_want.min(free.0.saturating_sub(nodes_want).max(free.0 - free.0 * 2 / 5));
        let mut miners = free.take(miners_most, 2);
        let nodes = free.take(nodes_want, 2);
        miners += free.take(miners_want - miners.min(miners_want), 1);
        let mut curve = if wanted.losses == 0 { 0 } else { free.take(BARS, 1) };
        if messages == 0 {
            messages = free.take(some(news, 3), 2);
        }
        // Blank rows set the tables apart.
        let before_miners = free.take(u16::from(miners > 0), 1);
        let before_nodes = free.take(u16::from(nodes > 0), 1);
        let before_messages = free.take(u16::from(messages > 0), 1);
        if messages > 0 {
            messages += free.take(news - messages, 1);
        }
        if curve > 0 {
            curve += free.take(super::CHART_HEIGHT + 3 - curve, super::CHART_HEIGHT - curve);
        }
        // Old messages are less than the curve and more than old windows.
        let before_messages = before_messages + if messages == 0 && wanted.messages > 0 { free.take(1, 3) } else { 0 };
        messages += free.take(some(all_messages, u16::MAX).saturating_sub(messages), 2 - messages.min(1));
        let before_history = free.take(u16::from(free.0 > 2 && wanted.windows > 0), 1);
        let history = free.take(some(rows(wanted.windows).saturating_add(1), u16::MAX), 2);
        if curve > super::CHART_HEIGHT {
            curve += free.take(CURVE_MAX.saturating_sub(curve), 1);
        }
        let mut y = area.y;
        let mut next = |height: u16| {
            let part = Rect { x: area.x, y, width: area.width, height };
            y += height;
            part
        };
        Self {
            header: next(header),
            loss: next(loss),
            curve: next(curve),
            round: next(round),
            theta: next(theta),
            miners: gap(&mut next, before_miners, miners),
            nodes: gap(&mut next, before_nodes, nodes),
            messages: gap(&mut next, before_messages, messages),
            history: gap(&mut next, before_history, history),
            hint: Rect { y: area.bottom() - hint, height: hint, ..area },
        }
    }
}

fn gap(next: &mut impl FnMut(u16) -> Rect, blank: u16, height: u16) -> Rect {
    next(blank);
    next(height)
}
