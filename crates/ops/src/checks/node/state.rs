//! The private state on disk is whole, and fits the run.

use crate::check::prelude::*;
use templar_node::recipe;
use templar_node::state::StateDir;

/// The largest state that is loaded for a check.
const BYTES_MAX: u64 = 1 << 30;

/// The private state on disk is whole, and fits the run.
pub struct State;

#[async_trait(?Send)]
impl Check for State {
    fn about(&self) -> About {
        About::new(
            "node.state",
            "the private state loads",
            "a miner that cannot load its residual starts with an empty one, and loses what it has not sent yet",
            "take the state directory from a backup; or remove it, and start with an empty residual",
        )
        .live()
        .roles(&[Role::Miner])
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (found, dir) = (subject.run().await?, subject.state_dir()?);
        let parameters = found.run.hparams().model.parameter_count();
        if !dir.is_dir() {
            return Err(skip("there is no private state yet"));
        }
        if parameters.saturating_mul(12) > BYTES_MAX {
            return Err(skip(format!("the state of {parameters} parameters is too large to be loaded for a check")));
        }
        let config = recipe::llama(found.run.hparams(), None).map_err(|error| Missing::new(error.to_string(), "run.hyper_parameters"))?;
        let loading = tokio::task::spawn_blocking(move || StateDir::open(&dir)?.load(&config.params(), &found.run.id));
        match loading.await.map_err(|error| fail(format!("loading broke down: {error}")))? {
            Ok(Some((state, _))) => Ok(pass(format!("residual, moments and object of window {} load", state.window))),
            Ok(None) => Err(skip("there is no private state of this run yet")),
            Err(error) => Err(fail(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_whole() {
        Lab::new().await.passes(&State).await;
    }

    #[tokio::test]
    async fn fails_when_damaged() {
        let lab = Lab::new().await;
        let state = lab.node().join("state");
        let object = std::fs::read_dir(&state)
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|end| end == "tplr"))
            .unwrap();
        std::fs::write(object, "damaged").unwrap();
        lab.fails(&State, "is damaged").await;
    }
}
