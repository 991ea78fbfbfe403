"""The one-pass evaluation against the same losses by plain operations and automatic differentiation."""

from __future__ import annotations

import functools
import warnings
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tametail.losses import ALPALoss, AsymmetricLoss, Loss, create_loss
from tametail.losses.one_pass import fused, nonzero_labels, on_gpu

GAMMAS = (0.0, 0.3, 1.0, 2.0, 4.5)
# Of the positive and the negative term, which do not share an exponent: each with all values.
PAIRS = [*pairwise(GAMMAS), (0.0, 0.0), (4.5, 0.0), (0.0, 4.5)]
ORDERS = ((1, 1), (1, 0), (3, 2), (8, 8), (2, 5))
CASES: list[tuple[str, dict[str, Any]]] = [
    *(("asl", {"clip": clip}) for clip in (0.0, 1e-4, 0.05, 0.5)),
    *(("asl", {"clip": clip, "detach_focal_weight": True}) for clip in (0.0, 1e-4, 0.05)),
    ("alpa", {}),
    ("alpa", {"lam": 1.5}),
    ("alpa", {"beta": 0.0}),
    ("alpa", {"beta": 1e-40}),
    ("alpa", {"alpha": 0.0, "variant": "pade"}),
    ("alpa", {"double_focus": False}),
    *(("alpa", {"variant": "code", "clip": clip}) for clip in (0.0, 0.05, 0.5)),
    ("alpa", {"variant": "code", "double_focus": False}),
    *(("alpa", {"variant": "pade", "order": order}) for order in ORDERS),
    ("alpa", {"variant": "pade", "order": (2, 1), "lam": 2.0, "double_focus": False}),
]
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("bce", {}),
    ("bce", {"label_smoothing": 0.2}),
    *(("focal", {"gamma": gamma}) for gamma in GAMMAS),
    *(("focal", {"alpha": alpha}) for alpha in (None, 0.0, 1.0)),
    ("hill", {}),
    ("hill", {"lam": 1.0, "margin": 0.0, "gamma": 0.5}),
    *(("apl", {"gamma_pos": gamma, "clip": clip}) for gamma in (0.0, 1.5) for clip in (0.0, 0.05)),
    ("apl", {"epsilon_1": -0.5, "epsilon_2": 3.0, "gamma_neg": 1.0}),
    *(("ral", {"gamma_pos": gamma, "clip": clip}) for gamma in (0.0, 1.5) for clip in (0.0, 0.05)),
    ("ral", {"lam": 1.0, "gamma_neg": 0.5}),
]


def _batch(
    samples: int, classes: int, dtype: torch.dtype = torch.float64
) -> dict[str, tuple[Tensor, Tensor]]:
    """Targets of every kind; the logits reach far into both tails."""
    generator = torch.Generator().manual_seed(samples)
    logits = (torch.randn(samples, classes, generator=generator, dtype=torch.float64) * 6).to(dtype)
    index = torch.randint(0, classes, (samples,), generator=generator)
    soft = torch.rand(samples, classes, generator=generator, dtype=torch.float64)
    unknown = torch.where(soft > 0.9, torch.nan, (soft > 0.5).double())
    unknown[0] = torch.nan
    targets = {
        "index": index,
        "ignored": index.where(torch.arange(samples) % 3 > 0, -100),
        "one-hot": torch.nn.functional.one_hot(index, classes),
        "multi-hot": soft > 0.97,
        "soft": soft,
        "unknown": unknown,
    }
    return {name: (logits, target) for name, target in targets.items()}


def _value_and_gradient(
    loss: Loss, logits: Tensor, target: Tensor, *, plainly: bool
) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = Loss.forward(loss, leaf, target) if plainly else loss(leaf, target)
    outer = torch.linspace(0.5, 2, value.numel(), dtype=value.dtype).view(value.shape)
    return value.detach(), torch.autograd.grad(value, leaf, outer)[0]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("kind", list(_batch(3, 4)))
