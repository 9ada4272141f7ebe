//! The `templar` binary.
fn main() {}
