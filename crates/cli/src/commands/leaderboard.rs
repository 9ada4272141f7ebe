//! `templar leaderboard`: all miners as a validator ranks them, the own position, and what separates it from the top.

use super::watched::NodesArgs;
use crate::fit::fit;
use clap::Args;
use miette::{IntoDiagnostic, miette};
use std::fmt::Write as _;
use templar_ops::leaderboard::{Board, Position, TOP, board};
use templar_protocol::Uid;

/// Rank all miners, and show what separates one of them from the top ten and which targets of a top miner it meets.
#[derive(Debug, Args)]
pub struct LeaderboardArgs {
    #[command(flatten)]
    nodes: NodesArgs,
    /// The own uid.
    #[arg(long, value_name = "UID", conflicts_with = "hotkey")]
    uid: Option<u16>,
    /// The own hotkey, an SS58 address; its journal or the validators' must tell of it.
    #[arg(long, value_name = "SS58")]
    hotkey: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl LeaderboardArgs {
    /// Ranks and prints.
    ///
    /// # Errors
    /// No validator is known, or not the own miner.
    pub fn run(self) -> miette::Result<()> {
        let nodes = self.nodes.open()?;
        let all = nodes.all();
        let own = match &self.hotkey {
            Some(hotkey) => {
                let found = all.iter().find(|record| record.hotkey == *hotkey).and_then(|record| record.uid);
                Some(found.ok_or_else(|| miette!(help = "name its uid with --uid", "no journal here is of the hotkey {hotkey}"))?)
            }
            None => self.uid.map(Uid),
        };
        let help = "name the directory of a validator or of a localnet with --dir, or a validator's bucket with --validator";
        let board = board(&all, own).ok_or_else(|| miette!(help = help, "no validator that judges miners is known here"))?;
        if let Some(uid) = own
            && board.own.is_none()
        {
            return Err(miette!("uid {uid} is not among the {} miners that {} judges", board.rows.len(), board.validator));
        }
        let text = if self.json { serde_json::to_string_pretty(&board).into_diagnostic()? + "\n" } else { fit(text(&board)) };
        super::params::print(&text)
    }
}

fn text(board: &Board) -> String {
    let mut out = format!("as {} ranks {} miners\n\n", board.validator, board.rows.len());
    let number = |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"));
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{:>4} {:>5} {:>9} {:>8} {:>7} {:>6} {:>8} {:>10} {:>9} {:>10}",
        "rank", "uid", "weight", "quality", "credit", "work", "standing", "score", "uptime", "tokens/s"
    );
    for row in &board.rows {
        let mark = if board.own.as_ref().is_some_and(|own| own.row.uid == row.uid) { " <" } else { "" };
        let _ = writeln!(
            out,
            "{:>4} {:>5} {:>9.6} {:>8} {:>7} {:>6} {:>8.3} {:>10} {:>9} {:>10}{mark}",
            row.rank,
            row.uid.to_string(),
            row.weight,
            number(row.quality, 3),
            number(row.credit, 3),
            number(row.work, 3),
            row.standing,
            row.score.map_or_else(|| "-".to_owned(), |score| format!("{:.4} %", 100.0 * score)),
            row.uptime.map_or_else(|| "-".to_owned(), |(share, _)| format!("{:.1} %", 100.0 * share)),
            number(row.tokens_s, 0),
        );
    }
    if let Some(own) = &board.own {
        position(&mut out, own);
    }
    out
}

fn position(out: &mut String, own: &Position) {
    let _ = writeln!(out, "\nuid {} is at rank {}", own.row.uid, own.row.rank);
    match &own.gap {
        None if own.row.weight == 0.0 => drop(writeln!(out, "  it has no weight")),
        None => drop(writeln!(out, "  it belongs to the top {TOP}")),
        Some(gap) => {
            let _ = write!(out, "  {:.6} of weight behind uid {}, the last of the top {TOP}", gap.weight, gap.uid);
            let factor =
                gap.factor.zip(gap.values).map(|(name, [own, other])| format!(": most of it in {name}, {own:.3} against {other:.3}"));
            let _ = writeln!(out, "{}", factor.unwrap_or_default());
        }
    }
    for met in &own.targets {
        let verdict = match met.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not known",
        };
        let value = met.value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        let _ = writeln!(out, "  {verdict:<9} {:<12} {value} of {:.3}: {}", met.target.id, met.target.least, met.target.title);
    }
}
