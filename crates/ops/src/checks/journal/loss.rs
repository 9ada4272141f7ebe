//! The loss is a number, and is not running away.

use crate::check::prelude::*;

/// The loss is a number, and is not running away.
pub struct Loss;

#[async_trait(?Send)]
impl Check for Loss {
    fn about(&self) -> About {
        About::new(
            "journal.loss",
            "the loss is finite and not running away",
            "a loss that rises without end, or is no number, means a broken θ, residual or device",
            "see `node.residual` and `journal.in_step`; stop the miner and let it load the newest checkpoint",
        )
        .live()
        .roles(&[Role::Miner])
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let windows = subject.windows(21).await?;
        let losses: Vec<f64> = windows.iter().filter_map(|entry| entry.training.as_ref()).map(|training| training.last_loss).collect();
        let Some((last, before)) = losses.split_last() else { return Err(skip("no window with training yet")) };
        if losses.iter().any(|loss| !loss.is_finite()) {
            return Err(fail("a loss is not a number"));
        }
        if before.len() < 3 {
            return Err(skip(format!("{} losses are too few to judge", losses.len())));
        }
        let mean = before.iter().sum::<f64>() / before.len() as f64;
        // At least a hundredth, so that a run of equal losses does not make the smallest rise an alarm.
        let deviation = (before.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / before.len() as f64).sqrt().max(0.01);
        let sentence = format!("the last loss is {last:.3}, before {mean:.3} ± {deviation:.3}");
        if *last <= mean + 3.0 * deviation { Ok(pass(sentence)) } else { Err(fail(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_it_falls() {
        Lab::new().await.passes(&Loss).await;
    }

    #[tokio::test]
    async fn fails_when_it_runs_away() {
        let mut lab = Lab::new().await;
        lab.write_journal(|entry| entry.training.as_mut().unwrap().last_loss = if entry.window.0 == 7 { 9.0 } else { 3.9 });
        lab.fails(&Loss, "the last loss is 9.000").await;
    }
}
