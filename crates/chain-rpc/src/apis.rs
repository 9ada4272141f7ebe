//! The runtime's own functions, which a client calls by name (`state_call`): one table of names, types and implementations, from which
//! the metadata is made too.

mod metagraph;
mod neurons;
mod subnets;

pub use neurons::axon_info;

use crate::{
    runtime::{
        Address, AnySignature, Extensions,
        node_subtensor_runtime::RuntimeCall,
        pallet_transaction_payment::types::{FeeDetails, RuntimeDispatchInfo},
        sp_core::crypto::AccountId32,
        sp_runtime::generic::unchecked_extrinsic::UncheckedExtrinsic,
        sp_weights::weight_v2::Weight,
    },
    version,
    view::View,
};
use blake2::{Blake2b, Digest as _, digest::consts::U8};
use parity_scale_codec::{Decode, DecodeAll as _, Encode};
use scale_info::{MetaType, TypeInfo, meta_type};
use std::sync::LazyLock;

/// What a subnet costs on this chain, rao.
pub const SUBNET_COST: u64 = 1_000_000_000;
/// The longest arguments of a call, bytes.
pub const ARGUMENT_BYTES_MAX: usize = 64 << 10;

type Run = Box<dyn Fn(&View, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// One function.
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// Its arguments' names and types.
    pub inputs: Vec<(&'static str, MetaType)>,
    /// The type of what it gives.
    pub output: MetaType,
    /// `None` where the face of the chain answers itself, since it takes the metadata.
    run: Option<Run>,
}

/// Functions that belong together.
pub struct Api {
    /// Their common name.
    pub name: &'static str,
    /// Its version.
    pub version: u32,
    /// The functions.
    pub methods: Vec<Method>,
}

impl Method {
    /// A function of the arguments `A`, a tuple, giving `R`.
    fn new<A: Decode, R: Encode + TypeInfo + 'static>(
        name: &'static str,
        inputs: Vec<(&'static str, MetaType)>,
        run: impl Fn(&View, A) -> R + Send + Sync + 'static,
    ) -> Self {
        let run = move |view: &View, bytes: &[u8]| Some(run(view, A::decode_all(&mut &bytes[..]).ok()?).encode());
        Self { name, inputs, output: meta_type::<R>(), run: Some(Box::new(run)) }
    }

    /// A function that the face answers.
    fn declared<R: TypeInfo + 'static>(name: &'static str, inputs: Vec<(&'static str, MetaType)>) -> Self {
        Self { name, inputs, output: meta_type::<R>(), run: None }
    }
}

fn arg<T: TypeInfo + 'static>(name: &'static str) -> (&'static str, MetaType) {
    (name, meta_type::<T>())
}

/// What a call gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Called {
    /// The result in SCALE.
    Value(Vec<u8>),
    /// The arguments cannot be read.
    BadArguments,
    /// There is no such function.
    Unknown,
}

/// All functions but those that the face answers itself.
pub fn call(view: &View, name: &str, arguments: &[u8]) -> Called {
    let found = APIS.iter().find_map(|api| {
        let method = name.strip_prefix(api.name)?.strip_prefix('_')?;
        api.methods.iter().find(|of| of.name == method)?.run.as_ref()
    });
    let Some(run) = found else { return Called::Unknown };
    if arguments.len() > ARGUMENT_BYTES_MAX {
        return Called::BadArguments;
    }
    run(view, arguments).map_or(Called::BadArguments, Called::Value)
}

/// The table.
pub static APIS: LazyLock<Vec<Api>> = LazyLock::new(|| {
    let mut all = vec![core(), metadata(), nonce(), payment()];
    all.extend([neurons::neurons(), neurons::delegates(), subnets::subnets(), subnets::stakes(), subnets::registration(), subnets::swap()]);
    all
});

/// The APIs with their versions, each named by 8 bytes of BLAKE2.
pub fn served_apis() -> Vec<([u8; 8], u32)> {
    APIS.iter().map(|api| (Blake2b::<U8>::digest(api.name).into(), api.version)).collect()
}

fn core() -> Api {
    let version = Method::new("version", vec![], |view, ()| version::runtime_version(&view.state().body.runtime));
    Api { name: "Core", version: 5, methods: vec![version] }
}

fn metadata() -> Api {
    let methods = vec![
        Method::declared::<OpaqueMetadata>("metadata", vec![]),
        Method::declared::<Option<OpaqueMetadata>>("metadata_at_version", vec![arg::<u32>("version")]),
        Method::declared::<Vec<u32>>("metadata_versions", vec![]),
    ];
    Api { name: "Metadata", version: 2, methods }
}

/// Metadata within a value: bytes after their length.
#[derive(TypeInfo, Encode)]
pub struct OpaqueMetadata(pub Vec<u8>);

fn nonce() -> Api {
    let run = |view: &View, (account,): (AccountId32,)| u32::try_from(view.nonce(&account.into())).unwrap_or(u32::MAX);
    Api { name: "AccountNonceApi", version: 1, methods: vec![Method::new("account_nonce", vec![arg::<AccountId32>("account")], run)] }
}

/// The type of a whole transaction.
pub type Extrinsic = UncheckedExtrinsic<Address, RuntimeCall, AnySignature, Extensions>;

/// A transaction of any bytes followed by its length, as fees are asked for.
struct AnyTransaction;

impl Decode for AnyTransaction {
    fn decode<I: parity_scale_codec::Input>(input: &mut I) -> Result<Self, parity_scale_codec::Error> {
        // Nothing costs anything, so what the transaction is does not matter.
        let mut byte = [0];
        while input.remaining_len()?.is_some_and(|left| left > 0) {
            input.read(&mut byte)?;
        }
        Ok(Self)
    }
}

fn payment() -> Api {
    let free = RuntimeDispatchInfo {
        weight: Weight::default(),
        class: crate::runtime::frame_support::dispatch::DispatchClass::Normal,
        partial_fee: 0,
    };
    let inputs = || vec![arg::<Extrinsic>("uxt"), arg::<u32>("len")];
    let methods = vec![
        Method::new("query_info", inputs(), move |_, _: AnyTransaction| free),
        Method::new("query_fee_details", inputs(), |_, _: AnyTransaction| FeeDetails { inclusion_fee: None }),
        Method::new("query_weight_to_fee", vec![arg::<Weight>("weight")], |_, _: (Weight,)| 0u64),
        Method::new("query_length_to_fee", vec![arg::<u32>("length")], |_, _: (u32,)| 0u64),
    ];
    Api { name: "TransactionPaymentApi", version: 4, methods }
}
