//! The file beside the hotkey that names its address names the address of that very key.

use crate::check::prelude::*;
use templar_wallet::WalletError;

/// The file beside the hotkey that names its address names the address of that very key.
pub struct PublicFile;

#[async_trait(?Send)]
impl Check for PublicFile {
    fn about(&self) -> About {
        About::new(
            "wallet.public_file",
            "the address beside the hotkey is the hotkey's",
            "tools that read the address only would register or pay another key",
            "write the file anew from the secret, or restore the pair from one backup",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let settings = &subject.settings;
        // A pair that does not belong together does not even open.
        if let Err(error @ WalletError::NotItsPublic { .. }) = subject.wallets().hotkey(&settings.wallet, &settings.hotkey) {
            return Err(fail(error.to_string()));
        }
        let key = subject.key().await?;
        let listed = subject.wallets().list().map_err(|error| fail(error.to_string()))?;
        let entry = listed.iter().find(|entry| entry.wallet == settings.wallet && entry.hotkey == settings.hotkey);
        match entry.map(|entry| &entry.account) {
            Some(Ok(account)) if *account == key.public() => Ok(pass(format!("both files say {account}"))),
            Some(Ok(account)) => Err(fail(format!("the file with the address says {account}, the secret is that of {}", key.public()))),
            Some(Err(error)) => Err(fail(format!("the file with the address cannot be read: {error}"))),
            None => Err(fail("the wallet's folder does not list the hotkey")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_both_agree() {
        Lab::new().await.passes(&PublicFile).await;
    }

    #[tokio::test]
    async fn fails_when_they_do_not() {
        let lab = Lab::new().await;
        let file = |wallet: &str| lab.subject.settings.wallet_path.join(wallet).join("hotkeys/defaultpub.txt");
        std::fs::copy(file("leader"), file("miner")).unwrap();
        lab.fails(&PublicFile, "but the pub file beside it says").await;
    }
}
