"""Which engine options ask for, and what is refused before any long work."""

from __future__ import annotations

from typing import Any

import pytest

from tametail.core.errors import UsageError
from tametail.engines import local
from tametail.engines.choose import HERE, EngineChoice, choose_engine

NOTHING: dict[str, Any] = {"engine": None, "jobs": None, "devices": None, "engine_set": None}


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tametail.engines.choose.usable_cores", lambda: 4)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert local.usable_cores() >= 1


@pytest.mark.parametrize(
    ("given", "gpus", "slots"),
    [
        ({}, 0, None),
        ({}, 1, None),
        ({"jobs": 1}, 4, None),
        ({"engine": "local", "jobs": 1}, 0, None),
        ({}, 2, ("0", "1")),
        ({"jobs": 4}, 2, ("0", "1", "0", "1")),
        ({"devices": ["3"]}, 8, ("3",)),
        ({"engine": "local"}, 0, (None,) * 4),
        ({"jobs": 3}, 0, (None,) * 3),
    ],
)
def test_local(given: dict[str, Any], gpus: int, slots: tuple[str | None, ...] | None) -> None:
    expected = HERE if slots is None else EngineChoice("local", slots)
    assert choose_engine(NOTHING | given, gpus=gpus) == expected


def test_threads_divide_the_cores() -> None:
    assert len(choose_engine(NOTHING | {"engine": "local"}, threads=2).slots) == 2
    assert choose_engine(NOTHING | {"engine": "local"}, threads=8) == HERE
    assert [choose_engine(NOTHING | {"jobs": jobs}).cores for jobs in (2, 3, 9)] == [2, 1, 1]
    assert HERE.cores is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"engine_set": ["partition=gpu"]}, "--engine slurm or --engine ray"),
        ({"engine": "plan", "engine_set": ["a=b"]}, "no --engine-set"),
        ({"engine": "slurm", "devices": ["0"]}, "--devices with --engine local only"),
        ({"engine": "ray", "engine_set": ["gpu"]}, "KEY=VALUE"),
    ],
)
def test_what_does_not_go_together(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_engine(NOTHING | given)


def test_an_engine_under_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert choose_engine(NOTHING, gpus=2) == HERE
    with pytest.raises(UsageError, match="torchrun"):
        choose_engine(NOTHING | {"jobs": 2})


def test_engines_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match=r"expected Slurm .* sbatch, squeue, scancel cannot be found"):
        choose_engine(NOTHING | {"engine": "slurm"})
    monkeypatch.setattr("tametail.engines.ray.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'tametail\[ray\]'"):
        choose_engine(NOTHING | {"engine": "ray"})
    monkeypatch.setattr("tametail.engines.ray.find_spec", lambda _: object())
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UsageError, match="never starts one"):
        choose_engine(NOTHING | {"engine": "ray"})
    with pytest.raises(UsageError, match="got cores"):
        choose_engine(NOTHING | {"engine": "ray", "engine_set": ["address=a", "cores=2"]})
    with pytest.raises(UsageError, match="could not convert"):
        choose_engine(NOTHING | {"engine": "ray", "engine_set": ["address=a", "num_cpus=two"]})
