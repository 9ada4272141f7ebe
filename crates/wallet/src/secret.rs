//! Text that nobody may see: passwords, phrases, and whatever was read from where secrets come from.
//!
//! Such a text has no `Display`, its `Debug` is `***`, and it is overwritten when dropped. What it holds is reached by
//! [`SecretText::expose`] alone, so that a reader can find every place where a secret is used.

use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret text, for example a password or a phrase.
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct SecretText(String);

impl SecretText {
    /// Takes `text` over. Copies that were made of it before remain their owner's to overwrite.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text without white space at its ends, as files and terminals put it there.
    pub fn trimmed(&self) -> Self {
        Self(self.0.trim().to_owned())
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_as_stars() {
        let secret = SecretText::from(" hunter2\n");
        assert_eq!(format!("{secret:?} {:?}", Some(secret.trimmed())), "*** Some(***)");
        assert_eq!(secret.trimmed().expose(), "hunter2");
        assert!(!secret.is_empty() && SecretText::default().is_empty());
    }
}
