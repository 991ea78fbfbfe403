"""When a run counts as finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from tametail.core.run_files import is_finished

FINISHED = '{"status": "finished"}'


def run_of(folder: Path, described: str, *names: str) -> Path:
    folder.mkdir()
    (folder / "run.json").write_text(described)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("weights", ["model.safetensors", "head.safetensors"])
def test_it_says_so_and_has_its_predictions_and_weights(tmp_path: Path, weights: str) -> None:
    assert is_finished(run_of(tmp_path / "run", FINISHED, "predictions.parquet", weights))


@pytest.mark.parametrize(
    ("described", "names"),
    [
        (FINISHED, ["predictions.parquet"]),
        (FINISHED, ["model.safetensors"]),
        ('{"status": "failed"}', ["predictions.parquet", "model.safetensors"]),
        ("{}", ["predictions.parquet", "model.safetensors"]),
        ("[]", ["predictions.parquet", "model.safetensors"]),
        ('{"status": "fin', ["predictions.parquet", "model.safetensors"]),
    ],
)
def test_without_any_of_that_it_does_not(tmp_path: Path, described: str, names: list[str]) -> None:
    assert not is_finished(run_of(tmp_path / "run", described, *names))
    assert not is_finished(tmp_path / "absent")
