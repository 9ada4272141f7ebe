//! A GPU in the machine is used, and its driver is new enough for a plugin.

use crate::check::prelude::*;
use templar_engine::{EngineKind, Package};

/// A GPU in the machine is used, and its driver is new enough for a plugin.
pub struct Driver;

#[async_trait(?Send)]
impl Check for Driver {
    fn about(&self) -> About {
        About::new(
            "engine.driver",
            "a GPU of this machine is used",
            "with a GPU left idle the processor trains, some hundred times slower",
            "`templar engine install cuda13` (or cuda12 for older drivers), or update the driver",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let Some(driver) = subject.engines.nvidia() else {
            return Ok(pass("there is no NVIDIA driver, so no GPU is left idle"));
        };
        let least = Package::Cuda12.least_driver();
        if driver.major.is_some_and(|major| major < least) {
            return Err(fail(format!("the NVIDIA driver {driver} is older than {least}, which the oldest plugin needs")));
        }
        match subject.engine().await?.kind {
            EngineKind::Pjrt => Ok(pass(format!("the engine uses the GPUs of driver {driver}"))),
            EngineKind::Cpu => Err(warn(format!("there is an NVIDIA driver {driver}, but the engine is the processor"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_without_a_gpu() {
        Lab::new().await.passes(&Driver).await;
    }

    #[tokio::test]
    async fn fails_with_an_old_driver_and_warns_of_an_idle_gpu() {
        let mut lab = Lab::new().await;
        lab.subject.engines = templar_engine::Environment::empty().with_nvidia(Some("390.1"));
        lab.fails(&Driver, "driver 390.1 is older").await;
        lab.subject.engines = templar_engine::Environment::empty().with_nvidia(Some("580.1"));
        lab.warns(&Driver, "the engine is the processor").await;
    }
}
