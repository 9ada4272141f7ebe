//! Why an object was refused: one variant per reason, each with a stable name for logs and manifests and a sentence for people.

use templar_protocol::{AccountId, Digest, Uid, Window};

/// Why the bytes of an object were not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Fewer bytes than the header, or than the header announces.
    #[error("the object is truncated: {have} bytes are there, {want} are needed; it was cut in transit or never written whole")]
    Truncated {
        /// Bytes present.
        have: u64,
        /// Bytes needed.
        want: u64,
    },
    /// More bytes than announced, or than any object of this run can have.
    #[error("the object is oversized: {have} bytes, where at most {most} can belong to it")]
    Oversized {
        /// Bytes present or announced.
        have: u64,
        /// The most there can be.
        most: u64,
    },
    /// Not a container at all.
    #[error("this is no templar object: it does not begin with the container's magic bytes")]
    BadMagic,
    /// A container of another version.
    #[error("the object has container version {found}, this node reads version {known}; one of the two needs an update")]
    BadVersion {
        /// Version in the object.
        found: u16,
        /// Version this code reads.
        known: u16,
    },
    /// An object of another run.
    #[error("the object belongs to run {found}, not to {wanted}")]
    WrongRun {
        /// Run in the object.
        found: Digest,
        /// Run expected.
        wanted: Digest,
    },
    /// An object of another window.
    #[error("the object is of window {found}, not of {wanted}")]
    WrongWindow {
        /// Window in the object.
        found: Window,
        /// Window expected.
        wanted: Window,
    },
    /// An object of another uid.
    #[error("the object is of uid {found}, not of {wanted}")]
    WrongUid {
        /// Uid in the object.
        found: Uid,
        /// Uid expected.
        wanted: Uid,
    },
    /// An object of another hotkey.
    #[error("the object is of hotkey {found}, but the uid is registered to {wanted}")]
    WrongHotkey {
        /// Hotkey in the object.
        found: AccountId,
        /// Hotkey expected.
        wanted: AccountId,
    },
    /// A signature that does not hold.
    #[error("the seal does not hold: the header was not signed by {hotkey}, or was changed afterwards")]
    BadSeal {
        /// The hotkey that the header names.
        hotkey: AccountId,
    },
    /// A payload that is not the signed one.
    #[error("the payload's digest is {found}, but {signed} was signed; it was damaged or exchanged after signing")]
    BadDigest {
        /// Digest of the bytes.
        found: Digest,
        /// Digest in the header.
        signed: Digest,
    },
    /// A header field that must have one value and has another.
    #[error("the header is malformed: {why}")]
    MalformedHeader {
        /// What is wrong with it.
        why: &'static str,
    },
    /// A section that is not the one encoding of a valid content.
    #[error("the section of parameter {param} is malformed: {why}")]
    Malformed {
        /// The parameter's name.
        param: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Refusal {
    /// A stable name of the reason, for logs, metrics and manifests.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated",
            Self::Oversized { .. } => "oversized",
            Self::BadMagic => "bad-magic",
            Self::BadVersion { .. } => "bad-version",
            Self::WrongRun { .. } => "wrong-run",
            Self::WrongWindow { .. } => "wrong-window",
            Self::WrongUid { .. } => "wrong-uid",
            Self::WrongHotkey { .. } => "wrong-hotkey",
            Self::BadSeal { .. } => "bad-seal",
            Self::BadDigest { .. } => "bad-digest",
            Self::MalformedHeader { .. } => "malformed-header",
            Self::Malformed { .. } => "malformed",
        }
    }
}
