//! Something keeps this machine's clock in time.

use crate::check::prelude::*;

/// Something keeps this machine's clock in time.
pub struct Kept;

#[async_trait(?Send)]
impl Check for Kept {
    fn about(&self) -> About {
        About::new(
            "time.kept",
            "a service keeps this machine's clock in time",
            "a clock that is right today drifts by seconds in a week",
            "enable systemd-timesyncd or chrony",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        match subject.machine.clock_kept {
            Some(true) => Ok(pass("a time service has set the clock")),
            Some(false) => Err(warn("no time service has set the clock since the machine was started")),
            None => Err(skip("this system does not say whether its clock is kept")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_kept() {
        Lab::new().await.passes(&Kept).await;
    }

    #[tokio::test]
    async fn warns_when_not() {
        let mut lab = Lab::new().await;
        lab.subject.machine.clock_kept = Some(false);
        lab.warns(&Kept, "no time service").await;
    }
}
