//! What the chain's client tells of replaced blocks goes into the node's journal, where alerts and the diagnosis look.

use templar_node::journal::Entry;
use templar_subtensor::ChainEvent;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Notes reorganisations until the client is gone. Other events of the client are its own matter: what they cost the node is in the journal already.
pub async fn follow(mut events: Receiver<ChainEvent>, note: impl Fn(Entry)) {
    loop {
        match events.recv().await {
            Ok(event) => entry(event).into_iter().for_each(&note),
            // Whoever lags has missed old events; the newest are still to come.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn entry(event: ChainEvent) -> Option<Entry> {
    match event {
        ChainEvent::Reorganised { from, old, new, depth } => {
            Some(Entry::Reorganised { from, depth, old: old.to_string(), new: new.to_string() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use futures::StreamExt as _;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use templar_chain::{At, BlockTime, Chain as _, DevChain, DevControl as _, GenesisConfig, Wait};
    use templar_chain_rpc::{Permissions, serve};
    use templar_node::journal::{Journal, WindowEntry};
    use templar_ops::alerts::level::Event;
    use templar_ops::alerts::{Settings, Watch};
    use templar_ops::watch::Followed;
    use templar_protocol::{AccountId, Netuid, Window};
    use templar_subtensor::{Options, Subtensor};
    use templar_wallet::Keypair;
    use tokio::sync::oneshot;

    async fn serve_chain(chain: &DevChain) -> (String, oneshot::Sender<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("ws://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let chain = chain.clone();
        tokio::spawn(async move { serve(chain, listener, None, Permissions::default(), async { drop(stopped.await) }).await });
        (endpoint, stop)
    }

    /// Two nodes of one chain that saw different blocks; the first goes, and the second's branch is the chain.
    #[tokio::test]
    async fn replaced_blocks_reach_the_journal_and_raise_an_alert_that_clears() {
        let payer = Keypair::from_seed([99; 32]);
        let config = GenesisConfig { accounts: vec![(payer.public(), 1_000_000_000_000)], ..GenesisConfig::new(Netuid(3)) };
        let (one, two) = [(); 2].map(|()| DevChain::in_memory(&config, BlockTime::Virtual(1000)).unwrap()).into();
        one.advance(2).await.unwrap();
        two.advance(2).await.unwrap();
        two.transfer(&payer, &AccountId([7; 32]), 1_000_000_000, Wait::InBlock).await.unwrap();
        one.advance(2).await.unwrap();
        two.advance(4).await.unwrap();
        let ((first, stop), (second, _kept)) = (serve_chain(&one).await, serve_chain(&two).await);
        let options = Options { pause_first: Duration::from_millis(5), pause_max: Duration::from_millis(50), ..Options::default() };
        let chain = Subtensor::with_options(format!("{first},{second}").parse().unwrap(), options);
        let dir = tempfile::tempdir().unwrap();
        let journal = Arc::new(Mutex::new(Journal::open(dir.path()).unwrap()));
        let (noted, into) = (Arc::new(tokio::sync::Notify::new()), journal.clone());
        let told = noted.clone();
        tokio::spawn(follow(chain.events(), move |entry| {
            into.lock().unwrap().write(1500, entry);
            told.notify_one();
        }));
        let mut blocks = chain.blocks(At::Best);
        assert_eq!(blocks.next().await.unwrap(), one.best());
        one.advance(1).await.unwrap();
        assert_eq!(blocks.next().await.unwrap(), one.best());
        drop(stop);
        assert_eq!(blocks.next().await.unwrap(), two.best());
        noted.notified().await;

        let mut node = Followed::new(dir.path());
        let mut watch = Watch::new(Settings::default());
        let mut events = Vec::new();
        for window in 1..10 {
            let entry = WindowEntry { window: Window(window), stepped: true, ..WindowEntry::default() };
            journal.lock().unwrap().write(window * 1000, Entry::Window(Box::new(entry)));
            node.read().unwrap();
            let told = watch.look(&node.record, &[&node.record], None, None);
            events
                .extend(told.into_iter().filter(|told| told.alert == "chain-reorganised").map(|told| (window, told.event, told.cause.id)));
        }
        // It is raised at once, says what is known of it, and is over when six windows have passed without another.
        assert_eq!(events.len(), 2, "{events:?}");
        assert_eq!((events[0].1, events[0].2.as_str()), (Some(Event::Raised), "chain-reorganised"));
        assert_eq!((events[1].0, events[1].1), (8, Some(Event::Cleared)), "{events:?}");
    }
}
