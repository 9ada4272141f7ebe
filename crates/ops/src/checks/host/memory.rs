//! The machine has the memory that the run needs beside the engine's.

use crate::check::prelude::*;

/// The machine has the memory that the run needs beside the engine's.
pub struct Memory;

#[async_trait(?Send)]
impl Check for Memory {
    fn about(&self) -> About {
        About::new(
            "host.memory",
            "the machine has the memory that the run needs",
            "a node that runs out of memory is ended in the middle of a window",
            "use a machine with more memory, or a smaller model; `templar plan` shows what takes it",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let plan = subject.plan().await?;
        let has = subject.machine.available_bytes.ok_or_else(|| skip("this system does not say how much memory is available"))? as f64
            / (1u64 << 30) as f64;
        let needs = plan.host.total_gib;
        let sentence = format!("{has:.1} GiB are available, {needs:.2} GiB are needed");
        Err(if has >= 1.25 * needs {
            return Ok(pass(sentence));
        } else if has >= needs {
            warn(sentence)
        } else {
            fail(sentence)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_enough() {
        Lab::new().await.passes(&Memory).await;
    }

    #[tokio::test]
    async fn fails_with_too_little() {
        let mut lab = Lab::new().await;
        lab.subject.machine.available_bytes = Some(1 << 10);
        lab.fails(&Memory, "are needed").await;
    }
}
