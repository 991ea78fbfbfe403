"""Candidates are tuned for a fold without it: compared with a plain loop, and by what is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss

from tametail.recommend.candidates import CANDIDATES, Candidate, method_texts
from tametail.recommend.nested import (
    AllOutputs,
    MethodOutputs,
    all_trainings,
    inner_predictions,
    out_of_fold,
    tune,
    tune_by_fold,
    tune_on_all,
)
from tametail.recommend.objective import OBJECTIVES, Objective, ObjectiveData, parse_objective
from tametail.recommend.results import SHOWN, TrainingImages, evaluate_candidates
from tametail.training.run import TrainingKey

FOLDS, CLASSES, SEEDS = 4, 3, 2
TUNED = next(candidate for candidate in CANDIDATES if candidate.name == "ce+la[tau=chosen]")
THRESHOLDS = next(candidate for candidate in CANDIDATES if candidate.offsets)
IMAGES = np.array([f"{row:04d}" for row in range(102)])
TARGET = np.random.default_rng(0).permutation(np.repeat(np.arange(CLASSES), (60, 30, 12)))
SITE = np.array(["north", "south"])[np.random.default_rng(1).integers(0, 2, 102)]
DATA = ObjectiveData(("a", "b", "c"), IMAGES, TARGET, {"site": SITE}, FOLDS)
ALL = OBJECTIVES | {
    name: parse_objective(name).on(DATA) for name in ("net_benefit:b@0.2", "worst_group:site")
}
EVERY_OBJECTIVE = pytest.mark.parametrize("objective", ALL.values(), ids=ALL)
PLAIN = next(candidate for candidate in CANDIDATES if candidate.name == "ce")


class _Watched(Mapping[TrainingKey, MethodOutputs]):
    """Logits of trainings, and a record of which of them were read."""

    def __init__(self, decisions: Mapping[TrainingKey, MethodOutputs]) -> None:
        self._decisions = decisions
        self.seen: set[TrainingKey] = set()

    def __getitem__(self, training: TrainingKey) -> MethodOutputs:
        self.seen.add(training)
        return self._decisions[training]

    def __iter__(self) -> Iterator[TrainingKey]:
        return iter(self._decisions)

    def __len__(self) -> int:
        return len(self._decisions)


def _outputs(seed: int = 0) -> AllOutputs:
    """Random outputs, different for every training; the posteriors are not those of the logits."""
    rng = np.random.default_rng(seed)
    target = rng.permutation(np.repeat(np.arange(CLASSES), (60, 30, 12)))  # TARGET, with the first seed
    fold = np.arange(len(target)) % FOLDS
    decisions: dict[TrainingKey, MethodOutputs] = {}
    posteriors: dict[TrainingKey, MethodOutputs] = {}
    for training in all_trainings(SEEDS, FOLDS):
        truth = np.eye(CLASSES)[target[np.isin(fold, training.left_out)]]
        one, other = (
            {text: (rng.normal(size=truth.shape) + truth).astype(np.float32) for text in method_texts()}
            for _ in range(2)
        )
        decisions[training] = one
        posteriors[training] = {text: softmax(logits, axis=1) for text, logits in other.items()}
    subgroup = ALL["worst_group:site"].subgroup(IMAGES)
    return AllOutputs(
        target, fold, CLASSES, SEEDS, FOLDS, _Watched(decisions), _Watched(posteriors), subgroup
    )


def _sklearn(
    objective: Objective, rows: list[int], logits: list[np.ndarray], p: list[np.ndarray]
) -> float | list[float]:
    """The objective of some images by scikit-learn, greater is better; by site for that of the worst group."""
    truth, predicted = TARGET[rows], np.array(logits).argmax(axis=1)
    if objective.name == "worst_group:site":
        of_sites = [SITE[rows] == site for site in np.unique(SITE)]
        return [balanced_accuracy_score(truth[own], predicted[own]) for own in of_sites]
    if objective.name == "net_benefit:b@0.2":
        exact = np.array(p, dtype=np.float64)
        acted = (exact / exact.sum(axis=1, keepdims=True))[:, 1] >= 0.2
        return float((np.sum(acted & (truth == 1)) - 0.25 * np.sum(acted & (truth != 1))) / len(truth))
    if objective.name == "log_loss":
        exact = np.array(p, dtype=np.float64)
        return -float(log_loss(truth, exact / exact.sum(axis=1, keepdims=True), labels=range(CLASSES)))
    if objective.name == "macro_f1":
        return float(f1_score(truth, predicted, average="macro"))
    return float(balanced_accuracy_score(truth, predicted))


def _over_seeds(values: list[float | list[float]]) -> float:
    """The mean, or the lowest mean of a site."""
    return float(np.min(np.mean(values, axis=0)))


def test_each_pair_of_folds_has_one_training() -> None:
    trainings = all_trainings(SEEDS, FOLDS)
    assert len(trainings) == len(set(trainings)) == SEEDS * (FOLDS + FOLDS * (FOLDS - 1) // 2)
    assert len({training.name for training in trainings}) == len(trainings)


@EVERY_OBJECTIVE
@pytest.mark.parametrize("outer", range(FOLDS))
def test_a_parameter_is_tuned_as_by_a_plain_loop(outer: int, objective: Objective) -> None:
    outputs = _outputs()
    scores = {}
    for method in TUNED.methods:
        of_seeds = []
        for seed in range(SEEDS):
            images: list[int] = []
            logits: list[np.ndarray] = []
            posterior: list[np.ndarray] = []
            for j in range(FOLDS):
                if j == outer:
                    continue
                without = tuple(sorted((j, outer)))
                rows = [row for row in range(len(outputs.target)) if outputs.fold[row] in without]
                training = TrainingKey(seed, without)
                for place, row in enumerate(rows):
                    if outputs.fold[row] == j:
                        images.append(row)
                        logits.append(outputs.decisions[training][method][place])
                        posterior.append(outputs.posteriors[training][method][place])
            of_seeds.append(_sklearn(objective, images, logits, posterior))
        scores[method] = _over_seeds(of_seeds)
    found = tune_by_fold(TUNED, outputs, objective)[outer].method
    assert found == max(scores, key=lambda method: scores[method])


def test_the_objectives_choose_differently() -> None:
    outputs = _outputs()
    chosen = {
        name: [one.method for one in tune_by_fold(TUNED, outputs, objective)]
        for name, objective in OBJECTIVES.items()
    }
    assert len({tuple(methods) for methods in chosen.values()}) == len(chosen)


@EVERY_OBJECTIVE
@pytest.mark.parametrize("candidate", [PLAIN, TUNED, THRESHOLDS], ids=lambda candidate: candidate.name)
def test_tuning_without_a_fold_reads_no_training_or_label_of_it(
    candidate: Candidate, objective: Objective
) -> None:
    outputs, outer = _outputs(), 2
    before = inner_predictions(candidate, outputs, objective, outer)
    chosen = tune(candidate, outputs, objective, [0, 1, 3], (outer,))
    watched = outputs.decisions, outputs.posteriors
    for mapping in watched:
        assert isinstance(mapping, _Watched)
        assert mapping.seen
        assert all(outer in training.left_out for training in mapping.seen)
    spoiled = outputs.target.copy()
    spoiled[outputs.fold == outer] = 0
    other = AllOutputs(spoiled, outputs.fold, CLASSES, SEEDS, FOLDS, *watched, outputs.subgroup)
    again = inner_predictions(candidate, other, objective, outer)
    assert all(np.array_equal(one, two) for one, two in zip(before, again, strict=True))
    repeated = tune(candidate, other, objective, [0, 1, 3], (outer,))
    assert repeated.method == chosen.method
    assert (repeated.offsets is None) == (chosen.offsets is None) == (not candidate.offsets)
    assert chosen.offsets is None or np.array_equal(repeated.offsets, chosen.offsets)


def test_offsets_change_the_decision_alone_and_are_0_for_probabilities() -> None:
    outputs = _outputs()
    plain = out_of_fold(outputs, tune_by_fold(PLAIN, outputs, OBJECTIVES["macro_f1"]))
    for name, objective in ALL.items():
        found = out_of_fold(outputs, tune_by_fold(THRESHOLDS, outputs, objective))
        assert np.array_equal(found.posterior, plain.posterior)
        assert np.array_equal(found.logits, plain.logits) == name.startswith(("log_loss", "net_benefit"))


def test_an_image_is_predicted_by_the_training_without_its_fold() -> None:
    outputs = _outputs()
    found = out_of_fold(outputs, tune_by_fold(PLAIN, outputs, OBJECTIVES["balanced_accuracy"]))
    for fold in range(FOLDS):
        for seed in range(SEEDS):
            training, rows = TrainingKey(seed, (fold,)), outputs.fold == fold
            assert np.allclose(found.logits[seed, rows], outputs.decisions[training]["ce"])
            assert np.allclose(found.posterior[seed, rows], outputs.posteriors[training]["ce"])


def test_for_future_images_tuning_uses_all_folds() -> None:
    outputs = _outputs()
    watched = outputs.decisions
    assert isinstance(watched, _Watched)
    tune_on_all(TUNED, outputs, OBJECTIVES["balanced_accuracy"])
    assert watched.seen == {training for training in watched if len(training.left_out) == 1}


@EVERY_OBJECTIVE
def test_the_nested_estimates_are_those_of_scikit_learn(objective: Objective) -> None:
    outputs = _outputs()
    plain = [one for one in CANDIDATES if one.name in {"ce", "ce+la", "focal", "ce+crt"}]
    images = TrainingImages(IMAGES, IMAGES, ("a", "b", "c"))
    results = evaluate_candidates(plain, outputs, images, {}, objective)

    def score(method: str, left_out: list[tuple[int, ...]], folds: list[int]) -> float:
        return _over_seeds(
            [_sklearn(objective, *_pooled(method, seed, left_out, folds)) for seed in range(SEEDS)]
        )

    def _pooled(
        method: str, seed: int, left_out: list[tuple[int, ...]], folds: list[int]
    ) -> tuple[list[int], list[np.ndarray], list[np.ndarray]]:
        rows: list[int] = []
        logits: list[np.ndarray] = []
        posterior: list[np.ndarray] = []
        for without, fold in zip(left_out, folds, strict=True):
            own = outputs.fold[np.isin(outputs.fold, without)] == fold
            rows += np.flatnonzero(outputs.fold == fold).tolist()
            logits += list(outputs.decisions[TrainingKey(seed, without)][method][own])
            posterior += list(outputs.posteriors[TrainingKey(seed, without)][method][own])
        return rows, logits, posterior

    for outer, best in enumerate(results.nested_best.selected):
        inner = [fold for fold in range(FOLDS) if fold != outer]
        pairs = [tuple(sorted((fold, outer))) for fold in inner]
        scores = {one.name: round(score(one.name, pairs, inner), objective.digits) for one in plain}
        assert scores[best] == max(scores.values())
    every = list(range(FOLDS))
    for name, one in results.candidates.items():
        expected = objective.sign * score(name, [(fold,) for fold in every], every)
        assert one.estimate(objective.name).value == pytest.approx(expected, rel=1e-6)
    ranked = [objective.sign * one.estimate(objective.name).value for one in results.candidates.values()]
    assert ranked == sorted(ranked, reverse=True)
    for nested in (results.nested, results.nested_best):
        by_seed: dict[str, list[float]] = {metric: [] for metric in SHOWN}
        for seed in range(SEEDS):
            parts = [_pooled(name, seed, [(fold,)], [fold]) for fold, name in enumerate(nested.selected)]
            truth = TARGET[np.concatenate([part[0] for part in parts])]
            predicted = np.concatenate([part[1] for part in parts]).argmax(axis=1)
            p = np.concatenate([part[2] for part in parts]).astype(np.float64)
            by_seed["balanced_accuracy"].append(balanced_accuracy_score(truth, predicted))
            by_seed["macro_f1"].append(f1_score(truth, predicted, average="macro"))
            by_seed["accuracy"].append(accuracy_score(truth, predicted))
            by_seed["log_loss"].append(log_loss(truth, p / p.sum(axis=1, keepdims=True)))
        for metric, values in by_seed.items():
            found = nested.estimate(metric)
            assert found.value == pytest.approx(np.mean(values), rel=1e-6)
            assert found.low < found.value < found.high
        gain = objective.sign * (
            nested.estimate(objective.name).value - results.baseline.estimate(objective.name).value
        )
        assert nested.gain.difference.value == pytest.approx(gain, abs=1e-6)
