//! The run's hyper-parameters are valid, are those of their digest, and are what the operator expects.

use crate::check::prelude::*;

/// The run's hyper-parameters are valid, are those of their digest, and are what the operator expects.
pub struct HyperParameters;

#[async_trait(?Send)]
impl Check for HyperParameters {
    fn about(&self) -> About {
        About::new(
            "run.hyper_parameters",
            "the hyper-parameters are valid, and the expected ones",
            "a node with other hyper-parameters trains another model, and is refused",
            "join the run that you mean, or correct --params; `templar params diff` shows the differences",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let found = subject.run().await?;
        let (descriptor, hparams) = (&found.run.descriptor, found.run.hparams());
        if hparams.digest() != descriptor.hparams_digest || descriptor.netuid != subject.settings.netuid {
            return Err(fail("the descriptor contradicts itself: its hyper-parameters or its subnet are not those that it states"));
        }
        hparams.validate().map_err(|error| fail(error.to_string()))?;
        if let Some(expected) = &subject.settings.params {
            let differences = expected.diff(hparams);
            if let Some(first) = differences.first() {
                let (key, left, right) = (&first.key, &first.left, &first.right);
                return Err(fail(format!("{} values differ; {key} is expected to be {left}, the run has {right}", differences.len())));
            }
        }
        let expected = if subject.settings.params.is_some() { "as expected" } else { "nothing was expected" };
        Ok(pass(format!("{} with digest {} ({expected})", hparams.name, descriptor.hparams_digest.short())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_equal() {
        let mut lab = Lab::new().await;
        lab.passes(&HyperParameters).await;
        lab.subject.settings.params = Some(hparams());
        lab.passes(&HyperParameters).await;
    }

    #[tokio::test]
    async fn fails_when_others_are_expected_and_on_contradictions() {
        let mut lab = Lab::new().await;
        lab.subject.settings.params = Some(templar_protocol::hparams::Hparams { inner_steps: 11, ..hparams() });
        lab.fails(&HyperParameters, "inner_steps is expected to be 11, the run has 10").await;
        lab.publish_run(|run| run.hparams.inner_steps = 12).await;
        lab.fails(&HyperParameters, "contradicts itself").await;
    }
}
