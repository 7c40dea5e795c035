"""Times verl's and TRL's advantages and losses beside rlvr's and prints the ratios.

    pip install torch numpy
    pip install verl==0.9.1 trl==1.16.0 --no-deps          # and what they import: see tests/golden/frameworks
    python3 objectives.py --binary <build folder>/benchmarks/objectives

The arrays are [50000, 1024] float32, scaled down by --scale (1/8 unless given: peak memory stays under 4 GB). A loss is
timed with its backward pass to the log-probs, because that is what rlvr's coefficients are. TRL's _compute_loss runs on
a stand-in for the trainer that returns the log-probs instead of running a model; the metrics it gathers are part of it.

The binary is a Google Benchmark program; it gets the same arrays, without their padding, runs after the peers on the
same machine, and its JSON is read. Its benchmarks must set items_per_second (tokens, or rollouts for advantages). A name
is compared by what stands before the first "/", see PAIRS. An item is a token inside the mask, or a rollout: on the same
arrays the ratio is that of whole calls.
"""
import argparse
import collections
import inspect
import json
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time
from types import MethodType, SimpleNamespace

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tests" / "golden" / "frameworks"))

try:
    import numpy as np
    import torch

    import golden  # stand-ins for packages that verl imports and no timed function uses
except ImportError as error:
    sys.exit(f"objectives.py needs torch and numpy, and golden.py of tests/golden/frameworks: {error}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", help="rlvr's Google Benchmark program; without it only the peers are timed")
    parser.add_argument("--filter", default=".", help="passed on as --benchmark_filter")
    parser.add_argument("--json", help="a file that the program has written for the same arrays, instead of running it")
    parser.add_argument("--scale", type=float, default=0.125, help="share of the 50,000 sequences")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1, help="of torch; the binary has its own")
    parser.add_argument("--repeats", type=int, default=5, help="the fastest counts")
    return parser.parse_args()


