//! The development chain on a listener: its blocks in their time, and the face by which a paced network controls that time.
//!
//! | request | answer |
//! |---|---|
//! | `GET /pace/{name}` | a participant's stay: one line with the time, then a stream that is open as long as it stays |
//! | `POST /pace` with a [`SleepRequest`] | the time at which the participant was woken |
//! | `GET /pace`, `POST /pace/expect` | where pacing stands; how many participants must be there |
//!
//! This is no way to read the chain or to act on it: that is what its JSON-RPC is for, which is served on the same listener. Requests have a
//! size limit and stays a number limit. A chain that is not paced refuses all of it; whoever reaches a paced one may stop its time.

use crate::{
    dev::{BlockTime, DevChain},
    error::{ChainError, Result},
    http::Reply,
    pace::{Pacer, Presence, SleepRequest},
};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::ListenerExt as _,
};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};

/// The largest request, bytes.
const REQUEST_BYTES_MAX: usize = 4 << 10;
/// Stays open at once.
const STREAMS_MAX: usize = 512;
/// How long open answers may take after the server was asked to stop.
const DRAIN: Duration = Duration::from_secs(3);

#[derive(Clone)]
struct App {
    pacer: Option<Pacer>,
    streams: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

/// Serves `chain` on `listener` until `shutdown` resolves, then lets open answers end: the routes of `beside`, and paced time. With `paced`,
/// time is virtual and goes on when that many participants sleep; else a chain with an interval closes a block every interval.
///
/// # Errors
/// [`ChainError::Store`] when the chain's disk fails, `Unsupported` when `paced` does not fit the chain's kind of time, `Transport`
/// when the listener fails.
pub async fn serve(
    chain: DevChain,
    listener: TcpListener,
    paced: Option<usize>,
    beside: Router,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    if paced.is_some() && matches!(chain.block_time(), BlockTime::Interval(_)) {
        return Err(ChainError::Unsupported { what: "pacing a chain whose blocks follow the wall clock".into() });
    }
    let pacer = paced.map(|expected| Pacer::new(chain.clone(), expected));
    let (stop, stopping) = watch::channel(false);
    let streams = Arc::new(Semaphore::new(STREAMS_MAX));
    // Answers are small and waited for. Where the option cannot be set, they are only slower.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let app = App { pacer: pacer.clone(), streams, stopping: stopping.clone() };
    let server = axum::serve(listener, router(app).merge(beside)).with_graceful_shutdown(stopped(stopping)).into_future();
    tokio::pin!(server);
    let time = async {
        match (chain.block_time(), &pacer) {
            (BlockTime::Interval(_), _) => chain.run_timer().await,
            (BlockTime::Virtual(_), Some(pacer)) => Err(pacer.failed().await),
            (BlockTime::Virtual(_), None) => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = &mut server => return ended.map_err(|e| broken(&e)),
        ended = time => ended,
        () = shutdown => Ok(()),
    };
    stop.send_replace(true);
    match tokio::time::timeout(DRAIN, server).await {
        Ok(Err(e)) => ended.and(Err(broken(&e))),
        // What has not ended by now belongs to clients that do not read.
        Ok(Ok(())) | Err(_) => ended,
    }
}

fn broken(e: &std::io::Error) -> ChainError {
    ChainError::Transport { endpoint: "its own listener".into(), why: e.to_string(), retryable: false }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // A dropped sender means the same as the word to stop.
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn router(app: App) -> Router {
    Router::new()
        .route("/pace", get(pace_status).post(pace_sleep))
        .route("/pace/expect", post(pace_expect))
        .route("/pace/{name}", get(pace_join))
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "there is nothing at this address: JSON-RPC is at /, paced time at /pace") })
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(app)
}

fn refuse(status: StatusCode, why: impl Into<String>) -> Response {
    (status, Json(Reply::Refused(ChainError::Unsupported { what: why.into() }))).into_response()
}

fn reply<T: Serialize>(result: Result<T>) -> Response {
    let status = match &result {
        Ok(_) => StatusCode::OK,
        Err(ChainError::Store { .. }) => StatusCode::INTERNAL_SERVER_ERROR,
        Err(ChainError::NotFound { .. } | ChainError::StatePruned { .. }) => StatusCode::NOT_FOUND,
        Err(_) => StatusCode::BAD_REQUEST,
    };
    (status, Json(Reply::of(result))).into_response()
}

fn parse<T: for<'de> Deserialize<'de>>(body: &Bytes) -> Result<T, Box<Response>> {
    serde_json::from_slice(body)
        .map_err(|e| Box::new(refuse(StatusCode::UNPROCESSABLE_ENTITY, format!("a request that cannot be read: {e}"))))
}

fn permit(app: &App) -> Result<OwnedSemaphorePermit, Box<Response>> {
    let full = |_| Box::new(refuse(StatusCode::SERVICE_UNAVAILABLE, format!("more than {STREAMS_MAX} streams at once: close some")));
    Arc::clone(&app.streams).try_acquire_owned().map_err(full)
}

fn pacer(app: &App) -> Result<&Pacer> {
    app.pacer.as_ref().ok_or_else(|| ChainError::Unsupported { what: "pacing: start it with --paced".into() })
}

async fn pace_status(State(app): State<App>) -> Response {
    reply(pacer(&app).map(Pacer::status))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    n: usize,
}

async fn pace_expect(State(app): State<App>, body: Bytes) -> Response {
    match parse::<Expect>(&body) {
        Ok(Expect { n }) => reply(pacer(&app).map(|pacer| {
            pacer.expect(n);
            pacer.status()
        })),
        Err(refusal) => *refusal,
    }
}

async fn pace_sleep(State(app): State<App>, body: Bytes) -> Response {
    let request = match parse::<SleepRequest>(&body) {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    let sleep = async { pacer(&app)?.sleep(request).await };
    tokio::select! {
        woken = sleep => reply(woken),
        () = stopped(app.stopping.clone()) => refuse(StatusCode::SERVICE_UNAVAILABLE, "the chain is stopping"),
    }
}

async fn pace_join(State(app): State<App>, Path(name): Path<String>) -> Response {
    let permit = match permit(&app) {
        Ok(permit) => permit,
        Err(refusal) => return *refusal,
    };
    let presence = match pacer(&app).and_then(|pacer| pacer.join(&name)) {
        Ok(presence) => presence,
        Err(error) => return reply::<()>(Err(error)),
    };
    let first = match serde_json::to_vec(&presence.time) {
        Ok(line) => [line, b"\n".to_vec()].concat(),
        Err(e) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("the time cannot be written: {e}")),
    };
    // The first line tells the time; then the stream stays open and silent until either side goes. The permit is held as long as the stream.
    let told = futures::stream::iter([Ok::<_, Infallible>(first)]);
    let stay = futures::stream::once(stay(presence, permit)).filter_map(std::future::ready);
    let body = Body::from_stream(told.chain(stay).take_until(stopped(app.stopping)));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Says nothing, and ends when another stream takes over the name.
async fn stay(mut presence: Presence, _permit: OwnedSemaphorePermit) -> Option<Result<Vec<u8>, Infallible>> {
    presence.replaced().await;
    None
}
