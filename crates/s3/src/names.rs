//! From keys to paths and back.
//!
//! A key's segments become directories and a file. Bytes other than letters, digits, `-`, `_` and inner dots are written `%XX`, so that
//! no name is hidden, special or longer than expected; a directory's name ends in a bare `%`, which no file's does, so that the keys `a`
//! and `a/b` live side by side. What always holds: `key_of(path_of(key)) == key`, and a path stays inside its bucket.

use s3s::{S3Error, S3Result, s3_error};
use std::path::PathBuf;

/// Longest key in bytes.
pub const KEY_MAX_BYTES: usize = 512;
/// File systems allow 255 bytes a name.
const NAME_MAX_BYTES: usize = 240;

/// The path of `key`, relative to its bucket's directory.
pub(crate) fn path_of(key: &str) -> S3Result<PathBuf> {
    if key.is_empty() || key.len() > KEY_MAX_BYTES {
        return Err(s3_error!(KeyTooLongError, "a key has 1 to 512 bytes here"));
    }
    let mut path = PathBuf::new();
    let mut segments = key.split('/').peekable();
    while let Some(segment) = segments.next() {
        let mut name = encode(segment)?;
        if segments.peek().is_some() {
            name.push('%');
        }
        path.push(name);
    }
    Ok(path)
}

fn encode(segment: &str) -> S3Result<String> {
    if segment.is_empty() || segment == "." || segment == ".." {
        return Err(invalid("a key may not contain empty segments, . or .."));
    }
    if segment.chars().any(char::is_control) {
        return Err(invalid("a key may not contain control characters"));
    }
    let mut name = String::with_capacity(segment.len());
    for (at, byte) in segment.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || (byte == b'.' && at > 0) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    if name.len() > NAME_MAX_BYTES {
        return Err(s3_error!(KeyTooLongError, "a segment of a key is too long for a file's name"));
    }
    Ok(name)
}

/// The segment that a file's or directory's name stands for, and whether it is a directory's; `None` for a foreign name.
pub(crate) fn segment_of(name: &str) -> Option<(String, bool)> {
    let (name, is_directory) = name.strip_suffix('%').map_or((name, false), |name| (name, true));
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    let segment = String::from_utf8(bytes).ok()?;
    // Only names that we would have written: anything else in the directory is not an object.
    (encode(&segment).ok()? == name).then_some((segment, is_directory))
}

fn invalid(why: &'static str) -> S3Error {
    s3_error!(InvalidArgument, "{}", why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Component;

    fn back(path: &std::path::Path) -> String {
        let names: Vec<_> = path.iter().map(|name| segment_of(name.to_str().unwrap()).unwrap()).collect();
        let last = names.len() - 1;
        assert!(names.iter().enumerate().all(|(at, (_, is_directory))| *is_directory == (at != last)));
        names.into_iter().map(|(segment, _)| segment).collect::<Vec<_>>().join("/")
    }

    #[test]
    fn keys_round_trip_and_stay_inside() {
        for key in ["a", "gradient-7-1.pt", "a/b/c.json", ".hidden", "...", "a b+c%2e%2e/ü", "%", "a%/b", "C:\\x", "~"] {
            let path = path_of(key).unwrap();
            assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{key}");
            assert_eq!(back(&path), key);
        }
        assert_ne!(path_of("a%").unwrap(), path_of("a/b").unwrap().parent().unwrap());
    }

    #[test]
    fn hostile_keys_are_refused() {
        let long = "k".repeat(KEY_MAX_BYTES + 1);
        let long_segment = "ü".repeat(200);
        for key in ["", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\0b", "a\nb", &long, &long_segment] {
            assert!(path_of(key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn foreign_files_are_no_objects() {
        for name in [".tmp", "a b", "%2", "%zz", "%61", "%", "%2e%2e", ""] {
            assert_eq!(segment_of(name), None, "{name}");
        }
    }
}
