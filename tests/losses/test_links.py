"""Links, checked by simulation: minimise the expected loss for known posteriors, and see whether they come back."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from tametail.losses import Loss, create_loss, list_losses

COUNTS = [60, 25, 10, 5]
PRIOR = torch.tensor(COUNTS, dtype=torch.float64) / sum(COUNTS)
# Rows of posteriors: nearly even, clear, rare classes likely, one class nearly ruled out.
POSTERIORS = torch.tensor(
    [[0.28, 0.26, 0.24, 0.22], [0.7, 0.2, 0.06, 0.04], [0.05, 0.1, 0.25, 0.6], [0.45, 0.45, 0.09, 0.01], [0.1, 0.6, 0.1, 0.2]],
    dtype=torch.float64,
)  # fmt: skip
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "alpa": [
        {},
        {"preset": "v1"},
        {"preset": "v3"},
        {"variant": "code"},
        {"variant": "pade"},
        {"variant": "pade", "order": (3, 3), "double_focus": False, "gamma_pos": 0.5, "gamma_neg": 1.5},
    ],
    "asl": [{}, {"clip": 0.0}, {"detach_focal_weight": True}, {"gamma_neg": 0.5}],
    "asl_single_label": [{}, {"gamma_pos": 1.0}, {"gamma_pos": 1.0, "label_smoothing": 0.0}],
    "focal": [{}, {"alpha": None}],
    "focal_softmax": [{}, {"gamma": 0.5}],
    "ce": [{}, {"label_smoothing": 0.1}],
    "bce": [{}, {"label_smoothing": 0.1}],
    "class_balanced": [{"base": base, "beta": 0.99} for base in ("ce", "bce", "focal")],
    "poly1": [{}, {"epsilon": -0.5}, {"base": "focal"}],
    "corn": [{}, {"decide": "class"}],
    "soft_ordinal": [{}, {"distance": "squared", "scale": 0.5}],
    "label_aware_smoothing": [{}, {"shape": "convex", "smoothing_tail": 0.1}],
}


def _cases() -> list[Any]:
    return [
        pytest.param(name, params, tau, id=f"{name}-{params}-tau{tau}")
        for name in list_losses()
        for params in VARIANTS.get(name, [{}])
        for tau in (0.0, 1.0)
        if create_loss(name, class_counts=COUNTS, **params).exact_link
    ]


def _slope(loss: Loss, logits: Tensor, posteriors: Tensor) -> Tensor:
    """The gradient (N, C) of the expected loss where a sample of row n is of class c with probability (n, c)."""
    leaf = logits.clone().requires_grad_()
    return torch.autograd.grad(_expected_loss(loss, leaf, posteriors), leaf)[0]


def _expected_loss(loss: Loss, logits: Tensor, posteriors: Tensor) -> Tensor:
    """The sum over rows of the expected loss, without reduction and so with every row once for each class."""
    rows, classes = posteriors.shape
    of_class = loss(logits.repeat(classes, 1), torch.arange(classes).repeat_interleave(rows))
    return (posteriors.T * of_class.view(classes, rows)).sum()


def _minimiser(loss: Loss, posteriors: Tensor) -> Tensor:
    """The logits (N, C) whose expected loss is least: by halving per class, or by descent under a shared softmax."""
    logits = torch.zeros_like(posteriors)
    if loss.family == "sigmoid":
        for step in range(36):  # to 10 / 2^36, that is 1.5e-10
            logits -= 10.0 / 2**step * _slope(loss, logits, posteriors).sign()
        return logits
    leaf = logits.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [leaf], max_iter=400, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        expected = _expected_loss(loss, leaf, posteriors)
        (leaf.grad,) = torch.autograd.grad(expected, leaf)
        return expected

    optimizer.step(closure)
    return leaf.detach()


@pytest.mark.parametrize(("name", "params", "tau"), _cases())
def test_known_posteriors_are_recovered(name: str, params: dict[str, Any], tau: float) -> None:
    loss = create_loss(name, **params, tau=tau, class_counts=COUNTS, reduction="none")
    logits = _minimiser(loss, POSTERIORS)
    assert POSTERIORS.max() < loss.link.ceiling
    torch.testing.assert_close(loss.link(logits), POSTERIORS, rtol=0, atol=2e-4)
    assert not loss.link.saturated(logits).any()


@pytest.mark.parametrize("name", ["ce", "balanced_softmax", "focal_softmax", "asl_single_label"])
def test_a_softmax_with_the_prior_inside_decides_for_even_classes(name: str) -> None:
    loss = create_loss(name, tau=1.0, class_counts=COUNTS, reduction="none")
    even = POSTERIORS / PRIOR
    even = even / even.sum(dim=1, keepdim=True)
    decided = torch.softmax(loss.decision(_minimiser(loss, POSTERIORS)), dim=1)
    torch.testing.assert_close(decided, even, rtol=0, atol=1e-3)


@pytest.mark.parametrize("tau", [0.5, 1.0])
@pytest.mark.parametrize("name", ["bce", "alpa", "asl", "focal", "hill"])
def test_a_sigmoid_with_the_prior_inside_decides_by_odds_over_the_priors(name: str, tau: float) -> None:
    loss = create_loss(name, tau=tau, class_counts=COUNTS, reduction="none")
    lift = torch.logit(POSTERIORS) - tau * torch.logit(PRIOR)
    torch.testing.assert_close(loss.decision(_minimiser(loss, POSTERIORS)), lift, rtol=0, atol=1e-3)


def test_the_largest_logit_of_alpa_would_overdo_the_prior() -> None:
    """Its minimiser has an eighth of the log-odds, so that a shift of the whole prior weighs eightfold."""
    loss = create_loss("alpa", tau=1.0, class_counts=COUNTS, reduction="none")
    logits = _minimiser(loss, POSTERIORS)
    assert (logits.argmax(dim=1) == 3).sum() > (loss.decision(logits).argmax(dim=1) == 3).sum()


def test_without_a_prior_the_heads_own_logits_decide() -> None:
    logits = torch.randn(3, 4)
    assert torch.equal(create_loss("alpa").decision(logits), logits)
    assert torch.equal(create_loss("ldam", class_counts=COUNTS).decision(logits), 30 * logits)


def test_the_closed_form_of_alpa() -> None:
    """η = (2γ + 1) β p^(2γ) / (1.5 α + (2γ + 1) β p^(2γ)), and p* from it."""
    loss = create_loss("alpa", reduction="none")
    eta = torch.tensor([0.01, 0.2, 0.5, 0.9], dtype=torch.float64)
    p = (1.5 * 0.875 * eta / (9 * 1.625 * (1 - eta))) ** (1 / 8)
    torch.testing.assert_close(loss.link(torch.logit(p)[:, None])[:, 0], eta)
    posteriors = torch.stack([eta, 1 - eta], dim=1)[:3]
    torch.testing.assert_close(torch.sigmoid(_minimiser(loss, posteriors))[:, 0], p[:3], rtol=0, atol=1e-4)


def test_where_alpa_saturates_the_link_says_so() -> None:
    loss = create_loss("alpa", reduction="none")
    ceiling = 9 * 1.625 / (1.5 * 0.875 + 9 * 1.625)
    assert loss.link.ceiling == pytest.approx(ceiling, abs=1e-9)
    assert loss.link.ceiling == pytest.approx(0.9176, abs=1e-4)
    logits = _minimiser(loss, torch.tensor([[0.95, 0.05], [0.9, 0.1]], dtype=torch.float64))
    assert loss.link.saturated(logits).tolist() == [[True, False], [False, False]]
    assert not create_loss("bce").link.saturated(torch.full((1, 2), 50.0)).any()


@pytest.mark.parametrize("name", list_losses())
def test_links_give_probabilities_in_order_for_any_logits(name: str) -> None:
    loss = create_loss(name, class_counts=COUNTS)
    logits = torch.tensor([[-1e4, -30, -3, -0.1], [0.0, 1, 5, 40], [1e4, 1e4, 0, -1e4]], dtype=torch.float32)
    found = loss.link(logits)
    assert found.isfinite().all()
    assert ((found >= 0) & (found <= 1)).all()
    if loss.family == "sigmoid":
        rising = loss.link(torch.linspace(-12, 12, 400, dtype=torch.float64)[:, None])[:, 0]
        assert (rising.diff() >= -1e-12).all()
    elif loss.exact_link:
        torch.testing.assert_close(found.sum(dim=1), torch.ones(3))


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("hill", {"lam": 1.0}),
        ("ral", {"lam": 1.0}),
        ("alpa", {"preset": "v3", "lam": 1.0}),
        ("focal", {"alpha": 0.0}),
    ],
)
def test_a_link_that_does_not_rise_with_the_logit_is_not_called_exact(
    name: str, params: dict[str, Any]
) -> None:
    link = create_loss(name, **params).link
    assert not link.exact
    grid = link(torch.linspace(-20, 20, 500, dtype=torch.float64)[:, None])
    assert float(grid.max()) <= link.ceiling + 1e-5


@pytest.mark.parametrize("name", ["asl", "apl", "ral", "alpa", "hill", "focal"])
def test_where_posteriors_are_tied_the_heads_own_logits_decide(name: str) -> None:
    """Below asl's clip all posteriors are 0, and beyond ±30 they stand still: the rarest class must not win by that."""
    loss = create_loss(name, tau=1.0, class_counts=COUNTS)
    low = torch.tensor([[-21.0, -25, -26, -27], [-200, -190, -210, -220]])
    assert loss.decision(low).argmax(dim=1).tolist() == [0, 1]
    high = torch.tensor([[60.0, 62, 61, 60.5]])
    assert loss.decision(high).argmax(dim=1).tolist() == [1]
    assert loss.decision(torch.randn(4, 4) * 1e4).isfinite().all()


