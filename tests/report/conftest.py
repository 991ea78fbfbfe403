"""Small study directories with made-up predictions, written as the study itself writes them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.class_study import write_study
from fixtures.pages import without_figures
from tametail.report import write_report

__all__ = ["without_figures"]  # a fixture of the tests here


def _fail_run(run: Path, message: str) -> None:
    described = json.loads((run / "run.json").read_text(encoding="utf-8"))
    shutil.rmtree(run)
    run.mkdir()
    described |= {"status": "failed", "message": message}
    (run / "run.json").write_text(json.dumps(described), encoding="utf-8")


@pytest.fixture
def fail_run() -> Callable[[Path, str], None]:
    """Turns a finished run into a failed one, which leaves run.json alone behind."""
    return _fail_run


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Path]:
    """`write_study` into a fresh folder."""
    made = iter(range(100))
    return lambda **options: write_study(tmp_path / f"study{next(made)}", **options)


@pytest.fixture(scope="session")
def held_out_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete study with its report; tests only read it."""
    study = write_study(
        tmp_path_factory.mktemp("held_out") / "study", unreadable=[("a<b>.png", "an empty file")]
    )
    write_report(study)
    return study


@pytest.fixture(scope="session")
def evaluated_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete study of two seeds whose test set was evaluated twice, with its report; tests only read it."""
    study = write_study(
        tmp_path_factory.mktemp("evaluated") / "study",
        methods=("ce", "alpa[variant=code]"),
        seeds=(0, 3),
        test_set_evaluations=2,
    )
    write_report(study)
    return study
