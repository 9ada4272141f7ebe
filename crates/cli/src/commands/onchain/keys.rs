//! `wallet swap-hotkey`, `swap-coldkey`, `swap-check`, `associate-hotkey`, `get-identity` and `set-identity`.

use super::{ActFlags, ReadFlags, Summary, coldkey_of, hotkey_of};
use crate::commands::wallet::flags::WalletFlags;
use clap::Args;
use miette::{IntoDiagnostic, miette};
use serde_json::{Map, json};
use templar_chain::{At, Chain as _, Wait};
use templar_protocol::{AccountId, Netuid};
use templar_subtensor::{Action, ColdkeySwap, Identity, Subtensor};

/// Shows the summary of `action`, has it confirmed, and does it with the wallet's coldkey.
async fn act(flags: &ActFlags, action: Action, summary: Summary) -> miette::Result<()> {
    act_on(&flags.connect().await?, flags, action, summary).await
}

async fn act_on(chain: &Subtensor, flags: &ActFlags, action: Action, summary: Summary) -> miette::Result<()> {
    let from = flags.coldkey()?;
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

/// Moves all that belongs to the wallet's coldkey to another coldkey, in the chain's way: scheduled by one call, or announced by one and done by a
/// second after a delay, when this command is run again.
#[derive(Debug, Args)]
pub struct SwapColdkeyArgs {
    /// The address of the other coldkey.
    #[arg(long, visible_alias = "new-coldkey-ss58", value_name = "ADDRESS", required_unless_present_any = ["clear", "dispute"])]
    new_coldkey: Option<AccountId>,
    /// Take the announcement back.
    #[arg(long, conflicts_with_all = ["new_coldkey", "dispute"])]
    clear: bool,
    /// Freeze the account, since the announcement is somebody else's doing; only the chain's government ends that.
    #[arg(long, conflicts_with = "new_coldkey")]
    dispute: bool,
    #[command(flatten)]
    flags: ActFlags,
}

impl SwapColdkeyArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A key is missing, nobody confirms, the chain refuses or has no such call, or the announced move is not due yet.
    pub async fn run(self) -> miette::Result<()> {
        let chain = self.flags.connect().await?;
        let (action, summary) = match self.new_coldkey {
            Some(new) => self.step(&chain, new).await?,
            None if self.clear => (Action::ClearColdkeySwap, Summary::of("take the announced move to another coldkey back")),
            None => (Action::DisputeColdkeySwap, Summary::of("freeze the account until the chain's government decides")),
        };
        act_on(&chain, &self.flags, action, summary).await
    }

    /// What is to be done next on the way to `new`.
    async fn step(&self, chain: &Subtensor, new: AccountId) -> miette::Result<(Action, Summary)> {
        let swap = chain.coldkey_swap(&self.flags.coldkey()?).await.into_diagnostic()?;
        let begin = |what: &str| Ok((Action::SwapColdkey { new }, Summary::of(what).line("new coldkey", new.to_string())));
        match swap {
            Some(ColdkeySwap::Announced { block, .. }) if swap.is_some_and(|swap| swap.announces(&new)) => {
                let head = chain.head(At::Best).await.into_diagnostic()?.number;
                if head < block {
                    return Err(miette!(
                        help = "run the same command again then; `templar wallet swap-check` tells the block",
                        "the move to {new} is announced and can be done from block {block} on; this is block {head}"
                    ));
                }
                let what = "move everything to the coldkey that was announced; it cannot be undone";
                Ok((Action::FinishColdkeySwap { new }, Summary::of(what).line("new coldkey", new.to_string())))
            }
            Some(ColdkeySwap::Announced { .. }) => {
                begin("announce the move of everything to this coldkey instead of the one announced before")
            }
            _ if chain.announces_coldkey_swaps().await.into_diagnostic()? => begin(
                "announce the move of everything to another coldkey; until this command is run again after the chain's delay, the old one can do \
                 nothing else",
            ),
            _ => begin("schedule the move of everything to another coldkey; it cannot be undone by the old one once it is done"),
        }
    }
}

/// Shows whether a move to another coldkey is scheduled or announced.
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
    /// The chain does not answer, or keeps no swaps.
    pub async fn run(self) -> miette::Result<()> {
        let coldkey = self.address.map_or_else(|| coldkey_of(&self.wallet), Ok)?;
        let swap = self.flags.connect().await?.coldkey_swap(&coldkey).await.into_diagnostic()?;
        match swap {
            _ if self.flags.json => println!("{}", json!({ "coldkey": coldkey, "swap": swap })),
            Some(ColdkeySwap::Scheduled { block, new_coldkey }) => {
                println!("everything of {coldkey} moves to {new_coldkey} in block {block}")
            }
            Some(ColdkeySwap::Announced { disputed: Some(block), .. }) => {
                println!("the move of {coldkey} was disputed in block {block}: the account is frozen");
            }
            Some(ColdkeySwap::Announced { block, new_coldkey_hash, .. }) => {
                println!(
                    "{coldkey} has announced its move to the coldkey with the hash 0x{new_coldkey_hash}, which can be done from block {block} on"
                );
            }
            None => println!("nothing is scheduled or announced for {coldkey}"),
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
