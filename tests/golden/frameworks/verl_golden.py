"""Writes verl_golden.json: verl's advantages, policy losses' gradients, aggregation, KL, rollout correction.

    pip install verl==0.9.1 --no-deps
    pip install torch numpy omegaconf tensordict transformers packaging pandas
    python3 verl_golden.py

Layout: golden.py. Hard float32 of verl that golden.widened() widens: utils/groupwise.group_mean_std (grpo_vectorized),
the reward components and weights of compute_gdpo_outcome_advantage. compute_policy_loss_clip_cov draws torch.randperm
over its candidates in row-major order; the case stores the permutation. GAE whitens masked tokens too, and the values
there mean nothing: compare where mask is 1. The optimal token baselines need the sum of squared probabilities of every
next-token distribution: the sampled token's probability is exp(old_log_prob), the rest goes to 1 + t % 5 tokens alike.
optimal_token_baseline sees all tokens of a sequence under mask 1, as answers of a single turn are.
"""
from types import SimpleNamespace

import numpy as np
import torch

import golden

golden.stand_in_for("ray", "deepspeed", "flash_attn", "vllm", "hydra", "peft", "torchdata", "codetiming", "wandb",
                    "liger_kernel", "datasets", "accelerate", "pyarrow", "dill", "pybind11", "pylatexenc",
                    "tensorboard")

from verl.trainer.config import AlgoConfig, RolloutCorrectionConfig  # noqa: E402
from verl.trainer.ppo import core_algos, rollout_corr_helper  # noqa: E402
from verl.workers.config import ActorConfig  # noqa: E402
from verl.workers.config.actor import PolicyLossConfig  # noqa: E402

out = golden.file("verl", "verl", unused=["entropy"])
ACTOR = dict(clip_ratio=0.2, clip_ratio_low=0.2, clip_ratio_high=0.28, clip_ratio_c=3.0, tau_pos=1.0, tau_neg=1.05)


def advantage(name, batch, options=None, token_reward=None, inputs=None, more=None, **keys):
    b = golden.padded(out.batches[batch])
    reward = b.token_reward if token_reward is None else token_reward
    function = core_algos.get_adv_estimator_fn(name)
    a, returns = function(token_level_rewards=reward, response_mask=b.mask, **keys, **(more or {}))
    outputs = {"advantage": b.flat_advantages(a)}
    if name == "gae":
        outputs["returns"] = b.flat(returns)
    if token_reward is not None:
        inputs = dict(inputs or {}, token_reward=b.flat(token_reward))
    out.add(function.__name__, batch, options or {}, outputs, inputs)


def advantages(batch):
    b = golden.padded(out.batches[batch])
    index = np.array([f"prompt{g}" for g in b.group], dtype=object)
    dense = core_algos.compute_rewards(b.token_reward, b.old_log_prob, b.ref_log_prob, 0.1).detach() * b.mask
    for name in ["grpo", "grpo_vectorized"]:
        for std in [True, False]:
            advantage(name, batch, dict(norm_adv_by_std_in_grpo=std), index=index, norm_adv_by_std_in_grpo=std)
    for name in ["rloo", "rloo_vectorized", "opo", "gpg", "reinforce_plus_plus_baseline"]:
        advantage(name, batch, index=index)
    for gamma in [1.0, 0.9]:
        advantage("reinforce_plus_plus", batch, dict(gamma=gamma), dense, config=AlgoConfig(gamma=gamma))
    for rewards in [None, dense]:
        advantage("remax", batch, {}, rewards, reward_baselines=b.greedy_reward)
    for gamma, lam in [(1.0, 1.0), (0.99, 0.95)]:
        advantage("gae", batch, dict(gamma=gamma, lam=lam), dense, values=b.value, gamma=gamma, lam=lam)
    if min(np.bincount(b.group)) > 1:
        for std in [True, False]:
            advantage("grpo_passk", batch, dict(norm_adv_by_std_in_grpo=std), index=index,
                      config=AlgoConfig(norm_adv_by_std_in_grpo=std))
    # Two reward components; the second one is a length score.
    parts = {"accuracy": out.batches[batch]["reward"], "brevity": [1.0 / n for n in b.lengths]}
    attention = torch.zeros(len(b.lengths), 1 + b.width)
    for i, n in enumerate(b.lengths):
        attention[i, :1 + n] = 1
    for weights in [None, [1.0, 0.25]]:
        options = dict(gdpo_reward_keys=list(parts), gdpo_reward_weights=weights)
        advantage("gdpo", batch, options, None, parts, index=index, config=SimpleNamespace(get=options.get),
                  non_tensor_batch=parts,
                  more=dict(batch={"prompts": torch.zeros(len(b.lengths), 1), "attention_mask": attention.long()}))


