//! The run still learns: its learning rate is not zero.

use crate::check::prelude::*;
use templar_node::recipe;

/// The run still learns: its learning rate is not zero.
pub struct LearningRate;

#[async_trait(?Send)]
impl Check for LearningRate {
    fn about(&self) -> About {
        About::new(
            "run.learning_rate",
            "the run's learning rate is above zero",
            "at the end of its schedule a run changes nothing any more, and training for it is in vain",
            "the run is over; look for its successor",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (found, offer) = (subject.run().await?, subject.pointer().await?);
        let schedule = recipe::schedule(found.run.hparams());
        let rate = recipe::inner_hyper(found.run.hparams(), &schedule, offer.pointer.global_step, 0).lr;
        let sentence = format!("after {} outer steps the rate is {rate:.3e}", offer.pointer.global_step);
        if rate > 0.0 { Ok(pass(sentence)) } else { Err(fail(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_while_it_learns() {
        Lab::new().await.passes(&LearningRate).await;
    }

    #[tokio::test]
    async fn fails_at_the_end() {
        let mut lab = Lab::new().await;
        let ended = |run: &mut templar_protocol::messages::RunDescriptor| {
            let anneal = &mut run.hparams.anneal_mode;
            (anneal.enabled, anneal.start_global_step, anneal.warmup_inner_steps) = (true, 0, 1);
            (anneal.decay_outer_steps, anneal.eta_min_factor) = (1, 0.0);
        };
        lab.publish_run(ended).await;
        lab.fails(&LearningRate, "the rate is 0").await;
    }
}
