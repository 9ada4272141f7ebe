//! One error for every bucket operation: a kind to branch on, a sentence to read, and the chain of causes.
//!
//! What always holds: `NotFound` comes only from an answer of the store that says so; whatever may be cured by asking again is `Transient`.

use object_store::client::HttpError;
use std::error::Error as StdError;
use std::fmt;

/// What callers branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store answered that there is no such object or bucket: final.
    NotFound,
    /// The store refused: wrong or missing credentials, or somebody else's bucket.
    Denied,
    /// The object is larger than the caller accepts; nothing, or no more than `max` bytes, was read.
    TooLarge {
        /// Size the store announced, or the bytes seen when reading was stopped.
        size: u64,
        /// What the caller accepts.
        max: u64,
    },
    /// The time ran out.
    Deadline,
    /// Network failure, server trouble or a truncated answer: asking again may help.
    Transient,
    /// `put_if_absent` found an object there already.
    AlreadyExists,
    /// The request itself makes no sense: a bad key, URL or setting.
    Invalid,
    /// Anything else, for example a full disk.
    Other,
}

impl ErrorKind {
    /// Whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Transient | Self::Deadline)
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::NotFound => "check the name and the bucket; asking again does not help",
            Self::Denied => "check TEMPLAR_S3_ACCESS_KEY_ID and TEMPLAR_S3_SECRET_ACCESS_KEY, and that the bucket grants this access",
            Self::TooLarge { .. } => "nothing was kept; raise the limit only if the object is meant to be this large",
            Self::Deadline => "try again later, or allow more time if the link is slow",
            Self::Transient => "try again; if it persists, check the network and the endpoint",
            Self::AlreadyExists => "the object that is there was left untouched",
            Self::Invalid => "correct the name or the setting",
            Self::Other => "see the cause",
        }
    }
}

/// A failed bucket operation.
#[derive(Debug)]
pub struct StoreError {
    kind: ErrorKind,
    what: String,
    why: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl StoreError {
    /// What callers branch on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the store said that there is no such object.
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.kind.is_retryable()
    }

    pub(crate) fn new(kind: ErrorKind, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { kind, what: what.into(), why: why.into(), source: None }
    }

    pub(crate) fn from_store(what: impl Into<String>, source: object_store::Error) -> Self {
        let kind = classify(&source);
        let why = match kind {
            ErrorKind::NotFound => "there is no such object or bucket".to_owned(),
            ErrorKind::AlreadyExists => "an object of this name is there already".to_owned(),
            _ => innermost(&source),
        };
        Self { kind, what: what.into(), why, source: Some(Box::new(source)) }
    }

    pub(crate) fn from_io(what: impl Into<String>, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            _ => ErrorKind::Other,
        };
        Self { kind, what: what.into(), why: source.to_string(), source: Some(Box::new(source)) }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}; {}", self.what, self.why, self.kind.remedy())
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// The time that one operation was granted by its [`crate::RetryPolicy`] ran out.
#[derive(Debug, thiserror::Error)]
#[error("no complete answer within {limit_ms} ms")]
pub(crate) struct TimeRanOut {
    pub(crate) limit_ms: u128,
}

/// A failure that may pass: a server in trouble, a body that ended early, an injected fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Passing(pub(crate) String);

/// The server asks for fewer requests: it will answer again later, as any failure that may pass.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Throttled(pub(crate) String);

/// Whether the server has asked for fewer requests.
pub(crate) fn is_throttled(error: &object_store::Error) -> bool {
    links(error).any(|link| link.is::<Throttled>())
}

/// The chain of errors. An honest chain has some five links; the bound keeps a cyclic one from hanging us.
fn links<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |link: &&'a (dyn StdError + 'static)| (*link).source()).take(32)
}

/// A server's answer to a listing that is neither success nor passing trouble; object stores would forget its status.
#[derive(Debug, thiserror::Error)]
#[error("the server answered {status}: {message}")]
pub(crate) struct Refused {
    pub(crate) status: http::StatusCode,
    pub(crate) message: String,
}

