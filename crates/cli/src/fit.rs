//! Text for people, fitted to the terminal: a long line is broken at spaces and goes on below the column in which its text began.
//!
//! Only for eyes: where standard output is no terminal, a fact stays one line, as `grep` and agents want it. What stands in backticks is never broken, nor is a line
//! that names the next command, so that it can be copied; nor a row of a table, which is there to be compared.

use std::borrow::Cow;
use std::io::IsTerminal as _;
use textwrap::{Options, WordSeparator, WordSplitter, core::Word};

/// Narrower than this, nothing is broken: columns would be left that no word fits.
const WIDTH_MIN: usize = 40;
/// Gaps of two or more spaces within a line from which on it is a row of a table; a verdict, a name and a sentence have two.
const TABLE_GAPS: usize = 3;
/// How lines begin that are there to be copied.
const COPIED: [&str; 2] = ["next:", "$ "];

/// `text` for standard output.
pub fn fit(text: String) -> String {
    let width = std::io::stdout().is_terminal().then(ratatui::crossterm::terminal::size).and_then(Result::ok);
    match width.map(|(columns, _)| usize::from(columns)) {
        Some(width) if width >= WIDTH_MIN => wrapped(&text, width),
        _ => text,
    }
}

fn wrapped(text: &str, width: usize) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for line in text.lines() {
        let columns = columns(line);
        if columns.len() > TABLE_GAPS || COPIED.iter().any(|begin| line.trim_start().starts_with(begin)) {
            out += line;
        } else {
            let below = " ".repeat(columns.into_iter().rfind(|column| *column < width / 2).unwrap_or(0));
            let options = Options::new(width)
                .subsequent_indent(&below)
                .break_words(false)
                .word_splitter(WordSplitter::NoHyphenation)
                .word_separator(WordSeparator::Custom(words));
            out += &textwrap::wrap(line, options).iter().map(Cow::as_ref).collect::<Vec<&str>>().join("\n");
        }
        out.push('\n');
    }
    out
}

/// Where the columns of a line begin: its first letter, and each that follows two or more spaces.
fn columns(line: &str) -> Vec<usize> {
    let mut gap = usize::MAX;
    let mut begun = Vec::new();
    for (place, letter) in line.chars().enumerate() {
        if letter == ' ' {
            gap = gap.saturating_add(1);
        } else {
            if gap >= 2 {
                begun.push(place);
            }
            gap = 0;
        }
    }
    begun
}

/// Words with the spaces behind them; what stands in backticks is one.
fn words(line: &str) -> Box<dyn Iterator<Item = Word<'_>> + '_> {
    let (mut start, mut quoted, mut space) = (0, false, false);
    let mut ends = Vec::new();
    for (place, letter) in line.char_indices() {
        if space && letter != ' ' {
            ends.push(place);
            space = false;
        }
        quoted ^= letter == '`';
        space |= letter == ' ' && !quoted;
    }
    ends.push(line.len());
    Box::new(ends.into_iter().map(move |end| {
        let word = Word::from(&line[start..end]);
        start = end;
        word
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_goes_on_below_the_column_of_its_text() {
        let text = "miner-1 (miner): late\n  seen      the objects of the newest four windows came after the deadline\n  to do     run `templar plan --model local --gpu h100` and see\n";
        assert_eq!(
            wrapped(text, 48),
            "miner-1 (miner): late\n  seen      the objects of the newest four\n            windows came after the deadline\n  to do     run\n            \
             `templar plan --model local --gpu h100`\n            and see\n"
        );
    }

    #[test]
    fn columns_are_found() {
        assert_eq!(columns("FAIL  chain.port               it is refused"), [0, 6, 31]);
        assert_eq!(columns("    an indented sentence"), [4]);
        assert_eq!(columns("a sentence"), [0]);
    }

    #[test]
    fn a_row_of_a_table_stays_whole() {
        let row = "rank   uid    weight  quality  credit   work standing      score    uptime tokens/s\n";
        assert_eq!(wrapped(row, 60), row);
    }

    #[test]
    fn a_command_to_be_copied_stays_whole() {
        let next = "next: templar miner --dir localnet/nodes/miner-7 --chain ws://127.0.0.1:9944 --uid 3\n";
        assert_eq!(wrapped(next, 40), next);
    }

    proptest! {
        #[test]
        fn no_word_is_lost(text in "([a-z`é ]{0,30}\n){0,6}", width in 40usize..100) {
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(words(&wrapped(&text, width)), words(&text));
        }
    }
}
