"""The released loss classes' own numbers, value and gradient, where the folder with them is present."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tametail.losses import create_loss, lade_regulariser

pytestmark = pytest.mark.filterwarnings("ignore:.*expects the cosines")
FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "golden"
# The folder's name of a loss → ours, with what makes ours the released one.
NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "alpa": ("alpa", {"variant": "code"}),
    "asymmetric": ("asl", {}),
    "asymmetric_single_label": ("asl_single_label", {}),
    "robust_asymmetric": ("ral", {}),
    "hill": ("hill", {}),
    "focal_softmax": ("focal_softmax", {}),
    "poly1_cross_entropy": ("poly1", {}),
    "ldam": ("ldam", {}),
    "vector_scaling": ("vs", {}),
    "balanced_softmax": ("balanced_softmax", {}),
    "class_balanced_focal": ("class_balanced", {"base": "focal"}),
}
# Its parameters by our names; None for what only its own code needs.
PARAMETERS = {
    "eps": None,
    "lamb": "lam",
    "epsilon_pos": "epsilon_1",
    "epsilon_pos_pow": "epsilon_2",
    "epsilon_neg": None,
}
# Parts of these pass through float32 in the released code.
COARSE = {"class_balanced_focal": 1e-6, "lade_regulariser": 1e-6}


def _ours(params: dict[str, Any]) -> dict[str, Any]:
    renamed = {PARAMETERS.get(key, key): value for key, value in params.items()}
    renamed.pop(None, None)
    if "positives" in renamed.get("reduction", ""):
        renamed["reduction"] = "mean"  # one label per sample: as many positives as samples
    return renamed


def _cases() -> list[Any]:
    path = FOLDER / "official_losses.json"
    cases = json.loads(path.read_text()) if path.exists() else []
    found = [pytest.param(case, id=f"{case['loss']}-{case['id']}") for case in cases]
    return found or [pytest.param(None, marks=pytest.mark.skip(reason=f"no golden values at {FOLDER}"))]


def _batch(case: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    numpy = pytest.importorskip("numpy")
    with numpy.load(FOLDER / "official_losses.npz") as arrays:
        logits, target, gradient = (
            torch.from_numpy(arrays[f"{case['id']}_{part}"]) for part in ("logits", "target", "grad")
        )
    return logits.requires_grad_(), target, gradient


@pytest.mark.parametrize("case", _cases())
def test_value_and_gradient_agree_with_the_released_code(case: dict[str, Any]) -> None:
    logits, target, gradient = _batch(case)
    params = case["params"]
    if case["loss"] == "lade_regulariser":
        labels = torch.nn.functional.one_hot(target, logits.shape[1]).to(logits.dtype)
        value = lade_regulariser(logits, labels, params["class_counts"], params["remine_lambda"])
    else:
        name, extra = NAMES[case["loss"]]
        value = create_loss(name, **extra, **_ours(params))(logits, target)
    value.backward()
    tolerance = COARSE.get(case["loss"], 1e-10)
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(case["value"], rel=0, abs=tolerance)
    torch.testing.assert_close(logits.grad, gradient, rtol=0, atol=tolerance)