def token_baseline(name, batch, options, dense=False, weights=False):
    b = golden.padded(out.batches[batch])
    old, mask = out.batches[batch]["old_log_prob"], out.batches[batch]["mask"]
    if name == "optimal_token_baseline":
        mask = [1.0] * len(mask)
        b.mask = b.pad(mask)
    chosen = np.exp(old)
    squares = np.round(chosen ** 2 + (1 - chosen) ** 2 / (1 + np.arange(len(old)) % 5), 6).tolist()
    reward = b.token_reward
    if dense:
        reward = core_algos.compute_rewards(reward, b.old_log_prob, b.ref_log_prob, 0.1)
    more = dict(rollout_is_weights=(b.old_log_prob - b.rollout_log_prob).exp().clamp(max=2.0)) if weights else {}
    index = np.array([f"prompt{g}" for g in b.group], dtype=object)
    function = core_algos.get_adv_estimator_fn(name)
    a, returns = function(token_level_rewards=reward, response_mask=b.mask, index=index, old_log_probs=b.old_log_prob,
                          sum_pi_squared=b.pad(squares), **options, **more)
    inputs = dict(token_reward=b.flat(reward * b.mask), mask=mask, sum_pi_squared=squares)
    if weights:
        inputs["rollout_is_weights"] = "exp(old_log_prob - rollout_log_prob), at most 2"
    out.add(function.__name__, batch, options, {"advantage": b.flat(a), "returns": b.flat(returns * b.mask)}, inputs)


def token_baselines():
    for name in ["optimal_token_baseline", "tir_optimal_token_baseline"]:
        for tail in [True, False]:
            token_baseline(name, "uneven", dict(handle_zero_tail=tail))
        token_baseline(name, "uneven", dict(handle_zero_tail=True), dense=True, weights=True)
        token_baseline(name, "dead", dict(handle_zero_tail=True), dense=True)


def actor(info=None, policy_loss=None, **options):
    config = ActorConfig(strategy="fsdp", rollout_n=4, ppo_micro_batch_size_per_gpu=8,
                         policy_loss=PolicyLossConfig(**(policy_loss or {})), **dict(ACTOR, **options))
    config.global_batch_info.update(info or {})
    return config


def policy(name, batch, mode="token-mean", info=None, policy_loss=None, weights=False, record=None, **options):
    b = golden.padded(out.batches[batch])
    inputs = {}
    is_weights = None
    if weights:
        is_weights = (b.old_log_prob - b.rollout_log_prob).exp().clamp(max=2.0).detach()
        inputs["rollout_is_weights"] = "exp(old_log_prob - rollout_log_prob), at most 2"
    function = core_algos.get_policy_loss_fn(name)
    loss, _ = function(
        old_log_prob=b.old_log_prob, log_prob=b.log_prob, advantages=b.token_advantage, response_mask=b.mask,
        loss_agg_mode=mode, config=actor(info, policy_loss, **options), rollout_is_weights=is_weights)
    if record is not None:
        inputs.update(record)
    shown = dict(ACTOR, **options, **(policy_loss or {}), **(info or {}), loss_agg_mode=mode)
    out.add(function.__name__, batch, shown, b.gradient(loss), inputs)


MODES = ["token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-sum-norm", "seq-mean-token-mean"]


def policies():
    for batch in ["uneven", "large"]:
        for name in ["vanilla", "dppo_tv", "dppo_kl", "gspo", "sapo", "gpg", "geo_mean", "cispo"]:
            policy(name, batch)
        policy("dro", batch, policy_loss=dict(dro_beta=0.3))
        policy("kl_cov", batch, policy_loss=dict(kl_cov_ratio=0.1, ppo_kl_coef=0.5))
        policy("vanilla", batch, clip_ratio_c=10.0)
        policy("dppo_tv", batch, clip_ratio_c=20.0, clip_ratio_low=0.05, clip_ratio_high=0.05)
        policy("dppo_kl", batch, clip_ratio_c=20.0, clip_ratio_low=0.01, clip_ratio_high=0.02)
        policy("cispo", batch, clip_ratio_low=1.0, clip_ratio_high=4.0)
        policy("gspo", batch, "seq-mean-token-mean", clip_ratio_low=0.03, clip_ratio_high=0.04)
        policy("geo_mean", batch, clip_ratio_low=0.4, clip_ratio_high=0.4)
    policy("kl_cov", "uneven", policy_loss=dict(kl_cov_ratio=0.0002, ppo_kl_coef=0.1))
    for name in ["vanilla", "gspo", "sapo", "gpg", "cispo", "geo_mean", "dppo_tv"]:
        policy(name, "uneven", weights=True)
    for ratio, low, high in [(0.0002, 0.05, 5.0), (0.1, 0.05, 0.5)]:
        randperm, drawn = torch.randperm, {}

        def recorded(n):
            drawn["permutation"] = randperm(n, generator=torch.Generator().manual_seed(7)).tolist()
            return torch.tensor(drawn["permutation"])
        torch.randperm = recorded
        policy("clip_cov", "uneven", policy_loss=dict(clip_cov_ratio=ratio, clip_cov_lb=low, clip_cov_ub=high),
               record=drawn)
        torch.randperm = randperm
    policy("sapo", "uneven", tau_pos=2.0, tau_neg=4.0)
    for mode in MODES:
        policy("vanilla", "dead", mode)
        policy("gspo", "dead", mode)
    policy("sapo", "dead")
    policy("geo_mean", "dead")
    for loss_type in ["ppo_clip", "reinforce"]:
        for extra in [dict(rollout_is="token", rollout_is_threshold=1.5),
                      dict(rollout_is="sequence", rollout_is_threshold=2.0, rollout_is_batch_normalize=True),
                      dict(rollout_is="token", rollout_is_threshold="0.8_1.25", rollout_rs="seq_mean_k1",
                           rollout_rs_threshold="0.9_1.1")]:
            policy("bypass_mode", "uneven", "seq-mean-token-sum",
                   policy_loss=dict(rollout_correction=dict(extra, loss_type=loss_type)))


