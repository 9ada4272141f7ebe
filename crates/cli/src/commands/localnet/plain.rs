//! The network as plain lines: one for each window, for logs and pipes.

use super::earnings;
use super::progress::{Progress, WindowProgress};
use super::setup::Network;
use templar_gauntlet::Penalty;
use templar_protocol::Uid;

/// Prints each window once, when every node has ended it or the next one is over.
pub struct Plain {
    quiet: bool,
    next: u64,
}

impl Plain {
    /// Prints to standard output, or with `quiet` (when that is for JSON) to standard error.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, next: 0 }
    }

    /// Prints the windows that are over and not printed yet.
    pub fn show(&mut self, progress: &Progress) {
        let newest = progress.windows.keys().next_back().copied().unwrap_or(0);
        for (number, window) in progress.windows.range(self.next..) {
            let complete = window.ended.is_some() && window.entries.len() >= progress.nodes.len();
            if !complete && newest <= number + 1 {
                break;
            }
            let line = line(*number, window, progress);
            if self.quiet {
                eprintln!("{line}")
            } else {
                println!("{line}")
            }
            self.next = number + 1;
        }
    }
}

fn line(number: u64, window: &WindowProgress, progress: &Progress) -> String {
    let Some(told) = window.told() else { return format!("window {number}") };
    let loss = told.held_out_loss.map_or_else(|| "-".to_owned(), |loss| format!("{loss:.3}"));
    let digests: std::collections::BTreeSet<_> = window.entries.values().map(|entry| entry.state_digest).collect();
    let agreement = if digests.len() == 1 { told.state_digest.short() } else { format!("{} different θ!", digests.len()) };
    let weights: Vec<String> = progress.weights.iter().map(|(uid, weight)| format!("{uid}:{weight:.2}")).collect();
    let refused: Vec<String> = told.refused.iter().map(|(uid, why)| format!("{uid} {}", why.split(':').next().unwrap_or(why))).collect();
    let mut line = format!(
        "window {number}  step {}  loss {loss} (unigram {:.3})  gathered {}  θ {agreement}  weights {}",
        told.global_step,
        progress.unigram_entropy,
        list(&told.gathered),
        if weights.is_empty() { "-".to_owned() } else { weights.join(" ") },
    );
    if !refused.is_empty() {
        line += &format!("  refused {}", refused.join(", "));
    }
    let of_window = progress.penalties.iter().filter(|(_, (window, _))| *window == number);
    let penalised: Vec<String> =
        of_window.flat_map(|(uid, (_, penalties))| penalties.iter().map(move |penalty| penalised(*uid, penalty))).collect();
    if !penalised.is_empty() {
        line += &format!("  penalised {}", penalised.join(", "));
    }
    line
}

/// An offence with what it leaves of the miner's standing.
fn penalised(uid: Uid, penalty: &Penalty) -> String {
    format!("{uid} {} (standing {:.2})", penalty.kind, penalty.after)
}

fn list(uids: &[Uid]) -> String {
    if uids.is_empty() { "nobody".into() } else { uids.iter().map(Uid::to_string).collect::<Vec<_>>().join(",") }
}

/// The last words: who has and earns what, what was reached and how to go on.
pub fn farewell(network: &Network, progress: &Progress, interrupted: bool) {
    let dir = network.dir.display();
    let windows = match progress.counted().count() {
        1 => "1 window".to_owned(),
        many => format!("{many} windows"),
    };
    let accounts = earnings::table(&earnings::accounts(progress));
    if interrupted {
        eprint!("{accounts}");
        eprintln!("stopped after {windows}; run the same command again to resume in {dir}");
    } else {
        print!("{accounts}");
        println!("{windows} done; everything is in {dir}");
        // As this command was called, so that the line works where the binary is in no search path.
        let program = std::env::args().next().unwrap_or_else(|| "templar".into());
        println!("see what it has learned: {program} generate --from {dir} --prompt \"fn main() {{\"");
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::made_up;
    use super::*;
    use templar_node::journal::WindowEntry;

    #[test]
    fn a_line_names_who_was_refused_and_who_was_penalised() {
        let mut progress = made_up::network(4);
        let refused = [(Uid(4), "late: too late".to_owned())].into();
        let told = WindowEntry { gathered: vec![Uid(1), Uid(2), Uid(3)], refused, held_out_loss: Some(3.5), ..WindowEntry::default() };
        progress.windows.entry(7).or_default().entries.insert("validator-0".into(), told);
        let penalty = |kind: &str, after| Penalty { kind: kind.into(), factor: 0.5, before: 2.0 * after, after, reason: "why".into() };
        progress.penalties.insert(Uid(3), (7, vec![penalty("harmful", 0.5)]));
        progress.penalties.insert(Uid(2), (6, vec![penalty("replay", 0.3)]));
        let line = line(7, &progress.windows[&7], &progress);
        assert!(line.ends_with("gathered 1,2,3  θ 00000000  weights -  refused 4 late  penalised 3 harmful (standing 0.50)"), "{line}");
    }
}
