"""Heads that are trained together come out as each would alone, by the trainer that knows nothing of the others."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tametail.data import row_store
from tametail.data.sampling.loaders import TrainingBatches, training_batches
from tametail.losses import list_losses
from tametail.training.checkpointing.checkpointer import Stopped
from tametail.training.hardware import make_accelerator, torch_threads
from tametail.training.heads.head_step import HeadTask
from tametail.training.heads.head_training import TrainedHeads, batch_heads, train_heads
from tametail.training.history import Validation
from tametail.training.optimisation import batch_mixing
from tametail.training.recipe import Recipe, load_recipe
from tametail.training.strategies import Method, parse_method
from tametail.training.trainer import TrainingResult, train

N, D, C, SEED = 150, 12, 4, 5
RANDOM = np.random.default_rng(0)
TARGET = np.concatenate([np.arange(C), RANDOM.choice(C, N - C, p=[0.7, 0.2, 0.06, 0.04])])
FEATURES = (RANDOM.normal(size=(N, D)) + 1.5 * np.eye(C, D)[TARGET]).astype(np.float32)
COUNTS = np.bincount(TARGET, minlength=C).tolist()
METHODS = [
    *list_losses(),
    "alpa[tau=1]",
    "alpa[gamma_neg=2.5]",
    "alpa[variant=code]",
    "alpa[variant=pade]",
    "ce+drw",
    "alpa+drw",
    "ldam+drw",
    "ce+normalised",
    "torch.nn:CrossEntropyLoss",
]


FEW = ["alpa", "alpa[tau=1]", "asl", "ce", "seql", "ldam+drw", "ce+normalised"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Operations this small are not worth sharing out."""
    with torch_threads(1):
        yield


def recipe(*assignments: str) -> Recipe:
    """A recipe that trains step by step."""
    changes = ["optimizer.kind=adamw", *assignments]
    return load_recipe("head", fields={"epochs": 2, "batch_size": 64}, assignments=changes)


def batches(settings: Recipe) -> TrainingBatches:
    return training_batches(
        FEATURES,
        np.arange(N),
        TARGET,
        batch_size=64,
        seed=SEED,
        sampler=settings.sampler,
        epochs=settings.epochs,
    )


def fresh(method: Method, settings: Recipe) -> nn.Module:
    torch.manual_seed(SEED)
    return method.build_head(D, C, settings.head)


def together(texts: list[str], settings: list[Recipe], **more: Any) -> TrainedHeads:
    methods = [parse_method(text) for text in texts]
    tasks = [
        HeadTask(method.loss.create(COUNTS), method.configure(own), fresh(method, own))
        for method, own in zip(methods, settings, strict=True)
    ]
    features, target = torch.from_numpy(FEATURES), torch.from_numpy(TARGET)
    accelerator = make_accelerator(settings[0], "cpu")
    mixing = batch_mixing(settings[0], COUNTS, SEED)
    more = {"seed": SEED, "class_counts": COUNTS, "mixing": mixing} | more
    return train_heads(features, target, tasks, batches(tasks[0].recipe), accelerator, **more)


def lock(text: str, settings: Recipe) -> TrainingResult:
    method = parse_method(text)
    configured = method.configure(settings)
    return train(
        fresh(method, settings),
        method.loss.create(COUNTS),
        batches(configured),
        configured,
        make_accelerator(settings, "cpu"),
        seed=SEED,
        class_counts=COUNTS,
        mixing=batch_mixing(configured, COUNTS, SEED),
    )


@torch.no_grad()
def outputs(head: nn.Module) -> Tensor:
    found: Tensor = head(torch.from_numpy(FEATURES))
    return found


def assert_same(trained: TrainedHeads, texts: list[str], settings: list[Recipe]) -> None:
    read = trained.outputs(torch.from_numpy(FEATURES))
    for at, (text, own) in enumerate(zip(texts, settings, strict=True)):
        one = lock(text, own)
        expected = outputs(one.model)
        scale = float(expected.abs().max())
        assert float((read[at] - expected).abs().max()) < 1e-5 * scale, text
        assert float((outputs(trained.head(at)) - read[at]).abs().max()) < 1e-6 * scale, text
        for ours, theirs in zip(trained.histories[at], one.history, strict=True):
            assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
            assert (ours.epoch, ours.step, ours.lr) == (theirs.epoch, theirs.step, pytest.approx(theirs.lr))