def aggregation():
    for batch in ["uneven", "dead"]:
        for mode in MODES:
            for info in [{}, dict(dp_size=2, batch_num_tokens=200, global_batch_size=32, loss_scale_factor=64)]:
                b = golden.padded(out.batches[batch])
                loss = core_algos.agg_loss(b.log_prob, b.mask, mode, **info)
                out.add("agg_loss", batch, dict(info, loss_agg_mode=mode, loss_mat="log_prob"), b.gradient(loss))


def kl():
    for batch in ["uneven", "large"]:
        for kind in ["kl", "k1", "k1+", "abs", "mse", "k2", "k2+", "low_var_kl", "k3", "low_var_kl+", "k3+"]:
            b = golden.padded(out.batches[batch])
            value = core_algos.kl_penalty(b.log_prob, b.ref_log_prob, kind)
            out.add("kl_penalty", batch, dict(kl_penalty=kind, loss="sum over active tokens"),
                    dict(b.gradient((value * b.mask).sum()), value=b.flat(value)))


def rollout_correction():
    for batch in ["uneven", "large", "dead"]:
        b = golden.padded(out.batches[batch])
        log_ratio = (b.old_log_prob - b.rollout_log_prob).detach()
        for level in ["token", "sequence"]:
            for threshold in [2.0, 1.1, "0.8_1.25"]:
                for normal in [False, True]:
                    w, _ = rollout_corr_helper.compute_rollout_correction_weights(log_ratio, b.mask, level, threshold,
                                                                                  normal)
                    out.add("compute_rollout_correction_weights", batch,
                            dict(rollout_is=level, rollout_is_threshold=threshold, rollout_is_batch_normalize=normal),
                            {"weight": b.flat(w)})
        if batch == "dead":
            continue
        for mode, threshold in [("token_k1", "0.9_1.25"), ("token_k1", 1.2), ("token_k2", 0.02), ("token_k3", 0.02),
                                ("seq_sum_k1", "0.8_1.2"), ("seq_sum_k2", 0.1), ("seq_sum_k3", 0.1),
                                ("seq_mean_k1", "0.95_1.1"), ("seq_mean_k2", 0.02), ("seq_mean_k3", 0.02),
                                ("seq_max_k2", 0.05), ("seq_max_k3", 0.05), ("token_k1,seq_max_k2", "0.8_1.25,0.1")]:
            m, _ = rollout_corr_helper.compute_rollout_rejection_mask(log_ratio, b.mask, mode, threshold)
            out.add("compute_rollout_rejection_mask", batch, dict(rollout_rs=mode, rollout_rs_threshold=threshold),
                    {"mask": b.flat(m)})


out.add_defaults(ActorConfig, ["clip_ratio_low", "clip_ratio_high", "clip_ratio_c", "loss_agg_mode", "tau_pos",
                               "tau_neg", "use_kl_loss", "kl_loss_coef", "kl_loss_type"])
out.add_defaults(PolicyLossConfig, ["loss_mode", "clip_cov_ratio", "clip_cov_lb", "clip_cov_ub", "kl_cov_ratio",
                                    "ppo_kl_coef", "dro_beta"])
out.add_defaults(RolloutCorrectionConfig, ["rollout_is", "rollout_is_threshold", "rollout_is_batch_normalize",
                                           "rollout_rs", "loss_type"])
out.add_defaults(AlgoConfig, ["gamma", "lam", "norm_adv_by_std_in_grpo"])
with golden.widened():
    for name in ["uneven", "even"]:
        advantages(name)
    token_baselines()
    policies()
    aggregation()
    kl()
    rollout_correction()
out.write(__file__)
