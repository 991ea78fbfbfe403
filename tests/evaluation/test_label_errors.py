"""Confident learning: the published definition written as loops, planted flips on made-up clouds, and groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.made_up import deterministic, made_up
from tametail.evaluation.label_errors import (
    MOST_LISTED,
    MOST_OF_A_GROUP,
    NONE,
    class_thresholds,
    confident_classes,
    confident_joint,
    find_label_errors,
    score_if_wrong,
)
from tametail.evaluation.sample import Sample
from tametail.predictions.single_label import Predictions


def published(p: np.ndarray, target: np.ndarray) -> tuple[list[float], list[list[int]], list[int]]:
    """Thresholds, confident joint and its images off the diagonal: Northcutt et al. 2021, Eq. 1 and 2, image by image."""
    images, classes = p.shape
    thresholds = []
    for j in range(classes):
        of_class = [p[x][j] for x in range(images) if target[x] == j]
        thresholds.append(sum(of_class) / len(of_class) if of_class else float("inf"))
    joint = [[0] * classes for _ in range(classes)]
    off = []
    for x in range(images):
        best = None
        for j in range(classes):
            if p[x][j] >= thresholds[j] and (best is None or p[x][j] > p[x][best]):
                best = j
        if best is not None:
            joint[target[x]][best] += 1
            if best != target[x]:
                off.append(x)
    return thresholds, joint, off


def drawn(seed: int, images: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, images)
    z = rng.normal(size=(images, classes))
    z[np.arange(images), target] += 1
    p = np.exp(z)
    return p / p.sum(axis=1, keepdims=True), target


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_the_joint_is_the_published_one(seed: int, images: int, classes: int) -> None:
    p, target = drawn(seed, images, classes)
    thresholds, joint, off = published(p, target)
    found = class_thresholds(p, target)
    present = np.isfinite(thresholds)
    assert found[present] == pytest.approx(np.array(thresholds)[present])
    assert np.isnan(found[~present]).all()
    confident = confident_classes(p, found)
    assert confident_joint(target, confident, classes).tolist() == joint
    errors = find_label_errors(deterministic(p, target))
    assert errors.joint.tolist() == joint
    assert errors.count == len(off)
    others = np.flatnonzero(p.argmax(axis=1) != target).tolist()
    assert {int(one.image) for one in errors.suspects} == set(off) | set(others)


def test_suspects_are_ranked_by_the_probability_of_their_label() -> None:
    p, target = drawn(3, 400, 4)
    errors = find_label_errors(deterministic(p, target))
    own = [p[int(one.image), one.given] for one in errors.suspects]
    assert own == sorted(own)
    assert [one.p_given for one in errors.suspects] == pytest.approx(own, abs=1e-6)
    confident = confident_classes(p, class_thresholds(p, target))
    for one in errors.suspects:
        row = int(one.image)
        contradicted = confident[row] not in (NONE, target[row])
        assert one.suggested == (confident[row] if contradicted else p[row].argmax())


def flipped(seed: int, share: float = 0.05) -> tuple[Predictions, set[str]]:
    """Clouds of three classes predicted by Bayes' rule, with a share of the labels replaced by the next class."""
    table = made_up(seed, images=1200, per_group=1)
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(table), int(share * len(table)), replace=False)
    target = table.target.copy()
    target[rows] = (target[rows] + 1) % 3
    return replace(table, target=target), set(table.image[rows].tolist())


def test_planted_flips_are_found_where_classes_are_apart() -> None:
    precise, recalled = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        true = rng.choice(3, 1200, p=(0.7, 0.22, 0.08))
        points = rng.normal(size=(1200, 3)) + 4 * np.eye(3)[true]
        z = np.log((0.7, 0.22, 0.08)) - ((points[:, None] - 4 * np.eye(3)) ** 2).sum(axis=2) / 2
        p = np.exp(z - z.max(axis=1, keepdims=True))
        rows = set(rng.choice(1200, 60, replace=False).tolist())
        target = np.array([(label + 1) % 3 if row in rows else label for row, label in enumerate(true)])
        top = find_label_errors(deterministic(p / p.sum(axis=1, keepdims=True), target)).suspects[:60]
        hits = sum(int(one.image) in rows for one in top)
        assert all(one.suggested == true[int(one.image)] for one in top[:30])
        precise.append(hits / len(top))
        recalled.append(hits / 60)
    assert min(precise) > 0.9
    assert min(recalled) > 0.9


