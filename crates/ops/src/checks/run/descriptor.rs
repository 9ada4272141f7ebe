//! A run is offered, and signed by a validator.

use crate::check::prelude::*;

/// A run is offered, and signed by a validator.
pub struct Descriptor;

#[async_trait(?Send)]
impl Check for Descriptor {
    fn about(&self) -> About {
        About::new(
            "run.descriptor",
            "a validator offers a signed run",
            "the descriptor names everything that nodes must agree on",
            "wait for the run's operators, or check subnet and chain",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let found = subject.run().await.map_err(|missing| missing.failure("run.descriptor"))?;
        let run = &found.run;
        Ok(pass(format!("run {} ({}) from uid {}", run.id.short(), run.hparams().name, found.from)).with("run", run.id.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use templar_protocol::names;

    #[tokio::test]
    async fn passes_with_a_run() {
        Lab::new().await.passes(&Descriptor).await;
    }

    #[tokio::test]
    async fn fails_without_one_and_with_a_changed_one() {
        let lab = Lab::new().await;
        let bucket = lab.bucket("leader");
        let text = String::from_utf8(bucket.get(names::RUN, 1 << 20, lab.subject.deadline()).await.unwrap().to_vec()).unwrap();
        bucket.put(names::RUN, text.replace("\\\"protocol\\\":1", "\\\"protocol\\\":2").into()).await.unwrap();
        lab.fails(&Descriptor, "signature").await;
        let lab = Lab::new().await;
        lab.bucket("leader").delete(names::RUN).await.unwrap();
        lab.fails(&Descriptor, "no such object").await;
    }
}
