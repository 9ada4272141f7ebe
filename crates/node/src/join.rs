//! Joining a run: from a chain, a netuid and a hotkey to the run's descriptor, its data manifest and its newest checkpoint.
//!
//! Everything comes from validators' buckets and is checked: signatures against the metagraph, files against their digests, θ against
//! its own. What is not there yet is waited for, and the journal says for what.

use crate::context::{Context, SMALL_REQUEST, bucket_commitment};
use crate::journal::trouble;
use crate::position::Position;
use crate::roster::{Member, Roster};
use crate::run::Run;
use crate::signed;
use templar_chain::{ChainError, Wait};
use templar_data::{DataManifest, Endpoint};
use templar_model::checkpoint;
use templar_protocol::hparams::Hparams;
use templar_protocol::messages::{CheckpointPointer, Message, PROTOCOL_VERSION, RunDescriptor};
use templar_protocol::{AccountId, ParamSpec, Theta, ThetaDigest, names};
use templar_store::{Bucket, BucketConfig, BucketUrl, Reach};

/// How long to wait before looking again for something that is not there yet, in ms.
const LOOK_AGAIN_MS: u64 = 200;

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The chain refused for good.
    #[error("the chain refused: {0}")]
    Chain(#[from] ChainError),
    /// The hotkey has no uid.
    #[error(
        "the hotkey {hotkey} is not registered on subnet {netuid}. Register it first (`templar chain register`), or use another hotkey with --wallet and --hotkey"
    )]
    NotRegistered {
        /// The hotkey.
        hotkey: String,
        /// The subnet.
        netuid: u16,
    },
    /// The run speaks another version of the protocol.
    #[error("the run speaks protocol version {theirs}, this binary speaks {ours}. Use the binary that the run's operators name")]
    Protocol {
        /// The run's.
        theirs: u32,
        /// This binary's.
        ours: u32,
    },
    /// The operator expects other hyper-parameters.
    #[error("the run's hyper-parameters are not the expected ones; they differ in {}", keys.join(", "))]
    Hparams {
        /// The differing keys with both values.
        keys: Vec<String>,
    },
    /// The data set is not the run's.
    #[error("the data set cannot be used: {0}")]
    Data(String),
    /// A run cannot be started from this node.
    #[error("the run cannot be started: {0}")]
    Start(String),
    /// The run has published nothing that can be trained from.
    #[error("no checkpoint of the run can be loaded: {0}")]
    Checkpoint(String),
}

/// Announces this node's bucket on the chain, unless it already is.
///
/// # Errors
/// The chain refused.
pub async fn announce_bucket(ctx: &Context) -> Result<(), ChainError> {
    let (data, hotkey) = (bucket_commitment(ctx.bucket.url()), ctx.hotkey());
    let known = ctx.insist("read the own commitment", || ctx.chain.commitment(ctx.netuid, &hotkey)).await?;
    if known.is_some_and(|commitment| commitment.data == data) {
        return Ok(());
    }
    ctx.insist("commit to the bucket", || ctx.chain.set_commitment(&*ctx.key, ctx.netuid, &data, Wait::InBlock)).await?;
    Ok(())
}

/// Waits until a validator offers a run of this binary's protocol, and checks it.
///
/// # Errors
/// The run cannot be followed by this node.
pub async fn find_run(ctx: &Context, expected: Option<&Hparams>) -> Result<Run, JoinError> {
    let mut told = false;
    loop {
        let head = ctx.head().await?;
        let roster = ctx.roster(head.number, u32::MAX).await?;
        if let Some(run) = offered_run(ctx, &roster).await {
            check_run(ctx, &run, expected)?;
            return Ok(run);
        }
        if !told {
            told = true;
            ctx.warn_of(trouble::NO_RUN, nothing_offered(&roster.validators, ctx.http.reach(), &ctx.hotkey()));
        }
        ctx.clock.sleep_until(ctx.now_ms() + LOOK_AGAIN_MS).await;
    }
}

