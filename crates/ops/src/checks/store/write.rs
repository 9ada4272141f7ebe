//! The own key writes an object, and reads back what it wrote.

use crate::check::prelude::*;

/// The own key writes an object, and reads back what it wrote.
pub struct Write;

#[async_trait(?Send)]
impl Check for Write {
    fn about(&self) -> About {
        About::new(
            "store.write",
            "the own key writes, and reads the same bytes back",
            "a store may answer politely and keep nothing; only the bytes read back prove it",
            "check key, bucket and URL: the key must be allowed to write this bucket",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let probe = subject.probe("write").await.map_err(|missing| missing.failure("store.write"))?;
        let read = probe.bucket.get(&probe.key, 1 << 10, subject.deadline()).await;
        let (key, bytes) = (probe.key.clone(), probe.bytes.clone());
        // The probe has served; `store.delete` tells when it cannot be removed.
        let _ = probe.remove().await;
        match read {
            Ok(read) if read == bytes => Ok(pass(format!("{} bytes were written and read back", bytes.len()))),
            Ok(read) => Err(fail(format!("{} bytes were written to {key}, {} other bytes were read back", bytes.len(), read.len()))),
            Err(error) => Err(fail(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use templar_store::ENV_SECRET_ACCESS_KEY;

    #[tokio::test]
    async fn passes_with_the_key() {
        Lab::new().await.passes(&Write).await;
    }

    #[tokio::test]
    async fn fails_with_another() {
        let mut lab = Lab::new().await;
        lab.subject.variables.set(ENV_SECRET_ACCESS_KEY, "another");
        lab.fails(&Write, "cannot put").await;
    }
}
