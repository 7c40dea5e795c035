"""Writes trl_golden.json: TRL's GRPO and RLOO advantages, importance weights, and every loss with its gradient.

    pip install trl==1.16.0 --no-deps
    pip install torch numpy transformers accelerate datasets jinja2
    python3 trl_golden.py

Layout: golden.py. The methods of GRPOTrainer, GMPOTrainer, RLOOTrainer and DPOTrainer run on a stand-in for `self` that
returns the batch's log-probs in place of a model's. Hard float32 that golden.widened() widens: metrics, and the
entropies that GRPOTrainer.get_high_entropy_mask takes its quantile of. GRPOTrainer advantages are one per sequence.
Rewards "nan" are rows that no reward function scored. RLOOTrainer knows no tool mask: in its cases every token counts.
DPO cases pair sequence i (chosen) with i + n/2 (rejected); the log-probs of masked tokens are zero, as TRL's are. Of
the DPO losses there are those that the library has.
"""
import collections
import inspect
from types import MethodType, SimpleNamespace

import torch

import golden

from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.experimental.gmpo import GMPOConfig, GMPOTrainer

out = golden.file("trl", "trl", unused=["value", "token_reward", "greedy_reward"])
DEFAULTS = {name: f.default for name, f in GRPOConfig.__dataclass_fields__.items()}
NAN = float("nan")


def same(x, *a, **k):
    return x


ACCELERATOR = SimpleNamespace(device=torch.device("cpu"), num_processes=1, process_index=0, sync_gradients=True,
                              gather=same, gather_for_metrics=same, reduce=same, pad_across_processes=same)


def trainer(cls, b, options, training=True):
    """The attributes that the methods under test read."""
    args = SimpleNamespace(**{k: options.get(k, DEFAULTS[k]) for k in DEFAULTS})
    args.steps_per_generation = options.get("steps_per_generation", 1)
    args.gradient_accumulation_steps = args.steps_per_generation
    args.entropy_coef = args.entropy_coef or 0.0
    self = SimpleNamespace(args=args, accelerator=ACCELERATOR, aux_loss_enabled=False, _pending_metrics={},
                           _metrics=collections.defaultdict(lambda: collections.defaultdict(list)),
                           _logs=collections.defaultdict(lambda: collections.defaultdict(list)),
                           model=SimpleNamespace(training=training, is_gradient_checkpointing=False),
                           ref_model="reference", _pending_extra_logs={}, current_gradient_accumulation_steps=1,
                           num_iterations=1, environment_factories=None, environments=None, tools=None,
                           pad_to_multiple_of=None, mask_truncated_completions=False, log_multimodal=False,
                           _entropy_bonus_enabled=args.entropy_coef != 0, use_adaptive_entropy=False,
                           _tokenizer=SimpleNamespace(pad_token_id=0), _last_world_entropy=0.0, use_vllm=False,
                           _entropy_window_stats=None, num_generations=4, num_generations_eval=1)
    for name in ["prompt", "completion", "advantages", "images"]:
        self._logs[name] = []
    self.__dict__.update({k: v for k, v in vars(args).items() if k not in self.__dict__})
    self.__dict__.update({k: v for k, v in options.items() if k != "steps_per_generation"})
    self.epsilon_low = args.epsilon
    self.epsilon_high = args.epsilon if args.epsilon_high is None else args.epsilon_high
    for name, f in inspect.getmembers(cls, inspect.isfunction):
        static = isinstance(inspect.getattr_static(cls, name), staticmethod)
        self.__dict__.setdefault(name, f if static else MethodType(f, self))
    self._get_per_token_logps_and_entropies = lambda *a, **k: (b.log_prob, b.entropy, None)
    return self


# --- advantages -----------------------------------------------------------------------------------------------------

def scored(cls, batch, rewards, options, training=True, names=()):
    """Runs _generate_and_score_completions on the batch; names: outputs to keep besides the advantages."""
    b = golden.padded(out.batches[batch])
    w, n = b.width - 1, len(b.lengths)
    options = dict(options)
    weights = options.pop("reward_weights", [1.0] * len(rewards[0]))
    self = trainer(cls, b, options, training)
    self.reward_weights = torch.tensor(weights)
    self.reward_funcs = self.reward_func_names = [f"reward{k}" for k in range(len(weights))]
    ids = [[1] * int(k) for k in b.lengths]
    sampled = [b.rollout_log_prob[i, :k].tolist() for i, k in enumerate(b.lengths)]
    tool = [b.mask[i, :k].long().tolist() for i, k in enumerate(b.lengths)]
    self._generate = lambda prompts: (([[1]] * n, ids, ["x"] * n) if cls is RLOOTrainer else
                                      ([[1]] * n, ids, tool, ["x"] * n, sampled, {}, None, None))
    self._calculate_rewards = lambda *a: torch.tensor(rewards)
    self._get_per_token_logps_and_entropies = lambda model, *a, **k: (
        (b.ref_log_prob if model == "reference" else b.old_log_prob)[:, :w], None, None)
    result = cls._generate_and_score_completions(self, [{"prompt": "p"}] * n)
    kept = {"advantage": result["advantages"]}
    for name in names:
        value = result[name]
        kept[name] = value[:, 0] if value.shape[1] == 1 else b.flat(value)
    shown = dict(options, reward_weights=weights, mode="train" if training else "eval")
    out.add(f"{cls.__name__}._generate_and_score_completions", batch, shown, kept, {"reward": rewards})