@pytest.mark.parametrize(
    "assignments",
    [
        (),
        ("gradient_clip=0.05",),
        ("ema_decay=0.99",),
        ("label_smoothing=0.1",),
        ("optimizer.kind=sgd", "optimizer.lr=0.1"),
        ("optimizer.kind=adam",),
        ("mixing.kind=remix",),
        ("sampler=balanced",),
        ("schedule=constant", "warmup_epochs=0"),
    ],
)
@pytest.mark.slow
def test_a_head_gets_the_weights_of_training_it_alone(assignments: tuple[str, ...]) -> None:
    texts = FEW if assignments else METHODS
    settings = [recipe(*assignments)] * len(texts)
    assert_same(together(texts, settings), texts, settings)


def test_each_head_has_its_own_learning_rate_and_weight_decay() -> None:
    rates = [(2e-3, 1e-2), (1e-2, 0.0), (5e-4, 0.5), (2e-3, 0.3), (1e-2, 1e-2)]
    settings = [recipe(f"optimizer.lr={lr}", f"optimizer.weight_decay={decay}") for lr, decay in rates]
    texts = ["ce", "alpa", "ce", "ldam", "alpa[gamma_neg=1]"]
    assert_same(together(texts, settings), texts, settings)


def test_features_in_blocks_change_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [recipe()] * len(FEW)
    whole = together(FEW, settings)
    features = torch.from_numpy(FEATURES)
    expected = whole.outputs(features)
    monkeypatch.setattr(row_store, "BLOCK_BYTES", 40 * D * 4)
    found = together(FEW, settings)
    for at in range(len(FEW)):
        for ours, theirs in zip(found.head(at).parameters(), whole.head(at).parameters(), strict=True):
            assert torch.equal(ours, theirs)
    torch.testing.assert_close(found.outputs(features), expected, rtol=1e-5, atol=1e-5)
    assert found.outputs(features[:0]).shape == (len(FEW), 0, C)


def test_batches_of_heads_bound_the_memory_and_change_nothing() -> None:
    texts = ["alpa[gamma_neg=1]", "ce", "alpa[gamma_neg=2]", "bce", "alpa"]
    settings = [recipe()] * 5
    heads = [fresh(parse_method(text), settings[0]) for text in texts]
    found = batch_heads(heads, 64, most_bytes=2 * 4 * (4 * (D + 1) * C + 16 * C * 64))
    assert found == [[0, 1], [2, 3], [4]]
    assert batch_heads(heads, 64, most_bytes=1) == [[0], [1], [2], [3], [4]]
    assert batch_heads([], 64) == []
    assert batch_heads(heads, 64, least=4) == [[0, 1, 2, 3, 4]], "few heads are not worth dividing"
    assert [len(part) for part in batch_heads(heads * 8, 64, least=4)] == [10, 10, 10, 10]
    whole = together(texts, settings).outputs(torch.from_numpy(FEATURES))
    for places in found:
        part = together([texts[at] for at in places], [settings[at] for at in places])
        torch.testing.assert_close(
            part.outputs(torch.from_numpy(FEATURES)), whole[places], rtol=1e-4, atol=1e-5
        )


def test_a_failed_head_does_not_affect_the_others() -> None:
    settings = [recipe(), recipe("optimizer.lr=1e30"), recipe()]
    trained = together(["ce", "ce", "alpa"], settings)
    assert [failure is not None for failure in trained.failures] == [False, True, False]
    failure = trained.failures[1]
    assert failure is not None
    assert failure.epoch == 0
    assert failure.step is not None
    assert "the loss became" in str(failure)
    read = trained.outputs(torch.from_numpy(FEATURES))
    for at in (0, 2):
        assert (
            float((read[at] - outputs(lock(["ce", "", "alpa"][at], settings[at]).model)).abs().max()) < 1e-4
        )


def test_recipes_with_different_shared_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="differ only in lr, weight_decay, l2, reweighting and head"):
        together(["ce", "ce"], [recipe(), recipe("epochs=3")])


