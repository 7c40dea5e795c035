"""Writes nemo_rl_golden.json: NeMo-RL's advantages, gradients of ClippedPGLossFn and DPOLossFn, KL, pass@k.

    pip install torch numpy pydantic
    python3 nemo_rl_golden.py --nemo-rl FOLDER

FOLDER is a checkout of github.com/NVIDIA-NeMo/RL from before its pull request 4158 (September 2026), which gives
calculate_baseline_and_std_per_prompt a third result. NeMo-RL is not on the index (nemo-rl is a placeholder there), and
its modules import Ray, Megatron and vLLM. So the classes and functions named in SOURCE are taken out of its files as
they stand and run without the rest. The committed numbers were made from a folder that held these definitions alone,
without docstrings and some comments, of

    nemo_rl/algorithms/loss/loss_functions.py   at 006907a9570734f3e5d484c08ada84b0b89224c9
    nemo_rl/algorithms/advantage_estimator.py   at 00925dd1e44b816b5cb6afa27d23d7bd7af2b957
    nemo_rl/algorithms/loss/interfaces.py       at 002cdc27b8019eafc470f0aab22d4a7206d0de81
    nemo_rl/evals/eval.py                       at 05056d093ec5b7786396cc3096597a9061a1aef1
    nemo_rl/algorithms/utils.py                 of a file of 45,487 characters, its commit not noted

Layout: golden.py. golden.widened() widens .float() of masks and counts, the type of N / (N - 1) in
calculate_baseline_and_std_per_prompt and of 1 / l in the length-adaptive lambda. As float32 these move advantages of
GRPO, GDPO and GAE by up to 4.5e-8 of a case's largest, and nothing else.
Prompts are rows of tokens in NeMo-RL; here prompt g is [g, 1]. GRPO and GDPO advantages are not masked: compare where
mask is 1. In the near tie of "even" the rounding of E[x^2] - E[x]^2 decides; GDPO would spread it over the batch, and
is left out. DPO pairs sequences 2 i (chosen) and 2 i + 1.
"""
import __future__

import argparse
import ast
import enum
import pathlib
import sys
import types
import typing

import pydantic
import torch

import golden

SOURCE = {
    "algorithms/utils.py": ["get_gdpo_reward_component_keys", "calculate_kl", "calculate_baseline_and_std_per_prompt",
                            "masked_mean", "masked_var"],
    "algorithms/loss/interfaces.py": ["LossType", "MetricNormalizer", "LossInputType", "LossFunction"],
    "algorithms/loss/loss_functions.py": ["ClippedPGLossConfig", "ClippedPGLossFn", "NLLLossFn", "PreferenceLossFn",
                                          "DPOLossConfig", "DPOLossFn"],
    "algorithms/advantage_estimator.py": ["AdvEstimatorConfig", "GAEConfig", "GRPOAdvantageEstimator",
                                          "GDPOAdvantageEstimator", "ReinforcePlusPlusAdvantageEstimator",
                                          "RawRewardAdvantageEstimator", "GeneralizedAdvantageEstimator"],
    "evals/eval.py": ["eval_pass_k"],
}


def taken_from(folder):
    """A module of SOURCE's definitions, compiled from the files' own text; annotations are not evaluated."""
    out = types.ModuleType("nemo_rl_parts")
    vars(out).update(torch=torch, enum=enum, BaseModel=pydantic.BaseModel, Protocol=typing.Protocol,
                     Optional=typing.Optional, Literal=typing.Literal)
    sys.modules[out.__name__] = out  # pydantic looks annotations up there
    for name, wanted in SOURCE.items():
        path = pathlib.Path(folder) / "nemo_rl" / name
        tree = ast.parse(path.read_text())
        tree.body = [node for node in tree.body if getattr(node, "name", None) in wanted]
        assert [node.name for node in tree.body] == wanted, f"{path} has {[node.name for node in tree.body]}"
        exec(compile(tree, path, "exec", flags=__future__.annotations.compiler_flag), vars(out))
    return out


parser = argparse.ArgumentParser()
parser.add_argument("--nemo-rl", required=True, metavar="FOLDER")
nemo = taken_from(parser.parse_args().nemo_rl)
out = golden.file("nemo_rl", None, "the commits in nemo_rl_golden.py",
                  unused=["entropy", "token_reward", "greedy_reward"])
for config in [nemo.ClippedPGLossConfig, nemo.DPOLossConfig, nemo.AdvEstimatorConfig, nemo.GAEConfig]:
    out.defaults[config.__name__] = config().model_dump()


