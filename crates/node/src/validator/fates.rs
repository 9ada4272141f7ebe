//! What became of each miner's object in a window, and where the manifest and this validator do not agree. Pure.
//!
//! What was applied to θ counts as accepted, whoever saw it. Beyond that a validator believes its own eyes: a miner that it found right and the
//! manifest leaves out is not scored down for that, and what it could not reach it does not call absent.

use super::collect::Collected;
use crate::roster::Member;
use std::collections::BTreeSet;
use templar_codec::Opened;
use templar_gauntlet::sheet::{DISPUTES_MAX, Dispute};
use templar_gauntlet::{Fate, Member as Scored};
use templar_protocol::messages::{Manifest, REASON_CHARS_MAX};
use templar_protocol::{AccountId, Digest, Uid, Window};

/// The miners of the window with what became of their objects, by rising uid, without this node itself (`own`). `opened` are the manifest's
/// objects as they opened here.
pub fn fates(miners: &[Member], own: &AccountId, manifest: &Manifest, collected: &Collected, opened: &[Opened]) -> Vec<Scored> {
    let applied: BTreeSet<Uid> = opened.iter().map(|object| object.header().uid).collect();
    let mut members: Vec<Scored> = miners
        .iter()
        .filter(|member| member.hotkey != *own)
        .map(|member| Scored { uid: member.uid, hotkey: member.hotkey, fate: fate(member, manifest, collected, &applied) })
        .collect();
    members.sort_by_key(|member| member.uid);
    members
}

fn fate(member: &Member, manifest: &Manifest, collected: &Collected, applied: &BTreeSet<Uid>) -> Fate {
    let uid = member.uid;
    let listed = manifest.accepted.iter().find(|accepted| accepted.uid == uid && accepted.hotkey == member.hotkey);
    if let Some(accepted) = listed.filter(|_| applied.contains(&uid)) {
        return Fate::Accepted { object: accepted.object };
    }
    if let Some(bytes) = collected.objects.get(&uid) {
        if listed.is_none() && is_held(manifest, uid) {
            return Fate::Held { object: Digest::of(bytes) };
        }
        let said = manifest.refused.iter().find(|refused| refused.uid == uid);
        let why = match (listed, said) {
            (Some(_), _) => "it lists another object of it, which does not open".to_owned(),
            (None, Some(refused)) => format!("{}: {}", refused.kind, refused.reason),
            (None, None) => "it does not mention it".to_owned(),
        };
        return Fate::Omitted { object: Digest::of(bytes), why };
    }
    match collected.refused.iter().find(|refused| refused.uid == uid) {
        Some(refused) if refused.kind == "unreachable" => Fate::Unreachable { why: refused.reason.clone() },
        Some(refused) if !matches!(refused.kind.as_str(), "absent" | "no-bucket") => {
            Fate::Refused { kind: refused.kind.clone(), reason: refused.reason.clone() }
        }
        // Only its publisher is known to have written these bytes, so they are not held against the miner.
        _ if listed.is_some() => {
            Fate::Refused { kind: "unopened".into(), reason: "the manifest lists an object that does not open".into() }
        }
        _ => Fate::Absent,
    }
}

/// The kind of a refusal that a manifest gives to a right object of a miner whose updates have not helped of late.
pub const HELD: &str = "held";

/// Whether `manifest` holds the object of `uid` back.
pub fn is_held(manifest: &Manifest, uid: Uid) -> bool {
    manifest.refused.iter().any(|refused| refused.uid == uid && refused.kind == HELD)
}

/// Whether the object `object` that `uid` sent for `window` is spent: `manifest` lists it, or holds it back. A held one counts for its miner as if it had
/// been applied; given back to the residual, it would be sent again and make the next object a replay of it.
pub fn is_spent(manifest: &Manifest, window: Window, uid: Uid, object: Digest) -> bool {
    manifest.window == window && (manifest.accepted.iter().any(|accepted| accepted.object == object) || is_held(manifest, uid))
}

