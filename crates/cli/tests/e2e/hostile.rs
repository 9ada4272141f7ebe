//! A peer that is registered, keeps the timetable, and lies: every object is refused for its own reason and costs nobody else anything.
//!
//! The test takes the place of a miner: its hotkey, its bucket's key and its part in paced time. For each window it plays one attack.

use crate::lab::{Lab, Running, Time, block_on};
use std::time::Duration;
use templar_codec::{HEADER_BYTES, Header, seal};
use templar_node::journal::Entry;
use templar_node::signed;
use templar_protocol::messages::{Commit, RunDescriptor};
use templar_protocol::{AccountId, Digest, Uid, Window, names};
use templar_s3::AccessFile;
use templar_store::{Bucket, BucketConfig, BucketUrl, Credentials, Deadline, Http, Reach};
use templar_wallet::{Keypair, Signer, WalletDir};

const HONEST: [&str; 3] = ["miner-0", "miner-1", "validator-0"];
const HOSTILE: &str = "miner-2";
const HOSTILE_UID: Uid = Uid(3);
/// The honest miner whose last object is the pattern for lies.
const PATTERN_UID: Uid = Uid(1);

/// δ of the preset that the tiny model is made from.
const UPLOAD_WINDOW_MS: u64 = 2000;

/// What the peer does in a window.
#[derive(Clone, Copy, Debug)]
enum Attack {
    /// The object ends early.
    Truncated,
    /// The object is longer than the commit says.
    Longer,
    /// The commit announces more than any object can have.
    Announced,
    /// One bit is not as committed.
    Flipped,
    /// The object is another key's.
    OtherKey,
    /// The object claims the peer's own key and is sealed by another one.
    Forged,
    /// The payload was changed after sealing and before the commit.
    Resealed,
    /// The payload is noise, duly sealed.
    Noise,
    /// The object is of the window before.
    Replayed,
    /// The object starts from another θ.
    OtherTheta,
    /// The object was trained on samples of its own choice.
    OtherSamples,
    /// The commit is signed by another key.
    OtherCommit,
    /// There is no commit.
    Uncommitted,
    /// The object comes after δ.
    Late,
}

/// Every attack with the kinds of refusal that fit it.
const ATTACKS: [(Attack, &str); 14] = [
    (Attack::Truncated, "truncated"),
    (Attack::Longer, "oversized"),
    (Attack::Announced, "oversized"),
    (Attack::Flipped, "not-as-committed"),
    (Attack::OtherKey, "wrong-hotkey"),
    (Attack::Forged, "bad-seal"),
    (Attack::Resealed, "bad-digest"),
    (Attack::Noise, "malformed"),
    (Attack::Replayed, "wrong-window"),
    (Attack::OtherTheta, "desynchronised"),
    (Attack::OtherSamples, "wrong-samples"),
    (Attack::OtherCommit, "bad-commit"),
    (Attack::Uncommitted, "not-committed"),
    (Attack::Late, "late"),
];

/// Signs with one key in the name of another.
struct Forger<'a> {
    name: AccountId,
    key: &'a Keypair,
}

impl Signer for Forger<'_> {
    fn account_id(&self) -> AccountId {
        self.name
    }

    fn sign(&self, context: &[u8], message: &[u8]) -> [u8; 64] {
        self.key.sign(context, message)
    }
}

/// The peer, in the place of a miner that was killed.
struct Peer {
    key: Keypair,
    stranger: Keypair,
    own: Bucket,
    pattern: Bucket,
    run: Digest,
    time: Time,
}

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(60))
}

fn bucket(lab: &Lab, name: &str, credentials: Option<Credentials>) -> Bucket {
    let url = BucketUrl::local(([127, 0, 0, 1], lab.port("store_port")).into(), name).unwrap();
    let config = BucketConfig { credentials, ..BucketConfig::anonymous(url) };
    Bucket::open(&config, &Http::new(Reach::Anywhere).unwrap()).unwrap()
}

impl Peer {
    async fn take_over(lab: &Lab) -> Self {
        // The store's client wants a provider of cryptography even for plain HTTP.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = WalletDir::new(lab.dir().join("wallets")).hotkey(HOSTILE, "default").unwrap();
        let access = AccessFile::load(&lab.dir().join("access.json")).unwrap();
        let entry = access.buckets().iter().find(|entry| entry.name == HOSTILE).unwrap();
        let credentials = Credentials { access_key_id: entry.access_key_id.clone(), secret: entry.secret.clone() };
        let descriptor = bucket(lab, "validator-0", None).get(names::RUN, 1 << 20, soon()).await.unwrap();
        Self {
            time: Time::join(lab, &key.public().to_string()).await,
            stranger: Keypair::from_seed([9; 32]),
            own: bucket(lab, HOSTILE, Some(credentials)),
            pattern: bucket(lab, "miner-0", None),
            run: signed::open::<RunDescriptor>(&descriptor).unwrap().digest,
            key,
        }
    }

    /// Header and payload that an honest miner in this peer's place could send in `window`, but for samples and training.
    async fn honest(&self, lab: &Lab, window: Window) -> (Header, Vec<u8>) {
        let before = Window(window.0 - 1);
        let bytes = self.pattern.get(&names::object(before, PATTERN_UID), 1 << 20, soon()).await.unwrap();
        let entry = lab.windows("validator-0").remove(&before.0).unwrap();
        let pattern = Header::parse(&bytes).unwrap();
        let header = Header { uid: HOSTILE_UID, window, global_step: entry.global_step, theta: entry.state_digest, ..pattern };
        (header, bytes[HEADER_BYTES..].to_vec())
    }

