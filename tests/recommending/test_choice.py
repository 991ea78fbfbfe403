"""The rule: the simplest that is not told apart from the best and better than plain cross-entropy."""

from __future__ import annotations

import numpy as np

from tametail.predictions import Predictions
from tametail.recommending.candidates import CANDIDATES, STEPS, method_texts
from tametail.recommending.choice import choose
from tametail.training.strategies import parse_method

NAMES = ("a", "b")


def _right(share: float, seed: int, images: int = 2000) -> list[Predictions]:
    """A table of which so many images are right, drawn anew for each seed."""
    rng = np.random.default_rng(seed)
    target = np.arange(images) % 2
    predicted = np.where(rng.permutation(images) < share * images, target, 1 - target)
    image = np.array([f"{number:05d}" for number in range(images)])
    logits = np.eye(2, dtype=np.float32)[predicted]
    fold = np.zeros(images, dtype=np.int64)
    return [Predictions(image, image, target, fold, logits, NAMES, "softmax")]


def _choose(**shares: float) -> str:
    named = {name.replace("_la", "+la").replace("_crt", "+crt"): share for name, share in shares.items()}
    candidates = [candidate for candidate in CANDIDATES if candidate.name in named]
    tables = {name: _right(share, seed) for seed, (name, share) in enumerate(named.items())}
    return choose(candidates, tables).use


def test_plain_where_nothing_is_told_apart() -> None:
    assert _choose(ce=0.70, ce_la=0.71, ce_crt=0.715) == "ce"


def test_the_simplest_of_those_that_are_as_good_as_the_best() -> None:
    assert _choose(ce=0.60, ce_la=0.74, focal=0.745, ce_crt=0.75) == "ce+la"
    assert _choose(ce=0.60, ce_la=0.60, focal=0.745, ce_crt=0.75) == "focal"
    assert _choose(ce=0.60, ce_la=0.60, focal=0.60, ce_crt=0.75) == "ce+crt"


def test_what_lies_between_is_not_enough() -> None:
    # Neither told apart from the best nor from plain cross-entropy: nothing is shown for it.
    found = _choose(ce=0.66, ce_la=0.69, ce_crt=0.72)
    assert found == "ce+crt"


def test_plain_alone_is_what_to_use() -> None:
    assert _choose(ce=0.6) == "ce"


def test_the_candidates_are_methods_of_different_names_and_plain_is_the_simplest() -> None:
    assert len({candidate.name for candidate in CANDIDATES}) == len(CANDIDATES)
    assert [parse_method(text).text for text in method_texts()] == method_texts()
    assert min(CANDIDATES, key=lambda candidate: candidate.simplicity).name == "ce"
    assert {candidate.step for candidate in CANDIDATES} == set(STEPS)
    plain = {candidate.name for candidate in CANDIDATES if not candidate.adjusts}
    assert plain == {"ce", "focal", "asl", "alpa"}
