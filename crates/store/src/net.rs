//! The HTTP client below the buckets: one connection pool for all of them, and a guard against hostile servers.
//!
//! What always holds: redirects are not followed; the body of an answer that is not an object is read up to a bound and shown as a sentence, not
//! as the XML or HTML that it is, without control characters; server trouble (5xx, 408, 429) becomes a typed, retryable error; with [`Reach::Public`] no connection goes to an
//! address inside somebody's own network, whatever a name resolves to.

use crate::error::{ErrorKind, Passing, Refused, StoreError, Throttled};
use crate::url::is_public;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Method, StatusCode, header};
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::sync::Arc;
use std::time::Duration;

/// Most bytes read of an answer that reports an error.
const ERROR_BODY_MAX_BYTES: usize = 64 << 10;
/// Most bytes read of an answer that is a listing or a confirmation. A page of 1,000 keys of 1,024 bytes fits several times.
const REPLY_BODY_MAX_BYTES: usize = 16 << 20;
/// Characters of a server's message that are kept for people to read.
const MESSAGE_MAX_CHARS: usize = 600;
/// Attempts at one part of a multipart upload.
const PART_ATTEMPTS: u32 = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than servers keep an idle connection (ours: 30 s), or a request could meet the end of one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Which hosts may be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Every host: the operator's own buckets and local networks.
    Anywhere,
    /// Only the public internet: buckets that peers named.
    Public,
}

/// A pool of HTTP connections; clones share it.
#[derive(Debug, Clone)]
pub struct Http {
    /// Goes through the proxy that the environment names, if any.
    routed: reqwest::Client,
    /// Goes straight to hosts of the own network.
    direct: reqwest::Client,
    reach: Reach,
}

impl Http {
    /// A pool. The process must have installed a rustls crypto provider.
    ///
    /// # Errors
    /// [`ErrorKind::Other`] without a crypto provider or if the system's certificates cannot be read.
    pub fn new(reach: Reach) -> Result<Self, StoreError> {
        const WHAT: &str = "set up the HTTP client";
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(StoreError::new(ErrorKind::Other, WHAT, "the program has installed no TLS crypto provider"));
        }
        let build = |proxy: bool| {
            let mut builder = reqwest::Client::builder()
                .user_agent(concat!("templar/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .http1_only()
                .tcp_nodelay(true)
                .referer(false);
            if !proxy {
                builder = builder.no_proxy();
            }
            if reach == Reach::Public {
                builder = builder.dns_resolver(Arc::new(PublicOnly));
            }
            builder.build().map_err(|source| StoreError::new(ErrorKind::Other, WHAT, source.to_string()))
        };
        Ok(Self { routed: build(true)?, direct: build(false)?, reach })
    }

    /// Which hosts this pool connects to.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    pub(crate) fn connector(&self, private_host: bool) -> Connector {
        Connector(if private_host { self.direct.clone() } else { self.routed.clone() })
    }
}

/// Resolves names as the system does and keeps public addresses only.
#[derive(Debug)]
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.filter(|address| is_public(address.ip())).collect();
            if found.is_empty() {
                return Err("the name has no address on the public internet".into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Hands the pool to an object store.
#[derive(Debug)]
pub(crate) struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Guarded(self.0.clone())))
    }
}

/// What a successful answer's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// An object, which its reader bounds.
    Object,
    /// A page of names.
    Listing,
    /// A few lines that confirm.
    Receipt,
}

/// An HTTP service whose answers are bounded.
#[derive(Debug)]
struct Guarded<S>(S);

