"""One step: in parts, with memory that runs short, and for losses that look at whole batches."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fixtures.forked import fork_server
from tametail import losses
from tametail.core.errors import UsageError
from tametail.losses.custom import import_loss
from tametail.training.hardware import Hardware, OutOfMemory, make_accelerator
from tametail.training.recipe import Recipe
from tametail.training.step import Stepper, check_whole_batches, needs_whole_batches, part_sizes


def stepper(
    model: nn.Module, loss: nn.Module | None = None, *, micro_batch: int | None = None, **changes: object
) -> Stepper:
    fields: dict[str, Any] = {
        "name": "test",
        "trains": "head",
        "backbone": "none",
        "epochs": 1,
        "batch_size": 16,
        "optimizer": {"kind": "sgd", "lr": 0.1},
    }
    recipe = Recipe.model_validate(fields | changes)
    accelerator = make_accelerator(recipe, "cpu")
    return Stepper(
        model, loss or losses.CrossEntropyLoss(), recipe, accelerator, Hardware("cpu", micro_batch)
    )


def batch(images: int = 16, step: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(images, 4, generator=generator), torch.randint(3, (images,), generator=generator)


class Cramped(nn.Module):
    """A network with memory for so many images; it keeps how many it was given, and fails in forward or backward."""

    def __init__(self, room: int, norm: type[nn.Module] = nn.LayerNorm, *, backward: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 8), norm(8), nn.Dropout(0.0), nn.Linear(8, 3))
        self.room = room
        self.backward = backward
        self.given: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.given.append(len(inputs))
        logits: Tensor = self.layers(inputs)
        if len(inputs) > self.room:
            if not self.backward:
                raise torch.OutOfMemoryError("no room")
            logits.register_hook(_no_room)
        return logits


def _no_room(gradient: Tensor) -> None:
    raise torch.OutOfMemoryError("no room")


def weights(training: Stepper) -> list[Tensor]:
    return [parameter.detach() for parameter in training.model.parameters()]


@pytest.mark.parametrize(
    ("images", "most", "fewest"), [(16, 5, 1), (10, 16, 1), (7, 1, 1), (16, 15, 2), (3, 2, 1)]
)
def test_micro_batches_are_as_torch_splits_a_tensor(images: int, most: int, fewest: int) -> None:
    expected = [len(part) for part in torch.arange(images).tensor_split(-(-images // most))]
    assert part_sizes(images, most, fewest) == expected


def test_no_micro_batch_is_smaller_than_the_minimum() -> None:
    for images in range(2, 40):
        for most in range(2, images + 1):
            sizes = part_sizes(images, most, 2)
            assert sum(sizes) == images
            assert 2 <= min(sizes) <= max(sizes) <= max(most, 3)
            assert max(sizes) - min(sizes) <= 1
    assert part_sizes(5, 2, 2) == [3, 2]
    assert part_sizes(1, 2, 2) == [1]


@pytest.mark.parametrize("micro_batch", [1, 3, 5, 15])
def test_a_step_with_micro_batches_equals_the_step_with_the_batch(micro_batch: int) -> None:
    whole, parts = stepper(Cramped(16)), stepper(Cramped(16), micro_batch=micro_batch)
    for step in range(3):
        a, b = (training.update(*batch(16 - step, step), 1.0, 0.1) for training in (whole, parts))
        assert float(a) == pytest.approx(float(b), rel=1e-5)
    torch.testing.assert_close(weights(whole), weights(parts), rtol=1e-5, atol=1e-6)
    assert max(parts.model.given) <= micro_batch


def test_batch_normalisation_gets_no_micro_batch_of_one_image() -> None:
    """16 in parts of 5 were 5, 5, 5 and 1."""
    training = stepper(Cramped(16, nn.BatchNorm1d), micro_batch=5)
    training.update(*batch(), 1.0, 0.1)
    assert training.model.given == [4, 4, 4, 4]
    lock = stepper(Cramped(16, nn.BatchNorm1d), micro_batch=1)
    lock.update(*batch(5), 1.0, 0.1)
    assert lock.model.given == [3, 2]


@pytest.mark.parametrize("backward", [False, True])
def test_micro_batches_are_halved_until_they_fit(backward: bool) -> None:
    cramped, roomy = stepper(Cramped(5, backward=backward)), stepper(Cramped(16))
    for step in range(2):
        for training in (cramped, roomy):
            training.update(*batch(16, step), 1.0, 0.1)
    assert cramped.micro_batch == 4
    assert cramped.model.given == [16, 8, *[4] * 8]
    torch.testing.assert_close(weights(cramped), weights(roomy), rtol=1e-5, atol=1e-6)


def test_random_numbers_are_repeated_for_smaller_micro_batches() -> None:
    drawn: list[float] = []

    class Drawing(Cramped):
        def forward(self, inputs: Tensor) -> Tensor:
            drawn.append(float(torch.rand(())))
            return super().forward(inputs)

    stepper(Drawing(8)).update(*batch(), 1.0, 0.1)
    assert drawn[0] == drawn[1] != drawn[2]


def test_batch_normalisation_needs_micro_batches_of_two_images() -> None:
    training = stepper(Cramped(2, nn.BatchNorm1d))
    training.update(*batch(), 1.0, 0.1)
    assert training.micro_batch == 2
    for images, few in ((16, 2), (3, 3)):
        with pytest.raises(
            OutOfMemory, match=f"even for {few} images at a time, and batch normalisation needs two"
        ):
            stepper(Cramped(few - 1, nn.BatchNorm1d)).update(*batch(images), 1.0, 0.1)
    with pytest.raises(OutOfMemory, match="even for one image at a time; choose"):
        stepper(Cramped(0)).update(*batch(), 1.0, 0.1)


def test_other_errors_are_not_out_of_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        stepper(nn.Linear(5, 3)).update(*batch(), 1.0, 0.1)


def test_out_of_memory_in_the_optimizer_is_an_error_and_the_step_is_not_repeated() -> None:
    training = stepper(Cramped(16))
    calls = []

    def step(*_: object) -> None:
        calls.append(0)
        raise torch.OutOfMemoryError("no room for the moments")

    training.optimizer.optimizer.step = step  # type: ignore[method-assign]
    with pytest.raises(OutOfMemory, match=r"in the optimizer step.*cannot be repeated.*--backbone"):
        training.update(*batch(), 1.0, 0.1)
    assert len(calls) == 1


def test_a_batchwise_loss_gets_no_micro_batches() -> None:
    lade, custom = (
        losses.create_loss("lade", class_counts=[5, 3, 2]),
        import_loss("torch.nn:CrossEntropyLoss")(),
    )
    assert [needs_whole_batches(loss) for loss in (lade, custom, nn.CrossEntropyLoss())] == [
        True,
        False,
        False,
    ]
    with pytest.raises(
        UsageError,
        match=r"lade compares .* whole batch of 16, but would see micro-batches of 8.*--micro-batch",
    ):
        stepper(Cramped(16), lade, micro_batch=8)
    with pytest.raises(UsageError, match=r"lade compares .*2 processes would each see a share"):
        check_whole_batches(lade, 16, None, 2)
    check_whole_batches(custom, 16, 8, 2)
    check_whole_batches(losses.CrossEntropyLoss(), 16, 8, 2)
    stepper(Cramped(16), lade, micro_batch=16).update(*batch(), 1.0, 0.1)
    with pytest.raises(OutOfMemory, match=r"for a batch of 16 images, which lade needs whole.*--batch-size"):
        stepper(Cramped(15), lade).update(*batch(), 1.0, 0.1)  # fmt: skip


class OneNumber(nn.Module):
    """A loss that gives a scalar whatever it is asked for."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, target)