def advantage(estimator, batch, options, loss_options=None, inputs=None, valid=None, **extra):
    b = golden.padded(out.batches[batch])
    make = nemo.GAEConfig if estimator in ("GeneralizedAdvantageEstimator",
                                                 "RawRewardAdvantageEstimator") else nemo.AdvEstimatorConfig
    self = getattr(nemo, estimator)(make(**options), nemo.ClippedPGLossConfig(**(loss_options or {})))
    prompts = torch.tensor([[g, 1] for g in b.group])
    given = dict(inputs or {})
    mask = b.mask
    if valid is not None:
        given["valid_mask"] = valid
        extra["valid_mask"] = torch.tensor(valid)
        mask = mask * extra["valid_mask"].unsqueeze(-1)
    result = self.compute_advantage(prompt_ids=prompts, rewards=b.reward, mask=mask,
                                    logprobs_policy=b.old_log_prob, logprobs_reference=b.ref_log_prob, **extra)
    result = result if isinstance(result, tuple) else (result, None)
    outputs = {"advantage": b.flat_advantages(result[0])}
    if result[1] is not None:
        outputs["returns"] = b.flat(result[1])
    out.add(estimator, batch, dict(options, **(loss_options or {})), outputs, given)


def advantages():
    for batch in ["uneven", "even"]:
        b = golden.padded(out.batches[batch])
        n = len(b.group)
        valid = [0.0 if i in (1, 9, 10, 11) else 1.0 for i in range(n)]
        brevity = [1.0 / k for k in b.lengths]
        for leave_one_out in [True, False]:
            for normal in [True, False]:
                options = dict(use_leave_one_out_baseline=leave_one_out, normalize_rewards=normal)
                advantage("GRPOAdvantageEstimator", batch, options)
            advantage("GRPOAdvantageEstimator", batch, dict(options, normalize_rewards=True), valid=valid)
            for weights in [None, [1.0, 0.25]] if batch == "uneven" else []:
                parts = {"reward/accuracy": b.reward, "reward/brevity": torch.tensor(brevity)}
                weighted = dict(options, normalize_rewards=True, reward_weights=weights)
                advantage("GDPOAdvantageEstimator", batch, weighted, None,
                          {"accuracy": b.reward, "brevity": brevity}, repeated_batch=parts)
        for baseline in [True, False]:
            for penalty in [dict(), dict(use_kl_in_reward=True, reference_policy_kl_penalty=0.05,
                                         reference_policy_kl_type="k1")]:
                advantage("ReinforcePlusPlusAdvantageEstimator", batch, dict(minus_baseline=baseline), penalty)
            advantage("ReinforcePlusPlusAdvantageEstimator", batch, dict(minus_baseline=baseline), valid=valid)
        for normal in [True, False]:
            advantage("RawRewardAdvantageEstimator", batch, dict(normalize_advantages=normal))
        penalty = dict(use_kl_in_reward=True, reference_policy_kl_penalty=0.05, reference_policy_kl_type="k1")
        for options in [dict(), dict(gae_lambda=1.0, normalize_advantages=False), dict(gae_gamma=0.99),
                        dict(gae_lambda_value=1.0, gae_lambda_policy=0.9), dict(length_adaptive_alpha=0.5)]:
            advantage("GeneralizedAdvantageEstimator", batch, options, penalty, values=b.value)


def loss(batch, valid=None, seqs=None, toks=None, **options):
    """The log-probs are of the next token in NeMo-RL, so every other array has one column more, the first."""
    b = golden.padded(out.batches[batch])

    def shifted(x):
        return torch.cat([torch.zeros(len(x), 1), x.detach()], dim=1)
    sample = torch.tensor(valid or [1.0] * len(b.lengths))
    active = (b.mask * sample.unsqueeze(-1)).sum()
    data = dict(token_mask=shifted(b.mask), sample_mask=sample, advantages=shifted(b.token_advantage),
                prev_logprobs=shifted(b.old_log_prob), generation_logprobs=shifted(b.rollout_log_prob),
                reference_policy_logprobs=shifted(b.ref_log_prob), rewards=b.reward)
    value, _ = nemo.ClippedPGLossFn(nemo.ClippedPGLossConfig(**options))(
        b.log_prob, data, torch.tensor(float(seqs)) if seqs else sample.sum(),
        torch.tensor(float(toks)) if toks else active)
    shown = dict(nemo.ClippedPGLossConfig(**options).model_dump(), global_valid_seqs=seqs or sample.sum(),
                 global_valid_toks=toks or active)
    out.add("ClippedPGLossFn", batch, shown, b.gradient(value), {"sample_mask": valid} if valid else {})


KINDS = [(None, None, None), ("tis", None, 1.1), ("tis", 0.9, 1.1), ("icepop", 0.8, 1.25), ("seq-mask-tis", 0.95, 1.1)]


def truncated(kind, low, high):
    return dict(use_importance_sampling_correction=True, truncated_importance_sampling_type=kind,
                truncated_importance_sampling_ratio=high, truncated_importance_sampling_ratio_min=low)


