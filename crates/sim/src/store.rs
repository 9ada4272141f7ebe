//! The virtual store: every node's bucket in memory, behind links with latency, bandwidth and faults.
//!
//! A request is answered when it is made: the store looks at what is there now and says when the answer will have arrived. What is put
//! becomes visible when its last byte has arrived. A failed request is made again, as the store's client does, a few times with growing
//! pauses. All chance is drawn by the number of the node's request.

use crate::draw::Draw;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};

/// Attempts of one request, and the pause before the second; pauses double.
const ATTEMPTS: u32 = 4;
const PAUSE_MS: u64 = 200;
/// What a failed attempt costs.
const FAILED_MS: u64 = 100;
/// Attempts of a request that are refused while a node is throttled.
const THROTTLED_ATTEMPTS: u32 = 2;
/// Versions of an object that are kept: the newest may not have arrived yet.
const VERSIONS_MAX: usize = 3;

/// A node's link to the world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Time of an answer without content, ms.
    pub latency_ms: u64,
    /// Bytes in a millisecond, each way.
    pub bytes_per_ms: f64,
}

/// What a read gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Got {
    /// The object.
    Found(Bytes),
    /// There is none.
    Absent,
    /// It is larger than was asked for.
    TooLarge,
    /// The bucket could not be asked.
    Failed(String),
}

#[derive(Clone, Debug)]
struct Version {
    visible_ms: u64,
    bytes: Bytes,
    /// What every other reader gets instead.
    alternate: Option<Bytes>,
}

#[derive(Debug, Default)]
struct Bucket {
    objects: BTreeMap<String, Vec<Version>>,
    /// Its own pace, where it is slower than the links.
    bytes_per_ms: Option<f64>,
}

/// A node's place in the list of nodes.
pub type NodeIndex = usize;

/// All buckets, by the node that owns them.
#[derive(Debug)]
pub struct Store {
    buckets: HashMap<NodeIndex, Bucket>,
    links: Vec<Link>,
    requests: Vec<u64>,
    draw: Draw,
    loss: f64,
    size_factor: f64,
    /// Nodes whose buckets nobody reaches.
    pub down: Vec<bool>,
    /// The side of a partition that each node is on.
    pub side: Vec<bool>,
    /// Nodes whose own puts are refused.
    pub denied: Vec<bool>,
    /// Nodes in whose buckets others find nothing.
    pub hidden: Vec<bool>,
    /// Nodes whose first attempts are answered with a request for fewer.
    pub throttled: Vec<bool>,
    /// By how much each node's link is slower than it was, down and up.
    pub slower: Vec<[f64; 2]>,
    /// Requests of each node with every attempt: all, those that failed, and those of them that were throttled.
    pub attempts: Vec<[u64; 3]>,
    /// Bytes received and sent by each node, as the links count them.
    pub traffic: Vec<[f64; 2]>,
}

impl Store {
    /// Empty buckets behind `links`; a share `loss` of the requests fails, and a byte counts as `size_factor`.
    pub fn new(links: Vec<Link>, draw: Draw, loss: f64, size_factor: f64) -> Self {
        let mut store = Self {
            buckets: HashMap::new(),
            links: vec![],
            requests: vec![],
            draw,
            loss,
            size_factor,
            down: vec![],
            side: vec![],
            denied: vec![],
            hidden: vec![],
            throttled: vec![],
            slower: vec![],
            attempts: vec![],
            traffic: vec![],
        };
        links.into_iter().for_each(|link| store.add(link));
        store
    }

    /// Adds a node with this link.
    pub fn add(&mut self, link: Link) {
        self.links.push(link);
        self.requests.push(0);
        self.down.push(false);
        self.side.push(false);
        self.denied.push(false);
        self.hidden.push(false);
        self.throttled.push(false);
        self.slower.push([1.0; 2]);
        self.attempts.push([0; 3]);
        self.traffic.push([0.0; 2]);
    }

    /// Slows the bucket of `owner` down.
    pub fn slow_down(&mut self, owner: NodeIndex, bytes_per_ms: f64) {
        self.buckets.entry(owner).or_default().bytes_per_ms = Some(bytes_per_ms);
    }

