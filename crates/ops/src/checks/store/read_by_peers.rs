//! Anybody reads an object by name at the URL on the chain, exactly as peers will.

use crate::check::prelude::*;
use templar_node::context::peer_url;

/// Anybody reads an object by name at the URL on the chain, exactly as peers will.
pub struct ReadByPeers;

#[async_trait(?Send)]
impl Check for ReadByPeers {
    fn about(&self) -> About {
        About::new(
            "store.read_by_peers",
            "peers read this node's objects at the published URL",
            "an object that only its owner can read counts as absent",
            "allow anonymous reading of objects by name, and check that the chain names this bucket (`chain.commitment`)",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let hotkey = subject.hotkey().await.ok();
        let committed = match (subject.commitments().await, hotkey) {
            (Ok(commitments), Some(hotkey)) => commitments.get(&hotkey).and_then(|commitment| peer_url(&commitment.data)),
            _ => None,
        };
        let url = match committed {
            Some(url) => url,
            None => subject.bucket_url()?,
        };
        let (peers, probe) = (subject.anonymous(url.clone())?, subject.probe("public").await?);
        let read = peers.get(&probe.key, 1 << 10, subject.deadline()).await;
        let bytes = probe.bytes.clone();
        // The probe has served; `store.delete` tells when it cannot be removed.
        let _ = probe.remove().await;
        match read {
            Ok(read) if read == bytes => Ok(pass(format!("an object put now was read without a key at {url}"))),
            Ok(_) => Err(fail(format!("{url} gives other bytes than were put"))),
            Err(error) => Err(fail(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_public() {
        Lab::new().await.passes(&ReadByPeers).await;
    }

    #[tokio::test]
    async fn fails_when_private_and_when_the_chain_names_another_bucket() {
        let lab = Lab::new().await;
        lab.grant(|entries| entries[1].public_read = false);
        lab.fails(&ReadByPeers, "cannot get").await;
        let mut lab = Lab::new().await;
        lab.subject.settings.bucket = Some(lab.url("other").to_string());
        lab.subject.variables.set(templar_store::ENV_ACCESS_KEY_ID, "id-other");
        lab.subject.variables.set(templar_store::ENV_SECRET_ACCESS_KEY, "secret-of-other-0123456789");
        lab.fails(&ReadByPeers, "no such object").await;
    }
}
