//! `templar setup`: asks for what a node needs, and writes `templar.toml` and `.env`.

use super::{next, practice};
use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use templar_ops::settings::{CONFIG_FILE, Config, ENV_FILE, SETTINGS, read_env_file};
use templar_ops::setup::{self, Secrets, Values, checked};
use templar_store::{ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY};

/// Settings that are asked for on a terminal; the others have good defaults.
const ASKED: [&str; 6] = ["network.chain", "network.netuid", "wallet.name", "wallet.hotkey", "bucket.url", "node.dir"];

/// Write a node's templar.toml and .env. On a terminal it asks for what is not given; what is there already and not given anew stays.
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// The folder of both files.
    #[arg(long, value_name = "DIR", default_value = ".")]
    to: PathBuf,
    /// A setting, as `templar config show` names it; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Settings from a file in the form of templar.toml.
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// The bucket's key from a file of NAME=value lines, as `templar store add-bucket` prints them.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Take over the .env file of a Python Templar.
    #[arg(long, value_name = "FILE")]
    import: Option<PathBuf>,
    /// For a network of one's own: make what is missing, a hotkey, a bucket with its key and a place for its store. Needs network.chain.
    #[arg(long, conflicts_with = "check")]
    practice: bool,
    /// Ask nothing, even on a terminal.
    #[arg(long)]
    yes: bool,
    /// Write nothing; exit 1 unless both files are there and complete.
    #[arg(long)]
    check: bool,
    /// Print a template with every variable, and do nothing else.
    #[arg(long)]
    print_env_template: bool,
}

impl SetupArgs {
    /// Asks and writes.
    ///
    /// # Errors
    /// A value cannot be what it is meant for, a file cannot be read or written.
    pub fn run(self) -> miette::Result<ExitCode> {
        if self.print_env_template {
            super::params::print(&setup::env_template())?;
            return Ok(ExitCode::SUCCESS);
        }
        let (config_path, env_path) = (self.to.join(CONFIG_FILE), self.to.join(ENV_FILE));
        let (mut values, mut secrets) = there(&config_path, &env_path)?;
        if self.check {
            return Ok(self.verify(&values, &secrets));
        }
        self.take_files(&mut values, &mut secrets)?;
        for pair in &self.set {
            let (key, value) = pair.split_once('=').ok_or_else(|| miette!(help = "write --set network.netuid=3", "{pair:?} has no ="))?;
            values.insert(checked(key, value).into_diagnostic()?, value.to_owned());
        }
        if self.practice {
            practice::furnish(&self.to, &mut values, &mut secrets)?;
        } else if !self.yes && std::io::stdin().is_terminal() {
            println!("{STATE_OF_THE_NETWORK}\n");
            ask(&mut values, &mut std::io::stdin().lock())?;
        } else if values.get("network.chain").is_some_and(|chain| !super::node::is_local(chain)) {
            println!("{STATE_OF_THE_NETWORK}\n");
        }
        let wrote = [
            (setup::write_config(&config_path, &values).into_diagnostic()?, &config_path),
            (setup::write_env(&env_path, &secrets).into_diagnostic()?, &env_path),
        ];
        for (written, path) in wrote {
            println!("{} {}", path.display(), if written { "was written" } else { "is as it should be" });
        }
        let missing = self.say_what_is_missing(&values, &secrets);
        let store = if self.practice { practice::next(&self.to, &values) } else { None };
        if store.is_none() && missing > 0 {
            println!("{}", next::when_complete(&self.to));
            return Ok(ExitCode::SUCCESS);
        }
        println!("{}", store.unwrap_or_else(|| next::preflight(&self.to)));
        Ok(ExitCode::SUCCESS)
    }

    /// What is given in files, into what is there.
    fn take_files(&self, values: &mut Values, secrets: &mut Secrets) -> miette::Result<()> {
        if let Some(path) = &self.import {
            let imported = setup::import(&read_env_file(path).into_diagnostic()?);
            imported.notes.iter().for_each(|note| println!("not taken over: {note}"));
            values.extend(imported.values);
            secrets.extend(imported.secrets);
        }
        if let Some(path) = &self.answers {
            for (key, value) in Config::read(path).into_diagnostic()?.values() {
                values.insert(checked(key, value).into_diagnostic()?, value.clone());
            }
        }
        if let Some(path) = &self.key_file {
            let pairs = read_env_file(path).into_diagnostic()?;
            let keys = pairs.into_iter().filter(|(name, _)| [ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY].contains(&name.as_str()));
            secrets.extend(keys);
        }
        Ok(())
    }

    fn verify(&self, values: &Values, secrets: &Secrets) -> ExitCode {
        let missing = self.say_what_is_missing(values, secrets);
        if missing == 0 {
            println!("nothing is missing\n{}", next::preflight(&self.to));
        }
        ExitCode::from(u8::from(missing > 0))
    }

