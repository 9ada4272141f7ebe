//! What trains.

pub mod computes;
pub mod driver;
pub mod fits;
pub mod meets_deadline;
pub mod opens;
