//! What the client does when a node fails it: connections that break, states that are gone, other chains, blocks that are replaced, a
//! chain that stands still, transactions of which nothing is heard.

#![allow(clippy::unwrap_used)]

mod support;

use futures::StreamExt as _;
use std::time::Duration;
use support::{fake::Fake, metadata, quick};
use templar_chain::{At, Chain as _, ChainError, PoolCode, Wait};
use templar_protocol::{AccountId, BlockNumber};
use templar_subtensor::{ChainEvent, Network, Options, Subtensor};
use templar_wallet::Keypair;

const GENESIS: u8 = 1;

fn fake() -> Fake {
    Fake::new(GENESIS, metadata())
}

fn client(endpoints: &[String], options: Options) -> Subtensor {
    Subtensor::with_options(endpoints.join(",").parse().unwrap(), options)
}

async fn numbers(blocks: &mut futures::stream::BoxStream<'static, templar_chain::BlockRef>, count: usize) -> Vec<u64> {
    blocks.take(count).map(|block| block.number.0).collect().await
}

#[tokio::test]
async fn blocks_have_no_gaps_when_the_connection_breaks_and_the_node_starts_again() {
    let node = fake();
    node.grow(1, 3, &[]);
    let running = node.start(None).await;
    let address = running.address;
    let chain = client(&[running.endpoint()], quick());
    let mut blocks = chain.blocks(At::Best);
    assert_eq!(numbers(&mut blocks, 1).await, [3]);
    node.grow(1, 1, &[]);
    assert_eq!(numbers(&mut blocks, 1).await, [4]);
    running.stop().await;
    node.grow(1, 5, &[]);
    let _running = node.start(Some(address)).await;
    assert_eq!(numbers(&mut blocks, 5).await, [5, 6, 7, 8, 9]);
    node.grow(1, 1, &[]);
    assert_eq!(numbers(&mut blocks, 1).await, [10]);
}

#[tokio::test]
async fn another_endpoint_takes_over_and_another_chain_is_refused() {
    let (first, second, stranger) = (fake(), fake(), Fake::new(9, metadata()));
    for node in [&first, &second, &stranger] {
        node.grow(1, 4, &[]);
    }
    let (one, two, other) = (first.start(None).await, second.start(None).await, stranger.start(None).await);
    let chain = client(&[one.endpoint(), other.endpoint(), two.endpoint()], quick());
    let genesis = chain.info().await.unwrap().genesis_hash;
    assert_eq!(chain.endpoint().await.as_deref(), Some(&*one.endpoint()));
    one.stop().await;
    assert_eq!(chain.head(At::Best).await.unwrap().number.0, 4);
    assert_eq!(chain.endpoint().await.as_deref(), Some(&*two.endpoint()), "the stranger's chain is passed over");
    // With the stranger alone the error says so.
    let network = other.endpoint().parse::<Network>().unwrap().with_genesis(genesis);
    let refused = Subtensor::with_options(network, quick()).head(At::Best).await.unwrap_err();
    let ChainError::WrongNetwork { endpoint, expected, .. } = &refused else { panic!("{refused}") };
    assert_eq!((endpoint, expected), (&other.endpoint(), &genesis.to_string()));
}

#[tokio::test]
async fn nobody_answering_is_a_transport_error_that_may_be_retried() {
    let running = fake().start(None).await;
    let endpoint = running.endpoint();
    running.stop().await;
    let refused =
        client(std::slice::from_ref(&endpoint), Options { persistence: Duration::ZERO, ..quick() }).head(At::Best).await.unwrap_err();
    assert!(refused.is_retryable() && refused.to_string().contains(&endpoint), "{refused}");
}

#[tokio::test]
async fn a_block_whose_state_is_gone_still_tells_its_time() {
    let node = fake();
    node.grow(1, 30, &[]);
    node.served().pruned_below = 20;
    let running = node.start(None).await;
    let chain = client(&[running.endpoint()], quick());
    let time = |number: u64| 1_750_000_000_000 + number * 12_000;
    assert_eq!(chain.block_time_ms(BlockNumber(25)).await.unwrap(), time(25), "from the state");
    assert_eq!(chain.block_time_ms(BlockNumber(5)).await.unwrap(), time(5), "from the block itself");
    let gone = chain.metagraph(templar_protocol::Netuid(3), At::Number(BlockNumber(5))).await.unwrap_err();
    assert!(matches!(gone, ChainError::StatePruned { block: BlockNumber(5) }), "{gone}");
    let absent = chain.block_time_ms(BlockNumber(31)).await.unwrap_err();
    assert!(matches!(absent, ChainError::NotFound { .. }), "{absent}");
    // Where the block says nothing either, so does the client.
    node.served().blocks[5].body.clear();
    let gone = chain.block_time_ms(BlockNumber(5)).await.unwrap_err();
    assert!(matches!(gone, ChainError::StatePruned { block: BlockNumber(5) }), "{gone}");
}

