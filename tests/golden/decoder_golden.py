"""Writes decoder_golden.json: what transformers computes in float64 for small decoders of every family.

    pip install torch transformers==4.57.*
    python3 decoder_golden.py [--check-tiny-llama FOLDER]

Parameters need no file: element j of tensor k (in the order of rlvr::decoder::layout) is
    w = sin(0.7 j + 0.003 j^2 + 1.3 k + 0.1)
    1 + 0.1 w   where the tensor is a norm weight,   0.35 w   elsewhere.
The code of transformers is run as it is, except that the float32 it asks for in places (softmax, RMSNorm, rotary
angles) means float64.
Version 5 of transformers scales the rotary embeddings of olmo3's sliding layers too, which the models were not
trained with; hence 4.57.

With --check-tiny-llama it compares a Llama checkpoint with the float64 oracle beside it, and writes nothing.
"""
import argparse
import json
import os
import pathlib
import re
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import torch

torch.float32 = torch.float = torch.float64
torch.Tensor.float = torch.Tensor.double
torch.set_default_dtype(torch.float64)
import transformers

COMMON = dict(hidden_act="silu", max_position_embeddings=64, num_hidden_layers=2, vocab_size=19, bos_token_id=None,
              eos_token_id=1, pad_token_id=0, rms_norm_eps=1e-5)
SHAPES = {
    "llama": dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=32, intermediate_size=48,
                  num_attention_heads=4, num_key_value_heads=2, head_dim=8, rope_theta=10000.0,
                  tie_word_embeddings=False, attention_bias=False, **COMMON),
    "llama, biases": dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=24, intermediate_size=40,
                          num_attention_heads=3, num_key_value_heads=3, head_dim=8, rope_theta=500.0,
                          tie_word_embeddings=True, attention_bias=True, **COMMON),
    "qwen2": dict(architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_size=32, intermediate_size=48,
                  num_attention_heads=4, num_key_value_heads=1, rope_theta=1000000.0, tie_word_embeddings=True,
                  use_sliding_window=False, **COMMON),
    "qwen3": dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3", hidden_size=20, intermediate_size=36,
                  num_attention_heads=4, num_key_value_heads=2, head_dim=6, rope_theta=1000000.0,
                  tie_word_embeddings=False, attention_bias=False, use_sliding_window=False, **COMMON),
    "llama 3": dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=32, intermediate_size=48,
                    num_attention_heads=4, num_key_value_heads=2, head_dim=16, rope_theta=500.0,
                    rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                      original_max_position_embeddings=16),
                    tie_word_embeddings=True, attention_bias=False, **COMMON),
    "qwen2, window": dict(architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_size=32, intermediate_size=48,
                          num_attention_heads=4, num_key_value_heads=2, rope_theta=1000000.0, tie_word_embeddings=True,
                          use_sliding_window=True, sliding_window=3, max_window_layers=1, **COMMON),
    "qwen3, yarn": dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3", hidden_size=20, intermediate_size=36,
                        num_attention_heads=4, num_key_value_heads=2, head_dim=12, rope_theta=10000.0,
                        rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16,
                                          beta_fast=2.0),
                        tie_word_embeddings=False, attention_bias=True, use_sliding_window=False, **COMMON),
    "olmo2": dict(architectures=["Olmo2ForCausalLM"], model_type="olmo2", hidden_size=24, intermediate_size=40,
                  num_attention_heads=4, num_key_value_heads=2, rope_theta=500000.0, tie_word_embeddings=False,
                  attention_bias=False, **COMMON),
    "olmo3": dict(architectures=["Olmo3ForCausalLM"], model_type="olmo3", hidden_size=32, intermediate_size=40,
                  num_attention_heads=4, num_key_value_heads=2, rope_theta=100.0,
                  rope_scaling=dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=32, beta_fast=8.0,
                                    beta_slow=1.0, attention_factor=1.2079441541679836),
                  sliding_window=4, layer_types=["sliding_attention", "full_attention"], tie_word_embeddings=False,
                  attention_bias=False, **COMMON),
}
ROLLOUTS = [  # prompt, completion, coefficient of each completion token
    ([5, 7, 2, 11], [3, 8, 18, 4, 1], [0.5, -1.0, 0.25, 2.0, -0.75]),
    ([9], [9, 9, 2, 17, 6, 12, 1], [1.0, 0.0, -0.5, 0.3, 0.7, -1.2, 0.1]),
    ([5, 7, 2, 11], [14, 1], [-0.6, 0.9]),
    ([16, 3, 3, 10, 13, 2, 15, 5, 4], [7], [1.5]),
]
TEMPERATURES = [1.0, 0.7]


