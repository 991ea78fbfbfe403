"""Are planted label errors among the suspects of `tametail inspect --labels`?

    python scripts/label_flips.py [demo] [FOLDER ...] [--share 0.05] [--repeats 3] [--cleanlab] [-o docs/results/label-errors.md]

For each seed a share of the labels of a data set is replaced by another class, drawn uniformly, before anything is trained. A study
of ``ce`` and ``ce+la`` on frozen features is made of it, and its suspects are compared with the planted errors of the training
set. Labels that were wrong before count as false alarms.

With --cleanlab the same probabilities are given to cleanlab, which the user has to install: the project does not depend on it
(2.9 is under the Apache License 2.0; older versions are under the AGPL).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

import tametail as tt
from tametail.core.console import Console
from tametail.evaluation.intervals import wilson
from tametail.predictions.single_label import Predictions

METHODS = ("ce", "ce+la")
TOPS = (20, 50, 100, 200)


def flip(table: tt.ImageTable, share: float, seed: int) -> tuple[tt.ImageTable, dict[str, str]]:
    """The table with a share of its labels replaced by another class, and the true label of each such image."""
    rng = np.random.default_rng(seed)
    labels = table.frame["label"].tolist()
    rows = rng.choice(len(labels), round(share * len(labels)), replace=False).tolist()
    true = {}
    for row in rows:
        true[table.frame["image"][row]] = labels[row]
        labels[row] = str(rng.choice([name for name in table.class_names if name != labels[row]]))
    return replace(table, frame=table.frame.assign(label=labels)), true


def share_of(hits: int, n: int) -> str:
    """A proportion in percent with its Wilson interval."""
    low, high = wilson(hits / n if n else np.nan, n)
    return f"{100 * hits / n:.1f} ({100 * float(low):.1f} to {100 * float(high):.1f})" if n else "–"


Ranked = list[
    tuple[str, int | None]
]  # image ids, the most suspect first, and the index of the suggested class if there is one


def rankings_by_cleanlab(predictions: Predictions) -> dict[str, Ranked]:
    """Suspects of cleanlab with its defaults, and by confident learning alone, ranked by margin."""
    from cleanlab.filter import find_label_issues

    rules = {
        "cleanlab": {"return_indices_ranked_by": "self_confidence"},
        "cleanlab, confident_learning": {
            "filter_by": "confident_learning",
            "return_indices_ranked_by": "normalized_margin",
        },
    }
    p = np.asarray(predictions.probabilities, dtype=np.float64)
    found = {
        name: find_label_issues(predictions.target, p / p.sum(axis=1, keepdims=True), n_jobs=1, **rule)
        for name, rule in rules.items()
    }
    return {name: [(str(predictions.image[row]), None) for row in rows] for name, rows in found.items()}


def rows_of(source: str, share: float, repeats: int, console: Console, *, cleanlab: bool) -> Iterator[str]:
    """Rows of the Markdown table for one data set."""
    import pandas as pd

    table = tt.read_images(source)
    for seed in range(repeats):
        noisy, true = flip(table, share, seed)
        with tempfile.TemporaryDirectory() as folder:
            study = tt.compare(
                noisy,
                methods=METHODS,
                out=Path(folder) / "study",
                weights="offline",
                device="cpu",
                console=console,
            )
            found = tt.inspect_labels(study.directory)
            splits = pd.read_csv(study.directory / "splits.csv", dtype={"image": str})
        training = set(splits["image"][splits["part"] == "train"])
        planted = {image: label for image, label in true.items() if image in training}
        rankings: dict[str, Ranked] = {
            "tametail": [(one.image, one.suggested) for one in found.errors.suspects]
        }
        if cleanlab:
            rankings |= rankings_by_cleanlab(found.predictions)
        for top in TOPS:
            for name, ranked in rankings.items():
                if len(ranked) < top:
                    continue
                hits = [(image, suggested) for image, suggested in ranked[:top] if image in planted]
                right = sum(
                    suggested is not None and found.class_names[suggested] == planted[image]
                    for image, suggested in hits
                )
                yield (
                    f"| {table.name} | {seed} | {found.method} | {found.images:,} | {len(planted)} | {name} | {top} | "
                    f"{share_of(len(hits), top)} | {share_of(len(hits), len(planted))} | "
                    f"{f'{right} of {len(hits)}' if name == 'tametail' else ''} |"
                )


def main() -> int:
    """Print or write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", default=["demo"])
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cleanlab", action="store_true", help="also rank by cleanlab, if it is installed")
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    console = Console(quiet=True)
    rows = []
    for source in given.data:
        for row in rows_of(source, given.share, given.repeats, console, cleanlab=given.cleanlab):
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
    by_cleanlab = []
    if given.cleanlab:
        by_cleanlab = [
            f'The same probabilities are ranked by cleanlab {version("cleanlab")} (`find_label_issues`): with its defaults, and with `filter_by="confident_learning"`',
            "by `normalized_margin`. It suggests no class in this function. tametail lists at most two suspects of a group.",
        ]
    names = " ".join(Path(source).name for source in given.data)
    page = "\n".join(
        [
            "# Planted label errors among the suspects",
            "",
            f"    python scripts/label_flips.py {names} --share {given.share:g} --repeats {given.repeats}{' --cleanlab' * given.cleanlab}",
            "",
            f"{100 * given.share:g} % of the labels were replaced by another class, drawn uniformly, before training. Head recipe on frozen features, 5 folds; the better of",
            "`ce` and `ce+la`. Precision: planted errors among the first suspects; recall: share of all planted errors of the training set",
            "that are among them; in %, with 95 % intervals over images (Wilson). Labels that were wrong before count as false alarms.",
            *by_cleanlab,
            "",
            "| data | seed | method | training images | planted | ranked by | first suspects | precision | recall | true class suggested |",
            "|---|---:|---|---:|---:|---|---:|---:|---:|---:|",
            *rows,
            "",
        ]
    )
    if given.out is None:
        print(page)
    else:
        given.out.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