def losses():
    wide = dict(ratio_clip_min=0.2, ratio_clip_max=0.28, reference_policy_kl_penalty=0.0)
    by_sequence = dict(wide, token_level_loss=False)
    gspo = dict(by_sequence, sequence_level_importance_ratios=True)
    for batch in ["uneven", "large"]:
        loss(batch, **wide)
        loss(batch, **by_sequence)
        loss(batch, **dict(wide, ratio_clip_c=3.0))
        loss(batch, **dict(wide, use_cispo=True))
        loss(batch, **dict(wide, disable_ppo_ratio=True))
        loss(batch, **dict(wide, force_on_policy_ratio=True))
        loss(batch, **gspo)
        loss(batch, **dict(gspo, use_importance_sampling_correction=True))
        for kind in KINDS:
            loss(batch, **wide, **truncated(*kind))
        for kind in ["k1", "k2", "k3"]:
            for approximate in [False, True]:
                loss(batch, reference_policy_kl_penalty=0.05, reference_policy_kl_type=kind,
                     use_on_policy_kl_approximation=approximate)
        loss(batch, reference_policy_kl_penalty=0.05, kl_input_clamp_value=None, kl_output_clamp_value=None)
        loss(batch, reference_policy_kl_penalty=0.05, token_level_loss=False)
    for kind in KINDS:
        loss("uneven", **by_sequence, **truncated(*kind))
        if kind[0] != "seq-mask-tis":
            loss("uneven", **gspo, **truncated(*kind))
    for base in [dict(ratio_clip_c=3.0), dict(use_cispo=True), dict(disable_ppo_ratio=True),
                 dict(force_on_policy_ratio=True), dict(force_on_policy_ratio=True, token_level_loss=False),
                 dict(disable_ppo_ratio=True, token_level_loss=False)]:
        loss("large", **dict(wide, **base), **truncated("icepop", 0.8, 1.25))
    loss("large", **dict(gspo, ratio_clip_c=1.5))
    loss("uneven", **dict(gspo, reference_policy_kl_penalty=0.05, ratio_clip_min=0.03, ratio_clip_max=0.04))
    loss("uneven", reference_policy_kl_penalty=0.05, use_kl_in_reward=True)
    for kind in ["k1", "k2", "k3"]:  # both clamps hold at some tokens
        for approximate in [False, True]:
            loss("uneven", reference_policy_kl_penalty=0.05, reference_policy_kl_type=kind, kl_input_clamp_value=0.9,
                 kl_output_clamp_value=0.2, use_on_policy_kl_approximation=approximate, token_level_loss=approximate)
    some = [0.0 if i in (2, 7) else 1.0 for i in range(14)]
    loss("uneven", **dict(wide, positive_example_nll_weight=0.1))
    loss("uneven", some, **dict(by_sequence, positive_example_nll_weight=0.1))
    for token in [True, False]:
        loss("uneven", some, reference_policy_kl_penalty=0.05, token_level_loss=token)
        loss("uneven", some, 32, 200, **dict(wide, token_level_loss=token))
        loss("dead", **dict(wide, token_level_loss=token))


def preference(batch, valid=None, **options):
    b = golden.padded(out.batches[batch])
    more = torch.zeros(len(b.lengths), 1)
    sample = torch.tensor(valid or [1.0] * len(b.lengths))
    data = dict(token_mask=torch.cat([more, b.mask], dim=1), sample_mask=sample,
                reference_policy_logprobs=torch.cat([b.ref_log_prob, more], dim=1))
    config = nemo.DPOLossConfig(**options)
    value, _ = nemo.DPOLossFn(config)(b.log_prob, data, sample.sum(), (b.mask * sample.unsqueeze(-1)).sum())
    out.add("DPOLossFn", batch, config.model_dump(), b.gradient(value), {"sample_mask": valid} if valid else {})


def preferences():
    some = [0.0 if i in (2, 3, 6, 7) else 1.0 for i in range(16)]
    for mean in [False, True]:
        for sft in [0.0, 0.5]:
            options = dict(preference_average_log_probs=mean, sft_loss_weight=sft, sft_average_log_probs=mean)
            preference("even", **options)
            preference("even", some, **options, reference_policy_kl_penalty=0.3, preference_loss_weight=0.7)
            preference("large", **options)
            preference("dead", **options)


def rest():
    for kind in ["k1", "k2", "k3"]:
        b = golden.padded(out.batches["large"])
        value = nemo.calculate_kl(b.log_prob, b.ref_log_prob, kind)
        out.add("calculate_kl", "large", dict(kl_type=kind, loss="sum over active tokens"),
                dict(b.gradient((value * b.mask).sum()), value=b.flat(value)))
    rewards = [1.0] * 3 + [0.0] * 13
    for k in [1, 2, 4, 8, 13, 14, 16]:
        out.add("eval_pass_k", None, dict(k=k, num_tests_per_prompt=16),
                {"value": nemo.eval_pass_k(torch.tensor(rewards), 16, k)}, {"reward": rewards})


with golden.widened():
    advantages()
    losses()
    preferences()
    rest()
out.write(__file__)
