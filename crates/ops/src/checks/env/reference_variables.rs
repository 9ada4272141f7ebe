//! The environment is not one that was made for the Python Templar, whose variables nothing here reads.

use crate::check::prelude::*;

/// The environment is not one that was made for the Python Templar, whose variables nothing here reads.
pub struct ReferenceVariables;

#[async_trait(?Send)]
impl Check for ReferenceVariables {
    fn about(&self) -> About {
        About::new(
            "env.reference_variables",
            "no variables of the Python Templar are set in the belief that they configure this node",
            "R2_ and WANDB_ variables have no effect on this program",
            "take them over once with `templar setup --import FILE`, then remove them",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let theirs = |name: &&str| ["R2_", "WANDB_", "DATASET_"].iter().any(|prefix| name.starts_with(prefix));
        let found: Vec<&str> = subject.variables.names().filter(theirs).collect();
        if found.is_empty() {
            return Ok(pass("no variables of the Python Templar are set"));
        }
        Err(warn(format!("{} variables of the Python Templar are set and not read, the first is {}", found.len(), found[0])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_without_them() {
        Lab::new().await.passes(&ReferenceVariables).await;
    }

    #[tokio::test]
    async fn warns_of_them() {
        let mut lab = Lab::new().await;
        lab.subject.variables.set("R2_GRADIENTS_ACCOUNT_ID", "0123");
        lab.warns(&ReferenceVariables, "R2_GRADIENTS_ACCOUNT_ID").await;
    }
}
