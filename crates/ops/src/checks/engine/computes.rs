//! Every device of the engine computes the known result of a program.

use crate::check::prelude::*;
use std::time::Duration;
use templar_engine::Engine;
use templar_engine::check::{CheckLimits, check};

/// Every device of the engine computes the known result of a program.
pub struct Computes;

#[async_trait(?Send)]
impl Check for Computes {
    fn about(&self) -> About {
        About::new(
            "engine.computes",
            "every device computes what it should",
            "a device that computes something else trains another model, silently",
            "update the driver, leave the device out with --devices, or use --engine cpu",
        )
        .alone()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let engine = subject.engine().await?;
        let checked = tokio::task::spawn_blocking(move || examine(&engine)).await;
        checked.map_err(|error| fail(format!("the engine broke down: {error}")))?
    }
}

fn examine(engine: &Engine) -> Outcome {
    let (long_enough, measure_for) = (Duration::from_millis(20), Duration::from_millis(100));
    let limits = CheckLimits { side_max: 1024, elements_max: 1 << 22, long_enough, measure_for };
    let report = check(engine, limits).map_err(|error| fail(error.to_string()))?;
    let worst = report.devices.iter().map(|device| device.error).fold(0.0, f64::max);
    let tflops = report.devices.iter().map(|device| device.matrix_tflops).fold(f64::INFINITY, f64::min);
    let sentence = format!("{} devices differ by at most {worst:.1e} and reach {tflops:.3} TFLOP/s", report.devices.len());
    Ok(pass(sentence).with("error", worst).with("tflops", tflops))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use std::sync::Arc;
    use templar_engine::{Device, EngineKind};
    use templar_tensor::{Array, Error, Executable, Executor, Program, Result, Tensor};

    /// An executor that compiles nothing.
    struct Broken;

    impl Executor for Broken {
        fn name(&self) -> &str {
            "broken"
        }

        fn compile(&self, _: &Program) -> Result<Box<dyn Executable>> {
            Err(Error::Device { device: "broken".into(), reason: "it is broken".into() })
        }

        fn upload(&self, tensor: Tensor) -> Result<Array> {
            Ok(tensor.into())
        }

        fn download(&self, array: Array) -> Result<Tensor> {
            array.into_host()
        }
    }

    #[tokio::test]
    async fn passes_on_the_processor() {
        Lab::new().await.passes(&Computes).await;
    }

    #[tokio::test]
    async fn fails_on_a_device_that_does_not_compute() {
        let device = Device { id: 0, name: "broken".into(), memory_bytes: None };
        let engine = Engine { executor: Arc::new(Broken), kind: EngineKind::Pjrt, devices: vec![device], line: String::new() };
        let finding = examine(&engine).unwrap_err();
        assert!(finding.verdict == crate::check::Verdict::Fail && finding.sentence.contains("it is broken"), "{finding:?}");
    }
}
