//! What the client reads where a runtime does not offer all: an interface that is missing is replaced by another, or by single entries, and
//! the result is the same; what cannot be replaced is an error that names it.

#![allow(clippy::unwrap_used)]

mod support;

use support::{
    fake::{Fake, Running},
    metadata_without, quick,
    world::{NETUID, ONE, coldkey, genesis, hotkey},
};
use templar_chain::{
    At, Axon, BlockTime, Chain as _, ChainError, DevChain, DevControl as _, Metagraph, RuntimeOptions, Scheduler, SubnetRules, Wait,
};
use templar_chain_rpc::{Face, Permissions};
use templar_protocol::{Netuid, Uid};
use templar_subtensor::Subtensor;

const INTERFACES: [&str; 2] = ["get_metagraph", "get_selective_metagraph"];

/// A chain in which every field of a metagraph has something to say.
async fn lively() -> DevChain {
    let runtime = RuntimeOptions { scheduler: Scheduler::Modular, ..RuntimeOptions::default() };
    let rules = SubnetRules { yuma3: true, max_allowed_uids: 77, ..SubnetRules::default() };
    let dev = DevChain::in_memory(&genesis(runtime, rules), BlockTime::Virtual(1000)).unwrap();
    let axon = Axon { version: 3, ip: "203.0.113.9".parse().unwrap(), port: 8091, protocol: 4 };
    dev.serve_axon(&hotkey(3), NETUID, &axon, Wait::Submitted).await.unwrap();
    dev.register(&coldkey(), NETUID, &hotkey(10).public(), ONE, Wait::Submitted).await.unwrap();
    for validator in [1, 2] {
        let row = [(Uid(1), 100u16), (Uid(2), 300), (Uid(3), 200)];
        dev.put_weights(&hotkey(validator), NETUID, &row, 0, Wait::Submitted).await.unwrap();
    }
    dev.advance(25).await.unwrap();
    let graph = dev.metagraph(NETUID, At::Best).await.unwrap();
    assert!(graph.neurons.iter().any(|n| n.incentive > 0) && graph.neurons.iter().any(|n| n.dividends > 0 && n.validator_trust > 0));
    assert!(graph.neurons[2].axon.is_some() && graph.last_epoch_block.0 > 0 && graph.neurons[3].registered_at.0 > 0);
    dev
}

/// The chain through a client whose node describes itself without some methods and entries. The node serves as long as this lives.
struct Seen {
    client: Subtensor,
    node: Fake,
    _running: Running,
}

async fn seen(dev: &DevChain, methods: &[&str], entries: &[&str]) -> Seen {
    let node = Fake::over(Face::new(dev.clone(), Permissions::default()).unwrap(), metadata_without(methods, entries));
    let running = node.start(None).await;
    let client = Subtensor::with_options(running.endpoint().parse().unwrap(), quick());
    Seen { client, node, _running: running }
}

impl Seen {
    async fn metagraph(&self) -> Metagraph {
        self.client.metagraph(NETUID, At::Best).await.unwrap()
    }

    /// How often the method was called.
    fn calls(&self, method: &str) -> u64 {
        self.node.served().asked.get(&format!("SubnetInfoRuntimeApi_{method}")).copied().unwrap_or(0)
    }
}

#[tokio::test]
async fn the_metagraph_is_the_same_by_every_way() {
    let dev = lively().await;
    let direct = dev.metagraph(NETUID, At::Best).await.unwrap();
    for (missing, whole, selective) in [(0, 1, 0), (1, 0, 1), (2, 0, 0)] {
        let seen = seen(&dev, &INTERFACES[..missing], &[]).await;
        assert_eq!(seen.metagraph().await, direct, "without {:?}", &INTERFACES[..missing]);
        assert_eq!((seen.calls(INTERFACES[0]), seen.calls(INTERFACES[1])), (whole, selective));
    }
}

#[tokio::test]
async fn an_entry_that_is_gone_leaves_its_field_empty() {
    let dev = lively().await;
    let mut expected = dev.metagraph(NETUID, At::Best).await.unwrap();
    for neuron in &mut expected.neurons {
        (neuron.validator_trust, neuron.consensus) = (0, 0);
    }
    let seen = seen(&dev, &INTERFACES, &["ValidatorTrust", "Consensus"]).await;
    assert_eq!(seen.metagraph().await, expected);
}

#[tokio::test]
async fn an_entry_that_nothing_replaces_is_named() {
    let dev = lively().await;
    for entry in ["SubnetworkN", "Keys", "Axons"] {
        let seen = seen(&dev, &INTERFACES, &[entry]).await;
        let refused = seen.client.metagraph(NETUID, At::Best).await.unwrap_err();
        assert!(matches!(&refused, ChainError::Unsupported { what } if what.contains(entry)), "{entry}: {refused}");
    }
    let seen = seen(&dev, &["get_stake_info_for_hotkey_coldkey_netuid"], &[]).await;
    let refused = seen.client.stake(&hotkey(1).public(), &coldkey().public(), NETUID).await.unwrap_err();
    assert!(matches!(&refused, ChainError::Unsupported { what } if what.contains("get_stake_info_for_hotkey_coldkey_netuid")), "{refused}");
}

#[tokio::test]
async fn a_subnet_that_is_not_there_is_not_found_by_any_way() {
    let dev = lively().await;
    for missing in 0..=2 {
        let seen = seen(&dev, &INTERFACES[..missing], &[]).await;
        let refused = seen.client.metagraph(Netuid(9), At::Best).await.unwrap_err();
        assert!(matches!(refused, ChainError::NotFound { .. }), "{missing}: {refused}");
    }
}

#[tokio::test]
async fn rules_without_an_entry_keep_their_default() {
    let dev = lively().await;
    let known = |rules: SubnetRules| SubnetRules { burn: 0, burn_decay_q32: 0, take: 0, ..rules };
    let seen = seen(&dev, &[], &["Yuma3On", "MaxAllowedUids"]).await;
    let rules = known(seen.client.subnet_rules(NETUID).await.unwrap());
    let (all, default) = (known(dev.subnet_rules(NETUID).await.unwrap()), SubnetRules::default());
    assert_eq!(rules, SubnetRules { yuma3: default.yuma3, max_allowed_uids: default.max_allowed_uids, ..all });
}
