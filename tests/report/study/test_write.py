"""All files of a report, or none; and the same bytes when they are made again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from tametail.report import write_report

MakeStudy = Callable[..., Path]
ALWAYS = ("report.html", "results.csv", "results.md", "results.tex", "metrics.json", "model_card.md")


def test_every_file_is_the_same_again_and_elsewhere(evaluated_study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(evaluated_study, copy)
    for name in ALWAYS:
        (copy / name).unlink()
    write_report(copy)
    for name in ALWAYS:
        assert (copy / name).read_bytes() == (evaluated_study / name).read_bytes(), name


@pytest.mark.parametrize("broken", ["results_tex", "metrics_json", "model_card", "figure_files"])
def test_a_file_that_cannot_be_made_changes_none(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    study = make_study(methods=("ce",))
    for name in ALWAYS:
        (study / name).write_text("before", encoding="utf-8")

    def fail(*_: object) -> str:
        raise ValueError("no")

    monkeypatch.setattr(import_module("tametail.report.study.write"), broken, fail)
    with pytest.raises(ValueError, match="no"):
        write_report(study, figures=("svg",))
    assert {(study / name).read_text(encoding="utf-8") for name in ALWAYS} == {"before"}
    assert not (study / "figures").exists()