impl Refused {
    fn kind(&self) -> ErrorKind {
        match self.status {
            http::StatusCode::UNAUTHORIZED | http::StatusCode::FORBIDDEN => ErrorKind::Denied,
            http::StatusCode::NOT_FOUND => ErrorKind::NotFound,
            _ => ErrorKind::Other,
        }
    }
}

/// Packs `source` as an error of an object store named `store`.
pub(crate) fn generic(store: &'static str, source: impl StdError + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic { store, source: Box::new(source) }
}

/// The kind of an error of any object store.
pub(crate) fn classify(error: &object_store::Error) -> ErrorKind {
    use object_store::Error;
    match error {
        Error::NotFound { .. } => ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => ErrorKind::Denied,
        Error::AlreadyExists { .. } => ErrorKind::AlreadyExists,
        Error::InvalidPath { .. } | Error::NotSupported { .. } | Error::NotImplemented { .. } | Error::UnknownConfigurationKey { .. } => {
            ErrorKind::Invalid
        }
        other => classify_chain(other),
    }
}

fn classify_chain(error: &(dyn StdError + 'static)) -> ErrorKind {
    for link in links(error) {
        if link.is::<TimeRanOut>() {
            return ErrorKind::Deadline;
        }
        if link.is::<Passing>() || link.is::<Throttled>() {
            return ErrorKind::Transient;
        }
        if let Some(http) = link.downcast_ref::<HttpError>() {
            // No complete answer arrived, unless our own client packed one in; answers with a status are not of this type otherwise.
            let refused = http.source().and_then(|source| source.downcast_ref::<Refused>());
            return refused.map_or(ErrorKind::Transient, Refused::kind);
        }
        if let Some(io) = link.downcast_ref::<std::io::Error>() {
            return classify_io(io.kind());
        }
    }
    ErrorKind::Other
}

fn classify_io(kind: std::io::ErrorKind) -> ErrorKind {
    use std::io::ErrorKind as Io;
    match kind {
        Io::PermissionDenied => ErrorKind::Denied,
        Io::Interrupted
        | Io::TimedOut
        | Io::ConnectionReset
        | Io::ConnectionAborted
        | Io::ConnectionRefused
        | Io::BrokenPipe
        | Io::UnexpectedEof => ErrorKind::Transient,
        _ => ErrorKind::Other,
    }
}

/// The last message of the chain, which is where libraries put the actual reason.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    links(error).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::client::HttpErrorKind;

    #[test]
    fn network_trouble_is_never_not_found() {
        for kind in
            [HttpErrorKind::Connect, HttpErrorKind::Request, HttpErrorKind::Timeout, HttpErrorKind::Interrupted, HttpErrorKind::Unknown]
        {
            let error = generic("S3", HttpError::new(kind, std::io::Error::from(std::io::ErrorKind::NotFound)));
            assert_eq!(classify(&error), ErrorKind::Transient);
        }
    }

    #[test]
    fn a_server_that_asks_for_fewer_requests_is_told_from_one_in_trouble() {
        let answered = |source: HttpError| generic("S3", source);
        let throttled = answered(HttpError::new(HttpErrorKind::Request, Throttled("the server answered 429".into())));
        let trouble = answered(HttpError::new(HttpErrorKind::Request, Passing("the server answered 500".into())));
        assert_eq!(
            [&throttled, &trouble].map(|error| (classify(error), is_throttled(error))),
            [(ErrorKind::Transient, true), (ErrorKind::Transient, false)]
        );
    }

    #[test]
    fn the_sentence_says_what_why_and_what_to_do() {
        let error = StoreError::from_store("get `a` from memory:", generic("S3", TimeRanOut { limit_ms: 5 }));
        assert_eq!(error.kind(), ErrorKind::Deadline);
        assert_eq!(
            error.to_string(),
            "cannot get `a` from memory:: no complete answer within 5 ms; try again later, or allow more time if the link is slow"
        );
        assert!(StdError::source(&error).is_some());
    }
}
