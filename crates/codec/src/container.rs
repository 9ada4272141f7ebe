//! The sealed object: a fixed header, its signature, and the payload (docs/native-container.md).
//!
//! What always holds for an [`Opened`]: its header was signed by the hotkey expected, its payload is the one that was signed, and
//! every section was checked against the layout. Nothing was allocated beyond bounds that follow from the layout.

use crate::{
    Refusal,
    layout::{Layout, ParamLayout},
    section::{self, Section},
};
use templar_protocol::{AccountId, Digest, GlobalStep, Uid, Window};
use templar_wallet::Signer;

/// First bytes of every object.
pub const MAGIC: [u8; 8] = *b"TEMPLARG";
/// The container version that this code writes and reads.
pub const VERSION: u16 = 1;
/// Bytes of header and signature together; the payload follows.
pub const HEADER_BYTES: usize = 256;
/// Context of the seal's signature.
pub const SEAL_CONTEXT: &[u8] = b"templar gradient object v1";
const SIGNED_BYTES: usize = HEADER_BYTES - 64;

/// What an object says about itself. [`seal`] fills in the hotkey and the payload's size and digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Container version.
    pub version: u16,
    /// Digest of the run's descriptor.
    pub run_id: Digest,
    /// The sender's slot.
    pub uid: Uid,
    /// The sender's key.
    pub hotkey: AccountId,
    /// The window trained.
    pub window: Window,
    /// Outer steps applied to θ at the window's start.
    pub global_step: GlobalStep,
    /// Root digest of θ at the window's start.
    pub theta: Digest,
    /// Digest of the ids of the samples trained on (spec wire-protocol §8.5).
    pub sample_digest: [u8; 16],
    /// Number of those samples.
    pub sample_count: u64,
    /// blake3 of the payload.
    pub payload_digest: Digest,
    /// Bytes of the payload.
    pub payload_bytes: u64,
}

/// Takes fixed-size fields from the front of the header, whose length is checked before.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk::<N>().expect("the fields of a header add up to its fixed length");
        self.0 = rest;
        *field
    }
}

impl Header {
    /// Reads the header of an object without looking at seal, payload or layout.
    ///
    /// # Errors
    /// When there are fewer than [`HEADER_BYTES`] bytes, or magic, version or the reserved bytes are not as they must be.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() < HEADER_BYTES {
            return Err(Refusal::Truncated { have: bytes.len() as u64, want: HEADER_BYTES as u64 });
        }
        let mut fields = Fields(&bytes[..SIGNED_BYTES]);
        if fields.take::<8>() != MAGIC {
            return Err(Refusal::BadMagic);
        }
        let version = u16::from_le_bytes(fields.take());
        if version != VERSION {
            return Err(Refusal::BadVersion { found: version, known: VERSION });
        }
        let uid = Uid(u16::from_le_bytes(fields.take()));
        if fields.take::<4>() != [0; 4] {
            return Err(Refusal::MalformedHeader { why: "its reserved bytes are not zero" });
        }
        Ok(Self {
            version,
            uid,
            run_id: Digest(fields.take()),
            hotkey: AccountId(fields.take()),
            window: Window(u64::from_le_bytes(fields.take())),
            global_step: GlobalStep(u64::from_le_bytes(fields.take())),
            theta: Digest(fields.take()),
            sample_digest: fields.take(),
            sample_count: u64::from_le_bytes(fields.take()),
            payload_bytes: u64::from_le_bytes(fields.take()),
            payload_digest: Digest(fields.take()),
        })
    }

    fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.uid.0.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.run_id.0);
        bytes.extend(self.hotkey.0);
        bytes.extend(self.window.0.to_le_bytes());
        bytes.extend(self.global_step.0.to_le_bytes());
        bytes.extend(self.theta.0);
        bytes.extend(self.sample_digest);
        bytes.extend(self.sample_count.to_le_bytes());
        bytes.extend(self.payload_bytes.to_le_bytes());
        bytes.extend(self.payload_digest.0);
        bytes
    }
}

