//! The head of the chain, followed in the background: one task for each client, whatever breaks.
//!
//! It hears of new heads, tells those who wait, notices blocks that were replaced and a chain that stands still, and changes the
//! endpoint then. Streams of blocks follow the numbers that it tells and ask for each block by its number, so that they have no gaps
//! whatever was missed meanwhile.

use crate::{client::Inner, events::ChainEvent, rpc::Header, rpc::Rpc};
use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};
use subxt::ext::jsonrpsee::core::client::Subscription;
use templar_chain::{BlockHash, Result};
use templar_protocol::BlockNumber;
use tokio::sync::watch;

/// Hashes of best blocks that are remembered; deeper replacements are told with this depth.
const REMEMBERED: usize = 256;

/// The newest blocks, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heads {
    /// The best one.
    pub best: Option<u64>,
    /// The newest final one.
    pub finalized: Option<u64>,
}

/// Follows the chain until nobody holds the client any more.
pub(crate) async fn follow(client: Weak<Inner>, heads: watch::Sender<Heads>) {
    let mut memory = Memory::default();
    let mut pause = None;
    loop {
        let Some(inner) = client.upgrade() else { return };
        let options = inner.endpoints.options;
        let rpc = match inner.endpoints.rpc().await {
            Ok(rpc) => rpc,
            Err(error) => {
                tracing::debug!(%error, "no endpoint");
                drop(inner);
                let wait: Duration = pause.unwrap_or(options.pause_first);
                pause = Some((wait * 2).min(options.pause_max));
                tokio::time::sleep(wait).await;
                continue;
            }
        };
        let virtual_time = inner.virtual_time(&rpc).await;
        drop(inner);
        let ended = follow_one(&client, &rpc, &heads, &mut memory, options.stall_after, virtual_time).await;
        let Some(inner) = client.upgrade() else { return };
        match ended {
            Ok(()) => {
                inner.endpoints.give_up(&rpc, "its subscription ended").await;
                pause = None;
            }
            Err(error) => {
                inner.endpoints.give_up(&rpc, &error.to_string()).await;
                let wait = pause.unwrap_or(options.pause_first);
                pause = Some((wait * 2).min(options.pause_max));
                drop(inner);
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Follows one connection until it ends, fails, or its chain stands still.
async fn follow_one(
    client: &Weak<Inner>,
    rpc: &Rpc,
    heads: &watch::Sender<Heads>,
    memory: &mut Memory,
    stall_after: Duration,
    virtual_time: bool,
) -> Result<()> {
    let mut best: Subscription<Header> = rpc.heads().await?;
    let mut finalized: Subscription<Header> = rpc.finalized_heads().await?;
    let mut last_new = tokio::time::Instant::now();
    loop {
        tokio::select! {
            header = best.next() => {
                let Some(header) = header else { return Ok(()) };
                let header = header.map_err(|e| rpc.broken(format!("a head that cannot be read: {e}")))?;
                let Some(inner) = client.upgrade() else { return Ok(()) };
                if heads.borrow().best.is_none_or(|known| header.number > known) {
                    last_new = tokio::time::Instant::now();
                    inner.endpoints.praise(rpc).await;
                }
                if let Some(event) = memory.take(rpc, &header).await? {
                    inner.endpoints.tell(event);
                }
                heads.send_if_modified(|heads| advance(&mut heads.best, header.number));
            }
            header = finalized.next() => {
                let Some(header) = header else { return Ok(()) };
                let header = header.map_err(|e| rpc.broken(format!("a head that cannot be read: {e}")))?;
                heads.send_if_modified(|heads| advance(&mut heads.finalized, header.number));
            }
            () = tokio::time::sleep_until(last_new + stall_after) => {
                let Some(inner) = client.upgrade() else { return Ok(()) };
                if virtual_time {
                    // Its blocks come by request; that it answers is all that can be asked.
                    rpc.finalized_hash().await?;
                    last_new = tokio::time::Instant::now();
                    continue;
                }
                let head = BlockNumber(heads.borrow().best.unwrap_or(0));
                inner.endpoints.tell(ChainEvent::Stalled { endpoint: rpc.endpoint().to_owned(), head, waited: stall_after });
                return Err(rpc.broken(format!("no new block within {} s", stall_after.as_secs())));
            }
        }
    }
}

/// Numbers only rise: a shorter branch becomes news when it is longer.
fn advance(known: &mut Option<u64>, number: u64) -> bool {
    let news = known.is_none_or(|known| number > known);
    if news {
        *known = Some(number);
    }
    news
}

/// The hashes of the newest best blocks that were seen, by number.
#[derive(Debug, Default)]
struct Memory(BTreeMap<u64, BlockHash>);

impl Memory {
    /// Remembers a head; tells of a replacement, if this is one.
    async fn take(&mut self, rpc: &Rpc, header: &Header) -> Result<Option<ChainEvent>> {
        let parent = crate::errors::parse_hash(rpc.endpoint(), &header.parent_hash)?;
        let Some(hash) = rpc.block_hash(Some(header.number)).await? else { return Ok(None) };
        let mut replaced = self.differs(header.number, &hash);
        // Walks back along the new branch until it meets what is known.
        let (mut number, mut branch) = (header.number, Some(parent));
        while let (Some(below), Some(now)) = (number.checked_sub(1), branch) {
            let Some(found) = self.differs(below, &now) else { break };
            replaced = Some(found);
            branch = match below.checked_sub(1).filter(|next| self.0.contains_key(next)) {
                Some(next) => rpc.block_hash(Some(next)).await?,
                None => None,
            };
            number = below;
        }
        let newest = self.0.last_key_value().map_or(header.number, |(number, _)| *number);
        if let Some((first, ..)) = replaced {
            self.0.retain(|number, _| *number < first);
        }
        if let Some(below) = header.number.checked_sub(1) {
            self.0.insert(below, parent);
        }
        self.0.insert(header.number, hash);
        while self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
        Ok(replaced.map(|(first, old, new)| ChainEvent::Reorganised {
            from: BlockNumber(first),
            old,
            new,
            depth: newest.saturating_sub(first) + 1,
        }))
    }

    /// The block that is known with this number, if it is another one than `now`.
    fn differs(&self, number: u64, now: &BlockHash) -> Option<(u64, BlockHash, BlockHash)> {
        self.0.get(&number).filter(|old| *old != now).map(|old| (number, *old, *now))
    }
}

/// Waits until the head at `pick` is at least `number`. The sender lives as long as the client.
pub(crate) async fn reached(heads: &mut watch::Receiver<Heads>, number: u64, pick: fn(&Heads) -> Option<u64>) -> Option<u64> {
    let found = heads.wait_for(|heads| pick(heads).is_some_and(|head| head >= number)).await.ok()?;
    pick(&found)
}

/// A handle that ends the task when the client goes.
#[derive(Debug)]
pub(crate) struct Follower(tokio::task::JoinHandle<()>);

impl Follower {
    pub fn start(client: &Arc<Inner>, heads: watch::Sender<Heads>) -> Self {
        Self(tokio::spawn(follow(Arc::downgrade(client), heads)))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}
