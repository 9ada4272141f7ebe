//! What has changed in a network, and whether this binary still speaks its language: run, protocol, hyper-parameters, rules, containers, releases.
//!
//! What is seen is kept from one look to the next, so that a change is told once, and with both values. Everything that is read comes signed from
//! validators' buckets; the feed of releases is only told, never followed.

use crate::sheets::{self, SheetsError, read_sheet};
use semver::Version;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use templar_codec::{HEADER_BYTES, Header, Refusal, container};
use templar_gauntlet::{Fate, NativeRules};
use templar_node::state::write_atomically;
use templar_protocol::hparams::Hparams;
use templar_protocol::messages::PROTOCOL_VERSION;
use templar_protocol::{Digest, Uid, Window, names};
use templar_store::{Bucket, Deadline};

/// The file with what was seen last, in a node's directory.
pub const SEEN_FILE: &str = "seen.json";
const SEEN_BYTES_MAX: u64 = 1 << 20;
/// Objects whose container version is looked at.
const OBJECTS_MAX: usize = 8;
const REQUEST: Duration = Duration::from_secs(30);

/// A network, as it presents itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Digest of the run descriptor.
    pub run: Digest,
    /// The protocol that it speaks.
    pub protocol: u32,
    /// Its hyper-parameters.
    pub hparams: Hparams,
    /// The run's first window.
    pub start_window: Window,
    /// The rules that the newest score sheet applies: name and digest.
    pub rules: Option<(String, Digest)>,
    /// Versions of the containers of its objects.
    pub containers: BTreeSet<u16>,
    /// The window of the newest score sheet.
    pub scored: Option<Window>,
}

/// What an operator should do about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// Nothing: it is good to know.
    Note,
    /// Soon: something new can be had.
    Soon,
    /// Now: this binary or this node no longer fits the network.
    Now,
}

/// Something that has changed, or does not fit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// A stable name.
    pub name: &'static str,
    /// How urgent it is.
    pub urgency: Urgency,
    /// The sentence, with both values and what to do.
    pub said: String,
}

fn finding(name: &'static str, urgency: Urgency, said: impl Into<String>) -> Finding {
    Finding { name, urgency, said: said.into() }
}

impl Seen {
    /// What the validators' buckets show; the first one's run counts.
    ///
    /// # Errors
    /// There is no run, or it cannot be read.
    pub async fn look(buckets: &[Bucket]) -> Result<Self, SheetsError> {
        let bucket = buckets.first().ok_or(SheetsError::Nothing)?;
        let run = sheets::read_run(bucket).await?;
        let descriptor = run.message;
        let sheet = read_sheet(bucket, names::SCORES_LATEST).await?.map(|(sheet, _)| sheet).filter(|sheet| sheet.run == run.digest);
        let accepted: Vec<(Window, Uid)> = sheet
            .iter()
            .flat_map(|sheet| sheet.observation.members.iter().map(|member| (sheet.window(), member)))
            .filter(|(_, member)| matches!(member.fate, Fate::Accepted { .. }))
            .map(|(window, member)| (window, member.uid))
            .collect();
        let mut containers = BTreeSet::new();
        for (window, uid) in accepted.into_iter().take(OBJECTS_MAX) {
            let head = bucket.get_range(&names::accepted(window, uid), 0..HEADER_BYTES as u64, Deadline::within(REQUEST)).await;
            match head.as_ref().map(|bytes| Header::parse(bytes)) {
                Ok(Ok(header)) => drop(containers.insert(header.version)),
                Ok(Err(Refusal::BadVersion { found, .. })) => drop(containers.insert(found)),
                _ => {}
            }
        }
        Ok(Self {
            run: run.digest,
            protocol: descriptor.protocol,
            start_window: descriptor.start_window,
            rules: sheet.as_ref().map(|sheet| (sheet.rules.clone(), sheet.rules_digest)),
            containers,
            scored: sheet.as_ref().map(templar_gauntlet::ScoreSheet::window),
            hparams: descriptor.hparams,
        })
    }

