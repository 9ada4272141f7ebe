//! With GPUs, the process may lock the memory through which they are fed.

use crate::check::prelude::*;
use templar_engine::EngineKind;

/// With GPUs, the process may lock the memory through which they are fed.
pub struct LockedMemory;

#[async_trait(?Send)]
impl Check for LockedMemory {
    fn about(&self) -> About {
        About::new(
            "host.locked_memory",
            "the process may lock memory, where GPUs are fed from it",
            "transfers from memory that is not locked take a detour and several times as long",
            "raise the limit: LimitMEMLOCK=infinity in a systemd unit, or ulimit -l",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        if subject.engine().await?.kind == EngineKind::Cpu {
            return Ok(pass("the processor is the engine, which locks nothing"));
        }
        judge(subject.machine.locked_bytes)
    }
}

fn judge(limit: Option<u64>) -> Outcome {
    match limit {
        None => Err(skip("this system does not tell its limit of locked memory")),
        Some(u64::MAX) => Ok(pass("any memory may be locked")),
        Some(bytes) => Err(warn(format!("{bytes} bytes may be locked"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_without_gpus() {
        Lab::new().await.passes(&LockedMemory).await;
        assert!(judge(Some(u64::MAX)).is_ok());
    }

    #[tokio::test]
    async fn warns_with_a_low_limit_and_skips_without_an_engine() {
        let mut lab = Lab::new().await;
        assert_eq!(judge(Some(1 << 16)).unwrap_err().verdict, crate::check::Verdict::Warn);
        lab.subject.settings.engine = templar_engine::EngineRequest { plugin: Some("/nowhere.so".into()), ..Default::default() };
        assert_eq!(lab.finds(&LockedMemory).await.verdict, crate::check::Verdict::Skip);
    }
}
