//! Equality with the reference, and what holds for every input.
