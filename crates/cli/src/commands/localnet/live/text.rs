//! Numbers and foreign text as they fit a cell.

use std::time::Duration;

/// `987`, `12.3k`, `4.5M`.
pub fn count(value: f64) -> String {
    scaled(value, 1000.0, ["", "k", "M", "G", "T"])
}

/// `512`, `12.3M`: bytes in a column, whose title says so.
pub fn short_bytes(value: u64) -> String {
    scaled(value as f64, 1024.0, ["", "K", "M", "G", "T"])
}

/// `512 B`, `12.3 MiB`.
pub fn bytes(value: u64) -> String {
    scaled(value as f64, 1024.0, [" B", " KiB", " MiB", " GiB", " TiB"])
}

fn scaled(mut value: f64, base: f64, units: [&str; 5]) -> String {
    let mut unit = 0;
    // A number that would be written with four digits takes the next unit.
    while value.abs() >= 999.5 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value.abs() < 99.95);
    format!("{value:.digits$}{}", units[unit])
}

/// `1:02:03`, `2:03`: whole seconds, because the view is drawn once a second.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// `8 s`, `2.5 s`.
pub fn seconds(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{:.1} s", ms as f64 / 1e3) }
}

/// Foreign text on one line: control characters, which could move the cursor, become spaces.
pub fn clean(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `text` in at most `width` characters, with an ellipsis where it was cut.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_the_unit_that_keeps_them_short() {
        let counts = [0.0, 999.4, 999.6, 12_345.0, 123_456.0, 4.5e6, 1e18].map(count);
        assert_eq!(counts, ["0", "999", "1.0k", "12.3k", "123k", "4.5M", "1000000T"]);
        assert_eq!([0, 1023, 13_000_000].map(bytes), ["0 B", "1.0 KiB", "12.4 MiB"]);
        assert_eq!([0, 1023, 13_000_000].map(short_bytes), ["0", "1.0K", "12.4M"]);
        assert_eq!([61, 3723].map(|s| clock(Duration::from_secs(s))), ["1:01", "1:02:03"]);
        assert_eq!([8000, 2500].map(seconds), ["8 s", "2.5 s"]);
    }

    #[test]
    fn foreign_text_stays_on_its_line() {
        assert_eq!(clean("a\n\u{1b}[2Jb\tc"), "a [2Jb c");
        assert_eq!(["abc", "abcd", ""].map(|text| cut(text, 3)), ["abc", "ab…", ""]);
        assert_eq!(cut("abc", 0), "");
    }
}
