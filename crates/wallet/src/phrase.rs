//! Mnemonic phrases: BIP-39's words and checksum, with the key derivation of Substrate (spec chain-and-wallet §A.4).
//!
//! Substrate derives from a phrase's entropy, where BIP-39 derives from its text; wallets of other chains give other keys for
//! the same words.

use crate::{RandomnessError, SecretText};
use bip39::{Language, Mnemonic};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// The numbers of words that a phrase may have.
pub const PHRASE_WORDS: [usize; 5] = [12, 15, 18, 21, 24];

/// Longest text that can be a phrase: 24 words of 8 letters with room for the white space that people put between them.
const TEXT_MAX: usize = 1024;

/// Why a text is no phrase. It never says which words there are, only where the first wrong one is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    /// Not one of [`PHRASE_WORDS`].
    #[error("a phrase has 12, 15, 18, 21 or 24 words, not {words}; check that it was given whole")]
    Count {
        /// How many there are.
        words: usize,
    },
    /// A word that is not in the English list.
    #[error("word {position} of the phrase is not in BIP-39's English list; check its spelling")]
    Word {
        /// Which one, counted from 1.
        position: usize,
    },
    /// The words are in the list, but do not belong together.
    #[error("the phrase's checksum is wrong: a word was mistaken for another, or their order is; check it against your copy")]
    Checksum,
    /// Too long to be a phrase.
    #[error("the text is too long for a phrase; give its words only")]
    TooLong,
}

/// A valid English phrase, words parted by single spaces. It cannot be printed and is overwritten when dropped.
#[derive(Clone)]
pub struct Phrase(Mnemonic);

impl Phrase {
    /// A new phrase of `words` words from the operating system's random source.
    ///
    /// # Errors
    /// When that source fails.
    ///
    /// # Panics
    /// When `words` is none of [`PHRASE_WORDS`], which is the caller's to check.
    pub fn generate(words: usize) -> Result<Self, RandomnessError> {
        assert!(PHRASE_WORDS.contains(&words), "a phrase has 12, 15, 18, 21 or 24 words");
        let mut entropy = Zeroizing::new([0; 32]);
        let entropy = &mut entropy[..words / 3 * 4];
        getrandom::fill(entropy).map_err(RandomnessError)?;
        Ok(Self(Mnemonic::from_entropy_in(Language::English, entropy).expect("16, 20, 24, 28 and 32 bytes are BIP-39's lengths")))
    }

    /// The phrase in `text`: any white space between the words, any case.
    ///
    /// # Errors
    /// One for each reason, see [`PhraseError`].
    pub fn parse(text: &str) -> Result<Self, PhraseError> {
        if text.len() > TEXT_MAX {
            return Err(PhraseError::TooLong);
        }
        let mut normal = Zeroizing::new(String::with_capacity(TEXT_MAX));
        for word in text.split_whitespace() {
            if !normal.is_empty() {
                normal.push(' ');
            }
            normal.extend(word.chars().map(|c| c.to_ascii_lowercase()));
        }
        let words = normal.split(' ').filter(|word| !word.is_empty()).count();
        if !PHRASE_WORDS.contains(&words) {
            return Err(PhraseError::Count { words });
        }
        Mnemonic::parse_in_normalized(Language::English, &normal).map(Self).map_err(|error| match error {
            bip39::Error::UnknownWord(index) => PhraseError::Word { position: index + 1 },
            bip39::Error::BadWordCount(words) => PhraseError::Count { words },
            _ => PhraseError::Checksum,
        })
    }

    /// The words, parted by single spaces.
    pub fn expose(&self) -> SecretText {
        let mut text = String::with_capacity(24 * 9);
        for word in self.0.words() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
        SecretText::new(text)
    }

    /// How many words there are.
    pub fn word_count(&self) -> usize {
        self.0.word_count()
    }

    /// The 32-byte mini-secret: the first half of PBKDF2-HMAC-SHA512 over the entropy, salt `mnemonic` ‖ `password`, 2048 rounds.
    pub fn mini_secret(&self, password: &str) -> Zeroizing<[u8; 32]> {
        let (mut entropy, length) = self.0.to_entropy_array();
        let derived = substrate_bip39::seed_from_entropy(&entropy[..length], password).map(Zeroizing::new);
        entropy.zeroize();
        let derived = derived.expect("the entropy of a valid phrase has a length that the derivation takes");
        let mut mini = Zeroizing::new([0; 32]);
        mini.copy_from_slice(&derived[..32]);
        mini
    }
}

impl Drop for Phrase {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Phrase(***, {} words)", self.word_count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KNOWN: &str = "bottom drive obey lake curtain smoke basket hold race lonely fit walk";

    #[test]
    fn new_phrases_of_every_length_differ_and_parse() {
        for words in PHRASE_WORDS {
            let (one, two) = (Phrase::generate(words).unwrap(), Phrase::generate(words).unwrap());
            assert_eq!(one.word_count(), words);
            assert_ne!(one.expose().expose(), two.expose().expose());
            assert_eq!(Phrase::parse(one.expose().expose()).unwrap().mini_secret(""), one.mini_secret(""));
        }
    }

    #[test]
    fn white_space_and_case_do_not_matter() {
        let written = Phrase::parse(&format!("  {}\n", KNOWN.replace(' ', "\t \n").to_uppercase())).unwrap();
        assert_eq!(written.expose().expose(), KNOWN);
    }

    #[test]
    fn each_fault_has_its_reason_and_shows_no_word() {
        let fault = |text: &str| Phrase::parse(text).unwrap_err();
        assert_eq!(fault("bottom drive"), PhraseError::Count { words: 2 });
        assert_eq!(fault(""), PhraseError::Count { words: 0 });
        assert_eq!(fault(&KNOWN.replace("lake", "lakes")), PhraseError::Word { position: 4 });
        assert_eq!(fault(&KNOWN.replace("lake", "walk")), PhraseError::Checksum);
        assert_eq!(fault(&"a ".repeat(2000)), PhraseError::TooLong);
        assert!(!fault(&KNOWN.replace("lake", "lakes")).to_string().contains("lakes"));
        assert_eq!(format!("{:?}", Phrase::parse(KNOWN).unwrap()), "Phrase(***, 12 words)");
    }

    proptest! {
        #[test]
        fn any_text_is_a_phrase_or_an_error(text in ".{0,300}") {
            prop_assert!(Phrase::parse(&text).is_err());
        }
    }
}