#[async_trait]
impl<S: HttpService> HttpService for Guarded<S> {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let query = request.uri().query().unwrap_or_default();
        let is_part = request.method() == Method::PUT && query.contains("partNumber=");
        let answer = match *request.method() {
            Method::HEAD => Answer::Object,
            Method::GET if query.contains("list-type=") => Answer::Listing,
            Method::GET => Answer::Object,
            _ => Answer::Receipt,
        };
        // An object store's interface gives a part its number when it is handed over, so a failed part can be repeated only here.
        let attempts = if is_part { PART_ATTEMPTS } else { 1 };
        let mut pause = Duration::from_millis(200);
        for _ in 1..attempts {
            match self.once(clone_of(&request), answer).await {
                Ok(response) => return Ok(response),
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
        self.once(request, answer).await
    }
}

impl<S: HttpService> Guarded<S> {
    async fn once(&self, request: HttpRequest, answer: Answer) -> Result<HttpResponse, HttpError> {
        let (parts, body) = self.0.call(request).await?.into_parts();
        check_headers(&parts.headers)?;
        if parts.status.is_success() && answer == Answer::Object {
            return Ok(HttpResponse::from_parts(parts, body));
        }
        if parts.status.is_success() {
            let bytes = bounded(body, REPLY_BODY_MAX_BYTES).await?.ok_or_else(|| refuse("the server's answer is far too long"))?;
            return Ok(HttpResponse::from_parts(parts, bytes.into()));
        }
        let message =
            bounded(body, ERROR_BODY_MAX_BYTES).await?.map_or_else(|| "(an overlong message)".to_owned(), |bytes| readable(&bytes));
        if is_passing(parts.status) {
            let why = format!("the server answered {}: {message}", parts.status);
            return Err(match parts.status {
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => HttpError::new(HttpErrorKind::Request, Throttled(why)),
                _ => HttpError::new(HttpErrorKind::Request, Passing(why)),
            });
        }
        if answer == Answer::Listing {
            return Err(HttpError::new(HttpErrorKind::Unknown, Refused { status: parts.status, message }));
        }
        Ok(HttpResponse::from_parts(parts, message.into_bytes().into()))
    }
}

fn clone_of(request: &HttpRequest) -> HttpRequest {
    let mut copy = http::Request::new(request.body().clone());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT
}

/// Refuses headers that the layers above would compute with unchecked: sizes near the end of 64 bits.
fn check_headers(headers: &HeaderMap) -> Result<(), HttpError> {
    for name in [header::CONTENT_RANGE, header::CONTENT_LENGTH] {
        for value in headers.get_all(&name) {
            let longest = value.as_bytes().split(|b| !b.is_ascii_digit()).map(<[u8]>::len).max().unwrap_or(0);
            if longest > 18 {
                return Err(refuse("the server states an absurd size"));
            }
        }
    }
    Ok(())
}

fn refuse(why: &str) -> HttpError {
    HttpError::new(HttpErrorKind::Decode, Passing(why.to_owned()))
}

/// The whole body, or `None` if it is longer than `max` bytes.
async fn bounded(body: HttpResponseBody, max: usize) -> Result<Option<Bytes>, HttpError> {
    let mut stream = body.bytes_stream();
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if chunk.len() > max - all.len() {
            return Ok(None);
        }
        all.extend_from_slice(&chunk);
    }
    Ok(Some(all.into()))
}

/// A server's message made fit for a terminal and a log: one line of printable characters, cut short.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = said(&text).unwrap_or_else(|| text.into_owned());
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_MAX_CHARS).collect();
    if text.chars().nth(MESSAGE_MAX_CHARS).is_some() {
        line.push('…');
    }
    line
}

