//! Flags that other programs have and this one refuses, each with what to use instead.
//!
//! A flag that is merely unknown leaves people guessing; one that is silently ignored lets them believe in it. These are hidden from help, and
//! whoever uses one is told. The value that was given is never repeated: it may be a secret.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, builder::TypedValueParser, error::ErrorKind};
use std::{ffi::OsStr, fmt, marker::PhantomData};

/// A table of flags that are refused.
pub trait Table {
    /// Each flag without its dashes, and the sentence that says what to use instead.
    const FLAGS: &'static [(&'static str, &'static str)];
}

/// The flags of a [`Table`], to be flattened into a command's arguments.
pub struct Refusals<T>(PhantomData<T>);

impl<T> Clone for Refusals<T> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for Refusals<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T> fmt::Debug for Refusals<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusals")
    }
}

impl<T: Table> Args for Refusals<T> {
    fn augment_args(command: Command) -> Command {
        T::FLAGS.iter().fold(command, |command, (flag, instead)| {
            let arg = Arg::new(*flag).long(*flag).hide(true).num_args(0..=1).allow_hyphen_values(true);
            command.arg(arg.default_missing_value("").value_parser(Refused(instead)))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: Table> FromArgMatches for Refusals<T> {
    fn from_arg_matches(_: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self::default())
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), clap::Error> {
        Ok(())
    }
}

/// Refuses every value.
#[derive(Clone)]
struct Refused(&'static str);

impl TypedValueParser for Refused {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, _value: &OsStr) -> Result<String, clap::Error> {
        let flag = arg.and_then(Arg::get_long).unwrap_or_default();
        let text = format!("--{flag} is not taken: {}\n", self.0);
        Err(clap::Error::raw(ErrorKind::InvalidValue, text).with_cmd(command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    struct Old;
    impl Table for Old {
        const FLAGS: &'static [(&'static str, &'static str)] = &[("old.flag", "use --new")];
    }

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        _old: Refusals<Old>,
        #[arg(long)]
        new: bool,
    }

    #[test]
    fn a_refused_flag_says_what_to_use_and_repeats_no_value() {
        for words in
            [&["x", "--old.flag", "a-secret"][..], &["x", "--old.flag=a-secret"], &["x", "--old.flag"], &["x", "--new", "--old.flag"]]
        {
            let error = Cli::try_parse_from(words).expect_err("it is refused");
            let text = error.to_string();
            assert!(text.contains("--old.flag is not taken: use --new") && !text.contains("a-secret"), "{text}");
            assert_eq!(error.exit_code(), 2);
        }
        assert!(Cli::try_parse_from(["x", "--new"]).expect("it is fine").new);
    }
}