def test_flips_of_overlapping_clouds_are_far_above_chance() -> None:
    for seed in range(3):
        table, planted = flipped(seed)
        top = find_label_errors(table).suspects[:30]
        # Points in the middle of another cloud have true labels that look wrong.
        assert np.mean([one.image in planted for one in top]) > 0.3, "chance: 0.05"


def test_one_group_does_not_fill_the_list_and_its_images_are_counted() -> None:
    # Ten images of patient a, labelled 0, look like 1 but for the last; others are what their labels say.
    p = np.array([[0.05, 0.95]] * 9 + [[0.9, 0.1]] + [[0.9, 0.1]] * 40 + [[0.1, 0.9]] * 40)
    target = np.array([0] * 10 + [0] * 40 + [1] * 40)
    group = np.array(["a"] * 10 + [f"p{number}" for number in range(80)])
    errors = find_label_errors(replace(deterministic(p, target), group=group))
    assert errors.count == 9
    assert [one.group for one in errors.suspects] == ["a"] * MOST_OF_A_GROUP
    first = errors.suspects[0]
    assert (first.given, first.suggested) == (0, 1)
    assert (first.group_images, first.group_given, first.group_suggested) == (10, 10, 9)


def test_the_list_is_bounded() -> None:
    p, target = drawn(1, 5000, 3)
    errors = find_label_errors(deterministic(p, target))
    assert len(errors.suspects) == MOST_LISTED < errors.count


def test_the_headline_moves_as_if_the_labels_were_the_suggested_ones() -> None:
    table, _ = flipped(0)
    errors = find_label_errors(table)
    moves = score_if_wrong([table, table], errors.suspects)
    assert [step for step, _ in moves] == [0, 5, 10, 20, 50, min(100, len(errors.suspects))]
    assert moves[0][1] == Sample([table, table]).balanced_accuracy
    target = table.target.copy()
    for one in errors.suspects[:10]:
        target[table.image.tolist().index(one.image)] = one.suggested
    recalls = [(table.predicted[target == c] == c).mean() for c in range(3)]
    assert dict(moves)[10].value == pytest.approx(np.mean(recalls))
    assert moves[-1][1].value > moves[0][1].value


def test_no_suspects_no_moves() -> None:
    table = deterministic(np.eye(3)[[0, 1, 2] * 5], np.array([0, 1, 2] * 5))
    errors = find_label_errors(table)
    assert (errors.count, errors.suspects) == (0, ())
    assert [step for step, _ in score_if_wrong([table], ())] == [0]


@pytest.mark.parametrize("seed", range(4))
def test_cleanlab_counts_and_ranks_the_same(seed: int) -> None:
    """An independent implementation, where it is installed (2.9 is under the Apache License 2.0) and the definitions coincide."""
    cleanlab = pytest.importorskip("cleanlab")
    from cleanlab.count import compute_confident_joint
    from cleanlab.filter import find_label_issues

    assert int(cleanlab.__version__.partition(".")[0]) >= 2
    p, target = drawn(seed, 300, 4)
    errors = find_label_errors(deterministic(p, target))
    assert compute_confident_joint(target, p, calibrate=False).tolist() == errors.joint.tolist()
    theirs = find_label_issues(target, p, return_indices_ranked_by="self_confidence", n_jobs=1).tolist()
    ours = [int(one.image) for one in errors.suspects]
    together = [row for row in ours if row in set(theirs)]
    assert together == [row for row in theirs if row in set(ours)]
    assert len(together) >= 0.9 * len(theirs)
