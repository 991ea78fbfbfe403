"""Selection and comparison in `new_loss.py`: nested folds, one choice for both sets, paired tests.

Shape legend: S seeds, F folds, N configurations, R readings, C classes, n images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from new_loss_families import RIVALS, Configuration, configurations
from new_loss_trials import USUAL, Part
from numpy.typing import NDArray

from tametail.evaluation.evaluate import evaluate
from tametail.evaluation.intervals import Estimate
from tametail.evaluation.paired import Paired, paired_table
from tametail.evaluation.significance import Verdict, holm, verdict
from tametail.predictions.single_label import Predictions

SEEDS = (0, 1, 2)
Ints = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def trial_file(out: Path, name: str, family: str, seed: int) -> Path:
    """The file of a family's trials on a set."""
    slug = "".join(letter if letter.isalnum() else "-" for letter in family)
    return out / f"{name}.{slug}.seed{seed}.npz"


@dataclass(frozen=True, eq=False)
class Family:
    """The results of a family: for each set ``predicted`` (S, N, R, n) and, of the first seed, ``inner`` (F, F, N, R, C)."""

    name: str
    predicted: dict[str, Ints]
    inner: dict[str, Ints]

    @classmethod
    def read(cls, out: Path, name: str, parts: Mapping[str, Part]) -> Family:
        predicted, inner = {}, {}
        for of_set in parts:
            kept = [dict(np.load(trial_file(out, of_set, name, seed))) for seed in SEEDS]
            predicted[of_set] = np.stack([each["predicted"] for each in kept])
            if "inner" in kept[0]:
                inner[of_set] = kept[0]["inner"]
        return cls(name, predicted, inner)

    def nested(self, parts: Mapping[str, Part]) -> tuple[dict[str, Ints], list[tuple[int, int]]]:
        """(S, n) for each set: predictions for fold k by the choice on the other folds; and the choice (n, r) of each k."""
        folds = next(iter(parts.values())).folds
        choices = [_largest(self._inner_score(parts, k)) for k in range(folds)]
        found = {}
        for name, part in parts.items():
            found[name] = np.zeros((len(SEEDS), len(part.target)), dtype=np.int64)
            for k, (at, reading) in enumerate(choices):
                held = part.fold == k
                found[name][:, held] = self.predicted[name][:, at, reading][:, held]
        return found, choices

    def chosen(self, parts: Mapping[str, Part]) -> tuple[int, int]:
        """The choice (n, r) over all folds."""
        return _largest(np.mean([self.scores(parts, name) for name in parts], axis=0))

    def scores(self, parts: Mapping[str, Part], of_set: str) -> FloatArray:
        """(N, R) out-of-fold balanced accuracy on a set, mean of the seeds."""
        target, predicted = parts[of_set].target, self.predicted[of_set]
        recalls = [
            (predicted[..., target == c] == c).mean(axis=-1) for c in range(len(parts[of_set].class_names))
        ]
        return np.asarray(np.mean(recalls, axis=0).mean(axis=0))

    def _inner_score(self, parts: Mapping[str, Part], k: int) -> FloatArray:
        """(N, R) mean over sets of the balanced accuracy over all folds but k, by heads trained without fold k."""
        scores = []
        for name, part in parts.items():
            hits = self.inner[name][k].sum(axis=0)  # fold k itself is 0 there
            images = part.class_counts.sum(axis=0) - part.class_counts[k]
            scores.append((hits / images).mean(axis=-1))
        return np.asarray(np.mean(scores, axis=0))


def _largest(scores: FloatArray) -> tuple[int, int]:
    at, reading = np.unravel_index(int(scores.argmax()), scores.shape)
    return int(at), int(reading)


def described(family: str, choice: tuple[int, int]) -> str:
    """A choice in words."""
    return f"{configuration(family, choice).text}; {_readings(family)[choice[1]]}"


def _readings(family: str) -> list[str]:
    strengths = configurations(family)[0].strengths
    return [f"{by}, t = {t:g}" for by in ("odds", "shares") for t in strengths]


def configuration(family: str, choice: tuple[int, int]) -> Configuration:
    return configurations(family)[choice[0]]


def tables(part: Part, predicted: Ints) -> list[Predictions]:
    """(S, n) classes as tables of predictions; balanced accuracy needs the decisions only."""
    one_hot = np.eye(len(part.class_names), dtype=np.float32)
    return [
        Predictions(
            part.image, part.group, part.target, part.fold, one_hot[of_seed], part.class_names, "softmax"
        )
        for of_seed in predicted
    ]


def balanced_accuracy(part: Part, predicted: Ints) -> Estimate:
    """Balanced accuracy of predicted classes (S, n), with its interval."""
    return evaluate(tables(part, predicted), resamples=50)["balanced_accuracy"]


@dataclass(frozen=True)
class Compared:
    """Method a compared with method b on a set."""

    of_set: str
    a: str
    b: str
    paired: Paired
    p_holm: float

    @property
    def verdict(self) -> Verdict:
        return verdict(self.paired.difference, self.p_holm)


def rivals_of(family: str) -> tuple[str, ...]:
    """The rivals of a family; with a cosine head also the rival with that head."""
    return (*RIVALS, "balanced_softmax, cosine") if family.endswith("cosine") else RIVALS


def compare(
    parts: Mapping[str, Part], predicted: Mapping[str, Mapping[str, Ints]], pairs: list[tuple[str, str]]
) -> list[Compared]:
    """Paired comparisons of methods on each set, corrected for all of them.

    Args:
        predicted: by method and set, (S, n).
    """
    found = []
    for a, b in pairs:
        for of_set, part in parts.items():
            both = {name: tables(part, predicted[name][of_set]) for name in (a, b)}
            found.append((of_set, a, b, paired_table(both).pair(0, 1)))
    corrected = holm([paired.p for *_, paired in found])
    return [Compared(*each, p_holm=float(p)) for each, p in zip(found, corrected, strict=True)]


def percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} ({100 * estimate.low:.1f}–{100 * estimate.high:.1f})"


def points(compared: Compared) -> str:
    """A difference in points with its interval."""
    d = compared.paired.difference
    return f"{100 * d.value:+.1f} ({100 * d.low:+.1f} to {100 * d.high:+.1f})".replace("-", "−")


def default_of(family: Family, of_set: str) -> Ints:
    """(S, n) by a family's defaults at the recipe's rate and decay, read as usual."""
    readings = family.predicted[of_set].shape[2]
    return np.asarray(family.predicted[of_set][:, 0, USUAL if readings > 1 else 0])


def all_configurations(families: list[Family], parts: Mapping[str, Part]) -> str:
    """Every configuration as CSV: balanced accuracy in cross-validation, %, mean of the seeds, with the usual and the best decision."""
    best = [f"{of_set} by it" for of_set in parts]
    usual = [f"{of_set} by {_readings('ce+la')[USUAL]}" for of_set in parts]
    lines = [";".join(["family", "configuration", *usual, "best reading", *best])]
    for family in families:
        scores = 100 * np.stack([family.scores(parts, of_set) for of_set in parts])
        for at, each in enumerate(configurations(family.name)):
            reading = int(scores[:, at].mean(axis=0).argmax())
            read_usually = scores[:, at, USUAL] if each.strengths[USUAL] == 1 else [np.nan] * len(parts)
            cells = [f"{value:.1f}" for value in (*read_usually, *scores[:, at, reading])]
            cells.insert(len(parts), _readings(family.name)[reading])
            lines.append(";".join([family.name, each.text, *cells]))
    return "\n".join(lines) + "\n"