/// Why no run is offered, as far as that is known: a bucket that is not read because of its address is no leader that is late.
fn nothing_offered(validators: &[Member], reach: Reach, own: &AccountId) -> String {
    let Some(leader) = validators.first() else { return "there is no validator with a permit and stake yet; waiting for one".to_owned() };
    let is_skipped = |validator: &&Member| {
        reach == Reach::Public && validator.hotkey != *own && validator.bucket.as_ref().is_some_and(BucketUrl::is_private_host)
    };
    let skipped: Vec<String> = validators.iter().filter(is_skipped).map(|validator| validator.uid.to_string()).collect();
    if skipped.is_empty() {
        return format!("the leader (uid {}) has not published a run yet; waiting for it", leader.uid);
    }
    format!(
        "no validator offers a run, and the buckets of these are skipped, because their addresses are private: uid {}. Where the network is one's own, \
         --private-peers takes them",
        skipped.join(", ")
    )
}

/// The run in the bucket of the first validator that offers one, signed by any validator.
pub async fn offered_run(ctx: &Context, roster: &Roster) -> Option<Run> {
    for validator in &roster.validators {
        let Some(bucket) = ctx.bucket_of(validator) else { continue };
        let Ok(Some(bytes)) = bucket.get_if_exists(names::RUN, RunDescriptor::BYTES_MAX, ctx.deadline(0, SMALL_REQUEST)).await else {
            continue;
        };
        match signed::open::<RunDescriptor>(&bytes) {
            Ok(opened) if roster.validators.iter().any(|member| member.hotkey == opened.signer) => {
                return Some(Run { id: opened.digest, descriptor: opened.message, envelope: bytes });
            }
            Ok(opened) => {
                ctx.warn(format!("the run in the bucket of uid {} is signed by {}, who is no validator", validator.uid, opened.signer))
            }
            Err(error) => ctx.warn(format!("the run in the bucket of uid {} does not count: {error}", validator.uid)),
        }
    }
    None
}

fn check_run(ctx: &Context, run: &Run, expected: Option<&Hparams>) -> Result<(), JoinError> {
    let descriptor = &run.descriptor;
    if descriptor.protocol != PROTOCOL_VERSION {
        return Err(JoinError::Protocol { theirs: descriptor.protocol, ours: PROTOCOL_VERSION });
    }
    let hparams = run.hparams();
    if descriptor.netuid != ctx.netuid || hparams.digest() != descriptor.hparams_digest {
        return Err(JoinError::Hparams { keys: vec!["the descriptor's own digest or netuid".into()] });
    }
    hparams.validate().map_err(|error| JoinError::Hparams { keys: vec![error.to_string()] })?;
    match expected {
        Some(expected) if expected.digest() != descriptor.hparams_digest => {
            let differences = expected.diff(hparams);
            Err(JoinError::Hparams {
                keys: differences.iter().map(|d| format!("{} (expected {}, the run has {})", d.key, d.left, d.right)).collect(),
            })
        }
        _ => Ok(()),
    }
}

/// The data set's manifest, from the first place that has it, and all places.
///
/// # Errors
/// No place has it with the right digest, or it does not fit the run.
pub async fn data_set(ctx: &Context, run: &Run) -> Result<(DataManifest, Vec<Endpoint>), JoinError> {
    let unusable = |why: String| JoinError::Data(why);
    let mut endpoints = Vec::new();
    for place in &run.descriptor.data.places {
        let url = BucketUrl::parse_peer(place).map_err(|error| unusable(format!("its place {place}: {error}")))?;
        let bucket = Bucket::open(&BucketConfig::anonymous(url), &ctx.http).map_err(|error| unusable(error.to_string()))?;
        endpoints.push(Endpoint { name: place.clone(), store: bucket.object_store(), prefix: String::new() });
    }
    let expected = Some(run.descriptor.data.manifest);
    let manifest = templar_data::fetch_manifest(&endpoints, expected).await.map_err(|error| unusable(error.to_string()))?;
    check_data_set(&run.descriptor, &manifest).map_err(unusable)?;
    Ok((manifest, endpoints))
}

/// Whether a data set is one that the run can be trained on.
///
/// # Errors
/// It is not; the sentence says in what.
pub fn check_data_set(descriptor: &RunDescriptor, manifest: &DataManifest) -> Result<(), String> {
    if manifest.tokenizer.digest != descriptor.tokenizer {
        return Err("its tokenizer is not the run's".into());
    }
    let hparams = &descriptor.hparams;
    if manifest.seq_len as usize != hparams.sequence_length {
        return Err(format!("its samples have {} tokens, the run's have {}", manifest.seq_len, hparams.sequence_length));
    }
    if manifest.tokenizer.vocab as usize > hparams.model.vocab {
        return Err(format!("its tokenizer has {} ids, the model {}", manifest.tokenizer.vocab, hparams.model.vocab));
    }
    Ok(())
}