class Labels(nn.Module):
    """A loss that gives a number for each label where it should give one for each image."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(
            logits, nn.functional.one_hot(target, 3).float(), reduction="none"
        )


@pytest.mark.parametrize(("loss", "shape"), [(OneNumber(), r"\(\)"), (Labels(), r"\(16, 3\)")])
def test_class_weights_need_a_value_per_image(loss: nn.Module, shape: str) -> None:
    training = stepper(Cramped(16), loss)
    training.class_weights = torch.tensor([0.5, 1.0, 2.0])
    with pytest.raises(
        UsageError, match=rf"a value per image, \(16,\), .*got shape {shape}.*reweighting=none"
    ):
        training.update(*batch(), 1.0, 0.1)


def test_class_weights_work_with_micro_batches() -> None:
    weighted = torch.tensor([0.5, 1.0, 2.0])
    trainings = [stepper(Cramped(16), micro_batch=most) for most in (None, 3)]
    for training in trainings:
        training.class_weights = weighted
        training.update(*batch(), 1.0, 0.1)
    torch.testing.assert_close(*map(weights, trainings), rtol=1e-5, atol=1e-6)
    plain = stepper(Cramped(16))
    plain.update(*batch(), 1.0, 0.1)
    assert not torch.allclose(weights(plain)[0], weights(trainings[0])[0], atol=1e-4)


STEPS = 5
PROCESS = """
import json, os, sys
sys.path[:0] = [{tests!r}, os.path.dirname({tests!r})]
import numpy as np
from torch import nn
from test_step import Cramped, STEPS, batch, stepper, weights
from tametail.core.errors import TametailError
from tametail.training.inference import predict_logits
from tametail.training.peers import leave_peers

