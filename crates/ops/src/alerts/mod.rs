//! Alerts: thresholds over what journals tell, with hysteresis, each with the diagnosis of its cause.
//!
//! [`rules`] is the catalogue, [`level`] the state machine of one alert, [`sinks`] the places that are told; [`Watch`] puts them together for any number of
//! nodes. What always holds: a raise and a clear are told once each, and nothing is told while a value stays within its room.

pub mod level;
pub mod rules;
pub mod sinks;

use crate::diagnose::case::{Case, cut};
use crate::diagnose::diagnose;
use crate::watch::NodeRecord;
use level::{Event, Level};
use rules::{Rule, Thresholds};
use serde::{Deserialize, Serialize};
use sinks::Sink;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use templar_protocol::{Uid, Window};
use templar_store::Secret;

/// The variable with the webhook's URL.
pub const ENV_WEBHOOK: &str = "TEMPLAR_ALERT_WEBHOOK";

/// The section `[alerts]` of `templar.toml`. The webhook's URL is a secret and so no part of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A program and its arguments; it gets each alert as JSON on standard input.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// An address for e-mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The program that sends e-mail, with its arguments; `sendmail -t` when left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sendmail: Vec<String>,
    /// Other thresholds than the catalogue's, by alert.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub thresholds: BTreeMap<String, Thresholds>,
    /// Alerts that are never raised.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub off: Vec<String>,
}

impl Settings {
    /// Whether every alert that is named exists and every threshold is a number in order.
    ///
    /// # Errors
    /// A sentence that names what is wrong.
    pub fn check(&self) -> Result<(), String> {
        for id in self.thresholds.keys().chain(&self.off) {
            if !rules::all().any(|rule| rule.id == id) {
                let ids: Vec<&str> = rules::all().map(|rule| rule.id).collect();
                return Err(format!("alerts: there is no alert {}; there are {}", id.escape_debug(), ids.join(", ")));
            }
        }
        for (id, thresholds) in &self.thresholds {
            let Thresholds { warn, critical, room } = *thresholds;
            if ![warn, critical, room].iter().all(|number| number.is_finite()) || room < 0.0 {
                return Err(format!("alerts.thresholds.{id}: warn and critical are numbers, room is one from 0 on"));
            }
        }
        Ok(())
    }

    /// The sinks; `webhook` is the secret URL, if there is one.
    pub fn sinks(&self, webhook: Option<Secret<String>>) -> Vec<Sink> {
        let command = (!self.command.is_empty()).then(|| Sink::Command(self.command.clone()));
        let sendmail = if self.sendmail.is_empty() { vec!["sendmail".to_owned(), "-t".to_owned()] } else { self.sendmail.clone() };
        let email = self.email.clone().map(|to| Sink::Email { to, sendmail });
        webhook.map(Sink::Webhook).into_iter().chain(command).chain(email).collect()
    }

    fn of(&self, rule: &Rule) -> Option<Thresholds> {
        let off = self.off.iter().any(|id| id == rule.id);
        (!off).then(|| self.thresholds.get(rule.id).copied().unwrap_or(rule.thresholds))
    }
}

/// What the diagnosis says beside an alert.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Because {
    /// The cause's id, or `healthy`.
    pub id: String,
    /// What was seen.
    pub sentence: String,
    /// What to do.
    pub remedy: String,
}

/// An alert as it is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// `raised` or `cleared`; none for the present state.
    pub event: Option<Event>,
    /// The alert's id.
    pub alert: String,
    /// How bad it is.
    pub level: Level,
    /// The node.
    pub node: String,
    /// Its uid.
    pub uid: Option<Uid>,
    /// Its newest window.
    pub window: Option<Window>,
    /// The value; none where it is no number.
    pub value: Option<f64>,
    /// What the value is.
    pub measures: String,
    /// The thresholds.
    pub thresholds: Thresholds,
    /// What it means.
    pub meaning: String,
    /// The diagnosis.
    pub cause: Because,
}

