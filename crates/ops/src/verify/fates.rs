//! Whether the published fates are those of the manifest that decided the window.

use super::round::Round;
use super::{Case, Check};
use templar_gauntlet::{Fate, Member};
use templar_node::validator::fates::HELD;
use templar_protocol::Uid;
use templar_protocol::messages::Manifest;

/// The check `fates`.
pub(super) fn check(case: &Case<'_>, round: &Round) -> Check {
    let (sheet, manifest) = (&case.sheet, &round.decided.manifest);
    let mut differences = Vec::new();
    if manifest.theta_before != sheet.theta_before || manifest.global_step != sheet.global_step {
        let (says, is) = (sheet.theta_before.short(), manifest.theta_before.short());
        differences.push(format!("published θ {says} at step {}, the manifest {is} at {}", sheet.global_step, manifest.global_step));
    }
    let own = round.decided.signer == case.signer;
    differences.extend(sheet.observation.members.iter().filter_map(|member| difference(member, manifest, own)));
    let unknown = manifest.accepted.iter().filter(|accepted| sheet.observation.member(accepted.uid).is_none());
    differences.extend(unknown.map(|accepted| format!("uid {}: the manifest lists it, the sheet does not know it", accepted.uid)));
    let said = if own {
        "fates as in the manifest, which this validator published itself"
    } else {
        "fates against the manifest of another validator; refusals that this one saw itself are its word alone"
    };
    Check::of("fates", said, differences)
}

fn difference(member: &Member, manifest: &Manifest, own: bool) -> Option<String> {
    let uid = member.uid;
    let listed = manifest.accepted.iter().find(|accepted| accepted.uid == uid && accepted.hotkey == member.hotkey);
    let refused = manifest.refused.iter().find(|refused| refused.uid == uid).map(|refused| refused.kind.as_str());
    let differs = |what: String| Some(format!("uid {uid}: {what}"));
    match (&member.fate, listed) {
        (Fate::Accepted { object }, Some(accepted)) if *object == accepted.object => None,
        (Fate::Accepted { .. }, Some(accepted)) => {
            differs(format!("the manifest lists the object {}, not the published one", accepted.object.short()))
        }
        (Fate::Accepted { .. }, None) => differs("published as accepted, the manifest does not list it".into()),
        (Fate::Held { .. }, None) if refused == Some(HELD) => None,
        (Fate::Held { .. }, None) => differs(format!("published as held back, the manifest says {}", refused.unwrap_or("nothing"))),
        // What is listed and does not open belongs to nobody; whether that is so, the check of the objects says.
        (Fate::Refused { kind, .. }, Some(_)) if kind == "unopened" || !own => None,
        (Fate::Omitted { .. }, Some(_)) if !own => None,
        (fate, Some(_)) => differs(format!("published as {}, the manifest lists its object", fate.name())),
        (fate, None) if own => refusal(uid, fate, refused),
        (_, None) => None,
    }
}

/// Who publishes a manifest and a sheet says the same in both.
fn refusal(uid: Uid, fate: &Fate, refused: Option<&str>) -> Option<String> {
    let same = match (fate, refused) {
        (Fate::Refused { kind, .. }, Some(said)) => kind == said,
        (Fate::Unreachable { .. }, Some(said)) => said == "unreachable",
        (Fate::Absent, said) => said.is_none_or(|said| matches!(said, "absent" | "no-bucket")),
        // Found right and left out: only when too few came for a round.
        (Fate::Omitted { .. }, said) => said.is_none(),
        _ => false,
    };
    let said = refused.unwrap_or("nothing");
    (!same).then(|| format!("uid {uid}: published as {}, the manifest says {said}", fate.name()))
}
