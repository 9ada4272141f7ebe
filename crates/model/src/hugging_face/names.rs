//! Names of parameters here and there (§17.6).

/// The name in a block, ours and Hugging Face's.
const BLOCK: [(&str, &str); 9] = [
    ("attention.wq", "self_attn.q_proj"),
    ("attention.wk", "self_attn.k_proj"),
    ("attention.wv", "self_attn.v_proj"),
    ("attention.wo", "self_attn.o_proj"),
    ("feed_forward.w1", "mlp.gate_proj"),
    ("feed_forward.w2", "mlp.down_proj"),
    ("feed_forward.w3", "mlp.up_proj"),
    ("attention_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
];

/// The output matrix, absent from the files of a tied model.
pub(super) const HEAD: &str = "lm_head.weight";

/// Hugging Face's name of the parameter that [`crate::LlamaConfig::params`] calls `ours`.
pub(super) fn theirs(ours: &str) -> String {
    match ours {
        "tok_embeddings.weight" => return "model.embed_tokens.weight".into(),
        "norm.weight" => return "model.norm.weight".into(),
        "output.weight" => return HEAD.into(),
        _ => {}
    }
    let parts = ours.strip_prefix("layers.").and_then(|rest| rest.strip_suffix(".weight")).and_then(|rest| rest.split_once('.'));
    let named = parts.and_then(|(layer, ours)| Some((layer, BLOCK.iter().find(|(name, _)| *name == ours)?.1)));
    let (layer, name) = named.expect("LlamaConfig::params gives no other names");
    format!("model.layers.{layer}.{name}.weight")
}

/// Whether a tensor of the name `theirs` may lie in the files without being read: buffers that follow from the sizes, and
/// the copy of a tied embedding.
pub(super) fn ignored(theirs: &str, tied: bool) -> bool {
    theirs.ends_with("rotary_emb.inv_freq") || (tied && theirs == HEAD)
}
