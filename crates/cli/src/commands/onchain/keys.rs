//! `wallet swap-hotkey`, `swap-coldkey`, `swap-check`, `associate-hotkey`, `get-identity` and `set-identity`.

use super::{ActFlags, ReadFlags, Summary, coldkey_of, hotkey_of};
use crate::commands::wallet::flags::WalletFlags;
use clap::Args;
use miette::IntoDiagnostic;
use serde_json::{Map, json};
use templar_chain::Wait;
use templar_protocol::{AccountId, Netuid};
use templar_subtensor::{Action, Identity};

/// Shows the summary of `action`, has it confirmed, and does it with the wallet's coldkey.
async fn act(flags: &ActFlags, action: Action, summary: Summary) -> miette::Result<()> {
    let from = flags.coldkey()?;
    let chain = flags.connect().await?;
    let quote = chain.quote(&from, &action).await.into_diagnostic()?;
    let summary = summary.line("network", chain.network().name()).line("coldkey", from.to_string()).quote(&quote);
    let Some(key) = flags.sign_with(&flags.wallet.coldkey_slot(), &summary)? else { return Ok(()) };
    let report = chain.act(&key, &action, Wait::InBlock).await.into_diagnostic()?;
    flags.done(&summary, &report, Map::new());
    Ok(())
}

/// Moves all that belongs to the wallet's hotkey to another hotkey of the wallet.
#[derive(Debug, Args)]
pub struct SwapHotkeyArgs {
    /// The name of the other hotkey, which must exist and be registered nowhere.
    #[arg(value_name = "NEW_HOTKEY")]
    new_hotkey: String,
    /// Only on this subnet [default: on all].
    #[arg(long, value_name = "N")]
    netuid: Option<u16>,
    #[command(flatten)]
    flags: ActFlags,
}

impl SwapHotkeyArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A key is missing, nobody confirms, or the chain refuses.
    pub async fn run(self) -> miette::Result<()> {
        let (old, new) = (self.flags.hotkey()?, hotkey_of(&self.flags.wallet, &self.new_hotkey)?);
        let on = self.netuid.map_or_else(|| "every subnet".to_owned(), |netuid| format!("subnet {netuid}"));
        let summary = Summary::of(format!("move all that belongs to a hotkey to another, on {on}"));
        let summary = summary.line("hotkey", old.to_string()).line("new hotkey", new.to_string());
        act(&self.flags, Action::SwapHotkey { old, new, netuid: self.netuid.map(Netuid) }, summary).await
    }
}

/// Schedules the move of all that belongs to the wallet's coldkey to another coldkey.
#[derive(Debug, Args)]
pub struct SwapColdkeyArgs {
    /// The address of the other coldkey.
    #[arg(long, visible_alias = "new-coldkey-ss58", value_name = "ADDRESS")]
    new_coldkey: AccountId,
    #[command(flatten)]
    flags: ActFlags,
}

impl SwapColdkeyArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A key is missing, nobody confirms, or the chain refuses.
    pub async fn run(self) -> miette::Result<()> {
        let summary = Summary::of("schedule the move of everything to another coldkey; it cannot be undone by the old one once it is done");
        let summary = summary.line("new coldkey", self.new_coldkey.to_string());
        act(&self.flags, Action::SwapColdkey { new: self.new_coldkey }, summary).await
    }
}

/// Shows whether a move to another coldkey is scheduled.
#[derive(Debug, Args)]
pub struct SwapCheckArgs {
    #[command(flatten)]
    wallet: WalletFlags,
    /// The coldkey [default: the wallet's].
    #[arg(long, visible_alias = "ss58", value_name = "ADDRESS")]
    address: Option<AccountId>,
    #[command(flatten)]
    flags: ReadFlags,
}

impl SwapCheckArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The chain does not answer, or schedules no swaps.
    pub async fn run(self) -> miette::Result<()> {
        let coldkey = self.address.map_or_else(|| coldkey_of(&self.wallet), Ok)?;
        let swap = self.flags.connect().await?.coldkey_swap(&coldkey).await.into_diagnostic()?;
        match swap {
            _ if self.flags.json => println!("{}", json!({ "coldkey": coldkey, "swap": swap })),
            Some(swap) => println!("everything of {coldkey} moves to {} in block {}", swap.new_coldkey, swap.block),
            None => println!("nothing is scheduled for {coldkey}"),
        }
        Ok(())
    }
}

