"""What every strategy after training promises, with losses of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fixtures.strategy_task import COUNTS, HEADS, LOSSES, decided, draw, fitted, trained_head
from tametail.core.errors import UsageError
from tametail.predictions.single_label import exclusive
from tametail.training.checkpointing.checkpoint import load_weights, save_weights
from tametail.training.recipe import load_recipe
from tametail.training.strategies import parse_method

METHODS = [
    f"{loss}+{strategy}"
    for loss in LOSSES
    for strategy in ["taunorm", "crt[epochs=1]", "lws[epochs=1]", "ncm", "la", "ncm+la"]
    if not (loss == "ldam" and strategy == "taunorm")
]
COSINE = ["ce+normalised+crt[epochs=1]", "ce+normalised+lws[epochs=1]"]


@pytest.mark.parametrize("text", [*METHODS, *COSINE])
def test_a_head_gives_finite_logits_and_probabilities(text: str) -> None:
    head, features = fitted(text, steps=5), draw(COUNTS, 2)[0]
    decision_rule = parse_method(text).decision_rule(COUNTS)
    outputs = head(features)
    logits, p = decision_rule.decision(outputs), decision_rule.posterior(outputs)
    for found in (outputs, logits, p):
        assert found.shape == (len(features), len(COUNTS))
        assert found.isfinite().all()
        assert found.dtype == torch.float32
    assert ((p >= 0) & (p <= 1)).all()
    if decision_rule.family == "softmax":
        torch.testing.assert_close(p.sum(1), torch.ones(len(p)))
    assert decision_rule.saturated(outputs).shape == outputs.shape
    assert 0 < decision_rule.ceiling <= 1


@pytest.mark.parametrize("text", [*METHODS, *COSINE])
def test_a_seed_gives_the_same_weights_and_leaves_the_head_and_torchs_state_alone(text: str) -> None:
    method, data = parse_method(text), draw(COUNTS, 1)
    base = trained_head(method, COUNTS, 1, steps=5)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = method.fit_head(base, *data, COUNTS, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in base.state_dict().items())
    torch.rand(7)
    second = method.fit_head(base, *data, COUNTS, seed=3).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    if method.after[0].name in ("crt", "lws"):
        other = method.fit_head(base, *data, COUNTS, seed=4).state_dict()
        assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("text", [*METHODS, *COSINE])
def test_text_and_weights_bring_a_head_back(text: str, tmp_path: Path) -> None:
    head, features = fitted(text, steps=5), draw(COUNTS, 2)[0]
    save_weights(head, tmp_path / "head.safetensors")
    method = parse_method(parse_method(text).text)
    again = load_weights(method.build_head(features.shape[1], len(COUNTS)), tmp_path / "head.safetensors")
    assert torch.equal(again(features), head(features))


@pytest.mark.parametrize("text", [text.replace("=1]", "=5,lr=0.3]") for text in METHODS])
@pytest.mark.parametrize("counts", [[20, 0, 5, 3], [30, 4], [1, 1, 1]], ids=["absent", "two", "one each"])
def test_few_images_and_few_classes(text: str, counts: list[int]) -> None:
    """One class absent; two classes; one image per class."""
    head, (features, target) = fitted(text, counts, steps=60), draw(counts, 1)
    outputs = head(features)
    assert outputs.shape == (len(features), len(counts))
    assert parse_method(text).decision_rule(counts).posterior(outputs).isfinite().all()
    chosen = decided(text, head, features, counts)
    assert (chosen == target).float().mean() > 0.5
    if "la" not in text:  # the rarer a class is, the more la says for it, seen or not
        assert not (chosen == 1).any() or counts[1]


@pytest.mark.parametrize("strategy", HEADS)
def test_several_labels_per_image_are_refused_by_new_heads(strategy: str) -> None:
    method, labels = parse_method(f"bce+{strategy}"), torch.ones(6, 3)
    assert method.single_label
    with pytest.raises(
        UsageError, match=rf"one class per image for {strategy}, got labels of shape \(6, 3\)"
    ):
        method.fit_head(nn.Linear(4, 3), torch.ones(6, 4), labels, [6, 6, 6], seed=0)


def test_shapes_that_do_not_fit_are_named() -> None:
    for features, target in [(torch.ones(5, 4), torch.zeros(6)), (torch.ones(0, 4), torch.zeros(0))]:
        with pytest.raises(
            ValueError, match=r"expected features \(n, D\) and target \(n,\) with n >= 1 for crt"
        ):
            parse_method("ce+crt").fit_head(nn.Linear(4, 3), features, target, [1, 1, 1], seed=0)


@pytest.mark.parametrize("text", ["ldam+taunorm", "ce+normalised+taunorm"])
def test_weights_that_count_as_of_one_length_are_not_normalised(text: str) -> None:
    method = parse_method(text)
    with pytest.raises(UsageError, match="expected a linear head for taunorm, got the"):
        method.build_head(4, 3)
    with pytest.raises(UsageError, match="expected a linear head for taunorm"):
        method.fit_head(trained_head(method, COUNTS, 1, 1), *draw(COUNTS, 1), COUNTS, seed=0)


@pytest.mark.parametrize("text", ["ce", "bce[tau=1]", "alpa", "ldam+drw", "balanced_softmax+mixup"])
def test_without_anything_after_training_all_is_as_the_loss_has_it(text: str) -> None:
    method, head = parse_method(text), nn.Linear(4, 3)
    assert method.fit_head(head, torch.ones(6, 4), torch.ones(6, 3), [6, 6, 6], seed=0) is head
    loss, decision_rule = method.loss.create([9, 4, 1]), method.decision_rule([9, 4, 1])
    outputs = 3 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(decision_rule.decision(outputs), loss.decision(outputs))
    assert torch.equal(decision_rule.posterior(outputs), loss.link(outputs))
    assert torch.equal(decision_rule.saturated(outputs), loss.link.saturated(outputs))
    found = (decision_rule.family, decision_rule.link, decision_rule.ceiling)
    assert found == (loss.family, loss.link.name, loss.link.ceiling)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("strategy", ["crt[epochs=1]", "lws[epochs=1]", "ncm"])
def test_posteriors_are_carried_back_by_bayes(loss: str, strategy: str) -> None:
    """By hand: the link's probabilities for equal classes, times the classes' counts, scaled to sum to one."""
    head, features = fitted(f"{loss}+{strategy}", steps=5), draw(COUNTS, 2)[0]
    outputs = head(features)
    own = parse_method("ce" if strategy == "ncm" else loss).loss.create([91] * 5)
    expected = exclusive(exclusive(own.link(outputs).numpy()) * torch.tensor(COUNTS).numpy())
    found = parse_method(f"{loss}+{strategy}").decision_rule(COUNTS).posterior(outputs)
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-6)
    decision = own.decision(outputs).argmax(1)
    assert torch.equal(decided(f"{loss}+{strategy}", head, features), decision)


@pytest.mark.parametrize("text", ["ce", "balanced_softmax", "ce+la", "alpa", "bce"])
def test_label_smoothing_is_undone_in_the_posterior_alone(text: str) -> None:
    """A head at its minimum on smoothed labels gives (1 - ε) η + ε π through the loss's link."""
    method, counts = parse_method(text), [50, 30, 20]
    recipe = load_recipe("modern")
    assert recipe.label_smoothing == 0.1
    eta = torch.tensor([[0.05, 0.15, 0.8], [0.9, 0.1, 0.0]], dtype=torch.float64)
    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    smoothed = 0.9 * eta + 0.1 * prior
    family = method.loss.create(counts).family
    given = smoothed if family == "softmax" else eta
    shift = prior.log() if text == "balanced_softmax" else torch.zeros(3)
    outputs = given.log() - shift if family == "softmax" else torch.logit(given, eps=1e-9)
    plain, undone = method.decision_rule(counts), method.decision_rule(counts, recipe=recipe)
    if text != "alpa":
        torch.testing.assert_close(undone.posterior(outputs), eta, atol=1e-7, rtol=0)
    if family == "softmax":
        torch.testing.assert_close(plain.posterior(outputs), smoothed)
        assert undone.link == "softmax+smoothing" or text == "balanced_softmax"
    else:
        torch.testing.assert_close(undone.posterior(outputs), plain.posterior(outputs))
        assert undone.link == plain.link
    torch.testing.assert_close(undone.decision(outputs), plain.decision(outputs))
