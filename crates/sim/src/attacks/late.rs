//! Late uploaders: the object comes when nobody waits for it any more.

use super::Setup;
use bytes::Bytes;
use templar_node::conduct::{Conduct, Moment, Put};

struct Late;

pub(super) fn late(_: &Setup) -> Box<dyn Conduct> {
    Box::new(Late)
}

impl Conduct for Late {
    fn name(&self) -> &'static str {
        "late"
    }

    fn puts(&mut self, moment: Moment, sealed: &Bytes) -> Vec<Put> {
        let at_ms = moment.timetable.upload_ends_ms(moment.next_start_ms) + moment.timetable.block_ms;
        vec![Put { at_ms, bytes: sealed.clone() }]
    }
}
