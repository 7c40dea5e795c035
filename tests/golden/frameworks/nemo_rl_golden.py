"""Writes nemo_rl_golden.json: NeMo-RL's advantages, gradients of ClippedPGLossFn, KL, pass@k, by its formulas as read.

    pip install torch numpy pydantic
    python3 nemo_rl_golden.py

NeMo-RL itself was NOT run. The index has only a placeholder of nemo-rl (0.0.0). The committed numbers come from its
formulas typed from its source text (NVIDIA-NeMo/RL: algorithms/loss/loss_functions.py, advantage_estimator.py and
utils.py of algorithms/, evals/eval.py; read in August 2026) into a package of those four modules and nothing else.
Whether every line stands so in an installed NeMo-RL has not been checked: agreement with these numbers is agreement
with its formulas as read. The imports and stand-ins below are those that the whole package should need; they have not
been tried with it. Whoever has it should regenerate the numbers.

Layout: golden.py. golden.widened() widens the casts of masks and counts (.float()). Prompts are rows of tokens in
NeMo-RL; here prompt g is [g, 1]. GRPO and GDPO advantages are not masked: compare where mask is 1.
In the near tie of "even" the rounding of E[x^2] - E[x]^2 decides; GDPO would spread it over the batch, and is left out.
"""
import torch

import golden

golden.stand_in_for("ray", "vllm", "flash_attn", "megatron", "nemo_automodel", "hydra", "omegaconf", "wandb",
                    "datasets", "accelerate", "mlflow", "swanlab", "torchdata", "tensorboard",
                    "nvidia_resiliency_ext", "zmq")

from nemo_rl.algorithms import advantage_estimator as estimators  # noqa: E402
from nemo_rl.algorithms.loss import ClippedPGLossConfig, ClippedPGLossFn  # noqa: E402
from nemo_rl.algorithms.utils import calculate_kl  # noqa: E402
from nemo_rl.evals.eval import eval_pass_k  # noqa: E402

out = golden.file("nemo_rl", None, "formulas as read in August 2026, not an installed package",
                  unused=["entropy", "token_reward", "greedy_reward"])


def advantage(estimator, batch, options, loss_options=None, inputs=None, valid=None, **extra):
    b = golden.padded(out.batches[batch])
    make = estimators.GAEConfig if estimator in ("GeneralizedAdvantageEstimator",
                                                 "RawRewardAdvantageEstimator") else estimators.AdvEstimatorConfig
    self = getattr(estimators, estimator)(make(**options), ClippedPGLossConfig(**(loss_options or {})))
    prompts = torch.tensor([[g, 1] for g in b.group])
    given = dict(inputs or {})
    if valid is not None:
        given["valid_mask"] = valid
        extra["valid_mask"] = torch.tensor(valid)
    result = self.compute_advantage(prompt_ids=prompts, rewards=b.reward, mask=b.mask,
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
    value, _ = ClippedPGLossFn(ClippedPGLossConfig(**options))(
        b.log_prob, data, torch.tensor(float(seqs)) if seqs else sample.sum(),
        torch.tensor(float(toks)) if toks else active)
    shown = dict(ClippedPGLossConfig(**options).model_dump(), global_valid_seqs=seqs or sample.sum(),
                 global_valid_toks=toks or active)
    out.add("ClippedPGLossFn", batch, shown, b.gradient(value), {"sample_mask": valid} if valid else {})


def losses():
    wide = dict(ratio_clip_min=0.2, ratio_clip_max=0.28, reference_policy_kl_penalty=0.0)
    corrected = dict(wide, use_importance_sampling_correction=True)
    for batch in ["uneven", "large"]:
        loss(batch, **wide)
        loss(batch, **dict(wide, token_level_loss=False))
        loss(batch, **dict(wide, ratio_clip_c=3.0))
        loss(batch, **dict(wide, use_cispo=True))
        loss(batch, **dict(wide, disable_ppo_ratio=True))
        loss(batch, **dict(wide, force_on_policy_ratio=True))
        loss(batch, **dict(wide, token_level_loss=False, sequence_level_importance_ratios=True))
        loss(batch, **dict(corrected, token_level_loss=False, sequence_level_importance_ratios=True))
        for kind, low, high in [(None, None, None), ("tis", None, 1.1), ("tis", 0.9, 1.1), ("icepop", 0.8, 1.25),
                                ("seq-mask-tis", 0.95, 1.1)]:
            loss(batch, **dict(corrected, truncated_importance_sampling_type=kind,
                               truncated_importance_sampling_ratio=high,
                               truncated_importance_sampling_ratio_min=low))
        for kind in ["k1", "k2", "k3"]:
            for approximate in [False, True]:
                loss(batch, reference_policy_kl_penalty=0.05, reference_policy_kl_type=kind,
                     use_on_policy_kl_approximation=approximate)
        loss(batch, reference_policy_kl_penalty=0.05, kl_input_clamp_value=None, kl_output_clamp_value=None)
        loss(batch, reference_policy_kl_penalty=0.05, token_level_loss=False)
    loss("uneven", **dict(wide, positive_example_nll_weight=0.1))
    some = [0.0 if i in (2, 7) else 1.0 for i in range(14)]
    for token in [True, False]:
        loss("uneven", some, reference_policy_kl_penalty=0.05, token_level_loss=token)
        loss("uneven", some, 32, 200, **dict(wide, token_level_loss=token))
        loss("dead", **dict(wide, token_level_loss=token))


def rest():
    for kind in ["k1", "k2", "k3"]:
        b = golden.padded(out.batches["large"])
        value = calculate_kl(b.log_prob, b.ref_log_prob, kind)
        out.add("calculate_kl", "large", dict(kl_type=kind, loss="sum over active tokens"),
                dict(b.gradient((value * b.mask).sum()), value=b.flat(value)))
    rewards = [1.0] * 3 + [0.0] * 13
    for k in [1, 2, 4, 8, 13, 14, 16]:
        out.add("eval_pass_k", None, dict(k=k, num_tests_per_prompt=16),
                {"value": eval_pass_k(torch.tensor(rewards), 16, k)}, {"reward": rewards})


with golden.widened():
    advantages()
    losses()
    rest()
out.write(__file__)
