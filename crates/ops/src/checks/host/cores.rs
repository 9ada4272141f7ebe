//! The node is given no more threads than there are cores.

use crate::check::prelude::*;

/// The node is given no more threads than there are cores.
pub struct Cores;

#[async_trait(?Send)]
impl Check for Cores {
    fn about(&self) -> About {
        About::new(
            "host.cores",
            "the node has no more threads than the machine has cores",
            "threads that wait for each other make training slower and deadlines closer",
            "lower --threads, or leave it out",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (threads, cores) = (subject.settings.threads, subject.machine.cores);
        let sentence = format!("{threads} threads on {cores} cores");
        if threads <= cores { Ok(pass(sentence)) } else { Err(warn(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_as_many() {
        Lab::new().await.passes(&Cores).await;
    }

    #[tokio::test]
    async fn warns_with_more() {
        let mut lab = Lab::new().await;
        lab.subject.settings.threads = 64;
        lab.warns(&Cores, "64 threads on 2 cores").await;
    }
}
