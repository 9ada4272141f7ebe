//! Newtypes for the numbers of the protocol, account ids and digests.
//!
//! A window is never a block and a uid is never a netuid; the compiler says so.

use blake2::{Blake2b512, Digest as _};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

number!(
    /// A neuron's slot on a subnet.
    Uid(u16)
);
number!(
    /// A subnet.
    Netuid(u16)
);
number!(
    /// A block of the chain.
    BlockNumber(u64)
);
number!(
    /// A training window: the blocks `[w · blocks_per_window, (w + 1) · blocks_per_window)`.
    Window(u64)
);
number!(
    /// Outer steps applied to θ since the start of the run (spec wire-protocol §1.3).
    GlobalStep(u64)
);

impl Window {
    /// The window that `block` lies in (spec wire-protocol §1.1). `blocks_per_window` is at least 1.
    pub fn of_block(block: BlockNumber, blocks_per_window: u64) -> Self {
        Self(block.0 / blocks_per_window.max(1))
    }

    /// The first block of this window.
    pub fn first_block(self, blocks_per_window: u64) -> BlockNumber {
        BlockNumber(self.0.saturating_mul(blocks_per_window.max(1)))
    }

    /// The window after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A text that is not the hexadecimal or SS58 form of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 64 hexadecimal digits.
    #[error("{text:?} is not a digest: it must be 64 hexadecimal digits")]
    Digest {
        /// The text as given.
        text: String,
    },
    /// Not an SS58 address of a 32-byte account.
    #[error("{text:?} is not an SS58 address: {why}")]
    Address {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A 32-byte blake3 digest, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The first eight hexadecimal digits, for people.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError::Digest { text: text.chars().take(80).collect() })?;
        Ok(Self(bytes))
    }
}

/// A 32-byte sr25519 public key: a hotkey or a coldkey, written as an SS58 address with network prefix 42.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub [u8; 32]);

/// Network prefix of Bittensor and of generic Substrate addresses.
const SS58_PREFIX: u8 = 42;

impl AccountId {
    fn checksum(payload: &[u8]) -> [u8; 2] {
        let hash = Blake2b512::new().chain_update(b"SS58PRE").chain_update(payload).finalize();
        [hash[0], hash[1]]
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut payload = Vec::with_capacity(35);
        payload.push(SS58_PREFIX);
        payload.extend_from_slice(&self.0);
        let sum = Self::checksum(&payload);
        payload.extend_from_slice(&sum);
        f.write_str(&bs58::encode(payload).into_string())
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountId({self})")
    }
}

impl FromStr for AccountId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = |why| IdError::Address { text: text.chars().take(80).collect(), why };
        if text.len() > 64 {
            return Err(bad("it is too long"));
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| bad("it is not base 58"))?;
        let (payload, sum) = bytes.split_last_chunk::<2>().ok_or_else(|| bad("it is too short"))?;
        let [prefix, key @ ..] = payload else { return Err(bad("it is too short")) };
        if *prefix != SS58_PREFIX {
            return Err(bad("its network prefix is not 42"));
        }
        let key: [u8; 32] = key.try_into().map_err(|_| bad("its key is not 32 bytes"))?;
        if Self::checksum(payload) != *sum {
            return Err(bad("its checksum is wrong"));
        }
        Ok(Self(key))
    }
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(Digest);
serde_as_text!(AccountId);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_known_address_reads_and_writes() {
        // The well-known development account "Alice".
        let text = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
        let id: AccountId = text.parse().expect("valid address");
        assert_eq!(hex::encode(id.0), "d43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d");
        assert_eq!(id.to_string(), text);
    }

    #[test]
    fn windows_and_blocks() {
        assert_eq!(Window::of_block(BlockNumber(229), 115), Window(1));
        assert_eq!(Window(2).first_block(115), BlockNumber(230));
    }

    proptest! {
        #[test]
        fn account_ids_survive_text(key: [u8; 32]) {
            prop_assert_eq!(AccountId(key).to_string().parse::<AccountId>(), Ok(AccountId(key)));
        }

        #[test]
        fn digests_survive_text(key: [u8; 32]) {
            prop_assert_eq!(Digest(key).to_string().parse::<Digest>(), Ok(Digest(key)));
        }

        #[test]
        fn hostile_text_is_refused_without_panic(text in ".{0,100}") {
            let _ = text.parse::<AccountId>();
            let _ = text.parse::<Digest>();
        }
    }
}
