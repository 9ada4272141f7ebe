//! The network as a live view: the whole terminal, drawn anew when something has changed.
//!
//! The view uses the alternate screen but not raw mode: Ctrl-C stays a signal of the terminal, so that stopping works whatever state the
//! view is in, and nothing has to read keys. The price, keys that echo onto the view, is paid by writing every cell again now and then.
//! What always holds: the normal screen and the cursor come back when the view ends, by itself, by an error or by a panic of any thread,
//! and the windows are then printed there, so that a run leaves a trace. Whatever the terminal does, the network goes on: a view that
//! cannot be drawn gives way to plain lines.

mod draw;
mod scene;
pub(crate) mod table;
#[cfg(test)]
mod tests;
pub(crate) mod text;

use super::earnings::AllEarnings;
use super::plain::Plain;
use super::progress::Progress;
use super::setup::Network;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, MoveTo, Show};
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, size};
use ratatui::crossterm::{execute, queue};
use scene::{Scene, Setting};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use templar_node::journal::PeerEvaluation;
use templar_protocol::{Uid, Window};

/// After this many seconds all cells are written again, whatever others have written over them.
const REWRITE_S: u64 = 3;
/// All cells of a screen fit, so that a frame reaches the terminal in one piece.
const BUFFER_BYTES: usize = 256 << 10;

/// How the network is shown.
pub enum View {
    /// Line by line.
    Plain(Plain),
    /// On the whole terminal.
    Live(Box<Live>),
}

impl View {
    /// The live view on a terminal, plain lines elsewhere; with `json`, they go to standard error.
    pub fn choose(json: bool, network: &Network, windows: Option<u64>, begun: Instant) -> Self {
        // A dumb terminal cannot be addressed.
        let capable = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        if json || !capable || !io::stdout().is_terminal() {
            return Self::Plain(Plain::new(json));
        }
        match Live::new(Setting::new(network, windows), begun) {
            Ok(live) => Self::Live(Box::new(live)),
            Err(_) => Self::Plain(Plain::new(false)),
        }
    }

    /// Shows what is new.
    pub fn show(&mut self, progress: &Progress) {
        match self {
            Self::Plain(plain) => plain.show(progress),
            // Without a screen the network's work is as good.
            Self::Live(live) => {
                if live.show(progress).is_err() {
                    self.finish(progress);
                }
            }
        }
    }

    /// Says what happened to a process: at once as a line, or after a live view has ended, which shows it by its own means.
    pub fn tell(&mut self, news: String) {
        match self {
            Self::Plain(_) => eprintln!("{news}"),
            Self::Live(live) => live.news.push(news),
        }
    }

    /// Ends a live view: the normal screen comes back and gets the windows as plain lines.
    pub fn finish(&mut self, progress: &Progress) {
        if let Self::Live(live) = self {
            let news = std::mem::take(&mut live.news);
            // The assignment drops the live view, which brings the normal screen back.
            *self = Self::Plain(Plain::new(false));
            self.show(progress);
            news.into_iter().for_each(|news| self.tell(news));
        }
    }
}

/// The live view.
pub struct Live {
    setting: Setting,
    begun: Instant,
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    seen: Option<Seen>,
    said: Vec<(Option<String>, Duration)>,
    rewritten_s: u64,
    news: Vec<String>,
    /// Dropped last: the terminal writes nothing after it.
    screen: Screen,
}

/// What the view was drawn from: as long as it is the same, nothing is drawn.
#[derive(PartialEq)]
struct Seen {
    second: u64,
    size: (u16, u16),
    windows: usize,
    entries: usize,
    nodes: Vec<(Option<Window>, Option<String>)>,
    evaluations: BTreeMap<Uid, PeerEvaluation>,
    weights: BTreeMap<Uid, f64>,
    penalties: BTreeMap<Uid, u64>,
    earnings: AllEarnings,
}

impl Seen {
    fn new(progress: &Progress, second: u64, size: (u16, u16)) -> Self {
        let nodes = progress.nodes.iter().map(|node| (node.last.as_ref().map(|last| last.window), node.message.clone()));
        Self {
            second,
            size,
            windows: progress.windows.len(),
            entries: progress.windows.values().rev().take(8).map(|window| window.entries.len()).sum(),
            nodes: nodes.collect(),
            evaluations: progress.evaluations.clone(),
            weights: progress.weights.clone(),
            penalties: progress.penalties.iter().map(|(uid, (window, _))| (*uid, *window)).collect(),
            earnings: progress.earnings.clone(),
        }
    }
}

impl Live {
    fn new(setting: Setting, begun: Instant) -> io::Result<Self> {
        // The screen first: if what follows fails, dropping it brings the normal one back.
        let screen = Screen::enter()?;
        let backend = CrosstermBackend::new(BufWriter::with_capacity(BUFFER_BYTES, io::stdout()));
        Ok(Self { setting, begun, terminal: Terminal::new(backend)?, seen: None, said: vec![], rewritten_s: 0, news: vec![], screen })
    }

    /// Draws, if something has changed since the last time.
    fn show(&mut self, progress: &Progress) -> io::Result<()> {
        if !self.screen.is_ours() {
            return Err(io::Error::other("a panic has brought the normal screen back"));
        }
        let elapsed = self.begun.elapsed();
        let seen = Seen::new(progress, elapsed.as_secs(), size()?);
        if self.seen.as_ref() == Some(&seen) {
            return Ok(());
        }
        self.seen = Some(seen);
        self.listen(progress, elapsed);
        if elapsed.as_secs() >= self.rewritten_s + REWRITE_S {
            self.rewritten_s = elapsed.as_secs();
            self.forget_cells();
        }
        let said: Vec<Duration> = self.said.iter().map(|(_, at)| *at).collect();
        let scene = Scene { setting: &self.setting, progress, elapsed, said: &said };
        self.terminal.draw(|frame| draw::draw(&scene, frame.area(), frame.buffer_mut()))?;
        // The echo of a key goes to a corner where it scrolls nothing.
        let backend = self.terminal.backend_mut();
        queue!(backend, MoveTo(0, 0))?;
        backend.flush()
    }

    /// Notes when a node says something new.
    fn listen(&mut self, progress: &Progress, elapsed: Duration) {
        self.said.resize(progress.nodes.len(), (None, elapsed));
        for (said, node) in self.said.iter_mut().zip(&progress.nodes) {
            if said.0 != node.message {
                *said = (node.message.clone(), elapsed);
            }
        }
    }

    /// Makes the next frame write every cell, without erasing the screen, which would flicker.
    fn forget_cells(&mut self) {
        for cell in &mut self.terminal.current_buffer_mut().content {
            // No part of the view uses this character, so that every cell differs.
            cell.set_symbol("\u{2592}");
        }
        self.terminal.swap_buffers();
    }
}

/// Whether the alternate screen is shown. One for the process, as there is one terminal, and a panic of any thread must find it.
static ALTERNATE: AtomicBool = AtomicBool::new(false);

/// The alternate screen, for as long as this lives.
pub(crate) struct Screen;

impl Screen {
    pub(crate) fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                // The message of the panic must be on the screen that stays.
                leave();
                before(panic);
            }));
        });
        ALTERNATE.store(true, Ordering::SeqCst);
        let screen = Self;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    pub(crate) fn is_ours(&self) -> bool {
        ALTERNATE.load(Ordering::SeqCst)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Brings the normal screen and the cursor back, once.
fn leave() {
    if ALTERNATE.swap(false, Ordering::SeqCst) {
        // A terminal that is gone needs nothing back.
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    }
}
