//! `config.json`: our sizes from it, and it from our sizes.
//!
//! Keys that change what a Llama computes are read, and refused where we compute something else; the others are left alone.

use crate::{Element, LlamaConfig, Rotary};
use serde_json::{Map, Value, json};

/// What `transformers` takes for granted in a Llama's `config.json` that does not say it.
mod absent {
    pub const ROPE_THETA: f64 = 10_000.0;
    pub const RMS_NORM_EPS: f64 = 1e-6;
    pub const MAX_POSITION_EMBEDDINGS: usize = 2048;
}

/// The text of a `config.json` for `config`; `eos` ends a document.
pub(super) fn write(config: &LlamaConfig, eos: Option<u32>, element: Element) -> String {
    let dtype = match element {
        Element::F32 => "float32",
        Element::Bf16 => "bfloat16",
        Element::F16 => "float16",
    };
    // The rotary base and the type stand twice: before and since version 5 of the library.
    let value = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab,
        "hidden_size": config.dim,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim(),
        "max_position_embeddings": config.seq_len,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attention_bias": false,
        "mlp_bias": false,
        "attention_dropout": 0.0,
        "tie_word_embeddings": config.tied,
        "bos_token_id": null,
        "eos_token_id": eos,
        "pad_token_id": null,
        "use_cache": true,
        "dtype": dtype,
        "torch_dtype": dtype,
    });
    format!("{value:#}\n")
}

/// The sizes in the text of a `config.json`, and the token that ends a document if it names one. The error says what is
/// wrong or not supported.
pub(super) fn parse(json: &[u8]) -> Result<(LlamaConfig, Option<u32>), String> {
    let value: Value = serde_json::from_slice(json).map_err(|error| format!("config.json is malformed ({error})"))?;
    let fields = Fields(value.as_object().ok_or("config.json is not a JSON object")?);
    fields.check_architecture()?;
    let heads = fields.size("num_attention_heads", None)?;
    let config = LlamaConfig {
        vocab: fields.size("vocab_size", None)?,
        dim: fields.size("hidden_size", None)?,
        layers: fields.size("num_hidden_layers", None)?,
        heads,
        kv_heads: fields.size("num_key_value_heads", Some(heads))?,
        ffn: fields.size("intermediate_size", None)?,
        rope_theta: fields.rope_theta()?,
        norm_eps: fields.number("rms_norm_eps")?.unwrap_or(absent::RMS_NORM_EPS),
        rotary: Rotary::HalfSplit,
        tied: fields.flag("tie_word_embeddings")?,
        seq_len: fields.size("max_position_embeddings", Some(absent::MAX_POSITION_EMBEDDINGS))?,
        masked_target: None,
    };
    config.validate().map_err(|error| error.to_string())?;
    let head_dim = fields.size("head_dim", Some(config.head_dim()))?;
    if head_dim != config.head_dim() {
        return Err(format!(
            "its heads have {head_dim} elements; here they have hidden_size / num_attention_heads = {}",
            config.head_dim()
        ));
    }
    Ok((config, fields.eos()))
}

/// The keys of a `config.json`; a null counts as absent.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn size(&self, key: &str, absent: Option<usize>) -> Result<usize, String> {
        match (self.get(key), absent) {
            (None, Some(absent)) => Ok(absent),
            (None, None) => Err(format!("config.json has no `{key}`")),
            (Some(value), _) => {
                let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
                size.ok_or_else(|| format!("`{key}` is {}, expected a size", shown(value)))
            }
        }
    }

    fn number(&self, key: &str) -> Result<Option<f64>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| format!("`{key}` is {}, expected a number", shown(value)))
    }

    fn flag(&self, key: &str) -> Result<bool, String> {
        let Some(value) = self.get(key) else { return Ok(false) };
        value.as_bool().ok_or_else(|| format!("`{key}` is {}, expected true or false", shown(value)))
    }

    /// Refuses everything that is not the Llama computed here.
    fn check_architecture(&self) -> Result<(), String> {
        let only = "only LlamaForCausalLM is supported";
        match self.get("model_type") {
            Some(value) if value == "llama" => {}
            Some(value) => return Err(format!("its model_type is {}; {only}", shown(value))),
            None => return Err(format!("config.json names no model_type; {only}")),
        }
        if let Some(Value::Array(names)) = self.get("architectures")
            && let Some(other) = names.iter().find(|name| *name != "LlamaForCausalLM")
        {
            return Err(format!("its architecture is {}; {only}", shown(other)));
        }
        if let Some(value) = self.get("hidden_act").filter(|value| *value != "silu") {
            return Err(format!("its activation is {}; only \"silu\" is supported", shown(value)));
        }
        for key in ["attention_bias", "mlp_bias"] {
            if self.flag(key)? {
                return Err(format!("it has `{key}`: biases are not supported"));
            }
        }
        if self.get("quantization_config").is_some() {
            return Err("its weights are quantised; give the model in float32, bfloat16 or float16".into());
        }
        if self.number("partial_rotary_factor")?.is_some_and(|factor| factor != 1.0) {
            return Err("it rotates a part of each head only, which is not supported".into());
        }
        Ok(())
    }

    /// The rotary base, from `rope_parameters` (since version 5 of the library) or beside it.
    fn rope_theta(&self) -> Result<f64, String> {
        let mut theta = self.number("rope_theta")?;
        for key in ["rope_scaling", "rope_parameters"] {
            let Some(value) = self.get(key) else { continue };
            let rope = Fields(value.as_object().ok_or_else(|| format!("`{key}` is {}, expected an object", shown(value)))?);
            let kind = rope.get("rope_type").or_else(|| rope.get("type"));
            if let Some(kind) = kind.filter(|kind| *kind != "default") {
                return Err(format!("its rotary embedding is scaled ({key}: {}), which is not supported", shown(kind)));
            }
            theta = rope.number("rope_theta")?.or(theta);
        }
        Ok(theta.unwrap_or(absent::ROPE_THETA))
    }

    /// The end of a document: a number, or the first of a list.
    fn eos(&self) -> Option<u32> {
        let value = self.get("eos_token_id")?;
        let id = value.as_array().map_or(Some(value), |ids| ids.first())?;
        id.as_u64().and_then(|id| u32::try_from(id).ok())
    }
}

/// A value for a message, not longer than a line.
fn shown(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}
