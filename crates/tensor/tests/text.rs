//! The printed form of a program: what people read, and what a StableHLO emitter will mirror.

use templar_tensor::{Builder, DType, grad};

#[test]
fn a_small_step_prints_as_expected() {
    let mut b = Builder::new();
    let w = b.input("w", DType::F32, &[3, 4]);
    let x = b.input("x", DType::F32, &[2, 4]);
    let t = b.input("targets", DType::I32, &[2]);
    let logits = b.linear(x, w);
    let losses = b.cross_entropy(logits, t);
    let loss = b.reduce_sum(losses, &[0]);
    let dw = grad(&mut b, loss, &[w])[0];
    let change = b.mul_scalar(dw, 0.5);
    let new = b.sub(w, change);
    b.output("loss", loss);
    b.output_donating("w", new, w);
    let program = b.finish();
    let want = "\
program(%0 w: 3x4xf32 donated, %1 x: 2x4xf32, %2 targets: 2xi32) {
  %3 = dot_general batch=[]x[] contract=[1]x[1] %1, %0: 2x3xf32
  %4, %5 = cross_entropy %3, %2: 2xf32, 2xf32
  %6 = reduce sum dims=[0] %4: f32
  %7 = constant 1.0 : f32
  %8 = broadcast_in_dim dims=[] %7: 2xf32
  %9 = cross_entropy_grad %3, %2, %5, %8: 2x3xf32
  %10 = dot_general batch=[]x[] contract=[0]x[0] %9, %1: 3x4xf32
  %11 = constant 0.5 : 3x4xf32
  %12 = mul %10, %11: 3x4xf32
  %13 = sub %0, %12: 3x4xf32
  return %6 as loss
  return %13 as w in w
}
";
    assert_eq!(program.to_string(), want);
    assert_eq!(program.matmul_flops(), 2.0 * (2.0 * 2.0 * 3.0 * 4.0));
}
