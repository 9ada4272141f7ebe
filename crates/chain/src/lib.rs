//! The chain as a trait, the deterministic development chain, its server and its client.
