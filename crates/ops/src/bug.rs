//! What a report of a defect consists of: versions, settings, the doctor's result and the end of the journal, in one archive, without a secret.
//!
//! Secrets are kept out three times. By kind: settings come from the typed list, of secrets only whether they are set; key files are not read; of the
//! journal, only lines that are entries. By value: what the environment and `.env` hold under the name of a secret is replaced wherever it stands. By form:
//! what stands before an `@` in a URL, and signatures in its query. What always holds: the archive is bounded, and only its owner may read it.

use crate::probe::journal_tail;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write as _};
use std::path::Path;
use templar_store::Secret;

/// The part of a journal that is packed, from its end, bytes.
const JOURNAL_BYTES_MAX: usize = 1 << 20;
/// Shorter values are left where they are: they would be found everywhere.
const SECRET_CHARS_MIN: usize = 6;
/// Words in the name of a variable whose value is a secret.
const SECRET_WORDS: [&str; 10] =
    ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "_PW", "ACCESS_KEY", "API_KEY", "PRIVATE", "MNEMONIC", "CREDENTIAL"];
/// Names in a URL's query whose values give access.
const QUERY_SECRETS: [&str; 5] = ["X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "Signature", "token"];
/// The seconds since 1970 of every file in an archive: the same contents give the same bytes.
const MTIME_S: u64 = 0;

/// A file of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// What it holds, for people.
    pub what: &'static str,
    /// Its contents.
    pub text: String,
}

/// Whether a variable of this name holds a secret.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_WORDS.iter().any(|word| name.contains(word)) || name.starts_with("BT_PW")
}

/// Replaces secrets in texts.
#[derive(Debug)]
pub struct Scrubber {
    secrets: Vec<(String, Secret<String>)>,
}

impl Scrubber {
    /// Knows the values of those of `variables` whose names are those of secrets.
    pub fn new(variables: impl IntoIterator<Item = (String, Secret<String>)>) -> Self {
        let mut secrets: Vec<(String, Secret<String>)> = variables
            .into_iter()
            .filter(|(name, value)| is_secret_name(name) && value.expose().trim().chars().count() >= SECRET_CHARS_MIN)
            .map(|(name, value)| (name, Secret::new(value.expose().trim().to_owned())))
            .collect();
        // A secret that is part of another must not leave the rest of that one behind.
        secrets.sort_by_key(|(_, value)| std::cmp::Reverse(value.expose().len()));
        Self { secrets }
    }

    /// `text` without secrets.
    pub fn clean(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for (name, value) in &self.secrets {
            // Texts in JSON have their quotes and backslashes escaped.
            let escaped = serde_json::Value::from(value.expose().as_str()).to_string();
            for form in [value.expose().as_str(), escaped.trim_matches('"')] {
                if clean.contains(form) {
                    clean = clean.replace(form, &format!("[{name} removed]"));
                }
            }
        }
        without_query_secrets(&without_userinfo(&clean))
    }
}

/// The text without what stands between `://` and `@` in a URL.
fn without_userinfo(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "/?#\"'<>".contains(c)).unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(info) => {
                out.push_str("[removed]");
                &after[info..]
            }
            None => after,
        };
    }
    out + rest
}

fn without_query_secrets(text: &str) -> String {
    let mut clean = text.to_owned();
    for name in QUERY_SECRETS {
        for mark in ['?', '&'] {
            let (mut out, mut rest, key) = (String::with_capacity(clean.len()), clean.as_str(), format!("{mark}{name}="));
            while let Some(at) = rest.find(&key) {
                let (before, after) = rest.split_at(at + key.len());
                out.push_str(before);
                out.push_str("[removed]");
                rest = &after[after.find(|c: char| c.is_whitespace() || "&#\"'<>".contains(c)).unwrap_or(after.len())..];
            }
            out.push_str(rest);
            clean = out;
        }
    }
    clean
}

/// The end of the journal in `dir`: its entries alone, written anew, so that a line which is none does not come along.
///
/// # Errors
/// There is no journal, or it cannot be read.
pub fn journal(dir: &Path) -> Result<String, String> {
    let tail = journal_tail(dir).map_err(|missing| missing.why)?;
    let mut lines: Vec<String> = Vec::new();
    let mut bytes = 0;
    for line in tail.lines.iter().rev() {
        let text = serde_json::to_string(line).map_err(|error| error.to_string())?;
        bytes += text.len() + 1;
        if bytes > JOURNAL_BYTES_MAX {
            break;
        }
        lines.push(text);
    }
    lines.reverse();
    Ok(lines.iter().map(|line| line.clone() + "\n").collect())
}

