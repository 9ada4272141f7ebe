//! One page of a bucket's listing. Blocks.
//!
//! What always holds: keys come in the order of their bytes; memory is bounded by the page, whatever the bucket holds; files that are not
//! objects do not appear.

use crate::disk::{Stat, disk_error};
use crate::names::segment_of;
use s3s::{S3Result, s3_error};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Most keys a page may have.
pub(crate) const PAGE_MAX: usize = 1000;
/// Most directory entries looked at for one page.
const SCAN_MAX: usize = 2_000_000;

/// What to list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pub(crate) prefix: String,
    pub(crate) delimiter: Option<String>,
    /// Only names behind this one.
    pub(crate) after: String,
    pub(crate) max: usize,
}

/// A page: names in order, each an object or (`None`) a common prefix.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) items: Vec<(String, Option<Stat>)>,
    pub(crate) truncated: bool,
}

/// Lists the bucket in `directory`.
pub(crate) fn list(directory: &Path, query: &Query) -> S3Result<Page> {
    let max = query.max.min(PAGE_MAX);
    let mut found = BTreeMap::new();
    let mut open = vec![(directory.to_owned(), String::new())];
    let mut seen = 0_usize;
    while let Some((directory, base)) = open.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            // A bucket without objects, or a directory that was emptied meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(disk_error(error)),
        };
        for entry in entries {
            seen += 1;
            if seen > SCAN_MAX {
                return Err(s3_error!(ServiceUnavailable, "the bucket holds too many objects to list; prune it"));
            }
            let entry = entry.map_err(disk_error)?;
            let Some((segment, is_directory)) = entry.file_name().to_str().and_then(segment_of) else { continue };
            let name = format!("{base}{segment}");
            if is_directory {
                let below = name + "/";
                if may_hold(&below, query) {
                    open.push((entry.path(), below));
                }
            } else {
                consider(name, &entry.path(), query, max, &mut found)?;
            }
        }
    }
    let truncated = found.len() > max;
    Ok(Page { items: found.into_iter().take(max).collect(), truncated })
}

/// Whether keys that start with `below` can be on the page.
fn may_hold(below: &str, query: &Query) -> bool {
    let in_prefix = below.starts_with(&query.prefix) || query.prefix.starts_with(below);
    let behind = below > query.after.as_str() || query.after.starts_with(below);
    in_prefix && behind
}

/// Adds the object `key`, or the common prefix it falls under, keeping only as many names as are needed.
fn consider(key: String, path: &PathBuf, query: &Query, max: usize, found: &mut BTreeMap<String, Option<Stat>>) -> S3Result<()> {
    let Some(rest) = key.strip_prefix(&query.prefix) else { return Ok(()) };
    let cut = query.delimiter.as_deref().and_then(|delimiter| rest.find(delimiter).map(|at| query.prefix.len() + at + delimiter.len()));
    let name = cut.map_or(key.as_str(), |cut| &key[..cut]);
    let beyond = found.len() > max && found.last_key_value().is_some_and(|(last, _)| name >= last.as_str());
    if name <= query.after.as_str() || beyond {
        return Ok(());
    }
    let stat = match cut {
        Some(_) => None,
        None => match fs::metadata(path).and_then(|meta| Stat::of(&meta)) {
            Ok(stat) => Some(stat),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(disk_error(error)),
        },
    };
    found.insert(name.to_owned(), stat);
    if found.len() > max + 1 {
        found.pop_last();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::path_of;

    fn bucket(keys: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for key in keys {
            let path = root.path().join(path_of(key).unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, key).unwrap();
        }
        fs::write(root.path().join(".foreign"), "").unwrap();
        root
    }

    fn names(root: &tempfile::TempDir, query: &Query) -> (Vec<String>, bool) {
        let page = list(root.path(), query).unwrap();
        (page.items.into_iter().map(|(name, stat)| if stat.is_some() { name } else { format!("<{name}>") }).collect(), page.truncated)
    }

    #[test]
    fn pages_cover_all_keys_in_byte_order() {
        let mut keys: Vec<String> = (0..23).map(|i| format!("dir-{}/key {i:02}.bin", i % 3)).collect();
        keys.extend(["a", "a/b", "a-b", "a.b", "ü"].map(String::from));
        let root = bucket(&keys.iter().map(String::as_str).collect::<Vec<_>>());
        keys.sort();
        for max in [1, 2, 5, 28, 1000] {
            let mut all = Vec::new();
            let mut query = Query { max, ..Query::default() };
            loop {
                let (page, truncated) = names(&root, &query);
                assert!(page.len() <= max);
                query.after = page.last().cloned().unwrap_or_default();
                all.extend(page);
                if !truncated {
                    break;
                }
            }
            assert_eq!(all, keys, "pages of {max}");
        }
    }

    #[test]
    fn prefixes_and_delimiters() {
        let root = bucket(&["a/1", "a/2", "ab", "b/c/1", "b/c/2", "b/d"]);
        let query = |prefix: &str, delimiter: Option<&str>| Query {
            prefix: prefix.into(),
            delimiter: delimiter.map(Into::into),
            max: 10,
            ..Query::default()
        };
        assert_eq!(names(&root, &query("a", None)).0, ["a/1", "a/2", "ab"]);
        assert_eq!(names(&root, &query("", Some("/"))).0, ["<a/>", "ab", "<b/>"]);
        assert_eq!(names(&root, &query("b/", Some("/"))).0, ["<b/c/>", "b/d"]);
        assert_eq!(names(&root, &query("zzz", None)), (vec![], false));
        let missing = list(&root.path().join("nowhere"), &query("", None)).unwrap();
        assert_eq!(missing, Page::default());
    }
}
