//! Optimisers as array programs. Every number that may change from step to step is an input, so nothing is compiled twice.
//!
//! A [`Rule`] is an optimiser for the parameters of one model: it sorts them into groups, declares the scalar inputs that
//! these groups need, and appends one update with clipped gradients.

mod adamw;
mod muon;

use crate::InnerHyper;
use templar_protocol::ParamSpec;
use templar_tensor::{Builder, DType, Tensor, Value};

/// Added to the norm before dividing, as PyTorch's `clip_grad_norm_` does.
const CLIP_EPS: f32 = 1e-6;

/// Which rule turns gradients into parameter changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Optimizer {
    /// AdamW with decoupled weight decay on all parameters (§6.5).
    #[default]
    AdamW,
    /// Muon (§6.6): matrices inside the model by orthogonalised momentum, the rest by Adam with decoupled weight decay.
    Muon(MuonScale),
}

/// How large an orthogonalised change of a matrix is. The two need different learning rates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MuonScale {
    /// `0.2·sqrt(max(rows, cols))`: about the size of an AdamW change, whatever the shape. The reference's sharded path.
    #[default]
    Sharded,
    /// `sqrt(max(1, rows/cols))`: the reference's path on a single device.
    SingleDevice,
}

/// Parameters that share a rule and a learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// All, under AdamW.
    All,
    /// Matrices that Muon orthogonalises. With an untied head this includes `output.weight`: the reference leaves out only
    /// what is called `lm_head`, and its head is not.
    Hidden,
    /// The token embedding, under Muon.
    Embedding,
    /// A head that is called `lm_head`, under Muon.
    Head,
    /// Everything else: gains.
    Scalar,
}

impl Group {
    fn of(optimizer: Optimizer, spec: &ParamSpec) -> Self {
        match optimizer {
            Optimizer::AdamW => Self::All,
            Optimizer::Muon(_) if spec.name.contains("embed") => Self::Embedding,
            Optimizer::Muon(_) if spec.name.contains("lm_head") => Self::Head,
            Optimizer::Muon(_) if spec.shape.len() >= 2 => Self::Hidden,
            Optimizer::Muon(_) => Self::Scalar,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Hidden => ".hidden",
            Self::Embedding => ".embedding",
            Self::Head => ".head",
            Self::Scalar => ".scalar",
        }
    }

    /// Its learning rate and weight decay.
    fn rates(self, hyper: &InnerHyper) -> (f64, f64) {
        let muon = &hyper.muon;
        match self {
            Self::All => (hyper.lr, hyper.weight_decay),
            Self::Hidden => (hyper.lr, muon.weight_decay),
            Self::Embedding => (hyper.lr * muon.embed_lr_scale, hyper.weight_decay),
            Self::Head => (hyper.lr * muon.head_lr_scale, hyper.weight_decay),
            Self::Scalar => (hyper.lr * muon.scalar_lr_scale, hyper.weight_decay),
        }
    }
}

/// A scalar input of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    ClipNorm,
    /// What weight decay leaves of a parameter: 1 − lr·wd.
    Keep(Group),
    /// The learning rate; for Adam divided by the first moment's bias correction.
    StepSize(Group),
    Beta1,
    OneMinusBeta1,
    Beta2,
    OneMinusBeta2,
    /// One over the root of the second moment's bias correction.
    RootCorrection,
    Eps,
    Momentum,
    OneMinusMomentum,
}

impl Scalar {
    fn name(self) -> String {
        match self {
            Self::ClipNorm => "clip_norm".into(),
            Self::Keep(group) => format!("keep{}", group.label()),
            Self::StepSize(group) => format!("step_size{}", group.label()),
            Self::Beta1 => "beta1".into(),
            Self::OneMinusBeta1 => "one_minus_beta1".into(),
            Self::Beta2 => "beta2".into(),
            Self::OneMinusBeta2 => "one_minus_beta2".into(),
            Self::RootCorrection => "root_correction".into(),
            Self::Eps => "eps".into(),
            Self::Momentum => "momentum".into(),
            Self::OneMinusMomentum => "one_minus_momentum".into(),
        }
    }

    /// Its value in optimiser step `step` (from 1).
    fn value(self, hyper: &InnerHyper, step: u64) -> f64 {
        let (beta1, beta2) = hyper.betas;
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        match self {
            Self::ClipNorm => hyper.clip_norm,
            Self::Keep(group) => {
                let (lr, weight_decay) = group.rates(hyper);
                1.0 - lr * weight_decay
            }
            Self::StepSize(Group::Hidden) => hyper.lr,
            Self::StepSize(group) => group.rates(hyper).0 / correction(beta1),
            Self::Beta1 => beta1,
            Self::OneMinusBeta1 => 1.0 - beta1,
            Self::Beta2 => beta2,
            Self::OneMinusBeta2 => 1.0 - beta2,
            Self::RootCorrection => 1.0 / correction(beta2).sqrt(),
            Self::Eps => hyper.eps,
            Self::Momentum => hyper.muon.momentum,
            Self::OneMinusMomentum => 1.0 - hyper.muon.momentum,
        }
    }
}

/// One value per parameter, for each list that an optimiser reads and writes.
pub(crate) struct State {
    pub params: Vec<Value>,
    pub m: Vec<Value>,
    pub v: Vec<Value>,
}

