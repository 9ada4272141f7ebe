//! The next objects will be up in time, going by the pace of the last uploads and its trend.

use crate::check::prelude::*;
use templar_node::journal::WindowEntry;
use templar_node::miner::forecast::{Upload, Uploads};

/// The next objects will be up in time, going by the pace of the last uploads and its trend.
pub struct UploadForecast;

#[async_trait(?Send)]
impl Check for UploadForecast {
    fn about(&self) -> About {
        About::new(
            "journal.upload_forecast",
            "the next objects will be up in time, if uploads go on as they have",
            "a link that slows down from window to window is seen before it costs a window",
            "free the link, raise `--max-up`, or use a nearer store before the next window ends",
        )
        .live()
        .roles(&[Role::Miner])
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (windows, found) = (subject.windows(10).await?, subject.run().await?);
        let mut uploads = Uploads::new(found.run.hparams().timetable.upload_window_ms);
        windows.iter().filter_map(upload).for_each(|upload| uploads.note(upload));
        let bytes = windows.iter().rev().find_map(|entry| Some(entry.training.as_ref()?.object_bytes)).unwrap_or(0);
        let Some(forecast) = uploads.forecast(bytes) else { return Err(skip("fewer than two uploads are in the journal")) };
        match forecast.warning() {
            Some(why) if forecast.is_late() => Err(fail(format!("an object {why}"))),
            Some(why) => Err(warn(format!("an object {why}"))),
            None => Ok(pass(format!("{:.1} s foreseen of {:.1} s", forecast.took_ms / 1e3, forecast.left_ms / 1e3))),
        }
    }
}

/// The upload of a window, as the journal tells it.
fn upload(entry: &WindowEntry) -> Option<Upload> {
    let training = entry.training.as_ref().filter(|training| training.object_bytes > 0)?;
    let took_ms = *entry.phases_ms.get("upload")?;
    let margin_ms = training.upload_margin_ms;
    let left_ms = took_ms.saturating_add_signed(margin_ms.unwrap_or(0));
    Some(Upload { bytes: training.object_bytes, took_ms, left_ms, done: margin_ms.is_some_and(|margin| margin >= 0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    /// Windows whose uploads take `ms` of their number and leave the rest of 5 s.
    fn windows(lab: &mut Lab, ms: impl Fn(u64) -> u64) {
        lab.write_journal(|entry| {
            let took = ms(entry.window.0);
            entry.phases_ms.insert("upload".into(), took);
            entry.training.as_mut().unwrap().upload_margin_ms = Some(5000i64.saturating_sub_unsigned(took));
        });
    }

    #[tokio::test]
    async fn passes_on_a_steady_link() {
        let mut lab = Lab::new().await;
        windows(&mut lab, |_| 1000);
        lab.passes(&UploadForecast).await;
    }

    #[tokio::test]
    async fn warns_of_a_link_that_slows_down_and_fails_when_the_next_is_late() {
        let mut lab = Lab::new().await;
        windows(&mut lab, |_| 4800);
        lab.warns(&UploadForecast, "it will be close").await;
        // The newest window took 3.9 s; a quarter more each time makes the one after the next late.
        windows(&mut lab, |window| (3900.0 * 0.8f64.powi((NOW.0 - 1 - window) as i32)) as u64);
        lab.warns(&UploadForecast, "the next one will be late").await;
        windows(&mut lab, |_| 5300);
        lab.fails(&UploadForecast, "it will be late").await;
    }
}
