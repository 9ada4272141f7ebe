//! Text of peers, stores and validators, before it is shown.

/// Foreign text on one line, bounded: what peers and stores say is shown, never believed.
pub fn cut(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_one_bounded_line() {
        assert_eq!(cut("a\u{1b}[2J\n\n b\t c "), "a [2J b c");
        assert_eq!(cut(&"x".repeat(1000)).len(), 300);
    }
}
