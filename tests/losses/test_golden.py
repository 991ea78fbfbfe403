"""The released loss classes' own numbers, value and gradient, where the folder with them is present."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tametail.losses import create_loss

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "golden"
# The folder's name of a loss → ours, with what makes ours the released one.
NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "alpa": ("alpa", {"variant": "code"}),
    "asymmetric": ("asl", {}),
    "ldam": ("ldam", {}),
    "focal_softmax": ("focal_softmax", {}),
}


def _cases() -> list[Any]:
    path = FOLDER / "official_losses.json"
    cases = json.loads(path.read_text()) if path.exists() else []
    found = [pytest.param(case, id=f"{case['loss']}-{case['id']}") for case in cases if case["loss"] in NAMES]
    return found or [pytest.param(None, marks=pytest.mark.skip(reason=f"no golden values at {FOLDER}"))]


@pytest.mark.parametrize("case", _cases())
def test_value_and_gradient_agree_with_the_released_code(case: dict[str, Any]) -> None:
    numpy = pytest.importorskip("numpy")
    name, extra = NAMES[case["loss"]]
    params = {key: value for key, value in case["params"].items() if key != "eps"}
    loss = create_loss(name, **extra, **params)
    with numpy.load(FOLDER / "official_losses.npz") as arrays:
        logits, target, gradient = (
            torch.from_numpy(arrays[f"{case['id']}_{part}"]) for part in ("logits", "target", "grad")
        )
    logits.requires_grad_()
    value = loss(logits, target)
    value.backward()
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(case["value"], rel=0, abs=1e-10)
    torch.testing.assert_close(logits.grad, gradient, rtol=0, atol=1e-10)