/// Whether the signature in `bytes` is one of the hotkey that their header names.
///
/// # Errors
/// As [`Header::parse`].
pub fn seal_holds(bytes: &[u8]) -> Result<bool, Refusal> {
    let header = Header::parse(bytes)?;
    let signature = bytes[SIGNED_BYTES..].first_chunk::<64>().expect("parse checked the length");
    Ok(templar_wallet::verify(SEAL_CONTEXT, &header.hotkey, &bytes[..SIGNED_BYTES], signature))
}

/// blake3 of a payload, on all cores.
pub fn payload_digest(payload: &[u8]) -> Digest {
    Digest(*blake3::Hasher::new().update_rayon(payload).finalize().as_bytes())
}

/// An object of `payload` under `header`, signed by `signer`. Version, hotkey, payload size and digest of the header are set here.
pub fn seal(header: &Header, payload: &[u8], signer: &dyn Signer) -> Vec<u8> {
    let header = Header {
        version: VERSION,
        hotkey: signer.account_id(),
        payload_digest: payload_digest(payload),
        payload_bytes: payload.len() as u64,
        ..header.clone()
    };
    let mut bytes = header.write();
    let signature = signer.sign(SEAL_CONTEXT, &bytes);
    bytes.reserve_exact(64 + payload.len());
    bytes.extend(signature);
    bytes.extend_from_slice(payload);
    bytes
}

/// What an object must be to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The run.
    pub run_id: Digest,
    /// The sender's slot.
    pub uid: Uid,
    /// The key registered in that slot.
    pub hotkey: AccountId,
    /// The window.
    pub window: Window,
}

/// A checked object.
#[derive(Clone, Debug)]
pub struct Opened {
    header: Header,
    bytes: Vec<u8>,
    sections: Vec<Section>,
}

impl Opened {
    /// Its header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The whole object, as it was given.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The checked sections, one per parameter.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }
}

/// Most bytes that an object of this layout can have, whatever its content. Longer ones need not be fetched.
pub fn max_object_bytes(layout: &Layout) -> usize {
    let section = |param: &ParamLayout| section::max_section_bytes(layout, param);
    HEADER_BYTES + layout.params().iter().map(section).sum::<usize>()
}

/// Opens an object: header, seal and digest first, then the structure of every section.
///
/// # Errors
/// One [`Refusal`] per reason; nothing of the object is then used.
pub fn open(bytes: impl Into<Vec<u8>>, layout: &Layout, expect: &Expect) -> Result<Opened, Refusal> {
    let bytes = bytes.into();
    let header = check_header(&bytes, layout, expect)?;
    if !seal_holds(&bytes)? {
        return Err(Refusal::BadSeal { hotkey: header.hotkey });
    }
    let payload = &bytes[HEADER_BYTES..];
    let found = payload_digest(payload);
    if found != header.payload_digest {
        return Err(Refusal::BadDigest { found, signed: header.payload_digest });
    }
    let sections = section::read_all(layout, payload)?;
    Ok(Opened { header, bytes, sections })
}

/// Everything that can be refused from the header and the length alone.
fn check_header(bytes: &[u8], layout: &Layout, expect: &Expect) -> Result<Header, Refusal> {
    let header = Header::parse(bytes)?;
    let most = (max_object_bytes(layout) - HEADER_BYTES) as u64;
    if header.payload_bytes > most {
        return Err(Refusal::Oversized { have: header.payload_bytes, most });
    }
    let (have, want) = (bytes.len() as u64, HEADER_BYTES as u64 + header.payload_bytes);
    if have < want {
        return Err(Refusal::Truncated { have, want });
    }
    if have > want {
        return Err(Refusal::Oversized { have, most: want });
    }
    if header.run_id != expect.run_id {
        return Err(Refusal::WrongRun { found: header.run_id, wanted: expect.run_id });
    }
    if header.window != expect.window {
        return Err(Refusal::WrongWindow { found: header.window, wanted: expect.window });
    }
    if header.uid != expect.uid {
        return Err(Refusal::WrongUid { found: header.uid, wanted: expect.uid });
    }
    if header.hotkey != expect.hotkey {
        return Err(Refusal::WrongHotkey { found: header.hotkey, wanted: expect.hotkey });
    }
    Ok(header)
}
