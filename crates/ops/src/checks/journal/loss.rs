//! The loss is a number, and is not running away.

use crate::check::prelude::*;
use crate::watch::measures;

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
        let trend = measures::loss_trend(&windows).ok_or_else(|| skip("no window with training yet"))?;
        if !trend.finite {
            return Err(fail("a loss is not a number"));
        }
        if trend.before < 3 {
            return Err(skip(format!("{} losses are too few to judge", trend.before + 1)));
        }
        let sentence = format!("the last loss is {:.3}, before {:.3} ± {:.3}", trend.last, trend.mean, trend.deviation);
        if trend.runs_away() { Err(fail(sentence)) } else { Ok(pass(sentence)) }
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
