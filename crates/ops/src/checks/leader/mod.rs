//! What a leader owes the others.

pub mod checkpoint;
pub mod descriptor;
pub mod leads;
pub mod manifest;