/// Whose listed objects this validator has not read a commit of before anything was revealed, by rising uid.
pub fn uncommitted(manifest: &Manifest, collected: &Collected) -> Vec<Uid> {
    let committed = |uid: Uid, object: Digest| collected.commits.iter().any(|commit| commit.uid == uid && commit.object == object);
    let mut uids: Vec<Uid> =
        manifest.accepted.iter().filter(|accepted| !committed(accepted.uid, accepted.object)).map(|accepted| accepted.uid).collect();
    uids.sort_unstable();
    uids
}

/// Where `manifest` does not agree with what this validator collected itself; `clip_norms` are those of the objects that it lists.
pub fn disputes(manifest: &Manifest, collected: &Collected, clip_norms: &[f32]) -> Vec<Dispute> {
    let mut found: Vec<Dispute> = Vec::new();
    let mut dispute = |uid: Option<Uid>, kind: &str, reason: String| {
        let reason = reason.chars().take(REASON_CHARS_MAX).collect();
        found.push(Dispute { uid, kind: kind.to_owned(), reason });
    };
    for accepted in &manifest.accepted {
        let uid = accepted.uid;
        let refused = collected.refused.iter().find(|refused| refused.uid == uid);
        match (collected.commits.iter().find(|commit| commit.uid == uid), refused) {
            (Some(commit), _) if commit.object != accepted.object => {
                let (here, there) = (commit.object.short(), accepted.object.short());
                dispute(Some(uid), "other-object", format!("the commit read here announces {here}, the manifest lists {there}"));
            }
            // Whom this node could not reach it has no word against.
            (_, Some(refused)) if !matches!(refused.kind.as_str(), "unreachable" | "late") => {
                dispute(Some(uid), "refused-here", format!("{}: {}", refused.kind, refused.reason));
            }
            (None, None) => dispute(Some(uid), "uncommitted", "no commit of it was read here before anything was revealed".to_owned()),
            _ => {}
        }
    }
    let left_out = |uid: &Uid| manifest.accepted.iter().all(|accepted| accepted.uid != *uid) && !is_held(manifest, *uid);
    for uid in collected.objects.keys().filter(|uid| left_out(uid)) {
        let said = manifest.refused.iter().find(|refused| refused.uid == *uid);
        let why = said.map_or_else(|| "does not mention it".to_owned(), |refused| format!("says {}: {}", refused.kind, refused.reason));
        dispute(Some(*uid), "omitted", format!("its object was found right here, the manifest {why}"));
    }
    if !manifest.accepted.is_empty() && manifest.clip_norms != clip_norms {
        dispute(
            None,
            "clip-norms",
            "its clipping norms are not those of the objects that it lists; everybody computes them anew".to_owned(),
        );
    }
    found.truncate(DISPUTES_MAX);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_protocol::GlobalStep;
    use templar_protocol::messages::{Accepted, CommitRead, Refused};

    fn member(uid: u16) -> Member {
        Member { uid: Uid(uid), hotkey: AccountId([uid as u8; 32]), stake: 0, permit: false, bucket: None }
    }

    fn commit(uid: u16, object: &[u8]) -> CommitRead {
        CommitRead { uid: Uid(uid), object: Digest::of(object), object_bytes: object.len() as u64 }
    }

    fn refused(uid: u16, kind: &str) -> Refused {
        Refused { uid: Uid(uid), kind: kind.into(), reason: "why".into() }
    }

    fn manifest(accepted: &[(u16, &[u8])], refused: Vec<Refused>) -> Manifest {
        let accept = |(uid, object): &(u16, &[u8])| Accepted {
            uid: Uid(*uid),
            hotkey: AccountId([*uid as u8; 32]),
            object: Digest::of(object),
            object_bytes: object.len() as u64,
        };
        Manifest {
            run: Digest::default(),
            window: Window(3),
            slot: 0,
            global_step: GlobalStep(1),
            theta_before: Digest::default(),
            accepted: accepted.iter().map(accept).collect(),
            clip_norms: vec![1.0],
            commits: accepted.iter().map(|(uid, object)| commit(*uid, object)).collect(),
            refused,
            previous: None,
        }
    }

    #[test]
    fn absent_and_unreachable_are_never_confused() {
        let collected = Collected {
            refused: vec![refused(1, "absent"), refused(2, "unreachable"), refused(3, "late"), refused(4, "no-bucket")],
            objects: [(Uid(5), bytes::Bytes::from_static(b"five"))].into(),
            ..Collected::default()
        };
        let miners: Vec<Member> = (1..=7).map(member).collect();
        // What the leader says of 1 to 4 counts for nothing here.
        let manifest = manifest(&[(6, b"six")], (1..=5).map(|uid| refused(uid, "malformed")).collect());
        let members = fates(&miners, &AccountId([7; 32]), &manifest, &collected, &[]);
        let fates: Vec<&Fate> = members.iter().map(|member| &member.fate).collect();
        assert_eq!(fates[0], &Fate::Absent);
        assert!(matches!(fates[1], Fate::Unreachable { .. }));
        assert!(matches!(fates[2], Fate::Refused { kind, .. } if kind == "late"));
        assert_eq!(fates[3], &Fate::Absent);
        assert!(matches!(fates[4], Fate::Omitted { object, why } if *object == Digest::of(b"five") && why.contains("malformed")));
        assert!(matches!(fates[5], Fate::Refused { kind, .. } if kind == "unopened"), "listed, and it does not open");
        assert_eq!(fates.len(), 6, "a validator does not score itself");
    }

    #[test]
    fn a_held_object_is_no_fault_and_no_dispute() {
        let collected = Collected {
            commits: vec![commit(1, b"one"), commit(2, b"two")],
            objects: [(Uid(1), bytes::Bytes::from_static(b"one")), (Uid(2), bytes::Bytes::from_static(b"two"))].into(),
            ..Collected::default()
        };
        let held = manifest(&[(1, b"one")], vec![refused(2, HELD)]);
        let members = fates(&[member(2), member(3)], &AccountId::default(), &held, &collected, &[]);
        assert_eq!(members[0].fate, Fate::Held { object: Digest::of(b"two") });
        assert_eq!(members[1].fate, Fate::Absent);
        assert_eq!(disputes(&held, &collected, &[1.0]), []);
        let spent = |window, uid, object: &[u8]| is_spent(&held, Window(window), Uid(uid), Digest::of(object));
        assert!(spent(3, 1, b"one") && spent(3, 2, b"two"), "neither is sent again");
        assert!(!spent(3, 3, b"three") && !spent(4, 1, b"one"), "what a manifest does not decide comes back");
        // Who is listed cannot be held as well.
        assert!(!matches!(
            fates(&[member(1)], &AccountId::default(), &manifest(&[(1, b"one")], vec![refused(1, HELD)]), &collected, &[])[0].fate,
            Fate::Held { .. }
        ));
    }

    #[test]
    fn a_lying_leader_leaves_evidence() {
        let collected = Collected {
            commits: vec![commit(1, b"one"), commit(2, b"two"), commit(3, b"three")],
            refused: vec![refused(3, "wrong-samples"), refused(6, "unreachable")],
            objects: [(Uid(1), bytes::Bytes::from_static(b"one")), (Uid(2), bytes::Bytes::from_static(b"two"))].into(),
            ..Collected::default()
        };
        let lie = manifest(&[(2, b"another"), (3, b"three"), (4, b"four"), (6, b"six")], vec![refused(1, "late")]);
        let found = disputes(&lie, &collected, &[2.0]);
        let kinds: Vec<(Option<u16>, &str)> = found.iter().map(|dispute| (dispute.uid.map(|uid| uid.0), dispute.kind.as_str())).collect();
        let expected =
            [(Some(2), "other-object"), (Some(3), "refused-here"), (Some(4), "uncommitted"), (Some(1), "omitted"), (None, "clip-norms")];
        assert_eq!(kinds, expected);
        assert_eq!(uncommitted(&lie, &collected), [Uid(2), Uid(4), Uid(6)]);
        let honest = manifest(&[(1, b"one"), (2, b"two")], vec![refused(3, "wrong-samples")]);
        assert_eq!(disputes(&honest, &collected, &[1.0]), []);
    }
}
