from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import special

from tametail.core.errors import UsageError
from tametail.predictions.by_group import by_group, check_predict_by, combined
from tametail.predictions.multi_label import LabelPredictions


def table(seed: int = 0, scale: float = 2.0) -> LabelPredictions:
    rng = np.random.default_rng(seed)
    group = np.repeat([f"p{index:02d}" for index in range(20)], 3)
    logits = (rng.normal(size=(60, 2)) * scale).astype(np.float32)
    labels = rng.random((60, 2)) < 0.3
    unknown = ~labels & (rng.random((60, 2)) < 0.4)
    unknown[:3, 0], labels[:3, 0] = True, False
    fold = np.repeat(np.arange(20) % 4, 3)
    image = np.array([f"i{index:02d}" for index in range(60)])
    return LabelPredictions(image, group, labels, fold, logits, ("a", "b"), special.expit(logits), unknown)


def test_labels_probabilities_and_logits_are_of_the_group() -> None:
    given = table()
    mean, highest = by_group(given, "group"), by_group(given, "group-max")
    for at, name in enumerate(mean.image):
        own = given.group == name
        assert np.array_equal(mean.labels[at], given.labels[own].any(axis=0))
        assert np.array_equal(mean.known[at], given.known[own].any(axis=0))
        assert mean.fold[at] == given.fold[own][0]
        p = given.posterior[own].astype(np.float64)
        assert mean.posterior[at] == pytest.approx(p.mean(axis=0), abs=1e-6)
        assert special.expit(mean.logits[at].astype(np.float64)) == pytest.approx(p.mean(axis=0), abs=1e-6)
        assert highest.posterior[at] == pytest.approx(p.max(axis=0), abs=1e-7)
        assert highest.logits[at] == pytest.approx(given.logits[own].max(axis=0))
    assert not mean.known[0, 0]
    assert by_group(given, "image") is given


def test_groups_of_one_image_keep_their_predictions() -> None:
    given = replace(table(), group=table().image)
    for how in ("group", "group-max"):
        found = by_group(given, how)
        assert found.logits == pytest.approx(given.logits, abs=1e-5)
        assert found.posterior == pytest.approx(given.posterior, abs=1e-7)
        assert np.array_equal(found.labels, given.labels)


def test_saturated_logits_still_rank_groups() -> None:
    given = table(1, scale=400.0)
    found = by_group(given, "group")
    assert np.isfinite(found.logits).all()
    certain = (given.logits.reshape(20, 3, 2)[:, :, 0] > 40).all(axis=1)
    assert certain.any()
    assert found.logits[certain, 0].min() > found.logits[~certain, 0].max()


def test_the_order_of_images_does_not_matter() -> None:
    given = table(2)
    mixed = given.take(np.random.default_rng(0).permutation(60))
    p = given.posterior.astype(np.float64)
    codes = np.unique(given.group, return_inverse=True)[1]
    assert combined(p, codes, "group") == pytest.approx(by_group(mixed, "group").posterior, abs=1e-6)


def test_other_words_are_refused() -> None:
    with pytest.raises(UsageError, match=r"expected one of image, group, group-max .* got 'patient'"):
        check_predict_by("patient")
