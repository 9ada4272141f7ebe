//! The beacon's pallet.

use super::Bytes;
use parity_scale_codec::{Decode, Encode};
use scale_info::TypeInfo;

pub mod types {
    use super::{Bytes, Encode, TypeInfo};

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct Metadata {
        pub beacon_id: Bytes,
    }

    /// Which beacon it is.
    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct BeaconConfiguration {
        pub public_key: Bytes,
        pub period: u32,
        pub genesis_time: u32,
        pub hash: Bytes,
        pub group_hash: Bytes,
        pub scheme_id: Bytes,
        pub metadata: Metadata,
    }

    /// One round of it.
    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub struct Pulse {
        pub round: u64,
        pub randomness: Bytes,
        pub signature: Bytes,
    }
}

pub mod pallet {
    use super::{Encode, TypeInfo};

    #[derive(Clone, Debug, PartialEq, Eq, Encode, TypeInfo)]
    pub enum Event {
        #[codec(index = 0)]
        BeaconConfigChanged,
        #[codec(index = 1)]
        NewPulse { rounds: Vec<u64> },
    }

    super::super::primitives::errors! { 3 UnverifiedPulse 4 InvalidRoundNumber 5 PulseVerificationError }
}

pub mod drand_priority {
    use super::{Decode, Encode, TypeInfo};

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
    pub struct DrandPriority;
}
