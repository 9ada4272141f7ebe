//! No variable with this program's prefix is set that nothing reads: most likely a misspelt one.

use crate::check::prelude::*;
use crate::settings::VARIABLES;

/// No variable with this program's prefix is set that nothing reads: most likely a misspelt one.
pub struct UnknownVariables;

#[async_trait(?Send)]
impl Check for UnknownVariables {
    fn about(&self) -> About {
        About::new(
            "env.unknown_variables",
            "every TEMPLAR_ variable that is set is read by something",
            "a misspelt variable has no effect, and the default that stands in for it does the wrong thing silently",
            "correct the name, or unset it; `templar setup --print-env-template` lists all names",
        )
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let known = |name: &str| VARIABLES.iter().any(|variable| variable.name == name);
        let unknown: Vec<&str> = subject.variables.names().filter(|name| name.starts_with("TEMPLAR_") && !known(name)).collect();
        if unknown.is_empty() {
            return Ok(pass("every TEMPLAR_ variable that is set is known"));
        }
        Err(warn(format!("nothing reads {}", unknown.join(", "))).with("unknown", unknown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_with_known_names() {
        Lab::new().await.passes(&UnknownVariables).await;
    }

    #[tokio::test]
    async fn warns_of_a_misspelt_one_and_shows_no_value() {
        let mut lab = Lab::new().await;
        lab.subject.variables.set("TEMPLAR_BUKCET", "hidden-value");
        lab.warns(&UnknownVariables, "nothing reads TEMPLAR_BUKCET").await;
        assert!(!format!("{:?}", lab.finds(&UnknownVariables).await).contains("hidden-value"));
    }
}
