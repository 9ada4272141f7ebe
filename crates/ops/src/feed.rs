//! A feed of releases: JSON or Atom, from wherever its operator puts it. Pure: the bytes are passed in.
//!
//! What always holds: at most [`FEED_BYTES_MAX`] are looked at and [`RELEASES_MAX`] releases kept; nothing in a feed is ever run or fetched, it is only
//! told; text from it has no control characters.

use quick_xml::events::Event;
use quick_xml::{Reader, XmlVersion};
use semver::Version;
use serde::Serialize;
use serde_json::Value;

/// The largest feed that is read, bytes.
pub const FEED_BYTES_MAX: u64 = 1 << 20;
/// Most releases that are kept of a feed.
pub const RELEASES_MAX: usize = 1000;
/// Longest text that is kept of a release, characters.
const TEXT_CHARS_MAX: usize = 300;

/// A release that a feed announces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Release {
    /// Its version.
    #[serde(serialize_with = "as_text")]
    pub version: Version,
    /// Where to read about it, if the feed says so.
    pub url: Option<String>,
}

fn as_text<S: serde::Serializer>(version: &Version, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(version)
}

/// Why a feed says nothing.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// It is too large.
    #[error("the release feed has more than {FEED_BYTES_MAX} bytes")]
    TooLarge,
    /// It is neither JSON nor Atom.
    #[error("the release feed is neither JSON nor Atom: {0}")]
    Form(String),
    /// It names no version.
    #[error("the release feed names no version such as 0.2.0")]
    Empty,
}

/// The releases of a feed, the newest first.
///
/// JSON: an object with `version` (or `tag_name`) and perhaps `url` (or `html_url`), a list of such objects, or an object whose `releases` (or `items`)
/// is such a list. Atom: the version is the first in an entry's title, the address that of its first link.
///
/// # Errors
/// It is too large, is neither, or names no version.
pub fn parse(bytes: &[u8]) -> Result<Vec<Release>, FeedError> {
    if bytes.len() as u64 > FEED_BYTES_MAX {
        return Err(FeedError::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| FeedError::Form(error.to_string()))?.trim_start_matches('\u{feff}').trim();
    let mut releases = if text.starts_with('<') { atom(text)? } else { json(text)? };
    releases.truncate(RELEASES_MAX);
    releases.sort_by(|a, b| b.version.cmp(&a.version));
    if releases.is_empty() { Err(FeedError::Empty) } else { Ok(releases) }
}

/// The newest release that is newer than `own`. Pre-releases count only for those who run one.
pub fn newer<'a>(releases: &'a [Release], own: &Version) -> Option<&'a Release> {
    releases.iter().find(|release| release.version > *own && (release.version.pre.is_empty() || !own.pre.is_empty()))
}

fn json(text: &str) -> Result<Vec<Release>, FeedError> {
    let value: Value = serde_json::from_str(text).map_err(|error| FeedError::Form(error.to_string()))?;
    let list = match &value {
        Value::Array(list) => list.as_slice(),
        Value::Object(object) => match object.get("releases").or_else(|| object.get("items")) {
            Some(Value::Array(list)) => list.as_slice(),
            _ => std::slice::from_ref(&value),
        },
        _ => return Err(FeedError::Form("it is neither an object nor a list".into())),
    };
    let text = |entry: &Value, keys: [&str; 3]| keys.iter().find_map(|key| entry.get(key)?.as_str().map(shown));
    let release = |entry: &Value| {
        let version = version_in(&text(entry, ["version", "tag_name", "title"])?)?;
        Some(Release { version, url: text(entry, ["url", "html_url", "link"]) })
    };
    Ok(list.iter().take(RELEASES_MAX).filter_map(release).collect())
}

