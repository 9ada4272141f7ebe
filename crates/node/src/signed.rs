//! Signed envelopes: the only form in which messages leave or enter a node.
//!
//! The text is parsed only after size, signature and context have been checked.

use templar_protocol::messages::{Message, Signed};
use templar_protocol::{AccountId, Digest};
use templar_wallet::Signer;

/// A message whose signature is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened<M> {
    /// The message.
    pub message: M,
    /// Who signed it.
    pub signer: AccountId,
    /// blake3 of the signed text, by which other messages name this one.
    pub digest: Digest,
}

/// Why an envelope does not count.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    /// It is larger than any message of its kind.
    #[error("the message has {bytes} bytes, its kind has at most {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: u64,
    },
    /// It is not an envelope, or its text is not a message of the kind.
    #[error("the message cannot be read: {0}")]
    Form(#[from] serde_json::Error),
    /// The signature is not the signer's over this text and kind.
    #[error("the signature of {signer} is wrong")]
    Signature {
        /// The claimed signer.
        signer: AccountId,
    },
}

/// Signs `message` with `signer` and returns the envelope's bytes.
///
/// # Errors
/// The message cannot be written as JSON.
pub fn sign<M: Message>(message: &M, signer: &dyn Signer) -> Result<Vec<u8>, SignedError> {
    let body = serde_json::to_string(message)?;
    let signature = hex(&signer.sign(M::CONTEXT, body.as_bytes()));
    Ok(serde_json::to_vec(&Signed { body, signer: signer.account_id(), signature })?)
}

/// Opens an envelope from anywhere.
///
/// # Errors
/// Size, form or signature is wrong.
pub fn open<M: Message>(bytes: &[u8]) -> Result<Opened<M>, SignedError> {
    if bytes.len() as u64 > M::BYTES_MAX {
        return Err(SignedError::TooLarge { bytes: bytes.len(), max: M::BYTES_MAX });
    }
    let signed: Signed = serde_json::from_slice(bytes)?;
    let wrong = SignedError::Signature { signer: signed.signer };
    let Some(signature) = unhex(&signed.signature) else { return Err(wrong) };
    if !templar_wallet::verify(M::CONTEXT, &signed.signer, signed.body.as_bytes(), &signature) {
        return Err(wrong);
    }
    Ok(Opened { message: serde_json::from_str(&signed.body)?, signer: signed.signer, digest: Digest::of(signed.body.as_bytes()) })
}

fn hex(bytes: &[u8; 64]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 64]> {
    let mut bytes = [0; 64];
    if text.len() != 128 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use templar_protocol::messages::Commit;
    use templar_protocol::{Uid, Window};
    use templar_wallet::Keypair;

    fn commit() -> Commit {
        Commit { run: Digest::of(b"run"), uid: Uid(3), window: Window(9), object: Digest::of(b"object"), object_bytes: 77 }
    }

    #[test]
    fn a_signed_message_opens_and_a_changed_one_does_not() {
        let key = Keypair::from_seed([7; 32]);
        let bytes = sign(&commit(), &key).unwrap();
        let opened = open::<Commit>(&bytes).unwrap();
        assert_eq!((opened.message, opened.signer), (commit(), key.public()));
        let text = String::from_utf8(bytes).unwrap();
        let changed = text.replace("77", "78");
        assert!(matches!(open::<Commit>(changed.as_bytes()), Err(SignedError::Signature { .. })));
        let other = Keypair::from_seed([8; 32]).public().to_string();
        let stolen = text.replace(&key.public().to_string(), &other);
        assert!(matches!(open::<Commit>(stolen.as_bytes()), Err(SignedError::Signature { .. })));
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(open::<Commit>(&bytes).is_err());
        }
    }
}
