"""On random labels, is the nested estimate of a search at chance, and the best cross-validation score above it?

    python scripts/leak_proof.py [--trials 50] [--permutations 20] [-o docs/results/leak-proof.md]    (make leak-proof)

The labels of 600 images of five unequal classes are permuted repeatedly. For each permutation ALPA is tuned as by
`tametail search`, over the paper's space. With --features FILE.npy the features are rows of that file, drawn once;
otherwise they are normally distributed. Exits 1 if chance is outside the interval of the nested estimates, or the best
cross-validation scores are not above it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tametail.core.console import Console
from tametail.evaluation import metrics
from tametail.search.folds import FoldData
from tametail.search.journal import open_journal, register_worker
from tametail.search.nested_estimate import best_of
from tametail.search.nested_search import run_searches, trial_records
from tametail.search.queue import SearchSettings
from tametail.search.space import make_space
from tametail.training.checkpointing.checkpointer import Stop
from tametail.training.hardware import make_accelerator
from tametail.training.heads.head_experiments import run_trials
from tametail.training.recipe import load_recipe
from tametail.training.strategies import parse_method

CLASSES = (300, 150, 80, 45, 25)
FOLDS = 5


def random_folds(features: NDArray[np.float32], seed: int) -> FoldData:
    """The images with labels permuted by a seed, in stratified folds."""
    from sklearn.model_selection import StratifiedKFold

    target = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(CLASSES)), CLASSES))
    fold = np.zeros(len(target), dtype=np.int64)
    for place, (_, held) in enumerate(
        StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(target, target)
    ):
        fold[held] = place
    return FoldData(features, target, fold, len(CLASSES))


def one_search(folds: FoldData, trials: int, seed: int) -> tuple[float, float, float]:
    """Balanced accuracy: the nested estimate, the best cross-validation score, and the mean score of all trials."""
    recipe = load_recipe(
        "head", assignments=["l2=0.003"]
    )  # with the chosen penalty all heads predict the largest class
    accelerator = make_accelerator(recipe, "cpu")
    space = make_space(parse_method("alpa"), recipe)
    settings = SearchSettings(trials, "random", False, "balanced_accuracy", 1, seed, 100)
    with tempfile.TemporaryDirectory() as name, register_worker(Path(name)) as worker:
        storage = open_journal(Path(name))
        run_searches(
            Path(name),
            storage,
            space,
            folds,
            settings,
            lambda own, data, training, predicted: run_trials(
                own, data, accelerator, seed=training.random_seed()
            ),
            worker,
            Stop(),
            Console(quiet=True),
        )
        found = trial_records(storage, folds.folds, settings)
    final = {trial.number: trial for trial in found if trial.outer is None}
    chosen = {fold: final[best_of(found, fold).number] for fold in folds.folds}
    # The predictions of each trial for its held-out fold are stored: the chosen trial need not be trained again.
    counts = sum(
        np.asarray(trial.outputs[f"seed0-without{fold}"]["counts"][str(fold)])
        for fold, trial in chosen.items()
    )
    every = [trial.score for trial in final.values() if trial.state == "complete"]
    return float(metrics.balanced_accuracy(counts)), best_of(found, None).score, float(np.mean(every))


def with_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and its 95 % interval by Student's t, in %."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return 100 * values.mean(), 100 * (values.mean() - half), 100 * (values.mean() + half)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--permutations", type=int, default=20)
    parser.add_argument("--size", type=int, default=1280, help="number of features, without --features")
    parser.add_argument("--features", type=Path, help="(N, D) float32, at least 600 rows")
    parser.add_argument("-o", "--out", type=Path)
    asked = parser.parse_args()
    if asked.permutations < 2 or asked.trials < 1:
        parser.error("expected at least 2 permutations and 1 trial")
    rng, images = np.random.default_rng(0), sum(CLASSES)
    if asked.features:
        every = np.load(asked.features, allow_pickle=False)
        if every.ndim != 2 or len(every) < images:
            parser.error(
                f"expected at least {images} rows of features in {asked.features}, got shape {every.shape}"
            )
        features = every[rng.choice(len(every), images, replace=False)].astype(np.float32)
        source = f"drawn from a file of {len(every):,} real ones"
    else:
        features = rng.normal(size=(images, asked.size)).astype(np.float32)
        source = "normal numbers"
    began, rows = time.monotonic(), []
    for seed in range(asked.permutations):
        rows.append(one_search(random_folds(features, seed), asked.trials, seed))
        found = (f"{100 * value:.2f}" for value in rows[-1])
        print(seed + 1, *found, f"{time.monotonic() - began:.0f} s", flush=True)
    nested, choice, mean = np.array(rows).T
    text = report(asked, features.shape[1], source, nested, choice, mean, time.monotonic() - began)
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    chance = 100 / len(CLASSES)
    _, low, high = with_interval(nested)
    return 0 if low <= chance <= high and with_interval(choice)[1] > chance else 1


def report(
    asked: argparse.Namespace,
    size: int,
    source: str,
    nested: NDArray[np.float64],
    choice: NDArray[np.float64],
    mean: NDArray[np.float64],
    seconds: float,
) -> str:
    """The table as Markdown."""
    lines = [
        "# Search on random labels: does anything leak?",
        "",
        f"    python scripts/leak_proof.py --trials {asked.trials} --permutations {asked.permutations}    (make leak-proof)",
        "",
        f"{sum(CLASSES)} images of {len(CLASSES)} classes ({', '.join(map(str, CLASSES))} images), features of {size} numbers ({source}), labels assigned at",
        f"random: there is nothing to learn, and chance is {100 / len(CLASSES):.1f} % balanced accuracy. ALPA was searched over the paper's space, with a penalty of 0.003, with {asked.trials}",
        f"trials in {FOLDS} outer and {FOLDS - 1} inner folds, {asked.permutations} times with other labels. Took {seconds / 60:.0f} min.",
        "",
        f"| balanced accuracy, % | mean of n = {len(nested)} permutations (95 % interval) | lowest | highest |",
        "|---|---:|---:|---:|",
    ]
    for name, values in (
        ("nested estimate", nested),
        ("best cross-validation score (of the chosen trial)", choice),
        ("mean score of all trials", mean),
    ):
        value, low, high = with_interval(values)
        lines.append(
            f"| {name} | {value:.2f} ({low:.2f} to {high:.2f}) | {100 * values.min():.1f} | {100 * values.max():.1f} |"
        )
    above, low, high = with_interval(choice - nested)
    lines += [
        "",
        f"The best cross-validation score is above the nested estimate by {above:.2f} points ({low:.2f} to {high:.2f}) on average, and in "
        f"{int((choice > nested).sum())} of {len(nested)} permutations. This",
        "is the selection optimism; the nested estimate has none.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
