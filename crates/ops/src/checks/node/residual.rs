//! The residual is finite, not absurdly large, and of a recent window.

use crate::check::prelude::*;
use templar_node::recipe;
use templar_node::state::StateDir;

/// The largest state that is loaded for a check.
const BYTES_MAX: u64 = 1 << 30;
/// Windows after which a residual is old: with the usual decay of 0.95 a window, less than a twentieth of it counts.
const OLD: u64 = 60;

/// The residual is finite, not absurdly large, and of a recent window.
pub struct Residual;

#[async_trait(?Send)]
impl Check for Residual {
    fn about(&self) -> About {
        About::new(
            "node.residual",
            "the residual is finite and recent",
            "a residual that is no number poisons every object that follows, and an old one points where θ was long ago",
            "stop the miner and remove its state directory; it starts with an empty residual",
        )
        .live()
        .roles(&[Role::Miner])
    }

    async fn run(&self, subject: &Subject) -> Outcome {
        let (found, dir, now) = (subject.run().await?, subject.state_dir()?, subject.window().await?);
        let config = recipe::llama(found.run.hparams(), None).map_err(|error| Missing::new(error.to_string(), "run.hyper_parameters"))?;
        if !dir.is_dir() || found.run.hparams().model.parameter_count().saturating_mul(12) > BYTES_MAX {
            return Err(skip("there is no private state yet, or it is too large to be loaded for a check"));
        }
        let loading = tokio::task::spawn_blocking(move || StateDir::open(&dir)?.load(&config.params(), &found.run.id));
        let loaded = loading.await.map_err(|error| fail(format!("loading broke down: {error}")))?;
        let Some((state, _)) = loaded.map_err(|error| Missing::new(error.to_string(), "node.state"))? else {
            return Err(skip("there is no private state of this run yet"));
        };
        let values = || state.residual.iter().flatten().copied();
        if let Some(bad) = values().find(|value| !value.is_finite()) {
            return Err(fail(format!("the residual contains {bad}")));
        }
        let norm = values().map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        let largest = values().fold(0.0f32, |most, value| most.max(value.abs()));
        let age = now.0.saturating_sub(state.window.0);
        let sentence = format!("norm {norm:.3}, largest value {largest:.3e}, {age} windows old");
        if age > OLD {
            return Err(warn(sentence));
        }
        Ok(pass(sentence).with("norm", norm).with("age_windows", age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[tokio::test]
    async fn passes_when_finite() {
        Lab::new().await.passes(&Residual).await;
    }

    #[tokio::test]
    async fn fails_when_not_and_warns_when_old() {
        let mut lab = Lab::new().await;
        let mut state = lab.state();
        state.residual[0][0] = f32::INFINITY;
        lab.save(state);
        lab.fails(&Residual, "contains inf").await;
        lab.save(lab.state());
        lab.close_blocks(300);
        lab.warns(&Residual, "windows old").await;
    }
}
