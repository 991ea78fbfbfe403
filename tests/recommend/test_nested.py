"""Candidates are tuned for a fold without it: compared with a plain loop, and by what is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from tametail.recommend.candidates import CANDIDATES, Candidate, method_texts
from tametail.recommend.nested import (
    AllOutputs,
    MethodLogits,
    all_trainings,
    inner_logits,
    out_of_fold_logits,
    tune,
    tune_by_fold,
    tune_on_all,
)
from tametail.training.run import TrainingKey

FOLDS, CLASSES, SEEDS = 4, 3, 2
TUNED = next(candidate for candidate in CANDIDATES if candidate.name == "ce+la[tau=chosen]")
THRESHOLDS = next(candidate for candidate in CANDIDATES if candidate.offsets)
PLAIN = next(candidate for candidate in CANDIDATES if candidate.name == "ce")


class _Watched(Mapping[TrainingKey, MethodLogits]):
    """Logits of trainings, and a record of which of them were read."""

    def __init__(self, decisions: Mapping[TrainingKey, MethodLogits]) -> None:
        self._decisions = decisions
        self.seen: set[TrainingKey] = set()

    def __getitem__(self, training: TrainingKey) -> MethodLogits:
        self.seen.add(training)
        return self._decisions[training]

    def __iter__(self) -> Iterator[TrainingKey]:
        return iter(self._decisions)

    def __len__(self) -> int:
        return len(self._decisions)


def _outputs(seed: int = 0) -> AllOutputs:
    """Random outputs, different for every training."""
    rng = np.random.default_rng(seed)
    target = rng.permutation(np.repeat(np.arange(CLASSES), (60, 30, 12)))
    fold = np.arange(len(target)) % FOLDS
    decisions = {}
    for training in all_trainings(SEEDS, FOLDS):
        rows = np.isin(fold, training.left_out)
        decisions[training] = {
            text: (rng.normal(size=(rows.sum(), CLASSES)) + np.eye(CLASSES)[target[rows]]).astype(np.float32)
            for text in method_texts()
        }
    return AllOutputs(target, fold, CLASSES, SEEDS, FOLDS, _Watched(decisions))


def test_each_pair_of_folds_has_one_training() -> None:
    trainings = all_trainings(SEEDS, FOLDS)
    assert len(trainings) == len(set(trainings)) == SEEDS * (FOLDS + FOLDS * (FOLDS - 1) // 2)
    assert len({training.name for training in trainings}) == len(trainings)


@pytest.mark.parametrize("outer", range(FOLDS))
def test_a_parameter_is_tuned_as_by_a_plain_loop(outer: int) -> None:
    outputs = _outputs()
    scores = {}
    for method in TUNED.methods:
        of_seeds = []
        for seed in range(SEEDS):
            truth: list[int] = []
            predicted: list[int] = []
            for j in range(FOLDS):
                if j == outer:
                    continue
                without = tuple(sorted((j, outer)))
                rows = [row for row in range(len(outputs.target)) if outputs.fold[row] in without]
                logits = outputs.decisions[TrainingKey(seed, without)][method]
                for place, row in enumerate(rows):
                    if outputs.fold[row] == j:
                        truth.append(int(outputs.target[row]))
                        predicted.append(int(logits[place].argmax()))
            of_seeds.append(balanced_accuracy_score(truth, predicted))
        scores[method] = np.mean(of_seeds)
    assert tune_by_fold(TUNED, outputs)[outer].method == max(scores, key=lambda method: scores[method])


@pytest.mark.parametrize("candidate", [PLAIN, TUNED, THRESHOLDS], ids=lambda candidate: candidate.name)
def test_tuning_without_a_fold_reads_no_training_or_label_of_it(candidate: Candidate) -> None:
    outputs, outer = _outputs(), 2
    before = inner_logits(candidate, outputs, outer)
    chosen = tune(candidate, outputs, [0, 1, 3], (outer,))
    watched = outputs.decisions
    assert isinstance(watched, _Watched)
    assert watched.seen or candidate is PLAIN
    assert all(outer in training.left_out for training in watched.seen)
    spoiled = outputs.target.copy()
    spoiled[outputs.fold == outer] = 0
    other = AllOutputs(spoiled, outputs.fold, CLASSES, SEEDS, FOLDS, watched)
    assert np.array_equal(inner_logits(candidate, other, outer), before)
    again = tune(candidate, other, [0, 1, 3], (outer,))
    assert again.method == chosen.method
    assert (again.offsets is None) == (chosen.offsets is None) == (not candidate.offsets)
    assert chosen.offsets is None or np.array_equal(again.offsets, chosen.offsets)


def test_an_image_is_predicted_by_the_training_without_its_fold() -> None:
    outputs = _outputs()
    found = out_of_fold_logits(outputs, tune_by_fold(PLAIN, outputs))
    for fold in range(FOLDS):
        for seed in range(SEEDS):
            expected = outputs.decisions[TrainingKey(seed, (fold,))]["ce"]
            assert np.allclose(found[seed, outputs.fold == fold], expected)


def test_for_future_images_tuning_uses_all_folds() -> None:
    outputs = _outputs()
    watched = outputs.decisions
    assert isinstance(watched, _Watched)
    tune_on_all(TUNED, outputs)
    assert watched.seen == {training for training in watched if len(training.left_out) == 1}