/// Records the wallet's coldkey as the owner of its hotkey.
#[derive(Debug, Args)]
pub struct AssociateArgs {
    #[command(flatten)]
    flags: ActFlags,
}

impl AssociateArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A key is missing, nobody confirms, or the chain refuses.
    pub async fn run(self) -> miette::Result<()> {
        let hotkey = self.flags.hotkey()?;
        let summary = Summary::of("record the coldkey as the owner of a hotkey").line("hotkey", hotkey.to_string());
        act(&self.flags, Action::AssociateHotkey { hotkey }, summary).await
    }
}

/// Shows what an account says about itself on the chain.
#[derive(Debug, Args)]
pub struct GetIdentityArgs {
    #[command(flatten)]
    wallet: WalletFlags,
    /// The coldkey [default: the wallet's].
    #[arg(long, visible_aliases = ["key", "ss58"], value_name = "ADDRESS")]
    address: Option<AccountId>,
    #[command(flatten)]
    flags: ReadFlags,
}

impl GetIdentityArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// The chain does not answer, or keeps no identities.
    pub async fn run(self) -> miette::Result<()> {
        let coldkey = self.address.map_or_else(|| coldkey_of(&self.wallet), Ok)?;
        let identity = self.flags.connect().await?.identity(&coldkey).await.into_diagnostic()?;
        if self.flags.json {
            println!("{}", json!({ "coldkey": coldkey, "identity": identity }));
            return Ok(());
        }
        let Some(identity) = identity else {
            println!("{coldkey} says nothing about itself");
            return Ok(());
        };
        println!("{coldkey}");
        for (name, value) in fields(&identity) {
            // Free text of a stranger: no control characters reach the terminal.
            let shown: String = value.chars().filter(|c| !c.is_control()).collect();
            if !shown.is_empty() {
                println!("  {name:<12} {shown}");
            }
        }
        Ok(())
    }
}

fn fields(identity: &Identity) -> [(&'static str, &str); 7] {
    [
        ("name", &identity.name),
        ("url", &identity.url),
        ("github", &identity.github_repo),
        ("image", &identity.image),
        ("discord", &identity.discord),
        ("description", &identity.description),
        ("additional", &identity.additional),
    ]
}

/// Says on the chain who the wallet's coldkey is. Everybody can read it.
#[derive(Debug, Args)]
pub struct SetIdentityArgs {
    /// A name.
    #[arg(long, visible_alias = "id-name", value_name = "TEXT", default_value = "")]
    identity_name: String,
    /// A web page.
    #[arg(long, visible_alias = "web-url", value_name = "URL", default_value = "")]
    url: String,
    /// A repository.
    #[arg(long, visible_alias = "github", value_name = "URL", default_value = "")]
    github_repo: String,
    /// An image.
    #[arg(long, visible_alias = "image-url", value_name = "URL", default_value = "")]
    image: String,
    /// A name on Discord.
    #[arg(long, value_name = "NAME", default_value = "")]
    discord: String,
    /// A description.
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Anything else.
    #[arg(long, visible_alias = "additional-info", value_name = "TEXT", default_value = "")]
    additional: String,
    #[command(flatten)]
    flags: ActFlags,
}

impl SetIdentityArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A key is missing, nobody confirms, or the chain refuses.
    pub async fn run(self) -> miette::Result<()> {
        let identity = Identity {
            name: self.identity_name,
            url: self.url,
            github_repo: self.github_repo,
            image: self.image,
            discord: self.discord,
            description: self.description,
            additional: self.additional,
        };
        let mut summary = Summary::of("say on the chain, for everybody to read, who the coldkey is");
        for (name, value) in fields(&identity) {
            if !value.is_empty() {
                summary = summary.line(name, value);
            }
        }
        act(&self.flags, Action::SetIdentity { identity }, summary).await
    }
}