def advantages():
    rewards = [[x] for x in out.batches["even"]["reward"]]
    holes = [[NAN] if i in (1, 8, 9, 10, 12, 13, 14, 15) else r for i, r in enumerate(rewards)]
    two = [[r[0], 1.0 / (1 + k % 3)] for k, r in enumerate(rewards)]
    two[2] = [NAN, 0.5]
    two[5] = [NAN, NAN]
    for scale in ["group", "batch", "none"]:
        for r in [rewards, holes]:
            scored(GRPOTrainer, "even", r, dict(scale_rewards=scale))
        scored(GRPOTrainer, "even", two, dict(scale_rewards=scale, reward_weights=[1.0, 0.25]))
        scored(GRPOTrainer, "even", rewards, dict(scale_rewards=scale, num_generations_eval=1), training=False)
    scored(GRPOTrainer, "even", two, dict(multi_objective_aggregation="normalize_then_sum",
                                          reward_weights=[1.0, 0.25]))
    for r in [rewards, holes]:
        for normal in [False, True]:
            for beta in [0.0, 0.05]:
                scored(RLOOTrainer, "even", r, dict(normalize_advantages=normal, beta=beta, reward_clip_range=None))
    scored(RLOOTrainer, "even", rewards, dict(normalize_advantages=False, beta=0.0, reward_clip_range=(0.05, 0.5)))
    scored(RLOOTrainer, "even", rewards, dict(normalize_advantages=False, beta=0.0, reward_clip_range=None,
                                              num_generations_eval=1), training=False)
    for batch in ["even", "large"]:
        r = [[x] for x in out.batches[batch]["reward"]]
        for mode in ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]:
            for low, high in [(None, 3.0), (0.9, 1.1)]:
                scored(GRPOTrainer, batch, r, dict(use_vllm=True, vllm_importance_sampling_mode=mode,
                                                   vllm_importance_sampling_clip_min=low,
                                                   vllm_importance_sampling_clip_max=high,
                                                   vllm_importance_sampling_correction=True),
                       names=["importance_sampling_ratio"])


# --- losses ---------------------------------------------------------------------------------------------------------

def loss(cls, batch, weights=None, training=True, **options):
    b = golden.padded(out.batches[batch])
    b.entropy.requires_grad_(True)
    self = trainer(cls, b, options, training)
    within = torch.tensor([[1 if t < n else 0 for t in range(b.width)] for n in b.lengths])
    prompt = torch.ones(len(b.lengths), 1, dtype=torch.long)
    inputs = dict(prompt_ids=prompt, prompt_mask=prompt, completion_ids=within, completion_mask=within,
                  tool_mask=b.mask.long(), advantages=b.advantage, old_per_token_logps=b.old_log_prob,
                  ref_per_token_logps=b.ref_log_prob, num_items_in_batch=b.mask.sum())
    given = {}
    if cls is RLOOTrainer:
        inputs["old_logps"] = (b.old_log_prob * within).sum(1)
    if options.get("off_policy_mask_threshold") is not None:
        inputs["sampling_per_token_logps"] = b.rollout_log_prob
    if weights is not None:
        ratio = (b.old_log_prob - b.rollout_log_prob) * b.mask
        ratio = (ratio.sum(-1, keepdim=True) if weights == "sequence" else ratio).exp().clamp(max=1.05)
        given["importance_sampling_ratio"] = ratio[:, 0] if weights == "sequence" else b.flat(ratio)
        inputs["importance_sampling_ratio"] = ratio
        self.use_vllm = self.vllm_importance_sampling_correction = True
    value = cls._compute_loss(self, None, inputs)
    by_entropy = torch.autograd.grad(value, b.entropy, retain_graph=True, allow_unused=True)[0]
    outputs = b.gradient(value)
    if by_entropy is not None:
        outputs["entropy_gradient"] = b.flat(by_entropy)
    shown = {"mode": "train" if training else "eval", "epsilon": self.epsilon_low, "epsilon_high": self.epsilon_high}
    if cls is not RLOOTrainer:
        shown.update({k: getattr(self, k) for k in SHOWN[:2 if cls is GMPOTrainer else None]})
    out.add(f"{cls.__name__}._compute_loss", batch, dict(options, **shown), outputs, given)


SHOWN = ["beta", "top_entropy_quantile", "use_bias_correction_kl", "importance_sampling_level", "delta", "entropy_coef",
         "off_policy_mask_threshold", "sapo_temperature_pos", "sapo_temperature_neg", "vespo_k_pos", "vespo_lambda_pos",
         "vespo_k_neg", "vespo_lambda_neg", "current_gradient_accumulation_steps", "steps_per_generation"]
TYPES = ["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"]


