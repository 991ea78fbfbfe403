"""Fine-tuning compared with a plain loop in the style of public research code: time per epoch, overhead beyond the
network's own computation, and the balanced accuracy of both.

python benchmarks/train.py [--quick] [--data FOLDER] [-o docs/results/training.md]

Both sides take turns epoch by epoch, each in a process of its own that waits while the other works, and each ratio is
that of one turn: a busy machine slows both sides of it. Same images, split, weights, recipe, seeds and threads.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train_sides import FOLDS

import data
from losses import machine
from tametail.evaluation import Estimate, evaluate
from tametail.predictions.single_label import concatenate, read_predictions

REAL = Path(__file__).parents[2] / "shared" / "data" / "ham10000_224"
SIDES = ("ours", "plain")
NAMES = {"ours": "tametail, recipe `quick`", "plain": "plain loop"}
Epochs = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Plan:
    """What is done: ``images`` None takes all of them."""

    data: str
    images: int | None
    epochs: int
    folds: int
    seeds: int
    threads: int


class Others(data.Others):
    """The two sides are no others."""

    @staticmethod
    def _now() -> tuple[float, float, float]:
        everything, busy, own = data.Others._now()
        sides = resource.getrusage(resource.RUSAGE_CHILDREN)
        return everything, busy, own + sides.ru_utime + sides.ru_stime


class Side:
    """The process of one side."""

    def __init__(self, name: str, plan: Plan, fold: int, seed: int, out: Path) -> None:
        command = [sys.executable, str(Path(__file__).with_name("train_sides.py")), name, plan.data, str(out)]
        command += ["--epochs", str(plan.epochs), "--threads", str(plan.threads)]
        command += ["--fold", str(fold), "--seed", str(seed)]
        command += ["--images", str(plan.images)] if plan.images else []
        pinned = os.environ | {"OMP_NUM_THREADS": str(plan.threads)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=pinned)

    def epoch(self) -> dict[str, Any]:
        """Let it work for an epoch, and take what it says of it."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a side ended before its last epoch; what it says of that is above")
        said: dict[str, Any] = json.loads(line)
        return said

    def __enter__(self) -> Side:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind:
            self.process.kill()
        self.process.communicate()


def take_turns(plan: Plan, fold: int, seed: int, out: Path) -> Epochs:
    """What each side says of each epoch of one training."""
    with ExitStack() as stack:
        sides = {name: stack.enter_context(Side(name, plan, fold, seed, out)) for name in SIDES}
        rounds = []
        for number in range(plan.epochs):
            rounds.append({name: side.epoch() for name, side in sides.items()})
            seconds = ", ".join(f"{name} {turn['seconds']:.1f} s" for name, turn in rounds[-1].items())
            print(f"fold {fold}, seed {seed}, epoch {number + 1}: {seconds}", file=sys.stderr, flush=True)
    return {name: [turn[name] for turn in rounds] for name in SIDES}


def judged(name: str, plan: Plan, out: Path) -> Estimate:
    """Balanced accuracy on the held-out folds, pooled, mean over the seeds."""
    tables = [
        concatenate([read_predictions(out / f"{name}-{fold}-{seed}.parquet") for fold in range(plan.folds)])
        for seed in range(plan.seeds)
    ]
    return evaluate(tables)["balanced_accuracy"]


def quartiles(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.2f}"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def table(epochs: Epochs, estimates: dict[str, Estimate]) -> Iterator[str]:
    """Markdown lines, ratios first; the epochs given are those after the first."""
    yield "| | × plain loop | s per epoch | images/s | outside forward and backward | balanced accuracy, % |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name in SIDES:
        turns, rival = epochs[name], epochs["plain"]
        pairs = zip(turns, rival, strict=True)
        ratios = [other["seconds"] / turn["seconds"] for turn, other in pairs]
        seconds = statistics.median(turn["seconds"] for turn in turns)
        images = statistics.median(turn["images"] / turn["seconds"] for turn in turns)
        outside = statistics.median(1 - turn["network"] / turn["seconds"] for turn in turns)
        score = estimates[name]
        yield (
            f"| {NAMES[name]} | {quartiles(ratios)} | {seconds:.1f} | {images:.1f} | {outside:.1%} "
            f"| {100 * score.value:.1f} ({100 * score.low:.1f}–{100 * score.high:.1f}) |"
        )


def report(plan: Plan, quick: bool) -> Iterator[str]:
    """The whole page, line by line, as it is measured."""
    yield "# Fine-tuning compared with a plain loop\n"
    yield f"    python benchmarks/train.py{' --quick' if quick else ''}    (make bench-train)\n"
    yield f"Machine: {machine('cpu')}; {plan.threads} threads for each.\n"
    yield (
        "EfficientNet-Lite0 at 128 px, batches of 64, float32, cross-entropy, AdamW with warm-up and cosine, flips, crops "
        "and rotations; validation on the held-out fold after every epoch. The plain loop opens every file with Pillow in "
        "every epoch and augments each image with torchvision's transforms in two worker processes, in PyTorch's default "
        "layout. Both alternate epoch by epoch; times are medians from the second epoch on, ratios those of "
        "each turn, with quartiles. tametail decodes in its first epoch, and saves a checkpoint every minute. Inside forward "
        "and backward counts the network's forward in training and validation, and the backward pass.\n"
    )
    others = Others()
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        os.environ["TAMETAIL_CACHE"] = str(out / "cache")
        runs = [take_turns(plan, fold, seed, out) for fold in range(plan.folds) for seed in range(plan.seeds)]
        estimates = {name: judged(name, plan, out) for name in SIDES}
    first = {name: statistics.median(run[name][0]["seconds"] for run in runs) for name in SIDES}
    later = {name: [turn for run in runs for turn in run[name][1:]] for name in SIDES}
    source = Path(plan.data).name if Path(plan.data).exists() else f"the built-in {plan.data} set"
    yield (
        f"{source}: {later['ours'][0]['images']} images to train on, {estimates['ours'].n} held out in {plan.folds} of "
        f"{FOLDS} folds, {plan.epochs} epochs, {plan.seeds} seed{'s' * (plan.seeds > 1)}.\n"
    )
    yield from table(later, estimates)
    yield f"\nFirst epoch, including decoding: {first['ours']:.1f} s, the plain loop {first['plain']:.1f} s."
    yield str(others)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="600 images and 2 epochs, to see that it runs")
    parser.add_argument("--data", help="a folder of images; or demo")
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--folds", type=int, default=2, help=f"how many of {FOLDS} are held out in turn")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--images", type=int, help="number of images, spread over the table")
    parser.add_argument("-o", "--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    images = options.data or (str(REAL) if REAL.is_dir() else "demo")
    cores = len(os.sched_getaffinity(0))
    plan = Plan(images, options.images, options.epochs, options.folds, options.repeats, cores)
    if options.quick:
        plan = Plan(images, 600, 2, 1, 1, cores)
    lines = []
    for line in report(plan, options.quick):
        print(line, flush=True)
        lines.append(line)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