@pytest.mark.parametrize(("name", "params"), CASES)
def test_agrees_with_plain_operations(name: str, params: dict[str, Any], kind: str, reduction: str) -> None:
    logits, target = _batch(40, 7)[kind]
    for gamma_pos, gamma_neg in PAIRS:
        loss = create_loss(name, **params, gamma_pos=gamma_pos, gamma_neg=gamma_neg, reduction=reduction)
        quick = _value_and_gradient(loss, logits, target, plainly=False)
        slow = _value_and_gradient(loss, logits, target, plainly=True)
        torch.testing.assert_close(quick, slow, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("kind", list(_batch(3, 4)))
@pytest.mark.parametrize(("name", "params"), OTHERS)
def test_others_agree_with_plain_operations(
    name: str, params: dict[str, Any], kind: str, reduction: str
) -> None:
    logits, target = _batch(40, 7)[kind]
    loss = create_loss(name, **params, reduction=reduction)
    quick = _value_and_gradient(loss, logits, target, plainly=False)
    slow = _value_and_gradient(loss, logits, target, plainly=True)
    torch.testing.assert_close(quick, slow, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", list(_batch(3, 4)))
@pytest.mark.parametrize("name", ["alpa", "asl", "bce", "focal", "hill", "apl", "ral"])
def test_tiles_and_sparse_labels_change_nothing(name: str, kind: str) -> None:
    """Many tiles, an uneven last one, labels sparse enough to be searched, a count that eight bytes do not divide."""
    logits, target = _batch(101, 203)[kind]
    loss = create_loss(name)
    whole = _value_and_gradient(loss, logits, target, plainly=True)
    for tile in (1, 5000, 1 << 17):
        loss.tile, loss.sparse_from = tile, 100
        torch.testing.assert_close(
            _value_and_gradient(loss, logits, target, plainly=False), whole, rtol=1e-10, atol=1e-14
        )


def test_sparse_labels_are_found_and_dense_ones_are_not_searched() -> None:
    sparse = torch.zeros(50_003)
    sparse[[0, 17, 49_999, 50_002]] = torch.tensor([1.0, 0.25, 1.0, 1.0])
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bool):
        for start in (0, 1):  # from 1 on eight bytes are not aligned with the storage
            at = nonzero_labels(sparse.to(dtype)[start:])
            assert at is not None
            assert sorted(at.tolist()) == [p - start for p in (0, 17, 49_999, 50_002) if p >= start]
    assert nonzero_labels(torch.ones(50_003)) is None


@pytest.mark.parametrize(("name", "params"), CASES + OTHERS)
def test_float32_keeps_its_digits_in_both_tails(name: str, params: dict[str, Any]) -> None:
    logits = torch.linspace(-25, 25, 2001)[:, None].expand(-1, 2).contiguous()
    target = torch.tensor([[1, 0]]).expand(2001, -1)
    loss = create_loss(name, **params, reduction="sum")
    exact = _value_and_gradient(loss, logits.double(), target, plainly=True)[1]
    gradient = _value_and_gradient(loss, logits, target, plainly=False)[1].double()
    torch.testing.assert_close(gradient, exact, rtol=1e-5, atol=3e-6 * exact.abs().max().item())


def test_half_precision_is_rounded_once() -> None:
    loss = create_loss("alpa", reduction="sum")
    for dtype in (torch.float16, torch.bfloat16):
        logits, target = _batch(30, 5, dtype)["index"]
        exact = _value_and_gradient(loss, logits.double(), target, plainly=True)
        value, gradient = _value_and_gradient(loss, logits, target, plainly=False)
        assert (value.dtype, gradient.dtype) == (torch.float32, dtype)
        torch.testing.assert_close(value.double(), exact[0], rtol=1e-6, atol=0)
        torch.testing.assert_close(gradient.double(), exact[1], rtol=2 * torch.finfo(dtype).eps, atol=1e-7)


def test_a_loss_scale_preserves_gradients_below_the_range_of_float16() -> None:
    logits = torch.tensor([[-14.0, 3.0]], dtype=torch.float16, requires_grad=True)
    value = create_loss("alpa")(logits, torch.tensor([0]))
    (value * 1024).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0].item() == pytest.approx(-1024 * 1.3125 * 8.3e-7, rel=0.01)


