//! The text for XLA, and what it means over several devices and with activations computed again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::{Numbers, V, distance, pjrt, run_cpu, widen};
use templar_tensor::{
    Builder, DType, Error, Executor, Placement, Program, Recompute, RotaryLayout, Target, Tensor, UnaryOp, grad, grad_with, stablehlo,
};

const ONE: Target = Target { devices: 1, fused_attention: false };

/// x ← x − 0.1 · d(Σ tanh(rows · w))/dx, small enough to read.
fn small() -> Program {
    let mut b = Builder::new();
    let w = b.input_placed("w", DType::F32, &[4, 2], Placement::Sharded);
    let rows = b.input_placed("rows", DType::F32, &[8, 4], Placement::Batch);
    let whole = b.place(w, Placement::Replicated);
    let product = b.matmul(rows, whole);
    let bent = b.unary(UnaryOp::Tanh, product);
    let loss = b.reduce_sum(bent, &[0, 1]);
    let d = grad(&mut b, loss, &[w])[0];
    let step = b.mul_scalar(d, 0.1);
    let next = b.sub(w, step);
    b.output_donating("w", next, w);
    b.output("loss", loss);
    b.finish()
}

#[test]
fn the_text_of_a_small_program_on_one_device() {
    insta::assert_snapshot!(stablehlo(&small(), ONE));
}

#[test]
fn the_text_of_a_small_program_on_four_devices() {
    insta::assert_snapshot!(stablehlo(&small(), Target { devices: 4, ..ONE }));
}

/// Attention in bf16 with its gradient.
fn attentive(batch: usize) -> Program {
    let mut b = Builder::new();
    let q = b.input_placed("q", DType::F32, &[batch, 16, 4, 8], Placement::Batch);
    let kv = b.input_placed("kv", DType::F32, &[batch, 16, 2, 8], Placement::Batch);
    let (q16, kv16) = (b.convert(q, DType::BF16), b.convert(kv, DType::BF16));
    let (out, _) = b.attention(q16, kv16, kv16, 0.5);
    let wide = b.convert(out, DType::F32);
    let loss = b.reduce_sum(wide, &[0, 1, 2, 3]);
    let d = grad(&mut b, loss, &[q, kv]);
    b.output("loss", loss);
    b.output_placed("d_q", d[0], Placement::Batch);
    b.output_placed("d_kv", d[1], Placement::Batch);
    b.finish()
}

#[test]
fn the_text_of_fused_attention() {
    insta::assert_snapshot!(stablehlo(&attentive(4), Target { devices: 2, fused_attention: true }));
}

#[test]
fn fused_attention_is_for_bf16_only() {
    let mut b = Builder::new();
    let q = b.input("q", DType::F32, &[1, 16, 2, 8]);
    let (out, _) = b.attention(q, q, q, 0.5);
    b.output("out", out);
    let text = stablehlo(&b.finish(), Target { devices: 1, fused_attention: true });
    assert!(!text.contains("custom_call"), "{text}");
}

/// A block with everything that a Llama has, its parameters split, its activations by batch.
fn block(recompute: Recompute) -> Program {
    let (rows, seq, width, vocab) = (4, 8, 16, 24);
    let mut b = Builder::new();
    let table = b.input_placed("table", DType::F32, &[vocab, width], Placement::Sharded);
    let w: Vec<V> = (0..3).map(|i| b.input_placed(&format!("w{i}"), DType::F32, &[width, width], Placement::Sharded)).collect();
    let gain = b.input_placed("gain", DType::F32, &[width], Placement::Sharded);
    let tokens = b.input_placed("tokens", DType::I32, &[rows, seq], Placement::Batch);
    let params = [table, w[0], w[1], w[2], gain];
    let whole: Vec<V> = params.iter().map(|&p| b.place(p, Placement::Replicated)).collect();
    let cos = b.constant(&[seq, 2], (0..seq * 2).map(|i| (i as f32).cos()).collect());
    let sin = b.constant(&[seq, 2], (0..seq * 2).map(|i| (i as f32).sin()).collect());
    let x = b.take_rows(whole[0], tokens);
    let x = b.segment(|b| {
        let spread = b.broadcast_in_dim(whole[4], &[rows, seq, width], &[2]);
        let scaled = b.mul(x, spread);
        let mut heads = |w: V| {
            let projected = b.linear(scaled, w);
            b.reshape(projected, &[rows, seq, 4, 4])
        };
        let [q, k, v] = [heads(whole[1]), heads(whole[2]), heads(whole[3])];
        let q = b.rotary(q, cos, sin, RotaryLayout::HalfSplit);
        let (attended, _) = b.attention(q, k, v, 0.5);
        let merged = b.reshape(attended, &[rows, seq, width]);
        let merged = b.place(merged, Placement::Batch);
        let gate = b.logistic(merged);
        let product = b.mul(merged, gate);
        b.add(x, product)
    });
    let logits = b.linear(x, whole[0]);
    let losses = b.cross_entropy(logits, tokens);
    let loss = b.reduce_sum(losses, &[0, 1]);
    let grads = grad_with(&mut b, loss, &params, recompute);
    b.output("loss", loss);
    b.output_placed("losses", losses, Placement::Batch);
    for (i, d) in grads.into_iter().enumerate() {
        b.output_placed(&format!("d{i}"), d, Placement::Sharded);
    }
    b.finish()
}

