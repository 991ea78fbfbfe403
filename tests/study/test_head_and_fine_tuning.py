"""scripts/head_and_fine_tuning.py: tables as they are read, and coefficients against scipy."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from fixtures.class_study import write_study
from fixtures.plain_figures import figures_not_rendered
from tametail.report import write_report

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "head_and_fine_tuning", ROOT / "scripts" / "head_and_fine_tuning.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _study(path: Path, methods: tuple[str, ...]) -> Path:
    with figures_not_rendered():
        write_report(write_study(path, methods=methods))
    return path


@pytest.mark.parametrize("seed", range(5))
def test_the_coefficients_are_those_of_scipy(seed: int, script: ModuleType) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 6, 11).astype(float), rng.normal(size=11)  # with ties
    assert script.spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert script.kendall(a, b) == pytest.approx(stats.kendalltau(a, b).statistic)


def test_p_is_near_scipys_exact_one(script: ModuleType) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=8)
    b = a + rng.normal(size=8)
    exact = stats.kendalltau(a, b, method="exact").pvalue
    assert script.permutation_p("Kendall", a, b) == pytest.approx(exact, abs=0.01)


def test_the_fine_tuned_table_is_read_as_it_is_printed(script: ModuleType) -> None:
    read = script.read(ROOT / "docs" / "results" / "ham10000_224-fine-tuned.md")
    assert len(read.scores) == 11
    assert read.scores["ce+la"] == pytest.approx(0.703)
    assert read.scores["alpa[variant=pade]"] == pytest.approx(0.626)
    assert read.scores["balanced_softmax"] == pytest.approx(0.694)


def test_two_studies_are_compared_over_images_too(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "RESAMPLES", 200)
    methods = ("alpa", "ce", "focal", "ldam", "asl")
    one, other = (script.read(_study(tmp_path / name, methods)) for name in ("one", "other"))
    assert set(one.tables) == set(methods)
    lines = script.compared(one, other)
    assert lines[0] == "one and other: n = 5 methods."
    spearman = next(line for line in lines if line.startswith("| Spearman"))
    assert spearman.split("|")[2].strip() == "1.00"
    assert "–" not in spearman  # there are predictions
    low, high = script.over_images((one, other), methods)["Spearman"]
    assert low == pytest.approx(high) == pytest.approx(1)  # the same predictions, drawn together


def test_what_is_no_table_and_too_few_methods_is_told(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "no.md").write_text("# Nothing\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="found none; give results"):
        script.read(tmp_path / "no.md")
    with pytest.raises(SystemExit, match="expected a study's folder or a table"):
        script.read(tmp_path / "absent")
    few = script.read(_study(tmp_path / "few", ("alpa", "ce")))
    with pytest.raises(SystemExit, match="at least 4 methods in both, found"):
        script.compared(few, few)
