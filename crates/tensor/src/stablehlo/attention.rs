//! Attention as cuDNN's fused kernel: a custom call that XLA's GPU compiler knows.
//!
//! Operands q, k, v are `[batch, seq, heads, width]` in bf16; results are `[batch, heads, seq, width]` in memory order
//! `[batch, seq, heads, width]`, so that the transposes around the call cost nothing. The compiler does not partition
//! custom calls: over several devices each runs the call on its part of the batch, inside a manual computation.

use super::{Writer, dimension_shardings, tensor};
use crate::ir::{DType, Node, Op, Placement, TensorType};
use crate::program::Program;

/// Largest head width of the kernel.
const WIDTH_MAX: usize = 128;
const WIDTH_STEP: usize = 8;

/// Whether the kernel takes every attention of the program.
pub(super) fn is_possible(program: &Program) -> bool {
    let fits = |node: &Node| {
        let q = program.tensor_type(node.operands[0]);
        q.dtype == DType::BF16 && q.dims[3] <= WIDTH_MAX && q.dims[3].is_multiple_of(WIDTH_STEP)
    };
    program.nodes().iter().filter(|n| matches!(n.op, Op::Attention { .. } | Op::AttentionGrad { .. })).all(fits)
}

/// A value of the call: its name, type, and the order of its axes in memory, last first.
struct Typed {
    name: String,
    ty: TensorType,
}

/// Layouts as the call spells them: `[last axis, …, first axis]`.
fn row_major(rank: usize) -> String {
    let order: Vec<String> = (0..rank).rev().map(|a| a.to_string()).collect();
    format!("dense<[{}]> : tensor<{rank}xindex>", order.join(", "))
}

const HEADS_INSIDE: &str = "dense<[3, 1, 2, 0]> : tensor<4xindex>";
const WORKSPACE: &str = "tensor<0xui8>";
const WORKSPACE_LAYOUT: &str = "dense<0> : tensor<1xindex>";
/// `[batch, heads, seq, width]` ↔ `[batch, seq, heads, width]`.
const SWAP_HEADS: [usize; 4] = [0, 2, 1, 3];

impl Writer<'_> {
    pub(super) fn fused_attention(&mut self, node: &Node, scale: f32) {
        self.on_each_device(node, |writer, operands, results| {
            let q = &operands[0].ty.dims;
            let config = backend_config(q[0], q[2], q[1], scale, FORWARD_PRODUCTS);
            let swapped = heads_first(&results[0]);
            let call = writer.temporary();
            let outputs = format!("{}, {}, {WORKSPACE}", tensor(&swapped), tensor(&results[1]));
            let layouts = format!("{HEADS_INSIDE}, {}, {WORKSPACE_LAYOUT}", row_major(3));
            writer.custom_call(&format!("{call}:3"), "__cudnn$fmhaSoftmax", operands, &config, &outputs, &layouts);
            let out = writer.swap(&format!("{call}#0"), &swapped, &results[0]);
            vec![out, format!("{call}#1")]
        });
    }

    pub(super) fn fused_attention_grad(&mut self, node: &Node, scale: f32) {
        self.on_each_device(node, |writer, operands, results| {
            let q = &operands[0].ty.dims;
            let config = backend_config(q[0], q[2], q[1], scale, BACKWARD_PRODUCTS);
            let swapped: Vec<TensorType> = results.iter().map(heads_first).collect();
            // The call takes q, k, v, statistics, d_out, out.
            let [q, k, v, out, statistics, d_out] = operands else { unreachable!("attention_grad has six operands") };
            let ordered = [q, k, v, statistics, d_out, out].map(|x| Typed { name: x.name.clone(), ty: x.ty.clone() });
            let call = writer.temporary();
            let outputs = format!("{}, {WORKSPACE}", swapped.iter().map(tensor).collect::<Vec<_>>().join(", "));
            let layouts = format!("{HEADS_INSIDE}, {HEADS_INSIDE}, {HEADS_INSIDE}, {WORKSPACE_LAYOUT}");
            writer.custom_call(&format!("{call}:4"), "__cudnn$fmhaSoftmaxBackward", &ordered, &config, &outputs, &layouts);
            (0..results.len()).map(|i| writer.swap(&format!("{call}#{i}"), &swapped[i], &results[i])).collect()
        });
    }

    fn swap(&mut self, name: &str, from: &TensorType, to: &TensorType) -> String {
        let swapped = self.temporary();
        self.line(&format!("{swapped} = stablehlo.transpose {name}, dims = {SWAP_HEADS:?} : ({}) -> {}", tensor(from), tensor(to)));
        swapped
    }

    fn custom_call(&mut self, results: &str, target: &str, operands: &[Typed], config: &str, outputs: &str, layouts: &str) {
        let names: Vec<&str> = operands.iter().map(|x| x.name.as_str()).collect();
        let types: Vec<String> = operands.iter().map(|x| tensor(&x.ty)).collect();
        let operand_layouts: Vec<String> = operands.iter().map(|x| row_major(x.ty.dims.len())).collect();
        let config = config.replace('"', "\\22");
        self.line(&format!(
            "{results} = \"stablehlo.custom_call\"({}) <{{api_version = 2 : i32, backend_config = \"{config}\", call_target_name = \"{target}\", has_side_effect = false, operand_layouts = [{}], result_layouts = [{layouts}]}}> : ({}) -> ({outputs})",
            names.join(", "),
            operand_layouts.join(", "),
            types.join(", "),
        ));
    }

    /// Writes `body` for one device's part of the batch (all of it on one device): it is given the operands and the result types
    /// there, and gives the names of the results.
    fn on_each_device(&mut self, node: &Node, body: impl FnOnce(&mut Self, &[Typed], &[TensorType]) -> Vec<String>) {
        let ty = |v| self.program.tensor_type(v).clone();
        let whole: Vec<Typed> = node.operands.iter().map(|&v| Typed { name: self.name(v), ty: ty(v) }).collect();
        let results: Vec<TensorType> = node.results.iter().map(|&v| ty(v)).collect();
        let devices = self.target.devices;
        if devices == 1 {
            let names = body(self, &whole, &results);
            self.names.extend(node.results.iter().copied().zip(names));
            return;
        }
        let part = |ty: &TensorType| {
            let mut part = ty.clone();
            if let Some(axis) = Placement::Batch.axis(&ty.dims, devices) {
                part.dims[axis] /= devices;
            }
            part
        };
        let shardings = |types: &mut dyn Iterator<Item = &TensorType>| {
            let each: Vec<String> =
                types.map(|ty| format!("<@mesh, {}>", dimension_shardings(Placement::Batch, &ty.dims, devices))).collect();
            each.join(", ")
        };
        let (ins, outs) = (shardings(&mut whole.iter().map(|x| &x.ty)), shardings(&mut results.iter()));
        let parts: Vec<Typed> = whole.iter().map(|x| Typed { name: self.temporary(), ty: part(&x.ty) }).collect();
        let arguments: Vec<String> = parts.iter().map(|x| format!("{}: {}", x.name, tensor(&x.ty))).collect();
        let names: Vec<&str> = whole.iter().map(|x| x.name.as_str()).collect();
        let lhs = self.several(node);
        self.line(&format!(
            "{lhs} = sdy.manual_computation({}) in_shardings=[{ins}] out_shardings=[{outs}] manual_axes={{\"d\"}} ({}) {{",
            names.join(", "),
            arguments.join(", ")
        ));
        self.indent += 2;
        let part_results: Vec<TensorType> = results.iter().map(part).collect();
        let made = body(self, &parts, &part_results);
        let types = |types: &mut dyn Iterator<Item = &TensorType>| types.map(tensor).collect::<Vec<_>>().join(", ");
        self.line(&format!("sdy.return {} : {}", made.join(", "), types(&mut part_results.iter())));
        self.indent -= 2;
        self.line(&format!("}} : ({}) -> ({})", types(&mut whole.iter().map(|x| &x.ty)), types(&mut results.iter())));
    }
}

