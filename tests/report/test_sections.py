"""Report sections and metrics of other packages on the page and in the files of results."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fixtures.json_schema import errors
from tametail.evaluation import METRICS, ConfusionMetric, metrics, register_metric
from tametail.report import REPORT_SECTIONS, StudyResults, read_results, register_report_section
from tametail.report.ranks.benchmark_scores import read_data_sets
from tametail.report.study.page import results_html
from tametail.report.writers.csv import results_csv, results_long_csv
from tametail.report.writers.json import metrics_json, metrics_schema
from tametail.report.writers.latex import results_tex
from tametail.report.writers.markdown import results_markdown
from tametail.search.trainings import metric_names

BUILT_IN = [
    "methods", "classes", "confusions", "calibration", "class-curves", "operating", "subgroups", "images", "test", "data", "checklist",
    "curves", "repeat", "reading", "reading-labels",
]  # fmt: skip


@dataclass(frozen=True)
class Toy:
    """A section that shows how many methods there are."""

    id: str = "toy"
    title: str = "Toys & more"
    template: str = "toy_package:templates/toy.html.j2"
    shown: bool = True

    def context(self, results: StudyResults) -> Mapping[str, Any] | None:
        return {"count": len(results.methods), "text": "<b>"} if self.shown else None


@pytest.fixture
def toy_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An importable package with a template; sections registered by a test are forgotten after it."""
    folder = tmp_path / "site" / "toy_package" / "templates"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("", encoding="utf-8")
    (folder / "toy.html.j2").write_text(
        '<section id="{{ section.id }}"><h2>{{ section.title }}</h2><p>{{ name }}: {{ count }} {{ text }}</p></section>',
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield
    REPORT_SECTIONS.unregister("toy")


def test_the_built_in_sections_are_registered_in_the_order_shown(held_out_study: Path) -> None:
    assert REPORT_SECTIONS.names()[: len(BUILT_IN)] == BUILT_IN
    html = (held_out_study / "report.html").read_text(encoding="utf-8")
    links = re.findall(r'<li><a href="#([\w-]+)"', html)
    assert links == [name for name in BUILT_IN if f'<section id="{name}"' in html]
    assert links == re.findall(r'<section id="([\w-]+)"', html)


@pytest.mark.usefixtures("toy_package", "without_figures")
def test_a_section_of_another_package_follows_the_built_in_ones(held_out_study: Path) -> None:
    register_report_section(Toy())
    html = results_html(read_results(held_out_study))
    assert '<li><a href="#toy">Toys &amp; more</a></li>' in html
    assert '<section id="toy"><h2>Toys &amp; more</h2><p>cells: 3 &lt;b&gt;</p></section>' in html
    assert html.index('<section id="reading"') < html.index('<section id="toy"') < html.index("<footer>")


@pytest.mark.usefixtures("toy_package", "without_figures")
def test_a_section_without_context_is_left_out(held_out_study: Path) -> None:
    register_report_section(Toy(shown=False))
    assert "toy" not in results_html(read_results(held_out_study))


@pytest.mark.usefixtures("without_figures")
def test_a_metric_of_another_package_is_in_every_file(held_out_study: Path, evaluated_study: Path) -> None:
    register_metric(ConfusionMetric("toy_metric", "Toy metric", metrics.accuracy))
    try:
        results = read_results(held_out_study)
        html, markdown = results_html(results), results_markdown(results)
        tex, tidy = results_tex(results), results_long_csv(results)
        rows = list(csv.DictReader(io.StringIO(results_csv(results))))
        content = json.loads(metrics_json(results))
        assert "toy_metric" in metric_names(), "a search can maximise it"
        ranked = read_data_sets([held_out_study, evaluated_study], "toy_metric")
    finally:
        METRICS.unregister("toy_metric")
    for row, one, result in zip(rows, content["methods"], results.methods, strict=True):
        assert result.out_of_fold is not None
        found = one["out_of_fold"]["metrics"]["toy_metric"]
        assert found["low"] < found["value"] < found["high"]
        assert found["value"] == pytest.approx(result.out_of_fold["accuracy"].value)
        assert float(row["toy_metric"]) == pytest.approx(found["value"], abs=1e-6)
        assert float(row["toy_metric_high"]) == pytest.approx(found["high"], abs=1e-6)
        assert ranked[0].scores[result.method] == result.out_of_fold["toy_metric"]
    assert ranked[0].score_name == "toy metric"
    schema = metrics_schema()
    assert errors(content, schema, schema) == []
    assert re.search(r'<th scope="col" data-column="\d+">Toy metric</th>', html)
    assert "| Toy metric |" in markdown
    assert "Toy metric" in tex
    assert ",toy_metric,0." in tidy


def test_what_a_package_could_not_provide_is_said_on_the_page(
    study_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRICS.failures, "odd", "'odd' of the metrics could not be loaded: no <licence>")
    page = results_html(read_results(study_folder))
    assert "Missing here: &#39;odd&#39; of the metrics could not be loaded: no &lt;licence&gt;." in page
