//! The report for people.

use super::{Basis, Effect, Outcome, Report};
use std::fmt::Write as _;

impl Report {
    /// One gate a line, then the numbers.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "object {} of uid {} in window {}, {} bytes", self.object.short(), self.uid, self.window, self.bytes)?;
        for gate in &self.gates {
            let word = match gate.outcome {
                Outcome::Passed => "passes",
                Outcome::Failed => "FAILS",
                Outcome::NotPossible => "not examined",
            };
            writeln!(out, "  {:<16} {word:<12} {}", gate.name, gate.said)?;
        }
        if let Some(numbers) = &self.numbers {
            writeln!(out)?;
            effect(out, "random data", &numbers.random)?;
            effect(out, "own data", &numbers.own)?;
            if let Some(advantage) = numbers.advantage {
                writeln!(
                    out,
                    "  {:<16} {advantage:.3} of own and random sequences in pairs; 0.5 without training on own data",
                    "advantage"
                )?;
            }
            let loudness = numbers.loudness.map_or_else(String::new, |ratio| format!(", {ratio:.2} of the median of its window"));
            writeln!(
                out,
                "  {:<16} {:.3}{loudness}; {} of {} parameters are clipped",
                "norm", numbers.norm, numbers.clipped[0], numbers.clipped[1]
            )?;
            if let Some(agreement) = numbers.agreement {
                writeln!(out, "  {:<16} {agreement:.3} with the sum of its window's other objects", "cosine")?;
            }
            writeln!(
                out,
                "  {:<16} {} objects alike, in its window and {} before",
                "likeness",
                numbers.alike.len(),
                numbers.compared_windows
            )?;
            let credit = numbers.credit.map_or_else(|| "it would not count".to_owned(), |credit| format!("{credit:.2} of a window"));
            writeln!(out, "  {:<16} {credit}", "credit")?;
            writeln!(out, "  {:<16} {}", "in words", numbers.reason)?;
        }
        self.write_basis(out)?;
        out.push_str(match self.outcome() {
            Outcome::Passed => "it passes every gate\n",
            Outcome::Failed => "it does not pass\n",
            Outcome::NotPossible => "nothing speaks against it, but not everything could be examined\n",
        });
        Ok(())
    }

    fn write_basis(&self, out: &mut String) -> std::fmt::Result {
        match &self.basis {
            None => Ok(()),
            Some(Basis::Scored { validator, apart: Some(apart) }) => {
                writeln!(
                    out,
                    "\njudged in the window that validator {validator} has scored; its losses of this object are at most {apart:.1e} apart"
                )
            }
            Some(Basis::Scored { validator, apart: None }) => {
                writeln!(out, "\njudged in the window that validator {validator} has scored, which did not measure this object")
            }
            Some(Basis::Forecast { seed, clip_window, state_window }) => {
                let clip = clip_window.map_or_else(|| "nothing is clipped".to_owned(), |window| format!("clipped as in window {window}"));
                let state = state_window
                    .map_or_else(|| "a validator without history".to_owned(), |window| format!("the scores after window {window}"));
                writeln!(
                    out,
                    "\na forecast: sequences drawn by {} for a block that is not there yet; {clip}; {state}; other miners' objects are not known",
                    seed.short()
                )
            }
        }
    }
}

fn effect(out: &mut String, what: &str, effect: &Effect) -> std::fmt::Result {
    let bounds = effect
        .interval
        .map_or_else(|| "one sequence shows no spread".to_owned(), |[low, high]| format!("95 % within {low:.5} and {high:.5}"));
    writeln!(
        out,
        "  {what:<16} loss {:.5} → {:.5}, score {:.5} ({bounds}, {} sequences)",
        effect.before, effect.after, effect.score, effect.sequences
    )
}
