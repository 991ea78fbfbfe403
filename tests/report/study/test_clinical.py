"""Operating points, subgroups and grades that the report of a study is asked for."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fixtures.class_study import CELLS
from fixtures.label_study import write_label_study
from tametail.core.errors import UsageError
from tametail.evaluation import evaluate
from tametail.report import write_report
from tametail.report.options import ReportOptions, load_options
from tametail.report.study.clinical import clinical_results
from tametail.report.study.reading import read_results
from tametail.report.study.runs import find_runs

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def study(make_study: Callable[..., Path]) -> Path:
    """A study whose images have a site and an age; that of the first image is not known."""
    folder = make_study(methods=("ce", "alpa"))
    table = pd.read_parquet(folder / "table.parquet")
    table["site"] = np.where(np.arange(len(table)) % 3 == 0, "north", "<b>south</b>")
    table["age"] = (np.arange(len(table)) % 80).astype(float)
    table.loc[0, "age"] = np.nan
    table.to_parquet(folder / "table.parquet", index=False)
    return folder


def test_what_is_asked_for_is_shown_and_remembered(study: Path) -> None:
    page = write_report(study, by=["site"], operating=[("blast", 0.9)], class_order=CELLS)
    html = page.read_text(encoding="utf-8")
    assert "by site" in html
    assert "blast: required sensitivity 90.0 %" in html
    assert "&lt;b&gt;south" in html
    assert "<b>south" not in html
    assert write_report(study).read_text(encoding="utf-8") == html
    assert load_options(study) == ReportOptions(True, ("site",), (("blast", 0.9),), True, CELLS)
    with (study / "results.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert all(float(row["sensitivity_at_0.9_blast"]) > 0 and row["by_site_north_accuracy"] for row in rows)
    write_report(study, by=[], operating=[], ordered=False)
    assert "by site" not in page.read_text(encoding="utf-8")


def test_each_subgroup_is_evaluated_by_itself(study: Path) -> None:
    results = read_results(study, ReportOptions(by=("site", "age")))
    best = results.ranking[0]
    runs = {of_method.method: of_method for of_method in find_runs(study, results.settings)}
    (table,) = runs[best.method].replicates
    site = pd.read_parquet(study / "table.parquet").set_index("image")["site"]
    north = np.array([site[image] == "north" for image in table.image])
    expected = evaluate([_taken(table, north)])["balanced_accuracy"].value
    (found,) = [group for group in best.subgroups if group.value == "north"]
    assert (found["balanced_accuracy"].value, found.n) == (pytest.approx(expected), north.sum())
    ages = [group for group in best.subgroups if group.column == "age"]
    assert sum(group.n for group in ages) == len(table)
    assert len([group for group in ages if group.value]) == 4


def _taken(table, rows):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    vectors = {name: getattr(table, name)[rows] for name in ("image", "group", "target", "fold", "logits")}
    return replace(table, **vectors, posterior=None if table.posterior is None else table.posterior[rows])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"by": ["sex"]}, "available: site, age"),
        ({"by": ["label"]}, "available: site, age"),
        ({"operating": [("monster", 0.9)]}, "expected a class of the study"),
    ],
)
def test_what_is_not_there_is_an_error_and_not_remembered(
    study: Path, asked: dict[str, list[object]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        write_report(study, **asked)  # type: ignore[arg-type]
    assert load_options(study) == ReportOptions()


def test_a_column_of_too_many_values_is_refused_before_any_work(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pd.read_parquet(study / "table.parquet")
    table["patient"] = [f"p{number}" for number in range(len(table))]
    table["ward"] = [f"w{number % 30}" for number in range(len(table))]
    table.to_parquet(study / "table.parquet", index=False)
    settings = read_results(study).settings
    assert (
        len(set(clinical_results(study, ReportOptions(by=("ward",)), settings).columns["ward"].values()))
        == 30
    )
    monkeypatch.setattr("tametail.evaluation.subgroups.Sample", lambda *_, **__: pytest.fail("evaluated"))
    with pytest.raises(UsageError, match=rf"at most 30 values .* found {len(table)} in 'patient'"):
        write_report(study, by=["patient"])
    assert load_options(study) == ReportOptions()


def test_images_of_several_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="may have several labels"):
        write_report(write_label_study(tmp_path / "labels"), ordered=True)


def test_an_evaluation_is_not_asked_again(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="given to tametail evaluate"):
        write_report(_evaluation(tmp_path), by=["sex"])


def _evaluation(folder: Path) -> Path:
    from fixtures.predictions_csv import frame_of, write
    from tametail.external.evaluate_files import evaluate_files

    return evaluate_files([write(frame_of(0), folder / "a.csv")], folder / "out").parent
