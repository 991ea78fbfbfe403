"""How often models come first in resamples: against a plain loop, and where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from fixtures.random_models import random_models, table
from tametail.evaluation.paired import probability_best


def test_the_shares_are_those_of_a_plain_loop():
    models = random_models(5, 40, 15, 3, (2, 1, 1), (0.6, 0.6, 0.55))
    first = next(iter(models.values()))[0]
    counts = np.bincount(first.target)
    names = np.unique(first.group)
    rarest = {
        name: min(first.target[first.group == name], key=lambda code: (counts[code], code)) for name in names
    }
    rng, firsts, draws = np.random.default_rng(0), np.zeros(3), 3000
    for _ in range(draws):
        drawn = np.concatenate(
            [
                rng.choice(own, len(own))
                for own in (
                    [n for n in names if rarest[n] == code] for code in np.unique(list(rarest.values()))
                )
            ]
        )
        rows = np.concatenate([np.flatnonzero(first.group == name) for name in drawn])
        scores = []
        for tables in models.values():
            right = np.mean([t.predicted == t.target for t in tables], axis=0)[rows]
            scores.append(
                np.mean([right[first.target[rows] == c].mean() for c in np.unique(first.target[rows])])
            )
        best = np.round(scores, 10) == np.round(max(scores), 10)
        firsts += best / best.sum()
    found = probability_best(models, resamples=3000)
    assert list(found) == list(models)
    assert np.allclose(list(found.values()), firsts / draws, atol=0.035)


def test_the_better_comes_first_and_equals_share():
    target = np.repeat([0, 1, 2], (60, 30, 10))
    good, bad = np.ones(100, dtype=bool), np.arange(100) % 2 == 0
    certain = probability_best({"good": [table(target, good)], "bad": [table(target, bad)]}, resamples=200)
    assert certain == {"good": 1.0, "bad": 0.0}
    same = {name: [table(target, bad)] for name in "abc"}
    assert list(probability_best(same, resamples=200).values()) == pytest.approx([1 / 3] * 3)


def test_the_seed_fixes_them_and_no_model_is_an_error():
    models = random_models(1)
    assert probability_best(models, seed=3) == probability_best(models, seed=3)
    assert sum(probability_best(models).values()) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least one table"):
        probability_best({})