impl Message {
    /// One line.
    pub fn subject(&self) -> String {
        let what = if self.event == Some(Event::Cleared) { "cleared" } else { level_name(self.level) };
        format!("[templar] {what}: {} at {}", self.alert, self.node)
    }

    /// A few lines for people.
    pub fn text(&self) -> String {
        let mut out = self.subject();
        let value = self.value.map_or_else(|| "not a number".to_owned(), |value| format!("{value:.4}"));
        let window = self.window.map_or_else(String::new, |window| format!(" in window {window}"));
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n  {}: {value}{window} (warns at {}, critical at {})",
            self.measures, self.thresholds.warn, self.thresholds.critical
        );
        let _ =
            write!(out, "\n  {}\n  diagnosis: {}: {}\n  to do: {}", self.meaning, self.cause.id, self.cause.sentence, self.cause.remedy);
        out
    }

    /// A message by which an operator sees that a sink works.
    pub fn of_test() -> Self {
        let cause = Because { id: "healthy".into(), sentence: "this is a test".into(), remedy: "nothing".into() };
        let rule = rules::SILENT;
        Self {
            event: Some(Event::Raised),
            alert: "test".into(),
            level: Level::Warning,
            node: "test".into(),
            uid: None,
            window: None,
            value: Some(0.0),
            measures: "nothing".into(),
            thresholds: rule.thresholds,
            meaning: "a test message of `templar alerts test`".into(),
            cause,
        }
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Quiet => "quiet",
        Level::Warning => "warning",
        Level::Critical => "critical",
    }
}

/// The alerts of any number of nodes.
#[derive(Debug, Default)]
pub struct Watch {
    settings: Settings,
    levels: BTreeMap<(String, &'static str), Level>,
}

impl Watch {
    /// A watch that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        Self { settings, levels: BTreeMap::new() }
    }

    /// Looks at a node among `all`; gives what is to be told. `now_ms` is the time of day, where the node's time is that, too.
    pub fn look(&mut self, node: &NodeRecord, all: &[&NodeRecord], running: Option<bool>, now_ms: Option<u64>) -> Vec<Message> {
        let case = Case { node, all, running };
        let mut told = Vec::new();
        for rule in rules::all() {
            let Some(thresholds) = self.settings.of(&rule) else { continue };
            let Some(value) = (rule.value)(&case, now_ms) else { continue };
            let level = self.levels.entry((node.name.clone(), rule.id)).or_default();
            let next = level.after(value, rule.side, &thresholds);
            let event = level.event(next);
            *level = next;
            told.extend(event.map(|event| message(&case, &rule, Some(event), next, value, thresholds)));
        }
        told
    }

    /// The alerts that hold for a node now.
    pub fn present(&self, node: &NodeRecord, all: &[&NodeRecord], running: Option<bool>, now_ms: Option<u64>) -> Vec<Message> {
        let case = Case { node, all, running };
        let of_rule = |rule: Rule| {
            let level = *self.levels.get(&(node.name.clone(), rule.id)).filter(|level| **level > Level::Quiet)?;
            let value = (rule.value)(&case, now_ms).unwrap_or(f64::NAN);
            Some(message(&case, &rule, None, level, value, self.settings.of(&rule)?))
        };
        let mut held: Vec<Message> = rules::all().filter_map(of_rule).collect();
        held.sort_by_key(|message| std::cmp::Reverse(message.level));
        held
    }
}

