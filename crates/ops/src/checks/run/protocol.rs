//! The run speaks the protocol of this binary.

use crate::check::prelude::*;
use templar_protocol::messages::PROTOCOL_VERSION;

/// The run speaks the protocol of this binary.
pub struct Protocol;

#[async_trait(?Send)]
impl Check for Protocol {
    fn about(&self) -> About {
        About::new(
            "run.protocol",
            "the run speaks this binary's protocol",
            "nodes of two versions do not understand each other's messages",
            "use the binary that the run's operators name",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let theirs = subject.run().await?.run.descriptor.protocol;
        let sentence = format!("the run speaks protocol {theirs}, this binary {PROTOCOL_VERSION}");
        if theirs == PROTOCOL_VERSION { Ok(pass(sentence)) } else { Err(fail(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_the_same() {
        Lab::new().await.passes(&Protocol).await;
    }

    #[tokio::test]
    async fn fails_with_another() {
        let mut lab = Lab::new().await;
        lab.publish_run(|run| run.protocol = 99).await;
        lab.fails(&Protocol, "protocol 99").await;
    }
}
