//! The validators accept this miner's objects.

use crate::check::prelude::*;

/// The validators accept this miner's objects.
pub struct Accepted;

#[async_trait(?Send)]
impl Check for Accepted {
    fn about(&self) -> About {
        About::new(
            "score.accepted",
            "the last manifests list this miner",
            "what is not listed is not paid; the target of a good miner is 99 % of all windows",
            "the manifest's reason says which rule was broken; docs/journal.md explains each",
        )
        .live()
        .roles(&[Role::Miner])
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (manifests, neuron) = (subject.manifests().await?, subject.neuron().await?);
        let decided: Vec<_> = manifests.iter().filter(|manifest| !manifest.accepted.is_empty()).collect();
        if decided.is_empty() {
            return Err(skip("no manifest lists anybody"));
        }
        let missing: Vec<_> =
            decided.iter().filter(|manifest| !manifest.accepted.iter().any(|accepted| accepted.uid == neuron.uid)).collect();
        let Some(newest) = missing.first() else {
            return Ok(pass(format!("uid {} is in all of {} manifests", neuron.uid, decided.len())));
        };
        let refused = newest.refused.iter().find(|refused| refused.uid == neuron.uid);
        let why = refused.map_or_else(|| "no reason is given".to_owned(), |refused| format!("{}: {}", refused.kind, refused.reason));
        let why: String = why.chars().filter(|c| !c.is_control()).take(300).collect();
        let sentence = format!(
            "uid {} is missing in {} of {} manifests, last in window {} ({why})",
            neuron.uid,
            missing.len(),
            decided.len(),
            newest.window
        );
        if missing.len() == 1 { Err(warn(sentence)) } else { Err(fail(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use templar_protocol::Uid;

    #[tokio::test]
    async fn passes_when_listed() {
        Lab::new().await.passes(&Accepted).await;
    }

    #[tokio::test]
    async fn fails_when_refused() {
        let mut lab = Lab::new().await;
        for window in [6, 7] {
            let mut manifest = lab.manifest(templar_protocol::Window(window));
            manifest.accepted.remove(0);
            let (kind, reason) = ("late".to_owned(), "the object came 3 s late".to_owned());
            manifest.refused.push(templar_protocol::messages::Refused { uid: Uid(1), kind, reason });
            lab.put_manifest(&manifest).await;
            let words = if window == 6 { "1 of" } else { "late: the object came 3 s late" };
            if window == 6 { lab.warns(&Accepted, words).await } else { lab.fails(&Accepted, words).await }
        }
    }
}
