"""What the scripts beside this file share: the batches, stand-ins for heavy imports, and the file they write.

Each script runs the functions of one framework, installed unless the script says otherwise, and writes
<framework>_golden.json:

    {"framework", "version", "made_by",
     "defaults": {class: options},
     "batches": {name: batch},
     "common": {function: options},
     "cases": [{"function", "batch", "options", "inputs", "outputs"}]}

"defaults" are those of the framework's configuration classes. The options of a case are those of its function in
"common", overruled by its own.

A batch is ragged. Sequence i has the tokens offsets[i] .. offsets[i + 1] of every token array, which all run over the
sequences one after the other:

    offsets, group                       group[i]: which prompt sequence i answers
    padded_width                         the columns a framework sees, one more than the longest sequence has tokens
    reward, greedy_reward, advantage     one per sequence; greedy_reward is the reward of the prompt's greedy answer
    mask                                 per token, 0 or 1; a 0 inside a sequence is a tool's or environment's token
    log_prob, old_log_prob, rollout_log_prob, ref_log_prob, entropy, value, token_reward
                                         per token

The frameworks see [batch, padded_width] arrays, padded with junk under mask 0. Options are the framework's own names;
inputs holds what a case takes beyond its batch or instead of it. Outputs that are arrays are per sequence or per token
in the same ragged order; "gradient" is d loss / d log_prob per token. Every script checks that gradients at padding are
0. Where a case has no batch it is null. Arrays of a batch that no case of a framework reads are left out.

Everything is float64. Casts that a framework writes into its formulas (.float(), torch.float32) are widened to float64
while it runs, because a test of formulas in double needs them so; the scripts name the functions this touches. Outputs
have 12 significant digits, other numbers round-trip; NaN and infinities are the strings "nan", "inf" and "-inf".
"""
import contextlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import math
import pathlib
import sys
import types

import numpy as np
import torch

TOKENS = ["mask", "log_prob", "old_log_prob", "rollout_log_prob", "ref_log_prob", "entropy", "value", "token_reward"]
JUNK = {"mask": 0.0, "log_prob": -7.5, "old_log_prob": -6.25, "rollout_log_prob": -5.0, "ref_log_prob": -8.0,
        "entropy": 3.5, "value": 9.0, "token_reward": 0.0}


# --- stand-ins ------------------------------------------------------------------------------------------------------

class _stand_in(types.ModuleType):
    """A module whose every attribute is a class that can be called, subclassed, subscripted or used as a decorator."""

    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def decorate(*a, **k):
            return a[0] if len(a) == 1 and callable(a[0]) and not k else (lambda f: f)

        value = decorate if name in ("remote", "compile") else type(name, (), {"__init__": lambda self, *a, **k: None})
        setattr(self, name, value)
        return value


