from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from tametail.core.errors import UsageError
from tametail.data import row_store
from tametail.losses import list_losses, parse_loss
from tametail.losses.convexity import is_convex
from tametail.training import large_tensors
from tametail.training.heads.components import principal_components
from tametail.training.heads.head_step import HeadTask
from tametail.training.heads.minimum import (
    L2_GRID,
    MinimisedHeads,
    inner_folds,
    reaches_minimum,
    stratified_rows,
    train_to_minimum,
)
from tametail.training.recipe import load_recipe
from tametail.training.strategies import parse_method

CLASSES = 4
STOCHASTIC_OR_COSINE = {"seql", "ldam"}


def images(n: int = 240, width: int = 24, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Correlated features and long-tailed classes that overlap."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.linspace(3, 0.1, width)
    features = torch.randn(n, width, generator=generator) * spread
    features = features @ torch.randn(width, width, generator=generator) / width**0.5
    features = features - features.mean(0)
    features = features / features.square().mean().sqrt()
    true = torch.randn(width, CLASSES, generator=generator) / 3
    logits = (features @ true + torch.tensor([0.0, -1.0, -2.0, -2.5])).double()
    noise = -torch.log(-torch.log(torch.rand(n, CLASSES, generator=generator, dtype=torch.float64)))
    target = (logits + noise).argmax(1)
    assert (torch.bincount(target, minlength=CLASSES) >= 4).all()
    return features, target


def counts_of(target: Tensor) -> list[int]:
    return torch.bincount(target, minlength=CLASSES).tolist()


def task(method: str, counts: list[int], width: int, **fields: object) -> HeadTask:
    parsed = parse_method(method)
    recipe = load_recipe("head", assignments=[f"{name}={value}" for name, value in fields.items()])
    return HeadTask(parsed.loss.create(counts), parsed.configure(recipe), nn.Linear(width, CLASSES))


def minimum(
    methods: list[str], features: Tensor, target: Tensor, *, seed: int = 0, **fields: object
) -> MinimisedHeads:
    counts = counts_of(target)
    tasks = [task(method, counts, features.shape[1], **fields) for method in methods]
    fold = np.arange(len(target)) % 3
    return train_to_minimum(features, target, tasks, class_counts=counts, fold=fold, seed=seed)


def logistic_regression(features: Tensor, target: Tensor, l2: float) -> LogisticRegression:
    """scikit-learn's, in float64, of the same penalised mean loss."""
    model = LogisticRegression(C=1 / (l2 * len(target)), tol=1e-10, max_iter=20_000)
    return model.fit(features.double().numpy(), target.numpy())


@pytest.mark.parametrize("shape", [(240, 24), (60, 90)], ids=["more images", "more features"])
@pytest.mark.parametrize("l2", [0.003, 0.1, 10.0])
def test_cross_entropy_is_scikit_learns_logistic_regression(shape: tuple[int, int], l2: float) -> None:
    features, target = images(*shape)
    (head,) = minimum(["ce"], features, target, l2=l2).heads
    reference = logistic_regression(features, target, l2)
    largest = np.abs(reference.coef_).max()
    assert np.abs(head.weight.detach().numpy() - reference.coef_).max() <= 1e-3 * largest
    bias = (head.bias - head.bias.mean()).detach().numpy()
    np.testing.assert_allclose(bias, reference.intercept_ - reference.intercept_.mean(), atol=2e-3)


def test_unknown_labels_take_no_part_in_the_minimum() -> None:
    """Each label by itself is scikit-learn's logistic regression on the images of which it is known."""
    features, target = images()
    labels = nn.functional.one_hot(target, CLASSES).float()
    labels[:, 0] = ((features[:, 0] > 0) | (target == 2)).float()
    unknown = torch.rand(labels.shape, generator=torch.Generator().manual_seed(5)) < 0.3
    given = labels.masked_fill(unknown, torch.nan)
    of = task("bce", [1] * CLASSES, features.shape[1], l2=0.1)
    fold = np.arange(len(target)) % 3
    found = train_to_minimum(features, given, [of], class_counts=[1] * CLASSES, fold=fold, seed=0)
    for c in range(CLASSES):
        known = ~unknown[:, c]
        # The mean is over all images, so that an unknown label weakens the loss and not the penalty.
        model = LogisticRegression(C=1 / (0.1 * len(target)), tol=1e-10, max_iter=20_000)
        model.fit(features[known].double().numpy(), labels[known, c].numpy())
        weight = found.heads[0].weight[c].detach().numpy()
        assert np.abs(weight - model.coef_[0]).max() <= 2e-3 * np.abs(model.coef_).max()
        assert found.heads[0].bias[c].item() == pytest.approx(model.intercept_[0], abs=2e-3)


def test_a_penalty_is_chosen_by_the_known_labels() -> None:
    features, target = images()
    labels = nn.functional.one_hot(target, CLASSES).float()
    unknown = torch.rand(labels.shape, generator=torch.Generator().manual_seed(6)) < 0.3
    fold, counts, width = np.arange(len(target)) % 3, [1] * CLASSES, features.shape[1]
    given = labels.masked_fill(unknown, torch.nan)
    chosen = task("bce", counts, width, l2="per_method")
    found = train_to_minimum(features, given, [chosen], class_counts=counts, fold=fold, seed=0)
    for l2, score in found.convergence[0].l2_scores.items():
        total = 0.0
        for held in range(3):
            train = torch.from_numpy(fold != held)
            of, inner = task("bce", counts, width, l2=float(l2)), fold[fold != held]
            (head,) = train_to_minimum(
                features[train], given[train], [of], class_counts=counts, fold=inner, seed=0
            ).heads
            z, y, known = head(features[~train]), labels[~train], ~unknown[~train]
            loss = nn.functional.binary_cross_entropy_with_logits(z[known], y[known], reduction="sum")
            total += loss.item()
        assert score == pytest.approx(total / len(target), rel=0.02)


def objective(head: nn.Module, of: HeadTask, features: Tensor, target: Tensor, l2: float) -> Tensor:
    """The mean loss and the penalty, by the loss itself, in float64."""
    loss = copy.deepcopy(of.loss).double()
    value: Tensor = loss(head(features.double()), target)
    weight = head.get_parameter("weight")
    return value + l2 / 2 * weight.square().sum()


@pytest.mark.parametrize("method", sorted(set(list_losses()) - STOCHASTIC_OR_COSINE))
def test_no_direction_leads_down_from_the_head_of_any_loss(method: str) -> None:
    features, target = images()
    found = minimum([method], features, target, l2=0.1)
    of = task(method, counts_of(target), features.shape[1])
    (convergence,), head = found.convergence, found.heads[0].double()
    assert convergence.converged
    value = objective(head, of, features, target, 0.1)
    assert convergence.objective == pytest.approx(value.item(), rel=1e-5)
    gradient = torch.autograd.grad(value, list(head.parameters()))
    zero = nn.Linear(features.shape[1], CLASSES).double()
    nn.init.zeros_(zero.weight)
    nn.init.zeros_(zero.bias)
    start = torch.autograd.grad(objective(zero, of, features, target, 0.1), list(zero.parameters()))
    size, first = (sum(part.square().sum() for part in each) ** 0.5 for each in (gradient, start))
    assert size <= 1e-3 * first


def test_biases_are_free_so_that_the_prior_is_learned() -> None:
    """The mean predicted distribution is the prevalence, however strong the penalty."""
    features, target = images()
    for l2 in (0.01, 10.0):
        (head,) = minimum(["ce"], features, target, l2=l2).heads
        predicted = head(features).softmax(1).mean(0)
        expected = torch.tensor(counts_of(target)) / len(target)
        torch.testing.assert_close(predicted, expected, atol=1e-4, rtol=0)


def test_balanced_softmax_is_cross_entropy_with_logit_adjustment() -> None:
    features, target = images()
    plain, balanced = minimum(["ce", "balanced_softmax"], features, target, l2=0.03).heads
    prior = (torch.tensor(counts_of(target)) / len(target)).log()
    adjusted = plain(features) - prior
    different = balanced(features) - adjusted
    spread = different - different.mean(1, keepdim=True)
    assert spread.abs().max() <= 2e-3 * adjusted.abs().max()


def test_heads_that_are_trained_together_are_those_trained_alone() -> None:
    features, target = images()
    methods = ["ce", "alpa", "alpa[alpha=1.5]", "bce[tau=1]", "alpa[gamma_neg=1]", "weighted_ce", "ce+drw"]
    together = minimum(methods, features, target, l2=0.1).heads
    for method, head in zip(methods, together, strict=True):
        (alone,) = minimum([method], features, target, l2=0.1).heads
        outputs = alone(features)
        assert (head(features) - outputs).abs().max() <= 1e-4 * outputs.abs().max()


def test_reweighting_counts_with_its_final_weights() -> None:
    features, target = images()
    deferred, weighted = minimum(["ce+drw", "ce"], features, target, l2=0.1).heads
    assert not torch.allclose(deferred(features), weighted(features), atol=1e-2)
    counts = counts_of(target)
    reweighted = parse_method("ce+drw").configure(load_recipe("head"))
    from tametail.training.optimisation import class_weights

    weights = class_weights(reweighted, reweighted.epochs, counts)
    assert weights is not None
    model = LogisticRegression(C=1 / (0.1 * len(target)), tol=1e-10, max_iter=20_000)
    model.fit(features.double().numpy(), target.numpy(), sample_weight=weights[target].double().numpy())
    difference = np.abs(deferred.weight.detach().numpy() - model.coef_).max()
    assert difference <= 1e-3 * np.abs(model.coef_).max()


def brute_force_scores(features: Tensor, target: Tensor, fold: np.ndarray) -> dict[float, float]:
    """Log-loss of scikit-learn's logistic regression on the inner folds, by penalty."""
    scores = {}
    for l2 in L2_GRID:
        total = 0.0
        for held in np.unique(fold):
            rest, own = fold != held, fold == held
            model = logistic_regression(features[rest], target[rest], l2)
            p = model.predict_proba(features[own].double().numpy())
            total -= np.log(p[np.arange(own.sum()), target[own].numpy()]).sum()
        scores[l2] = total / len(fold)
    return scores


def test_the_penalty_is_chosen_by_the_inner_folds_and_shared() -> None:
    features, target = images()
    expected = brute_force_scores(features, target, np.arange(len(target)) % 3)
    best = min(expected, key=lambda l2: expected[l2])
    entropy, balanced, binary, fixed = minimum(
        ["ce", "balanced_softmax", "bce", "alpa"], features, target
    ).convergence
    assert entropy.l2 == balanced.l2 == best
    assert entropy.l2_scores == balanced.l2_scores
    for l2, score in entropy.l2_scores.items():  # weaker penalties are left out once scores rise
        assert score == pytest.approx(expected[float(l2)], rel=5e-3)
    near = L2_GRID[L2_GRID.index(best) - 1 : L2_GRID.index(best) + 2]
    for convergence in (binary, fixed):
        assert [*convergence.l2_scores] == [f"{l2:g}" for l2 in near]
        assert f"{convergence.l2:g}" == min(convergence.l2_scores, key=lambda l2: convergence.l2_scores[l2])


def test_a_penalty_per_method_is_chosen_on_the_whole_grid() -> None:
    features, target = images(n=120)
    for convergence in minimum(["balanced_softmax", "bce"], features, target, l2="per_method").convergence:
        assert len(convergence.l2_scores) == len(L2_GRID)


def test_a_loss_with_several_minima_keeps_the_lowest_and_says_what_each_start_led_to() -> None:
    features, target = images()
    entropy, alpa = minimum(["ce", "alpa[gamma_neg=0]"], features, target, l2=0.003).convergence
    assert [*entropy.starts] == ["zero"]
    assert [*alpa.starts] == ["zero", "ce", "random 1", "random 2"]
    assert alpa.objective == alpa.starts[alpa.start]
    assert alpa.objective <= min(alpa.starts.values()) * (1 + 1e-4)


def test_labels_of_several_classes_per_image() -> None:
    features, target = images()
    labels = torch.zeros(len(target), CLASSES)
    labels[torch.arange(len(target)), target] = 1.0
    labels[::3, 0] = 1.0
    counts = labels.sum(0).int().tolist()
    tasks = [task(method, counts, features.shape[1]) for method in ("bce", "alpa")]
    fold = np.arange(len(target)) % 3
    found = train_to_minimum(features, labels, tasks, class_counts=counts, fold=fold, seed=0)
    assert all(each.converged for each in found.convergence)
    l2 = found.convergence[0].l2
    for name in range(CLASSES):
        model = logistic_regression(features, labels[:, name].long(), l2)
        weight = found.heads[0].weight[name].detach().numpy()
        assert np.abs(weight - model.coef_[0]).max() <= 2e-3 * np.abs(model.coef_).max()


@pytest.mark.parametrize(
    ("method", "fields", "expected"),
    [
        ("ce", {}, True),
        ("alpa[tau=1]", {}, True),
        ("ce+drw", {}, True),
        ("seql", {}, False),  # stochastic
        ("ce+mixup", {}, False),
        ("ce+balanced", {}, False),  # sampled
        ("ce", {"optimizer.kind": "adamw"}, False),
    ],
)
def test_which_heads_are_trained_to_the_minimum(
    method: str, fields: dict[str, object], expected: bool
) -> None:
    assert reaches_minimum(task(method, [9, 5, 3, 2], 8, **fields)) is expected


def test_a_normalised_head_is_trained_step_by_step() -> None:
    of = task("ldam", [9, 5, 3, 2], 8)
    head = parse_method("ldam").build_head(8, CLASSES)
    assert not reaches_minimum(HeadTask(of.loss, of.recipe, head))


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Features in blocks of 37 images, and their components in a file."""
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(row_store, "BLOCK_BYTES", 37 * 25 * 4)
    monkeypatch.setattr(large_tensors, "IN_MEMORY_BYTES", 0)


METHODS_BY_BLOCKS = [
    "alpa",
    "asl",
    "bce",
    "ce+drw",
    "class_balanced",
    "focal[gamma=1]",
    "label_aware_smoothing",
    "label_aware_smoothing+drw",
    "lade",
    "logistic_regression",
    "weighted_ce",
]


@pytest.mark.parametrize("labels", ["classes", "several", "unknown"])
@pytest.mark.slow
def test_heads_of_features_in_blocks_are_those_of_all_at_once(
    labels: str, request: pytest.FixtureRequest
) -> None:
    features, target = images()
    methods = METHODS_BY_BLOCKS if labels == "classes" else ["alpa", "asl", "bce"]
    if labels != "classes":
        target = nn.functional.one_hot(target, CLASSES).float()
        target[::3, 0] = 1.0
    if labels == "unknown":
        target[::7, 1] = torch.nan

    def trained() -> MinimisedHeads:
        tasks = []
        for name in methods:
            method = parse_method(name)
            counts = target.nan_to_num().sum(0).int().tolist() if target.ndim == 2 else counts_of(target)
            own = ["l2=per_method"] if "smoothing" in name else []
            recipe = method.configure(load_recipe("head", assignments=own))
            head = nn.Linear(features.shape[1], CLASSES)
            tasks.append(HeadTask(method.loss.create(counts), recipe, head, method.classical))
        fold = np.arange(len(target)) % 3
        return train_to_minimum(features, target, tasks, class_counts=counts, fold=fold, seed=0)

    whole = trained()
    request.getfixturevalue("blocks")
    found = trained()
    for at, method in enumerate(methods):
        ours, theirs = found.convergence[at], whole.convergence[at]
        assert ours.converged
        assert ours.l2 == theirs.l2, method
        assert ours.l2_scores == pytest.approx(theirs.l2_scores, rel=2e-3), method
        assert ours.objective == pytest.approx(theirs.objective, rel=1e-5), method
        expected = whole.heads[at](features)
        assert (found.heads[at](features) - expected).abs().max() <= 2e-4 * expected.abs().max(), method


@given(
    classes=st.integers(1, 6), folds=st.integers(1, 4), images=st.integers(1, 400), most=st.integers(1, 200)
)
def test_a_subset_has_the_shares_of_classes_and_folds(
    classes: int, folds: int, images: int, most: int
) -> None:
    random = np.random.default_rng([classes, folds, images, most])
    target, fold = random.integers(0, classes, images) ** 2 // classes, random.integers(0, folds, images)
    rows = stratified_rows(target, fold, most, 0)
    assert len(rows) == min(images, most)
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(rows, stratified_rows(target, fold, most, 0))
    cell = target * folds + fold
    all_of_them, chosen = np.bincount(cell), np.bincount(cell[rows], minlength=cell.max() + 1)
    present = all_of_them > 0
    if present.sum() <= most:
        assert (chosen[present] > 0).all()
        share = (all_of_them - present) * (len(rows) - present.sum()) / max(images - present.sum(), 1)
        assert np.abs(chosen - present - share).max() <= 1  # one of each, and the shares of the others


def test_another_seed_chooses_other_images() -> None:
    target, fold = np.zeros(500, np.int64), np.arange(500) % 3
    assert not np.array_equal(stratified_rows(target, fold, 90, 0), stratified_rows(target, fold, 90, 1))


def test_penalties_of_many_images_are_chosen_on_the_subset(monkeypatch: pytest.MonkeyPatch) -> None:
    features, target = images()
    fold = np.arange(len(target)) % 3
    rows = stratified_rows(target.numpy(), fold, 90, 4)
    expected = brute_force_scores(features[rows], target[rows], fold[rows])
    monkeypatch.setattr("tametail.training.heads.minimum._MOST_FOR_CHOICE", 90)
    (found,) = minimum(["ce"], features, target, seed=4).convergence
    assert found.l2 == min(expected, key=lambda l2: expected[l2])
    for l2, score in found.l2_scores.items():
        assert score == pytest.approx(expected[float(l2)], rel=5e-3)
    (head,) = minimum(["ce"], features, target, seed=4).heads  # of all images
    reference = logistic_regression(features, target, found.l2)
    assert (
        np.abs(head.weight.detach().numpy() - reference.coef_).max() <= 1e-3 * np.abs(reference.coef_).max()
    )


def test_stopping_passes_through() -> None:
    features, target = images(n=60)
    tasks = [task("ce", counts_of(target), features.shape[1])]

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_to_minimum(
            features,
            target,
            tasks,
            class_counts=counts_of(target),
            fold=np.arange(60) % 3,
            seed=0,
            stop=stop,
        )


def test_folds_are_kept_or_made_with_whole_groups() -> None:
    target = np.arange(12) % 2
    given = np.arange(12) % 4
    assert inner_folds(given, target) is given
    groups = np.arange(12) // 2
    made = inner_folds(np.zeros(12, dtype=np.int64), target, groups)
    assert set(made) == {0, 1, 2}
    assert all(len(set(made[groups == group])) == 1 for group in set(groups))


@pytest.mark.parametrize("shape", [(50, 8), (8, 50)])
def test_components_are_an_orthonormal_basis_of_the_features(shape: tuple[int, int]) -> None:
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    features = features - features.mean(0)
    found = principal_components(features)
    columns, axes = found.columns[:, :-1], found.axes
    torch.testing.assert_close(columns @ axes, features, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(axes @ axes.T, torch.eye(len(axes)), atol=1e-4, rtol=0)
    gram = columns.T @ columns / len(columns)
    torch.testing.assert_close(gram, torch.diag(found.variances[:-1]), atol=1e-3, rtol=0)
    weight, bias = torch.randn(3, shape[1]) @ axes.T @ axes, torch.randn(3)
    there = found.of_weights(weight, bias)
    torch.testing.assert_close(found.weights(there), weight, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        there @ found.columns.T, weight @ features.T + bias.unsqueeze(1), atol=1e-3, rtol=0
    )


CONVEX = [
    "ce",
    "ce[label_smoothing=0.1]",
    "bce",
    "bce[tau=1]",
    "balanced_softmax",
    "weighted_ce",
    "lade",
    "focal[gamma=0]",
]
NOT_CONVEX = ["alpa", "alpa[variant=pade]", "hill", "asl", "focal", "focal_softmax"]


@pytest.mark.parametrize(
    ("loss", "expected"), [*((name, True) for name in CONVEX), *((name, False) for name in NOT_CONVEX)]
)
def test_convex_losses_are_told_from_others(loss: str, expected: bool) -> None:
    assert is_convex(parse_loss(loss).create([9, 5, 3, 2]), 4) is expected


@pytest.mark.parametrize("classes", [2, CLASSES])
def test_logistic_regression_is_cross_entropy_at_its_minimum(classes: int) -> None:
    features, target = images()
    target = target.clamp(max=classes - 1)
    counts = torch.bincount(target).tolist()
    tasks = []
    for name in ("ce", "logistic_regression"):
        method = parse_method(name)
        head = nn.Linear(features.shape[1], classes)
        recipe = method.configure(load_recipe("head"))
        tasks.append(HeadTask(method.loss.create(counts), recipe, head, method.classical))
    fold = np.arange(len(target)) % 3
    found = train_to_minimum(features, target, tasks, class_counts=counts, fold=fold, seed=0)
    entropy, classical = found.convergence
    assert classical.converged
    assert classical.l2 == entropy.l2
    assert classical.objective == pytest.approx(entropy.objective, rel=1e-6)
    outputs, others = (head(features) for head in found.heads)
    different = outputs - others
    assert (different - different.mean(1, keepdim=True)).abs().max() <= 2e-3 * outputs.abs().max()


def test_a_class_without_images_is_never_predicted_by_logistic_regression() -> None:
    features, target = images()
    method = parse_method("logistic_regression")
    recipe = method.configure(load_recipe("head", assignments=["l2=0.1"]))
    of = HeadTask(method.loss.create([*counts_of(target), 0]), recipe, nn.Linear(24, CLASSES + 1), True)
    fold = np.arange(len(target)) % 3
    counts = [*counts_of(target), 0]
    (head,) = train_to_minimum(features, target, [of], class_counts=counts, fold=fold, seed=0).heads
    assert (head(features).softmax(1)[:, CLASSES] == 0).all()


def test_logistic_regression_fits_heads_alone() -> None:
    with pytest.raises(UsageError, match="heads on frozen features"):
        parse_method("logistic_regression").configure(load_recipe("quick"))
    with pytest.raises(UsageError, match="use ce instead"):
        parse_method("logistic_regression+drw").configure(load_recipe("head"))
    method = parse_method("logistic_regression+la")
    assert method.text == "logistic_regression+la"
    assert method.base.classical


def test_a_head_whose_steps_all_fail_is_given_up_soon() -> None:
    """A gradient of the wrong sign leads nowhere."""
    from tametail.training.heads.lbfgs import minimise

    columns = torch.cat([torch.randn(30, 3), torch.ones(30, 1)], dim=1)

    def losses(outputs: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        return (outputs - 1).square().mean((1, 2)).double(), -2 * (outputs - 1) / outputs[0].numel()

    (found,), _, evaluations = minimise(
        losses, columns, columns.square().mean(0), torch.ones(1), torch.zeros(1, 2, 4), at_once=1
    )
    assert not found.converged
    assert evaluations < 100
