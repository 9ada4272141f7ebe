//! Clocks.

pub mod chain_skew;
pub mod kept;
pub mod store_skew;

use crate::check::prelude::*;
use crate::watch::measures::{CLOCK_BAD_MS, CLOCK_TOLERANCE_MS};

/// What a difference between two clocks means; `sentence` has the number.
fn judge(skew_ms: u64, sentence: String) -> Outcome {
    let skew_ms = i64::try_from(skew_ms).unwrap_or(i64::MAX);
    if skew_ms <= CLOCK_TOLERANCE_MS {
        return Ok(pass(sentence));
    }
    Err(if skew_ms <= CLOCK_BAD_MS { warn(sentence) } else { fail(sentence) })
}
