"""Label shift on held-out images with known new prevalence: error of the estimates, coverage of their intervals, and what adapting brings.

    python scripts/label_shift.py STUDY [STUDY ...] [--draws 4] [--seed 0] [-o docs/results/label-shift.md]

Of each study the method `ce` is taken. The images of each fold of each repeat are new images in turn: calibration map and reference are
fitted on the other folds. Batches are drawn from them at a given prevalence (multinomial), and images that are drawn twice are one
group. Then the whole of it is repeated as `tametail predict` does it: 30 % of the groups of the training set are new images, and a study of
the others gives the ensemble and its calibration.json. The held-out test sets are not used.

QuaPy (pip install quapy) is evaluated on the same numbers where it is installed.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tametail as tt
from tametail.evaluation.calibration_maps import apply_map, calibrate_out_of_fold
from tametail.evaluation.label_shift import ShiftReference, estimate_prevalence, shift_reference
from tametail.evaluation.log_loss import log_losses
from tametail.predictions.single_label import Predictions, for_prevalence
from tametail.report.study.calibration_file import calibration_for_new_images
from tametail.report.study.runs import find_runs
from tametail.storage.study_file import read_study_file

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
METHOD = "ce"
SIZES = (20, 50, 200, 500)
NEW_SHARE = 0.3
NO_CHANGE = "training prevalence"


@dataclass(frozen=True)
class NewImages:
    """Images with known classes, as new ones: calibrated probabilities (N, C), classes (N,), and the reference."""

    p: FloatArray
    target: IntArray
    reference: ShiftReference


@dataclass
class Cell:
    """What the batches of one prevalence and size give, one number or row each."""

    errors: dict[str, list[float]] = field(default_factory=dict)
    covered: list[FloatArray] = field(default_factory=list)
    width: list[float] = field(default_factory=list)
    deviation: list[float] = field(default_factory=list)
    refused: list[bool] = field(default_factory=list)
    needed: list[float] = field(default_factory=list)
    scores: list[FloatArray] = field(
        default_factory=list
    )  # (3, 3): none, adapted, known; accuracy, balanced, log-loss


def prevalences(trained: FloatArray, names: Sequence[str]) -> dict[str, FloatArray]:
    """The target prevalences (C,) by name."""
    by_size = np.argsort(-trained, kind="stable")
    flipped = np.empty_like(trained)
    flipped[by_size] = trained[by_size[::-1]]
    middle = int(by_size[len(trained) // 2])
    doubled = trained * (1 - 2 * trained[middle]) / (1 - trained[middle])
    doubled[middle] = 2 * trained[middle]
    absent = np.where(np.arange(len(trained)) == by_size[1], 0.0, trained)
    return {
        "natural": trained,
        f"{names[middle]} doubled": doubled,
        f"no {names[by_size[1]]}": absent / absent.sum(),
        "even": np.full(len(trained), 1 / len(trained)),
        "reversed": flipped,
    }


def cross_fitted(study: Path) -> Iterator[NewImages]:
    """Each fold of each repeat as new images."""
    runs = next(each for each in find_runs(study, read_study_file(study)) if each.method == METHOD)
    for table in runs.replicates:
        for fold in np.unique(table.fold):
            known = calibrate_out_of_fold([rows_of(table, table.fold != fold)])
            new = apply_map(known.map, rows_of(table, table.fold == fold))
            reference = shift_reference(known.tables)
            assert reference is not None
            yield NewImages(new.probabilities, new.target, reference)


def rows_of(table: Predictions, rows: NDArray[np.bool_]) -> Predictions:
    posterior = None if table.posterior is None else table.posterior[rows]
    return Predictions(
        table.image[rows],
        table.group[rows],
        table.target[rows],
        table.fold[rows],
        table.logits[rows],
        table.class_names,
        table.link,
        posterior,
    )


def deployed(study: Path, seed: int) -> NewImages:
    """30 % of the groups of the training set, predicted by the ensemble of a study of the others."""
    described = read_study_file(study)
    names = tuple(described["class_names"])
    runs = next(each for each in find_runs(study, described) if each.method == METHOD)
    table = runs.replicates[0]
    root = Path(json.loads((study / "source.json").read_text(encoding="utf-8"))["image_root"])
    groups = np.random.default_rng(seed).permutation(np.unique(table.group))
    new = np.isin(table.group, groups[: round(NEW_SHARE * len(groups))])
    with tempfile.TemporaryDirectory() as folder:
        known = Path(folder) / "known.csv"
        with known.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "label", "group"])
            writer.writerows(
                (image, names[code], group)
                for image, code, group in zip(
                    table.image[~new], table.target[~new], table.group[~new], strict=True
                )
            )
        inner = Path(folder) / "study"
        tt.compare(known, methods=[METHOD], image_root=root, weights="offline", recipe="head", out=inner)
        reference = calibration_for_new_images(inner, METHOD).shift
        assert reference is not None
        p = tt.load(inner).predict_proba([root / image for image in table.image[new]])
        at = [read_study_file(inner)["class_names"].index(name) for name in names]
    assert at == sorted(at)
    return NewImages(p, table.target[new], reference)


def quapy_estimates(p: FloatArray, reference: ShiftReference) -> Mapping[str, FloatArray]:
    """EMQ (EM) and PACC (BBSE of probabilities) of QuaPy; empty if it is not installed."""
    try:
        from quapy.functional import normalize_prevalence
        from quapy.method.aggregative import ACC, EMQ, PACC
    except ImportError:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of_em = EMQ.EM(reference.trained, p)[0]
        rates = PACC.getPteCondEstim(np.arange(p.shape[1]), reference.target, reference.p)
        solved = ACC.solve_adjustment(rates, p.mean(axis=0), method="inversion", solver="minimize")
        return {"QuaPy EMQ": of_em, "QuaPy PACC": normalize_prevalence(solved, method="clip")}


def score(p: FloatArray, target: IntArray) -> FloatArray:
    """Accuracy, mean recall of the classes present, and mean log-loss."""
    hits = p.argmax(axis=1) == target
    recall = [hits[target == c].mean() for c in np.unique(target)]
    return np.array([hits.mean(), np.mean(recall), log_losses(target, p).mean()])


def add_batch(cell: Cell, new: NewImages, prevalence: FloatArray, n: int, rng: np.random.Generator) -> None:
    drawn = []
    for c, wanted in enumerate(rng.multinomial(n, prevalence)):
        own = np.flatnonzero(new.target == c)
        drawn.append(rng.choice(own, wanted, replace=wanted > len(own)))
    rows = np.concatenate(drawn)
    p, target, reference = new.p[rows], new.target[rows], new.reference
    found = estimate_prevalence(p, reference, group=rows)
    estimates = {"tametail": found.prevalence, "EM alone": found.em, NO_CHANGE: reference.trained}
    for name, estimate in {**estimates, **quapy_estimates(p, reference)}.items():
        cell.errors.setdefault(name, []).append(float(np.abs(estimate - prevalence).mean()))
    cell.covered.append(((found.low <= prevalence) & (prevalence <= found.high)).astype(np.float64))
    cell.width.append(float(np.nanmax(found.high - found.low)))
    cell.deviation.append(found.deviation)
    cell.refused.append(not found.helps)
    cell.needed.append(np.inf if found.needed is None else found.needed)
    at = [p, *(for_prevalence(p, reference.trained, each) for each in (found.adapted, prevalence))]
    cell.scores.append(np.stack([score(each, target) for each in at]))


def measured(
    of_study: Sequence[NewImages], names: Sequence[str], draws: int, seed: int
) -> dict[tuple[str, int], Cell]:
    """A cell for each prevalence and size."""
    rng = np.random.default_rng(seed)
    trained = np.mean([new.reference.trained for new in of_study], axis=0)
    cells = {}
    for name, prevalence in prevalences(trained, names).items():
        for n in SIZES:
            cell = cells[name, n] = Cell()
            for new in of_study:
                for _ in range(draws):
                    add_batch(cell, new, prevalence, n, rng)
    return cells


def lines_of(cells: Mapping[tuple[str, int], Cell]) -> list[str]:
    first = next(iter(cells.values()))
    methods = list(first.errors)
    lines = [
        "| Prevalence | n | "
        + " | ".join(methods)
        + " | Coverage, % | Least of a class | Widest interval | Refused, % |",
        "| --- | ---: |" + " ---: |" * (len(methods) + 4),
    ]
    for (name, n), cell in cells.items():
        errors = " | ".join(f"{100 * np.mean(cell.errors[method]):.1f}" for method in methods)
        covered = np.array(cell.covered)
        lines.append(
            f"| {name} | {n} | {errors} | {100 * covered.mean():.1f} | {100 * covered.mean(axis=0).min():.1f} | "
            f"{np.mean(cell.width):.2f} | {100 * np.mean(cell.refused):.0f} |"
        )
    lines += [
        "",
        "| Prevalence | n | Accuracy, % | Balanced accuracy, % | Log-loss | Log-loss, refused | Log-loss, adapted | Lower in, % |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (name, n), cell in cells.items():
        scores, refused = np.stack(cell.scores), np.array(cell.refused)
        mean = scores.mean(axis=0)
        accuracy, balanced = (
            f"{100 * mean[0, at]:.1f} → {100 * mean[1, at]:.1f} ({100 * mean[2, at]:.1f})" for at in (0, 1)
        )
        losses = [f"{mean[0, 2]:.3f} → {mean[1, 2]:.3f} ({mean[2, 2]:.3f})"]
        for own in (refused, ~refused):
            change = (scores[own, 1, 2] - scores[own, 0, 2]).mean() if own.any() else np.nan
            losses.append(f"{change:+.3f}" if own.any() else "")
        lower = 100 * (scores[~refused, 1, 2] < scores[~refused, 0, 2]).mean() if (~refused).any() else np.nan
        lines.append(
            f"| {name} | {n} | {accuracy} | {balanced} | {' | '.join(losses)} | {'' if np.isnan(lower) else f'{lower:.0f}'} |"
        )
    needed = np.array([cell.needed for cell in cells.values()]).ravel()
    deviation = np.array([cell.deviation for cell in cells.values()]).ravel()
    middle = np.median(needed)
    lines += [
        "",
        f"Number of images that is said to be enough, over all batches: median {middle:,.0f}, {100 * np.isinf(needed).mean():.0f} % of them with no number. "
        f"Batches whose confidence deviates by more than 3 standard errors: {100 * (np.abs(deviation) > 3).mean():.1f} %.",
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("--draws", type=int, default=4, help="batches of each fold, prevalence and size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    lines = [
        "# Label shift: prevalence of unlabelled images",
        "",
        f"    python scripts/label_shift.py STUDY STUDY --draws {given.draws} --seed {given.seed} -o docs/results/label-shift.md",
        "",
        "Batches of n images at a known prevalence, drawn from images that neither the models nor their calibration have seen, and the "
        "prevalence estimated from their probabilities. Images that had to be drawn several times count as one group. The study is one of "
        "`ce`, a head on frozen features with the packaged weights. Errors are mean absolute errors over the classes, in percentage points: of "
        "`tametail` (BBSE on probabilities adapted by EM), of EM alone, of leaving the prevalence as in training, and of QuaPy's EMQ (EM, on the "
        "same calibrated probabilities) and PACC (BBSE of probabilities). Coverage is that of the 95 % intervals, over all classes and of the class "
        "with the least. A batch is refused unless its log-loss is expected to fall by adaptation, with 95 % confidence.",
        "",
        "Scores are without → with adaptation (in brackets, at the known prevalence), over all batches, refused or not. The "
        "log-loss is also shown as its change by adaptation in the batches that are refused and in the others, and the last column has the share of "
        "the others in which it is lower.",
    ]
    for study in given.studies:
        described = read_study_file(study)
        names = described["class_names"]
        for kind in ("cross-fitted folds", "as deployed"):
            fitted = kind == "cross-fitted folds"
            images = list(cross_fitted(study)) if fitted else [deployed(study, given.seed)]
            batches = given.draws * (1 if fitted else 15)
            cells = measured(images, names, batches, given.seed)
            text = (
                f"each of {len(images)} folds as new images, with calibration and reference from the other folds of its repeat"
                if fitted
                else f"{len(images[0].target)} images as new ones, predicted by the ensemble of a study of the others"
            )
            lines += [
                "",
                f"## {described['name']}: {kind}",
                "",
                f"{len(images) * batches} batches of each size: {text}.",
                "",
            ]
            lines += lines_of(cells)
            if given.out:
                given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
