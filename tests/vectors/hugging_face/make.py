"""Makes tests/vectors/hugging_face: a tiny random Llama with grouped-query attention as transformers saves it."""
import json, sys, torch, transformers
from transformers import LlamaConfig, LlamaForCausalLM
from safetensors.torch import save_file
out = sys.argv[1]
torch.manual_seed(7)
for name, tied, dtype in [("untied", False, torch.float32), ("tied_bf16", True, torch.bfloat16)]:
    c = LlamaConfig(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=2e-5, tie_word_embeddings=tied,
                    rope_parameters={"rope_type": "default", "rope_theta": 50000.0}, bos_token_id=None, eos_token_id=[5, 6])
    m = LlamaForCausalLM(c).float().eval()
    with torch.no_grad():
        for n, p in m.named_parameters():
            # Large enough that every part shows in the logits; norms away from one.
            p.copy_(torch.randn_like(p) * 0.15 + (1.0 if "norm" in n else 0.0))
    m = m.to(dtype)
    m.save_pretrained(f"{out}/{name}", max_shard_size="20KB" if not tied else "5GB")
    # Loaded again rather than widened: the library would widen rounded rotary frequencies, too.
    m = LlamaForCausalLM.from_pretrained(f"{out}/{name}", dtype=torch.float32).eval()
    tokens = torch.randint(0, 96, (2, 24))
    with torch.no_grad():
        r = m(input_ids=tokens, labels=tokens)
    save_file({"logits": r.logits.contiguous()}, f"{out}/{name}/expected_logits.safetensors")
    json.dump({"tokens": tokens.tolist(), "loss": r.loss.item(), "torch": torch.__version__, "transformers": transformers.__version__},
              open(f"{out}/{name}/expected.json", "w"))