    /// What was seen last by the node in `dir`; nothing when there is no such file, or it is of another version of this program.
    pub fn before(dir: &Path) -> Option<Self> {
        let path = dir.join(SEEN_FILE);
        if std::fs::metadata(&path).ok()?.len() > SEEN_BYTES_MAX {
            return None;
        }
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Keeps it for the next look.
    ///
    /// # Errors
    /// The disk refused.
    pub fn keep(&self, dir: &Path) -> std::io::Result<()> {
        write_atomically(&dir.join(SEEN_FILE), &serde_json::to_vec(self)?)
    }

    /// Where this binary does not fit what was seen.
    pub fn misfits(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        if self.protocol != PROTOCOL_VERSION {
            let said = format!(
                "the run speaks protocol {}, this binary {PROTOCOL_VERSION}: install the binary that the run's operators name",
                self.protocol
            );
            found.push(finding("protocol", Urgency::Now, said));
        }
        for version in self.containers.iter().filter(|version| **version != container::VERSION) {
            let said = format!(
                "objects of container version {version} are accepted, this binary writes version {}: install a newer one",
                container::VERSION
            );
            found.push(finding("container", Urgency::Now, said));
        }
        let ours = NativeRules::for_run(&self.hparams.evaluation).digest();
        if let Some((name, theirs)) = self.rules.as_ref().filter(|(_, theirs)| *theirs != ours) {
            let said = format!(
                "validators score by the rules {name} with digest {}, this binary knows {}: what `judge` and `explain` say of scores is by other rules",
                theirs.short(),
                ours.short()
            );
            found.push(finding("rules", Urgency::Soon, said));
        }
        found
    }

    /// What has changed since `before`.
    pub fn changes(&self, before: &Self) -> Vec<Finding> {
        let mut found = Vec::new();
        if self.run != before.run {
            let said = format!(
                "the network runs {} from window {} on, it ran {}: nodes join it when they are started again",
                self.run.short(),
                self.start_window,
                before.run.short()
            );
            found.push(finding("run", Urgency::Now, said));
        }
        if self.protocol != before.protocol {
            found.push(finding("protocol", Urgency::Now, format!("protocol {} instead of {}", self.protocol, before.protocol)));
        }
        for difference in before.hparams.diff(&self.hparams) {
            let said = format!("{} is {}, it was {}", difference.key, difference.right, difference.left);
            found.push(finding("hyper_parameters", Urgency::Now, said));
        }
        if let (Some((name, now)), Some((_, then))) = (&self.rules, &before.rules)
            && now != then
        {
            found.push(finding("rules", Urgency::Note, format!("the rules {name} have digest {}, they had {}", now.short(), then.short())));
        }
        if self.containers != before.containers && !self.containers.is_empty() && !before.containers.is_empty() {
            let said = format!("objects have container versions {:?}, they had {:?}", self.containers, before.containers);
            found.push(finding("container", Urgency::Soon, said));
        }
        found
    }

    /// Whether the node follows the run that is offered; `joined` is the run that it last joined, as its journal says.
    pub fn follows(&self, joined: Option<Digest>) -> Option<Finding> {
        let joined = joined.filter(|joined| *joined != self.run)?;
        let said = format!("the node has joined run {}, the network offers {}: start the node again", joined.short(), self.run.short());
        Some(finding("joined", Urgency::Now, said))
    }
}

/// What a feed says about this binary, which has the version `own`.
pub fn of_feed(releases: &[crate::feed::Release], own: &Version) -> Option<Finding> {
    let release = crate::feed::newer(releases, own)?;
    let place = release.url.as_ref().map_or_else(String::new, |url| format!(", see {url}"));
    let said = format!("version {} is out, this is {own}{place}. Drain before the update: `templar miner --drain`", release.version);
    Some(finding("release", Urgency::Soon, said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn a_change_in_the_leaders_bucket_is_told_at_the_next_look() {
        let mut lab = Lab::new().await;
        let bucket = lab.bucket("leader");
        let first = Seen::look(std::slice::from_ref(&bucket)).await.unwrap();
        assert_eq!((first.misfits(), first.changes(&first)), (vec![], vec![]));
        first.keep(&lab.node()).unwrap();
        assert_eq!(Seen::before(&lab.node()).as_ref(), Some(&first));
        lab.publish_run(|descriptor| {
            descriptor.hparams.inner_steps += 1;
            descriptor.hparams_digest = descriptor.hparams.digest();
        })
        .await;
        let second = Seen::look(&[bucket]).await.unwrap();
        let changes = second.changes(&first);
        let names: Vec<&str> = changes.iter().map(|change| change.name).collect();
        assert_eq!(names, ["run", "hyper_parameters"], "{changes:?}");
        assert!(changes[1].said.contains("inner_steps"), "{changes:?}");
        assert!(second.follows(Some(first.run)).is_some_and(|finding| finding.urgency == Urgency::Now));
        assert_eq!(second.follows(Some(second.run)), None);
        assert_eq!(second.follows(None), None);
    }

    #[tokio::test]
    async fn a_binary_that_does_not_fit_is_told_why() {
        let lab = Lab::new().await;
        let seen = Seen::look(&[lab.bucket("leader")]).await.unwrap();
        let other = Seen {
            protocol: PROTOCOL_VERSION + 1,
            containers: [container::VERSION, container::VERSION + 1].into(),
            rules: Some(("native-9".into(), Digest::of(b"other rules"))),
            ..seen
        };
        let names: Vec<&str> = other.misfits().iter().map(|finding| finding.name).collect();
        assert_eq!(names, ["protocol", "container", "rules"]);
    }

    #[test]
    fn a_damaged_memory_is_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Seen::before(dir.path()), None);
        std::fs::write(dir.path().join(SEEN_FILE), "{\"run\":").unwrap();
        assert_eq!(Seen::before(dir.path()), None);
    }
}