    /// Prints what a node would still lack, and gives its number.
    fn say_what_is_missing(&self, values: &Values, secrets: &Secrets) -> usize {
        let settings =
            SETTINGS.iter().filter(|setting| ["bucket.url", "node.dir"].contains(&setting.key) && !values.contains_key(setting.key));
        let mut missing: Vec<String> = settings
            .map(|setting| {
                format!("{}: {} Set it with --set {}={}", setting.key, setting.help, setting.key, setting.example.trim_matches('"'))
            })
            .collect();
        let on_disk = values.get("bucket.url").is_some_and(|url| url.starts_with("file:"));
        let keys = [ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY].into_iter().filter(|name| !on_disk && !secrets.contains_key(*name));
        missing.extend(keys.map(|name| {
            format!("{name}: the bucket's key. Give it with --key-file, or write it into {}", self.to.join(ENV_FILE).display())
        }));
        missing.iter().for_each(|text| println!("missing: {text}"));
        missing.len()
    }
}

/// What must be known before anything else.
pub const STATE_OF_THE_NETWORK: &str = "\
Before you rent a machine: the public Templar subnet (netuid 3) evaluates no miners at present and burns all of their emission, so mining there
earns nothing. `templar doctor --only chain.earning` tells the state of the chain that you configure. A network of your own needs no money and
no account: `templar localnet`.";

fn there(config: &Path, env: &Path) -> miette::Result<(Values, Secrets)> {
    let values = if config.is_file() { Config::read(config).into_diagnostic()?.values().clone() } else { Values::new() };
    let secrets = if env.is_file() { read_env_file(env).into_diagnostic()?.into_iter().collect() } else { Secrets::new() };
    Ok((values, secrets))
}

/// Asks for each setting of [`ASKED`] until the answer can be one; an empty answer keeps what is there.
fn ask(values: &mut Values, input: &mut impl BufRead) -> miette::Result<()> {
    for setting in SETTINGS.iter().filter(|setting| ASKED.contains(&setting.key)) {
        loop {
            let present = values.get(setting.key).map_or("leave it out", String::as_str);
            print!("{}\n  {} [{present}]: ", setting.help, setting.key);
            std::io::stdout().flush().into_diagnostic()?;
            let mut line = String::new();
            let read = input.read_line(&mut line).into_diagnostic().wrap_err("the answer cannot be read")?;
            let answer = line.trim();
            if read == 0 || answer.is_empty() {
                break;
            }
            match checked(setting.key, answer) {
                Ok(key) => {
                    values.insert(key, answer.to_owned());
                    break;
                }
                Err(error) => println!("  {error}"),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn args(to: &Path) -> SetupArgs {
        SetupArgs {
            to: to.to_owned(),
            set: vec![],
            answers: None,
            key_file: None,
            import: None,
            practice: false,
            yes: true,
            check: false,
            print_env_template: false,
        }
    }

    #[test]
    fn what_is_there_stays_and_what_is_given_wins() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        std::fs::write(&key, format!("export {ENV_ACCESS_KEY_ID}=id\nexport {ENV_SECRET_ACCESS_KEY}=planted-secret\n")).unwrap();
        let first = ["network.netuid=3", "bucket.url=http://127.0.0.1:9000/miner", "node.dir=/d"].map(str::to_owned).to_vec();
        SetupArgs { set: first, key_file: Some(key), ..args(dir.path()) }.run().unwrap();
        SetupArgs { set: vec!["network.netuid=4".into()], ..args(dir.path()) }.run().unwrap();
        let (values, secrets) = there(&dir.path().join(CONFIG_FILE), &dir.path().join(ENV_FILE)).unwrap();
        assert_eq!((values["network.netuid"].as_str(), values["node.dir"].as_str()), ("4", "/d"));
        assert_eq!(secrets[ENV_SECRET_ACCESS_KEY].expose(), "planted-secret");
        assert!(!std::fs::read_to_string(dir.path().join(CONFIG_FILE)).unwrap().contains("planted"));
        assert_eq!(args(dir.path()).say_what_is_missing(&values, &secrets), 0);
        assert_eq!(args(dir.path()).say_what_is_missing(&Values::new(), &Secrets::new()), 4);
    }

    #[test]
    fn answers_are_asked_again_until_they_fit() {
        let mut values = Values::from([("wallet.hotkey", "kept".to_owned())]);
        let mut input = std::io::Cursor::new("nonsense\nhttp://127.0.0.1:9944\n3\nmine\n\nhttp://127.0.0.1:9000/miner\n/d\n");
        ask(&mut values, &mut input).unwrap();
        let of = |key: &str| values.get(key).map(String::as_str);
        assert_eq!(
            (of("network.chain"), of("wallet.name"), of("wallet.hotkey")),
            (Some("http://127.0.0.1:9944"), Some("mine"), Some("kept"))
        );
        assert_eq!(of("node.dir"), Some("/d"));
    }
}
