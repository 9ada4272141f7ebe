//! The residual is finite, not absurdly large, and of a recent window.

use crate::check::prelude::*;
use templar_node::journal::WindowEntry;
use templar_node::recipe;
use templar_node::state::StateDir;
use templar_protocol::Window;

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
        if !dir.is_dir() {
            return Err(skip("there is no private state yet"));
        }
        if found.run.hparams().model.parameter_count().saturating_mul(12) > BYTES_MAX {
            return of_journal(subject.windows(OLD as usize).await?, now);
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

/// What the miner itself has measured of a residual that is too large to be loaded for a check.
fn of_journal(windows: Vec<WindowEntry>, now: Window) -> Outcome {
    let trained = windows.iter().rev().find_map(|entry| Some((entry.window, entry.training.as_ref()?)));
    let Some((window, training)) = trained else { return Err(skip("no window with training yet")) };
    if training.residual_not_finite > 0 {
        return Err(fail(format!(
            "{} values of the residual are not finite, as the miner says of window {window}",
            training.residual_not_finite
        )));
    }
    let (norm, age) = (training.residual_norm, now.0.saturating_sub(window.0));
    let sentence = format!("norm {norm:.3}, largest value {:.3e}, {age} windows old, as the miner says", training.residual_largest);
    if age > OLD { Err(warn(sentence)) } else { Ok(pass(sentence).with("norm", norm).with("age_windows", age)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::*;

    #[test]
    fn a_large_residual_is_judged_by_the_miners_own_word() {
        let window = |not_finite| {
            let training = templar_node::journal::TrainingEntry { residual_not_finite: not_finite, ..Default::default() };
            vec![WindowEntry { window: Window(7), training: Some(training), ..WindowEntry::default() }]
        };
        assert!(of_journal(window(0), Window(9)).is_ok());
        assert!(of_journal(window(3), Window(9)).unwrap_err().sentence.contains("3 values of the residual are not finite"));
        assert_eq!(of_journal(window(0), Window(99)).unwrap_err().verdict, crate::check::Verdict::Warn);
        assert_eq!(of_journal(vec![], Window(9)).unwrap_err().verdict, crate::check::Verdict::Skip);
    }

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
