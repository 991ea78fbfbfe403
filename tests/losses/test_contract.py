"""What every loss of the registry promises, whatever its formula. Shapes: B batch, C = 4 classes."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from tametail.losses import Loss, create_loss, describe_losses, list_losses

COUNTS = [40, 7, 0, 1]
GAMMAS = (0.0, 0.3, 1.0, 2.0, 4.5)
CLIPS = (0.0, 0.05, 0.5)
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "alpa": [
        {"variant": "paper"},
        {"variant": "code"},
        {"variant": "pade"},
        {"variant": "pade", "order": (3, 2), "double_focus": False},
        {"preset": "v3"},
    ],
    "asl": [{}, {"detach_focal_weight": True}],
    "ce": [{}, {"label_smoothing": 0.1}],
    "bce": [{}, {"label_smoothing": 0.1}],
}
INDICES = torch.tensor([0, 1, 2, 3, 1, 0])


def _make(name: str, **params: Any) -> Loss:
    return create_loss(name, class_counts=COUNTS, **params)


def _variants() -> list[Any]:
    return [
        pytest.param((name, params), id="-".join([name, *map(str, params.values())]))
        for name in list_losses()
        for params in VARIANTS.get(name, [{}])
    ]


def _differentiated_whole() -> list[Any]:
    """All but those that leave a factor out of their gradient on purpose."""
    return [case for case in _variants() if not case.values[0][1].get("detach_focal_weight")]


def _all_exponents(name: str, variant: dict[str, Any]) -> list[dict[str, Any]]:
    """A variant with every combination of GAMMAS and CLIPS that its loss has."""
    parameters = inspect.signature(type(_make(name))).parameters
    gammas = [key for key in parameters if key.startswith("gamma")]
    clipped = "clip" in parameters and (name != "alpa" or variant.get("variant") == "code")
    grid = product(product(GAMMAS, repeat=len(gammas)), CLIPS if clipped else (None,))
    return [
        {**variant, **dict(zip(gammas, values, strict=True)), **({} if clip is None else {"clip": clip})}
        for values, clip in grid
    ]


def _logits(batch: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    logits = torch.randn(batch, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 3
    return logits.to(dtype).requires_grad_()


def _soft(batch: int = 6) -> Tensor:
    return torch.rand(batch, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def _one_hot(indices: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(indices, 4)


def _gradient(
    loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf, target)
    value.sum().backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def _assert_same(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> None:
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.fixture(params=_variants())
def chosen(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    choice: tuple[str, dict[str, Any]] = request.param
    return choice


@pytest.fixture
def loss(chosen: tuple[str, dict[str, Any]]) -> Loss:
    return _make(chosen[0], **chosen[1])


@pytest.mark.parametrize("name", list_losses())
def test_declares_what_it_is(name: str) -> None:
    loss = _make(name)
    assert loss.name == name
    assert loss.head in ("linear", "normalised")
    assert loss.family in ("softmax", "sigmoid")
    assert loss.link.name in (loss.family, "inverse")
    assert isinstance(loss.link.exact, bool)
    assert loss.formula
    assert isinstance(loss.stochastic, bool)
    assert isinstance(loss.uses_class_counts, bool)
    assert describe_losses()[name].endswith(".")
    parameters = inspect.signature(type(loss)).parameters.values()
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
    assert "reduction='mean'" in repr(loss)


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.float32, torch.float64])
def test_indices_one_hot_and_multi_hot_agree(loss: Loss, dtype: torch.dtype) -> None:
    by_index = _gradient(loss, _logits(), INDICES)
    _assert_same(_gradient(loss, _logits(), INDICES.to(torch.int32)), by_index)
    _assert_same(_gradient(loss, _logits(), _one_hot(INDICES).to(dtype)), by_index)


def test_soft_and_multi_hot_labels_are_finite_and_matter(loss: Loss) -> None:
    value, gradient = _gradient(loss, _logits(), _soft())
    assert value.isfinite()
    assert gradient.isfinite().all()
    multi_hot = (_soft() > 0.5).to(torch.float64)
    assert not torch.isclose(_gradient(loss, _logits(), multi_hot)[0], value)


def test_unknown_samples_are_removed_also_from_the_mean(loss: Loss) -> None:
    kept = torch.tensor([True, False, True, True, False, True])
    value, gradient = _gradient(loss, _logits()[kept], INDICES[kept])
    logits = _logits().detach().clone()
    logits[~kept] = torch.nan
    for target in (
        torch.where(kept, INDICES, -100),
        torch.where(kept[:, None], _one_hot(INDICES).double(), torch.nan),
    ):
        masked_value, masked_gradient = _gradient(loss, logits, target)
        _assert_same((masked_value, masked_gradient[kept]), (value, gradient))
        assert (masked_gradient[~kept] == 0).all()


def test_ignore_index_can_be_a_class(chosen: tuple[str, dict[str, Any]]) -> None:
    loss = _make(chosen[0], **chosen[1], ignore_index=1)
    kept = INDICES != 1
    torch.testing.assert_close(loss(_logits(), INDICES), loss(_logits()[kept], INDICES[kept]))


def test_unknown_terms_are_removed(chosen: tuple[str, dict[str, Any]]) -> None:
    loss = _make(chosen[0], **chosen[1], reduction="none")
    target = _soft()
    target[0, 1] = torch.nan
    value, gradient = _gradient(loss, _logits(), target)
    complete, _ = _gradient(loss, _logits(), target.nan_to_num(0.5))
    assert gradient.isfinite().all()
    assert value[0] < complete[0]
    torch.testing.assert_close(value[1:], complete[1:])
    if loss.family == "sigmoid":
        assert gradient[0, 1] == 0
        assert (gradient[0, [0, 2, 3]] != 0).any()


def test_reductions(chosen: tuple[str, dict[str, Any]]) -> None:
    target = torch.tensor([0, -100, 2, 3, 1, 0])
    mean, total, each = (
        _make(chosen[0], **chosen[1], reduction=reduction)(_logits(), target)
        for reduction in ("mean", "sum", "none")
    )
    assert each.shape == (6,)
    assert each[1] == 0
    torch.testing.assert_close(each.sum(), total)
    torch.testing.assert_close(total / 5, mean)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_value_in_at_least_float32_and_gradient_in_the_inputs_dtype(loss: Loss, dtype: torch.dtype) -> None:
    logits = _logits(dtype=dtype)
    exact_value, exact_gradient = _gradient(loss, logits.double(), INDICES)
    value, gradient = _gradient(loss, logits, INDICES)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert gradient.dtype == dtype
    torch.testing.assert_close(value.double(), exact_value, rtol=2e-6, atol=1e-6)
    tolerance = max(torch.finfo(dtype).eps, 1e-6)
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=tolerance, atol=tolerance)


def test_autocast_changes_nothing(loss: Loss) -> None:
    logits = _logits(dtype=torch.float32)
    plain = _gradient(loss, logits, INDICES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = _gradient(loss, logits, INDICES)
    assert under[0].dtype == torch.float32
    torch.testing.assert_close(under, plain, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_logits_stay_finite_for_every_gamma_and_clip(
    chosen: tuple[str, dict[str, Any]], dtype: torch.dtype
) -> None:
    edges = torch.tensor([0.0, 2.944439, 5, 17, 40, 90, 120, 800, 1e4])  # sigmoid(-2.944439) = 0.05
    row = torch.cat([edges, -edges]).to(dtype)
    logits = torch.stack([row, row.flip(0), row.roll(5), row.roll(9)], dim=1)
    labels = torch.arange(len(row)) % 4
    for params in _all_exponents(*chosen):
        loss = _make(chosen[0], **params)
        for target in (labels, _one_hot(labels).double().lerp(torch.tensor(0.3).double(), 0.5)):
            value, gradient = _gradient(loss, logits, target)
            assert value.isfinite(), params
            assert gradient.isfinite().all(), params


def test_small_batches(loss: Loss) -> None:
    for logits, target in (
        (_logits(1), INDICES[:1]),
        (_logits(), torch.full((6,), 2)),
        (_logits(), torch.zeros(6, 4)),
    ):
        value, gradient = _gradient(loss, logits, target)
        assert value.isfinite()
        assert gradient.isfinite().all()


def test_one_class(chosen: tuple[str, dict[str, Any]]) -> None:
    loss = create_loss(chosen[0], class_counts=[3], **chosen[1])
    value, gradient = _gradient(loss, _logits()[:, :1], torch.zeros(6, dtype=torch.int64))
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("target", [torch.full((6,), -100), torch.full((6, 4), torch.nan)])
def test_the_mean_of_nothing_is_zero(loss: Loss, target: Tensor) -> None:
    value, gradient = _gradient(loss, _logits(), target)
    assert value == 0
    assert (gradient == 0).all()
    empty_value, empty_gradient = _gradient(loss, _logits()[:0], target[:0])
    assert empty_value == 0
    assert empty_gradient.shape == (0, 4)


@pytest.mark.parametrize("chosen", _differentiated_whole())
def test_gradient_is_the_derivative(chosen: tuple[str, dict[str, Any]]) -> None:
    for params in _all_exponents(*chosen)[::7]:
        loss = _make(chosen[0], **params)
        assert torch.autograd.gradcheck(lambda z: loss(z, _soft(3)), _logits(3))  # noqa: B023


@pytest.mark.parametrize(
    ("name", "params"),
    [*((name, {}) for name in list_losses()), ("alpa", {"variant": "code"}), ("alpa", {"variant": "pade"})],
)
def test_compiles_in_one_graph(name: str, params: dict[str, Any]) -> None:
    torch._dynamo.reset()
    loss = _make(name, **params)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    _assert_same(_gradient(compiled, _logits(), INDICES), _gradient(loss, _logits(), INDICES))


@pytest.mark.parametrize("target", [INDICES, _soft()])
def test_per_sample_gradients_by_vmap(loss: Loss, target: Tensor) -> None:
    def one(logits: Tensor, label: Tensor) -> Tensor:
        value: Tensor = loss(logits[None], label[None])
        return value

    logits = _logits().detach()
    gradients = torch.func.vmap(torch.func.grad(one))(logits, target)
    expected = [_gradient(loss, logits[i : i + 1], target[i : i + 1])[1] for i in range(6)]
    torch.testing.assert_close(gradients, torch.cat(expected))


def test_survives_copy_pickle_state_dict_and_half(chosen: tuple[str, dict[str, Any]]) -> None:
    loss = _make(chosen[0], **chosen[1])
    expected = loss(_logits(), INDICES)
    buffer = io.BytesIO()
    torch.save(loss.state_dict(), buffer)
    buffer.seek(0)
    restored = create_loss(chosen[0], class_counts=[5, 5, 5, 5], **chosen[1])
    restored.load_state_dict(torch.load(buffer, weights_only=True))
    for again in (
        copy.deepcopy(loss),
        pickle.loads(pickle.dumps(loss)),
        restored,
        copy.deepcopy(loss).half(),
    ):
        assert torch.equal(again(_logits(), INDICES), expected)
