//! Choosing checks, running them side by side, and the report.
//!
//! What always holds: every check that was chosen has a line in the report; none takes longer than [`CHECK_LIMIT`], and all together no longer
//! than [`TOTAL_LIMIT`]; a check that panics or runs out of time has failed. Measurements that others would disturb run afterwards, one by one.

use crate::check::{About, Check, Finding, Verdict, When, fail};
use crate::subject::{Role, Subject};
use futures::{FutureExt, StreamExt};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

/// The longest that one check may take.
pub const CHECK_LIMIT: Duration = Duration::from_secs(20);
/// The longest that all checks may take.
pub const TOTAL_LIMIT: Duration = Duration::from_secs(28);
/// Checks at once.
const AT_ONCE: usize = 12;

/// Which checks are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Groups or ids; all when empty.
    pub only: Vec<String>,
    /// Those for before or for after the start; with `None`, all.
    pub when: Option<When>,
}

/// A word of `--only` that names nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{word:?} is neither a group nor a check; groups are {groups}")]
pub struct UnknownCheck {
    /// The word.
    pub word: String,
    /// All groups.
    pub groups: String,
}

impl Selection {
    /// The checks of `all` that are wanted for `role`.
    ///
    /// # Errors
    /// A word of `only` names no check at all.
    pub fn choose(&self, all: Vec<Box<dyn Check>>, role: Role) -> Result<Vec<Box<dyn Check>>, UnknownCheck> {
        let named = |about: &About, word: &str| about.id == word || about.group() == word;
        if let Some(word) = self.only.iter().find(|word| !all.iter().any(|check| named(&check.about(), word))) {
            let mut groups: Vec<&str> = all.iter().map(|check| check.about().group()).collect();
            groups.dedup();
            return Err(UnknownCheck { word: word.chars().take(80).collect(), groups: groups.join(", ") });
        }
        let wanted = |about: &About| {
            let in_time = match (self.when, about.when) {
                (None, _) | (_, When::Always) => true,
                (Some(asked), when) => asked == when,
            };
            let exactly = self.only.iter().any(|word| about.id == word);
            let named = self.only.is_empty() || self.only.iter().any(|word| named(about, word));
            // Whoever names a single check wants it, whatever the phase.
            exactly || named && in_time && about.roles.contains(&role)
        };
        Ok(all.into_iter().filter(|check| wanted(&check.about())).collect())
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// The check's id.
    pub id: &'static str,
    /// What is claimed when it passes.
    pub title: &'static str,
    /// The part of the id before the dot.
    pub group: &'static str,
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
    /// What was repaired, or why it could not be; only where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
    /// How long it took, ms.
    pub took_ms: u64,
}

/// What the doctor has found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The worst verdict; a skip counts less than a pass, so that it is one only where nothing was examined.
    pub verdict: Verdict,
    /// How many checks ended how.
    pub counts: BTreeMap<String, usize>,
    /// The role that was examined.
    pub role: Role,
    /// How long it took, ms.
    pub took_ms: u64,
    /// The checks, in the order of the catalogue.
    pub checks: Vec<Entry>,
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Runs `checks`; with `repair`, repairs what may be repaired and examines it again.
pub async fn examine(checks: Vec<Box<dyn Check>>, subject: &Subject, repair: bool) -> Report {
    let begun = Instant::now();
    let order: Vec<&'static str> = checks.iter().map(|check| check.about().id).collect();
    let (alone, together): (Vec<_>, Vec<_>) = checks.iter().partition(|check| check.about().alone);
    let mut entries: Vec<Entry> =
        futures::stream::iter(together).map(|check| one(&**check, subject, begun, repair)).buffer_unordered(AT_ONCE).collect().await;
    for check in alone {
        entries.push(one(&**check, subject, begun, repair).await);
    }
    entries.sort_by_key(|entry| order.iter().position(|id| *id == entry.id));
    let worst = entries.iter().map(|entry| entry.finding.verdict).filter(|verdict| *verdict > Verdict::Skip).max();
    let mut counts = BTreeMap::from(["pass", "skip", "warn", "fail"].map(|name| (name.to_owned(), 0)));
    for entry in &entries {
        *counts.entry(entry.finding.verdict.to_string().to_lowercase()).or_default() += 1;
    }
    let examined = entries.iter().any(|entry| entry.finding.verdict == Verdict::Pass);
    let verdict = worst.unwrap_or(if examined { Verdict::Pass } else { Verdict::Skip });
    Report { verdict, counts, role: subject.settings.role, took_ms: ms(begun.elapsed()), checks: entries }
}

async fn one(check: &dyn Check, subject: &Subject, begun: Instant, repair: bool) -> Entry {
    let (about, started) = (check.about(), Instant::now());
    let mut finding = bounded(check, subject, begun).await;
    let mut fixed = None;
    if repair && finding.verdict > Verdict::Skip {
        match check.fix(subject) {
            Some(Ok(done)) => {
                fixed = Some(done);
                finding = bounded(check, subject, begun).await;
            }
            Some(Err(why)) => fixed = Some(format!("could not be repaired: {why}")),
            None => {}
        }
    }
    if finding.verdict > Verdict::Skip && finding.remedy.is_none() {
        finding.remedy = Some(about.remedy.to_owned());
    }
    Entry { id: about.id, title: about.title, group: about.group(), finding, fixed, took_ms: ms(started.elapsed()) }
}

async fn bounded(check: &dyn Check, subject: &Subject, begun: Instant) -> Finding {
    let limit = CHECK_LIMIT.min(TOTAL_LIMIT.saturating_sub(begun.elapsed()));
    let running = AssertUnwindSafe(check.run(subject)).catch_unwind();
    match tokio::time::timeout(limit, running).await {
        Ok(Ok(Ok(finding) | Err(finding))) => finding,
        Ok(Err(_)) => fail("the check itself broke down (a panic); this is a defect of this program")
            .remedy("report it together with the output of `templar doctor --json`"),
        Err(_) => fail(format!("no result within {:.0} s", limit.as_secs_f64())),
    }
}

impl Report {
    /// The exit code of the worst finding: 0 for none, 1 for a failure, 2 for warnings only, 3 where nothing was examined.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Pass => 0,
            Verdict::Skip => 3,
            Verdict::Warn => 2,
            Verdict::Fail => 1,
        }
    }

    /// The report for people: a line for each check, and what to do below those that complain.
    pub fn table(&self) -> String {
        let width = self.checks.iter().map(|entry| entry.id.len()).max().unwrap_or(0);
        let mut out = String::new();
        for entry in &self.checks {
            let Finding { verdict, sentence, remedy, .. } = &entry.finding;
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{verdict:<4}  {:<width$}  {sentence}", entry.id);
            let indent = " ".repeat(width + 8);
            if let Some(fixed) = &entry.fixed {
                let _ = writeln!(out, "{indent}repaired: {fixed}");
            }
            if let Some(remedy) = remedy {
                let _ = writeln!(out, "{indent}to do: {remedy}");
            }
        }
        let count = |name: &str| self.counts.get(name).copied().unwrap_or(0);
        let _ = writeln!(
            out,
            "\n{} checks of a {}: {} passed, {} failed, {} warnings, {} not examined ({:.1} s)",
            self.checks.len(),
            self.role,
            count("pass"),
            count("fail"),
            count("warn"),
            count("skip"),
            self.took_ms as f64 / 1e3
        );
        if self.verdict == Verdict::Skip {
            out.push_str(&self.nothing());
        }
        out
    }

    /// Where no check could be made: that this proves nothing, and what each of them wanted.
    fn nothing(&self) -> String {
        let mut why: Vec<&str> = self
            .checks
            .iter()
            .map(|entry| entry.finding.evidence.get("why").and_then(|why| why.as_str()).unwrap_or(&entry.finding.sentence))
            .collect();
        why.sort_unstable();
        why.dedup();
        let why = if why.is_empty() { "no check fits this role and phase".to_owned() } else { crate::foreign::cut(&why.join("; ")) };
        format!("nothing was examined, so nothing is known to be well: {why}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Outcome, pass, warn};
    use crate::lab::Lab;
    use async_trait::async_trait;

    struct Fake(&'static str, fn() -> Outcome);

    #[async_trait(?Send)]
    impl Check for Fake {
        fn about(&self) -> About {
            About::new(self.0, "it holds", "for the test", "mend it")
        }

        async fn run(&self, _: &Subject) -> Outcome {
            (self.1)()
        }
    }

    struct Endless;

    #[async_trait(?Send)]
    impl Check for Endless {
        fn about(&self) -> About {
            About::new("t.endless", "it ends", "for the test", "end it")
        }

        async fn run(&self, _: &Subject) -> Outcome {
            std::future::pending().await
        }
    }

    async fn report(checks: Vec<Box<dyn Check>>) -> Report {
        let lab = Lab::bare();
        examine(checks, &lab.subject, false).await
    }

    #[tokio::test]
    async fn the_worst_finding_decides_and_the_order_stays() {
        let all: Vec<Box<dyn Check>> = vec![
            Box::new(Fake("t.b", || Ok(warn("hm")))),
            Box::new(Fake("t.a", || Ok(pass("yes")))),
            Box::new(Fake("t.c", || panic!("broken"))),
        ];
        let report = report(all).await;
        assert_eq!(report.checks.iter().map(|entry| entry.id).collect::<Vec<_>>(), ["t.b", "t.a", "t.c"]);
        assert_eq!((report.verdict, report.exit_code()), (Verdict::Fail, 1), "a panic is a failure");
        assert_eq!(report.checks[0].finding.remedy.as_deref(), Some("mend it"));
        assert!(report.table().contains("3 checks of a miner: 1 passed, 1 failed, 1 warnings"), "{}", report.table());
    }

    #[tokio::test]
    async fn warnings_alone_have_an_exit_code_of_their_own() {
        let only_warnings = report(vec![Box::new(Fake("t.b", || Ok(warn("hm"))))]).await;
        assert_eq!(only_warnings.exit_code(), 2);
    }

    #[tokio::test]
    async fn what_was_not_examined_is_not_well() {
        fn skip() -> Outcome {
            Err(crate::facts::Missing::new("the chain is silent", "chain.reachable").into())
        }
        let skipped = report(vec![Box::new(Fake("t.b", skip))]).await;
        assert_eq!((skipped.verdict, skipped.exit_code()), (Verdict::Skip, 3));
        assert!(
            skipped.table().ends_with("nothing was examined, so nothing is known to be well: the chain is silent\n"),
            "{}",
            skipped.table()
        );
        assert_eq!(report(vec![]).await.exit_code(), 3);
        let one = report(vec![Box::new(Fake("t.b", skip)), Box::new(Fake("t.a", || Ok(pass("yes"))))]).await;
        assert_eq!((one.verdict, one.exit_code()), (Verdict::Pass, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_without_end_fails() {
        let report = report(vec![Box::new(Endless)]).await;
        assert!(report.checks[0].finding.sentence.contains("no result within"), "{report:?}");
    }

    #[test]
    fn words_choose_groups_and_checks() {
        let ids = |only: &[&str], when, role| {
            let selection = Selection { only: only.iter().map(|word| (*word).to_owned()).collect(), when };
            let chosen = selection.choose(crate::checks::all(), role);
            chosen.map(|checks| checks.iter().map(|check| check.about().id).collect::<Vec<_>>())
        };
        assert!(ids(&["time"], None, Role::Miner).unwrap().iter().all(|id| id.starts_with("time.")));
        assert_eq!(ids(&["journal.whole"], Some(When::Preflight), Role::Miner).unwrap(), ["journal.whole"]);
        assert!(ids(&["wether"], None, Role::Miner).unwrap_err().to_string().contains("groups are env, wallet"));
        assert!(!ids(&[], Some(When::Preflight), Role::Miner).unwrap().iter().any(|id| id.starts_with("journal.")));
        assert!(!ids(&[], None, Role::Miner).unwrap().contains(&"leader.manifest"));
    }
}
