//! Basilica through its HTTP interface (as of its release 0.3.3).
//!
//! It names no prices; an offer's is unknown unless the operator says it. A request that rents something is sent once: it has no mark by which a second one could be
//! told from the first, so a lost answer is [`ProviderError::Unclear`], and the ledger finds out by listing.

use crate::offer::{Market, Offer, Wanted};
use crate::provider::{Provider, ProviderError, Remote, RemoteState, StartRequest};
use crate::ssh::Address;
use async_trait::async_trait;
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};
use std::time::Duration;
use templar_store::Secret;

/// The public service.
pub const BASE_URL: &str = "https://api.basilica.ai";
/// The variable of the environment with the token.
pub const TOKEN_VARIABLE: &str = "BASILICA_API_TOKEN";
/// The image that is run where none is named.
pub const IMAGE: &str = "nvidia/cuda:12.8.0-runtime-ubuntu22.04";
/// The shortest time that is charged, ms.
pub const CHARGED_MS_MIN: u64 = 3_600_000;
/// Its name in errors, at the command line and in the ledger.
pub const NAME: &str = "basilica";
/// The largest answer that is read, bytes.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// How often a reading request is made at most.
const ATTEMPTS: u32 = 3;
/// Most offers and rentals that are taken from an answer.
const ROWS_MAX: usize = 10_000;

/// A client of the service.
#[derive(Debug)]
pub struct Basilica {
    base: Url,
    token: Secret<String>,
    client: reqwest::Client,
    /// Between two attempts.
    pause: Duration,
}

impl Basilica {
    /// A client for the service at `base`, which must be HTTPS unless it is on this machine: the token goes there.
    ///
    /// # Errors
    /// Another URL, or no client can be made.
    pub fn new(base: &str, token: Secret<String>, pause: Duration) -> Result<Self, ProviderError> {
        let refused = |why: String| ProviderError::Refused { provider: NAME, why };
        let base = Url::parse(base).map_err(|error| refused(format!("its URL is none: {error}")))?;
        let local = matches!(base.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if base.scheme() != "https" && !local {
            return Err(refused("its URL must begin with https://, since a token is sent to it".into()));
        }
        let sendable = token.expose().bytes().all(|byte| byte.is_ascii_graphic()) && !token.expose().is_empty();
        if !sendable {
            return Err(refused(format!("the token in {TOKEN_VARIABLE} is empty or has spaces or other signs that no token has")));
        }
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| refused(format!("no client can be made: {error}")))?;
        Ok(Self { base, token, client, pause })
    }

    /// One request; the answer's status and body.
    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<(StatusCode, Vec<u8>), ProviderError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.request(method, url).bearer_auth(self.token.expose());
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let unclear = |error: reqwest::Error| ProviderError::Unclear { provider: NAME, why: causes(&error.without_url()) };
        let mut response = request.send().await.map_err(unclear)?;
        let (status, mut bytes) = (response.status(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(unclear)? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(ProviderError::Unclear { provider: NAME, why: format!("its answer has more than {ANSWER_BYTES_MAX} bytes") });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((status, bytes))
    }

    /// A request that changes nothing, made again when that may help.
    async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Vec<u8>, ProviderError> {
        let mut attempt = 1;
        loop {
            let answer = match self.send(Method::GET, path, query, None).await {
                Ok((status, bytes)) if status.is_success() => return Ok(bytes),
                Ok((StatusCode::NOT_FOUND, _)) => {
                    return Err(ProviderError::NoSuchRental { provider: NAME, id: path.get(1).copied().unwrap_or_default().to_owned() });
                }
                Ok((status, bytes)) => {
                    (told(status, &bytes), status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || retryable(&bytes))
                }
                Err(error) => (error, true),
            };
            if attempt >= ATTEMPTS || !answer.1 {
                return Err(answer.0);
            }
            attempt += 1;
            tokio::time::sleep(self.pause).await;
        }
    }

    async fn get_json(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, ProviderError> {
        let bytes = self.get(path, query).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| ProviderError::Unclear { provider: NAME, why: format!("its answer is no JSON: {error}") })
    }
}

/// An error with its causes, which say what really happened.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// What the service says went wrong, by its own form of errors. A status of 4xx means that nothing was done.
fn told(status: StatusCode, bytes: &[u8]) -> ProviderError {
    let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let error = &value["error"];
    let part = |key: &str| error[key].as_str().map(|text| text.chars().filter(|c| !c.is_control()).take(300).collect::<String>());
    let why = match (part("code"), part("message")) {
        (Some(code), Some(message)) => format!("{status}, {code}: {message}"),
        _ => format!("{status}"),
    };
    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
        return ProviderError::Refused {
            provider: NAME,
            why: format!("{why}; make a token that may list and rent, and put it into {TOKEN_VARIABLE}"),
        };
    }
    if status.is_client_error() { ProviderError::Refused { provider: NAME, why } } else { ProviderError::Unclear { provider: NAME, why } }
}

