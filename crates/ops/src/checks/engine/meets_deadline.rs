//! The engine makes the run's inner steps in the time that a window leaves.

use crate::check::prelude::*;

/// The engine makes the run's inner steps in the time that a window leaves.
pub struct MeetsDeadline;

#[async_trait(?Send)]
impl Check for MeetsDeadline {
    fn about(&self) -> About {
        About::new(
            "engine.meets_deadline",
            "the inner steps fit into a window on this machine",
            "a miner that is late with its training is late with its object, every time",
            "more or faster GPUs, or a run with smaller windows' work; `templar plan` says what to change",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let plan = subject.plan().await?;
        let window = &plan.window;
        let sentence = format!("training takes {:.1} s of {:.1} s that a window leaves", window.training_s, window.available_s);
        if window.met { Ok(pass(sentence)) } else { Err(fail(sentence).remedy(plan.advice.join("; "))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_a_small_model() {
        Lab::new().await.passes(&MeetsDeadline).await;
    }

    #[tokio::test]
    async fn fails_with_a_large_one() {
        let mut lab = Lab::new().await;
        lab.bucket("leader").delete(templar_protocol::names::RUN).await.unwrap();
        lab.subject.settings.params = Some(templar_protocol::hparams::Hparams::preset("8B").unwrap());
        lab.fails(&MeetsDeadline, "training takes").await;
    }
}