/// `[batch, seq, heads, width]` as the kernel gives it: `[batch, heads, seq, width]`.
fn heads_first(ty: &TensorType) -> TensorType {
    let dims: Vec<usize> = SWAP_HEADS.iter().map(|&a| ty.dims[a]).collect();
    TensorType::new(&dims, ty.dtype)
}

/// Name and contracting axes of a product inside the kernel: name, left, right, right batch axes.
type Product = (&'static str, usize, usize);
const FORWARD_PRODUCTS: &[Product] = &[("bmm1", 3, 3), ("bmm2", 3, 1)];
const BACKWARD_PRODUCTS: &[Product] =
    &[("bmm1_grad_gemm1", 2, 1), ("bmm1_grad_gemm2", 3, 1), ("bmm2_grad_gemm1", 2, 1), ("bmm2_grad_gemm2", 3, 3)];

/// The call's configuration: the kernel's algorithm, the shape of the scores, and how its products contract.
fn backend_config(batch: usize, heads: usize, seq: usize, scale: f32, products: &[Product]) -> String {
    let products: Vec<String> = products
        .iter()
        .map(|(name, left, right)| {
            // The first product of the forward pass has both operands with heads inside; all others have the scores on the left.
            let left_batch = if *name == "bmm1" || *name == "bmm2_grad_gemm2" { "\"0\",\"2\"" } else { "\"0\",\"1\"" };
            format!(
                "\"{name}_dot_dimension_numbers\":{{\"lhs_contracting_dimensions\":[\"{left}\"],\"rhs_contracting_dimensions\":[\"{right}\"],\
                 \"lhs_batch_dimensions\":[{left_batch}],\"rhs_batch_dimensions\":[\"0\",\"2\"]}}"
            )
        })
        .collect();
    format!(
        "{{\"operation_queue_id\":\"0\",\"cudnn_fmha_backend_config\":{{\
         \"algorithm\":{{\"algo_id\":\"0\",\"math_type\":\"TENSOR_OP_MATH\",\"tuning_knobs\":{{\"17\":\"1\",\"24\":\"0\"}},\
         \"is_cudnn_frontend\":true,\"workspace_size\":\"0\"}},\"fmha_scale\":{scale:?},\
         \"intermediate_tensor_shape\":{{\"element_type\":\"BF16\",\"dimensions\":[\"{batch}\",\"{heads}\",\"{seq}\",\"{seq}\"],\
         \"tuple_shapes\":[],\"layout\":{{\"dim_level_types\":[],\"dim_unique\":[],\"dim_ordered\":[],\
         \"minor_to_major\":[\"3\",\"2\",\"1\",\"0\"],\"tiles\":[],\"element_size_in_bits\":\"0\",\"memory_space\":\"0\",\
         \"index_primitive_type\":\"PRIMITIVE_TYPE_INVALID\",\"pointer_primitive_type\":\"PRIMITIVE_TYPE_INVALID\",\
         \"dynamic_shape_metadata_prefix_bytes\":\"0\"}},\"is_dynamic_dimension\":[false,false,false,false]}},\
         \"is_flash_attention\":true,\"mask_type\":\"CAUSAL\",{},\
         \"dropout_rate\":0.0,\"seed\":42,\"sliding_window_length\":0,\"max_seg_per_batch\":1,\"is_paged_attention\":false}}}}",
        products.join(",")
    )
}
