"""A thousand heads trained together and one at a time: time, fraction of the machine's matrix-product limit, equality.

python benchmarks/heads.py [--data FOLDER] [--quick] [-o docs/results/heads.md]

50 ALPA trials drawn from the paper's ranges × 5 folds × 4 seeds on the frozen features of a folder of images, 30 epochs.
All three alternate, seed and fold by seed and fold: all heads together, then one of them with the trainer
of `compare`, and with the shortest possible loop. Each ratio is within a turn, so a busy machine
slows all of them. Exits 1 if a thousand heads take two minutes or more, less than eight times faster than one at a
time by the trainer, or differ by more than 1e-4 of the logits' scale.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from heads_sides import (
    Stream,
    drawn_losses,
    features_of,
    lock,
    made_up,
    shortest,
    streams,
    timed,
    together,
)
from torch import Tensor, nn

from data import Others
from losses import machine
from tametail.losses import ALPALoss
from tametail.training.heads.head_training import TrainedHeads
from tametail.training.recipe import load_recipe

REAL = Path(__file__).parents[2] / "shared" / "data" / "ham10000_224"
SEEDS, TRIALS = 4, 50
MOST_SECONDS, LEAST_RATIO, MOST_DIFFERENCE = 120.0, 8.0, 1e-4


def product_seconds(heads: int, stream: Stream) -> float:
    """Seconds that the matrix products alone of one stream take, by the best of several tries at each of the two."""
    width, batch = stream.features.shape[1], stream.recipe.batch_size
    rows = heads * len(stream.counts)
    weights, inputs, slopes = torch.randn(rows, width), torch.randn(batch, width), torch.randn(rows, batch)
    forward = min(timed(lambda: weights @ inputs.T)[0] for _ in range(30))
    backward = min(timed(lambda: slopes @ inputs)[0] for _ in range(30))
    return (forward + backward) * stream.recipe.epochs * len(stream.target) / batch


def peak_rate() -> float:
    """GFLOP/s of a product of large square matrices, the best of several."""
    square = torch.randn(2048, 2048)
    return 2 * 2048**3 / min(timed(lambda: square @ square)[0] for _ in range(10)) / 1e9


@torch.no_grad()
def difference(
    trained: list[tuple[list[int], TrainedHeads]], at: int, head: nn.Module, features: Tensor
) -> float:
    """Largest difference between a head's logits and those of the same trained alone, in units of their scale."""
    expected = head(features)
    for head_batch, heads in trained:
        if at in head_batch:
            own = heads.head(head_batch.index(at))(features)
            return float((own - expected).abs().max() / expected.abs().max())
    raise IndexError(at)


@dataclass(frozen=True)
class Measured:
    """Seconds of one stream: of all heads together, of one by the trainer, of one by the shortest loop, of the products."""

    together: float
    lock: float
    shortest: float
    product: float
    difference: float


def measure(stream: Stream, losses: list[ALPALoss], at: int) -> Measured:
    """One turn of all sides; ``at`` is the head that is trained alone."""
    product = product_seconds(len(losses), stream)
    seconds, trained = timed(lambda: together(stream, losses))
    seconds_alone, one = timed(lambda: lock(stream, losses[at]))
    seconds_shortest, _ = timed(lambda: shortest(stream, losses[at]))
    return Measured(
        seconds, seconds_alone, seconds_shortest, product, difference(trained, at, one, stream.features)
    )


def spread(values: list[float]) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3g} ({low:.3g}–{high:.3g})"


def page(found: list[Measured], heads: int, source: str, shape: str, peak: float, others: str) -> str:
    """The results as Markdown."""
    count = heads * len(found)
    total, products = sum(each.together for each in found), sum(each.product for each in found)
    rows = [
        ("together", [each.together / heads for each in found], [1.0] * len(found)),
        (
            "one at a time, trainer",
            [each.lock for each in found],
            [heads * e.lock / e.together for e in found],
        ),
        (
            "one at a time, shortest loop",
            [each.shortest for each in found],
            [heads * e.shortest / e.together for e in found],
        ),
    ]
    lines = [
        f"| {name} | {spread(ratio)} | {1e3 * statistics.median(s):.1f} | {statistics.mean(s) * count:.0f} |"
        for name, s, ratio in rows
    ]
    return "\n".join(
        [
            "# A thousand heads trained together",
            "",
            "    python benchmarks/heads.py    (make bench-heads)",
            "",
            f"Machine: {machine('cpu')}.",
            "",
            f"{source}: {shape}. {heads} ALPA trials (α, β from 0.5 to 2, γ+, γ- from 0 to 5) × {len(found)} seeds and folds = {count} heads, "
            f"recipe `head`. All three alternate, seed and fold by seed and fold; ratios are within a turn, with quartiles. "
            f"n = {len(found)} turns; the total of those that train one at a time is {count} times the mean of {len(found)} trained heads. "
            f"They use one core, as threads slow them down; two processes would take half the time.",
            "",
            "| | × together | ms per head | s for all |",
            "|---|---:|---:|---:|",
            *lines,
            "",
            f"The matrix products alone, at full speed, would take {products:.1f} s: together reaches {products / total:.0%} of that limit. "
            f"Large square matrices reach {peak:.0f} GFLOP/s here, the products of these shapes {_rate(found, heads, shape):.0f}. "
            f"Largest difference between a head trained together and the same alone: {max(each.difference for each in found):.1g} of the "
            f"logits' scale (n = {len(found)} heads). Largest memory of the process: "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB.",
            others,
            "",
        ]
    )


def _rate(found: list[Measured], heads: int, shape: str) -> float:
    """GFLOP/s of the products of all streams."""
    images, width, classes, epochs = (int(part.split()[0]) for part in shape.split(", "))
    return (
        4 * images * width * classes * epochs * heads * len(found) / sum(each.product for each in found) / 1e9
    )


def main() -> int:
    """Measure, print, and say whether it is good enough."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=REAL, help="folder of images, as compare takes it")
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/results/heads.md"))
    asked = parser.parse_args()
    recipe = load_recipe("head", fields={"weights": "offline"})
    real = asked.data.is_dir()
    source = asked.data.name if real else "made-up features of the size of the HAM10000 subset"
    features, target, fold = features_of(asked.data, recipe) if real else made_up()
    losses = drawn_losses(TRIALS)
    all_streams = list(streams(features, target, fold, recipe, 1 if asked.quick else SEEDS))
    images = round(statistics.mean(len(stream.target) for stream in all_streams))
    shape = f"{images} images, {features.shape[1]} features, {int(target.max()) + 1} classes, {recipe.epochs} epochs"
    measure(all_streams[0], losses[:2], 0)  # what is imported and compiled at first use
    peak, others = peak_rate(), Others()
    found = [measure(stream, losses, at * 7 % TRIALS) for at, stream in enumerate(all_streams)]
    text = page(found, TRIALS, source, shape, peak, str(others))
    print(text)
    if not asked.quick:
        asked.out.write_text(text, encoding="utf-8")
    heads = TRIALS * len(found)
    thousand = sum(each.together for each in found) * 1000 / heads
    ratio = TRIALS * sum(each.lock for each in found) / sum(each.together for each in found)
    worst = max(each.difference for each in found)
    good = thousand < MOST_SECONDS and ratio >= LEAST_RATIO and worst <= MOST_DIFFERENCE
    print(
        f"1,000 heads: {thousand:.1f} s; {ratio:.1f} times faster than one at a time; difference {worst:.1g}."
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
