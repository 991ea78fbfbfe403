"""Label-aware smoothing: its smoothings, and its value in plain floats."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tametail.losses import create_loss, label_aware_smoothing_loss, label_aware_smoothings

LOGITS = [0.3, -1.2, 2.0]
COUNTS = [101, 51, 1]


def _curve(shape: str, x: float) -> float:
    return {"concave": math.sin(x * math.pi / 2), "linear": x, "convex": 1 - math.cos(x * math.pi / 2)}[shape]


@pytest.mark.parametrize("shape", ["concave", "linear", "convex"])
@pytest.mark.parametrize(("head", "tail"), [(0.3, 0), (0.4, 0.1), (0.1, 0.2)])
def test_smoothings_run_from_tail_to_head(shape: Any, head: float, tail: float) -> None:
    expected = [tail + (head - tail) * _curve(shape, x) for x in (1, 0.5, 0)]
    found = label_aware_smoothings(COUNTS, head, tail, shape)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_the_shapes_are_what_they_are_called() -> None:
    middle = [label_aware_smoothings(COUNTS, shape=shape)[1] for shape in ("convex", "linear", "concave")]
    assert middle[0] < middle[1] < middle[2]


@pytest.mark.parametrize("counts", [[7, 7, 7], [1, 0, 1], [5]])
def test_equal_counts_all_have_the_heads_smoothing(counts: list[int]) -> None:
    assert label_aware_smoothings(counts).tolist() == [0.3] * len(counts)


def test_a_class_without_samples_counts_as_if_it_had_one() -> None:
    assert torch.equal(label_aware_smoothings([101, 51, 0]), label_aware_smoothings(COUNTS))


@pytest.mark.parametrize("label", range(3))
def test_is_its_formula(label: int) -> None:
    smoothing = 0.1 + 0.2 * _curve("concave", (1, 0.5, 0)[label])
    total = math.log(sum(math.exp(z) for z in LOGITS))
    shares = [1 - smoothing if c == label else smoothing / 2 for c in range(3)]
    expected = sum(share * (total - z) for share, z in zip(shares, LOGITS, strict=True))
    value = label_aware_smoothing_loss(
        torch.tensor([LOGITS], dtype=torch.float64),
        torch.tensor([label]),
        smoothing_tail=0.1,
        class_counts=COUNTS,
    )
    assert value.item() == pytest.approx(expected, rel=1e-13)


def test_a_soft_label_mixes_the_targets_of_its_classes() -> None:
    logits = torch.tensor([LOGITS] * 3, dtype=torch.float64)
    each = label_aware_smoothing_loss(logits, torch.arange(3), class_counts=COUNTS, reduction="none")
    mixed = label_aware_smoothing_loss(logits[:1], torch.tensor([[0.5, 0.2, 0.3]]), class_counts=COUNTS)
    torch.testing.assert_close(mixed, each @ torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64))


def test_with_equal_counts_it_is_uniform_smoothing_of_another_strength() -> None:
    """ε spread over the C-1 others is ε C / (C-1) spread over all C."""
    logits, target = torch.tensor([LOGITS] * 3, dtype=torch.float64), torch.arange(3)
    found = label_aware_smoothing_loss(logits, target, class_counts=[4, 4, 4])
    plain = create_loss("ce", label_smoothing=0.3 * 3 / 2)(logits, target)
    torch.testing.assert_close(found, plain)


def test_one_class_costs_nothing() -> None:
    assert label_aware_smoothing_loss(torch.tensor([[5.0]]), torch.tensor([0]), class_counts=[3]).item() == 0


@pytest.mark.parametrize("key", ["smoothing_head", "smoothing_tail"])
def test_labels_are_not_turned_over(key: str) -> None:
    name = key.removeprefix("smoothing_")
    with pytest.raises(ValueError, match=rf"expected .*{name} in \[0, 0.5\), got 0.5"):
        create_loss("label_aware_smoothing", **{key: 0.5}, class_counts=COUNTS)
    with pytest.raises(ValueError, match="expected shape to be one of concave, linear, convex, got 'flat'"):
        create_loss("label_aware_smoothing", shape="flat", class_counts=COUNTS)
