from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tametail.errors import DataError
from tametail.training.checkpoint import load_weights, save_weights


def test_weights_come_back_exactly_and_leave_no_other_file(tmp_path: Path) -> None:
    model, other = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    model(torch.randn(8, 4))
    save_weights(model, tmp_path / "m.safetensors")
    load_weights(other, tmp_path / "m.safetensors")
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.safetensors"]


def test_damaged_absent_and_foreign_weights_are_refused(tmp_path: Path) -> None:
    save_weights(nn.Linear(3, 2), tmp_path / "m.safetensors")
    for damage in (b"", (tmp_path / "m.safetensors").read_bytes()[:-3]):
        (tmp_path / "damaged.safetensors").write_bytes(damage)
        with pytest.raises(DataError, match="cannot be used"):
            load_weights(nn.Linear(3, 2), tmp_path / "damaged.safetensors")
    with pytest.raises(DataError):
        load_weights(nn.Linear(3, 2), tmp_path / "absent.safetensors")
    with pytest.raises(DataError):
        load_weights(nn.Linear(3, 4), tmp_path / "m.safetensors")
