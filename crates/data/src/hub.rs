//! Tokenizers from Hugging Face: one bounded HTTPS GET, with the user's token where one is given.
//!
//! The token is never printed and is erased from memory; it travels in a header that HTTP libraries do not log.

use crate::{Tokenizer, TokenizerError, tokenizer::TOKENIZER_BYTES_MAX};
use futures::StreamExt;
use reqwest::{StatusCode, header};
use std::{fmt, time::Duration};
use zeroize::Zeroizing;

/// Where models live unless `HF_ENDPOINT` says otherwise.
pub const HUB: &str = "https://huggingface.co";

/// Why a tokenizer cannot be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The name is not `owner/name`.
    #[error("{0:?} is not the name of a model; write hf:OWNER/NAME, for example hf:google/gemma-3-270m")]
    Name(String),
    /// The token has characters that no header can carry.
    #[error("HF_TOKEN has characters that no token has; copy it again from your account's page of access tokens")]
    Token,
    /// The model is gated, or the token is missing or wrong.
    #[error(
        "Hugging Face refuses {repo} ({status}): open {page}, log in and accept its terms, then put an access token that may read it in HF_TOKEN"
    )]
    Refused {
        /// The model.
        repo: String,
        /// 401 or 403.
        status: u16,
        /// Where its terms are.
        page: String,
    },
    /// No such model, or it has no tokenizer.json.
    #[error("{repo} has no tokenizer.json at {url}; check the name, or download the file yourself and give its path")]
    NotFound {
        /// The model.
        repo: String,
        /// The address tried.
        url: String,
    },
    /// Another answer than the file.
    #[error("{url} answered {status}; try again later, or download the file yourself and give its path")]
    Status {
        /// The address tried.
        url: String,
        /// The answer.
        status: u16,
    },
    /// More bytes than any tokenizer has.
    #[error("{url} sends more than {TOKENIZER_BYTES_MAX} bytes, which is no tokenizer")]
    TooLarge {
        /// The address tried.
        url: String,
    },
    /// The address cannot be reached.
    #[error("cannot fetch {url}: {why}; check the connection, or download the file yourself and give its path")]
    Network {
        /// The address tried.
        url: String,
        /// The chain of causes.
        why: String,
    },
}

/// An access token, which cannot be printed.
#[derive(Clone)]
pub struct HubToken(Zeroizing<String>);

impl HubToken {
    /// Takes over `token`.
    pub fn new(token: String) -> Self {
        Self(Zeroizing::new(token))
    }
}

impl fmt::Debug for HubToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where to download from, and as whom.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Base address, without a slash at its end.
    pub endpoint: String,
    /// The user's access token.
    pub token: Option<HubToken>,
    /// How long the whole download may take.
    pub timeout: Duration,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self { endpoint: HUB.to_owned(), token: None, timeout: Duration::from_secs(300) }
    }
}

impl HubOptions {
    /// The options that `HF_ENDPOINT` and `HF_TOKEN` ask for.
    pub fn from_env() -> Self {
        let read = |name| std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let mut options = Self { token: read("HF_TOKEN").map(HubToken::new), ..Self::default() };
        if let Some(endpoint) = read("HF_ENDPOINT") {
            options.endpoint = endpoint.trim_end_matches('/').to_owned();
        }
        options
    }
}

/// A name that can go into an address as it is.
fn is_repo(repo: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && !part.starts_with('.') && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    repo.len() <= 200 && repo.split('/').count() <= 2 && repo.split('/').all(part)
}