/// The parts as a compressed archive, below a folder of their own.
///
/// # Errors
/// Memory cannot be written to, which does not happen.
pub fn pack(parts: &[Part]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for part in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(part.text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(MTIME_S);
        header.set_cksum();
        archive.append_data(&mut header, format!("templar-report/{}", part.name), part.text.as_bytes())?;
    }
    let mut compressed = archive.into_inner()?;
    compressed.flush()?;
    compressed.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read as _;

    fn scrubber(pairs: &[(&str, &str)]) -> Scrubber {
        Scrubber::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), Secret::new((*value).to_owned()))))
    }

    #[test]
    fn secrets_go_by_name_and_by_form() {
        let scrubber = scrubber(&[
            ("TEMPLAR_S3_SECRET_ACCESS_KEY", "0123456789abcdef"),
            ("HF_TOKEN", "hf_012345"),
            ("WANDB_API_KEY", "with\"quote\\and-more"),
            ("TEMPLAR_CHAIN", "ws://chain.example"),
            ("SHORT_TOKEN", "ab"),
        ]);
        let clean = scrubber.clean(
            "key 0123456789abcdef, token=hf_012345; {\"x\":\"with\\\"quote\\\\and-more\"} ws://chain.example ab \
             https://me:pass-word@host.example/x?X-Amz-Signature=5ec3e7&y=1 http://host.example/a@b",
        );
        for gone in ["0123456789abcdef", "hf_012345", "and-more", "pass-word", "5ec3e7"] {
            assert!(!clean.contains(gone), "{gone} is left in {clean}");
        }
        for kept in ["ws://chain.example", " ab ", "host.example/x", "&y=1", "http://host.example/a@b", "[HF_TOKEN removed]"] {
            assert!(clean.contains(kept), "{kept} is gone from {clean}");
        }
    }

    #[test]
    fn a_secret_within_another_leaves_nothing_behind() {
        let scrubber = scrubber(&[("A_TOKEN", "secret-of"), ("B_TOKEN", "secret-of-two")]);
        assert_eq!(scrubber.clean("x secret-of-two secret-of"), "x [B_TOKEN removed] [A_TOKEN removed]");
    }

    #[test]
    fn the_archive_holds_what_was_packed_and_nothing_depends_on_the_time() {
        let parts = [
            Part { name: "versions.json", what: "versions", text: "{}".into() },
            Part { name: "journal.jsonl", what: "journal", text: "a\nb\n".repeat(1000) },
        ];
        let packed = pack(&parts).unwrap();
        assert_eq!(packed, pack(&parts).unwrap());
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed.as_slice()));
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((entry.path().unwrap().display().to_string(), text));
        }
        assert_eq!(found[0], ("templar-report/versions.json".to_owned(), "{}".to_owned()));
        assert_eq!(found[1].1, parts[1].text);
    }

    #[test]
    fn only_entries_of_the_journal_come_along() {
        use templar_node::journal::{Entry, JOURNAL_FILE, Journal};
        let dir = tempfile::tempdir().unwrap();
        assert!(journal(dir.path()).is_err());
        Journal::open(dir.path()).unwrap().write(1, Entry::Warning { kind: String::new(), text: "one".into() });
        let mut file = std::fs::File::options().append(true).open(dir.path().join(JOURNAL_FILE)).unwrap();
        file.write_all(b"{\"note\":\"a stray line\"}\n").unwrap();
        let text = journal(dir.path()).unwrap();
        assert!(text.contains("\"one\"") && !text.contains("stray"), "{text}");
    }

    proptest! {
        #[test]
        fn no_secret_survives_in_any_surroundings(secret in "[!-~]{8,40}", before in "[ -~]{0,30}", after in "[ -~]{0,30}") {
            let scrubber = scrubber(&[("X_SECRET", &secret)]);
            let text = serde_json::json!({ "warning": format!("{before} {secret} {after}") }).to_string();
            let clean = scrubber.clean(&text);
            prop_assume!(!"[X_SECRET removed]".contains(&secret));
            prop_assert!(!clean.contains(&secret), "{clean}");
        }
    }
}