    /// When an attempt between these nodes has succeeded, or when it was given up.
    fn reach(&mut self, node: NodeIndex, owner: NodeIndex, now_ms: u64) -> Result<u64, u64> {
        let cut = self.down[owner] || self.side[node] != self.side[owner];
        let request = self.requests[node];
        self.requests[node] += 1;
        let place = self.draw.at(node as u64).at(request);
        let mut at_ms = now_ms;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                at_ms += PAUSE_MS << (attempt - 1);
            }
            self.attempts[node][0] += 1;
            if self.throttled[node] && attempt < THROTTLED_ATTEMPTS {
                at_ms += FAILED_MS;
                self.attempts[node][1] += 1;
                self.attempts[node][2] += 1;
                continue;
            }
            if !cut && !place.at(u64::from(attempt)).chance(self.loss) {
                // A fifth of jitter.
                let latency = self.links[node].latency_ms as f64 * place.of("jitter").real(0.9, 1.1);
                return Ok(at_ms + latency.ceil() as u64);
            }
            at_ms += FAILED_MS;
            self.attempts[node][1] += 1;
        }
        Err(at_ms)
    }

    fn transfer_ms(&self, bytes: usize, bytes_per_ms: f64) -> u64 {
        (bytes as f64 * self.size_factor / bytes_per_ms).ceil() as u64
    }

    /// Reads `key` of the bucket of `owner`, of at most `bytes_max` bytes, for `node`: what comes of it, and when.
    pub fn get(&mut self, node: NodeIndex, owner: NodeIndex, key: &str, bytes_max: u64, now_ms: u64) -> (u64, Got) {
        let reached_ms = match self.reach(node, owner, now_ms) {
            Ok(reached_ms) => reached_ms,
            Err(given_up_ms) => return (given_up_ms, Got::Failed("the bucket did not answer".into())),
        };
        if self.hidden[owner] && node != owner {
            return (reached_ms, Got::Absent);
        }
        let Some(bucket) = self.buckets.get(&owner) else { return (reached_ms, Got::Absent) };
        let versions = bucket.objects.get(key).map_or(&[][..], Vec::as_slice);
        let Some(version) = versions.iter().rev().find(|version| version.visible_ms <= now_ms) else { return (reached_ms, Got::Absent) };
        let bytes = match &version.alternate {
            Some(alternate) if node % 2 == 1 => alternate.clone(),
            _ => version.bytes.clone(),
        };
        if bytes.len() as u64 > bytes_max {
            return (reached_ms, Got::TooLarge);
        }
        let slowest = bucket.bytes_per_ms.unwrap_or(f64::INFINITY).min(self.links[node].bytes_per_ms / self.slower[node][0]);
        self.traffic[node][0] += bytes.len() as f64 * self.size_factor;
        (reached_ms + self.transfer_ms(bytes.len(), slowest), Got::Found(bytes))
    }

    /// Puts `bytes` into the node's own bucket; gives the instant at which they are visible.
    ///
    /// # Errors
    /// The bucket cannot be reached; the instant at which that is known.
    pub fn put(&mut self, node: NodeIndex, key: &str, bytes: Bytes, now_ms: u64) -> Result<u64, u64> {
        self.put_two_faced(node, key, bytes, None, now_ms)
    }

    /// As [`Store::put`], but every other reader gets `alternate`.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn put_two_faced(&mut self, node: NodeIndex, key: &str, bytes: Bytes, alternate: Option<Bytes>, now_ms: u64) -> Result<u64, u64> {
        let reached_ms = self.reach(node, node, now_ms)?;
        if self.denied[node] {
            self.attempts[node][1] += 1;
            return Err(reached_ms);
        }
        let visible_ms = reached_ms + self.transfer_ms(bytes.len(), self.links[node].bytes_per_ms / self.slower[node][1]);
        self.traffic[node][1] += bytes.len() as f64 * self.size_factor;
        let versions = self.buckets.entry(node).or_default().objects.entry(key.to_owned()).or_default();
        versions.push(Version { visible_ms, bytes, alternate });
        if versions.len() > VERSIONS_MAX {
            versions.remove(0);
        }
        Ok(visible_ms)
    }

    /// As [`Store::put`], unless there is such an object.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn put_if_absent(&mut self, node: NodeIndex, key: &str, bytes: Bytes, now_ms: u64) -> Result<u64, u64> {
        if self.buckets.get(&node).is_some_and(|bucket| bucket.objects.contains_key(key)) {
            return self.reach(node, node, now_ms);
        }
        self.put(node, key, bytes, now_ms)
    }

    /// When `key` of the bucket of `owner` became visible.
    pub fn visible_since_ms(&self, owner: NodeIndex, key: &str) -> Option<u64> {
        self.buckets.get(&owner)?.objects.get(key)?.first().map(|version| version.visible_ms)
    }

    /// Deletes an object.
    pub fn delete(&mut self, node: NodeIndex, key: &str) {
        if let Some(bucket) = self.buckets.get_mut(&node) {
            bucket.objects.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(loss: f64) -> Store {
        Store::new(vec![Link { latency_ms: 100, bytes_per_ms: 10.0 }; 4], Draw::new(1), loss, 1.0)
    }

    #[test]
    fn an_object_is_there_when_its_last_byte_is() {
        let mut store = store(0.0);
        let visible_ms = store.put(0, "a", Bytes::from(vec![7; 1000]), 0).unwrap();
        assert!((190..=210).contains(&visible_ms), "{visible_ms}");
        assert_eq!(store.get(1, 0, "a", 5000, visible_ms - 1).1, Got::Absent);
        let (ready_ms, got) = store.get(1, 0, "a", 5000, visible_ms);
        assert!(matches!(got, Got::Found(_)) && ready_ms >= visible_ms + 190);
        assert_eq!(store.get(1, 0, "a", 999, visible_ms).1, Got::TooLarge);
        store.slow_down(0, 1.0);
        assert!(store.get(1, 0, "a", 5000, visible_ms).0 >= visible_ms + 1000);
    }

    #[test]
    fn partitions_and_outages_cut_and_heal() {
        let mut store = store(0.0);
        store.put(0, "a", Bytes::from_static(b"x"), 0).unwrap();
        store.side[1] = true;
        assert!(matches!(store.get(1, 0, "a", 9, 1000).1, Got::Failed(_)));
        assert!(matches!(store.get(2, 0, "a", 9, 1000).1, Got::Found(_)));
        store.side[1] = false;
        assert!(matches!(store.get(1, 0, "a", 9, 1000).1, Got::Found(_)));
        store.down[0] = true;
        assert!(store.put(0, "b", Bytes::new(), 0).is_err());
    }

    #[test]
    fn buckets_refuse_hide_throttle_and_links_get_slow() {
        let mut store = store(0.0);
        store.put(0, "a", Bytes::from(vec![7; 1000]), 0).unwrap();
        store.hidden[0] = true;
        assert_eq!(store.get(1, 0, "a", 5000, 1000).1, Got::Absent);
        assert!(matches!(store.get(0, 0, "a", 5000, 1000).1, Got::Found(_)));
        store.hidden[0] = false;
        let before_ms = store.get(1, 0, "a", 5000, 1000).0;
        store.slower[1][0] = 10.0;
        assert!(store.get(1, 0, "a", 5000, 1000).0 > before_ms + 800);
        store.throttled[1] = true;
        store.get(1, 0, "a", 5000, 1000);
        assert_eq!(store.attempts[1], [6, 2, 2]);
        store.denied[0] = true;
        assert!(store.put(0, "b", Bytes::new(), 0).is_err());
    }

    #[test]
    fn lost_requests_are_made_again() {
        let mut store = store(0.2);
        store.put(0, "a", Bytes::from_static(b"x"), 0).unwrap();
        let answers: Vec<(u64, Got)> = (0..500).map(|_| store.get(1, 0, "a", 9, 10_000)).collect();
        let failed = answers.iter().filter(|(_, got)| matches!(got, Got::Failed(_))).count();
        assert!(failed < 10, "{failed} of 500 failed four times");
        assert!(answers.iter().any(|(ready_ms, _)| *ready_ms > 10_300), "some were made again");
    }

    #[test]
    fn two_faces_and_versions() {
        let mut store = store(0.0);
        store.put_two_faced(0, "a", Bytes::from_static(b"x"), Some(Bytes::from_static(b"y")), 0).unwrap();
        assert_eq!(store.get(2, 0, "a", 9, 1000).1, Got::Found(Bytes::from_static(b"x")));
        assert_eq!(store.get(1, 0, "a", 9, 1000).1, Got::Found(Bytes::from_static(b"y")));
        store.put_if_absent(0, "a", Bytes::from_static(b"z"), 2000).unwrap();
        assert_eq!(store.get(2, 0, "a", 9, 9000).1, Got::Found(Bytes::from_static(b"x")));
        store.delete(0, "a");
        assert_eq!(store.get(2, 0, "a", 9, 9000).1, Got::Absent);
    }
}