/// What a page says: code and message of an error in S3's XML, the title of an HTML page, as a proxy sends it; none where it is neither.
fn said(page: &str) -> Option<String> {
    let element = |name: &str| {
        let (_, rest) = page.split_once(&format!("<{name}>"))?;
        let (inside, _) = rest.split_once(&format!("</{name}>"))?;
        // What is no escape is shown as it came.
        let inside = quick_xml::escape::unescape(inside).map_or_else(|_| inside.to_owned(), |plain| plain.into_owned());
        Some(inside.trim().trim_end_matches('.').to_owned()).filter(|inside| !inside.is_empty())
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => Some(format!("{code}: {message}")),
        (Some(said), None) | (None, Some(said)) => Some(said),
        (None, None) => element("title").map(|title| format!("a page with the title {title:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Answers with a fixed status and body after failing a number of times.
    #[derive(Debug)]
    struct Canned {
        failures: u32,
        calls: AtomicU32,
        status: StatusCode,
        range: &'static str,
        body: Vec<u8>,
    }

    impl Canned {
        fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
            let status = StatusCode::from_u16(status).unwrap();
            Self { failures: 0, calls: AtomicU32::new(0), status, range: "bytes 0-1/2", body: body.into() }
        }
    }

    #[async_trait]
    impl HttpService for Canned {
        async fn call(&self, _request: HttpRequest) -> Result<HttpResponse, HttpError> {
            let failed = self.calls.fetch_add(1, Ordering::SeqCst) < self.failures;
            let status = if failed { StatusCode::SERVICE_UNAVAILABLE } else { self.status };
            let builder = http::Response::builder().status(status).header(header::CONTENT_RANGE, self.range);
            Ok(builder.body(self.body.clone().into()).unwrap())
        }
    }

    fn request(method: Method, uri: &str) -> HttpRequest {
        let mut request = http::Request::new(Bytes::new().into());
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().unwrap();
        request
    }

    async fn body_of(response: HttpResponse) -> Bytes {
        response.into_body().bytes().await.unwrap()
    }

    #[tokio::test]
    async fn error_messages_are_cut_and_cleaned() {
        let guarded = Guarded(Canned::new(403, format!("\u{1b}[2J{}", "x".repeat(5000))));
        let body = body_of(guarded.call(request(Method::GET, "http://host/bucket/key")).await.unwrap()).await;
        assert!(!body.contains(&0x1b) && body.len() < 700);

        let endless = Guarded(Canned::new(404, vec![b'x'; ERROR_BODY_MAX_BYTES + 1]));
        let body = body_of(endless.call(request(Method::GET, "http://host/bucket/key")).await.unwrap()).await;
        assert_eq!(&body[..], b"(an overlong message)");
    }

    #[tokio::test]
    async fn of_a_page_only_what_it_says_is_kept() {
        let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code><Message>There isn&apos;t such a key.</Message><Resource>/b/k</Resource></Error>";
        let html = "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>a proxy</body></html>";
        let cut = [
            (xml, "NoSuchKey: There isn't such a key"),
            ("<Error><Code>AccessDenied</Code></Error>", "AccessDenied"),
            ("<Error><Message>a &such; message</Message></Error>", "a &such; message"),
            (html, "a page with the title \"502 Bad Gateway\""),
            ("<Code>without an end", "<Code>without an end"),
            ("plain words", "plain words"),
        ];
        for (page, said) in cut {
            let response = Guarded(Canned::new(404, page)).call(request(Method::GET, "http://host/bucket/key")).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&body_of(response).await), said, "{page}");
        }
    }

    #[tokio::test]
    async fn a_listing_is_bounded_and_an_object_is_left_to_its_reader() {
        let guarded = Guarded(Canned::new(200, vec![b'x'; REPLY_BODY_MAX_BYTES + 1]));
        assert!(guarded.call(request(Method::GET, "http://host/bucket?list-type=2")).await.is_err());
        let denied = Guarded(Canned::new(403, "")).call(request(Method::GET, "http://host/bucket?list-type=2")).await.unwrap_err();
        assert_eq!(crate::error::classify(&crate::error::generic("S3", denied)), ErrorKind::Denied);
        let object = guarded.call(request(Method::GET, "http://host/bucket/key")).await.unwrap();
        assert_eq!(body_of(object).await.len(), REPLY_BODY_MAX_BYTES + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_is_repeated_and_nothing_else() {
        let guarded = Guarded(Canned { failures: PART_ATTEMPTS - 1, ..Canned::new(200, "") });
        assert!(guarded.call(request(Method::PUT, "http://host/bucket/key?partNumber=1&uploadId=x")).await.is_ok());
        let guarded = Guarded(Canned { failures: 1, ..Canned::new(200, "") });
        let error = guarded.call(request(Method::PUT, "http://host/bucket/key")).await.unwrap_err();
        assert!(error.to_string().contains("503"), "{error}");
    }

    #[tokio::test]
    async fn absurd_sizes_are_refused() {
        let guarded = Guarded(Canned { range: "bytes 0-18446744073709551615/5", ..Canned::new(206, "") });
        assert!(guarded.call(request(Method::GET, "http://host/bucket/key")).await.is_err());
    }
}
