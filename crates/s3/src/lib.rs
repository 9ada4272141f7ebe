//! The embedded S3 server: buckets in a directory, for networks on one machine and for `templar store serve`.
//!
//! * [`S3Config`] and [`Server::bind`] start it; [`Server::run`] serves until a future says stop, then drains.
//! * [`Access`] decides who may do what: each key writes and lists the buckets it was given and no other; anybody reads the objects of a
//!   bucket that is `public_read`, by name; nobody else lists anything.
//! * [`AccessFile`] is the same as a file of mode 0600, read again when it changes, so that a node can be added while the server runs.
//!
//! Content types and user metadata are not kept.
//!
//! Spoken: PutObject (with `If-None-Match: *`), GetObject and HeadObject (ranges, `If-Match`, `If-None-Match`), DeleteObject(s),
//! ListObjectsV2, HeadBucket, GetBucketLocation and uploads in parts; path-style addresses. Everything else is refused.
//!
//! What always holds: an object is the old one or the new one at any moment, also after `kill -9`, for it is written beside and renamed,
//! and its size, time and ETag come from that one file; no key leads out of its bucket's directory; every body, listing, upload and the
//! number of connections is bounded.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod access;
mod access_file;
mod disk;
mod listing;
mod names;
mod parts;
mod server;
mod service;

pub use access::{Access, AccessError, BucketAccess};
pub use access_file::AccessFile;
pub use names::KEY_MAX_BYTES;
pub use server::{S3Config, ServeError, Server, ServerHandle};
