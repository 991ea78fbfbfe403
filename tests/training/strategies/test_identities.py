"""What the strategies are equal to, by references of their own and by their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.neighbors import NearestCentroid
from torch import nn

from fixtures.strategy_task import COUNTS, LOSSES, balanced_accuracy, decided, draw, fitted, trained_head
from tametail.models.heads import Standardise
from tametail.training.strategies import parse_method
from tametail.training.strategies.post_hoc import ClassMeans, log_prior_odds, tau_normalised

OUTPUTS = 3 * torch.randn(400, 5, generator=torch.Generator().manual_seed(3))
FEATURES, TARGET = draw(COUNTS, 1)


def decision(text: str, counts: list[int] = COUNTS) -> torch.Tensor:
    return parse_method(text).decision_rule(counts).decision(OUTPUTS)


@pytest.mark.parametrize("loss", ["ce", "bce", "alpa", "asl", "ldam", "ce[label_smoothing=0.1]"])
def test_no_adjustment_is_the_base(loss: str) -> None:
    assert torch.equal(decision(f"{loss}+la[tau=0]").argmax(1), decision(loss).argmax(1))
    assert torch.equal(decision(f"{loss}+la", [7] * 5).argmax(1), decision(loss, [7] * 5).argmax(1))


@pytest.mark.parametrize("loss", LOSSES)
def test_adjustment_leaves_the_posterior_alone(loss: str) -> None:
    adjusted, base = (parse_method(text).decision_rule(COUNTS) for text in (f"{loss}+la", loss))
    assert torch.equal(adjusted.posterior(OUTPUTS), base.posterior(OUTPUTS))
    assert (adjusted.family, adjusted.link, adjusted.ceiling) == (base.family, base.link, base.ceiling)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_adjusted_logits_of_cross_entropy_and_of_binary_cross_entropy(tau: float) -> None:
    n = sum(COUNTS)
    by_softmax = torch.tensor([[z - tau * math.log(c / n) for z, c in zip(row, COUNTS, strict=True)]
                               for row in OUTPUTS.tolist()])  # fmt: skip
    by_sigmoid = torch.tensor([[z - tau * math.log(c / (n - c)) for z, c in zip(row, COUNTS, strict=True)]
                               for row in OUTPUTS.tolist()])  # fmt: skip
    torch.testing.assert_close(decision(f"ce+la[tau={tau}]"), by_softmax)
    torch.testing.assert_close(decision(f"bce+la[tau={tau}]"), by_sigmoid)


@pytest.mark.parametrize("loss", ["focal", "alpa", "asl[clip=0]", "focal_softmax", "poly1", "ldam"])
def test_adjustment_is_of_the_posterior_by_the_losss_link(loss: str) -> None:
    made = parse_method(loss).loss.create(COUNTS)
    p = made.link((OUTPUTS / 4).double())
    n, counts = sum(COUNTS), torch.tensor(COUNTS)
    expected = p * n / counts if made.family == "softmax" else p / (1 - p) * (n - counts) / counts
    found = parse_method(f"{loss}+la").decision_rule(COUNTS).decision(OUTPUTS / 4)
    torch.testing.assert_close(found - found[:, :1], expected.log().float() - expected.log().float()[:, :1],
                               rtol=1e-3, atol=1e-4)  # fmt: skip


def test_a_prior_inside_a_loss_is_replaced_not_doubled() -> None:
    for loss in ("balanced_softmax", "bce[tau=1]"):
        torch.testing.assert_close(decision(f"{loss}+la").argmax(1), decision(loss).argmax(1))
    trained = decision("balanced_softmax+la[tau=0]").softmax(1)
    torch.testing.assert_close(
        trained, parse_method("balanced_softmax").decision_rule(COUNTS).posterior(OUTPUTS)
    )


def test_with_several_labels_per_image_shares_are_of_the_images() -> None:
    counts = torch.tensor([60, 50, 0, 80])
    shares = log_prior_odds(counts, 80, "sigmoid")
    expected = [math.log(60 / 20), math.log(50 / 30), math.log(1 / 80), math.log(80)]
    assert shares.tolist() == pytest.approx(expected)
    decision_rule = parse_method("bce+la").decision_rule([60, 50, 0, 80], images=80)
    torch.testing.assert_close(
        decision_rule.decision(torch.zeros(1, 4))[0].double(), -shares, rtol=1e-6, atol=1e-6
    )


def test_head_strategies_decide_for_equal_classes_with_and_without_the_whole_adjustment() -> None:
    for text in ("ce+crt", "bce+lws", "alpa+taunorm", "ce+ncm"):
        torch.testing.assert_close(decision(f"{text}+la").softmax(1), decision(text).softmax(1))
        posterior = parse_method(text).decision_rule(COUNTS).posterior(OUTPUTS)
        torch.testing.assert_close(decision(f"{text}+la[tau=0]").softmax(1), posterior)


@pytest.mark.parametrize("loss", ["ce", "bce", "alpa"])
def test_tau_normalisation_is_the_papers_up_to_one_factor(loss: str) -> None:
    base = trained_head(parse_method(loss), COUNTS, 1)
    assert isinstance(base, nn.Linear)
    without_bias = FEATURES @ base.weight.T
    torch.testing.assert_close(fitted(f"{loss}+taunorm[tau=0]")(FEATURES), without_bias)
    for tau in (0.5, 1.0):
        found = fitted(f"{loss}+taunorm[tau={tau}]")(FEATURES)
        published = torch.stack(
            [FEATURES @ w / sum(x * x for x in w.tolist()) ** (tau / 2) for w in base.weight], 1
        )
        torch.testing.assert_close(found, published * (found.norm() / published.norm()), rtol=1e-4, atol=1e-4)
        assert torch.equal(found.argmax(1), published.argmax(1))


def test_a_normalised_head_starts_as_cosines_times_sixteen() -> None:
    cosines, head = (parse_method(text).build_head(16, 5) for text in ("ldam", "ce+normalised"))
    head.load_state_dict(cosines.state_dict() | {"log_scale": head.state_dict()["log_scale"]})
    torch.testing.assert_close(head(3 * FEATURES), 16 * cosines(FEATURES))
    assert {name for name, value in head.named_parameters() if value.requires_grad} == {"weight", "log_scale"}


def test_a_weight_of_length_zero_stays_and_disturbs_no_other() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 20.0]])
    torch.testing.assert_close(
        tau_normalised(weight, 1.0), torch.tensor([[6.0, 8.0], [0.0, 0.0], [0.0, 10.0]])
    )


def test_a_retrained_classifier_separates_what_can_be_separated() -> None:
    counts = [40, 40, 40]
    features, target = draw(counts, 1, features=8, apart=8)
    for loss in LOSSES:
        method = parse_method(f"{loss}+crt[epochs=10]")
        head = method.fit_head(method.build_head(8, 3), features + 5, target, counts, seed=0)
        assert torch.equal(decided(method.text, head, features + 5, counts), target), loss


def test_a_retrained_head_is_written_for_features_as_they_are() -> None:
    """On standardised features and on features moved and stretched, the classifier is the same."""
    method, standardise = parse_method("ce+crt[epochs=3]"), Standardise([16])
    standardise.fit(FEATURES)
    head = method.build_head(16, 5)
    one = method.fit_head(head, standardise(FEATURES), TARGET, COUNTS, seed=0)(standardise(FEATURES))
    two = method.fit_head(head, 9 * FEATURES - 4, TARGET, COUNTS, seed=0)(9 * FEATURES - 4)
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("loss", ["ce", "bce", "ldam", "ce+normalised"])
def test_learned_scales_change_no_direction(loss: str) -> None:
    base, head = trained_head(parse_method(loss), COUNTS, 1), fitted(f"{loss}+lws[epochs=4]")
    assert isinstance(head, nn.Sequential)
    for name, value in base.state_dict().items():
        assert torch.equal(head[0].state_dict()[name], value)
    factors = (head(FEATURES) / base(FEATURES)).detach()
    torch.testing.assert_close(factors, factors[:1].expand_as(factors), rtol=1e-3, atol=1e-4)
    assert (factors > 0).all()
    assert factors[0].std() > 0.01


@pytest.mark.parametrize("counts", [COUNTS, [30, 0, 8], [2, 1], [4, 9]])
def test_nearest_means_are_scikit_learns(counts: list[int]) -> None:
    features, target = draw(counts, 1)
    centre = torch.stack([features[target == c].mean(0) for c in target.unique()]).mean(0)

    def units(x: torch.Tensor) -> torch.Tensor:
        return (x - centre) / (x - centre).norm(dim=1, keepdim=True)

    reference = NearestCentroid().fit(units(features).numpy(), target.numpy())
    new = draw([50] * len(counts), 2)[0]
    found = decided("ce+ncm", fitted("ce+ncm", counts, steps=1), new, counts)
    assert found.tolist() == reference.predict(units(new).numpy()).tolist()


def test_the_scale_of_distances_is_the_likeliest_one_with_every_image_left_out_in_turn() -> None:
    means = ClassMeans(16, 5)
    means.fit(FEATURES, TARGET)
    units = nn.functional.normalize(FEATURES - means.centre, dim=1)

    def likelihood(scale: float) -> float:
        total = 0.0
        for u, y in zip(units, TARGET.tolist(), strict=True):
            others = means.means.clone()
            others[y] = (COUNTS[y] * others[y] - u) / (COUNTS[y] - 1)
            total += float(torch.log_softmax(-scale * (u - others).square().sum(1), 0)[y]) / COUNTS[y]
        return total

    best = float(means.scale)
    assert 1 < best < 1000
    assert likelihood(best) > max(likelihood(best / 1.1), likelihood(best * 1.1))


@pytest.mark.parametrize("text", ["ce+la", "ce+crt[epochs=3]", "bce+la", "alpa+la", "alpa+crt[epochs=3]"])
def test_adjustment_and_retraining_raise_balanced_accuracy_on_a_long_tail(text: str) -> None:
    """Paired over fixed seeds: the mean gain is more than three standard errors above nothing."""
    counts, method = [400, 150, 50, 25, 15], parse_method(text)
    new, target = draw([300] * 5, 99, features=6)
    gains = []
    for seed in range(4):
        head, data = trained_head(method, counts, seed, features=6), draw(counts, seed, features=6)
        after = method.fit_head(head, *data, counts, seed)
        base = balanced_accuracy(decided(method.base.text, head, new, counts), target)
        gains.append(balanced_accuracy(decided(text, after, new, counts), target) - base)
    gain = torch.tensor(gains)
    assert gain.mean() > 3 * gain.std() / len(gains) ** 0.5, gains
