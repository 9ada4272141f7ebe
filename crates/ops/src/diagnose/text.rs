//! A diagnosis for people.

use super::case::Certainty;
use super::{Diagnosis, Named};
use std::fmt::Write as _;

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
