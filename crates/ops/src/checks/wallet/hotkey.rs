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
    async fn fails_without_one() {
        let mut lab = Lab::new().await;
        lab.subject.settings.wallet = "nobody".into();
        lab.fails(&Hotkey, "nobody").await;
    }
}
