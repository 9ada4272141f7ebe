//! The coldkey's secret is not on the machine that mines.

use crate::check::prelude::*;

/// The coldkey's secret is not on the machine that mines.
pub struct ColdkeyAbsent;

#[async_trait(?Send)]
impl Check for ColdkeyAbsent {
    fn about(&self) -> About {
        About::new(
            "wallet.coldkey_absent",
            "the coldkey's secret is not on this machine",
            "a node needs the hotkey only; the coldkey owns the money, and this machine talks to strangers",
            "keep the file coldkey on another machine, and leave coldkeypub.txt here",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let path = subject.settings.wallet_path.join(&subject.settings.wallet).join("coldkey");
        if crate::facts::exists(&path) {
            return Err(warn(format!("{} is on this machine", path.display())));
        }
        if !subject.settings.wallet_path.join(&subject.settings.wallet).is_dir() {
            return Err(Missing::new("there is no such wallet", "wallet.hotkey").into());
        }
        Ok(pass("the coldkey's secret is not here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_without_a_coldkey() {
        Lab::new().await.passes(&ColdkeyAbsent).await;
    }

    #[tokio::test]
    async fn warns_of_one() {
        let lab = Lab::new().await;
        std::fs::write(lab.subject.settings.wallet_path.join("miner/coldkey"), "x").unwrap();
        lab.warns(&ColdkeyAbsent, "coldkey is on this machine").await;
    }
}
