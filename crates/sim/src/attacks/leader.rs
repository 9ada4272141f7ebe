//! Leaders that abuse the manifest: by leaving miners out, or by not publishing it.

use super::Office;
use crate::draw::Draw;
use templar_protocol::messages::Manifest;

/// Leaves a third of the miners out, another third in each window.
pub(super) struct Lies {
    pub draw: Draw,
}

impl Office for Lies {
    fn publish(&mut self, manifest: &mut Manifest) -> bool {
        let draw = self.draw.at(manifest.window.0);
        manifest.accepted.retain(|accepted| !draw.at(u64::from(accepted.uid.0)).chance(1.0 / 3.0));
        true
    }
}

/// Publishes nothing.
pub(super) struct Withholds;

impl Office for Withholds {
    fn publish(&mut self, _: &mut Manifest) -> bool {
        false
    }
}
