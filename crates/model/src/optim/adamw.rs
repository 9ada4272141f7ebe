//! Adam with decoupled weight decay (§6.5).

use super::{Group, Scalar, Scalars, mix, scale};
use templar_tensor::{Builder, Value};

/// `θ(1 − lr·wd) − lr · (m/(1−β1^t)) / (sqrt(v/(1−β2^t)) + ε)` with the new moments, which are `β·old + (1−β)·new`.
pub(super) fn update(b: &mut Builder, [param, m, v]: [Value; 3], grad: Value, group: Group, scalars: &Scalars) -> [Value; 3] {
    let m = mix(b, [scalars.get(Scalar::Beta1), scalars.get(Scalar::OneMinusBeta1)], m, grad);
    let square = b.mul(grad, grad);
    let v = mix(b, [scalars.get(Scalar::Beta2), scalars.get(Scalar::OneMinusBeta2)], v, square);
    let root = b.sqrt(v);
    let corrected = scale(b, root, scalars.get(Scalar::RootCorrection));
    let dims = b.dims(corrected).to_vec();
    let eps = b.broadcast_scalar(scalars.get(Scalar::Eps), &dims);
    let denominator = b.add(corrected, eps);
    let direction = b.div(m, denominator);
    let change = scale(b, direction, scalars.get(Scalar::StepSize(group)));
    let decayed = scale(b, param, scalars.get(Scalar::Keep(group)));
    [b.sub(decayed, change), m, v]
}