fn message(case: &Case<'_>, rule: &Rule, event: Option<Event>, level: Level, value: f64, thresholds: Thresholds) -> Message {
    let found = diagnose(case.node, case.all, case.running);
    let first = found.causes.first().filter(|_| !found.is_healthy());
    let cause = Because {
        id: found.verdict.to_owned(),
        sentence: first.map_or_else(|| "nothing else is wrong".to_owned(), |named| cut(&named.sentence)),
        remedy: first.map_or_else(|| "watch it; `templar diagnose` tells more".to_owned(), |named| named.remedy.to_owned()),
    };
    Message {
        event,
        alert: rule.id.to_owned(),
        level,
        node: case.node.name.clone(),
        uid: case.uid(),
        window: case.node.newest().map(|entry| entry.window),
        value: value.is_finite().then_some(value),
        measures: rule.measures.to_owned(),
        thresholds,
        meaning: rule.meaning.to_owned(),
        cause,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use templar_node::journal::{Entry, HealthEntry, Line, WindowEntry};

    fn lived(window: u64, disk_gib: u64) -> Line {
        let health = HealthEntry { disk_free_bytes: Some(disk_gib << 30), ..HealthEntry::default() };
        let manifest = Some(templar_protocol::Digest::of(b"manifest"));
        let gathered = vec![Uid(3)];
        let entry = WindowEntry {
            window: Window(window),
            stepped: true,
            manifest,
            gathered,
            gather_success: 1.0,
            health,
            ..WindowEntry::default()
        };
        Line { v: 1, t_ms: window * 1000, entry: Entry::Window(Box::new(entry)) }
    }

    fn started() -> Line {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let entry = Entry::Started { role: "miner".into(), version, hotkey: "h".into(), uid: Uid(3), threads: 1 };
        Line { v: 1, t_ms: 0, entry }
    }

    pub(crate) fn message() -> Message {
        let mut watch = Watch::new(Settings::default());
        let mut node = NodeRecord::new("miner-0");
        node.take(started());
        node.take(lived(1, 0));
        let told = watch.look(&node, &[&node], None, None);
        told.into_iter().find(|message| message.alert == "disk-free").expect("the disk is full")
    }

    #[test]
    fn an_alert_is_told_once_with_its_cause_and_once_when_it_is_over() {
        let mut watch = Watch::new(Settings::default());
        let mut node = NodeRecord::new("miner-0");
        node.take(started());
        let mut told = Vec::new();
        for (window, gib) in [(1, 50), (2, 9), (3, 10), (4, 9), (5, 0), (6, 0), (7, 60), (8, 60)] {
            node.take(lived(window, gib));
            told.extend(watch.look(&node, &[&node], None, None));
        }
        let told: Vec<_> = told.iter().map(|m| (m.alert.as_str(), m.event, m.level, m.window.map(|w| w.0), m.cause.id.as_str())).collect();
        let expected = [
            ("disk-free", Some(Event::Raised), Level::Warning, Some(2), "healthy"),
            ("disk-free", Some(Event::Raised), Level::Critical, Some(5), "disk-full"),
            ("disk-free", Some(Event::Cleared), Level::Quiet, Some(7), "healthy"),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn settings_replace_thresholds_and_name_only_what_exists() {
        let read = |text: &str| toml::from_str::<Settings>(text).unwrap();
        let settings = read("off = [\"clock\"]\n[thresholds.disk-free]\nwarn = 100.0\ncritical = 50.0\nroom = 1.0\n");
        settings.check().unwrap();
        let mut node = NodeRecord::new("n");
        node.take(lived(1, 60));
        assert_eq!(Watch::new(settings).look(&node, &[&node], None, None)[0].level, Level::Warning);
        assert!(read("off = [\"clok\"]\n").check().unwrap_err().contains("there is no alert clok; there are gather-success"));
        assert!(toml::from_str::<Settings>("webhook = \"https://example.org\"\n").is_err(), "the address is a secret");
    }

    #[test]
    fn a_silent_node_is_noticed_by_the_time_of_day_alone() {
        let mut node = NodeRecord::new("n");
        let Line { entry: Entry::Window(mut entry), v, .. } = lived(1, 60) else { panic!("a window") };
        entry.plan.window_ms = 1000;
        node.take(Line { v, t_ms: 1000, entry: Entry::Window(entry) });
        let mut watch = Watch::new(Settings::default());
        assert!(watch.look(&node, &[&node], None, Some(2500)).is_empty());
        assert_eq!(watch.look(&node, &[&node], None, Some(4500))[0].alert, "silent");
    }
}
