//! The face on a listener, through a WebSocket.

use super::*;
use futures::{SinkExt as _, StreamExt as _};
use std::{net::SocketAddr, time::Duration};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

/// Far longer than anything here takes: a test that reaches it hangs.
const HANG: Duration = Duration::from_secs(60);

struct Served {
    chain: DevChain,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<templar_chain::Result<()>>,
}

impl Served {
    async fn start(chain: DevChain, permissions: Permissions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let task = tokio::spawn(templar_chain_rpc::serve(chain.clone(), listener, None, permissions, shutdown));
        Self { chain, address, stop: Some(stop), task }
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        tokio::time::timeout(HANG, self.task).await.unwrap().unwrap().unwrap();
    }
}

struct Client {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    id: u64,
    /// Notifications that came before an answer.
    early: std::collections::VecDeque<Value>,
}

impl Client {
    async fn connect(to: &Served) -> Self {
        let (socket, _) = connect_async(format!("ws://{}/", to.address)).await.unwrap();
        Self { socket, id: 0, early: Default::default() }
    }

    async fn receive(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(HANG, self.socket.next()).await.unwrap().unwrap().unwrap();
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        let request = json!({ "jsonrpc": "2.0", "id": self.id, "method": method, "params": params });
        self.socket.send(Message::text(request.to_string())).await.unwrap();
        loop {
            let message = self.receive().await;
            if message["id"] == json!(self.id) {
                return if message["error"].is_null() { message["result"].clone() } else { message["error"].clone() };
            }
            self.early.push_back(message);
        }
    }

    /// The next thing that a subscription tells.
    async fn told(&mut self, subscription: &Value) -> Value {
        if let Some(place) = self.early.iter().position(|message| message["params"]["subscription"] == *subscription) {
            return self.early.remove(place).unwrap()["params"]["result"].clone();
        }
        loop {
            let message = self.receive().await;
            if message["params"]["subscription"] == *subscription {
                return message["params"]["result"].clone();
            }
            self.early.push_back(message);
        }
    }
}

fn virtual_chain() -> DevChain {
    DevChain::in_memory(&config(), BlockTime::Virtual(250)).unwrap()
}

#[tokio::test]
async fn heads_come_one_by_one_and_hash_to_themselves() {
    let served = Served::start(virtual_chain(), Permissions::default()).await;
    let mut client = Client::connect(&served).await;
    let heads = client.ask("chain_subscribeNewHeads", json!([])).await;
    let finalized = client.ask("chain_subscribeFinalizedHeads", json!([])).await;
    assert_eq!(client.told(&heads).await["number"], "0x0");
    served.chain.close_blocks(3).unwrap();
    for number in ["0x1", "0x2", "0x3"] {
        assert_eq!(client.told(&heads).await["number"], number);
    }
    for number in ["0x0", "0x1", "0x2", "0x3"] {
        let header = client.told(&finalized).await;
        assert_eq!(header["number"], number);
        let expected = client.ask("chain_getBlockHash", json!([number])).await;
        let encoded = served.chain.header(templar_protocol::BlockNumber(u64::from_str_radix(&number[2..], 16).unwrap())).unwrap().encode();
        assert_eq!(hexed(&templar_chain::blake2_256(&encoded).0), expected);
    }
    assert_eq!(client.ask("chain_unsubscribeNewHeads", json!([heads])).await, json!(true));
    assert_eq!(client.ask("chain_unsubscribeNewHeads", json!([heads])).await, json!(false));
    served.stop().await;
}

#[tokio::test]
async fn a_watched_transaction_is_told_until_it_is_final() {
    let served = Served::start(virtual_chain(), Permissions::default()).await;
    let face = Face::new(served.chain.clone(), Permissions::default()).unwrap();
    let mut client = Client::connect(&served).await;
    let events =
        client.ask("state_subscribeStorage", json!([[hexed(&face.storage().key("System", "Number", &Default::default()).unwrap())]])).await;
    assert!(client.told(&events).await["changes"][0][1].is_string());
    let raw = signed(&face, 0, &set_weights(&[(2, 1)]));
    let watch = client.ask("author_submitAndWatchExtrinsic", json!([hexed(&raw)])).await;
    assert_eq!(client.told(&watch).await, "ready");
    let block = served.chain.close_block().unwrap();
    let hash = json!(format!("0x{}", block.hash));
    assert_eq!(client.told(&watch).await, json!({ "inBlock": hash }));
    assert_eq!(client.told(&watch).await, json!({ "finalized": hash }));
    assert_eq!(client.told(&events).await["block"], hash);
    let again = client.ask("author_submitAndWatchExtrinsic", json!([hexed(&raw)])).await;
    assert_eq!(again["code"], 1010);
    served.stop().await;
}

#[tokio::test]
async fn a_dropped_connection_takes_its_subscriptions_along() {
    let served = Served::start(virtual_chain(), Permissions::default()).await;
    let mut client = Client::connect(&served).await;
    for _ in 0..64 {
        assert!(client.ask("chain_subscribeNewHeads", json!([])).await.is_string());
    }
    assert_eq!(client.ask("chain_subscribeNewHeads", json!([])).await["code"], -32006);
    drop(client);
    served.chain.close_blocks(5).unwrap();
    let mut other = Client::connect(&served).await;
    assert!(other.ask("chain_subscribeNewHeads", json!([])).await.is_string());
    served.stop().await;
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_its_connection_only() {
    let served = Served::start(virtual_chain(), Permissions::default()).await;
    let mut good = Client::connect(&served).await;
    let mut bad = Client::connect(&served).await;
    let _ = bad.socket.send(Message::text("x".repeat(templar_chain_rpc::rpc::REQUEST_BYTES_MAX + 1))).await;
    while let Some(Ok(_)) = tokio::time::timeout(HANG, bad.socket.next()).await.unwrap() {}
    assert_eq!(good.ask("system_chain", json!([])).await, "Templar development");
    served.stop().await;
}

#[tokio::test]
async fn control_is_for_loopback_and_public_networks_are_not_shown() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let result = templar_chain_rpc::serve(virtual_chain(), listener, None, Permissions { control: true }, std::future::pending()).await;
    assert!(matches!(result, Err(templar_chain::ChainError::Unsupported { .. })), "{result:?}");
}
