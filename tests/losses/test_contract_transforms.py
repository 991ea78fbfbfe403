"""What every loss promises under torch's transforms, and after it was copied or saved."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor

from fixtures.zoo import (
    INDICES,
    Choice,
    assert_same,
    drawing_nothing,
    gradient,
    logits,
    make,
    soft,
    value_of,
    variants,
)
from tametail.losses import create_loss, list_losses


@pytest.fixture(params=variants())
def chosen(request: pytest.FixtureRequest) -> Choice:
    choice: Choice = request.param
    return choice


@pytest.mark.parametrize(
    "chosen",
    [
        *((name, {}) for name in list_losses()),
        ("alpa", {"variant": "code"}),
        ("alpa", {"variant": "pade"}),
        ("class_balanced", {"base": "bce"}),
        ("poly1", {"base": "focal"}),
        ("focal", {"tau": 1.0}),
    ],
)
def test_compiles_in_one_graph(chosen: Choice) -> None:
    torch._dynamo.reset()
    loss = make(chosen)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    assert_same(gradient(compiled, logits(), INDICES), gradient(loss, logits(), INDICES))


@pytest.mark.parametrize("target", [INDICES, soft()])
def test_per_sample_gradients_by_vmap(chosen: Choice, target: Tensor) -> None:
    loss = make(chosen)

    def one(z: Tensor, label: Tensor) -> Tensor:
        value: Tensor = loss(z[None], label[None])
        return value

    z = logits().detach()
    per_sample = torch.func.vmap(torch.func.grad(one), randomness="different")
    assert per_sample(z, target).isfinite().all()
    loss = drawing_nothing(loss)
    expected = [gradient(loss, z[i : i + 1], target[i : i + 1])[1] for i in range(6)]
    torch.testing.assert_close(per_sample(z, target), torch.cat(expected))


def test_survives_copy_pickle_state_dict_and_half(chosen: Choice) -> None:
    loss = make(chosen)
    expected = value_of(loss, logits(), INDICES)
    buffer = io.BytesIO()
    torch.save(loss.state_dict(), buffer)
    buffer.seek(0)
    restored = create_loss(chosen[0], class_counts=[5, 5, 5, 5], **chosen[1])
    restored.load_state_dict(torch.load(buffer, weights_only=True))
    for again in (
        copy.deepcopy(loss),
        pickle.loads(pickle.dumps(loss)),
        restored,
        copy.deepcopy(loss).half(),
    ):
        assert torch.equal(value_of(again, logits(), INDICES), expected)
