//! `templar store`: the embedded S3 server for machines that have no bucket elsewhere, and its access file.

use crate::signals::wait_for_stop;
use clap::{Args, Subcommand};
use miette::{IntoDiagnostic, WrapErr};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use templar_ops::gc::{self, Quota};
use templar_s3::{Access, AccessFile, BucketAccess, S3Config, Server};
use templar_store::{Bucket, BucketConfig, BucketUrl, ENV_ACCESS_KEY_ID, ENV_SECRET_ACCESS_KEY, Http, Reach};

/// How often the access file is looked at for changes, at most.
const ACCESS_INTERVAL: Duration = Duration::from_secs(1);

/// Serve buckets from a directory.
#[derive(Debug, Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Serve buckets over S3 from a directory, until SIGINT or SIGTERM.
    Serve(ServeArgs),
    /// Add a bucket with a key of its own to an access file, and print the key; a server that runs takes notice.
    AddBucket(AddBucketArgs),
    /// Delete old objects from the own bucket until it has no more than a given size.
    Gc(GcArgs),
}

#[derive(Debug, Args)]
struct GcArgs {
    /// The bucket; its key is read from TEMPLAR_S3_ACCESS_KEY_ID and TEMPLAR_S3_SECRET_ACCESS_KEY, or else from the file .env.
    #[arg(long, env = "TEMPLAR_BUCKET", value_name = "URL")]
    bucket: String,
    /// The size that is wanted, in bytes or with k, M, G or T [default: everything that is old goes].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_bytes: Option<u64>,
    /// The newest windows of which everything stays.
    #[arg(long, value_name = "N", default_value_t = 32)]
    keep_windows: u64,
    /// Delete a validator's copies, manifests and score sheets, too; others catch up and verify by them.
    #[arg(long)]
    validator: bool,
    /// Say what would go, and delete nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A number of bytes, with a decimal unit or without.
fn size(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.strip_suffix(['k', 'M', 'G', 'T']) {
        Some(number) => (number, 10u64.pow(3 * (1 + "kMGT".find(&text[number.len()..]).unwrap_or(0) as u32))),
        None => (text, 1),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(|| format!("{text:?} is no size such as 30G"))
}

impl GcArgs {
    async fn run(self) -> miette::Result<ExitCode> {
        let url = BucketUrl::parse(&self.bucket).into_diagnostic().wrap_err("--bucket is not a bucket's URL")?;
        let config = BucketConfig { credentials: crate::config::credentials()?, ..BucketConfig::anonymous(url) };
        let bucket = Bucket::open(&config, &Http::new(Reach::Anywhere).into_diagnostic()?).into_diagnostic()?;
        let objects = bucket.list("").await.into_diagnostic()?;
        let quota = Quota { keep_windows: self.keep_windows.max(1), bytes_max: self.max_bytes, validator: self.validator };
        let plan = gc::plan(&objects, &quota);
        if !self.dry_run {
            let doomed: std::collections::HashSet<&str> = plan.delete.iter().map(String::as_str).collect();
            bucket.prune("", |key| !doomed.contains(key)).await.into_diagnostic().wrap_err("not everything could be deleted")?;
        }
        if self.json {
            println!("{}", serde_json::to_string(&plan).into_diagnostic()?);
        } else {
            let verb = if self.dry_run { "would go" } else { "are gone" };
            println!("{} objects with {} bytes {verb}, {} bytes stay", plan.delete.len(), plan.freed_bytes, plan.kept_bytes);
            if plan.over_bytes > 0 {
                println!(
                    "that is {} bytes more than wanted: lower --keep-windows, or add --validator to a validator's bucket",
                    plan.over_bytes
                );
            }
        }
        Ok(if plan.over_bytes > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// The directory that holds the buckets; made if absent.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// The access file: buckets and their keys [default: DIR/access.json].
    #[arg(long, value_name = "FILE")]
    access: Option<PathBuf>,
    /// Threads that serve.
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Largest object, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 30)]
    object_bytes_max: u64,
    /// Most connections at once.
    #[arg(long, value_name = "N", default_value_t = 256)]
    connections_max: usize,
    /// Stop when standard input ends; for programs that start this one.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
    /// Print where it listens as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct AddBucketArgs {
    /// The bucket: 3 to 63 of a-z, 0-9, - and .
    name: String,
    /// The access file; made if absent.
    #[arg(long, value_name = "FILE")]
    access: PathBuf,
    /// Let only the key's owner read; by default anybody reads objects by name, as peers must.
    #[arg(long)]
    private: bool,
    /// Print the key as JSON.
    #[arg(long)]
    json: bool,
}

impl StoreArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A sentence that says what failed, why, and what to do.
    pub fn run(self) -> miette::Result<ExitCode> {
        match self.command {
            StoreCommand::Serve(args) => args.run(),
            StoreCommand::AddBucket(args) => args.run().map(|()| ExitCode::SUCCESS),
            StoreCommand::Gc(args) => crate::runtime()?.block_on(args.run()),
        }
    }
}

impl ServeArgs {
    fn run(self) -> miette::Result<ExitCode> {
        let path = self.access.clone().unwrap_or_else(|| self.dir.join("access.json"));
        AccessFile::edit(&path, |_| Ok(())).into_diagnostic()?;
        let access = Access::file(&path, ACCESS_INTERVAL).into_diagnostic()?;
        let buckets = access.buckets();
        let config = S3Config {
            object_bytes_max: self.object_bytes_max,
            connections_max: self.connections_max,
            ..S3Config::new(&self.dir, self.listen, access)
        };
        crate::runtime_of(self.threads)?.block_on(async {
            let server = Server::bind(config).await.into_diagnostic()?;
            let address = server.address();
            if self.json {
                println!("{}", json!({ "endpoint": format!("http://{address}"), "buckets": buckets, "access": path }));
            } else {
                println!("serving {} from {} at http://{address}", count(buckets.len()), self.dir.display());
                println!("add one with: templar store add-bucket NAME --access {}", path.display());
                super::practice::after_store(address).iter().for_each(|next| println!("{next}"));
            }
            let handle = server.spawn();
            let stopped = wait_for_stop(self.exit_with_parent).await.into_diagnostic().wrap_err("the signals could not be watched");
            handle.stop().await;
            Ok(stopped?.exit_code())
        })
    }
}

fn count(buckets: usize) -> String {
    if buckets == 1 { "1 bucket".to_owned() } else { format!("{buckets} buckets") }
}

impl AddBucketArgs {
    fn run(self) -> miette::Result<()> {
        let entry = AccessFile::edit(&self.access, |file| file.add_bucket(&self.name, !self.private).cloned()).into_diagnostic()?;
        println!("{}", shown(&entry, self.json));
        Ok(())
    }
}

/// The new key, as lines for a shell or as JSON: the one place where a secret is shown, for its owner asked for it.
fn shown(entry: &BucketAccess, as_json: bool) -> String {
    let (id, secret) = (&entry.access_key_id, entry.secret.expose());
    if as_json {
        return json!({ "bucket": entry.name, "public_read": entry.public_read, "access_key_id": id, "secret_access_key": secret })
            .to_string();
    }
    format!("export {ENV_ACCESS_KEY_ID}={id}\nexport {ENV_SECRET_ACCESS_KEY}={secret}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_store::Secret;

    #[test]
    fn the_key_is_shown_as_shell_lines_or_json() {
        let entry =
            BucketAccess { name: "miner-1".into(), access_key_id: "T1AB".into(), secret: Secret::new("cd".into()), public_read: true };
        assert_eq!(shown(&entry, false), "export TEMPLAR_S3_ACCESS_KEY_ID=T1AB\nexport TEMPLAR_S3_SECRET_ACCESS_KEY=cd");
        let parsed: serde_json::Value = serde_json::from_str(&shown(&entry, true)).expect("it was written as JSON");
        assert_eq!(parsed["secret_access_key"], "cd");
        assert_eq!(parsed["bucket"], "miner-1");
    }
}