fn block_inputs(program: &Program) -> Vec<Tensor> {
    let mut numbers = Numbers(7);
    let tensor = |i: &templar_tensor::Input| {
        let ty = program.tensor_type(i.value);
        match ty.dtype {
            DType::I32 => Tensor::i32(&ty.dims, (0..ty.elements()).map(|_| numbers.below(24) as i32).collect()).unwrap(),
            _ => Tensor::f32(&ty.dims, numbers.vec(ty.elements())).unwrap(),
        }
    };
    program.inputs().iter().map(tensor).collect()
}

#[test]
fn several_devices_compute_what_one_does() {
    let program = block(Recompute::None);
    let inputs = block_inputs(&program);
    let expected = run_cpu(&program, &inputs);
    for devices in [1, 2, 4] {
        let Some(pjrt) = pjrt(devices) else { return };
        let results = pjrt.compile(&program).unwrap().run_host(inputs.clone()).unwrap();
        for ((result, expected), output) in results.iter().zip(&expected).zip(program.outputs()) {
            let error = distance(&widen(result), &widen(expected));
            assert!(error < 1e-5, "{} differs by {error:e} on {devices} devices", output.name);
        }
    }
}

#[test]
fn the_same_number_of_devices_gives_the_same_bits_again() {
    let program = block(Recompute::Selective);
    let inputs = block_inputs(&program);
    let Some(pjrt) = pjrt(4) else { return };
    let run = || pjrt.compile(&program).unwrap().run_host(inputs.clone()).unwrap();
    assert_eq!(run(), run());
}

#[test]
fn recomputed_activations_give_the_same_gradients() {
    let plain = block(Recompute::None);
    let inputs = block_inputs(&plain);
    let expected = run_cpu(&plain, &inputs);
    for (recompute, repeated) in [(Recompute::Selective, false), (Recompute::Full, true)] {
        let program = block(recompute);
        assert_eq!(run_cpu(&program, &inputs), expected, "{recompute:?}");
        let attentions =
            |program: &Program| program.nodes().iter().filter(|n| matches!(n.op, templar_tensor::Op::Attention { .. })).count();
        assert_eq!(attentions(&program), if repeated { 2 } else { 1 }, "{recompute:?}");
        assert!(program.nodes().len() > plain.nodes().len(), "{recompute:?} computes nothing again");
        if let Some(results) = support::run_pjrt(&program, &inputs) {
            for (result, expected) in results.iter().zip(&expected) {
                assert!(distance(&widen(result), &widen(expected)) < 1e-5, "{recompute:?}");
            }
        }
    }
}

#[test]
fn a_batch_that_the_devices_do_not_divide_is_refused() {
    let Some(pjrt) = pjrt(4) else { return };
    let refused = pjrt.compile(&attentive(6)).err().unwrap();
    assert!(matches!(refused, Error::Unsupported { .. }), "{refused}");
    assert!(refused.to_string().contains("6 rows, which 4 devices do not divide"), "{refused}");
}

#[test]
fn arrays_come_back_as_they_went_up_wherever_they_lie() {
    let Some(pjrt) = pjrt(4) else { return };
    let tensor = Tensor::f32(&[3, 8, 2], Numbers(1).vec(48)).unwrap();
    for placement in [Placement::Replicated, Placement::Sharded] {
        let array = pjrt.upload_placed(tensor.clone(), placement).unwrap();
        assert_eq!(pjrt.download(array).unwrap(), tensor);
    }
    assert_eq!(pjrt.live_buffers(), 0);
}

#[test]
fn compiled_programs_are_kept_between_runs() {
    let Some(plugin) = templar_pjrt::testing::cpu_plugin() else { return };
    let cache = tempfile::tempdir().unwrap();
    let config = templar_tensor::PjrtConfig {
        plugin,
        devices: Some(1),
        cache: Some(cache.path().join("programs")),
        ..templar_tensor::PjrtConfig::default()
    };
    let program = block(Recompute::None);
    let inputs = block_inputs(&program);
    let run = || templar_tensor::Pjrt::open(&config).unwrap().compile(&program).unwrap().run_host(inputs.clone()).unwrap();
    let first = run();
    let entries = || std::fs::read_dir(cache.path().join("programs")).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    assert_eq!(entries().len(), 1);
    assert_eq!(run(), first);
    // A damaged entry is compiled anew.
    std::fs::write(&entries()[0], b"damaged").unwrap();
    assert_eq!(run(), first);
    assert_eq!(entries().len(), 1);
}