def layout(config):
    names = ["model.embed_tokens.weight"]
    for i in range(config["num_hidden_layers"]):
        attention = [f"{p}_proj.weight" for p in "qkv"]
        if config["model_type"] == "qwen2" or config.get("attention_bias"):
            attention += [f"{p}_proj.bias" for p in "qkv"]
        olmo = config["model_type"].startswith("olmo")
        if olmo or config["model_type"] == "qwen3":
            attention += ["q_norm.weight", "k_norm.weight"]
        attention += ["o_proj.weight"] + (["o_proj.bias"] if config.get("attention_bias") else [])
        names += [f"model.layers.{i}.{n}" for n in
                  ([] if olmo else ["input_layernorm.weight"]) + ["self_attn." + n for n in attention] +
                  ["post_attention_layernorm.weight"] + [f"mlp.{p}_proj.weight" for p in ("gate", "up", "down")] +
                  (["post_feedforward_layernorm.weight"] if olmo else [])]
    return names + ["model.norm.weight"] + ([] if config["tie_word_embeddings"] else ["lm_head.weight"])


def build(config):
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "config.json").write_text(json.dumps(config))
        loaded = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_config(loaded, attn_implementation="eager").double().eval()
    tensors = dict(model.named_parameters())
    names = layout(config)
    assert set(names) == set(tensors), set(names) ^ set(tensors)
    with torch.no_grad():
        for k, name in enumerate(names):
            j = torch.arange(tensors[name].numel(), dtype=torch.float64)
            w = torch.sin(0.7 * j + 0.003 * j * j + 1.3 * k + 0.1)
            w = 1 + 0.1 * w if name.endswith("norm.weight") else 0.35 * w
            tensors[name].copy_(w.reshape(tensors[name].shape))
    return model, [(name, tensors[name]) for name in names]


def scores(model, prompt, completion, temperature):
    """Log-probabilities and entropies of the completion's tokens."""
    logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1:-1]
    assert logits.dtype == torch.float64
    log_p = torch.log_softmax(logits / temperature, -1)
    return log_p.gather(1, torch.tensor(completion)[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)


def rounded(values):
    return [float(f"{v.item():.12g}") for v in values]


def golden(config):
    model, tensors = build(config)
    out = {"config": json.dumps(config), "parameters": sum(t.numel() for _, t in tensors), "batches": []}
    for temperature in TEMPERATURES:
        model.zero_grad()
        total, rollouts = 0, []
        for prompt, completion, coefficients in ROLLOUTS:
            log_p, entropy = scores(model, prompt, completion, temperature)
            total = total + (torch.tensor(coefficients) * log_p).sum()
            rollouts.append({"log_probs": rounded(log_p), "entropies": rounded(entropy)})
        total.backward()
        out["batches"].append({"temperature": temperature, "rollouts": rollouts})
    # Of the last temperature: name, norm, sum, the entries 0, size / 2 and size - 1, and the sums of
    # g_j sin(1.1 j + 0.5) and of g_j sin(0.7 j + 0.003 j^2), which see every entry at its place.
    out["gradient"] = []
    for name, t in tensors:
        g = t.grad.flatten()
        j = torch.arange(len(g), dtype=torch.float64)
        out["gradient"].append([name] + rounded([g.norm(), g.sum(), g[0], g[len(g) // 2], g[-1],
                                                 (g * torch.sin(1.1 * j + 0.5)).sum(),
                                                 (g * torch.sin(0.7 * j + 0.003 * j * j)).sum()]))
    return out


def check_tiny_llama(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    oracle = json.loads(pathlib.Path(folder, "forward_oracle_fp64.json").read_text())
    worst = 0.0
    for case in oracle["cases"]:
        logits = model(torch.tensor([case["input_ids"]])).logits[0]
        worst = max(worst, (logits - torch.tensor(case["logits"])).abs().max().item())
    print(f"{len(oracle['cases'])} sequences, largest difference of a logit {worst:.3g}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check-tiny-llama", metavar="FOLDER")
    folder = parser.parse_args().check_tiny_llama
    if folder:
        return check_tiny_llama(folder)
    out = {
        "made_by": f"decoder_golden.py, transformers {transformers.__version__}, torch {torch.__version__}",
        "rollouts": [{"prompt": p, "completion": c, "coefficients": w} for p, c, w in ROLLOUTS],
        "shapes": {name: golden(config) for name, config in SHAPES.items()},
    }
    text = json.dumps(out, indent=1)
    # One line per list of numbers.
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s*\n\s*", " ", m[1]) + "]", text)
    pathlib.Path(__file__).with_name("decoder_golden.json").write_text(text + "\n")


main()