def test_validations_are_recorded_for_each_head() -> None:
    def evaluate(trained: TrainedHeads) -> list[Validation]:
        assert trained.outputs(torch.from_numpy(FEATURES)).shape == (2, N, C)
        return [Validation(0.25, 0.5), Validation(0.75, float("nan"))]

    trained = together(["ce", "alpa"], [recipe()] * 2, validate=evaluate)
    assert [record.val_balanced_accuracy for record in trained.histories[1]] == [0.75] * 2
    assert [record.val_few_shot_recall for record in trained.histories[1]] == [None] * 2


class Memory:
    """A checkpointer that saves at every step and requests a stop at one of them."""

    def __init__(self, stop_at: int | None) -> None:
        self.kept: tuple[Mapping[str, Tensor], Mapping[str, Any]] | None = None
        self.stop_at, self.asked = stop_at, 0

    def load(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]] | None:
        return self.kept

    def due(self) -> bool:
        return True

    def stop_requested(self) -> bool:
        self.asked += 1
        return self.asked == self.stop_at

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        import json

        self.kept = ({name: value.clone() for name, value in tensors.items()}, json.loads(json.dumps(state)))


@pytest.mark.parametrize("stop_at", range(1, 6))
@pytest.mark.parametrize("assignments", [(), ("ema_decay=0.9", "optimizer.kind=sgd")])
def test_resumed_from_any_step_the_result_is_bit_identical(
    stop_at: int, assignments: tuple[str, ...]
) -> None:
    texts = ["ce", "alpa", "seql", "ldam", "ce+normalised"]
    settings = [recipe(*assignments)] * 5
    whole = together(texts, settings)
    memory = Memory(stop_at)
    with pytest.raises(Stopped):
        together(texts, settings, checkpointer=memory)
    memory.stop_at = None
    resumed = together(texts, settings, checkpointer=memory)
    same = torch.from_numpy(FEATURES)
    assert torch.equal(resumed.outputs(same), whole.outputs(same))
    for ours, theirs in zip(resumed.histories, whole.histories, strict=True):
        timeless = [replace(record, seconds=0.0, images_per_second=0.0) for record in ours]
        assert timeless == [replace(record, seconds=0.0, images_per_second=0.0) for record in theirs]


class Counting(nn.Module):
    """A loss of the user's own with a state that changes what it gives, and numbers drawn when it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("weights", torch.rand(C))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return nn.functional.cross_entropy(input, target, weight=self.weights) * (1 + self.calls / 10)


def test_the_state_of_a_custom_loss_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "counting", SimpleNamespace(Counting=Counting))
    texts, settings = ["counting:Counting", "ce"], [recipe()] * 2
    torch.manual_seed(SEED)
    whole = together(texts, settings)
    memory = Memory(3)
    torch.manual_seed(SEED)
    with pytest.raises(Stopped):
        together(texts, settings, checkpointer=memory)
    memory.stop_at = None
    resumed = together(texts, settings, checkpointer=memory)
    same = torch.from_numpy(FEATURES)
    assert torch.equal(resumed.outputs(same), whole.outputs(same))


def test_labels_of_several_classes() -> None:
    labels = torch.from_numpy(RANDOM.random((N, C)) < 0.3).float()
    settings = recipe()
    tasks = [
        HeadTask(parse_method(text).loss.create(COUNTS), settings, fresh(parse_method(text), settings))
        for text in ("alpa", "bce")
    ]
    accelerator = make_accelerator(settings, "cpu")
    order = training_batches(FEATURES, np.arange(N), labels.numpy(), batch_size=64, seed=SEED)
    features = torch.from_numpy(FEATURES)
    trained = train_heads(features, labels, tasks, order, accelerator, seed=SEED, class_counts=COUNTS)
    for at, text in enumerate(("alpa", "bce")):
        method = parse_method(text)
        one = train(
            fresh(method, settings), method.loss.create(COUNTS), order, settings, accelerator, seed=SEED
        )
        torch.testing.assert_close(trained.outputs(features)[at], outputs(one.model), rtol=1e-4, atol=1e-5)
