//! The parameters of a model on the host: names, shapes, values and the digest of θ.
//!
//! θ is float32 and bit-identical on every node. Its digest is a root over per-parameter digests, so that a
//! difference can be named. The order of the parameters is the order of the run's model and never changes.

use crate::Digest;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Name and shape of one parameter. Shapes have one or two dimensions, all at least 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamSpec {
    /// The parameter's name, for example `layers.0.attention.wq.weight`.
    pub name: String,
    /// Rows and columns, or the length of a vector.
    pub shape: Vec<usize>,
}

impl ParamSpec {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the parameter has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// All parameters of a model, row-major, in the order of its specs.
pub type Theta = Vec<Vec<f32>>;

/// The digest of θ: a root, and one digest for each parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThetaDigest {
    /// blake3 over the names, shapes and digests of all parameters.
    pub root: Digest,
    /// blake3 over the little-endian bytes of each parameter.
    pub parts: Vec<Digest>,
}

impl ThetaDigest {
    /// Digests `theta`, whose parameters have the names and shapes of `specs`. Independent of the number of threads.
    pub fn of(specs: &[ParamSpec], theta: &[Vec<f32>]) -> Self {
        let parts: Vec<Digest> = theta.par_iter().map(|values| digest_f32(values)).collect();
        Self { root: Self::root_of(specs, &parts), parts }
    }

    /// The root over already known per-parameter digests.
    pub fn root_of(specs: &[ParamSpec], parts: &[Digest]) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("templar 2026 digest of theta");
        for (spec, part) in specs.iter().zip(parts) {
            hasher.update(&(spec.name.len() as u64).to_le_bytes());
            hasher.update(spec.name.as_bytes());
            hasher.update(&(spec.shape.len() as u64).to_le_bytes());
            for &dim in &spec.shape {
                hasher.update(&(dim as u64).to_le_bytes());
            }
            hasher.update(&part.0);
        }
        Digest(*hasher.finalize().as_bytes())
    }
}

/// blake3 of the little-endian bytes of `values`, in parallel, without a copy of the whole.
pub fn digest_f32(values: &[f32]) -> Digest {
    const BLOCK: usize = 1 << 18;
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::with_capacity(4 * BLOCK.min(values.len()));
    for block in values.chunks(BLOCK) {
        bytes.clear();
        bytes.extend(block.iter().flat_map(|value| value.to_le_bytes()));
        hasher.update_rayon(&bytes);
    }
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_names_every_difference() {
        let specs = [ParamSpec { name: "a".into(), shape: vec![2] }, ParamSpec { name: "b".into(), shape: vec![1, 1] }];
        let theta = vec![vec![1.0, -0.0], vec![2.0]];
        let base = ThetaDigest::of(&specs, &theta);
        let mut signed_zero = theta.clone();
        signed_zero[0][1] = 0.0;
        let other = ThetaDigest::of(&specs, &signed_zero);
        assert_ne!(base.root, other.root);
        assert_eq!(base.parts[1], other.parts[1]);
        let renamed = [specs[0].clone(), ParamSpec { name: "c".into(), shape: vec![1, 1] }];
        assert_ne!(base.root, ThetaDigest::of(&renamed, &theta).root);
    }

    #[test]
    fn long_parameters_hash_as_their_bytes() {
        let values: Vec<f32> = (0..600_000).map(|i| i as f32 * 0.5).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(digest_f32(&values), Digest::of(&bytes));
    }
}
