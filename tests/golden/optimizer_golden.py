"""Writes optimizer_golden.json: the steps of torch.optim.AdamW and SGD, and of clip_grad_norm_, in float64.

    pip install torch
    python3 optimizer_golden.py

Gradients need no file: coordinate i of step s (both from 0) is sin(1.7 i + 0.9 s + 0.3 i s) * 4^(i - 3), and 0 for
the last coordinate. Learning rates follow factor(s) = 1 / (1 + s / 8). Every optimizer maximises.
"""
import json
import math
import pathlib
import re

import torch

START = [1.0, -2.0, 0.0, 30.0, 0.5, -0.25]
STEPS = 25
SHOWN = [0, 1, 4, 24]
ADAMW = [
    dict(learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.01),
    dict(learning_rate=0.3, beta1=0.0, beta2=0.0, epsilon=1e-8, weight_decay=0.0),
    dict(learning_rate=0.05, beta1=0.8, beta2=0.98, epsilon=1e-3, weight_decay=0.5),
]
SGD = [
    dict(learning_rate=0.1, momentum=0.0, nesterov=False, weight_decay=0.0),
    dict(learning_rate=0.1, momentum=0.0, nesterov=False, weight_decay=0.2),
    dict(learning_rate=0.05, momentum=0.9, nesterov=False, weight_decay=0.0),
    dict(learning_rate=0.05, momentum=0.9, nesterov=False, weight_decay=0.1),
    dict(learning_rate=0.05, momentum=0.7, nesterov=True, weight_decay=0.1),
]
CLIP = [0.5, 1.0, 100.0]


def gradient(step):
    n = len(START)
    values = [math.sin(1.7 * i + 0.9 * step + 0.3 * i * step) * 4.0 ** (i - 3) for i in range(n - 1)] + [0.0]
    return torch.tensor(values, dtype=torch.float64)


def run(make, learning_rate):
    theta = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = make([theta])
    shown = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate / (1 + step / 8)
        theta.grad = gradient(step)
        optimizer.step()
        if step in SHOWN:
            shown.append(theta.tolist())
    return shown


def adamw(o):
    return run(lambda p: torch.optim.AdamW(p, lr=o["learning_rate"], betas=(o["beta1"], o["beta2"]), eps=o["epsilon"],
                                           weight_decay=o["weight_decay"], maximize=True, foreach=False),
               o["learning_rate"])


def sgd(o):
    return run(lambda p: torch.optim.SGD(p, lr=o["learning_rate"], momentum=o["momentum"], nesterov=o["nesterov"],
                                         weight_decay=o["weight_decay"], maximize=True, foreach=False),
               o["learning_rate"])


def clip(most):
    theta = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    theta.grad = gradient(0)
    norm = torch.nn.utils.clip_grad_norm_([theta], most, foreach=False)
    return {"most": most, "norm": norm.item(), "clipped": theta.grad.tolist()}


out = {
    "made_by": f"optimizer_golden.py, torch {torch.__version__}",
    "start": START,
    "steps": STEPS,
    "shown": SHOWN,
    "adamw": [{**o, "theta": adamw(o)} for o in ADAMW],
    "sgd": [{**o, "theta": sgd(o)} for o in SGD],
    "clip": [clip(most) for most in CLIP],
}
text = json.dumps(out, indent=1)
# One line per list of numbers.
text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s*\n\s*", " ", m[1]) + "]", text)
pathlib.Path(__file__).with_name("optimizer_golden.json").write_text(text + "\n")
