//! The process may have enough files and connections open.

use crate::check::prelude::*;

/// The process may have enough files and connections open.
pub struct OpenFiles;

#[async_trait(?Send)]
impl Check for OpenFiles {
    fn about(&self) -> About {
        About::new(
            "host.open_files",
            "the process may open enough files and connections",
            "each peer is a connection; at the limit new ones fail as if the network were away",
            "raise the limit: LimitNOFILE= in a systemd unit, or ulimit -n",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let limit = subject.machine.open_files.ok_or_else(|| skip("this system does not tell its limit of open files"))?;
        let sentence = format!("{limit} files may be open");
        Err(match limit {
            4096.. => return Ok(pass(sentence)),
            1024..4096 => warn(sentence),
            _ => fail(sentence),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_a_high_limit() {
        Lab::new().await.passes(&OpenFiles).await;
    }

    #[tokio::test]
    async fn fails_with_a_low_one() {
        let mut lab = Lab::new().await;
        lab.subject.machine.open_files = Some(256);
        lab.fails(&OpenFiles, "256 files").await;
        lab.subject.machine.open_files = Some(1024);
        lab.warns(&OpenFiles, "1024 files").await;
    }
}
