//! What a check is: an id, a reason, a remedy, and a function from a [`Subject`] to a [`Finding`].
//!
//! What always holds: a check ends within its deadline ([`crate::doctor`] sees to it), changes nothing but probe objects that it removes again
//! (repairs are in [`Check::fix`], and only made when asked for), and puts no secret into its finding.

use crate::subject::{Role, Subject};
use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt;

/// What a check says of its subject, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The effect was proved.
    Pass,
    /// It could not be examined here; the sentence says why.
    Skip,
    /// It works, but is about to fail, or costs something.
    Warn,
    /// It is broken.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Skip => "skip",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        })
    }
}

/// When a check makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Before a node is started.
    Preflight,
    /// While a node runs, or after it has run.
    Live,
    /// At any time.
    Always,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The verdict.
    pub verdict: Verdict,
    /// One sentence, with the numbers that decided.
    pub sentence: String,
    /// What was seen, for programs.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub evidence: Map<String, Value>,
    /// What to do, where it is more exact than the check's own remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn new(verdict: Verdict, sentence: impl Into<String>) -> Self {
        Self { verdict, sentence: sentence.into(), evidence: Map::new(), remedy: None }
    }

    /// Adds a piece of evidence.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.evidence.insert(key.to_owned(), value.into());
        self
    }

    /// Says more exactly what to do.
    #[must_use]
    pub fn remedy(mut self, text: impl Into<String>) -> Self {
        self.remedy = Some(text.into());
        self
    }
}

/// The effect was proved.
pub fn pass(sentence: impl Into<String>) -> Finding {
    Finding::new(Verdict::Pass, sentence)
}

/// It works, but not well.
pub fn warn(sentence: impl Into<String>) -> Finding {
    Finding::new(Verdict::Warn, sentence)
}

/// It is broken.
pub fn fail(sentence: impl Into<String>) -> Finding {
    Finding::new(Verdict::Fail, sentence)
}

/// It cannot be examined here.
pub fn skip(sentence: impl Into<String>) -> Finding {
    Finding::new(Verdict::Skip, sentence)
}

/// What a check returns: a finding either way, so that `?` can end it early.
pub type Outcome = Result<Finding, Finding>;

/// What is known of a check without running it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct About {
    /// `group.name`; never changes its meaning.
    pub id: &'static str,
    /// What is claimed when it passes.
    pub title: &'static str,
    /// Why it matters.
    pub reason: &'static str,
    /// What to do when it fails.
    pub remedy: &'static str,
    /// When it makes sense.
    pub when: When,
    /// For whom it makes sense.
    pub roles: &'static [Role],
    /// Whether it measures something that other checks would disturb, and so runs alone after them.
    pub alone: bool,
}

impl About {
    /// A check for every role at any time.
    pub const fn new(id: &'static str, title: &'static str, reason: &'static str, remedy: &'static str) -> Self {
        Self { id, title, reason, remedy, when: When::Always, roles: &Role::ALL, alone: false }
    }

    /// The same, for a node that is not running yet.
    pub const fn preflight(self) -> Self {
        Self { when: When::Preflight, ..self }
    }

    /// The same, for a node that runs or has run.
    pub const fn live(self) -> Self {
        Self { when: When::Live, ..self }
    }

    /// The same, for these roles only.
    pub const fn roles(self, roles: &'static [Role]) -> Self {
        Self { roles, ..self }
    }

    /// The same, run after all others and by itself.
    pub const fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// The part of the id before the dot.
    pub fn group(&self) -> &'static str {
        self.id.split_once('.').map_or(self.id, |(group, _)| group)
    }
}

/// One check of the catalogue.
// Checks wait for each other on one thread, so their futures need not be sent to another.
#[async_trait(?Send)]
pub trait Check: Send + Sync {
    /// What is known of it without running it.
    fn about(&self) -> About;

    /// Examines the subject.
    async fn run(&self, subject: &Subject) -> Outcome;

    /// Repairs what [`Check::run`] complained about, where that is safe: a sentence on what was done, or why it could not be. `None`: there is
    /// nothing here that a program should do by itself.
    fn fix(&self, subject: &Subject) -> Option<Result<String, String>> {
        let _ = subject;
        None
    }
}

/// What every check's file needs.
pub mod prelude {
    pub use super::{About, Check, Finding, Outcome, fail, pass, skip, warn};
    pub use crate::facts::Missing;
    pub use crate::subject::{Role, Subject};
    pub use async_trait::async_trait;
}
