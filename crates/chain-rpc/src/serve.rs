//! The face on a listener: JSON-RPC over WebSocket and over HTTP at `/`, beside the control of paced time in [`templar_chain::server`].

use crate::rpc::{Face, Permissions, REQUEST_BYTES_MAX, Session, handle};
use axum::{
    Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::{SinkExt as _, StreamExt as _};
use std::{future::Future, sync::Arc};
use templar_chain::{ChainError, DevChain, Result, server};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
};

/// WebSockets open at once.
const CONNECTIONS_MAX: usize = 256;
/// Messages that wait to be read by a client.
const QUEUE: usize = 64;

#[derive(Clone)]
struct App {
    face: Face,
    connections: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

/// Serves `chain` on `listener` until `shutdown` resolves: its Substrate face, and the control of its time when that is paced.
///
/// # Errors
/// As [`server::serve`]; `Unsupported` also when control is permitted on a listener that is not loopback, or the chain shows the genesis of
/// a public network.
pub async fn serve(
    chain: DevChain,
    listener: TcpListener,
    paced: Option<usize>,
    permissions: Permissions,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    if permissions.control && !loopback {
        return Err(ChainError::Unsupported { what: "control from beyond this machine: listen on a loopback address".into() });
    }
    let (stop, stopping) = watch::channel(false);
    let app = App { face: Face::new(chain.clone(), permissions)?, connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)), stopping };
    let shutdown = async move {
        shutdown.await;
        stop.send_replace(true);
    };
    server::serve(chain, listener, paced, router(app), shutdown).await
}

fn router(app: App) -> Router {
    Router::new().route("/", get(upgrade).post(post)).layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX)).with_state(app)
}

/// Whether a request comes from a web page of another machine. Browsers let any page speak to loopback addresses, and say which it is.
fn is_foreign(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let host = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
    let local = |host: &str| {
        ["localhost", "127.0.0.1", "[::1]"]
            .iter()
            .any(|name| host.strip_prefix(name).is_some_and(|port| port.is_empty() || port.starts_with(':')))
    };
    !host.is_some_and(local)
}

fn refuse_foreign() -> Response {
    (StatusCode::FORBIDDEN, "web pages of other machines may not use this chain").into_response()
}

async fn post(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    if is_foreign(&headers) {
        return refuse_foreign();
    }
    match handle(&app.face, &body, None) {
        Some(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn upgrade(State(app): State<App>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    if is_foreign(&headers) {
        return refuse_foreign();
    }
    let Ok(permit) = Arc::clone(&app.connections).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("more than {CONNECTIONS_MAX} connections at once: close some")).into_response();
    };
    let upgrade = upgrade.max_message_size(REQUEST_BYTES_MAX).max_frame_size(REQUEST_BYTES_MAX);
    upgrade.on_upgrade(move |socket| connection(app, socket, permit))
}

/// Reads requests and answers them in their order, with what subscriptions tell in between. The permit is held as long as the connection.
async fn connection(mut app: App, socket: WebSocket, _permit: OwnedSemaphorePermit) {
    let (mut sink, mut stream) = socket.split();
    let (out, mut queue) = mpsc::channel::<String>(QUEUE);
    let writer = tokio::spawn(async move {
        while let Some(message) = queue.recv().await {
            if sink.send(Message::text(message)).await.is_err() {
                return;
            }
        }
        // The client learns that the connection ends; if it is gone, it need not.
        let _ = sink.close().await;
    });
    let session = Session::new(out.clone());
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            _ = app.stopping.wait_for(|stop| *stop) => None,
        };
        let text = match message {
            Some(Ok(Message::Text(text))) => Bytes::from(text),
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Close(_)) | Err(_)) | None => break,
        };
        if let Some(answer) = handle(&app.face, &text, Some(&session))
            && out.send(answer).await.is_err()
        {
            break;
        }
        session.answered();
    }
    drop((session, out));
    // Ends when the queue is empty and no task holds its other end; a client that does not read is left after the tasks are gone.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(3), writer).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_machine_may_speak() {
        let from = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            is_foreign(&headers)
        };
        assert!(!is_foreign(&HeaderMap::new()));
        for local in ["http://localhost", "http://localhost:3000", "https://127.0.0.1:8080", "http://[::1]:5"] {
            assert!(!from(local), "{local}");
        }
        for foreign in ["https://example.org", "http://localhost.example.org", "null", "http://127.0.0.1.example.org:80", "file://"] {
            assert!(from(foreign), "{foreign}");
        }
    }
}
