//! Whoever is not registered yet can pay for it.

use crate::check::prelude::*;

/// Whoever is not registered yet can pay for it.
pub struct Balance;

#[async_trait(?Send)]
impl Check for Balance {
    fn about(&self) -> About {
        About::new(
            "chain.balance",
            "the coldkey can pay for a registration that is still due",
            "a registration burns its price from the coldkey's free balance",
            "move funds to the coldkey, or wait until the price has fallen",
        )
        .preflight()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        if subject.neuron().await.is_ok() {
            return Ok(pass("the hotkey is registered, so nothing is due"));
        }
        subject.metagraph().await?;
        let coldkey = subject.wallets().coldkey_account(&subject.settings.wallet).map_err(|error| fail(error.to_string()))?;
        let coldkey = coldkey.ok_or_else(|| skip("the wallet has no coldkeypub.txt, so the paying account is not known"))?;
        let asked = |error: templar_chain::ChainError| Missing::new(error.to_string(), "chain.reachable");
        let balance = subject.chain.balance(&coldkey).await.map_err(asked)?;
        let cost = subject.chain.registration_cost(subject.settings.netuid).await.map_err(asked)?;
        let sentence = format!("a registration costs {cost} rao, the coldkey {coldkey} has {balance}");
        if balance < cost { Err(fail(sentence)) } else { Ok(pass(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use templar_wallet::{AccountId, KeyType, Keypair, Overwrite, PublicKey, Slot};

    fn write_coldkeypub(lab: &Lab, account: AccountId) {
        let public = PublicKey { account, key_type: KeyType::Sr25519 };
        lab.subject.wallets().write_public(&Slot::coldkey("miner"), &public, Overwrite::Yes).unwrap();
    }

    #[tokio::test]
    async fn passes_for_the_registered_and_for_the_rich() {
        Lab::new().await.passes(&Balance).await;
        let lab = Lab::with(|genesis| _ = genesis.neurons.remove(1)).await;
        write_coldkeypub(&lab, lab.miner.public());
        lab.passes(&Balance).await;
    }

    #[tokio::test]
    async fn fails_for_the_poor() {
        let lab = Lab::with(|genesis| _ = genesis.neurons.remove(1)).await;
        write_coldkeypub(&lab, Keypair::from_seed([77; 32]).public());
        lab.fails(&Balance, "has 0").await;
    }
}
