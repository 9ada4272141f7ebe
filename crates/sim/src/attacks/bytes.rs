//! Hostile bytes: payloads that are no update, and objects that are not what was committed to.

use super::Setup;
use bytes::Bytes;
use templar_codec::{HEADER_BYTES, Layout};
use templar_node::conduct::{Conduct, Moment, Put, Task};
use templar_protocol::Window;

struct Malformed;

pub(super) fn malformed(_: &Setup) -> Box<dyn Conduct> {
    Box::new(Malformed)
}

impl Conduct for Malformed {
    fn name(&self) -> &'static str {
        "malformed"
    }

    fn rows(&mut self, _: &Task<'_>) -> Option<Vec<Vec<u64>>> {
        Some(vec![])
    }

    fn sends_untrained(&self) -> bool {
        true
    }

    fn payload(&mut self, _: Window, _: &Layout, own: Vec<u8>) -> Vec<u8> {
        own.into_iter().rev().collect()
    }
}

struct Oversized;

pub(super) fn oversized(_: &Setup) -> Box<dyn Conduct> {
    Box::new(Oversized)
}

impl Conduct for Oversized {
    fn name(&self) -> &'static str {
        "oversized"
    }

    fn puts(&mut self, moment: Moment, sealed: &Bytes) -> Vec<Put> {
        let mut bytes = sealed.to_vec();
        bytes.resize(10 * bytes.len(), 0);
        vec![Put { at_ms: moment.now_ms, bytes: bytes.into() }]
    }
}

/// The same object with one byte of its payload changed.
pub(super) fn altered(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.get_mut(HEADER_BYTES) {
        *byte ^= 1;
    }
    bytes.into()
}
