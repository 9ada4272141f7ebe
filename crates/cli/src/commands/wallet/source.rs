//! Where secrets come from: a prompt, a file, a descriptor; from the argument list only under protest.
//!
//! What always holds: a secret that was given in a place where others can read it is not used, unless that was insisted on; none is repeated
//! in a message; reading is bounded.

use miette::{IntoDiagnostic, WrapErr, miette};
use std::{
    convert::Infallible,
    fmt,
    fs::File,
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
    str::FromStr,
};
use templar_wallet::{SecretText, files::is_private};
use zeroize::Zeroizing;

/// Longest secret: an export of a browser wallet is a few kilobytes.
const BYTES_MAX: u64 = 64 * 1024;
/// What a flag without a value stands for.
pub const ASK: &str = "prompt:";

/// Where one secret is to be read.
#[derive(Clone)]
pub enum SecretSource {
    /// From the terminal, without echo.
    Prompt,
    /// From an open file descriptor.
    Descriptor(u32),
    /// From a file.
    File(PathBuf),
    /// It is in the argument list.
    Given(SecretText),
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prompt => f.write_str("Prompt"),
            Self::Descriptor(number) => write!(f, "Descriptor({number})"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Given(_) => f.write_str("Given(***)"),
        }
    }
}

impl FromStr for SecretSource {
    /// Every text means something: an error would repeat it.
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        if text == ASK {
            return Ok(Self::Prompt);
        }
        if text == "-" {
            return Ok(Self::Descriptor(0));
        }
        let number = text.strip_prefix("fd:").and_then(|number| number.parse().ok());
        let file = text.strip_prefix("file:").map(PathBuf::from);
        Ok(number.map(Self::Descriptor).or(file.map(Self::File)).unwrap_or_else(|| Self::Given(text.into())))
    }
}

impl SecretSource {
    /// The words of one flag as one source: a phrase that was not quoted arrives as many.
    pub fn joined(words: &[Self]) -> Self {
        match words {
            [] => Self::Prompt,
            [one] => one.clone(),
            many => {
                let texts = many.iter().filter_map(|word| if let Self::Given(text) = word { Some(text.expose()) } else { None });
                Self::Given(SecretText::new(texts.collect::<Vec<_>>().join(" ")))
            }
        }
    }

    /// Reads the secret; `what` names it for people, `forced` lets it come from the argument list.
    ///
    /// # Errors
    /// It cannot be read, or is where it should not be.
    pub fn read(&self, what: &str, forced: bool) -> miette::Result<SecretText> {
        let text = match self {
            Self::Prompt => ask(&format!("{what}: "))?,
            Self::Descriptor(number) => read_descriptor(*number).wrap_err_with(|| format!("the {what} cannot be read"))?,
            Self::File(path) => read_file(path).wrap_err_with(|| format!("the {what} cannot be read"))?,
            Self::Given(text) if forced => text.clone(),
            Self::Given(_) => return Err(in_arguments(what)),
        };
        Ok(text.trimmed())
    }
}

fn in_arguments(what: &str) -> miette::Report {
    miette!(
        help = "leave the value out to be asked, or name where it is: file:PATH, fd:NUMBER, or - for standard input. \
                --secret-in-arguments takes it from the arguments all the same",
        "the {what} stands among the arguments, which every user of this machine can read and the shell keeps; nothing was done with it"
    )
}

/// Whether somebody sits at a terminal.
pub fn at_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks at the terminal, without echo.
///
/// # Errors
/// There is none.
pub fn ask(prompt: &str) -> miette::Result<SecretText> {
    if !at_terminal() {
        let what = prompt.trim_end_matches([':', ' ']);
        return Err(miette!(help = "give a file or a descriptor; see --help", "there is no terminal to ask for the {what}"));
    }
    rpassword::prompt_password(prompt).map(SecretText::new).into_diagnostic().wrap_err("the terminal cannot be read")
}

/// All of an open descriptor of this process.
///
/// # Errors
/// It is not open, too long, or not UTF-8.
pub fn read_descriptor(number: u32) -> miette::Result<SecretText> {
    if number == 0 {
        return read_text(std::io::stdin().lock()).wrap_err("standard input");
    }
    let opened = File::open(format!("/dev/fd/{number}")).into_diagnostic();
    read_text(opened.wrap_err_with(|| format!("descriptor {number} is not open"))?).wrap_err_with(|| format!("descriptor {number}"))
}

/// All of a file; one that others may read is taken with a warning.
///
/// # Errors
/// It is not there, too long, or not UTF-8.
pub fn read_file(path: &Path) -> miette::Result<SecretText> {
    let opened = File::open(path).into_diagnostic().wrap_err_with(|| format!("{} cannot be opened", path.display()))?;
    if !is_private(path) && path.is_file() {
        eprintln!("warning: other users may read {}; make it private with: chmod 600 {}", path.display(), path.display());
    }
    read_text(opened).wrap_err_with(|| path.display().to_string())
}

fn read_text(from: impl Read) -> miette::Result<SecretText> {
    // Room for all of it at once: growing would leave copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES_MAX as usize + 1));
    from.take(BYTES_MAX + 1).read_to_end(&mut bytes).into_diagnostic()?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(miette!("it is longer than {BYTES_MAX} bytes and so no secret of a wallet"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| miette!("it is not UTF-8 text"))?;
    Ok(SecretText::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> SecretSource {
        let Ok(source) = text.parse();
        source
    }

    #[test]
    fn every_spelling_is_a_source_and_none_shows_a_secret() {
        let shown = |text: &str| format!("{:?}", source(text));
        assert_eq!(shown("prompt:"), "Prompt");
        assert_eq!(shown("-"), "Descriptor(0)");
        assert_eq!(shown("fd:7"), "Descriptor(7)");
        assert_eq!(shown("file:/a/b"), "File(/a/b)");
        for secret in ["fd:seven", "bottom", "0x11", ""] {
            assert_eq!(shown(secret), "Given(***)");
        }
    }

    #[test]
    fn a_phrase_without_quotes_is_one_secret() {
        let joined = SecretSource::joined(&["bottom", "drive", "obey"].map(source));
        assert_eq!(joined.read("phrase", true).expect("forced").expose(), "bottom drive obey");
        let refused = joined.read("phrase", false).expect_err("it is among the arguments");
        let text = format!("{refused:?}");
        assert!(text.contains("every user of this machine") && !text.contains("drive"), "{text}");
    }

    #[test]
    fn files_are_read_with_a_bound() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("secret");
        std::fs::write(&path, "  the secret\r\n").expect("it can be written");
        assert_eq!(SecretSource::File(path.clone()).read("x", false).expect("it is there").expose(), "the secret");
        std::fs::write(&path, vec![b'a'; 70_000]).expect("it can be written");
        assert!(SecretSource::File(path.clone()).read("x", false).is_err());
        std::fs::write(&path, [0xff, 0xfe]).expect("it can be written");
        assert!(SecretSource::File(path).read("x", false).is_err());
        assert!(SecretSource::Descriptor(999).read("x", false).is_err());
    }
}
