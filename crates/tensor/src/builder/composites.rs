//! Operations on rows, attention and the loss: what StableHLO spells with several operations.

use super::Builder;
use crate::ir::{DType, Op, RotaryLayout, TensorType, Value};

impl Builder {
    /// Rows of `table` [R, C] (floats) chosen by `rows` (i32, any shape) → [rows.., C]. An index outside 0..R is an error of the run.
    pub fn take_rows(&mut self, table: Value, rows: Value) -> Value {
        self.expect_float("take_rows", table);
        self.expect_dtype("take_rows", rows, DType::I32);
        let t = self.dims(table);
        assert_eq!(t.len(), 2, "take_rows: the table is {t:?}, not a matrix");
        let dims: Vec<usize> = self.dims(rows).iter().copied().chain([t[1]]).collect();
        let ty = TensorType::new(&dims, self.dtype(table));
        self.push1(Op::TakeRows, &[table, rows], ty)
    }

    /// Sums `updates` [rows.., C] into a zero matrix [table_rows, C] at `rows` (i32). The gradient of [`Builder::take_rows`].
    pub fn scatter_add_rows(&mut self, rows: Value, updates: Value, table_rows: usize) -> Value {
        self.expect_dtype("scatter_add_rows", rows, DType::I32);
        self.expect_float("scatter_add_rows", updates);
        let (r, u) = (self.dims(rows), self.dims(updates));
        assert!(u.len() == r.len() + 1 && u[..r.len()] == *r, "scatter_add_rows of {u:?} at {r:?}");
        let ty = TensorType::new(&[table_rows, u[r.len()]], self.dtype(updates));
        self.push1(Op::ScatterAddRows, &[rows, updates], ty)
    }

    /// Rotary embedding of x [B, S, H, D] (D even) with f32 tables cos, sin [S, D/2], computed in f32; see [`Op::Rotary`]. Tables get no gradient.
    pub fn rotary(&mut self, x: Value, cos: Value, sin: Value, layout: RotaryLayout) -> Value {
        self.expect_float("rotary", x);
        self.expect_dtype("rotary", cos, DType::F32);
        self.expect_dtype("rotary", sin, DType::F32);
        let d = self.dims(x);
        assert!(d.len() == 4 && d[3].is_multiple_of(2), "rotary of {d:?}: wanted [B, S, H, D] with even D");
        let table = [d[1], d[3] / 2];
        assert!(self.dims(cos) == table && self.dims(sin) == table, "rotary of {d:?}: tables must be {table:?}");
        let ty = self.tensor_type(x).clone();
        self.push1(Op::Rotary(layout), &[x, cos, sin], ty)
    }

    /// Causal attention with grouped queries: q [B, S, H, D], k and v [B, S, K, D] → (out [B, S, H, D], statistics [B, H, S]);
    /// see [`Op::Attention`]. The statistics carry no gradient.
    pub fn attention(&mut self, q: Value, k: Value, v: Value, scale: f32) -> (Value, Value) {
        for x in [q, k, v] {
            self.expect_float("attention", x);
            self.expect_dtype("attention", x, self.dtype(q));
        }
        let (dq, dk) = (self.dims(q).to_vec(), self.dims(k).to_vec());
        assert_eq!(self.dims(k), self.dims(v), "attention: k and v differ in shape");
        let fits = dq.len() == 4 && dk.len() == 4 && dq[..2] == dk[..2] && dq[3] == dk[3] && dk[2] > 0 && dq[2].is_multiple_of(dk[2]);
        assert!(fits, "attention of q {dq:?} and k {dk:?}: wanted [B, S, H, D] and [B, S, K, D], H a multiple of K");
        let out = self.tensor_type(q).clone();
        let statistics = TensorType::new(&[dq[0], dq[2], dq[1]], DType::F32);
        let r = self.push(Op::Attention { scale }, &[q, k, v], vec![out, statistics]);
        (r[0], r[1])
    }

    /// Gradient of [`Builder::attention`] from its operands, its results and d_out [B, S, H, D] → [d_q, d_k, d_v].
    pub fn attention_grad(&mut self, operands: [Value; 3], results: [Value; 2], d_out: Value, scale: f32) -> [Value; 3] {
        let [q, k, v] = operands;
        let [out, statistics] = results;
        assert_eq!(self.tensor_type(q), self.tensor_type(d_out), "attention_grad: d_out must have the type of q");
        let types = vec![self.tensor_type(q).clone(), self.tensor_type(k).clone(), self.tensor_type(v).clone()];
        let r = self.push(Op::AttentionGrad { scale }, &[q, k, v, out, statistics, d_out], types);
        [r[0], r[1], r[2]]
    }

    /// Cross-entropy of each row: logits [.., V], targets i32 [..] → loss [..] in nats. Mask and average the result with
    /// elementwise operations. A target outside 0..V is an error of the run (give masked positions any valid id).
    pub fn cross_entropy(&mut self, logits: Value, targets: Value) -> Value {
        self.expect_float("cross_entropy", logits);
        self.expect_dtype("cross_entropy", targets, DType::I32);
        let (l, t) = (self.dims(logits), self.dims(targets));
        assert!(l.len() == t.len() + 1 && l[..t.len()] == *t && l[t.len()] > 0, "cross_entropy of {l:?} with targets {t:?}");
        let ty = TensorType::new(t, DType::F32);
        self.push(Op::CrossEntropy, &[logits, targets], vec![ty.clone(), ty])[0]
    }

    /// Gradient of [`Builder::cross_entropy`] with respect to the logits; `lse` is the node's second result.
    pub fn cross_entropy_grad(&mut self, logits: Value, targets: Value, lse: Value, d_loss: Value) -> Value {
        self.expect_same("cross_entropy_grad", lse, d_loss);
        assert_eq!(self.dims(targets), self.dims(lse), "cross_entropy_grad: targets and lse differ in shape");
        let ty = self.tensor_type(logits).clone();
        self.push1(Op::CrossEntropyGrad, &[logits, targets, lse, d_loss], ty)
    }
}
