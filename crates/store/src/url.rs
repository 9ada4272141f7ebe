//! Where a bucket is: `http://host:port/bucket`, `https://host/bucket`, `file:///dir` or `memory:`.
//!
//! Parsed by an allow-list of characters rather than by a general URL parser, so that no two programs can read one string differently:
//! a peer's URL comes from the chain and is as hostile as anything. What always holds: an HTTP URL has a scheme, a host, an optional
//! port and one path segment that is a legal bucket name; it has no user, query, fragment, percent sign or second segment.
//! `Display` writes what `parse` reads.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// Longest URL of a peer, in characters: with the tag `t1 ` it fills a chain commitment of 128 bytes.
pub const PEER_URL_MAX_CHARS: usize = 125;

/// Longest URL of the operator's own, in characters.
const OWN_URL_MAX_CHARS: usize = 1024;

/// The place of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketUrl(Place);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Http { tls: bool, host: String, port: Option<u16>, bucket: String },
    Directory(PathBuf),
    Memory,
}

/// Why a string is no bucket URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not a bucket's URL: {why}; write {expected}")]
pub struct UrlError {
    shown: String,
    why: String,
    expected: &'static str,
}

impl BucketUrl {
    /// Parses an operator's own URL: any of the four forms, up to 1024 characters.
    ///
    /// # Errors
    /// What is wrong with it, and the forms that are right.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        Self::parse_any(text).map_err(|why| UrlError {
            shown: shown(text),
            why,
            expected: "http://host:port/bucket, https://host/bucket, file:///directory or memory:",
        })
    }

    /// Parses a URL that a peer published: http or https only, at most [`PEER_URL_MAX_CHARS`] characters.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_peer(text: &str) -> Result<Self, UrlError> {
        let parsed = if text.len() > PEER_URL_MAX_CHARS {
            Err(format!("it is longer than {PEER_URL_MAX_CHARS} characters"))
        } else {
            parse_http(text)
        };
        parsed.map(Self).map_err(|why| UrlError { shown: shown(text), why, expected: "http://host:port/bucket or https://host/bucket" })
    }

    fn parse_any(text: &str) -> Result<Self, String> {
        if text.len() > OWN_URL_MAX_CHARS {
            return Err(format!("it is longer than {OWN_URL_MAX_CHARS} characters"));
        }
        if text == "memory:" {
            return Ok(Self(Place::Memory));
        }
        let Some(path) = text.strip_prefix("file://") else { return parse_http(text).map(Self) };
        if !path.starts_with('/') {
            return Err("a file URL needs an absolute path".into());
        }
        if path.contains(['%', '?', '#']) || path.chars().any(char::is_control) {
            return Err("a file URL is taken literally and may not contain %, ?, # or control characters".into());
        }
        Ok(Self(Place::Directory(PathBuf::from(path))))
    }

    /// The bucket `bucket` at `http://address`, for a server on this machine.
    ///
    /// # Errors
    /// If `bucket` is not a legal name.
    pub fn local(address: std::net::SocketAddr, bucket: &str) -> Result<Self, UrlError> {
        Self::parse(&format!("http://{address}/{bucket}"))
    }

    /// A bucket in memory.
    pub fn memory() -> Self {
        Self(Place::Memory)
    }

    /// A directory as a bucket.
    pub fn directory(path: &Path) -> Self {
        Self(Place::Directory(path.to_owned()))
    }

    /// Whether others can reach it over HTTP, hence whether it may go to the chain.
    pub fn is_http(&self) -> bool {
        matches!(self.0, Place::Http { .. })
    }

    /// `http://host:port`, without the bucket; `None` unless over HTTP.
    pub fn endpoint(&self) -> Option<String> {
        match &self.0 {
            Place::Http { tls, host, port, .. } => {
                let scheme = if *tls { "https" } else { "http" };
                Some(port.map_or_else(|| format!("{scheme}://{host}"), |port| format!("{scheme}://{host}:{port}")))
            }
            Place::Directory(_) | Place::Memory => None,
        }
    }

    /// The bucket's name; `None` unless over HTTP.
    pub fn bucket(&self) -> Option<&str> {
        match &self.0 {
            Place::Http { bucket, .. } => Some(bucket),
            Place::Directory(_) | Place::Memory => None,
        }
    }

    /// Whether the host is an address or name inside somebody's own network; only such literals are seen here, names are checked when
    /// they are resolved (see [`crate::Reach`]).
    pub fn is_private_host(&self) -> bool {
        let Place::Http { host, .. } = &self.0 else { return false };
        match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => !is_public(address),
            Err(_) => host == "localhost" || host.ends_with(".localhost") || host.ends_with(".local") || host.ends_with(".internal"),
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.0
    }
}

impl std::str::FromStr for BucketUrl {
    type Err = UrlError;

    /// Same as [`BucketUrl::parse`]: for an operator's own URL.
    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(text)
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Http { bucket, .. } => write!(f, "{}/{bucket}", self.endpoint().unwrap_or_default()),
            Place::Directory(path) => write!(f, "file://{}", path.display()),
            Place::Memory => f.write_str("memory:"),
        }
    }
}