    /// The object that the peer commits to.
    fn object(&self, attack: Attack, header: &Header, payload: &[u8]) -> Vec<u8> {
        let seal_as = |signer: &dyn Signer| seal(header, payload, signer);
        match attack {
            Attack::OtherKey => seal_as(&self.stranger),
            Attack::Forged => seal_as(&Forger { name: self.key.public(), key: &self.stranger }),
            Attack::Resealed => flip_last_bit(seal_as(&self.key)),
            Attack::Noise => seal(header, &vec![0xa5; payload.len()], &self.key),
            Attack::Replayed => seal(&Header { window: Window(header.window.0 - 1), ..header.clone() }, payload, &self.key),
            Attack::OtherTheta => seal(&Header { theta: Digest::of(b"another"), ..header.clone() }, payload, &self.key),
            _ => seal_as(&self.key),
        }
    }

    async fn put_commit(&self, attack: Attack, window: Window, object: &[u8]) {
        let object_bytes = if matches!(attack, Attack::Announced) { 1 << 40 } else { object.len() as u64 };
        let commit = Commit { run: self.run, uid: HOSTILE_UID, window, object: Digest::of(object), object_bytes };
        let signer = if matches!(attack, Attack::OtherCommit) { &self.stranger } else { &self.key };
        let envelope = signed::sign(&commit, signer).unwrap();
        self.own.put(&names::commit(window, HOSTILE_UID), envelope.into()).await.unwrap();
    }

    /// Plays `attack` in `window`, which has not ended.
    async fn play(&self, lab: &Lab, net: &Running, window: Window, attack: Attack) {
        let key = names::object(window, HOSTILE_UID);
        // By now all others have ended the window before, have sealed and committed, and sleep.
        self.time.sleep_until(net, self.time.start_ms(window) + 4000).await;
        let (header, payload) = self.honest(lab, window).await;
        let object = self.object(attack, &header, &payload);
        if matches!(attack, Attack::Uncommitted) {
            self.own.put(&key, object.into()).await.unwrap();
            return;
        }
        self.put_commit(attack, window, &object).await;
        let put_ms = match attack {
            Attack::Late => self.time.start_ms(window.next()) + UPLOAD_WINDOW_MS + 100,
            _ => self.time.reveal_ms(window),
        };
        self.time.sleep_until(net, put_ms).await;
        let revealed = match attack {
            Attack::Truncated => object[..object.len() / 2].to_vec(),
            Attack::Longer => [&object[..], b"and more"].concat(),
            Attack::Flipped => flip_last_bit(object),
            _ => object,
        };
        self.own.put(&key, revealed.into()).await.unwrap();
    }
}

fn flip_last_bit(mut bytes: Vec<u8>) -> Vec<u8> {
    *bytes.last_mut().unwrap() ^= 1;
    bytes
}

/// Why the validator refused the peer in `window`, with the sentence.
fn refusals(lab: &Lab, window: Window) -> Vec<(String, String)> {
    let refusal = |entry| match entry {
        Entry::Refused { window: of, uid, kind, reason } if of == window && uid == HOSTILE_UID => Some((kind, reason)),
        _ => None,
    };
    lab.journal("validator-0").into_iter().filter_map(|line| refusal(line.entry)).collect()
}

#[test]
fn every_lie_is_refused_for_its_reason_and_costs_the_others_nothing() {
    let lab = Lab::new();
    let mut net = lab.begin(&["--no-restart"]);
    net.wait("a window of three miners", |_| lab.windows("validator-0").values().any(|entry| entry.gathered.len() == 3).then_some(()));
    net.kill(HOSTILE);
    let first = block_on(async {
        let peer = Peer::take_over(&lab).await;
        let first = Window(peer.time.window().0 + 1);
        for (window, (attack, _)) in (first.0..).map(Window).zip(ATTACKS) {
            peer.play(&lab, &net, window, attack).await;
        }
        let last = first.0 + ATTACKS.len() as u64;
        // Until the last window that was attacked is over for all; then the peer falls silent and time stands still.
        peer.time.sleep_until(&net, peer.time.start_ms(Window(last)) + 4000).await;
        first
    });
    let last = first.0 + ATTACKS.len() as u64 - 1;
    net.wait("the last window", |_| HONEST.iter().all(|node| lab.windows(node).contains_key(&last)).then_some(()));
    assert_eq!(net.interrupt().status.code(), Some(130));

    for (window, (attack, kind)) in (first.0..).map(Window).zip(ATTACKS) {
        let refusals = refusals(&lab, window);
        assert!(matches!(&refusals[..], [(found, _)] if found == kind), "{attack:?} in window {window}: {refusals:?}");
        for node in HONEST {
            let entry = &lab.windows(node)[&window.0];
            assert_eq!(entry.gathered, [Uid(1), Uid(2)], "{attack:?}, {node}: {entry:?}");
            assert!(entry.stepped && entry.refused[&HOSTILE_UID].starts_with(kind), "{attack:?}, {node}: {entry:?}");
        }
    }

    // An honest process works under that key again. Its objects are taken and checked, but fourteen lies have cost it its standing: it is held
    // back from θ and earns next to nothing until it has earned its place again.
    let report = lab.localnet(&["--windows", "3"]).wait_for_end().report();
    let newest = report["windows"].as_array().unwrap().last().unwrap();
    assert_eq!(newest["gathered"], serde_json::json!([1, 2]), "{report}");
    let entry = &lab.windows("validator-0")[&newest["window"].as_u64().unwrap()];
    assert!(entry.refused[&HOSTILE_UID].starts_with("held: "), "{entry:?}");
    let weight = |uid: &str| report["weights"][uid].as_f64().unwrap_or(0.0);
    assert!(weight("3") < 0.1 * weight("1"), "{report}");
    lab.assert_agreement(&[&HONEST[..], &[HOSTILE]].concat());
}
