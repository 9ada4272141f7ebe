//! θ moves in nearly every window.

use crate::check::prelude::*;
use crate::watch::measures;

/// θ moves in nearly every window.
pub struct OuterSteps;

#[async_trait(?Send)]
impl Check for OuterSteps {
    fn about(&self) -> About {
        About::new(
            "journal.outer_steps",
            "θ takes a step in nearly every window",
            "a node that misses steps which others took is no longer at the same θ",
            "see the reasons in the journal (`window`, `warning`); a void window for all is the validators' matter",
        )
        .live()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let windows = subject.windows(10).await?;
        let missed = measures::missed_steps(&windows);
        let sentence = format!("{missed} of {} windows without a step", windows.len());
        Err(match missed {
            0 => return Ok(pass(sentence)),
            1 => warn(sentence),
            _ => fail(sentence),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_every_step() {
        Lab::new().await.passes(&OuterSteps).await;
    }

    #[tokio::test]
    async fn fails_when_two_are_missed() {
        let mut lab = Lab::new().await;
        lab.write_journal(|entry| entry.stepped = entry.window.0 < 6);
        lab.fails(&OuterSteps, "2 of 6 windows").await;
    }
}
