//! Every figure that this program tells of nodes, with its meaning: the journal's fields and what `templar monitor --json` makes of them.
//!
//! Nodes serve no metrics over the network; what is to be known of them is in their journals. The catalogue is the source of two pages of the handbook. What always
//! holds: a field that a journal or the monitor has and the catalogue lacks fails a test, and the other way round.

mod journal;
mod monitor;

use crate::alerts::rules;
use serde::Serialize;
use std::fmt::Write as _;

/// A field.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Field {
    /// Its name in JSON.
    pub name: &'static str,
    /// What it means, with its unit and range where the name does not say them; a clause in Markdown.
    pub meaning: &'static str,
}

/// Fields that stand in one JSON object.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Group {
    /// Where they stand: the event of the journal or `monitor`, then the names of the fields that lead to the object.
    pub id: &'static str,
    /// What the object tells.
    #[serde(skip)]
    pub about: &'static str,
    /// The fields.
    pub fields: &'static [Field],
    /// What else is to be said, in Markdown.
    #[serde(skip)]
    pub after: &'static str,
}

/// The groups of the journal: one for each event, and one for each object within an entry.
pub fn journal() -> &'static [Group] {
    journal::GROUPS
}

/// The groups of the monitor's JSON.
pub fn monitor() -> &'static [Group] {
    monitor::GROUPS
}

/// All fields by their full names, each with its meaning.
pub fn all() -> impl Iterator<Item = (String, &'static str)> {
    let groups = monitor().iter().chain(journal());
    groups.flat_map(|group| group.fields.iter().map(|field| (format!("{}.{}", group.id, field.name), field.meaning)))
}

/// The handbook's page about the journal.
pub fn journal_page() -> String {
    let mut out = String::from(include_str!("before.md"));
    for group in journal() {
        match group.id.contains('.') {
            false => out += &format!("\n## `{}`\n\n{}\n", group.id, group.about),
            true => out += &format!("\n{}\n", group.about),
        }
        table(&mut out, group);
    }
    out + "\n" + include_str!("after.md")
}

/// The handbook's page about the monitor's figures and the alerts.
pub fn metrics_page() -> String {
    let mut out = String::from(BEFORE);
    for group in monitor() {
        out += &format!("\n## `{}`\n\n{}\n", group.id, group.about);
        table(&mut out, group);
    }
    out += "\n## Alerts\n\nEach is a figure with thresholds; [alerts](alerts.md) has those, and how to change them.\n\n| alert | measures | means |\n|---|---|---|\n";
    for rule in rules::all() {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "| `{}` | {} | {} |", rule.id, rule.measures, rule.meaning);
    }
    out
}

fn table(out: &mut String, group: &Group) {
    if !group.fields.is_empty() {
        *out += "\n| field | meaning |\n|---|---|\n";
    }
    for field in group.fields {
        let _ = writeln!(out, "| `{}` | {} |", field.name, field.meaning);
    }
    if !group.after.is_empty() {
        let _ = writeln!(out, "\n{}", group.after);
    }
}

const BEFORE: &str = "# Metrics

Made by `cargo xtask docs` from the binary; a test compares both, and what the binary prints with this page.

```sh
templar monitor --once --json
templar monitor --list
templar alerts check --json
```

Nodes serve no metrics over the network and send none anywhere: what is to be known of a node is in its [journal](../journal.md), and the figures here are made of it. Programs that
collect metrics run the first command, or read the journal. What a field cannot say, because the journal does not have it, is null. Losses are in nats per token.
";

#[cfg(test)]
mod tests;
