//! `templar monitor`: any number of nodes on one screen, from what they write and publish.
//!
//! Nothing is asked of the nodes: journals are read from where the last look ended, buckets twice a minute. The screen is the local network's:
//! alternate, no raw mode, so that Ctrl-C stays a signal.

mod draw;
#[cfg(test)]
mod tests;
mod view;

use super::localnet::live::Screen;
use super::watched::{Nodes, NodesArgs};
use clap::{Args, ValueEnum};
use miette::IntoDiagnostic;
use ratatui::Terminal;
use ratatui::backend::{CrosstermBackend, TestBackend};
use std::io::{self, IsTerminal};
use std::time::Duration;
use templar_ops::alerts::Watch;
use templar_ops::metrics;
use view::View;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between two requests to buckets.
const LOOKS_OF_BUCKETS: u32 = 30;
/// The screen that `--once` draws where there is no terminal.
const ONCE: (u16, u16) = (160, 40);

/// Show nodes as they live: windows, loss, speed, gathering, scores, memory, alerts. Ends with Ctrl-C.
#[derive(Debug, Args)]
pub struct MonitorArgs {
    #[command(flatten)]
    nodes: NodesArgs,
    /// Look once, print, and end.
    #[arg(long, group = "once_or_list")]
    once: bool,
    /// List the figures that are shown, and those of journals, with their meanings, and show no node.
    #[arg(long, group = "once_or_list")]
    list: bool,
    /// With --list, print one of the handbook's pages.
    #[arg(long, hide = true, requires = "list", value_name = "PAGE")]
    markdown: Option<Page>,
    /// With --once or --list, print JSON.
    #[arg(long, requires = "once_or_list")]
    json: bool,
}

/// A page of the handbook that is made of the catalogue.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Page {
    Metrics,
    Journal,
}

impl MonitorArgs {
    /// Shows the nodes.
    ///
    /// # Errors
    /// There are none, or neither terminal nor output takes what is written.
    pub fn run(self) -> miette::Result<()> {
        if self.list {
            return super::params::print(&self.catalogue()?);
        }
        let mut nodes = self.nodes.open()?;
        let mut watch = Watch::new(crate::config::load()?.alerts().clone());
        if self.once || !io::stdout().is_terminal() {
            let view = look(&mut watch, &nodes);
            let text = if self.json { serde_json::to_string_pretty(&view).into_diagnostic()? + "\n" } else { screen(&view, ONCE)? + "\n" };
            return super::params::print(&text);
        }
        let shown = Screen::enter().into_diagnostic()?;
        let mut terminal = Terminal::new(CrosstermBackend::new(io::stdout())).into_diagnostic()?;
        let mut looks = 0;
        while shown.is_ours() {
            let view = look(&mut watch, &nodes);
            terminal.draw(|frame| draw::draw(&view, frame.area(), frame.buffer_mut())).into_diagnostic()?;
            looks += 1;
            std::thread::sleep(LOOK);
            if !nodes.remote() || looks % LOOKS_OF_BUCKETS == 0 {
                // A bucket that does not answer now may do so later; what is known stays on the screen.
                let read = nodes.read();
                if !nodes.remote() {
                    read?;
                }
            }
        }
        Ok(())
    }
}

impl MonitorArgs {
    fn catalogue(&self) -> miette::Result<String> {
        Ok(match self.markdown {
            Some(Page::Metrics) => metrics::metrics_page(),
            Some(Page::Journal) => metrics::journal_page(),
            None if self.json => {
                let groups: Vec<_> = metrics::monitor().iter().chain(metrics::journal()).collect();
                serde_json::to_string_pretty(&groups).into_diagnostic()? + "\n"
            }
            None => metrics::all().map(|(name, meaning)| format!("{name:<36} {meaning}\n")).collect(),
        })
    }
}

fn look(watch: &mut Watch, nodes: &Nodes) -> View {
    let (all, meant, now) = (nodes.all(), nodes.meant(), nodes.now_ms());
    for (record, running) in &meant {
        watch.look(record, &all, *running, now);
    }
    View::new(&meant, &all, watch, now)
}

/// The view as text, as a terminal of this size would show it.
fn screen(view: &View, (width, height): (u16, u16)) -> miette::Result<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).into_diagnostic()?;
    terminal.draw(|frame| draw::draw(view, frame.area(), frame.buffer_mut())).into_diagnostic()?;
    let cells = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| cells[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    let rows: Vec<String> = (0..height.saturating_sub(1)).map(row).collect();
    Ok(rows.join("\n").trim_end().to_owned())
}
