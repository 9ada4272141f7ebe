//! Nothing else uses the machine.

use crate::check::prelude::*;

/// Nothing else uses the machine.
pub struct Load;

#[async_trait(?Send)]
impl Check for Load {
    fn about(&self) -> About {
        About::new(
            "host.load",
            "the machine is not busy with something else",
            "a window has no time to spare for other programs",
            "end the other programs before the node starts",
        )
        .preflight()
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let load = subject.machine.load.ok_or_else(|| skip("this system does not tell its load"))?;
        let cores = subject.machine.cores;
        let sentence = format!("the load is {load:.1} on {cores} cores");
        if load <= 0.75 * cores as f64 { Ok(pass(sentence)) } else { Err(warn(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_idle() {
        Lab::new().await.passes(&Load).await;
    }

    #[tokio::test]
    async fn warns_when_busy() {
        let mut lab = Lab::new().await;
        lab.subject.machine.load = Some(7.0);
        lab.warns(&Load, "the load is 7.0").await;
    }
}
