"""Hands a batch to from_python as .npy files, and checks the coefficients that come back against NumPy.

    python3 examples/from_python.py build/examples/from_python [--seed N] [--rows N] [--keep FOLDER]

Needs NumPy. --keep writes the batch and what is expected into a folder; examples/data/python_batch was made by

    python3 examples/from_python.py build/examples/from_python --seed 4 --rows 9 --width 6 \
        --keep examples/data/python_batch
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np


def make_batch(rng, rows, width):
    """A batch as a trainer has it: float32, int64, padded on the right with what is no number."""
    lengths = rng.integers(1, width + 1, rows)
    lengths[rng.integers(rows)] = width
    mask = np.arange(width) < lengths[:, None]
    old = -rng.exponential(1.0, (rows, width))
    now = np.minimum(old + 0.3 * rng.standard_normal((rows, width)), 0.0)
    sizes = []
    while sum(sizes) < rows:
        sizes.append(min(int(rng.integers(1, 5)), rows - sum(sizes)))
    groups = np.repeat(100 + 7 * rng.permutation(len(sizes)), sizes)
    rewards = rng.integers(0, 2, rows).astype(np.float32)
    rewards[rng.integers(rows)] = np.nan  # could not be scored
    return {
        "tokens": np.where(mask, rng.integers(0, 50_000, (rows, width)), 0),
        "mask": mask,
        "log_probs": np.where(mask, now, np.nan).astype(np.float32),
        "old_log_probs": np.where(mask, old, np.nan).astype(np.float32),
        "rewards": rewards,
        "groups": groups,
    }


def expected(batch, low, high):
    """The same formulas with NumPy, in float64."""
    mask, rewards, groups = batch["mask"], batch["rewards"].astype(np.float64), batch["groups"]
    advantages = np.zeros(len(rewards))
    for group in np.unique(groups):
        scored = (groups == group) & ~np.isnan(rewards)
        values = rewards[scored]
        if len(values) > 1 and values.min() != values.max():
            advantages[scored] = (values - values.mean()) / (values.std(ddof=1) + 1e-6)
    ratio = np.exp(np.where(mask, batch["log_probs"].astype(np.float64) - batch["old_log_probs"], 0.0))
    column = advantages[:, None]
    clipped = ((column > 0) & (ratio > 1 + high)) | ((column < 0) & (ratio < 1 - low))
    ppo = np.where(mask & ~clipped, column * ratio, 0.0) / mask.sum()
    reinforce = np.broadcast_to(column / len(rewards), mask.shape)[mask]
    return {"advantages": advantages, "ppo": ppo, "reinforce": reinforce}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", help="the C++ example")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--clip-low", type=float, default=0.2)
    parser.add_argument("--clip-high", type=float, default=0.28)
    parser.add_argument("--keep", type=pathlib.Path)
    options = parser.parse_args()

    batch = make_batch(np.random.default_rng(options.seed), options.rows, options.width)
    want = expected(batch, options.clip_low, options.clip_high)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        for name, array in [*batch.items(), *(("expected_" + name, array) for name, array in want.items())]:
            np.save(options.keep / f"{name}.npy", array)

    with tempfile.TemporaryDirectory() as folder:
        for name, array in batch.items():
            np.save(pathlib.Path(folder) / f"{name}.npy", array)
        subprocess.run([options.program, "--batch", folder, "--out", folder, f"--clip-low={options.clip_low}",
                        f"--clip-high={options.clip_high}"], check=True)
        failed = False
        for name, array in want.items():
            got = np.load(pathlib.Path(folder) / f"{name}.npy")
            if got.shape != array.shape:
                sys.exit(f"{name}: shape {got.shape}, expected {array.shape}")
            error = np.max(np.abs(got - array) / (1e-300 + np.max(np.abs(array))), initial=0.0)
            print(f"{name:11} {str(got.shape):10} largest difference / largest value: {error:.1e}")
            failed |= not error < 1e-14
    sys.exit("the coefficients differ" if failed else 0)


if __name__ == "__main__":
    main()