def losses():
    for kind in TYPES:
        more = dict(max_completion_length=8) if kind == "dr_grpo" else {}
        for batch in ["even", "large"]:
            high = 5.0 if kind == "cispo" else 0.28
            loss(GRPOTrainer, batch, loss_type=kind, epsilon_high=high, **more)
        loss(GRPOTrainer, "dead", loss_type=kind, **more)
        loss(GRPOTrainer, "even", loss_type=kind, beta=0.04, use_bias_correction_kl=True,
             current_gradient_accumulation_steps=2, steps_per_generation=4, **more)
        if kind != "vespo":
            loss(GRPOTrainer, "even", loss_type=kind, importance_sampling_level="sequence", epsilon=0.05, **more)
        loss(GRPOTrainer, "even", "token", loss_type=kind, **more)
    for level in ["token", "sequence"]:
        for corrected in [True, False]:
            loss(GRPOTrainer, "large", loss_type="grpo", beta=0.04, use_bias_correction_kl=corrected,
                 importance_sampling_level=level)
        loss(GRPOTrainer, "large", loss_type="dapo", delta=2.0, importance_sampling_level=level)
    loss(GRPOTrainer, "even", loss_type="dapo", delta=1.1)
    loss(GRPOTrainer, "even", "sequence", loss_type="dapo")
    loss(GRPOTrainer, "even", "sequence", loss_type="vespo")
    loss(GRPOTrainer, "large", "token", loss_type="vespo")
    loss(GRPOTrainer, "even", loss_type="dapo", top_entropy_quantile=0.2, beta=0.04)
    loss(GRPOTrainer, "even", loss_type="grpo", top_entropy_quantile=0.5, entropy_coef=0.1)
    loss(GRPOTrainer, "even", loss_type="dr_grpo", max_completion_length=8, entropy_coef=0.1,
         current_gradient_accumulation_steps=2, steps_per_generation=2)
    loss(GRPOTrainer, "even", loss_type="dapo", off_policy_mask_threshold=0.05)
    loss(GRPOTrainer, "even", loss_type="sapo", sapo_temperature_pos=2.0, sapo_temperature_neg=4.0)
    loss(GRPOTrainer, "even", loss_type="dapo", training=False)
    for batch in ["even", "large", "dead"]:
        loss(GMPOTrainer, batch, epsilon=0.4, beta=0.0)
    loss(GMPOTrainer, "even", epsilon=0.4, beta=0.04, top_entropy_quantile=0.5)
    for batch in ["even", "large"]:
        loss(RLOOTrainer, batch)


def preference(batch, kind, **options):
    b = golden.padded(out.batches[batch])
    b.mask[:, :1] = 1.0  # every completion has a token
    args = dict(beta=0.1, ld_alpha=None, f_divergence_type="reverse_kl", label_smoothing=0.0)
    args.update(options)
    shape = b.mask.shape
    mask = torch.cat([torch.zeros(shape[0], 1), b.mask], dim=1).long()  # one prompt token

    def model(log_prob):
        return lambda **k: SimpleNamespace(log_probs=log_prob * b.mask, entropy=b.entropy, aux_loss=None,
                                           mean_logits=torch.zeros(shape), is_top1=torch.zeros(shape, dtype=torch.bool))
    self = SimpleNamespace(model=SimpleNamespace(training=False, is_gradient_checkpointing=False), ref_model=model(
        b.ref_log_prob), accelerator=ACCELERATOR, aux_loss_enabled=False, precompute_ref_logps=False,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=0.05), use_weighting=False,
        loss_types=[kind], loss_weights=[1.0], _total_train_tokens=0,
        _metrics=collections.defaultdict(lambda: collections.defaultdict(list)), **args)
    value = DPOTrainer._compute_loss(self, model(b.log_prob), dict(input_ids=torch.ones_like(mask), attention_mask=mask,
                                                                   completion_mask=mask), False)
    out.add("DPOTrainer._compute_loss", batch, dict(args, loss_type=kind), b.gradient(value),
            {"mask": b.flat(b.mask)})


out.add_defaults(GRPOConfig, [
    "loss_type", "epsilon", "epsilon_high", "delta", "importance_sampling_level", "beta", "use_bias_correction_kl",
    "top_entropy_quantile", "off_policy_mask_threshold", "sapo_temperature_pos", "sapo_temperature_neg", "vespo_k_pos",
    "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg", "max_completion_length", "scale_rewards",
    "vllm_importance_sampling_mode", "vllm_importance_sampling_clip_min", "vllm_importance_sampling_clip_max"])
out.add_defaults(RLOOConfig, ["beta", "epsilon", "epsilon_high", "normalize_advantages", "reward_clip_range"])
out.add_defaults(GMPOConfig, ["beta", "epsilon", "epsilon_high", "top_entropy_quantile"])
out.add_defaults(DPOConfig, ["beta"])
with golden.widened():
    advantages()
    losses()
    for kind in ["sigmoid", "ipo", "sigmoid_norm", "sft"]:
        preference("even", kind)
    preference("even", "sigmoid", beta=0.7)
out.write(__file__)
