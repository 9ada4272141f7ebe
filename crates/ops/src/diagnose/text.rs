//! A diagnosis for people.

use super::case::Certainty;
use super::ended::STOPPED;
use super::{Diagnosis, Named};
use std::fmt::Write as _;

/// All verdicts; of nodes that were stopped together only one.
pub fn all(found: &[Diagnosis]) -> String {
    let ended: Vec<&Named> = found.iter().filter_map(stopped).collect();
    let together = ended.len() > 1 && ended.len() == found.len() && ended.windows(2).all(|pair| pair[0].sentence == pair[1].sentence);
    let Some(named) = ended.first().filter(|_| together) else { return found.iter().map(text).collect() };
    let names: Vec<&str> = found.iter().map(|diagnosis| diagnosis.node.as_str()).collect();
    let window =
        found.iter().filter_map(|diagnosis| diagnosis.window).max().map_or_else(String::new, |window| format!(", window {window}"));
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{} nodes ({}{window}): {}", names.len(), names.join(", "), named.id);
    let _ = writeln!(out, "  cause     none of the nodes runs ({})", sure(named.certainty));
    let _ = writeln!(out, "  seen      of each: {}", named.sentence);
    let _ = writeln!(out, "  matters   {}", named.reason);
    let _ = writeln!(out, "  to do     start them; a local network goes on with `templar localnet --dir` and its directory");
    out
}

/// That a node does not run, where nothing else is the matter.
fn stopped(diagnosis: &Diagnosis) -> Option<&Named> {
    let [only] = &diagnosis.causes[..] else { return None };
    (only.id == STOPPED.id).then_some(only)
}

/// The verdict first, then what else was found.
pub fn text(diagnosis: &Diagnosis) -> String {
    let mut out = String::new();
    let uid = diagnosis.uid.map_or_else(String::new, |uid| format!(", uid {uid}"));
    let window = diagnosis.window.map_or_else(String::new, |window| format!(", window {window}"));
    let role = if diagnosis.role.is_empty() { "node" } else { &diagnosis.role };
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{} ({role}{uid}{window}): {}", diagnosis.node, diagnosis.verdict);
    for (place, named) in diagnosis.causes.iter().enumerate() {
        let first = place == 0 && !diagnosis.is_healthy();
        if first { verdict(&mut out, named) } else { beside(&mut out, named) }
    }
    out
}

fn sure(certainty: Certainty) -> &'static str {
    match certainty {
        Certainty::Possible => "possible",
        Certainty::Likely => "likely",
        Certainty::Certain => "certain",
    }
}

fn verdict(out: &mut String, named: &Named) {
    let _ = writeln!(out, "  cause     {} ({})", named.title, sure(named.certainty));
    let _ = writeln!(out, "  seen      {}", named.sentence);
    for evidence in &named.evidence {
        let _ = writeln!(out, "  evidence  {}: {}; expected: {}", evidence.line, evidence.observed, evidence.expected);
    }
    let _ = writeln!(out, "  matters   {}", named.reason);
    let _ = writeln!(out, "  to do     {}", named.remedy);
}

fn beside(out: &mut String, named: &Named) {
    let _ = writeln!(out, "  also      {} ({}): {}", named.id, sure(named.certainty), named.sentence);
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_protocol::{Uid, Window};

    fn stopped(node: &str, uid: u16, sentence: &str) -> Diagnosis {
        let named = Named {
            id: STOPPED.id,
            title: STOPPED.title,
            certainty: Certainty::Certain,
            sentence: sentence.into(),
            evidence: vec![],
            reason: STOPPED.reason,
            remedy: STOPPED.remedy,
        };
        let window = Some(Window(u64::from(uid) + 7));
        Diagnosis { node: node.into(), role: "miner".into(), uid: Some(Uid(uid)), window, verdict: STOPPED.id, causes: vec![named] }
    }

    #[test]
    fn nodes_that_were_stopped_together_are_told_of_once() {
        let ended = "it ended: stopped by a signal";
        let both = [stopped("validator-0", 0, ended), stopped("miner-0", 1, ended)];
        assert_eq!(
            all(&both),
            "2 nodes (validator-0, miner-0, window 8): not-running\n  cause     none of the nodes runs (certain)\n  seen      of each: it ended: \
             stopped by a signal\n  matters   what does not run earns nothing\n  to do     start them; a local network goes on with `templar \
             localnet --dir` and its directory\n"
        );
        let other = [both[0].clone(), stopped("miner-0", 1, "its process is gone, and has not said why")];
        assert_eq!(all(&other), format!("{}{}", other[0].text(), other[1].text()));
        assert_eq!(all(&both[..1]), both[0].text());
    }
}