class _finder:
    def __init__(self, names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return _stand_in(spec.name)

    def exec_module(self, module):
        pass


def stand_in_for(*names):
    """Lets `import name` succeed for packages that are absent and whose code no case runs."""
    def absent(name):
        try:
            return importlib.util.find_spec(name) is None
        except (ImportError, ValueError):
            return True
    sys.meta_path.append(_finder({name for name in names if absent(name)}))


@contextlib.contextmanager
def widened():
    """float32 means float64 inside."""
    float32, to_float = torch.float32, torch.Tensor.float
    np_float32 = np.float32
    torch.float32, torch.Tensor.float, np.float32 = torch.float64, torch.Tensor.double, np.float64
    try:
        yield
    finally:
        torch.float32, torch.Tensor.float, np.float32 = float32, to_float, np_float32


# --- batches --------------------------------------------------------------------------------------------------------

def make_batch(seed, groups, rewards, spread=0.35, large=False, dead=()):
    """Sequences of 1 to 6 tokens; groups: their sizes; rewards: one per sequence; dead: sequences whose mask is 0."""
    rng = np.random.default_rng(seed)
    n = sum(groups)
    lengths = rng.integers(1, 7, n)
    lengths[0], lengths[-1] = 6, 1
    offsets = [0] + [int(x) for x in np.cumsum(lengths)]
    total = offsets[-1]
    group = [g for g, size in enumerate(groups) for _ in range(size)]
    mask = (rng.random(total) > 0.15).astype(float)
    for i in range(n):
        mask[offsets[i + 1] - 1] = 0.0 if i in dead else 1.0
        if i in dead:
            mask[offsets[i]:offsets[i + 1]] = 0.0
    log_prob = -rng.gamma(1.5, 0.6, total) - 0.01

    def near(scale):
        return np.minimum(log_prob + scale * rng.standard_normal(total), -1e-3)
    old, rollout, ref = near(spread), near(0.5 * spread), near(2.0 * spread)
    if large:  # beyond every clamp: 20 of verl and OpenRLHF, 10 of the KL estimators, 3 of the dual clip
        for k, (new, was, by_ref) in enumerate([(-0.5, -26.0, -0.7), (-25.5, -0.25, -0.3), (-0.125, -1.5, -13.0),
                                                (-14.0, -1.0, -0.5), (-0.3, -4.5, -0.4), (-4.25, -0.75, -5.0)]):
            t = 1 + 4 * k
            log_prob[t], old[t], rollout[t], ref[t], mask[t] = new, was, was + 0.0625, by_ref, 1.0
    log_prob, old, rollout, ref = (np.round(x, 6) for x in (log_prob, old, rollout, ref))
    rewards = np.asarray(rewards, float)
    advantage = np.array([0.0 if np.ptp(rewards[np.equal(group, g)]) == 0 else round(rng.normal(), 6) for g in group])
    token_reward = np.zeros(total)
    for i in range(n):
        token_reward[offsets[i + 1] - 1] = rewards[i]
    return {"offsets": offsets, "padded_width": int(max(lengths)) + 1, "group": group, "reward": rewards.tolist(),
            "greedy_reward": [float(g % 2) for g in group], "advantage": advantage.tolist(), "mask": mask.tolist(),
            "log_prob": log_prob.tolist(), "old_log_prob": old.tolist(), "rollout_log_prob": rollout.tolist(),
            "ref_log_prob": ref.tolist(), "entropy": np.round(rng.gamma(1.0, 0.8, total), 6).tolist(),
            "value": np.round(rng.normal(0.0, 0.7, total), 6).tolist(), "token_reward": token_reward.tolist()}


def batches():
    return {
        # Uneven groups: mixed, equal to a value that no binary fraction hits, one alone, mixed, all zero.
        "uneven": make_batch(1, [4, 3, 1, 4, 2], [1, 0, 0.5, 1] + [0.1] * 3 + [0.75] + [-1, 2, 0, 0.25] + [0, 0]),
        # Equal groups of four: mixed, equal, a lone winner, a near tie.
        "even": make_batch(2, [4, 4, 4, 4], [1, 0, 0, 1] + [0.1] * 4 + [0, 0, 1, 0] + [0.3, 0.3, 0.3 + 1e-7, 0.3]),
        # Log-ratios up to 25 in size.
        "large": make_batch(3, [4, 4], [1, 0, 0.5, 0.25, 0, 1, 1, 0], large=True),
        # Sequences 1 and 5 have no active token.
        "dead": make_batch(4, [4, 4], [1, 0, 0.5, 0.25, 0, 1, 1, 0], dead=(1, 5)),
    }


class padded:
    """The [batch, padded_width] tensors of a batch."""

    def __init__(self, batch):
        self.offsets = batch["offsets"]
        self.lengths = np.diff(self.offsets)
        self.width = batch["padded_width"]
        self.group = batch["group"]
        for name in ["reward", "greedy_reward", "advantage"]:
            setattr(self, name, torch.tensor(batch[name]))
        for name in TOKENS:
            setattr(self, name, self.pad(batch[name], JUNK[name]))
        self.token_advantage = self.advantage.unsqueeze(-1) * self.mask
        self.log_prob.requires_grad_(True)

    def pad(self, values, junk=0.0):
        out = torch.full((len(self.lengths), self.width), junk)
        for i, n in enumerate(self.lengths):
            out[i, :n] = torch.tensor(values[self.offsets[i]:self.offsets[i + 1]])
        return out

    def flat(self, tensor):
        """Per token, in ragged order."""
        return [x for i, n in enumerate(self.lengths) for x in tensor[i, :n].tolist()]

    def flat_advantages(self, tensor):
        """Per sequence where all tokens inside the mask agree, per token otherwise."""
        rows = [tensor[i][self.mask[i] > 0] for i in range(len(self.lengths))]
        if all((row == row[:1]).all() for row in rows):
            return [row[0].item() if len(row) else 0.0 for row in rows]
        return self.flat(tensor)

    def gradient(self, loss):
        """{"gradient"} by log_prob; at padding it must be zero."""
        if not loss.requires_grad:  # nothing depends on log_prob
            return {"gradient": [0.0] * self.offsets[-1]}
        g, = torch.autograd.grad(loss, self.log_prob, allow_unused=True)
        g = torch.zeros_like(self.log_prob) if g is None else g
        for i, n in enumerate(self.lengths):
            assert not g[i, n:].any(), "a gradient at padding"
        return {"gradient": self.flat(g)}


# --- the file -------------------------------------------------------------------------------------------------------

def _plain(x, digits=17):
    if isinstance(x, dict):
        return {k: _plain(v, digits) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(v, digits) for v in x]
    if isinstance(x, torch.Tensor):
        return _plain(x.detach().tolist(), digits)
    if isinstance(x, (np.floating, float)):
        x = float(f"{x:.{digits}g}")
        if not math.isfinite(x):
            return str(x)
        return int(x) if x == int(x) and abs(x) < 1e6 and math.copysign(1, x) > 0 else x
    return x.item() if isinstance(x, np.generic) else x


class file:
    def __init__(self, framework, package, version=None, unused=()):
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(1)
        self.framework = framework
        self.version = version or importlib.metadata.version(package)
        self.cases, self.batches, self.unused, self.defaults = [], batches(), unused, {}

    def add_defaults(self, config, names):
        """The defaults of some fields of a dataclass."""
        self.defaults[config.__name__] = {name: config.__dataclass_fields__[name].default for name in names}

    def add(self, function, batch, options, outputs, inputs=None):
        self.cases.append(dict(function=function, batch=batch, options=_plain(options), inputs=_plain(inputs or {}),
                               outputs=_plain(outputs, 12)))

    def split_options(self):
        """What all cases of a function have among their options, by its commonest value; cases keep what differs."""
        common = {}
        for name in sorted({c["function"] for c in self.cases}):
            of = [c for c in self.cases if c["function"] == name]
            shared = [k for k in of[0]["options"] if all(k in c["options"] for c in of)]
            common[name] = {}
            for key in shared:
                shown = [json.dumps(c["options"][key]) for c in of]
                common[name][key] = json.loads(max(shown, key=shown.count))
            for c in of:
                c["options"] = {k: v for k, v in c["options"].items()
                                if k not in shared or json.dumps(v) != json.dumps(common[name][k])}
        return common

    def write(self, script):
        used = {c["batch"] for c in self.cases}
        path = pathlib.Path(script).with_suffix(".json")
        compact = dict(separators=(",", ":"), allow_nan=False)
        lines = ['{"framework":%s,"version":%s,"made_by":%s,' % tuple(
            json.dumps(x) for x in (self.framework, self.version,
                                    f"{pathlib.Path(script).name}, torch {torch.__version__.split('+')[0]}")),
                 '"defaults":%s,' % json.dumps(_plain(self.defaults), **compact), '"batches":{']
        shown = {name: {k: v for k, v in b.items() if k not in self.unused} for name, b in self.batches.items()}
        lines.append(",\n".join(f"{json.dumps(k)}:{json.dumps(_plain(v), **compact)}" for k, v in shown.items()
                                if k in used))
        lines.append('},\n"common":{')
        lines.append(",\n".join(f"{json.dumps(k)}:{json.dumps(v, **compact)}" for k, v in self.split_options().items()))
        lines.append('},\n"cases":[')
        lines.append(",\n".join(json.dumps(c, **compact) for c in self.cases))
        lines.append("]}")
        path.write_text("\n".join(lines) + "\n")
        print(f"{path.name}: {len(self.cases)} cases, {path.stat().st_size} bytes, version {self.version}")