def test_the_gradient_is_not_copied() -> None:
    logits = torch.randn(8, 3, requires_grad=True)
    value = create_loss("alpa")(logits, torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]))
    saved = [tensor.data_ptr() for tensor in value.grad_fn.saved_tensors]
    value.backward()
    assert logits.grad is not None
    assert logits.grad.data_ptr() in saved


class QuadraticALPA(ALPALoss):
    """A subclass with another formula, without a closed form of it."""

    name = "quadratic_alpa"

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        return (z - y) ** 2


class QuadraticASL(AsymmetricLoss):
    """The same for the other loss with a closed form."""

    name = "quadratic_asl"

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        return (z - y) ** 2


class ShiftedALPA(ALPALoss):
    """A subclass that changes the logits, and keeps the formula and its closed form."""

    name = "shifted_alpa"

    def adjusted(self, z: Tensor) -> Tensor:
        return super().adjusted(z) + 1


class OtherClosedForm(AsymmetricLoss):
    """A subclass that overrides the closed form alone, which is not that of its terms."""

    name = "other_closed_form"

    def closed_form(self) -> Any:
        return ALPALoss().closed_form()


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("kind", list(_batch(3, 4)))
@pytest.mark.parametrize("loss_class", [QuadraticALPA, QuadraticASL, ShiftedALPA, OtherClosedForm])
def test_a_subclass_is_evaluated_by_what_it_overrides(
    loss_class: type[Loss], kind: str, reduction: Any
) -> None:
    logits, target = _batch(20, 4)[kind]
    loss = loss_class(reduction=reduction)
    found = _value_and_gradient(loss, logits, target, plainly=False)
    torch.testing.assert_close(found, _value_and_gradient(loss, logits, target, plainly=True))
    base = _value_and_gradient(create_loss("alpa", reduction=reduction), logits, target, plainly=False)
    assert not torch.allclose(found[1], base[1])


def test_a_subclass_that_overrides_nothing_keeps_the_one_pass() -> None:
    class Renamed(ALPALoss):
        """ALPA under another name."""

    logits, target = _batch(20, 4)["index"]
    value = Renamed()(logits.clone().requires_grad_(), target)
    assert type(value.grad_fn) is type(ALPALoss()(logits.clone().requires_grad_(), target).grad_fn)
    assert type(value.grad_fn) is not type(QuadraticALPA()(logits.clone().requires_grad_(), target).grad_fn)


@pytest.mark.parametrize("name", ["alpa", "asl"])
def test_a_retained_graph_can_be_traversed_twice(name: str) -> None:
    logits = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    value = create_loss(name)(logits, torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]))
    value.backward(retain_graph=True)
    assert logits.grad is not None
    once = logits.grad.clone()
    value.backward()
    torch.testing.assert_close(logits.grad, 2 * once, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")  # torch's own forward mode
@pytest.mark.parametrize("name", ["alpa", "asl"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_second_derivatives_and_forward_mode(name: str, reduction: str) -> None:
    loss = create_loss(name, reduction=reduction)
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 1, 2, -100])
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target), logits)
    direction = torch.randn_like(logits)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(logits.detach(), direction)
        tangent = torch.autograd.forward_ad.unpack_dual(loss(dual, target)).tangent
    expected = torch.autograd.functional.jvp(lambda z: loss(z, target), logits.detach(), direction)[1]
    torch.testing.assert_close(tangent, expected)


@pytest.mark.parametrize("name", ["alpa", "asl"])
def test_labels_can_have_a_gradient(name: str) -> None:
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(create_loss(name), (logits, labels))


