//! The run's model fits into the memory of the devices.

use crate::check::prelude::*;

/// The run's model fits into the memory of the devices.
pub struct Fits;

#[async_trait(?Send)]
impl Check for Fits {
    fn about(&self) -> About {
        About::new(
            "engine.fits",
            "the run's model fits into the devices' memory",
            "what does not fit ends with an error at the first step, after the whole download",
            "more or larger GPUs, --recompute, or another run; `templar plan` lists what takes the memory",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let plan = subject.plan().await?;
        let sentence =
            format!("{:.2} GiB of {:.1} GiB a device, {} sequences in a pass", plan.device.total_gib, plan.usable_gib, plan.micro_batch);
        if plan.fits { Ok(pass(sentence)) } else { Err(fail(sentence).remedy(plan.advice.join("; "))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_a_small_model() {
        Lab::new().await.passes(&Fits).await;
    }

    #[tokio::test]
    async fn fails_with_a_large_one() {
        let mut lab = Lab::new().await;
        lab.bucket("leader").delete(templar_protocol::names::RUN).await.unwrap();
        lab.subject.settings.params = Some(templar_protocol::hparams::Hparams::preset("72B").unwrap());
        lab.fails(&Fits, "GiB a device").await;
    }
}
