"""What is chosen for a fold is chosen without it: against a plain loop, and by what is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from tametail.recommend.candidates import CANDIDATES, Candidate, method_texts
from tametail.recommend.nested import (
    AllOutputs,
    Decisions,
    TrainingKey,
    all_trainings,
    final_pick,
    inner_of,
    out_of_fold,
    outer_picks,
    pick,
)

FOLDS, CLASSES, SEEDS = 4, 3, 2
TUNED = next(candidate for candidate in CANDIDATES if candidate.name == "ce+la[tau=chosen]")
THRESHOLDS = next(candidate for candidate in CANDIDATES if candidate.offsets)
PLAIN = next(candidate for candidate in CANDIDATES if candidate.name == "ce")


class _Watched(Mapping[TrainingKey, Decisions]):
    """Decisions of trainings, and which of them were looked at."""

    def __init__(self, decisions: Mapping[TrainingKey, Decisions]) -> None:
        self._decisions = decisions
        self.seen: set[TrainingKey] = set()

    def __getitem__(self, training: TrainingKey) -> Decisions:
        self.seen.add(training)
        return self._decisions[training]

    def __iter__(self) -> Iterator[TrainingKey]:
        return iter(self._decisions)

    def __len__(self) -> int:
        return len(self._decisions)


def _readings(seed: int = 0) -> AllOutputs:
    """Every training says something else of an image."""
    rng = np.random.default_rng(seed)
    target = rng.permutation(np.repeat(np.arange(CLASSES), (60, 30, 12)))
    fold = np.arange(len(target)) % FOLDS
    decisions = {}
    for training in all_trainings(SEEDS, FOLDS):
        rows = np.isin(fold, training.without)
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
def test_a_number_is_chosen_as_by_a_plain_loop(outer: int) -> None:
    readings = _readings()
    scores = {}
    for method in TUNED.methods:
        of_seeds = []
        for seed in range(SEEDS):
            truth: list[int] = []
            said: list[int] = []
            for j in range(FOLDS):
                if j == outer:
                    continue
                without = tuple(sorted((j, outer)))
                rows = [row for row in range(len(readings.target)) if readings.fold[row] in without]
                logits = readings.decisions[TrainingKey(seed, without)][method]
                for place, row in enumerate(rows):
                    if readings.fold[row] == j:
                        truth.append(int(readings.target[row]))
                        said.append(int(logits[place].argmax()))
            of_seeds.append(balanced_accuracy_score(truth, said))
        scores[method] = np.mean(of_seeds)
    assert outer_picks(TUNED, readings)[outer].method == max(scores, key=lambda method: scores[method])


@pytest.mark.parametrize("candidate", [PLAIN, TUNED, THRESHOLDS], ids=lambda candidate: candidate.name)
def test_what_is_chosen_without_a_fold_is_by_trainings_and_labels_without_it(candidate: Candidate) -> None:
    readings, outer = _readings(), 2
    before = inner_of(candidate, readings, outer)
    chosen = pick(candidate, readings, [0, 1, 3], (outer,))
    watched = readings.decisions
    assert isinstance(watched, _Watched)
    assert watched.seen or candidate is PLAIN
    assert all(outer in training.without for training in watched.seen)
    spoiled = readings.target.copy()
    spoiled[readings.fold == outer] = 0
    other = AllOutputs(spoiled, readings.fold, CLASSES, SEEDS, FOLDS, watched)
    assert np.array_equal(inner_of(candidate, other, outer), before)
    again = pick(candidate, other, [0, 1, 3], (outer,))
    assert again.method == chosen.method
    assert (again.offsets is None) == (chosen.offsets is None) == (not candidate.offsets)
    assert chosen.offsets is None or np.array_equal(again.offsets, chosen.offsets)


def test_an_image_is_judged_by_the_training_without_its_fold() -> None:
    readings = _readings()
    found = out_of_fold(readings, outer_picks(PLAIN, readings))
    for fold in range(FOLDS):
        for seed in range(SEEDS):
            expected = readings.decisions[TrainingKey(seed, (fold,))]["ce"]
            assert np.allclose(found[seed, readings.fold == fold], expected)


def test_for_images_to_come_all_folds_choose() -> None:
    readings = _readings()
    watched = readings.decisions
    assert isinstance(watched, _Watched)
    final_pick(TUNED, readings)
    assert watched.seen == {training for training in watched if len(training.without) == 1}
