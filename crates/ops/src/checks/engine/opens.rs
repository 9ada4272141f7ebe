//! The engine that would train can be opened.

use crate::check::prelude::*;

/// The engine that would train can be opened.
pub struct Opens;

#[async_trait(?Send)]
impl Check for Opens {
    fn about(&self) -> About {
        About::new(
            "engine.opens",
            "the engine opens",
            "a plugin that does not fit driver or processor is found at its first start",
            "`templar engine check` shows the same with more detail; `templar engine list` shows what is installed",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let engine = subject.engine().await.map_err(|missing| missing.failure("engine.opens"))?;
        Ok(pass(engine.line.clone()).with("devices", engine.devices.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use templar_engine::EngineRequest;

    #[tokio::test]
    async fn passes_on_the_processor() {
        Lab::new().await.passes(&Opens).await;
    }

    #[tokio::test]
    async fn fails_with_a_plugin_that_is_not_there() {
        let mut lab = Lab::new().await;
        lab.subject.settings.engine = EngineRequest { plugin: Some("/nowhere/plugin.so".into()), ..EngineRequest::default() };
        lab.fails(&Opens, "/nowhere/plugin.so").await;
    }
}
