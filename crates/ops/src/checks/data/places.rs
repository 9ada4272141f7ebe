//! Each place that the run names for its data answers.

use crate::check::prelude::*;
use object_store::{ObjectStoreExt, path::Path};

/// Each place that the run names for its data answers.
pub struct Places;

#[async_trait(?Send)]
impl Check for Places {
    fn about(&self) -> About {
        About::new(
            "data.places",
            "every place of the data set answers",
            "a node goes on to the next place when one fails, until none is left",
            "tell the run's operators which place is gone; one that works is enough for now",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let data = subject.data().await?;
        let mut gone = Vec::new();
        for endpoint in &data.endpoints {
            let head = tokio::time::timeout(crate::subject::ANSWER, endpoint.store.head(&Path::from("manifest.json"))).await;
            if !matches!(head, Ok(Ok(_))) {
                gone.push(endpoint.name.clone());
            }
        }
        let sentence = format!("{} of {} places answer", data.endpoints.len() - gone.len(), data.endpoints.len());
        match gone.first() {
            None => Ok(pass(sentence)),
            Some(first) => Err(warn(format!("{sentence}; {first} does not"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_all_answer() {
        Lab::new().await.passes(&Places).await;
    }

    #[tokio::test]
    async fn warns_when_one_does_not() {
        let mut lab = Lab::new().await;
        lab.publish_run(|run| run.data.places.push("http://127.0.0.1:1/dataset".into())).await;
        lab.warns(&Places, "1 of 2 places answer; http://127.0.0.1:1/dataset does not").await;
    }
}
