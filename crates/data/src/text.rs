//! Long texts in pieces, so that memory stays bounded however long a document is.
//!
//! Pieces joined give the text back. A piece ends after a line where one ends in its second half, else between two
//! characters.

use std::io::{self, Read};

/// The smallest limit for a piece; any character fits.
pub(crate) const PIECE_BYTES_MIN: usize = 16;

/// Where the first piece of `bytes` ends: at most `max` (at least [`PIECE_BYTES_MIN`]), on a boundary of characters.
pub(crate) fn split_point(bytes: &[u8], max: usize) -> usize {
    let max = max.max(PIECE_BYTES_MIN);
    if bytes.len() <= max {
        return bytes.len();
    }
    if let Some(newline) = bytes[max / 2..max].iter().rposition(|&byte| byte == b'\n') {
        return max / 2 + newline + 1;
    }
    // A byte 10xxxxxx continues a character; valid UTF-8 has at most three in a row.
    (max - 3..=max).rev().find(|&at| bytes[at] & 0xC0 != 0x80).unwrap_or(max)
}

/// `text` as pieces of at most `max` bytes; one empty piece never comes.
pub(crate) fn split(text: &str, max: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, after) = rest.split_at(split_point(rest.as_bytes(), max));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The text of a reader, in pieces.
pub(crate) struct TextPieces {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    max: usize,
    ended: bool,
}

impl TextPieces {
    pub(crate) fn new(reader: Box<dyn Read + Send>, max: usize) -> Self {
        Self { reader, buffer: Vec::new(), max: max.max(PIECE_BYTES_MIN), ended: false }
    }

    /// The next piece and whether it is the last; bytes that are no UTF-8 are an error of kind `InvalidData`.
    pub(crate) fn next(&mut self) -> io::Result<Option<(String, bool)>> {
        // One byte beyond the limit shows whether something follows.
        while !self.ended && self.buffer.len() <= self.max {
            let wanted = (self.max + 1 - self.buffer.len()) as u64;
            self.ended = self.reader.by_ref().take(wanted).read_to_end(&mut self.buffer)? == 0;
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let rest = self.buffer.split_off(split_point(&self.buffer, self.max));
        let piece = std::mem::replace(&mut self.buffer, rest);
        let text = String::from_utf8(piece).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some((text, self.ended && self.buffer.is_empty())))
    }
}

/// Whether the reader yields UTF-8 without NUL to its end; reads it in blocks.
pub(crate) fn is_text(reader: &mut dyn Read) -> io::Result<bool> {
    let mut buffer = vec![0; crate::files::BUFFER_BYTES];
    let mut carried = 0;
    loop {
        let read = reader.read(&mut buffer[carried..])?;
        let bytes = &buffer[..carried + read];
        let valid = match std::str::from_utf8(bytes) {
            Ok(_) => bytes.len(),
            // A character may continue in the next block, never after the last.
            Err(error) if error.error_len().is_none() && read > 0 => error.valid_up_to(),
            Err(_) => return Ok(false),
        };
        if bytes[..valid].contains(&0) {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
        let end = carried + read;
        buffer.copy_within(valid..end, 0);
        carried = end - valid;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pieces_end_after_lines() {
        let text = format!("{}\n{}", "a".repeat(20), "b".repeat(40));
        let pieces: Vec<&str> = split(&text, 32).collect();
        assert_eq!(pieces, [&text[..21], &text[21..53], &text[53..]]);
    }

    #[test]
    fn what_is_no_text() {
        for (bytes, expected) in
            [(&b"abc"[..], true), (b"", true), (b"a\0b", false), (b"a\xff", false), ("é".as_bytes(), true), (b"\xc3", false)]
        {
            assert_eq!(is_text(&mut &bytes[..]).unwrap(), expected, "{bytes:?}");
        }
        // A character across the border of two blocks.
        let long = format!("{}🦀{}", "x".repeat(crate::files::BUFFER_BYTES - 2), "y".repeat(10));
        assert!(is_text(&mut long.as_bytes()).unwrap());
        assert!(!is_text(&mut &long.as_bytes()[..crate::files::BUFFER_BYTES]).unwrap());
    }

    /// A reader that gives a few bytes at a time.
    struct Trickle(Vec<u8>, usize);
    impl Read for Trickle {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = out.len().min(3).min(self.0.len() - self.1);
            out[..n].copy_from_slice(&self.0[self.1..self.1 + n]);
            self.1 += n;
            Ok(n)
        }
    }

    proptest! {
        #[test]
        fn pieces_join_to_the_text(text in "[a-z\n é🦀]{0,300}", max in 0usize..80) {
            let pieces: Vec<&str> = split(&text, max).collect();
            prop_assert_eq!(pieces.concat(), text.clone());
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= max.max(PIECE_BYTES_MIN)));
            let mut streamed = TextPieces::new(Box::new(Trickle(text.clone().into_bytes(), 0)), max);
            let mut again = Vec::new();
            let mut last = text.is_empty();
            while let Some((piece, is_last)) = streamed.next().unwrap() {
                prop_assert!(!last || again.is_empty());
                again.push(piece);
                last = is_last;
            }
            prop_assert!(last);
            prop_assert_eq!(again, pieces);
        }

        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200), max in 0usize..40) {
            let mut pieces = TextPieces::new(Box::new(std::io::Cursor::new(noise.clone())), max);
            let mut total = 0;
            while let Ok(Some((piece, _))) = pieces.next() {
                total += piece.len();
            }
            prop_assert!(total <= noise.len());
            let _ = is_text(&mut noise.as_slice());
        }
    }
}