#[tokio::test]
async fn replaced_blocks_are_an_event() {
    let node = fake();
    node.grow(1, 5, &[]);
    let running = node.start(None).await;
    let chain = client(&[running.endpoint()], quick());
    let mut events = chain.events();
    let mut blocks = chain.blocks(At::Best);
    assert_eq!(numbers(&mut blocks, 1).await, [5]);
    for number in [6, 7] {
        node.grow(1, 1, &[]);
        assert_eq!(numbers(&mut blocks, 1).await, [number]);
    }
    node.reorganise(2, 6);
    assert_eq!(numbers(&mut blocks, 1).await, [8], "numbers only rise");
    let replaced = loop {
        match events.recv().await.unwrap() {
            ChainEvent::Reorganised { from, old, new, .. } => break (from, old, new),
            ChainEvent::Connected { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(replaced.0, BlockNumber(6));
    assert_ne!(replaced.1, replaced.2);
    assert_eq!(replaced.2, chain.block_hash(BlockNumber(6)).await.unwrap().unwrap());
}

#[tokio::test]
async fn a_chain_that_stands_still_is_left_for_another_endpoint() {
    let (still, lively) = (fake(), fake());
    still.grow(1, 5, &[]);
    lively.grow(1, 8, &[]);
    let (one, two) = (still.start(None).await, lively.start(None).await);
    let chain = client(&[one.endpoint(), two.endpoint()], Options { stall_after: Duration::from_millis(100), ..quick() });
    let mut events = chain.events();
    let mut blocks = chain.blocks(At::Number(BlockNumber(4)));
    assert_eq!(numbers(&mut blocks, 5).await, [4, 5, 6, 7, 8]);
    loop {
        if let ChainEvent::Stalled { endpoint, head, .. } = events.recv().await.unwrap() {
            assert_eq!((endpoint, head), (one.endpoint(), BlockNumber(5)));
            break;
        }
    }
}

#[tokio::test]
async fn a_chain_in_virtual_time_may_stand_still() {
    let node = fake();
    node.grow(1, 5, &[]);
    node.served().properties = serde_json::json!({ "virtualTime": true, "blockTimeMs": 250 });
    let running = node.start(None).await;
    let chain = client(&[running.endpoint()], Options { stall_after: Duration::from_millis(5), ..quick() });
    let info = chain.info().await.unwrap();
    assert!(info.virtual_time && info.block_time_ms == 250);
    let mut events = chain.events();
    let mut blocks = chain.blocks(At::Best);
    assert_eq!(numbers(&mut blocks, 1).await, [5]);
    // Several times the watchdog's patience, in requests instead of time.
    while node.served().asked.get("chain_getFinalizedHead").copied().unwrap_or(0) < 5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    node.grow(1, 1, &[]);
    assert_eq!(numbers(&mut blocks, 1).await, [6]);
    while let Ok(event) = events.try_recv() {
        assert!(matches!(event, ChainEvent::Connected { .. }), "{event:?}");
    }
}

/// Waits until the node has taken `count` transactions.
async fn taken(node: &Fake, count: usize) -> Vec<u8> {
    loop {
        if let Some(bytes) = node.served().taken.get(count - 1) {
            return bytes.clone();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// `System.Events` with a success of the transaction at place 1.
fn success() -> Vec<u8> {
    // One event: in transaction 1, System.ExtrinsicSuccess with weight 0, class Normal, Pays::Yes; no topics.
    vec![4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

const EVENTS: &str = "0x26aa394eea5630e07c48ae0c9558cef780d41e5e16056765bc8461851072c9d7";

#[tokio::test]
async fn a_transaction_of_which_nothing_is_heard_is_found_in_its_block() {
    let node = fake();
    node.grow(1, 10, &[]);
    node.served().storage.insert(EVENTS.into(), success());
    let running = node.start(None).await;
    let chain = client(&[running.endpoint()], quick());
    let key = Keypair::from_seed([5; 32]);
    let transfer = chain.transfer(&key, &AccountId([6; 32]), 1, Wait::InBlock);
    let world = async {
        let bytes = taken(&node, 1).await;
        let address = running.address;
        running.stop().await;
        node.grow(1, 2, &[]);
        node.grow(1, 1, &[bytes]);
        node.grow(1, 3, &[]);
        node.start(Some(address)).await
    };
    let (report, _running) = tokio::join!(transfer, world);
    assert_eq!(report.unwrap().block, BlockNumber(13));
    assert_eq!(node.served().taken.len(), 1, "it was not sent a second time");
}

#[tokio::test]
async fn a_transaction_that_got_lost_is_sent_again_and_given_up_when_it_can_never_come() {
    let node = fake();
    node.grow(1, 10, &[]);
    let running = node.start(None).await;
    let chain = client(&[running.endpoint()], quick());
    let key = Keypair::from_seed([5; 32]);
    let transfer = chain.transfer(&key, &AccountId([6; 32]), 1, Wait::InBlock);
    let world = async {
        taken(&node, 1).await;
        let address = running.address;
        running.stop().await;
        node.grow(1, 1, &[]);
        let running = node.start(Some(address)).await;
        assert_eq!(taken(&node, 2).await, node.served().taken[0], "the same bytes, which are the same transaction");
        // It is never included. The era is over after 64 blocks.
        running.stop().await;
        node.grow(1, 80, &[]);
        node.start(Some(address)).await
    };
    let (lost, _running) = tokio::join!(transfer, world);
    let lost = lost.unwrap_err();
    assert!(matches!(lost, ChainError::PoolRejected { code: PoolCode::AncientBirthBlock, .. }), "{lost}");
    assert!(lost.to_string().contains("safe to send it again"), "{lost}");
}

#[tokio::test]
async fn nothing_heard_in_time_is_no_advice_to_send_again() {
    let node = fake();
    node.grow(1, 10, &[]);
    let running = node.start(None).await;
    let chain = client(&[running.endpoint()], Options { in_block_timeout: Duration::from_millis(50), ..quick() });
    let late = chain.transfer(&Keypair::from_seed([5; 32]), &AccountId([6; 32]), 1, Wait::InBlock).await.unwrap_err();
    assert!(matches!(late, ChainError::TimedOut { .. }) && late.to_string().contains("look for its effect"), "{late}");
}

#[tokio::test]
async fn refusals_of_the_pool_keep_their_numbers_and_nonces_are_read_anew() {
    let node = fake();
    node.grow(1, 10, &[]);
    let running = node.start(None).await;
    let chain = client(&[running.endpoint()], quick());
    let key = Keypair::from_seed([5; 32]);
    let refuse = |code: i32, message: &str, data: &str| node.served().refusal = Some((code, message.into(), data.into()));
    refuse(1010, "Invalid Transaction", "Custom error: 2");
    let refused = chain.transfer(&key, &AccountId([6; 32]), 1, Wait::Submitted).await.unwrap_err();
    assert!(matches!(refused, ChainError::PoolRejected { code: PoolCode::Custom(2), .. }), "{refused}");
    refuse(1010, "Invalid Transaction", "Transaction is outdated");
    let stale = chain.transfer(&key, &AccountId([6; 32]), 1, Wait::Submitted).await.unwrap_err();
    assert!(matches!(stale, ChainError::PoolRejected { code: PoolCode::Stale, .. }), "{stale}");
    let tries = node.served().asked["author_submitAndWatchExtrinsic"];
    assert_eq!(tries, 1 + 4, "an old nonce is read again a few times, not for ever");
    node.served().refusal = None;
    chain.transfer(&key, &AccountId([6; 32]), 1, Wait::Submitted).await.unwrap();
    chain.transfer(&key, &AccountId([6; 32]), 2, Wait::Submitted).await.unwrap();
    let nonce = |bytes: &[u8]| bytes[2 + 2 + 32 + 1 + 64 + 2] >> 2;
    let taken = node.served().taken.clone();
    assert_eq!(taken.iter().map(|bytes| nonce(bytes)).collect::<Vec<_>>(), [7, 8], "the chain's nonce, then the next of this process");
}
