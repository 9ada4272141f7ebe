//! No secret is in the files that a node writes.

use crate::check::prelude::*;
use crate::settings::secret_values;
use std::path::Path;

/// The most that is read of one file, from its end.
const BYTES_MAX: u64 = 4 << 20;

/// No secret is in the files that a node writes.
pub struct NoSecrets;

#[async_trait(?Send)]
impl Check for NoSecrets {
    fn about(&self) -> About {
        About::new(
            "node.no_secrets",
            "no secret is in the node's files",
            "a journal is sent to others when something is to be explained",
            "make a new key, remove the file, and report the defect",
        )
        .live()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let dir = subject.dir()?.clone();
        let secrets = secret_values(subject);
        if secrets.is_empty() || !dir.is_dir() {
            return Err(skip("no secret is configured, or there is no directory yet"));
        }
        let mut count = 0;
        for entry in std::fs::read_dir(&dir).map_err(|error| fail(format!("{}: {error}", dir.display())))?.flatten() {
            let Some(bytes) = end_of(&entry.path()) else { continue };
            count += 1;
            let inside = |value: &str| bytes.windows(value.len().max(1)).any(|part| part == value.as_bytes());
            if let Some((name, _)) = secrets.iter().find(|(_, value)| inside(value.expose())) {
                return Err(fail(format!("{} contains the value of {name}", entry.path().display())));
            }
        }
        Ok(pass(format!("{count} files contain none of {} secrets", secrets.len())))
    }
}

fn end_of(path: &Path) -> Option<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path).ok().filter(|file| file.metadata().is_ok_and(|meta| meta.is_file()))?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES_MAX))).ok()?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_a_clean_journal() {
        Lab::new().await.passes(&NoSecrets).await;
    }

    #[tokio::test]
    async fn fails_with_a_leak() {
        let lab = Lab::new().await;
        std::fs::write(lab.node().join("debug.log"), "key secret-of-miner-0123456789 was used").unwrap();
        lab.fails(&NoSecrets, "debug.log contains the value of TEMPLAR_S3_SECRET_ACCESS_KEY").await;
    }
}
