//! Requests to the face that controls paced time: bounded answers, and repeated tries with growing pauses until a deadline.

use crate::error::{ChainError, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{future::Future, time::Duration};
use tokio::time::Instant;

/// The largest answer, bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// The longest line of a stream, bytes.
const LINE_BYTES_MAX: usize = 16 << 10;
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// What was asked for.
    Ok(Value),
    /// Why not.
    Refused(ChainError),
}

impl Reply {
    /// The reply that tells `result`.
    pub fn of<T: Serialize>(result: Result<T>) -> Self {
        let value = |answer: T| serde_json::to_value(answer).map_err(|e| ChainError::Unsupported { what: format!("this answer: {e}") });
        match result.and_then(value) {
            Ok(value) => Self::Ok(value),
            Err(error) => Self::Refused(error),
        }
    }
}

/// Pauses between tries: each twice the one before, up to a second.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub fn new() -> Self {
        Self(PAUSE_FIRST)
    }

    pub async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(PAUSE_MAX);
    }
}

/// One endpoint. Clones share connections.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    base: String,
}

impl Http {
    /// `endpoint` is a URL such as `http://127.0.0.1:9944`.
    pub fn new(endpoint: &str) -> Result<Self> {
        let base = endpoint.trim_end_matches('/').to_owned();
        let bad = |why: String| ChainError::Transport { endpoint: base.clone(), why, retryable: false };
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(bad("the address must begin with http:// or https://".into()));
        }
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Fails only when another thread has just installed one, which serves as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let builder =
            reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).redirect(reqwest::redirect::Policy::none()).no_proxy();
        // Without TLS the machine's certificates are not needed, and there may be none.
        let builder = if base.starts_with("http://") { builder.tls_certs_only([]) } else { builder };
        let client = builder.build().map_err(|e| bad(e.to_string()))?;
        Ok(Self { client, base })
    }

    pub fn transport(&self, why: impl std::fmt::Display, retryable: bool) -> ChainError {
        ChainError::Transport { endpoint: self.base.clone(), why: why.to_string(), retryable }
    }

    fn failed(&self, e: &reqwest::Error) -> ChainError {
        let cause = std::error::Error::source(e).map(|source| format!("{e}: {source}")).unwrap_or_else(|| e.to_string());
        self.transport(cause, !e.is_builder())
    }

    /// Posts `body` once and reads the reply, for which it waits as long as the server holds the connection.
    pub async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value> {
        let body = serde_json::to_vec(body).map_err(|e| self.transport(e, false))?;
        let request = self.client.post(format!("{}{path}", self.base)).header("content-type", "application/json").body(body);
        let mut response = request.send().await.map_err(|e| self.failed(&e))?;
        let status = response.status();
        if status == reqwest::StatusCode::SERVICE_UNAVAILABLE {
            return Err(self.transport("it is stopping or busy", true));
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.failed(&e))? {
            if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.transport(format!("its answer exceeds {ANSWER_BYTES_MAX} bytes"), false));
            }
            answer.extend_from_slice(&chunk);
        }
        match serde_json::from_slice(&answer) {
            Ok(Reply::Ok(value)) => Ok(value),
            Ok(Reply::Refused(error)) => Err(error),
            Err(e) => Err(self.transport(format!("its answer (status {status}) cannot be read: {e}"), false)),
        }
    }

    /// Opens a stream of lines.
    pub async fn lines(&self, path: &str) -> Result<Lines> {
        let response = self.client.get(format!("{}{path}", self.base)).send().await.map_err(|e| self.failed(&e))?;
        if !response.status().is_success() {
            return Err(self.transport(format!("it refused {path} with status {}", response.status()), true));
        }
        Ok(Lines { http: self.clone(), response, buffer: Vec::new() })
    }
}

/// Does `attempt` again while its failure is transient, until `deadline` has passed.
pub(crate) async fn persist<T, F>(deadline: Duration, mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let start = Instant::now();
    let mut backoff = Backoff::new();
    loop {
        match attempt().await {
            Err(error) if error.is_retryable() && start.elapsed() < deadline => backoff.pause().await,
            result => return result,
        }
    }
}

/// A stream of newline-delimited JSON.
#[derive(Debug)]
pub(crate) struct Lines {
    http: Http,
    response: reqwest::Response,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line; `None` at the end of the stream. May be dropped between two calls and while waiting.
    pub async fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|e| self.http.transport(format!("a line cannot be read: {e}"), true));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(self.http.transport(format!("a line exceeds {LINE_BYTES_MAX} bytes"), true));
            }
            match self.response.chunk().await.map_err(|e| self.http.failed(&e))? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}
