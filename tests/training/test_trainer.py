from __future__ import annotations

import copy
import json
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from tametail import losses
from tametail.data.sampling.loaders import training_batches
from tametail.data.sampling.mixing import BatchMixing
from tametail.training.checkpointing.checkpointer import Stopped
from tametail.training.hardware import Hardware, make_accelerator
from tametail.training.history import Validation, history_csv
from tametail.training.inference import predict_logits
from tametail.training.optimisation import class_weights
from tametail.training.recipe import Recipe
from tametail.training.trainer import RunFailed, TrainingResult, train


def recipe(**changes: object) -> Recipe:
    fields: dict[str, object] = {
        "name": "test",
        "trains": "head",
        "backbone": "none",
        "epochs": 10,
        "batch_size": 16,
        "optimizer": {"lr": 0.05},
    }
    return Recipe.model_validate(fields | changes)


def clusters(n: int = 90) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, n)
    return (rng.normal(0, 0.5, (n, 4)) + np.eye(3, 4)[target] * 3).astype(np.float32), target


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 3))


def trained(
    model: nn.Module | None = None, loss: nn.Module | None = None, *, options: Any = None, **changes: object
) -> TrainingResult:
    array, target = clusters()
    settings = recipe(**changes)
    torch.manual_seed(0)
    batches = training_batches(
        array,
        np.arange(len(array)),
        target,
        batch_size=settings.batch_size,
        seed=0,
        sampler=settings.sampler,
        epochs=settings.epochs,
    )
    return train(
        model or nn.Linear(4, 3),
        loss or nn.CrossEntropyLoss(),
        batches,
        settings,
        make_accelerator(settings, "cpu"),
        class_counts=np.bincount(target).tolist(),
        **(options or {}),
    )


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_training_learns_and_repeats_bit_for_bit() -> None:
    array, target = clusters()
    result = trained()
    logits = predict_logits(result.model, array, np.arange(len(array)), make_accelerator(recipe(), "cpu"))
    assert (logits.argmax(1) == target).mean() > 0.95
    assert result.history[-1].loss < result.history[0].loss
    assert [record.epoch for record in result.history] == list(range(1, 11))
    assert same(result.model, trained().model)


@pytest.mark.parametrize("kind", ["mixup", "remix"])
def test_mixed_features_train_too_and_repeat_bit_for_bit(kind: Literal["mixup", "remix"]) -> None:
    array, target = clusters()
    settings = recipe()
    weights = []
    for _ in range(2):
        torch.manual_seed(0)
        model = train(
            nn.Linear(4, 3),
            nn.CrossEntropyLoss(),
            training_batches(array, np.arange(90), target, batch_size=16, seed=0, sampler="balanced"),
            settings,
            make_accelerator(settings, "cpu"),
            mixing=BatchMixing(kind, alpha=0.2, probability=0.8, class_counts=[30, 30, 30], seed=0),
        ).model
        weights.append(model.weight)
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], trained().model.weight)
    logits = predict_logits(model, array, np.arange(90), make_accelerator(settings, "cpu"))
    assert (logits.argmax(1) == target).mean() > 0.95


def test_the_last_steps_weights_are_the_result_without_averaging() -> None:
    """One step of AdamW from known weights, against torch's own, by hand."""
    array, target = clusters(16)
    settings = recipe(epochs=1, warmup_epochs=0.0, optimizer={"lr": 0.05, "weight_decay": 0.1})
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    by_hand = nn.Linear(4, 3)
    by_hand.load_state_dict(model.state_dict())
    batches = training_batches(array, np.arange(16), target, batch_size=16, seed=0)
    train(model, nn.CrossEntropyLoss(), batches, settings, make_accelerator(settings, "cpu"))
    optimizer = torch.optim.AdamW(
        [{"params": [by_hand.weight], "weight_decay": 0.1}, {"params": [by_hand.bias], "weight_decay": 0.0}],
        lr=0.05,
    )
    nn.functional.cross_entropy(by_hand(torch.from_numpy(array)), torch.from_numpy(target)).backward()
    optimizer.step()
    torch.testing.assert_close(model.weight, by_hand.weight)
    torch.testing.assert_close(model.bias, by_hand.bias)


def test_averaged_weights_are_an_average() -> None:
    plain = trained(epochs=2).model.state_dict()["weight"]
    weights = trained(epochs=2, ema_decay=0.9).model.state_dict()["weight"]
    assert not torch.equal(weights, plain)
    assert float(weights.abs().mean()) < float(plain.abs().mean())


def test_a_non_finite_loss_stops_the_run_and_names_the_step() -> None:
    class Breaks(nn.Module):
        calls = 0

        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return logits.sum() * (float("nan") if self.calls == 8 else 1.0)

    array, target = clusters()
    settings = recipe()
    batches = training_batches(array, np.arange(90), target, batch_size=16, seed=0)
    with pytest.raises(RunFailed, match=r"nan at step 2 of epoch 2.*--lr") as caught:
        train(nn.Linear(4, 3), Breaks(), batches, settings, make_accelerator(settings, "cpu"))
    assert (caught.value.epoch, caught.value.step) == (1, 1)