rows = np.arange(9)
for rooms, norm, micro_batch, ends in (
    ([16, 16], nn.LayerNorm, None, 9),
    ([16, 3], nn.LayerNorm, None, 9),
    ([16, 0], nn.LayerNorm, None, 9),
    ([16, 16], nn.BatchNorm1d, 3, 9),
    ([16, 16], nn.LayerNorm, None, 3),
):
    model = Cramped(16, norm)
    training = stepper(model, micro_batch=micro_batch, ema_decay=0.5)
    rank = training.accelerator.process_index
    model.room, said = rooms[rank], ""
    try:
        for step in range(STEPS):
            model.room = 2 if step == ends and rank == 1 else model.room
            inputs, target = batch(16, step)
            training.update(inputs[rank::2], target[rank::2], 0.5, 0.1)
        training.share_buffers()
    except TametailError as error:
        said = type(error).__name__ + ": " + str(error)
    except RuntimeError:
        said = "left alone"
    found = dict(micro=training.micro_batch, said=said, weights=[w.tolist() for w in weights(training)])
    if not said:
        array = batch(9)[0].numpy()
        found["outputs"] = [
            predict_logits(training.result, array, rows, training.accelerator, shared=shared).tolist()
            for shared in (True, False)
        ]
    print(json.dumps(found), flush=True)
leave_peers(failed=False)  # or the other one is ended as well
# A process that was left alone may be ended by what is still open between the two; it has said all that it was asked.
os._exit(0)
"""


# Two of them; each prints to a file of its rank.
PAIR = """
import os, sys

port, process = sys.argv[1:]
started = []
for rank in "01":
    number = os.fork()
    if number == 0:
        os.dup2(os.open(rank, os.O_CREAT | os.O_WRONLY), 1)
        os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        exec(compile(process, "<process>", "exec"), {"__name__": "__main__"})
    started.append(number)
assert [os.waitpid(number, 0)[1] for number in started] == [0, 0]
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What each of two processes came to.

    With memory enough, short in the second at first, and short for good; with batch normalisation; with memory that
    ends later.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folder = tmp_path_factory.mktemp("pair")
    process = PROCESS.format(tests=os.path.dirname(__file__))
    ended = fork_server().run("-c", PAIR, port, process, directory=folder)
    assert ended.returncode == 0, ended
    return [
        [json.loads(line) for line in (folder / rank).read_text(encoding="utf-8").splitlines()]
        for rank in "01"
    ]


WHOLE, SHORT, SHORT_FOR_GOOD, NORMALISED, ENDS_LATER = range(5)


@pytest.mark.parametrize(("scene", "micro_batch"), [(WHOLE, None), (SHORT, 2)])
def test_processes_agree_on_micro_batches_and_get_the_weights_of_one_process(
    pair: list[list[dict[str, Any]]], scene: int, micro_batch: int | None
) -> None:
    lock = stepper(Cramped(16), ema_decay=0.5)
    for step in range(STEPS):
        lock.update(*batch(16, step), 1.0, 0.1)
    for of_rank in pair:
        assert (of_rank[scene]["micro"], of_rank[scene]["said"]) == (micro_batch, "")
        for found, expected in zip(of_rank[scene]["weights"], weights(lock), strict=True):
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert pair[0][scene]["weights"] == pair[1][scene]["weights"]


def test_processes_share_the_means_of_batch_normalisation_and_what_they_predict(
    pair: list[list[dict[str, Any]]],
) -> None:
    first, second = (of_rank[NORMALISED] for of_rank in pair)
    assert first["weights"] == second["weights"]
    assert first["outputs"] == second["outputs"]
    for outputs in (first["outputs"], second["outputs"]):
        np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-6)


def test_out_of_memory_in_one_process_fails_the_run_in_all(pair: list[list[dict[str, Any]]]) -> None:
    for of_rank in pair:
        assert of_rank[SHORT_FOR_GOOD]["said"].startswith("OutOfMemory: out of memory even for one image")


def test_late_out_of_memory_in_one_process_ends_the_work_with_a_message(
    pair: list[list[dict[str, Any]]],
) -> None:
    said = pair[1][ENDS_LATER]["said"]
    assert said.startswith("TametailError: memory ran out in a step that 2 processes take together")
    assert "--micro-batch 4" in said
    assert pair[0][ENDS_LATER]["said"] == "left alone"
