//! Pseudo-gradients as bytes: chunks, top-k, quantiser, index coding, error feedback, aggregation and sealed containers.
//!
//! A miner turns the difference of two parameter sets into a payload ([`compress()`]) and seals it ([`seal`]); everybody opens
//! and checks objects ([`open`]) and adds them to θ in one fixed order ([`aggregate()`]).
//!
//! What always holds: results are the same bits for any number of threads and any instruction set; nothing that a peer sends can
//! cause a panic or an allocation beyond bounds that follow from the [`Layout`]; one content has exactly one encoding.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod aggregate;
pub mod bench;
mod bits;
pub mod compress;
pub mod container;
pub mod dct;
mod describe;
pub mod layout;
pub mod pack12;
pub mod quant;
pub mod refusal;
pub mod section;
mod select;
pub mod sketch;
#[cfg(test)]
mod tests;

pub use aggregate::{Aggregated, SparseUpdate, aggregate, norms, sparse_update};
pub use bits::simd;
pub use compress::{Compressed, Stats, compress, give_back};
pub use container::{Expect, HEADER_BYTES, Header, Opened, max_object_bytes, open, seal, seal_holds};
pub use describe::describe;
pub use layout::{CodecConfig, Layout, LayoutError, ParamLayout};
pub use refusal::Refusal;
pub use sketch::{SKETCH_LEN, Sketch};