class arrays:
    def __init__(self, options):
        generator = torch.Generator().manual_seed(0)
        self.n = max(options.group, int(50000 * options.scale) // options.group * options.group)
        self.t = options.tokens
        shape = self.n, self.t

        def normal(scale):
            return torch.randn(shape, generator=generator) * scale
        self.log_prob = -normal(1.0).abs()
        self.old = self.log_prob + normal(0.2)
        self.ref = self.log_prob + normal(0.3)
        lengths = torch.randint(self.t // 4, self.t + 1, (self.n,), generator=generator)
        self.mask = (torch.arange(self.t).unsqueeze(0) < lengths.unsqueeze(1)).float()
        self.advantage = torch.randn(self.n, generator=generator)
        self.reward = torch.zeros(shape)
        self.reward[:, 0] = torch.randint(0, 2, (self.n,), generator=generator).float()
        self.index = np.arange(self.n) // options.group
        self.tokens = int(self.mask.sum())
        self.log_prob.requires_grad_(True)

    def write(self, folder):
        """The arrays without padding, as rlvr's benchmark reads them with --arrays."""
        inside = self.mask.bool()
        offsets = np.concatenate([[0], np.cumsum(self.mask.sum(1).numpy())]).astype(np.uint64)
        offsets.tofile(f"{folder}/offsets")
        for name, values in [("advantages", self.advantage), ("rewards", self.reward.sum(1)),
                             ("log_probs", self.log_prob.detach()[inside]), ("old_log_probs", self.old[inside]),
                             ("reference_log_probs", self.ref[inside])]:
            values.numpy().astype(np.float32).tofile(f"{folder}/{name}")


def verl_cases(a):
    golden.stand_in_for("ray", "deepspeed", "flash_attn", "vllm", "hydra", "peft", "torchdata", "codetiming", "wandb",
                        "liger_kernel", "datasets", "accelerate", "pyarrow", "dill", "pybind11", "pylatexenc")
    from verl.trainer.ppo import core_algos
    from verl.workers.config import ActorConfig
    from verl.workers.config.actor import PolicyLossConfig

    token_advantage = a.advantage.unsqueeze(1) * a.mask

    def advantage(name):
        return lambda: core_algos.get_adv_estimator_fn(name)(token_level_rewards=a.reward, response_mask=a.mask,
                                                             index=a.index)

    def policy(name, **options):
        config = ActorConfig(strategy="fsdp", rollout_n=8, ppo_micro_batch_size_per_gpu=8,
                             policy_loss=PolicyLossConfig(**options))

        def run():
            loss, _ = core_algos.get_policy_loss_fn(name)(a.old, a.log_prob, token_advantage, a.mask, "token-mean",
                                                          config, None)
            torch.autograd.grad(loss, a.log_prob)
        return run

    def kl():
        value = core_algos.kl_penalty(a.log_prob, a.ref, "low_var_kl")
        torch.autograd.grad(core_algos.agg_loss(value, a.mask, "token-mean"), a.log_prob)

    yield "grpo_advantage", advantage("grpo"), a.n
    yield "grpo_vectorized_advantage", advantage("grpo_vectorized"), a.n
    yield "rloo_vectorized_advantage", advantage("rloo_vectorized"), a.n
    for name in ["vanilla", "gspo", "geo_mean", "cispo", "sapo", "dppo_tv", "dppo_kl", "gpg", "kl_cov", "clip_cov"]:
        yield name, policy(name), a.tokens
    yield "dro", policy("dro", dro_beta=0.1), a.tokens
    yield "low_var_kl", kl, a.tokens


def trl_cases(a):
    from trl import GRPOConfig, GRPOTrainer

    def same(x, *rest, **more):
        return x
    accelerator = SimpleNamespace(device=torch.device("cpu"), num_processes=1, gather=same, reduce=same,
                                  pad_across_processes=same, sync_gradients=True)
    prompt = torch.ones(a.n, 1, dtype=torch.long)
    mask = a.mask.long()
    inputs = dict(prompt_ids=prompt, prompt_mask=prompt, completion_ids=mask, completion_mask=mask,
                  advantages=a.advantage, old_per_token_logps=a.old, ref_per_token_logps=a.ref,
                  num_items_in_batch=a.mask.sum())
    entropy = torch.rand(a.n, a.t)
    config = {name: f.default for name, f in GRPOConfig.__dataclass_fields__.items()}

    def policy(**options):
        args = SimpleNamespace(**dict(config, steps_per_generation=1, **options))
        self = SimpleNamespace(**dict(vars(args), args=args, accelerator=accelerator, aux_loss_enabled=False,
                                      model=SimpleNamespace(training=True), use_vllm=False, epsilon_low=0.2,
                                      epsilon_high=5.0 if args.loss_type == "cispo" else 0.2,
                                      current_gradient_accumulation_steps=1, _entropy_bonus_enabled=False,
                                      _metrics=collections.defaultdict(lambda: collections.defaultdict(list))))
        for name, f in inspect.getmembers(GRPOTrainer, inspect.isfunction):
            static = isinstance(inspect.getattr_static(GRPOTrainer, name), staticmethod)
            self.__dict__.setdefault(name, f if static else MethodType(f, self))
        self._get_per_token_logps_and_entropies = lambda *k, **w: (a.log_prob, entropy, None)
        self.max_completion_length = a.t
        return lambda: torch.autograd.grad(GRPOTrainer._compute_loss(self, None, inputs), a.log_prob)

    for kind in ["dapo", "grpo", "cispo", "sapo", "vespo"]:
        yield kind, policy(loss_type=kind), a.tokens
    yield "grpo, sequence level", policy(loss_type="grpo", importance_sampling_level="sequence"), a.tokens


# The name of rlvr's benchmark, and the peers that compute the same.
PAIRS = [
    ("group_normalized", ["verl grpo_advantage", "verl grpo_vectorized_advantage"]),
    ("leave_one_out", ["verl rloo_vectorized_advantage"]),
    ("policy_gradient", ["verl gpg"]),
    ("ppo_clip", ["verl vanilla", "trl dapo", "trl grpo"]),
    ("gspo", ["verl gspo", "trl grpo, sequence level"]),
    ("gmpo", ["verl geo_mean"]),
    ("cispo", ["verl cispo", "trl cispo"]),
    ("sapo", ["verl sapo", "trl sapo"]),
    ("dppo", ["verl dppo_tv"]),
    ("dppo_kl", ["verl dppo_kl"]),
    ("vespo", ["trl vespo"]),
    ("dro", ["verl dro"]),
    ("kl_cov", ["verl kl_cov"]),
    ("clip_cov", ["verl clip_cov"]),
    ("kl_penalty", ["verl low_var_kl"]),
]


def fastest(f, repeats):
    best = float("inf")
    for _ in range(repeats + 1):  # the first one warms up
        start = time.perf_counter()
        f()
        best = min(best, time.perf_counter() - start)
    return best


def ours(options, a):
    """{name: [(full name, ns per item)]}, on the same arrays."""
    path = options.json
    if not path and not options.binary:
        return {}
    if not path:
        path = tempfile.NamedTemporaryFile(suffix=".json", delete=False).name
        try:
            with tempfile.TemporaryDirectory() as folder:
                a.write(folder)
                subprocess.run([options.binary, f"--arrays={folder}", f"--benchmark_out={path}",
                                "--benchmark_out_format=json", f"--benchmark_filter={options.filter}"], check=True,
                               stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"cannot run {options.binary}: {error}")
    found = collections.defaultdict(list)
    with open(path) as file:
        for b in json.load(file)["benchmarks"]:
            if b.get("run_type", "iteration") == "iteration" and b.get("items_per_second"):
                found[b["name"].split("/")[0]].append((b["name"], 1e9 / b["items_per_second"]))
    if not found:
        print(f"{path}: no benchmark has items_per_second, so there is nothing to compare")
    return found


def main():
    options = parse()
    torch.set_num_threads(options.threads)
    a = arrays(options)
    print(f"[{a.n}, {a.t}] float32, groups of {options.group}, torch {torch.__version__} with {options.threads} "
          f"thread(s), {platform.machine()}")
    there = torch.empty_like(a.old)
    seconds = fastest(lambda: there.copy_(a.old), options.repeats)
    print(f"copy: {2 * a.old.numel() * 4 / seconds / 1e9:.1f} GB/s\n")
    times = {}
    # TRL first: it asks which packages exist, and must not see the stand-ins for verl.
    for package, cases, how in [("trl", trl_cases, "pip install trl==1.16.0 --no-deps"),
                                ("verl", verl_cases, "pip install verl==0.9.1 --no-deps")]:
        try:
            for name, run, items in cases(a):
                seconds = fastest(run, options.repeats)
                times[f"{package} {name}"] = 1e9 * seconds / items
                print(f"{package + ' ' + name:40}{1e3 * seconds:10.1f} ms{1e9 * seconds / items:12.3f} ns/item",
                      flush=True)
        except (ImportError, RuntimeError) as error:  # TRL wraps failed imports in RuntimeError
            print(f"{package} is left out: {error} (install: {how}, and what it imports)")
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")
    found = ours(options, a)
    if not found:
        print("No ratios: give --binary or --json")
    for name, peers in PAIRS:
        for full, ns in found.get(name, []):
            for peer in peers:
                if peer in times:
                    print(f"{full:40}{ns:10.3f} ns/item{times[peer] / ns:10.1f} x as fast as {peer}")
    rest = set(found) - {name for name, _ in PAIRS}
    if rest:
        print("without a peer: " + ", ".join(sorted(rest)))


if __name__ == "__main__":
    main()