impl serde::Serialize for BucketUrl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for BucketUrl {
    /// Reads an operator's own URL (configuration files); a peer's goes through [`BucketUrl::parse_peer`].
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

fn parse_http(text: &str) -> Result<Place, String> {
    let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err("its scheme is not one of those allowed here".into()),
    };
    if let Some(bad) = rest.chars().find(|c| !(c.is_ascii_alphanumeric() || "-._:/[]".contains(*c))) {
        return Err(format!("it contains {bad:?}"));
    }
    let (authority, bucket) = rest.split_once('/').ok_or("the bucket's name is missing")?;
    let bucket = bucket.strip_suffix('/').unwrap_or(bucket);
    check_bucket_name(bucket)?;
    let (host, port) = split_port(authority)?;
    check_host(host)?;
    Ok(Place::Http { tls, host: host.to_ascii_lowercase(), port, bucket: bucket.to_owned() })
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    // The colons of an IPv6 address are inside brackets.
    let after_host = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority[after_host..].find(':').map(|at| at + after_host) else { return Ok((authority, None)) };
    let digits = &authority[colon + 1..];
    let port = digits.parse::<u16>().ok().filter(|port| *port > 0 && digits.bytes().all(|b| b.is_ascii_digit()));
    match port {
        Some(port) => Ok((&authority[..colon], Some(port))),
        None => Err("its port is not a number from 1 to 65535".into()),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or("a bracket is not closed")?;
        return inner.parse::<Ipv6Addr>().map(drop).map_err(|_| "the host in brackets is not an IPv6 address".into());
    }
    let label_ok =
        |label: &str| !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if host.len() > 253 || !host.split('.').all(label_ok) {
        return Err("its host is not a DNS name or an address".into());
    }
    // `http://2130706433` and `http://0x7f.1` are loopback to some resolvers: a name whose last label starts with a digit must be a plain address.
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.starts_with(|c: char| c.is_ascii_digit()) && host.parse::<Ipv4Addr>().is_err() {
        return Err("its host looks like an address but is not one of four decimal numbers".into());
    }
    Ok(())
}

fn check_bucket_name(name: &str) -> Result<(), String> {
    let inner_ok = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
    let ends_ok = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if (3..=63).contains(&name.len()) && inner_ok && ends_ok(name.bytes().next()) && ends_ok(name.bytes().last()) && !name.contains("..") {
        return Ok(());
    }
    Err("the bucket's name must be 3 to 63 of a-z, 0-9, - and ., with a letter or digit at both ends".into())
}

/// Whether `address` is on the public internet: not loopback, private, link-local, shared, documentation, multicast or reserved.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => {
            let words = v6.segments();
            if let Some(v4) = v6.to_ipv4_mapped() {
                return is_public_v4(v4);
            }
            // Global unicast only (2000::/3), less documentation, Teredo and 6to4, which can embed private IPv4 addresses.
            (words[0] & 0xe000) == 0x2000 && !(words[0] == 0x2001 && (words[1] == 0x0db8 || words[1] == 0)) && words[0] != 0x2002
        }
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    !(a == 0
        || v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local()
        || v4.is_documentation()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
        || a >= 224)
}

/// A hostile string made fit for a message: cut short, control characters escaped.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(80).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("{}{dots}", cut.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_four_forms_round_trip() {
        for text in [
            "http://127.0.0.1:9000/miner-1",
            "https://0123abcd.r2.cloudflarestorage.com/my.bucket",
            "http://[::1]:9000/miner-1",
            "file:///var/lib/bucket dir",
            "memory:",
        ] {
            let url = BucketUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), text);
            assert_eq!(BucketUrl::parse(&url.to_string()).unwrap(), url);
        }
        let url = BucketUrl::parse("https://HOST.example/bucket/").unwrap();
        assert_eq!((url.to_string().as_str(), url.bucket()), ("https://host.example/bucket", Some("bucket")));
    }

    #[test]
    fn a_peer_cannot_point_elsewhere() {
        let long = format!("http://{}/bucket", "a.".repeat(80));
        for text in [
            "file:///etc/passwd",
            "memory:",
            "ftp://host/bucket",
            "http://user@host/bucket",
            "http://user:pw@host/bucket",
            "http://host/bucket?x=1",
            "http://host/bucket#x",
            "http://host/bucket/deeper",
            "http://host/../bucket",
            "http://host/%2e%2e",
            "http://host",
            "http://host/",
            "http://host/B",
            "http://host:0/bucket",
            "http://host:70000/bucket",
            "http://host:+80/bucket",
            "http:///bucket",
            "http://2130706433/bucket",
            "http://127.1/bucket",
            "http://[::1/bucket",
            "http://ho st/bucket",
            "http://host\n/bucket",
            "HTTP://host/bucket",
            long.as_str(),
        ] {
            assert!(BucketUrl::parse_peer(text).is_err(), "{text}");
        }
        assert!(BucketUrl::parse_peer("https://host.example/bucket").is_ok());
    }

    #[test]
    fn hosts_inside_a_network_are_recognised() {
        for (host, private) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("169.254.169.254", true),
            ("100.64.0.1", true),
            ("[::1]", true),
            ("[fd00::1]", true),
            ("[::ffff:127.0.0.1]", true),
            ("[2002:7f00:1::]", true),
            ("localhost", true),
            ("metadata.google.internal", true),
            ("8.8.8.8", false),
            ("[2606:4700::1111]", false),
            ("host.example", false),
        ] {
            assert_eq!(BucketUrl::parse_peer(&format!("http://{host}/bucket")).unwrap().is_private_host(), private, "{host}");
        }
    }

    #[test]
    fn a_refusal_shows_no_control_characters() {
        let error = BucketUrl::parse_peer("http://\u{1b}[2Jhost/bucket").unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error}");
    }

    proptest! {
        #[test]
        fn any_string_is_parsed_or_refused_and_what_is_parsed_round_trips(text in ".{0,160}") {
            if let Ok(url) = BucketUrl::parse(&text) {
                prop_assert_eq!(BucketUrl::parse(&url.to_string()).unwrap(), url);
            }
            prop_assert!(BucketUrl::parse_peer(&text).is_err() || text.len() <= PEER_URL_MAX_CHARS);
        }
    }
}
