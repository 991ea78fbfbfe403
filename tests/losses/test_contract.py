"""What every loss of the registry promises, whatever its formula: declarations, targets, masks and reductions."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor

from fixtures.zoo import (
    INDICES,
    Choice,
    assert_same,
    drawing_nothing,
    gradient,
    logits,
    make,
    one_hot,
    soft,
    value_of,
    variants,
)
from tametail.losses import Loss, create_loss, describe_losses, list_losses


@pytest.fixture(params=variants())
def chosen(request: pytest.FixtureRequest) -> Choice:
    choice: Choice = request.param
    return choice


@pytest.fixture
def loss(chosen: Choice) -> Loss:
    return make(chosen)


@pytest.mark.parametrize("name", list_losses())
def test_declares_what_it_is(name: str) -> None:
    loss = make((name, {}))
    assert loss.name == name
    assert loss.head in ("linear", "normalised")
    assert loss.formula
    for flag in (loss.stochastic, loss.batchwise, loss.uses_class_counts, loss.link.exact):
        assert isinstance(flag, bool)
    summary = describe_losses()[name]
    assert summary.endswith(".")
    assert summary.count("\n") == 0
    documentation = inspect.getdoc(type(loss)) or ""
    assert all(part in documentation for part in ("Use it ", "\nArgs:\n")), documentation
    parameters = inspect.signature(type(loss)).parameters.values()
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
    assert {"tau", "class_counts", "reduction", "ignore_index"} <= {
        parameter.name for parameter in parameters
    }
    assert all(parameter.name in documentation for parameter in parameters)
    assert "reduction='mean'" in repr(loss)


def test_names_its_link(loss: Loss) -> None:
    assert loss.family in ("softmax", "sigmoid")
    plain = loss.link.name.removesuffix("+prior")
    assert plain in (loss.family, "inverse")
    assert (plain != loss.link.name) == (loss.tau != 0)


@pytest.mark.parametrize("name", list_losses())
def test_class_counts_are_needed_only_where_they_are_used(name: str) -> None:
    if make((name, {})).uses_class_counts:
        with pytest.raises(ValueError, match=f"expected class_counts, .* {name} needs, got None"):
            create_loss(name)
    else:
        with_counts, without = make((name, {})), create_loss(name)
        assert torch.equal(with_counts(logits(), INDICES), without(logits(), INDICES))
        with pytest.raises(ValueError, match=r"needs with tau=1\.0, got None"):
            create_loss(name, tau=1.0)


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.float32, torch.float64])
def test_indices_one_hot_and_multi_hot_agree(loss: Loss, dtype: torch.dtype) -> None:
    by_index = gradient(loss, logits(), INDICES)
    assert_same(gradient(loss, logits(), INDICES.to(torch.int32)), by_index)
    assert_same(gradient(loss, logits(), one_hot(INDICES).to(dtype)), by_index)


def test_soft_and_multi_hot_labels_are_finite_and_matter(loss: Loss) -> None:
    value, slope = gradient(loss, logits(), soft())
    assert value.isfinite()
    assert slope.isfinite().all()
    multi_hot = (soft() > 0.5).to(torch.float64)
    assert not torch.isclose(gradient(loss, logits(), multi_hot)[0], value)


def test_unknown_samples_are_removed_also_from_the_mean(loss: Loss) -> None:
    loss = drawing_nothing(loss)
    kept = torch.tensor([True, False, True, True, False, True])
    value, slope = gradient(loss, logits()[kept], INDICES[kept])
    unknown = logits().detach().clone()
    unknown[~kept] = torch.nan
    for target in (
        torch.where(kept, INDICES, -100),
        torch.where(kept[:, None], one_hot(INDICES).double(), torch.nan),
    ):
        masked_value, masked_slope = gradient(loss, unknown, target)
        assert_same((masked_value, masked_slope[kept]), (value, slope))
        assert (masked_slope[~kept] == 0).all()


def test_ignore_index_can_be_a_class(chosen: Choice) -> None:
    loss = drawing_nothing(make(chosen, ignore_index=1))
    kept = INDICES != 1
    assert_same(
        (gradient(loss, logits(), INDICES)[0], gradient(loss, logits(), INDICES)[1][kept]),
        gradient(loss, logits()[kept], INDICES[kept]),
    )


def test_unknown_terms_are_removed(chosen: Choice) -> None:
    """An unknown label leaves out what an absent one would cost, which is nothing where only positives count."""
    loss = make(chosen, reduction="none")
    target = soft()
    target[0, 1] = torch.nan
    value, slope = gradient(loss, logits(), target)
    absent, _ = gradient(loss, logits(), target.nan_to_num(0))
    assert slope.isfinite().all()
    torch.testing.assert_close(value[1:], absent[1:])
    assert value[0] <= absent[0] + 1e-12
    if loss.family == "sigmoid":
        assert value[0] < absent[0]
        assert slope[0, 1] == 0
        assert (slope[0, [0, 2, 3]] != 0).any()


def test_a_class_of_unknown_label_stays_in_the_softmax(chosen: Choice) -> None:
    loss = drawing_nothing(make(chosen, reduction="none"))
    target = soft()
    target[0, 1] = torch.nan
    moved = logits().detach().clone()
    moved[0, 1] += 3
    changed = value_of(loss, moved, target)[0] != value_of(loss, logits(), target)[0]
    assert changed == (loss.family == "softmax")


def test_reductions(chosen: Choice) -> None:
    target = torch.tensor([0, -100, 2, 3, 1, 0])
    mean, total, each = (
        value_of(make(chosen, reduction=reduction), logits(), target) for reduction in ("mean", "sum", "none")
    )
    assert each.shape == (6,)
    assert each[1] == 0
    torch.testing.assert_close(each.sum(), total)
    torch.testing.assert_close(total / 5, mean)


def test_small_batches(loss: Loss) -> None:
    for z, target in (
        (logits(1), INDICES[:1]),
        (logits(), torch.full((6,), 2)),
        (logits(), torch.zeros(6, 4)),
    ):
        value, slope = gradient(loss, z, target)
        assert value.isfinite()
        assert slope.isfinite().all()


def test_one_class(chosen: Choice) -> None:
    loss = create_loss(chosen[0], class_counts=[3], **chosen[1])
    value, slope = gradient(loss, logits()[:, :1], torch.zeros(6, dtype=torch.int64))
    assert value.isfinite()
    assert slope.isfinite().all()


@pytest.mark.parametrize("counts", [[40, 0, 0, 0], [0, 0, 0, 1], [10**9, 1, 0, 3]])
def test_any_class_may_have_no_samples(chosen: Choice, counts: list[int]) -> None:
    loss = create_loss(chosen[0], class_counts=counts, **chosen[1])
    for target in (INDICES, soft()):
        value, slope = gradient(loss, logits(dtype=torch.float32), target)
        assert value.isfinite()
        assert slope.isfinite().all()
    assert loss.link(logits()).isfinite().all()


@pytest.mark.parametrize("target", [torch.full((6,), -100), torch.full((6, 4), torch.nan)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_nothing_costs_nothing(chosen: Choice, target: Tensor, reduction: str) -> None:
    loss = make(chosen, reduction=reduction)
    value, slope = gradient(loss, logits(), target)
    assert (value == 0).all()
    assert (slope == 0).all()
    empty_value, empty_slope = gradient(loss, logits()[:0], target[:0])
    assert (empty_value == 0).all()
    assert empty_slope.shape == (0, 4)