def test_logits_that_are_not_contiguous_and_those_without_gradient() -> None:
    base = torch.randn(5, 12, dtype=torch.float64)
    target = torch.tensor([0, 1, 2, 3, 4])
    loss = create_loss("asl")
    for logits in (base.T[:5].T[:, :5], base[:, ::2], base.T[:5, :5].T):
        torch.testing.assert_close(loss(logits, target), loss(logits.contiguous(), target))
        assert not loss(logits, target).requires_grad


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(0, 1)), min_size=1, max_size=8),
    st.sampled_from(GAMMAS),
    st.sampled_from(GAMMAS),
    st.sampled_from([("asl", 0.0), ("asl", 0.05), ("alpa", 0.0), ("alpa", 0.3)]),
)
def test_any_term(
    terms: list[tuple[float, float]], gamma_pos: float, gamma_neg: float, kind: tuple[str, float]
) -> None:
    name, clip = kind
    params: dict[str, Any] = {"variant": "code"} if name == "alpa" else {}
    loss = create_loss(name, gamma_pos=gamma_pos, gamma_neg=gamma_neg, clip=clip, **params)
    logits, labels = torch.tensor(terms, dtype=torch.float64).T[:, :, None]
    quick = _value_and_gradient(loss, logits.contiguous(), labels, plainly=False)
    slow = _value_and_gradient(loss, logits.contiguous(), labels, plainly=True)
    torch.testing.assert_close(quick, slow, rtol=1e-8, atol=1e-12)


# The compiled form for GPUs, compiled for the CPU here.


@pytest.mark.parametrize("name", ["alpa", "asl"])
@pytest.mark.slow
def test_compiled_for_any_batch_value_and_gradient_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs of both passes, run without the slow generation of code for the CPU."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    loss = create_loss(name)
    call = fused(Loss.forward)
    for samples in (6, 11):
        logits = torch.randn(samples, 4, requires_grad=True)
        target = torch.arange(samples) % 4
        value = call(loss, logits, target)  # a warning that it is not compiled would be an error
        (found,) = torch.autograd.grad(value, logits)
        (expected,) = torch.autograd.grad(loss(logits, target), logits)
        torch.testing.assert_close(value, loss(logits, target))
        torch.testing.assert_close(found, expected)


@pytest.mark.slow
def test_the_code_generated_for_any_batch_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config, cpu_vec_isa

    # Code that is not optimised is built in a third of the time; which vectors the CPU has need not be tried out.
    monkeypatch.setattr(cpu_vec_isa, "valid_vec_isa_list", list)
    torch._dynamo.reset()
    loss = create_loss("asl")
    call = fused(Loss.forward)
    for samples in (6, 11):
        logits, target = torch.randn(samples, 4), torch.arange(samples) % 4
        with warnings.catch_warnings(), config.patch({"aot_inductor.debug_compile": True}):
            warnings.simplefilter("ignore")  # torch's own
            warnings.filterwarnings("error", message="the loss is not compiled")
            torch.testing.assert_close(call(loss, logits, target), loss(logits, target))


def test_where_the_compiler_fails_plain_operations_are_used_with_one_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_: object, **__: object) -> object:
        def call(*_: object) -> Tensor:
            raise RuntimeError("no compiler\nsecond line")

        return call

    monkeypatch.setattr(torch, "compile", failing)
    call = fused(Loss.forward)
    loss, logits, target = create_loss("asl"), torch.zeros(2, 3), torch.tensor([0, 1])
    with pytest.warns(UserWarning, match="not compiled, as torch.compile failed: no compiler$"):
        value = call(loss, logits, target)
    torch.testing.assert_close(value, loss(logits, target))
    assert call(loss, logits, target) == value  # no second warning: it would be an error here


def test_the_error_of_a_bad_batch_is_not_taken_for_that_of_the_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss = create_loss("alpa")
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)
    with pytest.raises(ValueError, match="expected target of shape"):
        fused(Loss.forward)(loss, torch.zeros(2, 3), torch.zeros(2, 4))


def test_a_cpu_does_not_compile() -> None:
    assert not on_gpu(torch.zeros(1))