fn atom(text: &str) -> Result<Vec<Release>, FeedError> {
    let form = |error: &dyn std::fmt::Display| FeedError::Form(error.to_string());
    let mut reader = Reader::from_str(text);
    let (mut releases, mut path, mut title, mut url) = (Vec::new(), Vec::<String>::new(), String::new(), None);
    loop {
        let event = reader.read_event().map_err(|error| form(&error))?;
        match &event {
            Event::Start(tag) | Event::Empty(tag) => {
                let name = String::from_utf8_lossy(tag.local_name().as_ref()).into_owned();
                if name == "entry" {
                    (title, url) = (String::new(), None);
                }
                if name == "link" && path.last().is_some_and(|above| above == "entry") && url.is_none() {
                    let href = tag.try_get_attribute("href").map_err(|error| form(&error))?;
                    url = href.and_then(|href| href.normalized_value(XmlVersion::Explicit1_0).ok().map(|href| shown(&href)));
                }
                if matches!(event, Event::Start(_)) {
                    path.push(name);
                }
            }
            Event::Text(words) if path.ends_with(&["entry".to_owned(), "title".to_owned()]) => {
                title.push_str(&words.decode().map_err(|error| form(&error))?);
            }
            Event::End(_) => {
                let ended = path.pop();
                if ended.is_some_and(|name| name == "entry")
                    && let Some(version) = version_in(&title)
                {
                    releases.push(Release { version, url: url.take() });
                }
            }
            Event::Eof => return Ok(releases),
            _ => {}
        }
        if releases.len() >= RELEASES_MAX || path.len() > 64 {
            return Ok(releases);
        }
    }
}

/// The first version among the words of `text`, with or without a `v` before it.
fn version_in(text: &str) -> Option<Version> {
    let words = text.split(|c: char| c.is_whitespace() || "(),;/".contains(c));
    words.filter_map(|word| Version::parse(word.trim_start_matches('v').trim_end_matches([':', '.'])).ok()).next()
}

/// Text from outside, as it may be printed.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn versions(text: &str) -> Vec<String> {
        parse(text.as_bytes()).unwrap().iter().map(|release| release.version.to_string()).collect()
    }

    #[test]
    fn json_in_its_forms() {
        assert_eq!(versions(r#"{"version": "0.2.0", "url": "https://releases.example/0.2.0"}"#), ["0.2.0"]);
        assert_eq!(versions(r#"[{"tag_name": "v0.1.9"}, {"tag_name": "v0.3.0-rc.1"}, {"tag_name": "nightly"}]"#), ["0.3.0-rc.1", "0.1.9"]);
        assert_eq!(versions(r#"{"releases": [{"version": "1.0.0"}]}"#), ["1.0.0"]);
        assert!(matches!(parse(b"{}"), Err(FeedError::Empty)));
        assert!(matches!(parse(b"7"), Err(FeedError::Form(_))));
    }

    #[test]
    fn atom_with_links() {
        let feed = r#"<?xml version="1.0" encoding="utf-8"?>
            <feed xmlns="http://www.w3.org/2005/Atom"><title>Releases 9.9.9</title><link href="https://releases.example/"/>
            <entry><title>templar v0.2.1: faster</title><link rel="alternate" href="https://releases.example/0.2.1"/></entry>
            <entry><title>notes</title></entry>
            <entry><title>0.4.0</title></entry></feed>"#;
        let releases = parse(feed.as_bytes()).unwrap();
        assert_eq!(versions(feed), ["0.4.0", "0.2.1"], "the feed's own title is no release");
        assert_eq!(releases[1].url.as_deref(), Some("https://releases.example/0.2.1"));
    }

    #[test]
    fn only_what_is_newer_is_told() {
        let releases = parse(br#"[{"version": "0.3.0-rc.1"}, {"version": "0.2.0"}, {"version": "0.1.0"}]"#).unwrap();
        let newer = |own: &str| newer(&releases, &own.parse().unwrap()).map(|release| release.version.to_string());
        assert_eq!(newer("0.1.0").as_deref(), Some("0.2.0"), "a pre-release is not pushed on anybody");
        assert_eq!(newer("0.2.1-dev").as_deref(), Some("0.3.0-rc.1"));
        assert_eq!(newer("0.3.0"), None);
    }

    proptest! {
        #[test]
        fn no_feed_breaks_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "<[a-z<>/=\" &;!-]{0,80}") {
            let _ = (parse(&bytes), parse(text.as_bytes()));
        }
    }
}
