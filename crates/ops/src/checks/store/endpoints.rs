//! All endpoints lead to the same bucket: what is put by one is read by the others.

use crate::check::prelude::*;
use crate::probe::{noise, probe_key};

/// All endpoints lead to the same bucket: what is put by one is read by the others.
pub struct Endpoints;

#[async_trait(?Send)]
impl Check for Endpoints {
    fn about(&self) -> About {
        About::new(
            "store.endpoints",
            "what is put by one endpoint of the bucket is read by the others",
            "when the first endpoint fails, objects go where the next one leads: into another bucket nobody would find them",
            "correct `bucket.endpoints` in templar.toml, or leave out the endpoint that does not answer",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let endpoints = subject.own_endpoints()?;
        if endpoints.len() < 2 {
            return Err(skip("the bucket has one endpoint"));
        }
        let mut wrong = Vec::new();
        for (at, writer) in endpoints.iter().enumerate() {
            let (key, bytes) = (probe_key("endpoint"), noise(200));
            if let Err(error) = writer.put_by(&key, bytes.clone(), subject.deadline()).await {
                wrong.push(format!("{}: {error}", writer.url()));
                continue;
            }
            for (_, reader) in endpoints.iter().enumerate().filter(|(other, _)| *other != at) {
                match reader.get(&key, 1000, subject.deadline()).await {
                    Ok(found) if found == bytes => {}
                    Ok(_) => wrong.push(format!("{} has other bytes than {}", reader.url(), writer.url())),
                    Err(error) => wrong.push(format!("put by {}, {error}", writer.url())),
                }
            }
            // That it stays is told by `store.delete`.
            let _ = writer.delete(&key).await;
        }
        match wrong.first() {
            None => Ok(pass(format!("{} endpoints lead to one bucket", endpoints.len()))),
            Some(first) => Err(fail(first.clone()).with("faults", wrong.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_two_ways_to_one_bucket() {
        let mut lab = Lab::new().await;
        let same = lab.subject.settings.bucket.clone().unwrap().replace("127.0.0.1", "localhost");
        lab.subject.settings.bucket_endpoints = vec![same];
        lab.passes(&Endpoints).await;
    }

    #[tokio::test]
    async fn fails_with_another_bucket() {
        let mut lab = Lab::new().await;
        let other = lab.subject.settings.bucket.clone().unwrap().replace("/miner", "/other");
        lab.subject.settings.bucket_endpoints = vec![other];
        lab.fails(&Endpoints, "/other").await;
    }
}
