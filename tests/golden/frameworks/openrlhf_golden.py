"""Writes openrlhf_golden.json: OpenRLHF's advantages, gradients of PolicyLoss, aggregation, KL estimators, DPO, SFT.

    pip install openrlhf==0.11.2 --no-deps
    pip install torch numpy transformers
    python3 openrlhf_golden.py

Layout: golden.py. Hard float32 of OpenRLHF that golden.widened() widens: models/utils.compute_approx_kl and the batch
whitening in RemoteExperienceMaker.compute_advantages_and_returns. compute_reward puts the reward on the last token
whose mask is 1, and the KL penalty on every token; returns run through masked tokens. The values at masked tokens mean
nothing once whitened: compare where mask is 1.
"""
import inspect
from types import SimpleNamespace

import torch

import golden

golden.stand_in_for("ray", "deepspeed", "flash_attn", "vllm", "peft", "pylatexenc", "datasets", "torchdata", "wandb",
                    "optimum", "bitsandbytes", "loralib", "ring_flash_attn", "jsonlines", "einops", "isort",
                    "math_verify", "liger_kernel", "accelerate", "tensorboard", "torchmetrics", "fastapi", "uvicorn",
                    "aiohttp")

from openrlhf.models.loss import DPOLoss, PolicyLoss, SFTLoss, aggregate_loss  # noqa: E402
from openrlhf.models.utils import compute_approx_kl  # noqa: E402
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker  # noqa: E402

out = golden.file("openrlhf", "openrlhf", unused=["entropy", "token_reward", "greedy_reward"])


