//! The run's descriptor is in this validator's bucket.

use crate::check::prelude::*;
use templar_node::signed;
use templar_protocol::messages::{Message, RunDescriptor};
use templar_protocol::names;

/// The run's descriptor is in this validator's bucket.
pub struct Descriptor;

#[async_trait(?Send)]
impl Check for Descriptor {
    fn about(&self) -> About {
        About::new(
            "leader.descriptor",
            "the run's descriptor is in this validator's bucket",
            "joiners look for it there when another validator is gone",
            "start the validator: it keeps a copy; a leader starts the run with --start-run",
        )
        .roles(&Role::VALIDATORS)
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (bucket, found) = (subject.own_bucket()?, subject.run().await?);
        let bytes = bucket.get(names::RUN, RunDescriptor::BYTES_MAX, subject.deadline()).await.map_err(|error| fail(error.to_string()))?;
        let opened = signed::open::<RunDescriptor>(&bytes).map_err(|error| fail(format!("{} does not count: {error}", names::RUN)))?;
        if opened.digest != found.run.id {
            return Err(fail(format!("it is of run {}, the subnet's is {}", opened.digest.short(), found.run.id.short())));
        }
        Ok(pass(format!("run {} is there", opened.digest.short())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_there() {
        Lab::new().await.leading().passes(&Descriptor).await;
    }

    #[tokio::test]
    async fn fails_when_it_is_not() {
        let lab = Lab::new().await;
        lab.fails(&Descriptor, "no such object").await;
    }
}
