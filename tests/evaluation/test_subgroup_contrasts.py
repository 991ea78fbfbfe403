"""Contrasts of subgroups, compared with scikit-learn, with Fisher's exact test, and with planted differences."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, recall_score

from fixtures.made_up import made_up
from fixtures.statsmodels_holm import holm_by_statsmodels as holm
from tametail.evaluation.intervals import wilson
from tametail.evaluation.sample import Sample
from tametail.evaluation.subgroup_contrasts import SubgroupContrasts, subgroup_contrasts
from tametail.predictions.single_label import Predictions


def planted(
    recalls: dict[str, list[float]], counts: list[int], *, per_group: int = 1, seed: int = 0
) -> tuple[Predictions, np.ndarray]:
    """Images of each subgroup and class, of which the given proportion is correct; the rest are of the next class."""
    rng = np.random.default_rng(seed)
    target, value, right = [], [], []
    for name, of_classes in recalls.items():
        for code, (recall, n) in enumerate(zip(of_classes, counts, strict=True)):
            target += [code] * n
            value += [name] * n
            right += rng.permutation(np.arange(n) < round(recall * n)).tolist()
    codes, classes = np.array(target), len(counts)
    predicted = np.where(right, codes, (codes + 1) % classes)
    image = np.array([f"{number:05}" for number in range(len(codes))])
    group = np.array([f"{number // per_group:05}" for number in range(len(codes))])
    names = tuple(f"c{code}" for code in range(classes))
    logits = np.eye(classes, dtype=np.float32)[predicted]
    table = Predictions(image, group, codes, np.zeros_like(codes), logits, names, "softmax")
    return table, np.array(value)


def by_value(found: SubgroupContrasts) -> dict:
    return {one.value: one for one in found.contrasts}


def test_differences_are_scikit_learns() -> None:
    table = made_up(images=900)
    site = np.array(["north", "south", "west"])[np.arange(900) // 2 % 3]
    found = subgroup_contrasts([table], site, "site", resamples=50)
    assert list(by_value(found)) == ["north", "south", "west"]
    assert not found.left_out
    for name, one in by_value(found).items():
        own = site == name
        scores = [balanced_accuracy_score(table.target[rows], table.predicted[rows]) for rows in (own, ~own)]
        assert one.difference.value == pytest.approx(scores[0] - scores[1])
        assert (one.column, one.n, one.rest, one.difference.n) == ("site", 300, 600, 900)
        assert one.classes == table.class_names
        recalls = [recall_score(table.target[r], table.predicted[r], average=None) for r in (own, ~own)]
        for recall in one.recalls:
            code = table.class_names.index(recall.class_name)
            assert recall.difference.value == pytest.approx(recalls[0][code] - recalls[1][code])
            assert recall.difference.n == (table.target == code).sum()
            assert recall.difference.low < recall.difference.value < recall.difference.high


def test_the_balanced_accuracies_behind_the_gap_are_those_of_a_sample() -> None:
    table = made_up(images=900)
    site = np.array(["north", "south", "west"])[np.arange(900) // 2 % 3]
    gap = subgroup_contrasts([table], site, "site", resamples=50).gap
    assert gap is not None
    values = {}
    for name, estimate in gap.balanced_accuracy:
        expected = Sample([table.take(site == name)]).balanced_accuracy
        assert dataclasses.astuple(estimate) == pytest.approx(dataclasses.astuple(expected))
        values[name] = estimate.value
    assert gap.gap.value == pytest.approx(max(values.values()) - min(values.values()))
    assert (values[gap.best], values[gap.worst]) == (max(values.values()), min(values.values()))
    assert gap.gap.low <= gap.gap.value <= gap.gap.high
    assert gap.gap.n == 900


def test_recalls_of_single_images_have_newcombes_interval_and_about_fishers_p() -> None:
    table, value = planted({"a": [0.9, 0.5], "b": [0.6, 0.5]}, [40, 30])
    found = by_value(subgroup_contrasts([table], value, "x", resamples=20_000))["a"]
    recall = found.recalls[0]
    assert (recall.class_name, recall.difference.value) == ("c0", pytest.approx(0.3))
    (low, high), (other_low, other_high) = wilson(0.9, 40), wilson(0.6, 40)
    assert recall.difference.low == pytest.approx(0.3 - np.hypot(0.9 - low, other_high - 0.6))
    assert recall.difference.high == pytest.approx(0.3 + np.hypot(high - 0.9, 0.6 - other_low))
    assert recall.p == pytest.approx(stats.fisher_exact([[36, 4], [24, 16]]).pvalue, abs=0.002)
    assert found.recalls[1].p == 1


def test_two_values_are_one_test_and_mirror_each_other() -> None:
    table, value = planted({"a": [0.9, 0.5], "b": [0.6, 0.5]}, [40, 30])
    a, b = subgroup_contrasts([table], value, "x", resamples=500).contrasts
    assert b.difference.value == pytest.approx(-a.difference.value)
    assert (b.difference.low, b.difference.high) == pytest.approx((-a.difference.high, -a.difference.low))
    assert a.p == b.p == a.p_holm == b.p_holm
    assert [one.p for one in a.recalls] == [one.p for one in b.recalls]
    np.testing.assert_allclose([one.p_holm for one in a.recalls], holm([one.p for one in a.recalls]))


def test_a_planted_difference_is_found_and_the_others_are_not() -> None:
    recalls = {name: [0.9, 0.8, 0.7] for name in "abcd"} | {"e": [0.9, 0.8, 0.1]}
    table, value = planted(recalls, [60, 30, 20])
    found = subgroup_contrasts([table], value, "x")
    p = {name: one.p_holm for name, one in by_value(found).items()}
    assert [name for name, corrected in p.items() if corrected < 0.05] == ["e"]
    np.testing.assert_allclose(list(p.values()), holm([one.p for one in found.contrasts]))
    own = by_value(found)["e"]
    assert own.difference.high < 0
    assert [one.class_name for one in own.recalls if one.p_holm < 0.05] == ["c2"]
    every = [recall for one in found.contrasts for recall in one.recalls]
    np.testing.assert_allclose([one.p_holm for one in every], holm([one.p for one in every]))
    assert found.gap is not None
    assert found.gap.worst == "e"
    assert found.gap.gap.value == pytest.approx(0.2)
    assert found.gap.gap.low > 0
    assert 0 < found.gap.by_chance < found.gap.gap.value


def test_another_mixture_of_classes_alone_is_no_difference() -> None:
    """One subgroup has mostly images of the hard class; recalls are equal."""
    easy, hard = planted({"a": [0.9, 0.5]}, [80, 10])[0], planted({"b": [0.9, 0.5]}, [10, 80])[0]
    moved = dataclasses.replace(hard, image=np.char.add("x", hard.image), group=np.char.add("x", hard.group))
    table, value = easy.joined([moved]), np.array(["a"] * 90 + ["b"] * 90)
    found = by_value(subgroup_contrasts([table], value, "x"))["a"]
    assert found.difference.value == pytest.approx(0)
    assert found.p == 1


def test_groups_make_intervals_wider_and_p_larger() -> None:
    table, value = planted({"a": [0.9, 0.7], "b": [0.7, 0.6]}, [80, 80])
    order = np.lexsort((~(table.predicted == table.target), table.target, value))
    grouped = dataclasses.replace(table.take(order), group=np.repeat(np.arange(40), 8).astype(str))
    single = subgroup_contrasts([table], value, "x").contrasts[0]
    together = subgroup_contrasts([grouped], value[order], "x").contrasts[0]
    assert together.difference.value == pytest.approx(single.difference.value)
    assert together.difference.low < single.difference.low
    assert together.p > single.p


def test_groups_on_both_sides_stay_and_without_others_there_is_no_test() -> None:
    table, value = planted({"a": [0.9, 0.7], "b": [0.7, 0.6]}, [40, 40])
    half = np.concatenate([np.arange(80), np.arange(80)]).astype(str)
    found = subgroup_contrasts([dataclasses.replace(table, group=half)], value, "x").contrasts[0]
    assert np.isnan(found.p)
    assert np.isnan(found.p_holm)
    assert all(np.isnan(recall.p) for recall in found.recalls)
    assert found.difference.low < found.difference.value < found.difference.high


def test_sparse_subgroups_are_named_and_left_out() -> None:
    table, value = planted({name: [0.9, 0.7] for name in ("a", "b", "tiny", "one", "alone")}, [40, 40])
    value[np.flatnonzero(value == "tiny")[9:]] = "a"
    rows = np.flatnonzero(value == "alone")
    target = table.target.copy()
    target[rows] = 0
    group = table.group.copy()
    group[value == "one"] = group[value == "one"][0]
    table = dataclasses.replace(table, target=target, group=group)
    found = subgroup_contrasts([table], value, "x", resamples=50)
    assert list(by_value(found)) == ["a", "b"]
    assert dict(found.left_out) == {
        "alone": "fewer than 2 classes in common with the other images (1)",
        "one": "fewer than 5 groups (1)",
        "tiny": "fewer than 10 images (9)",
    }
    assert found.gap is not None
    assert {name for name, _ in found.gap.balanced_accuracy} == {"a", "b"}


def test_a_single_value_has_nothing_to_be_compared_with() -> None:
    table = made_up()
    found = subgroup_contrasts([table], np.full(240, "all"), "x")
    assert (found.contrasts, found.gap) == ((), None)
    assert found.left_out == (("all", "of other values: fewer than 10 images (0)"),)


def test_rare_classes_count_in_the_balanced_accuracy_but_have_no_contrast() -> None:
    table, value = planted({"a": [0.9, 0.5], "b": [0.9, 0.5]}, [40, 4])
    found = subgroup_contrasts([table], value, "x", resamples=50).contrasts[0]
    assert found.classes == ("c0", "c1")
    assert [one.class_name for one in found.recalls] == ["c0"]


def test_values_are_means_over_replicates_and_go_with_their_images() -> None:
    tables = [made_up(), dataclasses.replace(made_up(1), target=made_up().target)]
    site = np.array(["u", "v"])[np.arange(240) // 2 % 2]
    both = subgroup_contrasts(tables, site, "x", resamples=50)
    each = [subgroup_contrasts([table], site, "x", resamples=50) for table in tables]
    mean = np.mean([one.contrasts[0].difference.value for one in each])
    assert both.contrasts[0].difference.value == pytest.approx(mean)
    rows = np.random.default_rng(0).permutation(240)
    assert subgroup_contrasts([tables[0].take(rows), tables[1]], site[rows], "x", resamples=50) == both


def test_the_level_of_the_test_holds_where_patients_have_several_images() -> None:
    rng, p = np.random.default_rng(0), []
    target = np.repeat(np.arange(2), (120, 60))
    group = np.arange(180) // 3
    for _ in range(100):
        skill = rng.beta(1.4, 0.6, 60)[group]
        predicted = np.where(rng.random(180) < skill, target, 1 - target)
        table = Predictions(
            np.array([f"{number:03}" for number in range(180)]),
            group.astype(str),
            target,
            np.zeros(180, dtype=np.int64),
            np.eye(2, dtype=np.float32)[predicted],
            ("a", "b"),
            "softmax",
        )
        value = np.where(rng.permutation(60) < 25, "x", "y")[group]
        p.append(subgroup_contrasts([table], value, "v", resamples=199).contrasts[0].p)
    assert np.mean(np.array(p) <= 0.05) <= 0.11  # standard error 2 points
    assert 0.4 < np.mean(p) < 0.6


def test_the_lower_limit_of_the_gap_is_corrected_for_the_number_of_pairs() -> None:
    """The same best and worst subgroup, alone and selected among eight."""
    two = {"a": [0.9, 0.9], "b": [0.75, 0.75]}
    eight = two | {name: [0.825, 0.825] for name in "cdefgh"}
    alone, among = (
        subgroup_contrasts([table], value, "x", resamples=1).gap
        for table, value in (planted(recalls, [40, 40]) for recalls in (two, eight))
    )
    assert alone is not None
    assert among is not None
    assert alone.gap.value == pytest.approx(among.gap.value)
    assert (alone.best, alone.worst) == (among.best, among.worst) == ("a", "b")
    assert alone.gap.low > among.gap.low == 0
    assert among.gap.high == pytest.approx(alone.gap.high)


def test_equal_subgroups_have_a_gap_by_chance_only() -> None:
    counts = [60, 30, 12]
    gaps = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        recalls = {name: [rng.binomial(n, 0.8) / n for n in counts] for name in "abcd"}
        table, value = planted(recalls, counts, seed=seed)
        gap = subgroup_contrasts([table], value, "x", resamples=1).gap
        assert gap is not None
        gaps.append((gap.gap.value, gap.by_chance, gap.gap.low))
    observed, by_chance, low = np.mean(gaps, axis=0)
    assert observed == pytest.approx(by_chance, rel=0.3)
    assert np.mean([one[2] > 0 for one in gaps]) <= 0.1
    assert low < 0.01


def test_the_pairs_of_one_draw_are_the_same_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    table, value = planted({name: [0.9, 0.6] for name in "abc"}, [30, 20], per_group=2)
    few = subgroup_contrasts([table], value, "x", resamples=100)
    monkeypatch.setattr("tametail.evaluation.subgroup_contrasts._ENTRIES", 200)
    by_chunks = subgroup_contrasts([table], value, "x", resamples=100)
    for one, other in zip(few.contrasts, by_chunks.contrasts, strict=True):
        assert one.difference == other.difference
        assert one.p == pytest.approx(other.p, abs=0.15)


@pytest.mark.parametrize("resamples", [0, -1])
def test_no_resamples_are_refused(resamples: int) -> None:
    with pytest.raises(ValueError, match="at least one resample"):
        subgroup_contrasts([made_up()], np.full(240, "a"), "x", resamples=resamples)


def test_another_number_of_values_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 240 values of site"):
        subgroup_contrasts([made_up()], np.array(["a"]), "site")


def test_values_come_in_natural_order() -> None:
    table, value = planted({name: [0.9, 0.6] for name in ("10 to 20", "9 to 10", "")}, [30, 20])
    found = [one.value for one in subgroup_contrasts([table], value, "age", resamples=20).contrasts]
    assert found == ["9 to 10", "10 to 20", ""]
    assert all(a != b for a, b in pairwise(found))
