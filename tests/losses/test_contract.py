"""The contract tests of `tametail.testing` over all registered losses and their options."""

from __future__ import annotations

import pytest
import torch

from fixtures.zoo import GIVEN
from tametail.testing.batches import INDICES, assert_same, logits, make, value_and_gradient
from tametail.testing.test_losses import *  # noqa: F403
from tametail.testing.test_losses import parametrize


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc, GIVEN)


@pytest.mark.parametrize("text", ["alpa", "ral", "ce", "ldam", "lade"])
def test_compiles_with_its_gradient(text: str) -> None:
    """Of each kind of formula one, with the backward pass as a compiled graph as well."""
    torch._dynamo.reset()
    loss = make(text)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    found = value_and_gradient(compiled, logits(), INDICES)
    assert_same(found, value_and_gradient(loss, logits(), INDICES), "torch.compile and plain evaluation")
