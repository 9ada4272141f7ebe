//! What is known of nodes from the outside: their journals, and the score sheets that validators publish.
//!
//! Diagnosis, alerts, the monitor and the leaderboard all look at the same [`record::NodeRecord`], which is fed line by line and bounded, and judge
//! it by the same [`measures`], which the doctor's checks share.

pub mod measures;
pub mod record;
pub mod source;

pub use record::{Judged, Lived, NodeRecord, Trouble};
pub use source::{Followed, node_dirs, record_of_sheets};
