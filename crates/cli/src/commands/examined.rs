//! How commands end that examine nodes: with the code that the result says, or with one that says that nothing could be examined.

use std::process::ExitCode;

/// The exit code when nothing could be examined.
const BROKEN: u8 = 3;

/// Prints a result and ends with its code. What kept the command from working is told on standard error.
///
/// # Errors
/// Standard output is closed.
pub fn end(result: miette::Result<(String, u8)>) -> miette::Result<ExitCode> {
    match result {
        Ok((text, code)) => super::params::print(&text).map(|()| ExitCode::from(code)),
        Err(report) => {
            eprintln!("{report:?}");
            Ok(ExitCode::from(BROKEN))
        }
    }
}
