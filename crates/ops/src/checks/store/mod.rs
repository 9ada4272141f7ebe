//! The own bucket.

pub mod anonymous_delete;
pub mod anonymous_list;
pub mod anonymous_write;
pub mod create_once;
pub mod delete;
pub mod download_rate;
pub mod endpoints;
pub mod list;
pub mod multipart;
pub mod own_objects;
pub mod port;
pub mod read_by_peers;
pub mod upload_rate;
pub mod url;
pub mod write;
