//! The last objects were up before the upload window ended, with time to spare.

use crate::check::prelude::*;
use crate::watch::measures;

/// The last objects were up before the upload window ended, with time to spare.
pub struct UploadMargin;

#[async_trait(?Send)]
impl Check for UploadMargin {
    fn about(&self) -> About {
        About::new(
            "journal.upload_margin",
            "objects are up well before their deadline",
            "a late object counts as absent, and twice in a row costs the whole score",
            "see `store.upload_rate` and `engine.meets_deadline`; train fewer steps or use a nearer store",
        )
        .live()
        .roles(&[Role::Miner])
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (windows, found) = (subject.windows(10).await?, subject.run().await?);
        let margins = measures::upload_margins(windows.iter());
        let Some(least) = margins.iter().filter_map(|(_, margin)| *margin).min() else {
            return Err(if margins.is_empty() {
                skip("no window with training yet")
            } else {
                fail("no object of the last windows was uploaded")
            });
        };
        if let Some((window, _)) = margins.iter().rev().find(|(_, margin)| margin.is_none_or(|margin| margin < 0)) {
            return Err(fail(format!("the object of window {window} was late or not uploaded")));
        }
        let room_ms = measures::upload_room_ms(found.run.hparams().timetable.upload_window_ms, found.run.block_ms());
        let sentence = format!("the least margin of {} windows is {least} ms of {room_ms} ms", margins.len());
        if measures::is_thin(least, room_ms) { Err(warn(sentence)) } else { Ok(pass(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_time_to_spare() {
        Lab::new().await.passes(&UploadMargin).await;
    }

    #[tokio::test]
    async fn fails_when_late_or_missing_and_warns_when_close() {
        let mut lab = Lab::new().await;
        let margin = |ms| move |entry: &mut templar_node::journal::WindowEntry| entry.training.as_mut().unwrap().upload_margin_ms = ms;
        lab.write_journal(margin(Some(-20)));
        lab.fails(&UploadMargin, "was late or not uploaded").await;
        lab.write_journal(margin(None));
        lab.fails(&UploadMargin, "no object of the last windows").await;
        lab.write_journal(margin(Some(100)));
        lab.warns(&UploadMargin, "is 100 ms of").await;
    }
}