fn retryable(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Value>(bytes).is_ok_and(|value| value["error"]["retryable"] == true)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect()
}

fn number(value: &Value) -> u32 {
    let float = || value.as_f64().filter(|number| (0.0..1e9).contains(number)).map(|number| number as u64);
    value.as_u64().or_else(float).and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}

/// An entry of `available_executors`.
fn offer(row: &Value) -> Option<Offer> {
    let executor = &row["executor"];
    let id = text(&executor["id"]);
    let gpus = executor["gpu_specs"].as_array().cloned().unwrap_or_default();
    let first = gpus.first().cloned().unwrap_or_default();
    let cpu = &executor["cpu_specs"];
    (!id.is_empty()).then(|| Offer {
        id,
        gpu: text(&first["name"]).to_lowercase(),
        gpus: u32::try_from(gpus.len()).unwrap_or(u32::MAX),
        gpu_memory_gb: number(&first["memory_gb"]),
        cpu_cores: number(&cpu["cores"]),
        memory_gb: number(&cpu["memory_gb"]),
        place: text(&executor["location"]),
        price_hour: None,
    })
}

/// The state in either of the service's two vocabularies.
fn state(word: &str) -> RemoteState {
    match word.to_ascii_lowercase().as_str() {
        "provisioning" | "pending" => RemoteState::Starting,
        "active" => RemoteState::Running,
        "stopping" => RemoteState::Stopping,
        "stopped" | "failed" | "terminated" => RemoteState::Ended,
        _ => RemoteState::Unknown,
    }
}

#[async_trait(?Send)]
impl Provider for Basilica {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn offers(&self, wanted: &Wanted) -> Result<Market, ProviderError> {
        // The kind of GPU is compared here: the service knows names of its own.
        let mut query = vec![("available", "true".to_owned())];
        query.extend((wanted.gpus_min > 0).then(|| ("min_gpu_count", wanted.gpus_min.to_string())));
        query.extend((wanted.gpu_memory_gb_min > 0).then(|| ("min_gpu_memory", wanted.gpu_memory_gb_min.to_string())));
        query.extend(wanted.country.as_ref().map(|country| ("country", country.clone())));
        let answer = self.get_json(&["executors"], &query).await?;
        let rows = answer["available_executors"].as_array();
        let rows = rows.ok_or_else(|| ProviderError::Unclear { provider: NAME, why: "its answer has no list of executors".into() })?;
        Ok(rows.iter().take(ROWS_MAX).filter_map(offer).collect::<Vec<_>>().into())
    }

    async fn start(&self, request: &StartRequest) -> Result<String, ProviderError> {
        let body = json!({
            "executor_selection": { "type": "executor_id", "executor_id": request.offer.id },
            "container_image": if request.image.is_empty() { IMAGE } else { &request.image },
            "ssh_public_key": request.public_key,
            "environment": {},
            "ports": [],
            "resources": { "cpu_cores": 0.0, "memory_mb": 0, "storage_mb": 0, "gpu_count": request.offer.gpus, "gpu_types": [] },
            "command": [],
            "volumes": [],
            "no_ssh": false,
        });
        let (status, bytes) = self.send(Method::POST, &["rentals"], &[], Some(&body)).await?;
        if !status.is_success() {
            return Err(told(status, &bytes));
        }
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let id = text(&answer["rental_id"]);
        if id.is_empty() { Err(ProviderError::Unclear { provider: NAME, why: "it names no rental in its answer".into() }) } else { Ok(id) }
    }

