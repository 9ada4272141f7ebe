//! Objects in buckets: S3 and R2 over HTTP, a directory, or memory, behind one cheap handle.
//!
//! * [`BucketUrl`] says where a bucket is. A URL from a peer is parsed by [`BucketUrl::parse_peer`], which admits far less than an
//!   operator's own ([`BucketUrl::parse`]).
//! * [`BucketConfig`] adds the region and the [`Credentials`]; without credentials the bucket is read anonymously.
//! * [`Http`] is the shared connection pool; it never follows redirects and reads bounded answers only.
//! * [`Bucket`] reads, writes, lists and prunes. Every read states how many bytes it accepts and by when.
//! * [`Retry`], [`Metered`], [`Failover`], [`Throttle`] and [`Faults`] wrap any [`object_store::ObjectStore`], one behaviour each.
//!
//! What always holds: no read is unbounded, whatever a server claims or sends; [`ErrorKind::NotFound`] means that the server answered
//! "there is no such object" and is never used for a network failure; a secret is not printed by any `Debug` or `Display`.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use std::time::Duration;
//! use templar_store::{Bucket, Deadline, ErrorKind};
//!
//! let bucket = Bucket::memory();
//! bucket.put("gradient-7", "some bytes".into()).await?;
//! let bytes = bucket.get("gradient-7", 1024, Deadline::within(Duration::from_secs(5))).await?;
//! assert_eq!(&bytes[..], b"some bytes");
//!
//! let refused = bucket.get("gradient-7", 4, Deadline::within(Duration::from_secs(5))).await.unwrap_err();
//! assert_eq!(refused.kind(), ErrorKind::TooLarge { size: 10, max: 4 });
//! # Ok(()) }) }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bucket;
mod config;
mod deadline;
mod error;
mod failover;
mod faults;
mod files;
mod metered;
mod net;
mod retry;
mod secret;
mod throttle;
mod upload;
mod url;

pub use bucket::{Bucket, LIST_MAX, ObjectInfo, Pruned};
pub use config::{BucketConfig, Credentials, ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY};
pub use deadline::{Deadline, Pace};
pub use error::{ErrorKind, StoreError};
pub use failover::{Failover, RETURN_AFTER, Switch, Switches};
pub use faults::{Fault, FaultPlan, FaultRule, Faults, Operation};
pub use metered::{Meter, MeterSnapshot, Metered};
pub use net::{Http, Reach};
pub use retry::{Retry, RetryPolicy};
pub use secret::Secret;
pub use throttle::Throttle;
pub use upload::{PartPlan, SINGLE_PUT_MAX_BYTES};
pub use url::{BucketUrl, PEER_URL_MAX_CHARS, UrlError};
