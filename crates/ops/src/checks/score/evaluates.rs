//! A validator measures miners.

use crate::check::prelude::*;
use templar_node::journal::Entry;

/// A validator measures miners.
pub struct Evaluates;

#[async_trait(?Send)]
impl Check for Evaluates {
    fn about(&self) -> About {
        About::new(
            "score.evaluates",
            "the validator measures miners",
            "weights without measurements are guesses, and cost the validator its trust",
            "see the journal's warnings; a validator measures only windows that it has collected live",
        )
        .live()
        .roles(&Role::VALIDATORS)
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let tail = subject.journal().await?;
        let newest = tail.lines.iter().rev().find_map(|line| match &line.entry {
            Entry::Evaluated { window, .. } => Some(*window),
            _ => None,
        });
        let now = subject.window().await?;
        let newest = newest.ok_or_else(|| fail("the journal tells of no measurement"))?;
        let sentence = format!("the last measurement is of window {newest}, now is window {now}");
        if now.0.saturating_sub(newest.0) <= 3 { Ok(pass(sentence)) } else { Err(fail(sentence)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;
    use templar_protocol::Window;

    #[tokio::test]
    async fn passes_after_a_measurement() {
        let mut lab = Lab::new().await.leading();
        lab.journal(9, Entry::Evaluated { window: Window(7), evaluation: Default::default() });
        lab.passes(&Evaluates).await;
    }

    #[tokio::test]
    async fn fails_without_one_and_with_an_old_one() {
        let mut lab = Lab::new().await.leading();
        lab.fails(&Evaluates, "no measurement").await;
        lab.journal(9, Entry::Evaluated { window: Window(2), evaluation: Default::default() });
        lab.fails(&Evaluates, "of window 2").await;
    }
}
