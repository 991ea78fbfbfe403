"""Simulate the paired comparisons of several labels per image: false alarms where there is no difference, and power.

    python scripts/paired_labels.py [--simulations 1000] [-o docs/results/multi-label-comparisons.md]
    (make false-alarms-labels)

Generated sets have one to three images per patient, labels with a long tail of prevalences that occur together, a fifth of
the labels unknown, and the scores of two models that share part of their errors. What the models would reach on all
possible images is known from a set of 400,000.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.evaluation.intervals import wilson
from tametail.evaluation.label_thresholds import macro_average_precision
from tametail.evaluation.paired_labels import compare_labels, paired_label_table
from tametail.predictions.multi_label import LabelPredictions

LABELS, UNKNOWN = 20, 0.2
PREVALENCE = np.geomspace(0.3, 0.01, LABELS)
SEPARATION = 1.6  # distance of the scores of images with and without a label, in standard deviations
LARGE = 400_000
_SHARED = 0.7  # share of the variance of scores that both models have in common
_PATIENT = 0.3  # share of the own variance that all images of a patient have in common


@dataclass(frozen=True)
class Case:
    """A comparison: by how much the scores of a and b separate each label, in standard deviations."""

    name: str
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    shared: float = _SHARED


def simulate(case: Case, patients: int, rng: np.random.Generator) -> list[LabelPredictions]:
    """Predictions of the two models for the images of so many patients."""
    group = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    cause = rng.standard_normal((patients, 4))[:, rng.integers(0, 4, LABELS)]
    strength = np.sqrt(0.4) * cause + np.sqrt(0.6) * rng.standard_normal((patients, LABELS))
    from scipy import special

    has = (strength > special.ndtri(1 - PREVALENCE))[group]
    unknown = (rng.random((patients, LABELS)) < UNKNOWN)[group]

    def noise() -> NDArray[np.float64]:
        of_patient = rng.standard_normal((patients, LABELS))[group]
        own = rng.standard_normal(has.shape)
        return np.asarray(np.sqrt(_PATIENT) * of_patient + np.sqrt(1 - _PATIENT) * own)

    common = noise()
    n = len(group)
    images = np.array([f"{index:07d}" for index in range(n)])
    fixed = images, group.astype(str), has & ~unknown, np.zeros(n, dtype=np.int64)
    names = tuple(f"label {at:02d}" for at in range(LABELS))
    found = []
    for separation in (case.a, case.b):
        z = has * separation + np.sqrt(case.shared) * common + np.sqrt(1 - case.shared) * noise()
        logits = z.astype(np.float32)
        found.append(LabelPredictions(*fixed, logits, names, special.expit(logits), unknown))
    return found


def differences(case: Case, seed: int) -> tuple[float, NDArray[np.float64]]:
    """The differences in mAP and in the AP of each label on a very large set."""
    a, b = simulate(case, LARGE // 2, np.random.default_rng(seed))
    of_each = [[macro_average_precision(_only(table, at)) for at in range(LABELS)] for table in (a, b)]
    by_label = np.subtract(*np.array(of_each))
    return float(by_label.mean()), by_label


def _only(table: LabelPredictions, at: int) -> LabelPredictions:
    column = slice(at, at + 1)
    assert table.unknown is not None
    return LabelPredictions(
        table.image,
        table.group,
        table.labels[:, column],
        table.fold,
        table.logits[:, column],
        table.class_names[column],
        table.posterior[:, column],
        table.unknown[:, column],
    )


def cases() -> list[tuple[Case, str]]:
    """The comparisons, with what each is for."""
    same = np.full(LABELS, SEPARATION)
    rare = PREVALENCE < 0.03
    return [
        (Case("equal models", same, same), "null"),
        (Case("equal models that agree on little", same, same, shared=0.3), "null"),
        (Case("equal models that nearly agree", same, same, shared=0.95), "null"),
        (_balanced("a better in rare labels, worse in the others", rare), "null"),
        (Case("a better in all labels", same + 0.2, same), "power"),
        (Case("a better in the rare labels", same + 0.5 * rare, same), "power"),
        (Case("a better in the frequent labels", same + 0.3 * ~rare, same), "power"),
    ]


def _balanced(name: str, rare: NDArray[np.bool_]) -> Case:
    """What a gains in the rare labels it loses in the others, so that mAP is the same; found by halving."""
    same, low, high = np.full(LABELS, SEPARATION), 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        case = Case(name, same + 0.5 * rare - middle * ~rare, same)
        difference, _ = differences(case, 1)
        low, high = (middle, high) if difference > 0 else (low, middle)
    return Case(name, same + 0.5 * rare - (low + high) / 2 * ~rare, same)


def measure(case: Case, patients: int, simulations: int, seed: int) -> dict[str, float]:
    """Shares of the simulations: significant, of a truly different sign, interval that holds the true difference."""
    truth, by_label = differences(case, 2)
    counts = dict.fromkeys(("significant", "wrong", "covered", "label", "images"), 0.0)
    for index in range(simulations):
        a, b = simulate(case, patients, np.random.default_rng([seed, patients, index]))
        paired = paired_label_table({"a": [a], "b": [b]}).pair(0, 1)
        found = paired.verdict != "no significant difference"
        counts["significant"] += found
        counts["wrong"] += found and paired.difference.value * truth < 0
        counts["covered"] += paired.difference.low <= truth <= paired.difference.high
        tests = compare_labels({"a": [a], "b": [b]})["b"]
        equal = np.abs(by_label) < 0.001
        counts["label"] += any(
            test.verdict in ("better", "worse") for test, none in zip(tests, equal, strict=True) if none
        )
        counts["images"] += len(a)
    return {name: count / simulations for name, count in counts.items()} | {"truth": truth}


def percent(share: float, n: int) -> str:
    """``5.1 (3.9–6.6)``, with Wilson's limits."""
    low, high = wilson(share, n)
    return f"{100 * share:.1f} ({100 * float(low):.1f}–{100 * float(high):.1f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulations; 1 if a false-alarm rate is above 6 % by more than its interval."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--patients", type=int, nargs="+", default=[300, 1000])
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args(arguments)
    header = ["Models", "Patients", "Images", "True difference in mAP, points", "Significant, %", "Interval holds it, %", "Any false label, %"]  # fmt: skip
    rows, failed = [], False
    for case, kind in cases():
        for patients in given.patients:
            found = measure(case, patients, given.simulations, 0)
            rate = found["significant"]
            if kind == "null" and float(wilson(rate, given.simulations)[0]) > 0.06:
                failed = True
            rows.append([
                case.name, f"{patients:,}", f"{found['images']:,.0f}", f"{100 * found['truth']:+.1f}",
                percent(rate, given.simulations), percent(found["covered"], given.simulations),
                percent(found["label"], given.simulations),
            ])  # fmt: skip
            print(" | ".join(rows[-1]), flush=True)
    if given.out:
        table = [
            "| " + " | ".join(row) + " |" for row in (header, ["---", *["---:"] * (len(header) - 1)], *rows)
        ]
        given.out.write_text(
            PAGE.format(n=given.simulations, runs=given.simulations, table="\n".join(table)), encoding="utf-8"
        )
    return int(failed)


PAGE = """# Paired comparisons of several labels: false alarms and power

    python scripts/paired_labels.py --simulations {runs} -o docs/results/multi-label-comparisons.md    (make false-alarms-labels)

{n:,} simulated sets per row: 20 labels with prevalences from 30 % to 1 %, one to three images per patient, labels that occur
together, a fifth of them unknown, two models that share part of their errors. A difference in mean average precision (mAP)
is significant if the test with patients as units gives p of at most 5 %. "Any
false label": share of the sets in which at least one label without a true difference is called significant, with Holm's
correction over the 20 labels; it should be at most 5 %.

{table}
"""

if __name__ == "__main__":
    sys.exit(main())
