from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from tametail.data.loaders import training_batches
from tametail.data.mixing import BatchMixing
from tametail.errors import UsageError
from tametail.training.recipe import Recipe
from tametail.training.trainer import (
    EpochRecord,
    NonFiniteError,
    history_csv,
    learning_rate,
    make_accelerator,
    predict_logits,
    train,
)


def recipe(**changes: object) -> Recipe:
    fields: dict[str, object] = {
        "name": "test",
        "trains": "head",
        "backbone": "none",
        "epochs": 20,
        "batch_size": 16,
        "optimizer": {"lr": 0.05},
    }
    return Recipe.model_validate(fields | changes)


def clusters(n: int = 90) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, n)
    return (rng.normal(0, 0.5, (n, 4)) + np.eye(3, 4)[target] * 3).astype(np.float32), target


def trained(**changes: object) -> tuple[nn.Module, list[EpochRecord]]:
    array, target = clusters()
    settings = recipe(**changes)
    torch.manual_seed(0)
    batches = training_batches(array, np.arange(len(array)), target, batch_size=settings.batch_size, seed=0)
    return train(nn.Linear(4, 3), nn.CrossEntropyLoss(), batches, settings, make_accelerator(settings, "cpu"))


def test_training_learns_and_repeats_bit_for_bit() -> None:
    array, target = clusters()
    model, history = trained()
    logits = predict_logits(model, array, np.arange(len(array)), make_accelerator(recipe(), "cpu"))
    assert (logits.argmax(1) == target).mean() > 0.95
    assert history[-1].loss < history[0].loss
    assert [record.epoch for record in history] == list(range(1, 21))
    again, _ = trained()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["mixup", "remix"])
def test_mixed_features_train_too_and_repeat_bit_for_bit(kind: Literal["mixup", "remix"]) -> None:
    array, target = clusters()
    settings = recipe()
    weights = []
    for _ in range(2):
        torch.manual_seed(0)
        model, _ = train(
            nn.Linear(4, 3),
            nn.CrossEntropyLoss(),
            training_batches(array, np.arange(90), target, batch_size=16, seed=0, sampler="balanced"),
            settings,
            make_accelerator(settings, "cpu"),
            mixing=BatchMixing(kind, alpha=0.2, probability=0.8, class_counts=[30, 30, 30], seed=0),
        )
        weights.append(model.weight)
    assert torch.equal(*weights)
    plain, _ = trained()
    assert not torch.equal(weights[0], plain.weight)
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
    plain, _ = trained(epochs=2)
    averaged, _ = trained(epochs=2, ema_decay=0.9)
    weights = averaged.state_dict()["weight"]
    assert not torch.equal(weights, plain.state_dict()["weight"])
    assert float(weights.abs().mean()) < float(plain.state_dict()["weight"].abs().mean())


def test_the_rate_rises_then_falls_to_zero() -> None:
    settings = recipe(epochs=10, warmup_epochs=2.0, optimizer={"lr": 1.0})
    rates = [learning_rate(t / 10, settings) for t in range(101)]
    assert rates[0] < 0.01
    assert rates[20] == 1.0
    assert all(a < b for a, b in itertools.pairwise(rates[:21]))
    assert all(a > b for a, b in itertools.pairwise(rates[20:]))
    assert rates[100] == pytest.approx(0, abs=1e-12)


def test_a_non_finite_loss_stops_the_run_and_names_the_step() -> None:
    class Breaks(nn.Module):
        calls = 0

        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return logits.sum() * (float("nan") if self.calls == 8 else 1.0)

    array, target = clusters()
    settings = recipe()
    batches = training_batches(array, np.arange(90), target, batch_size=16, seed=0)
    with pytest.raises(NonFiniteError, match=r"nan at step 8 \(epoch 2\).*--lr"):
        train(nn.Linear(4, 3), Breaks(), batches, settings, make_accelerator(settings, "cpu"))


def test_prediction_leaves_the_models_mode_as_it_was_and_keeps_the_order() -> None:
    array, _ = clusters(10)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3))
    accelerator = make_accelerator(recipe(), "cpu")
    rows = np.array([7, 2, 5])
    logits = predict_logits(model, array, rows, accelerator, batch_size=2)
    assert model.training
    expected = model[1](torch.from_numpy(array[rows])).detach().numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-6)


def test_an_absent_device_is_refused() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match=r"one this machine has \(.*\), got 'cuda'"):
            make_accelerator(recipe(), "cuda")


def test_history_is_csv() -> None:
    text = history_csv([EpochRecord(1, 5, 0.25, 1e-3)])
    assert text == "epoch,step,loss,lr\n1,5,0.25,0.001\n"
