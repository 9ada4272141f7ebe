//! A new phrase is handed over once, before its key is written: shown on a screen of its own and confirmed by some of its words, or put into a
//! private file. After that it is in the key file alone, which for a coldkey is encrypted.

use super::{flags::PlanFlags, source::at_terminal};
use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use std::{
    fmt::Write as _,
    io::{BufRead, Write},
    path::PathBuf,
};
use templar_wallet::{Phrase, SecretText, Slot, files::write_private};

/// How many words a person repeats.
const REPEATED: usize = 3;
/// How often one may be mistyped.
const ATTEMPTS: usize = 3;
/// The terminal's second screen keeps what is on it out of the scroll-back.
const ENTER_SECOND_SCREEN: &str = "\x1b[?1049h";
const LEAVE_SECOND_SCREEN: &str = "\x1b[?1049l";
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Where the phrase of a new key goes.
#[derive(Clone, Debug, Default, Args)]
pub struct PhraseFlags {
    /// Write the phrase to this new file, with mode 0600, instead of showing it.
    #[arg(long, value_name = "FILE", help_heading = "Phrase")]
    phrase_file: Option<PathBuf>,
    /// Do not hand the phrase over: it is in the key file only.
    #[arg(long, conflicts_with = "phrase_file", help_heading = "Phrase")]
    no_phrase: bool,
}

/// A key whose phrase nobody has seen yet.
pub struct Unseen<'a> {
    /// Which key.
    pub slot: &'a Slot,
    /// Its phrase.
    pub phrase: &'a Phrase,
    /// Whether its file will be encrypted, so that without phrase or password it is lost.
    pub encrypted: bool,
}

impl PhraseFlags {
    /// Whether the flags and the surroundings say where the phrases of keys go; `encrypted` when one of them is to be encrypted.
    ///
    /// # Errors
    /// Nobody would get them.
    pub fn check(&self, encrypted: bool) -> miette::Result<()> {
        if self.phrase_file.is_some() || self.no_phrase || at_terminal() || !encrypted {
            return Ok(());
        }
        let help = "give --phrase-file FILE to have it written there, or --no-phrase to have it in the encrypted key file only";
        Err(miette!(help = help, "the phrase of the new key is shown once, on a terminal, and there is none; nothing was written"))
    }

    /// Hands phrases over, before any key is written.
    ///
    /// # Errors
    /// The file cannot be written, or a person does not confirm.
    pub fn hand_over(&self, keys: &[Unseen], plan: &PlanFlags) -> miette::Result<()> {
        self.check(keys.iter().any(|key| key.encrypted))?;
        if let Some(path) = &self.phrase_file {
            let mut lines = String::with_capacity(4096);
            for key in keys {
                let _ = writeln!(lines, "{}: {}", key.slot, key.phrase.expose().expose());
            }
            let lines = SecretText::new(lines);
            return write_private(path, lines.expose().as_bytes()).into_diagnostic().wrap_err("the phrase was not written, nor the key");
        }
        if self.no_phrase || !at_terminal() {
            return Ok(());
        }
        for key in keys {
            let positions = draw(key.phrase.word_count())?;
            let (input, output) = (&mut std::io::stdin().lock(), &mut std::io::stderr());
            let confirmed = on_second_screen(output, |output| {
                show(key, input, output)?;
                Ok(plan.yes || confirm(key.phrase, &positions, input, output)?)
            });
            if !confirmed.into_diagnostic()? {
                return Err(miette!(
                    help = "run the command again: it makes another phrase",
                    "the phrase was not confirmed; nothing was written"
                ));
            }
        }
        Ok(())
    }
}

/// Different positions of words, in their order.
fn draw(words: usize) -> miette::Result<Vec<usize>> {
    let mut positions = std::collections::BTreeSet::new();
    while positions.len() < REPEATED.min(words) {
        let mut byte = [0];
        getrandom::fill(&mut byte).map_err(|error| miette!("the operating system's random source failed: {error}"))?;
        positions.insert(usize::from(byte[0]) % words);
    }
    Ok(positions.into_iter().collect())
}

