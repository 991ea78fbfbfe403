"""The one-standard-error rule: the simplest candidate within one standard error of the best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tametail.predictions.single_label import Predictions
from tametail.recommend.candidates import CANDIDATES, STEPS, method_texts
from tametail.recommend.objective import OBJECTIVES
from tametail.recommend.selection import Selection, select
from tametail.training.strategies import parse_method

NAMES = ("a", "b")


def _right(share: float, seed: int, images: int = 2000) -> list[Predictions]:
    """A table with the given share of correct images, drawn with the seed."""
    rng = np.random.default_rng(seed)
    target = np.arange(images) % 2
    predicted = np.where(rng.permutation(images) < share * images, target, 1 - target)
    image = np.array([f"{number:05d}" for number in range(images)])
    logits = np.eye(2, dtype=np.float32)[predicted]
    fold = np.zeros(images, dtype=np.int64)
    return [Predictions(image, image, target, fold, logits, NAMES, "softmax")]


def _select(**shares: float) -> Selection:
    named = {name.replace("_la", "+la").replace("_crt", "+crt"): share for name, share in shares.items()}
    candidates = [candidate for candidate in CANDIDATES if candidate.name in named]
    tables = {name: _right(share, seed) for seed, (name, share) in enumerate(named.items())}
    return select(candidates, tables, OBJECTIVES["balanced_accuracy"])


# With 2,000 images, 70 to 75 % of them correct, the difference has a standard error of about 1.4 points.


def test_plain_only_where_it_is_within_one_standard_error() -> None:
    assert _select(ce=0.705, ce_la=0.71, ce_crt=0.715).recommended == "ce"
    almost = _select(ce=0.69, ce_la=0.71, ce_crt=0.715)
    assert almost.recommended == "ce+la"
    assert "ce" in almost.indistinguishable  # the test is not significant, and plays no part in the selection
    assert not almost.better_than_baseline


def test_the_simplest_of_those_that_are_near_the_best() -> None:
    assert _select(ce=0.60, ce_la=0.74, focal=0.745, ce_crt=0.75).recommended == "ce+la"
    assert _select(ce=0.60, ce_la=0.60, focal=0.745, ce_crt=0.75).recommended == "focal"
    assert _select(ce=0.60, ce_la=0.60, focal=0.60, ce_crt=0.75).recommended == "ce+crt"


def test_what_lies_between_is_not_enough() -> None:
    found = _select(ce=0.66, ce_la=0.70, ce_crt=0.72)
    assert found.recommended == "ce+crt"
    assert "ce+la" in found.indistinguishable
    assert found.near == ("ce+crt",)


def test_the_standard_error_is_that_of_two_independent_shares() -> None:
    found = _select(ce=0.69, ce_crt=0.715)
    expected = (0.69 * 0.31 / 2000 + 0.715 * 0.285 / 2000) ** 0.5
    assert found.against_best["ce"].standard_error == pytest.approx(expected, rel=0.05)
    assert found.standard_errors_below("ce") == pytest.approx(0.025 / expected, rel=0.05)
    assert found.standard_errors_below("ce+crt") == 0


def test_none_is_taken_below_a_simpler_one() -> None:
    best = _right(0.72, 0)[0]
    right = np.flatnonzero(best.predicted == best.target)
    logits = best.logits.copy()
    logits[right[:20]] = logits[
        right[:20], ::-1
    ]  # almost the same predictions: significantly worse by 1 point
    tables = {"ce": [replace(best, logits=logits)], "ce+la": _right(0.708, 1), "ce+crt": [best]}
    candidates = [candidate for candidate in CANDIDATES if candidate.name in tables]
    found = select(candidates, tables, OBJECTIVES["balanced_accuracy"])
    assert found.near == ("ce+crt", "ce+la")
    assert found.recommended == "ce+crt"


def test_plain_alone_is_what_to_use() -> None:
    assert _select(ce=0.6).recommended == "ce"


def test_the_candidates_are_methods_of_different_names_and_plain_is_the_simplest() -> None:
    assert len({candidate.name for candidate in CANDIDATES}) == len(CANDIDATES)
    assert [parse_method(text).text for text in method_texts()] == method_texts()
    assert min(CANDIDATES, key=lambda candidate: candidate.simplicity).name == "ce"
    assert {candidate.step for candidate in CANDIDATES} == set(STEPS)
    plain = {candidate.name for candidate in CANDIDATES if not candidate.adjusts}
    assert plain == {"ce", "focal", "asl", "alpa"}