    async fn rentals(&self) -> Result<Vec<Remote>, ProviderError> {
        let answer = self.get_json(&["rentals"], &[]).await?;
        let rows = answer["rentals"].as_array();
        let rows = rows.ok_or_else(|| ProviderError::Unclear { provider: NAME, why: "its answer has no list of rentals".into() })?;
        let remote =
            |row: &Value| Remote { id: text(&row["rental_id"]), offer: text(&row["executor_id"]), state: state(&text(&row["state"])) };
        Ok(rows.iter().take(ROWS_MAX).map(remote).filter(|remote| !remote.id.is_empty()).collect())
    }

    async fn address(&self, id: &str) -> Result<Option<Address>, ProviderError> {
        let answer = self.get_json(&["rentals", id], &[]).await?;
        let status = text(&answer["status"]);
        if state(&status) == RemoteState::Ended {
            return Err(ProviderError::Refused { provider: NAME, why: format!("the rental {id} is {status}") });
        }
        let credentials = answer["ssh_credentials"].as_str().filter(|text| !text.is_empty());
        let parsed = credentials.map(str::parse).transpose();
        parsed.map_err(|error: crate::ssh::NoAddress| ProviderError::Refused { provider: NAME, why: error.to_string() })
    }

    async fn stop(&self, id: &str) -> Result<(), ProviderError> {
        match self.send(Method::DELETE, &["rentals", id], &[], None).await? {
            (status, _) if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            (status, bytes) => Err(told(status, &bytes)),
        }
    }

    async fn logs(&self, id: &str, tail: u32) -> Result<String, ProviderError> {
        let query = [("follow", "false".to_owned()), ("tail", tail.to_string())];
        let bytes = self.get(&["rentals", id, "logs"], &query).await?;
        Ok(events(&String::from_utf8_lossy(&bytes)))
    }
}

/// The messages of a stream of server-sent events.
fn events(stream: &str) -> String {
    let mut out = String::new();
    for data in stream.lines().filter_map(|line| line.strip_prefix("data:")) {
        let event: Value = serde_json::from_str(data.trim()).unwrap_or_default();
        if let Some(message) = event["message"].as_str() {
            out.push_str(&format!("{} {}\n", text(&event["timestamp"]), message.trim_end()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_over_https_only() {
        let token = || Secret::new("planted-token".to_owned());
        let error = Basilica::new("http://api.example", token(), Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("https://"));
        let error = Basilica::new(BASE_URL, Secret::new("planted token\n".to_owned()), Duration::ZERO).unwrap_err();
        assert!(!error.to_string().contains("planted"));
    }

    #[test]
    fn both_vocabularies_of_states_are_known() {
        use RemoteState::{Ended, Running, Starting, Stopping, Unknown};
        for (word, want) in [
            ("Provisioning", Starting),
            ("pending", Starting),
            ("Active", Running),
            ("Stopping", Stopping),
            ("terminated", Ended),
            ("Failed", Ended),
            ("new", Unknown),
        ] {
            assert_eq!(state(word), want, "{word}");
        }
        assert!(Unknown.is_live(), "what is not understood may cost something");
    }

    #[test]
    fn hostile_rows_are_bounded() {
        let row = json!({ "executor": { "id": "e\u{1b}[2J", "gpu_specs": [{ "name": "H200", "memory_gb": 1e300 }], "cpu_specs": { "cores": -4, "memory_gb": "x" } } });
        let offer = offer(&row).unwrap();
        assert_eq!((offer.id.as_str(), offer.gpu_memory_gb, offer.cpu_cores, offer.memory_gb), ("e[2J", 0, 0, 0));
        assert!(super::offer(&json!({})).is_none());
    }

    #[test]
    fn log_events_become_lines() {
        let stream = "event: log\ndata: {\"timestamp\":\"t\",\"stream\":\"stdout\",\"message\":\"one\\n\"}\n\ndata: rubbish\n\ndata: {\"message\":\"two\"}\n";
        assert_eq!(events(stream), "t one\n two\n");
    }
}
