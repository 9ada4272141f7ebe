//! How an error is told.

use miette::{MietteDiagnostic, Report};

/// The report with each cause told once: most errors name their cause in their own sentence, and keep it as their source as well.
pub fn once(report: Report) -> Report {
    let mut told: Vec<String> = Vec::new();
    let mut again = false;
    for cause in report.chain().map(ToString::to_string) {
        if told.iter().any(|sentence| sentence.contains(&cause)) {
            again = true;
        } else {
            told.push(cause);
        }
    }
    if !again {
        return report;
    }
    let innermost = told.pop().unwrap_or_default();
    let mut diagnostic = MietteDiagnostic::new(innermost);
    diagnostic.help = report.help().map(|help| help.to_string());
    diagnostic.code = report.code().map(|code| code.to_string());
    told.into_iter().rev().fold(Report::new(diagnostic), Report::wrap_err)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use miette::{IntoDiagnostic, miette};

    #[derive(Debug)]
    struct Unreadable(std::io::Error);

    impl std::fmt::Display for Unreadable {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "cannot read x: {}", self.0)
        }
    }

    impl std::error::Error for Unreadable {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    fn unreadable() -> Result<(), Unreadable> {
        Err(Unreadable(std::io::Error::other("no such file")))
    }

    #[test]
    fn a_cause_that_its_error_names_is_not_repeated() {
        let report = unreadable().into_diagnostic().unwrap_err().wrap_err("the model cannot be used");
        let told: Vec<String> = once(report).chain().map(ToString::to_string).collect();
        assert_eq!(told, ["the model cannot be used", "cannot read x: no such file"]);
    }

    #[test]
    fn help_and_code_stay() {
        let inner = miette!(help = "name another", code = "templar::settings", "no such file");
        let told = once(inner.wrap_err("cannot read x: no such file"));
        assert_eq!(told.to_string(), "cannot read x: no such file");
        assert_eq!(told.chain().count(), 1);
        assert_eq!(told.help().unwrap().to_string(), "name another");
        assert_eq!(told.code().unwrap().to_string(), "templar::settings");
    }

    #[test]
    fn other_causes_are_all_told() {
        let report = miette!("no such file").wrap_err("cannot read x").wrap_err("the model cannot be used");
        assert_eq!(once(report).chain().count(), 3);
    }
}
