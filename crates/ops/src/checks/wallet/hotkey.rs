//! The hotkey opens, and what it signs is accepted under its address.

use crate::check::prelude::*;
use templar_wallet::verify;

/// The hotkey opens, and what it signs is accepted under its address.
pub struct Hotkey;

#[async_trait(?Send)]
impl Check for Hotkey {
    fn about(&self) -> About {
        About::new(
            "wallet.hotkey",
            "the hotkey opens and signs",
            "everything that a node publishes is signed with it",
            "name an existing key with --wallet-path, --wallet and --hotkey, or make one with `templar wallet new-hotkey`",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        const CONTEXT: &[u8] = b"templar doctor 1";
        if subject.is_locked() {
            let address = subject.hotkey().await.map_or_else(|_| "unknown".to_owned(), |hotkey| hotkey.to_string());
            let sentence =
                format!("the hotkey is encrypted and no password was given, so that it signs was not tried; its address is {address}");
            return Err(warn(sentence).remedy("give the password with --password-file or --password-fd"));
        }
        let key = subject.key().await.map_err(|missing| missing.failure("wallet.hotkey"))?;
        let account = key.public();
        if !verify(CONTEXT, &account, b"probe", &key.sign(CONTEXT, b"probe")) {
            return Err(fail(format!("a signature of {account} is not accepted under its own address")));
        }
        Ok(pass(format!("the hotkey {account} opens and signs")).with("hotkey", account.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_a_key() {
        Lab::new().await.passes(&Hotkey).await;
    }

    #[tokio::test]
    async fn an_encrypted_key_needs_its_password_and_the_rest_goes_on_without() {
        use templar_wallet::{Overwrite, SecretText, Slot};
        let mut lab = Lab::new().await;
        let key = lab.miner.clone().into();
        let password = SecretText::from("a password");
        lab.subject.wallets().write(&Slot::hotkey("miner", "default"), &key, Some(&password), Overwrite::Yes).unwrap();
        lab.warns(&Hotkey, "no password was given").await;
        assert_eq!(lab.subject.neuron().await.unwrap().hotkey, lab.miner.public(), "its address is in the file beside it");
        lab.subject.facts = crate::facts::Facts::default();
        // Once, and without the bench's limit of time: opening is meant to be slow.
        lab.subject.password = Some(password);
        assert_eq!(lab.subject.key().await.unwrap().public(), lab.miner.public());
        lab.passes(&Hotkey).await;
    }

    #[tokio::test]
    async fn fails_without_one() {
        let mut lab = Lab::new().await;
        lab.subject.settings.wallet = "nobody".into();
        lab.fails(&Hotkey, "nobody").await;
    }
}
