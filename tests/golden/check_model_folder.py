"""Loads a model folder with transformers and compares token log-probabilities with those that rlvr computed.

    pip install torch transformers
    python3 check_model_folder.py MODEL_DIR SCORES.json

SCORES.json: {"temperature": 1.0, "cases": [{"prompt": text, "completion": text, "tokens": [ids], "log_probs": [nats]}]};
tokens are those of the completion, the end-of-sequence token included if there is one.
Prints the largest difference; exits with 1 when it is above 1e-4 or a text is encoded or decoded differently.
"""
import json
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers


def main(folder, scores_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    scores = json.loads(pathlib.Path(scores_path).read_text())
    eos = tokenizer.eos_token_id
    worst, count = 0.0, 0
    for case in scores["cases"]:
        prompt, tokens = tokenizer(case["prompt"]).input_ids, case["tokens"]
        text_tokens = tokens[:-1] if tokens and tokens[-1] == eos else tokens
        encoded = tokenizer(case["prompt"] + case["completion"]).input_ids
        if encoded != prompt + text_tokens:
            sys.exit(f"{case['prompt']!r} + {case['completion']!r} is encoded as {encoded}, not {prompt + text_tokens}")
        decoded = tokenizer.decode(tokens, skip_special_tokens=True)
        if decoded != case["completion"]:
            sys.exit(f"{tokens} is decoded as {decoded!r}, not {case['completion']!r}")
        if not tokens:
            continue
        with torch.no_grad():
            logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1:-1]
        log_p = torch.log_softmax(logits.double() / scores["temperature"], -1)
        log_p = log_p.gather(1, torch.tensor(tokens)[:, None])[:, 0]
        worst = max(worst, (log_p - torch.tensor(case["log_probs"], dtype=torch.float64)).abs().max().item())
        count += len(tokens)
    print(f"{len(scores['cases'])} completions, {count} tokens, largest difference of a log-probability {worst:.3g}")
    if count == 0 or not worst <= 1e-4:
        sys.exit(1)


main(*sys.argv[1:])
