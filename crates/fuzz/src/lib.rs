//! Random testing of what strangers send: JSON-RPC requests and transactions to the development chain, key files, commitments, and the objects
//! of peers.
//!
//! There is no instrumentation, so this needs nothing but a stable compiler. Instead, a [`Target`] makes valid inputs from the types, changes
//! them with their structure in mind, and tells of each run what came of it: which kinds of answers and errors ([`Shapes`]). An input with a
//! shape that was not seen before is made smaller, kept in the corpus, and changed further.
//!
//! * [`dice`]: random numbers from a seed. [`mutate`], [`json`]: changes of bytes and of JSON.
//! * [`targets`]: what is tested. [`corpus`]: the kept inputs, which an ordinary test replays.
//! * [`worker`]: the loop, in a process of its own under a bound of memory. [`drive`]: workers started, watched, and started again.
//!
//! What always holds: a panic, a stack that overflows, memory beyond the bound and an input that never ends all end the worker, and the driver
//! then has the inputs since the target was last renewed.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod corpus;
pub mod dice;
pub mod drive;
pub mod json;
pub mod mutate;
pub mod targets;
pub mod worker;

pub use dice::Dice;
use std::collections::BTreeSet;

/// The longest input, bytes.
pub const INPUT_BYTES_MAX: usize = 16 << 10;

/// What came of a run, in words that do not depend on its numbers.
pub type Shapes = BTreeSet<String>;

/// Something that takes bytes from strangers.
pub trait Target {
    /// A valid input, or nearly.
    fn generate(&mut self, dice: &mut Dice) -> Vec<u8>;

    /// Something like `input`. [`mutate::bytes`] where there is no structure.
    fn mutate(&mut self, input: &[u8], dice: &mut Dice) -> Vec<u8> {
        mutate::bytes(input, dice)
    }

    /// Takes the input. What must hold is asserted.
    fn run(&mut self, input: &[u8]) -> Shapes;

    /// Begins anew, for targets that remember.
    fn renew(&mut self) {}
}

/// `text` without what differs from run to run: digits, addresses and what is quoted become marks. At most 80 characters.
pub fn normal(text: &str) -> String {
    let mut out = String::new();
    // The mark that ends what is being quoted.
    let mut quoted: Option<char> = None;
    for word in text.split_whitespace() {
        let digits = word.bytes().any(|byte| byte.is_ascii_digit());
        let strange = word.len() > 24 || !word.is_ascii();
        let inner = word.trim_start_matches('(');
        let opened = quoted.or_else(|| inner.chars().next().filter(|mark| matches!(mark, '`' | '\'' | '"')));
        let shown = if digits || strange || opened.is_some() { "#" } else { word };
        // A quotation of one word has both marks; a mark alone opens one.
        let closing = if quoted.is_none() { inner.get(1..).unwrap_or_default() } else { inner };
        quoted = opened.filter(|mark| !closing.trim_end_matches([',', ';', ':', '.', ')']).ends_with(*mark));
        if out.len() + shown.len() > 80 {
            break;
        }
        if !(shown == "#" && out.ends_with('#')) {
            out.push(' ');
            out.push_str(shown);
        }
    }
    out.trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_left_out() {
        assert_eq!(normal("parameter 3 must be  a number"), "parameter # must be a number");
        assert_eq!(normal("it has 12 34 bytes"), normal("it has 5 6 bytes"));
        assert_eq!(normal(&format!("block {} is gone", "f".repeat(64))), "block # is gone");
        assert_eq!(normal("it contains '%'; write"), "it contains # write");
        assert_eq!(normal("`a b c` is not a bucket's URL (`d`)."), "# is not a bucket's URL #");
        assert_eq!(normal("it contains '''; write"), "it contains # write");
        assert!(normal(&"long ".repeat(100)).len() <= 80);
    }
}
