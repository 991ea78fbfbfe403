"""The promises of every loss, one per test, whatever its formula.

``loss_text`` is a loss as text, with and without logit-adjusted training; ``given_text`` only as it was given.
"""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from collections.abc import Sequence
from itertools import chain, product
from typing import Any

import pytest
import torch
from torch import Tensor

from tametail.losses import Loss, create_loss, list_losses, parse_loss
from tametail.losses.custom import ModuleLoss
from tametail.losses.registry import loss_class
from tametail.testing.batches import (
    COUNTS,
    INDICES,
    all_exponents,
    assert_close,
    assert_same,
    extreme_logits,
    logits,
    make,
    one_hot,
    soft,
    value_and_gradient,
    value_of,
    with_other_tau,
    without_draws,
)

# Losses on cosines are tested with the same logits.
pytestmark = pytest.mark.filterwarnings("ignore:.*expects the cosines")
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
COMMON = {"tau", "class_counts", "reduction", "ignore_index"}
# Input, target, the error, and a part of its message.
BAD_BATCHES: list[tuple[Any, Any, type[Exception], str]] = [
    (torch.zeros(2, 4), torch.zeros(3, dtype=torch.long), ValueError, r"got \(3,\)"),
    (torch.zeros(2, 4), torch.zeros(2, 3), ValueError, r"\(2,\) or \(2, 4\) for input \(2, 4\), got \(2, 3\)"),
    (torch.zeros(4), torch.zeros(4), ValueError, r"input of shape \(B, C\).*got \(4,\)"),
    (torch.zeros(2, 0), torch.zeros(2, 0), ValueError, "C >= 1"),
    (torch.zeros(2, 4, dtype=torch.long), torch.zeros(2), TypeError, "floating-point logits"),
    (torch.zeros(2, 4), torch.zeros(2), TypeError, "integer dtype, got torch.float32"),
    (torch.zeros(2, 4), [0, 1], TypeError, "got list"),
    ([[0.0, 1.0]], torch.zeros(1, dtype=torch.long), TypeError, "floating-point logits .*got list"),
    (torch.zeros(2, 4), torch.tensor([0, 4]), ValueError, "from 0 to 3 .* from 0 to 4"),
    (torch.zeros(2, 4), torch.tensor([-1, 3]), ValueError, "from -1 to 3"),
    (torch.zeros(2, 4), torch.full((2, 4), -1.0), ValueError, r"in \[0, 1\], or NaN"),
]  # fmt: skip
BAD_SETTINGS: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"reduction": "average"}, ValueError),
    ({"ignore_index": 0.5}, TypeError),
    ({"class_counts": [3, -1]}, ValueError),
    ({"class_counts": [3.5, 1.0]}, ValueError),
    ({"class_counts": [0, 0]}, ValueError),
    ({"class_counts": [[1, 2]]}, ValueError),
    ({"class_counts": []}, ValueError),
    ({"class_counts": [True, False]}, TypeError),
    ({"class_counts": "many"}, TypeError),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests for the losses of ``--loss``, by default for all that are registered."""
    parametrize(metafunc, metafunc.config.getoption("loss", None) or list_losses())


def parametrize(metafunc: pytest.Metafunc, texts: Sequence[str]) -> None:
    """Run a test for losses given as text.

    Raises:
        pytest.UsageError: a text does not describe a :class:`tametail.losses.Loss`.
    """
    for text in texts:
        try:
            loss = make(text)
        except (ValueError, TypeError) as error:
            raise pytest.UsageError(f"--loss {text}: {error}") from error
        if isinstance(loss, ModuleLoss):
            raise pytest.UsageError(f"--loss {text}: expected a subclass of tametail.losses.Loss")
    if "loss_text" in metafunc.fixturenames:
        unique = dict.fromkeys(parse_loss(text).name for text in texts)
        names = [name for name in unique if "tau" in inspect.signature(loss_class(name)).parameters]
        metafunc.parametrize("loss_text", [*dict.fromkeys([*texts, *map(with_other_tau, names)])])
    if "given_text" in metafunc.fixturenames:
        metafunc.parametrize("given_text", texts)


@pytest.fixture
def loss(loss_text: str) -> Loss:
    """The loss for the batch of `tametail.testing.batches`."""
    return make(loss_text)


def test_declares_what_it_is(given_text: str) -> None:
    loss = make(given_text)
    assert isinstance(loss.name, str), "name must be a string"
    assert loss.formula, "formula must be one line of mathematics"
    assert loss.family in ("softmax", "sigmoid"), f"family must be softmax or sigmoid, not {loss.family!r}"
    assert loss.head in ("linear", "normalised"), f"head must be linear or normalised, not {loss.head!r}"
    for flag in ("stochastic", "batchwise", "uses_class_counts", "exact_link"):
        assert isinstance(getattr(loss, flag), bool), f"{flag} must be True or False"
    summary = (inspect.getdoc(type(loss)) or "").split("\n")[0]
    assert summary.endswith("."), f"the docstring must start with a summary in one line, not {summary!r}"


def test_parameters_are_keywords_and_shown_by_repr(given_text: str) -> None:
    loss = make(given_text)
    parameters = inspect.signature(type(loss)).parameters
    missing = COMMON - parameters.keys()
    assert not missing, (
        f"accept {', '.join(sorted(missing))}: end __init__ with **common and hand it on to Loss"
    )
    for name, parameter in parameters.items():
        may_be_first = name == "class_counts" and loss.uses_class_counts
        assert parameter.kind is parameter.KEYWORD_ONLY or may_be_first, f"{name} must be keyword-only"
        assert name == "class_counts" or hasattr(loss, name), f"store the parameter {name} as an attribute"
    assert "reduction='mean'" in repr(loss)
    assert (f"class_counts={COUNTS}" in repr(loss)) == (loss.class_counts is not None), repr(loss)


def test_link_has_a_name(loss: Loss) -> None:
    plain = loss.link.name.removesuffix("+prior")
    assert plain in (loss.family, "inverse"), f"the link must be {loss.family} or inverse, not {plain}"
    assert (plain != loss.link.name) == (loss.tau != 0), (
        f"+prior must be named where tau is not 0: {loss.link.name}"
    )
    assert isinstance(loss.link.exact, bool)


def test_class_counts_are_needed_only_where_they_are_used(given_text: str) -> None:
    spec = parse_loss(given_text)
    with_counts = make(given_text)
    if with_counts.uses_class_counts:
        title = rf"{type(with_counts).__name__} \({with_counts.name}\)"
        with pytest.raises(ValueError, match=f"{title} expects class_counts, .* got None"):
            create_loss(given_text)
        kind: Any = type(with_counts)
        positional = kind(COUNTS, **spec.params)
        assert repr(positional) == repr(with_counts), "class_counts must be the first positional argument"
    elif with_counts.tau == 0:
        without = create_loss(given_text)
        assert torch.equal(value_of(with_counts, logits(), INDICES), value_of(without, logits(), INDICES))
        with pytest.raises(ValueError, match=r"with tau=1\.0 expects class_counts, .* got None"):
            create_loss(given_text, tau=1.0)


def test_indices_and_one_hot_labels_agree(loss: Loss) -> None:
    by_index = value_and_gradient(loss, logits(), INDICES)
    indices = value_and_gradient(loss, logits(), INDICES.to(torch.int32))
    assert_same(indices, by_index, "indices int32 and int64")
    for dtype in (torch.int32, torch.bool, torch.float32, torch.float64):
        labels = value_and_gradient(loss, logits(), one_hot(INDICES).to(dtype))
        assert_same(labels, by_index, f"one-hot labels {dtype} and indices")


def test_soft_and_multi_hot_labels_are_finite_and_matter(loss: Loss) -> None:
    value, gradient = value_and_gradient(loss, logits(), soft())
    assert value.isfinite(), "the loss of soft labels is not finite"
    assert gradient.isfinite().all(), "the gradient for soft labels is not finite"
    multi_hot = (soft() > 0.5).to(torch.float64)
    other = value_and_gradient(loss, logits(), multi_hot)[0]
    assert not torch.isclose(other, value), "soft labels are treated like multi-hot ones"


def test_unknown_samples_are_removed_also_from_the_mean(loss: Loss) -> None:
    loss = without_draws(loss)
    known = torch.tensor([True, False, True, True, False, True])
    expected = value_and_gradient(loss, logits()[known], INDICES[known])
    unknown = logits().detach().clone()
    unknown[~known] = torch.nan
    for target in (
        torch.where(known, INDICES, -100),
        torch.where(known[:, None], one_hot(INDICES).double(), torch.nan),
    ):
        value, gradient = value_and_gradient(loss, unknown, target)
        assert_same((value, gradient[known]), expected, "a batch with unknown samples and one without them")
        assert (gradient[~known] == 0).all(), "an unknown sample has a gradient"


def test_ignore_index_may_be_a_class(loss_text: str) -> None:
    loss = without_draws(make(loss_text, ignore_index=1))
    known = INDICES != 1
    value, gradient = value_and_gradient(loss, logits(), INDICES)
    expected = value_and_gradient(loss, logits()[known], INDICES[known])
    assert_same((value, gradient[known]), expected, "ignored samples and a batch without them")


def test_unknown_labels_are_removed(loss_text: str) -> None:
    """An unknown label saves what an absent one would cost, which is nothing where only positives count."""
    loss = make(loss_text, reduction="none")
    target = soft()
    target[0, 1] = torch.nan
    value, gradient = value_and_gradient(loss, logits(), target)
    absent, _ = value_and_gradient(loss, logits(), target.nan_to_num(0))
    assert gradient.isfinite().all(), "the gradient is not finite where a label is NaN"
    assert_close(value[1:], absent[1:], "an unknown label changes the loss of other samples")
    assert value[0] <= absent[0] + 1e-12, "an unknown label costs more than an absent one"
    if loss.family == "sigmoid":
        assert value[0] < absent[0], "an unknown label costs as much as an absent one"
        assert gradient[0, 1] == 0, "an unknown label has a gradient"
        assert (gradient[0, [0, 2, 3]] != 0).any(), "the known labels of the sample have no gradient"


def test_a_class_of_unknown_label_stays_in_the_softmax(loss_text: str) -> None:
    loss = without_draws(make(loss_text, reduction="none"))
    target = soft()
    target[0, 1] = torch.nan
    moved = logits().detach().clone()
    moved[0, 1] += 3
    changed = bool(value_of(loss, moved, target)[0] != value_of(loss, logits(), target)[0])
    assert changed == (loss.family == "softmax"), (
        "the logit of an unknown label must matter only in a softmax"
    )


def test_reductions_agree(loss_text: str) -> None:
    target = torch.tensor([0, -100, 2, 3, 1, 0])
    mean, total, each = (
        value_of(make(loss_text, reduction=reduction), logits(), target)
        for reduction in ("mean", "sum", "none")
    )
    assert each.shape == (6,), f"reduction none must return shape (B,), not {tuple(each.shape)}"
    assert each[1] == 0, "an unknown sample costs something"
    assert_close(each.sum(), total, "reduction sum differs from the sum of reduction none")
    if not make(loss_text).batchwise:
        assert_close(total / 5, mean, "reduction mean differs from the mean over known samples")


def test_small_batches_are_finite(loss: Loss) -> None:
    for z, target in (
        (logits(1), INDICES[:1]),
        (logits(), torch.full((6,), 2)),
        (logits(), torch.zeros(6, 4)),
    ):
        _assert_finite(loss, z, target)


def test_one_class_is_finite(loss_text: str) -> None:
    _assert_finite(create_loss(loss_text, [3]), logits()[:, :1], torch.zeros(6, dtype=torch.int64))


def test_any_class_may_have_no_samples(loss_text: str) -> None:
    for counts in ([40, 0, 0, 0], [0, 0, 0, 1], [10**9, 1, 0, 3]):
        loss = create_loss(loss_text, counts)
        for target in (INDICES, soft()):
            _assert_finite(loss, logits(dtype=torch.float32), target)
        assert loss.link(logits()).isfinite().all(), f"the link is not finite with class counts {counts}"


def _assert_finite(loss: Loss, z: Tensor, target: Tensor) -> None:
    value, gradient = value_and_gradient(loss, z, target)
    what = f"{loss} of logits {tuple(z.shape)} {z.dtype} and target {tuple(target.shape)}"
    assert value.isfinite(), f"the value is not finite: {what}"
    assert gradient.isfinite().all(), f"the gradient is not finite: {what}"


def test_a_batch_without_known_labels_costs_nothing(loss_text: str) -> None:
    targets = (torch.full((6,), -100), torch.full((6, 4), torch.nan))
    for reduction, target in product(("mean", "sum", "none"), targets):
        loss = make(loss_text, reduction=reduction)
        value, gradient = value_and_gradient(loss, logits(), target)
        assert (value == 0).all(), f"unknown labels cost something with reduction {reduction}"
        assert (gradient == 0).all(), f"unknown labels have a gradient with reduction {reduction}"
        empty_value, empty_gradient = value_and_gradient(loss, logits()[:0], target[:0])
        assert (empty_value == 0).all(), f"an empty batch costs something with reduction {reduction}"
        assert empty_gradient.shape == (0, 4)


def test_value_has_at_least_float32_and_gradient_the_dtype_of_the_input(loss_text: str) -> None:
    loss = make(loss_text).eval()  # a stochastic loss draws other numbers in float64 than in float32
    for dtype in DTYPES:
        z = logits(dtype=dtype)
        exact_value, exact_gradient = value_and_gradient(loss, z.double(), INDICES)
        value, gradient = value_and_gradient(loss, z, INDICES)
        expected = torch.float64 if dtype == torch.float64 else torch.float32
        assert value.dtype == expected, f"the value must be {expected} for input {dtype}, not {value.dtype}"
        assert gradient.dtype == dtype, f"the gradient must be {dtype}, not {gradient.dtype}"
        assert_close(value.double(), exact_value, f"the value for {dtype} is imprecise", 2e-6, 1e-6)
        tolerance = max(torch.finfo(dtype).eps, 1e-6)
        assert_close(
            gradient.double(), exact_gradient, f"the gradient for {dtype} is imprecise", tolerance, tolerance
        )


def test_autocast_changes_nothing(loss: Loss) -> None:
    z = logits(dtype=torch.float32)
    expected = value_and_gradient(loss, z, INDICES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = value_and_gradient(loss, z, INDICES)
    assert found[0].dtype == torch.float32, f"under autocast the value must be float32, not {found[0].dtype}"
    assert_close(found[0], expected[0], "autocast changes the value", 0, 0)
    assert_close(found[1], expected[1], "autocast changes the gradient", 0, 0)


def test_extreme_logits_are_finite_for_every_gamma_and_clip(loss_text: str) -> None:
    labels = torch.arange(len(extreme_logits(torch.float64))) % 4
    mixed = one_hot(labels).double().lerp(torch.tensor(0.3).double(), 0.5)
    for loss, dtype, target in product(all_exponents(loss_text), DTYPES, (labels, mixed)):
        _assert_finite(loss, extreme_logits(dtype), target)


def test_links_of_extreme_logits_are_probabilities(loss_text: str) -> None:
    for loss in all_exponents(loss_text):
        link = loss.link
        for dtype in (torch.float32, torch.float64):
            p = link(extreme_logits(dtype))
            assert ((p >= 0) & (p <= 1 + 1e-6)).all(), f"the link of {loss} is not in [0, 1] for {dtype}"


def test_probabilities_are_the_link_with_rows_that_sum_to_one(loss: Loss) -> None:
    dtypes = (torch.float16, torch.float32, torch.float64)
    batches = [(logits(dtype=dtype).detach(), extreme_logits(dtype)) for dtype in dtypes]
    for z in chain.from_iterable(batches):
        p, linked = loss.probabilities(z), loss.link(z)
        precision = 8 * torch.finfo(p.dtype).eps
        assert_close(
            p.sum(dim=1), torch.ones_like(p[:, 0]), "a row does not sum to one", precision, precision
        )
        some = linked.sum(dim=1, keepdim=True) > 0
        expected = torch.where(some, linked / linked.sum(dim=1, keepdim=True), 1 / p.shape[1])
        assert_close(p, expected, "probabilities are not proportional to the link", precision, precision)


def test_gradient_is_the_derivative(loss_text: str) -> None:
    for loss in all_exponents(loss_text)[::2]:
        if getattr(loss, "detach_focal_weight", False):
            continue  # it leaves a factor out of its gradient by design
        ok = torch.autograd.gradcheck(lambda z, loss=loss: value_of(loss, z, soft(3)), logits(3))
        assert ok, f"the gradient of {loss} is not its derivative"


def test_compiles_in_one_graph(given_text: str) -> None:
    torch._dynamo.reset()
    loss = make(given_text)
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    found = value_and_gradient(compiled, logits(), INDICES)
    assert_same(found, value_and_gradient(loss, logits(), INDICES), "torch.compile and plain evaluation")


def test_per_sample_gradients_by_vmap(loss_text: str) -> None:
    loss = make(loss_text)

    def one(z: Tensor, label: Tensor) -> Tensor:
        value: Tensor = loss(z[None], label[None])
        return value

    z = logits().detach()
    per_sample = torch.func.vmap(torch.func.grad(one), randomness="different")
    if loss.stochastic:
        for target in (INDICES, soft()):
            assert per_sample(z, target).isfinite().all(), "a gradient by vmap is not finite"
        loss = without_draws(loss)
    for target in (INDICES, soft()):
        expected = [value_and_gradient(loss, z[i : i + 1], target[i : i + 1])[1] for i in range(6)]
        found = per_sample(z, target)
        assert found.isfinite().all(), "a gradient by vmap is not finite"
        assert_close(found, torch.cat(expected), "vmap and single samples differ")


def test_survives_copy_pickle_state_dict_and_half(loss_text: str) -> None:
    loss = make(loss_text)
    expected = value_of(loss, logits(), INDICES)
    buffer = io.BytesIO()
    torch.save(loss.state_dict(), buffer)
    buffer.seek(0)
    restored = create_loss(loss_text, [5, 5, 5, 5])
    restored.load_state_dict(torch.load(buffer, weights_only=True))
    for way, again in {
        "a deep copy": copy.deepcopy(loss),
        "pickling": pickle.loads(pickle.dumps(loss)),
        "load_state_dict": restored,
        "half()": copy.deepcopy(loss).half(),
    }.items():
        assert torch.equal(value_of(again, logits(), INDICES), expected), f"{way} changes the value"


def test_bad_batches_are_errors(given_text: str) -> None:
    loss = make(given_text)
    for input, target, error, message in BAD_BATCHES:
        with pytest.raises(error, match=f"expected.*{message}"):
            loss(input, target)


def test_bad_settings_are_errors(given_text: str) -> None:
    for params, error in BAD_SETTINGS:
        with pytest.raises(error, match=r"expected .*, got "):
            make(given_text, **params)


def test_values_that_are_no_finite_number_are_errors(given_text: str) -> None:
    parameters = inspect.signature(type(make(given_text))).parameters
    for name in [name for name, parameter in parameters.items() if "float" in str(parameter.annotation)]:
        for value in (float("nan"), float("inf"), "2", True):
            with pytest.raises((ValueError, TypeError), match=f"expected .*{name}"):
                make(given_text, **{name: value})