/// Runs `work` on the terminal's second screen, and comes back from it whatever happens.
fn on_second_screen<T, W: Write>(output: &mut W, work: impl FnOnce(&mut W) -> std::io::Result<T>) -> std::io::Result<T> {
    write!(output, "{ENTER_SECOND_SCREEN}{CLEAR}")?;
    let done = work(output);
    write!(output, "{CLEAR}{LEAVE_SECOND_SCREEN}")?;
    output.flush()?;
    done
}

/// Shows a phrase until Enter is pressed.
fn show(key: &Unseen, input: &mut dyn BufRead, output: &mut dyn Write) -> std::io::Result<()> {
    write!(output, "The phrase of the {}:\n\n", key.slot)?;
    for (index, word) in key.phrase.expose().expose().split(' ').enumerate() {
        write!(output, "{:>4}. {word:<10}{}", index + 1, if index % 4 == 3 { "\n" } else { "" })?;
    }
    let warning = "Write it on paper: whoever has it has the key, and nothing else brings a lost key back.";
    write!(output, "\n\n{warning}\nIt is not shown again, and some of its words are asked for. Press Enter.")?;
    output.flush()?;
    input.read_line(&mut String::new())?;
    write!(output, "{CLEAR}")
}

/// Asks for the words at `positions`, counted from 0; whether all came.
fn confirm(phrase: &Phrase, positions: &[usize], input: &mut dyn BufRead, output: &mut dyn Write) -> std::io::Result<bool> {
    let text = phrase.expose();
    for position in positions {
        let word = text.expose().split(' ').nth(*position).unwrap_or_default();
        let mut came = false;
        for attempt in 1..=ATTEMPTS {
            write!(output, "{}Word {} of the phrase: ", if attempt > 1 { "Not that one. " } else { "" }, position + 1)?;
            output.flush()?;
            let mut line = String::with_capacity(64);
            if input.read_line(&mut line)? == 0 {
                return Ok(false);
            }
            came = SecretText::new(line).expose().trim().eq_ignore_ascii_case(word);
            if came {
                break;
            }
        }
        if !came {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHRASE: &str = "bottom drive obey lake curtain smoke basket hold race lonely fit walk";

    fn answered(lines: &str) -> (bool, String) {
        let phrase = Phrase::parse(PHRASE).expect("it is valid");
        let mut output = Vec::new();
        let confirmed = confirm(&phrase, &[0, 5, 11], &mut lines.as_bytes(), &mut output).expect("memory can be read");
        (confirmed, String::from_utf8(output).expect("it is text"))
    }

    #[test]
    fn three_words_confirm_and_mistakes_may_be_mended() {
        let (confirmed, asked) = answered("bottom\n SMOKE \nwalk\n");
        assert!(confirmed);
        assert_eq!(asked, "Word 1 of the phrase: Word 6 of the phrase: Word 12 of the phrase: ");
        assert!(answered("bottle\nbottom\nsmoke\nwalk\n").0);
        assert!(!answered("a\nb\nc\nbottom\nsmoke\nwalk\n").0, "three mistakes are too many");
        assert!(!answered("bottom\nsmoke\n").0, "the input ended");
    }

    #[test]
    fn a_phrase_is_shown_whole_on_a_screen_of_its_own() {
        let (phrase, slot) = (Phrase::parse(PHRASE).expect("it is valid"), Slot::coldkey("w"));
        let mut output = Vec::new();
        let key = Unseen { slot: &slot, phrase: &phrase, encrypted: true };
        on_second_screen(&mut output, |output| show(&key, &mut "\n".as_bytes(), output)).expect("memory can be written");
        let text = String::from_utf8(output).expect("it is text");
        assert!(text.starts_with(ENTER_SECOND_SCREEN) && text.ends_with(LEAVE_SECOND_SCREEN));
        let failed = on_second_screen(&mut Vec::new(), |_| Err::<(), _>(std::io::Error::other("lost")));
        assert!(failed.is_err());
        for (index, word) in PHRASE.split(' ').enumerate() {
            assert!(text.contains(&format!("{}. {word}", index + 1)), "{word}");
        }
    }

    #[test]
    fn positions_differ_and_lie_within_the_phrase() {
        for words in templar_wallet::PHRASE_WORDS {
            let positions = draw(words).expect("there are random bytes");
            assert!(positions.len() == REPEATED && positions.windows(2).all(|pair| pair[0] < pair[1]) && positions[2] < words);
        }
    }
}