def advantage(batch, estimator, group=4, kl_coef=0.0, gamma=1.0, lambd=1.0, no_std_norm=False, clip=None, split=1):
    """split: number of experience micro-batches."""
    b = golden.padded(out.batches[batch])
    space = SimpleNamespace
    args = space(algo=space(advantage=space(estimator=estimator, gamma=gamma, lambd=lambd, no_std_norm=no_std_norm)),
                 reward=space(clip_range=clip, overlong_buffer_len=None, stop_properly_penalty_coef=None),
                 rollout=space(n_samples_per_prompt=group, max_new_tokens=64))
    self = RemoteExperienceMaker(None, None, None, None, space(value=kl_coef), space(args=args), None)
    n = len(b.lengths)
    kl = compute_approx_kl(b.old_log_prob, b.ref_log_prob, kl_estimator="k1").detach()
    made = []
    for i in range(0, n, n // split):
        rows = slice(i, i + n // split)
        made.append(space(rewards=b.reward[rows].clone(), index=list(range(n))[rows], kl=kl[rows].clone(), info={},
                          action_mask=b.mask[rows], values=b.value[rows], response_length=b.mask[rows].sum(-1),
                          advantages=None, returns=None))
    self.compute_advantages_and_returns(made)
    outputs = {"advantage": b.flat_advantages(torch.cat([e.advantages for e in made]))}
    if estimator == "gae":
        outputs["returns"] = b.flat(torch.cat([e.returns for e in made]))
    out.add("RemoteExperienceMaker.compute_advantages_and_returns", batch,
            dict(estimator=estimator, n_samples_per_prompt=group, kl_coef=kl_coef, gamma=gamma, lambd=lambd,
                 no_std_norm=no_std_norm, reward_clip_range=clip, micro_batches=split, kl="k1 of old_log_prob"),
            outputs)


def advantages():
    for estimator in ["rloo", "reinforce_baseline", "dr_grpo", "group_norm", "flash_reinforce", "reinforce", "gae"]:
        for kl_coef in [0.0, 0.05]:
            advantage("even", estimator, kl_coef=kl_coef)
    for estimator in ["reinforce_baseline", "reinforce", "gae"]:
        advantage("even", estimator, kl_coef=0.05, no_std_norm=True)
    advantage("even", "reinforce", group=1, kl_coef=0.05, gamma=0.9)
    advantage("even", "gae", group=1, kl_coef=0.05, gamma=0.99, lambd=0.95)
    advantage("even", "reinforce", kl_coef=0.05, clip=(0.05, 0.5))
    advantage("even", "group_norm", kl_coef=0.05, gamma=0.9)  # gamma is set back to 1
    advantage("even", "reinforce_baseline", kl_coef=0.05, split=4)


def policy(batch, info=None, **options):
    b = golden.padded(out.batches[batch])
    module = PolicyLoss(**options)
    value, *_ = module(b.log_prob, b.old_log_prob, b.token_advantage, b.mask,
                       b.rollout_log_prob, **(info or {}))
    names = ["clip_eps_low", "clip_eps_high", "dual_clip", "token_level_loss", "policy_loss_type",
             "is_correction_level", "is_correction_mode", "is_correction_gating", "is_correction_threshold"]
    out.add("PolicyLoss", batch, dict({k: getattr(module, k) for k in names}, **(info or {})), b.gradient(value))


def policies():
    wide = dict(clip_eps_low=0.2, clip_eps_high=0.28)
    for batch in ["uneven", "large"]:
        for token in [True, False]:
            policy(batch, token_level_loss=token, **wide)
        policy(batch, dual_clip=3.0, **wide)
        policy(batch, policy_loss_type="gspo", **wide)
        policy(batch, policy_loss_type="gspo", clip_eps_low=0.03, clip_eps_high=0.04)
        policy(batch, policy_loss_type="gspo", dual_clip=1.5, **wide)
        for level, mode, gating, threshold in [
                ("token", "mask", "ratio", (0.8, 1.25)), ("token", "clip", "ratio", (0.9, 1.1)),
                ("seq", "mask", "ratio", (0.95, 1.1)), ("token", "mask", "binary_kl", (0.0, 0.002)),
                ("seq", "mask", "binary_kl", (0.0, 0.004)), ("token", "mask", "tv", (0.0, 0.02)),
                ("seq", "mask", "tv", (0.0, 0.03))]:
            policy(batch, is_correction_level=level, is_correction_mode=mode, is_correction_gating=gating,
                   is_correction_threshold=threshold, **wide)
    policy("uneven", is_correction_level="token", is_correction_mode="clip", is_correction_gating="ratio",
           is_correction_threshold=(0.5, 5.0), dual_clip=3.0, token_level_loss=False)
    policy("uneven", policy_loss_type="gspo", is_correction_level="token", **wide)
    info = dict(dp_size=2, batch_num_tokens=200, global_batch_size=32)
    for batch in ["uneven", "dead"]:
        for token in [True, False]:
            policy(batch, info, token_level_loss=token, **wide)
    policy("dead", token_level_loss=False, **wide)


def rest():
    info = dict(dp_size=2, batch_num_tokens=200, global_batch_size=32)
    for batch in ["uneven", "dead"]:
        for token in [True, False]:
            for more in [{}, info]:
                b = golden.padded(out.batches[batch])
                out.add("aggregate_loss", batch, dict(more, token_level_loss=token, loss="log_prob"),
                        b.gradient(aggregate_loss(b.log_prob, b.mask, token, **more)))
    for token in [True, False]:
        b = golden.padded(out.batches["uneven"])
        out.add("SFTLoss", "uneven", dict(token_level_loss=token), b.gradient(SFTLoss(token)(b.log_prob, b.mask)))
    for batch in ["uneven", "large"]:
        for kind in ["k1", "k2", "k3"]:
            for unbiased in [False, True]:
                b = golden.padded(out.batches[batch])
                value = compute_approx_kl(b.log_prob, b.ref_log_prob, b.old_log_prob, kind, unbiased)
                out.add("compute_approx_kl", batch,
                        dict(kl_estimator=kind, unbiased_gradient=unbiased, loss="sum over active tokens"),
                        dict(b.gradient((value * b.mask).sum()), value=b.flat(value)))
    for beta, smoothing, ipo in [(0.1, 0.0, False), (0.7, 0.0, False), (0.1, 0.2, False), (0.1, 0.0, True)]:
        b = golden.padded(out.batches["even"])
        chosen, rejected = (b.log_prob * b.mask).sum(-1).chunk(2)
        by_ref = (b.ref_log_prob * b.mask).sum(-1).chunk(2)
        value, *_ = DPOLoss(beta, smoothing, ipo)(chosen, rejected, *by_ref)
        out.add("DPOLoss", "even", dict(beta=beta, label_smoothing=smoothing, ipo=ipo,
                                        pairs="sequence i with i + n/2, log-probs summed over active tokens"),
                b.gradient(value))


for module in [PolicyLoss, DPOLoss]:
    out.defaults[module.__name__] = {name: p.default for name, p in inspect.signature(module).parameters.items()
                                     if p.default is not p.empty}
with golden.widened():
    advantages()
    policies()
    rest()
out.write(__file__)
