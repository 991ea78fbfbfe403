"""What a report says about the convergence of training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tametail.core.run_files import CONVERGED_AT
from tametail.report import read_results, unconverged, write_report
from tametail.report.study.convergence import convergence_table
from tametail.training.history import EpochRecord, still_falling


def test_a_head_that_is_at_its_minimum_says_so(study_folder: Path) -> None:
    methods = read_results(study_folder).methods
    table = convergence_table(methods)
    assert table is not None
    for result, row in zip(methods, table.rows, strict=True):
        name, converged, runs, gradient, *_, spread = (cell.text for cell in row.cells)
        assert (name, converged, runs) == (result.method, "3", "3")
        assert float(gradient) <= CONVERGED_AT
        several = result.method == "alpa"  # not convex
        assert bool(spread) is several
        ending = result.endings[0]
        assert len(ending["starts"]) == (4 if several else 1)
    assert unconverged(study_folder) == []
    page = (study_folder / "report.html").read_text(encoding="utf-8")
    assert "<summary>Convergence" in page
    assert "did not converge" not in page


def test_a_run_that_did_not_converge_is_named_on_the_page(study_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    shutil.copytree(study_folder, out)
    path = out / "runs" / "alpa" / "seed0-fold1" / "run.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    described["convergence"] |= {"converged": False, "gradient": 0.25}
    path.write_text(json.dumps(described), encoding="utf-8")
    (line,) = unconverged(out)
    assert line.startswith("alpa: 1 of 3 runs did not converge (gradient 2.5e-01 of that at the start)")
    write_report(out)
    assert line in (out / "report.html").read_text(encoding="utf-8").replace("\n", " ")


def history(losses: list[float], rates: list[float]) -> list[EpochRecord]:
    return [
        EpochRecord(at, at, loss, lr)
        for at, (loss, lr) in enumerate(zip(losses, rates, strict=True), start=1)
    ]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.0 - 0.15 * at for at in range(12)], True),
        ([1.0] * 12, False),
        ([2.0, 1.5, 1.2, 1.05, 1.01, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], False),
        ([1.0 + 0.1 * at for at in range(12)], False),
        ([2.0, 1.0, 0.5], None),  # too few epochs to tell
    ],
)
def test_whether_the_loss_was_still_falling(losses: list[float], expected: bool | None) -> None:
    assert still_falling(history(losses, [1e-3] * len(losses))) is expected


def test_epochs_of_a_vanishing_rate_do_not_count() -> None:
    losses = [2.0 - 0.15 * at for at in range(8)] + [0.9] * 8
    rates = [1e-3] * 8 + [1e-5] * 8
    assert still_falling(history(losses, rates)) is True
    assert still_falling(history(losses, [0.0] * 16)) is None