/// The newest checkpoint that any validator offers: θ and the position it stands for.
///
/// # Errors
/// None can be read, or none is of this run and model.
pub async fn newest_checkpoint(ctx: &Context, run: &Run, specs: &[ParamSpec]) -> Result<(Theta, Position), JoinError> {
    let head = ctx.head().await?;
    let roster = ctx.roster(head.number, u32::MAX).await?;
    let mut offers: Vec<(CheckpointPointer, Bucket)> = Vec::new();
    for validator in &roster.validators {
        let Some(bucket) = ctx.bucket_of(validator) else { continue };
        let deadline = ctx.deadline(0, SMALL_REQUEST);
        let Ok(Some(bytes)) = bucket.get_if_exists(names::CHECKPOINT_LATEST, CheckpointPointer::BYTES_MAX, deadline).await else {
            continue;
        };
        match signed::open::<CheckpointPointer>(&bytes) {
            Ok(opened) if opened.signer == validator.hotkey && opened.message.run == run.id => offers.push((opened.message, bucket)),
            Ok(_) => {}
            Err(error) => ctx.warn(format!("the checkpoint pointer of uid {} does not count: {error}", validator.uid)),
        }
    }
    offers.sort_by_key(|(pointer, _)| std::cmp::Reverse((pointer.next_window, pointer.global_step)));
    let mut why = "no validator offers one".to_owned();
    for (pointer, bucket) in offers {
        match load_checkpoint(ctx, &pointer, &bucket, specs).await {
            Ok(theta) => {
                let position = Position {
                    window: pointer.next_window,
                    global_step: pointer.global_step,
                    theta: pointer.theta,
                    manifest: pointer.manifest,
                };
                return Ok((theta, position));
            }
            Err(error) => why = error,
        }
    }
    Err(JoinError::Checkpoint(why))
}

async fn load_checkpoint(ctx: &Context, pointer: &CheckpointPointer, bucket: &Bucket, specs: &[ParamSpec]) -> Result<Theta, String> {
    let bytes_max = checkpoint::encoded_bytes_max(specs);
    if pointer.file_bytes > bytes_max {
        return Err(format!("it claims {} bytes, the model has at most {bytes_max}", pointer.file_bytes));
    }
    let seconds = 30 + pointer.file_bytes / (1 << 20);
    let deadline = templar_store::Deadline::within(std::time::Duration::from_secs(seconds));
    let bytes = bucket.get(&names::checkpoint(&pointer.file), pointer.file_bytes, deadline).await.map_err(|error| error.to_string())?;
    let loaded = checkpoint::decode(specs, &bytes).map_err(|error| error.to_string())?;
    if loaded.digest != pointer.file {
        return Err("its file has another digest than the pointer names".into());
    }
    if ThetaDigest::of(specs, &loaded.tensors).root != pointer.theta {
        return Err("its θ has another digest than the pointer names".into());
    }
    ctx.note(crate::journal::Entry::Checkpoint {
        next_window: pointer.next_window,
        global_step: pointer.global_step,
        state_digest: pointer.theta,
        file_bytes: pointer.file_bytes,
    });
    Ok(loaded.tensors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_protocol::Uid;

    #[test]
    fn a_bucket_that_is_skipped_is_no_leader_that_is_late() {
        let validator = |uid: u16, url: &str| Member {
            uid: Uid(uid),
            hotkey: AccountId([uid as u8; 32]),
            stake: 10,
            permit: true,
            bucket: Some(BucketUrl::parse_peer(url).unwrap()),
        };
        let roster = |url: &str| vec![validator(4, url), validator(7, "https://bucket.example/bucket")];
        let (private, public, other) =
            (roster("http://10.0.0.5:9000/bucket"), roster("https://storage.example/bucket"), AccountId([9; 32]));
        let told = nothing_offered(&private, Reach::Public, &other);
        assert!(told.contains("private: uid 4.") && told.contains("--private-peers"), "{told}");
        for (roster, reach, own) in
            [(&private, Reach::Anywhere, other), (&public, Reach::Public, other), (&private, Reach::Public, AccountId([4; 32]))]
        {
            assert_eq!(nothing_offered(roster, reach, &own), "the leader (uid 4) has not published a run yet; waiting for it");
        }
        assert!(nothing_offered(&[], Reach::Public, &other).contains("no validator with a permit"));
    }
}