/// The content of the `tokenizer.json` of model `repo` (`owner/name`).
///
/// # Errors
/// [`HubError`]; where terms must be accepted first, it names their page.
pub async fn download(repo: &str, options: &HubOptions) -> Result<Vec<u8>, HubError> {
    if !is_repo(repo) {
        return Err(HubError::Name(repo.chars().take(200).collect()));
    }
    // A second installation is refused, which is fine: one provider serves the whole process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = format!("{}/{repo}/resolve/main/tokenizer.json", options.endpoint);
    let network = |error: reqwest::Error| HubError::Network { url: url.clone(), why: causes(&error.without_url()) };
    let builder = reqwest::Client::builder().user_agent("templar").timeout(options.timeout);
    // A mirror on this machine is not behind anybody's proxy.
    let local = ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|local| url.starts_with(local));
    let client = if local { builder.no_proxy() } else { builder }.build().map_err(network)?;
    let mut request = client.get(&url);
    if let Some(token) = &options.token {
        let value = Zeroizing::new(format!("Bearer {}", token.0.as_str()));
        let mut value = header::HeaderValue::from_str(&value).map_err(|_| HubError::Token)?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    let response = request.send().await.map_err(network)?;
    match response.status() {
        status if status.is_success() => {}
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            let page = format!("{}/{repo}", options.endpoint);
            return Err(HubError::Refused { repo: repo.to_owned(), status: status.as_u16(), page });
        }
        StatusCode::NOT_FOUND => return Err(HubError::NotFound { repo: repo.to_owned(), url }),
        status => return Err(HubError::Status { url, status: status.as_u16() }),
    }
    let mut body = response.bytes_stream();
    let mut bytes = Vec::new();
    while let Some(part) = body.next().await {
        let part = part.map_err(network)?;
        if (bytes.len() + part.len()) as u64 > TOKENIZER_BYTES_MAX {
            return Err(HubError::TooLarge { url });
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// An error and its causes in one line. reqwest's own text holds the address, never a header.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The tokenizer that `name` means: `byte`, `hf:OWNER/NAME`, or a path.
///
/// # Errors
/// [`TokenizerError`] when it cannot be read, downloaded or understood.
pub async fn tokenizer(name: &str, eos: Option<&str>, options: &HubOptions) -> Result<Tokenizer, TokenizerError> {
    match name.strip_prefix("hf:") {
        _ if name == "byte" => Ok(Tokenizer::Byte),
        Some(repo) => Tokenizer::from_json(download(repo, options).await?, eos),
        None => Tokenizer::from_path(std::path::Path::new(name), eos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::tests::small_tokenizer_json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// A server for one request; gives its address and, later, what was asked of it.
    async fn serve(status: &'static str, body: Vec<u8>) -> (HubOptions, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
            stream.shutdown().await.unwrap();
            String::from_utf8(request).unwrap()
        });
        (HubOptions { endpoint, token: Some(HubToken::new("hf_secret".into())), ..HubOptions::default() }, task)
    }

    #[tokio::test]
    async fn a_tokenizer_comes_with_the_users_token() {
        let (options, server) = serve("200 OK", small_tokenizer_json("<eos>")).await;
        let tokenizer = tokenizer("hf:google/gemma-3-270m", None, &options).await.unwrap();
        assert_eq!(tokenizer.vocab(), 300);
        let request = server.await.unwrap();
        assert!(request.starts_with("GET /google/gemma-3-270m/resolve/main/tokenizer.json HTTP/1.1"));
        assert!(request.to_ascii_lowercase().contains("authorization: bearer hf_secret"));
    }

    #[tokio::test]
    async fn refusals_name_the_page_with_the_terms_and_hide_the_token() {
        for status in ["401 Unauthorized", "403 Forbidden"] {
            let (options, server) = serve(status, Vec::new()).await;
            let error = tokenizer("hf:google/gemma-3-270m", None, &options).await.unwrap_err();
            server.await.unwrap();
            let text = error.to_string();
            assert!(text.contains(&format!("{}/google/gemma-3-270m", options.endpoint)) && text.contains("accept its terms"), "{text}");
            assert!(!format!("{error:?}{text}{options:?}").contains("hf_secret"));
        }
    }

    #[tokio::test]
    async fn other_failures_say_which() {
        let (options, _server) = serve("404 Not Found", Vec::new()).await;
        assert!(matches!(download("a/b", &options).await, Err(HubError::NotFound { .. })));
        let (options, _server) = serve("500 Oops", Vec::new()).await;
        assert!(matches!(download("a/b", &options).await, Err(HubError::Status { status: 500, .. })));
        for name in ["", "a/b/c", "../x", "a b", "a?b"] {
            assert!(matches!(download(name, &options).await, Err(HubError::Name(_))), "{name}");
        }
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let options = HubOptions { endpoint: format!("http://{closed}"), token: Some(HubToken::new("x\ny".into())), ..options };
        assert!(matches!(download("a/b", &options).await, Err(HubError::Token)));
        assert!(matches!(download("a/b", &HubOptions { token: None, ..options }).await, Err(HubError::Network { .. })));
        assert!(matches!(tokenizer("byte", None, &HubOptions::default()).await, Ok(Tokenizer::Byte)));
    }
}
