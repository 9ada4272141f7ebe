//! Miners take all inner steps of a window.

use crate::check::prelude::*;
use crate::watch::measures;

/// Miners take all inner steps of a window.
pub struct Steps;

#[async_trait(?Send)]
impl Check for Steps {
    fn about(&self) -> About {
        About::new(
            "journal.steps",
            "all inner steps are taken",
            "steps that are not taken are training that others have and this miner has not",
            "see `engine.meets_deadline` and data_wait_ms in the journal",
        )
        .live()
        .roles(&[Role::Miner])
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (windows, found) = (subject.windows(10).await?, subject.run().await?);
        let plan = found.run.hparams().inner_steps as f64;
        let (mean, least, count) = measures::inner_steps(&windows).ok_or_else(|| skip("no window with training yet"))?;
        let sentence = format!("{mean:.1} of {plan} steps on average over {count} windows, at least {least}");
        Err(if mean >= plan {
            return Ok(pass(sentence));
        } else if mean >= plan * 2.0 / 3.0 {
            warn(sentence)
        } else {
            fail(sentence)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_all() {
        Lab::new().await.passes(&Steps).await;
    }

    #[tokio::test]
    async fn fails_with_few() {
        let mut lab = Lab::new().await;
        lab.write_journal(|entry| entry.training.as_mut().unwrap().steps = 3);
        lab.fails(&Steps, "3.0 of 10 steps").await;
    }
}