/// The scalar inputs of an update, as values of its program.
pub(crate) struct Scalars(Vec<(Scalar, Value)>);

impl Scalars {
    fn get(&self, scalar: Scalar) -> Value {
        let found = self.0.iter().find(|(known, _)| *known == scalar);
        found.expect("Rule::scalars lists what the groups of the rule use").1
    }
}

/// An optimiser for the parameters of one model.
pub(crate) struct Rule {
    optimizer: Optimizer,
    /// Element type of Muon's products; everything else is f32.
    compute: DType,
    specs: Vec<ParamSpec>,
    groups: Vec<Group>,
}

impl Rule {
    pub fn new(optimizer: Optimizer, specs: &[ParamSpec], compute: DType) -> Self {
        let groups = specs.iter().map(|spec| Group::of(optimizer, spec)).collect();
        Self { optimizer, compute, specs: specs.to_vec(), groups }
    }

    /// Names and shapes of the second moments. Muon has none for the matrices that it orthogonalises: one unused element
    /// stands in their place, so that the lists keep the parameters' order and length.
    pub fn second_moments(&self) -> Vec<ParamSpec> {
        let of = |(spec, group): (&ParamSpec, &Group)| match group {
            Group::Hidden => ParamSpec { name: spec.name.clone(), shape: vec![1] },
            _ => spec.clone(),
        };
        self.specs.iter().zip(&self.groups).map(of).collect()
    }

    /// The scalar inputs that the groups need, in the order of declaration.
    fn scalars(&self) -> Vec<Scalar> {
        let kinds = [Group::All, Group::Hidden, Group::Embedding, Group::Head, Group::Scalar];
        let present: Vec<Group> = kinds.into_iter().filter(|group| self.groups.contains(group)).collect();
        let mut scalars = vec![Scalar::ClipNorm];
        scalars.extend(present.iter().flat_map(|&group| [Scalar::Keep(group), Scalar::StepSize(group)]));
        if present.iter().any(|group| *group != Group::Hidden) {
            scalars.extend([Scalar::Beta1, Scalar::OneMinusBeta1, Scalar::Beta2, Scalar::OneMinusBeta2]);
            scalars.extend([Scalar::RootCorrection, Scalar::Eps]);
        }
        if present.contains(&Group::Hidden) {
            scalars.extend([Scalar::Momentum, Scalar::OneMinusMomentum]);
        }
        scalars
    }

    /// Declares the scalar inputs.
    pub fn scalar_inputs(&self, b: &mut Builder) -> Scalars {
        Scalars(self.scalars().into_iter().map(|scalar| (scalar, b.input(&scalar.name(), DType::F32, &[]))).collect())
    }

    /// Their values for optimiser step `step` (from 1), computed in f64, in the order of declaration.
    pub fn scalar_tensors(&self, hyper: &InnerHyper, step: u64) -> Vec<Tensor> {
        self.scalars().into_iter().map(|scalar| Tensor::scalar(scalar.value(hyper, step) as f32)).collect()
    }

    /// Appends one update with gradients clipped to a global norm; gives the new state and the norm before clipping.
    pub fn update(&self, b: &mut Builder, state: &State, grads: &[Value], scalars: &Scalars) -> (State, Value) {
        let norm = global_norm(b, grads);
        let divisor = b.add_scalar(norm, CLIP_EPS);
        let ratio = b.div(scalars.get(Scalar::ClipNorm), divisor);
        let one = b.splat(&[], 1.0);
        let factor = b.min(ratio, one);
        let mut next = State { params: Vec::new(), m: Vec::new(), v: Vec::new() };
        for (i, &grad) in grads.iter().enumerate() {
            let clipped = scale(b, grad, factor);
            let [param, m, v] = [state.params[i], state.m[i], state.v[i]];
            let [param, m, v] = match (self.groups[i], self.optimizer) {
                (Group::Hidden, Optimizer::Muon(size)) => {
                    let [param, m] = muon::update(b, [param, m], clipped, (size, self.compute), scalars);
                    [param, m, v]
                }
                (group, _) => adamw::update(b, [param, m, v], clipped, group, scalars),
            };
            next.params.push(param);
            next.m.push(m);
            next.v.push(v);
        }
        (next, norm)
    }
}

/// L2 norm over all elements of all gradients.
fn global_norm(b: &mut Builder, grads: &[Value]) -> Value {
    let mut total = b.splat(&[], 0.0);
    for &grad in grads {
        let sum = sum_of_squares(b, grad);
        total = b.add(total, sum);
    }
    b.sqrt(total)
}

fn sum_of_squares(b: &mut Builder, x: Value) -> Value {
    let axes: Vec<usize> = (0..b.dims(x).len()).collect();
    let squares = b.mul(x, x);
    b.reduce_sum(squares, &axes)
}

/// `x` times a scalar.
fn scale(b: &mut Builder, x: Value, factor: Value) -> Value {
    let dims = b.dims(x).to_vec();
    let factor = b.broadcast_scalar(factor, &dims);
    b.mul(x, factor)
}

/// `p·x + q·y` for scalars p and q.
fn mix(b: &mut Builder, [p, q]: [Value; 2], x: Value, y: Value) -> Value {
    let (x, y) = (scale(b, x, p), scale(b, y, q));
    b.add(x, y)
}