def test_a_class_that_is_ruled_out_comes_after_all_others() -> None:
    loss = create_loss("asl", tau=1.0, class_counts=COUNTS)
    decided = loss.decision(torch.tensor([[-30.0, -1.0, -30.0, -30.0], [9.0, -30.0, -30.0, -29.0]]))
    assert decided.argsort(dim=1, descending=True)[:, :1].flatten().tolist() == [1, 0]


def test_vs_decides_by_its_papers_rule() -> None:
    logits = torch.randn(3, 4)
    assert torch.equal(create_loss("vs", class_counts=COUNTS).decision(logits), logits)


@pytest.mark.parametrize("name", ["alpa", "asl", "ral", "hill", "focal", "focal_softmax", "balanced_softmax"])
def test_links_can_be_differentiated_mapped_and_pickled(name: str) -> None:
    link = create_loss(name, tau=0.5, class_counts=COUNTS).link
    logits = torch.linspace(-4, 5, 12, dtype=torch.float64).view(3, 4)
    assert torch.autograd.gradcheck(link, logits.clone().requires_grad_())
    torch.testing.assert_close(torch.vmap(lambda row: link(row[None])[0])(logits), link(logits))
    assert torch.equal(pickle.loads(pickle.dumps(link))(logits), link(logits))
    assert not link(logits).requires_grad


def test_names_say_what_is_done() -> None:
    assert create_loss("ce").link.name == "softmax"
    assert create_loss("bce").link.name == "sigmoid"
    assert create_loss("ce", label_smoothing=0.1).link.name == "inverse"
    assert create_loss("alpa").link.name == "inverse"
    assert create_loss("balanced_softmax", class_counts=COUNTS).link.name == "softmax+prior"
    assert create_loss("alpa", tau=0.5, class_counts=COUNTS).link.name == "inverse+prior"