def test_prediction_leaves_the_models_mode_as_it_was_and_keeps_the_order() -> None:
    array, _ = clusters(10)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3))
    accelerator = make_accelerator(recipe(), "cpu")
    rows = np.array([7, 2, 5])
    logits = predict_logits(model, array, rows, accelerator, batch_size=2)
    assert model.training
    expected = model[1](torch.from_numpy(array[rows])).detach().numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-6)


@pytest.mark.parametrize("micro_batch", [1, 5, 16, 100])
def test_micro_batches_add_up_to_the_batch(micro_batch: int) -> None:
    """Twice differently rounded sums, but the same mean: the last batch of 90 images, which has 10, too."""
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 3))
    other = copy.deepcopy(model)
    whole = trained(model, epochs=2, optimizer={"kind": "sgd", "lr": 0.1})
    parts = trained(
        other,
        epochs=2,
        optimizer={"kind": "sgd", "lr": 0.1},
        options={"hardware": Hardware(micro_batch=micro_batch)},
    )
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert parts.history[1].loss == pytest.approx(whole.history[1].loss, rel=1e-5)
    assert parts.micro_batch == micro_batch


class Greedy(nn.Linear):
    """A layer that has memory for so many images."""

    def __init__(self, room: int) -> None:
        super().__init__(4, 3)
        self.room = room

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("no room")
        return super().forward(images)


def test_out_of_memory_reduces_micro_batches_without_changing_the_result() -> None:
    torch.manual_seed(1)
    cramped = Greedy(room=5)
    roomy = copy.deepcopy(cramped)
    roomy.room = 16
    result = trained(cramped, epochs=2)
    assert result.micro_batch == 4
    expected = trained(roomy, epochs=2)
    torch.testing.assert_close(result.model.weight, expected.model.weight, rtol=1e-4, atol=1e-6)


def test_out_of_memory_for_one_image_fails_the_run_and_names_the_step() -> None:
    with pytest.raises(RunFailed, match="even for one image") as caught:
        trained(Greedy(room=0))
    assert (caught.value.epoch, caught.value.step) == (0, 0)


class Memory:
    """A checkpointer that saves after every step, and requests a stop after the step ``stop_after``."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.kept: tuple[dict[str, torch.Tensor], dict[str, Any]] | None = None
        self.stop_after = stop_after
        self.asked = 0

    def load(self) -> Any:
        return self.kept

    def due(self) -> bool:
        return True

    def stop_requested(self) -> bool:
        self.asked += 1
        return self.asked == self.stop_after

    def save(self, tensors: Any, state: Any) -> None:
        self.kept = ({k: v.clone() for k, v in tensors.items()}, json.loads(json.dumps(state)))


@pytest.mark.parametrize("stop_after", [1, 3, 6, 7, 11])  # 6 steps an epoch: within one, at its end, later
def test_a_resumed_run_gives_the_identical_result(stop_after: int) -> None:
    settings = {
        "epochs": 3,
        "ema_decay": 0.9,
        "sampler": "balanced",
        "gradient_clip": 1.0,
        "reweighting": "deferred",
        "deferred_from": 0.5,
    }
    watched: dict[str, Any] = {"validate": lambda model: Validation(model[0].weight.sum().item(), 0.0)}
    undisturbed = trained(small_model(), losses.CrossEntropyLoss(), options=watched, **settings)
    checkpointer = Memory(stop_after)
    with pytest.raises(Stopped):
        trained(
            small_model(),
            losses.CrossEntropyLoss(),
            options=watched | {"checkpointer": checkpointer},
            **settings,
        )
    assert checkpointer.kept is not None
    resumed = trained(
        small_model(), losses.CrossEntropyLoss(), options=watched | {"checkpointer": checkpointer}, **settings
    )
    assert same(undisturbed.model, resumed.model)
    assert history_csv(undisturbed.history) == history_csv(resumed.history)


def test_dropout_depends_on_the_seed_and_nothing_else() -> None:
    first = trained(small_model(), epochs=1, options={"seed": 5})
    torch.rand(7)
    assert same(first.model, trained(small_model(), epochs=1, options={"seed": 5}).model)
    assert not same(first.model, trained(small_model(), epochs=1, options={"seed": 6}).model)


def test_class_weights_enter_the_mean() -> None:
    """One step of SGD by hand, with the weights that the recipe says."""
    array, target = clusters(16)
    counts = np.bincount(target, minlength=3).tolist()
    settings = recipe(
        epochs=1, batch_size=16, optimizer={"kind": "sgd", "lr": 0.1, "momentum": 0.0}, reweighting="always"
    )
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    by_hand = copy.deepcopy(model)
    batches = training_batches(array, np.arange(16), target, batch_size=16, seed=0)
    train(
        model,
        losses.CrossEntropyLoss(),
        batches,
        settings,
        make_accelerator(settings, "cpu"),
        class_counts=counts,
    )
    weights = class_weights(settings, 0, counts)
    assert weights is not None
    assert len(set(weights.tolist())) > 1
    each = nn.functional.cross_entropy(
        by_hand(torch.from_numpy(array)), torch.from_numpy(target), reduction="none"
    )
    (each * weights[target]).mean().backward()
    assert by_hand.weight.grad is not None
    torch.testing.assert_close(model.weight, by_hand.weight - 0.1 * by_hand.weight.grad)
