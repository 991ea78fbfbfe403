"""The whole of a search on a tiny set of images, with a frozen backbone and by fine-tuning."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import tametail
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import STEP_BY_STEP, TINY
from tametail.core.console import Console
from tametail.core.errors import DataError, UsageError
from tametail.data import ImageTable
from tametail.report.search.narrative import answer
from tametail.report.search.page import write_search_page
from tametail.report.study.tuned_methods import tuned_in_words
from tametail.search.search import search
from tametail.storage.search_file import read_search
from tametail.study.settings import Tuned, read_tuned
from tametail.study.study import compare

FIELDS = TINY | {"epochs": 4, "lr": 1e-2, "set": (STEP_BY_STEP,)}


@pytest.fixture(scope="module")
def search_folder(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("search") / "alpa"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAMETAIL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        search(image_folder, "alpa", out=out, trials=12, folds=3, **FIELDS, space=["gamma_pos=0:3"])
    return out


@pytest.fixture
def plain_figures(search_folder: Path) -> Iterator[None]:
    with figures_not_rendered():
        yield


def test_the_files_say_the_same(search_folder: Path) -> None:
    content = read_search(search_folder)
    result = content["result"]
    with (search_folder / "trials.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 12 * 4
    final = [row for row in rows if row["search"] == "all folds"]
    best = max(final, key=lambda row: float(row["score"]))
    assert float(best["score"]) == pytest.approx(result["best"]["score"], abs=1e-6)
    assert result["best"]["method"] in [row["method"] for row in final if row["score"] == best["score"]]
    assert {int(row["n"]) for row in final} == {result["nested"]["n"]} == {result["best"]["n"]}
    assert sum(fold["n"] for fold in result["folds"]) == result["nested"]["n"]
    assert all(fold["inner_n"] + fold["n"] == result["nested"]["n"] for fold in result["folds"])
    nested = result["nested"]["tuned"]
    assert nested["low"] <= nested["value"] <= nested["high"]
    assert result["optimism"] == pytest.approx(result["best"]["score"] - nested["value"])
    assert result["trainings"] == 12 * 6  # 3 that leave out one fold, 3 that leave out two
    assert set(result["importance"]) == set(result["values"]) == {"alpha", "beta", "gamma_pos", "gamma_neg"}
    assert sum(result["importance"].values()) == pytest.approx(1)
    assert all(0 <= float(row["gamma_pos"]) <= 3 for row in rows)


STRANGE: list[tuple[str, object]] = [
    ("search.trials", 10**30), ("search.trials", "3"), ("search.space", []), ("search.metric", "best"), ("search.seeds", 0),
    ("splits.folds", 10**9), ("class_names", ["a", "a"]), ("table", []), ("result.best.values", {}), ("result.best.recipe", {"lr": "x"}),
    ("result.best.n", -1), ("result.nested.tuned.value", "1"), ("result.nested.balanced_accuracy.p", 7.0), ("result.values", {}),
    ("result.values.alpha.folds", []), ("result.folds", [{}]), ("result.trials.complete", None), ("result.importance", {"alpha": -1.0}),
    ("result.seconds", -1.0), ("result.optimism", [[[[[[]]]]]]),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value"), STRANGE)
def test_damage_of_search_json_is_named_with_its_place(
    place: str, value: object, search_folder: Path, tmp_path: Path
) -> None:
    content = read_search(search_folder)
    *above, last = place.split(".")
    inner = content
    for name in above:
        inner = inner[name]
    inner[last] = value
    (tmp_path / "search.json").write_text(json.dumps(content), encoding="utf-8")
    named = last if above[:1] != ["result"] or "values" not in place else "values"
    with pytest.raises(DataError, match=rf"search.json is damaged \(.*{named}"):
        read_search(tmp_path)


@pytest.mark.parametrize(
    ("column", "value"),
    [("alpha", "x"), ("gamma_pos", "inf"), ("score", "nan"), ("score", "x"), ("n", ""), ("trial", "1.5")],
)
def test_a_strange_trial_is_a_data_error(
    column: str, value: str, search_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(search_folder / "search.json", tmp_path)
    frame = pd.read_csv(search_folder / "trials.csv", dtype=str, keep_default_na=False)
    frame.loc[frame.index[frame["search"] == "all folds"][0], column] = value
    frame.to_csv(tmp_path / "trials.csv", index=False)
    with pytest.raises(DataError, match=r"trials.csv cannot be read"):
        write_search_page(tmp_path)


@pytest.mark.usefixtures("plain_figures")
def test_the_default_is_what_a_study_measures(
    search_folder: Path, study_folder: Path, image_folder: Path, tmp_path: Path
) -> None:
    study = compare(image_folder, "alpa", out=tmp_path / "s", folds=3, **FIELDS, tuned=search_folder)
    content = read_search(search_folder)
    measured = study.results.set_index("method")["balanced_accuracy"]
    assert measured["alpa"] == pytest.approx(content["result"]["nested"]["default"]["value"], abs=1e-6)
    best = content["result"]["best"]
    assert measured[best["method"]] == pytest.approx(best["score"], abs=1e-6)


@pytest.mark.usefixtures("plain_figures")
def test_a_tuned_method_is_marked_as_chosen_on_these_folds(
    search_folder: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = compare(
        image_folder, "ce", out=tmp_path / "s", folds=3, **FIELDS, tuned=search_folder, console=Console()
    )
    method = read_search(search_folder)["result"]["best"]["method"]
    assert study.settings["methods"] == ["ce", method]
    assert set(study.settings["tuned"]) == {method}
    said = f"The hyperparameters of {method} were selected on these folds, as the best of 12 trials"
    assert said in " ".join(capsys.readouterr().err.split())
    assert said in study.report.read_text(encoding="utf-8")
    again = compare(image_folder, "ce", out=tmp_path / "s", folds=3, **FIELDS)
    assert set(again.settings["tuned"]) == {method}  # remembered
    assert str(search_folder) not in (tmp_path / "s" / "study.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"folds": 4}, r"splits.folds is 3, not 4"),
        ({"seed": 1}, r"splits.seed is 0, not 1"),
        ({"lr": 2e-2}, r"recipe.optimizer.lr is 0.01, not 0.02"),
    ],
)
def test_a_search_of_another_study_is_refused(
    changed: dict[str, object], message: str, search_folder: Path, image_folder: Path, tmp_path: Path
) -> None:
    asked = {"folds": 3} | FIELDS | changed
    with pytest.raises(UsageError, match=message):
        compare(image_folder, "ce", out=tmp_path / "s", tuned=search_folder, **asked)  # type: ignore[arg-type]


def test_what_is_no_search_or_unfinished_is_refused(
    search_folder: Path, image_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="expected a search"):
        compare(image_folder, "ce", out=tmp_path / "s", tuned=tmp_path / "absent", **FIELDS)
    shutil.copytree(search_folder, tmp_path / "b")
    content = read_search(tmp_path / "b")
    del content["result"]["nested"]
    (tmp_path / "b" / "search.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="nested"):
        compare(image_folder, "ce", out=tmp_path / "s", tuned=tmp_path / "b", **FIELDS)
    del content["result"]
    (tmp_path / "b" / "search.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UsageError, match="finished search"):
        compare(image_folder, "ce", out=tmp_path / "s", tuned=tmp_path / "b", **FIELDS)


def test_a_finished_search_is_not_done_again_and_another_is_refused(
    search_folder: Path, image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    shutil.copytree(search_folder, out)
    (out / "search.html").unlink()
    before = (out / "search.json").read_bytes()
    again = tametail.search(
        image_folder, "alpa", out=out, trials=12, folds=3, **FIELDS, space=["gamma_pos=0:3"]
    )
    assert again.best == read_search(search_folder)["result"]["best"]["method"]
    assert (out / "search.json").read_bytes() == before
    assert again.report.read_bytes() == (search_folder / "search.html").read_bytes()
    with pytest.raises(UsageError, match=r"its space is .*gamma_pos=0:3.*gamma_pos=0:4"):
        search(image_folder, "alpa", out=out, trials=12, folds=3, **FIELDS, space=["gamma_pos=0:4"])
    with pytest.raises(UsageError, match="its method is alpa, not focal"):
        search(image_folder, "focal", out=out, folds=3, **FIELDS)


def test_the_page_needs_no_network_and_is_escaped(search_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(search_folder, tmp_path / "s")
    content = read_search(tmp_path / "s")
    content["name"] = "<script>alert(1)</script>"
    (tmp_path / "s" / "search.json").write_text(json.dumps(content), encoding="utf-8")
    page = write_search_page(tmp_path / "s").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "default-src 'none'" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert page.count("<svg") >= 6
    (tmp_path / "s" / "trials.csv").write_text("nothing", encoding="utf-8")
    with pytest.raises(DataError, match=r"trials\.csv"):
        write_search_page(tmp_path / "s")


def test_trials_of_another_search_are_refused_where_its_file_is_gone(
    search_folder: Path, image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    shutil.copytree(search_folder, out)
    (out / "search.json").unlink()
    with pytest.raises(UsageError, match=r"those of another .*remove trials\.journal"):
        search(image_folder, "alpa", out=out, trials=12, folds=3, **FIELDS, space=["gamma_pos=0:4"])


def test_what_is_for_one_class_per_image_is_refused_before_there_is_a_folder(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": ["a"], "label": ["x|y"], "group": ["a"], "split": [""]})
    table = ImageTable(frame, tmp_path, ("x", "y"), "drawn", multi_label=True)
    for options, message in (
        (
            {"metric": "accuracy"},
            "mean_average_precision, macro_auroc for several labels per image, got 'accuracy'",
        ),
        ({"class_order": ["x", "y"]}, "one class each with --class-order"),
    ):
        with pytest.raises(UsageError, match=message):
            search(table, "alpa", out=tmp_path / "s", **FIELDS, **options)
    assert not (tmp_path / "s").exists()


def test_a_rate_that_was_searched_is_said_to_be_the_whole_studys(search_folder: Path) -> None:
    content = read_search(search_folder)
    assert not read_tuned(search_folder)[0].note["searched_recipe"]
    content["result"]["best"]["recipe"] = {"lr": 0.01}
    note = Tuned(search_folder, "alpa", content).note
    (said,) = tuned_in_words(content | {"tuned": {"alpa": note}})
    assert "Values of the recipe were also tuned for it and apply to the whole study (lr 0.01)" in said


@pytest.mark.parametrize("verdict", ["better", "worse", "no significant difference"])
def test_a_verdict_on_what_was_not_searched_by_says_so(verdict: str, search_folder: Path) -> None:
    content = read_search(search_folder)
    content["result"]["nested"]["balanced_accuracy"]["verdict"] = verdict
    assert "not the metric of the search" not in " ".join(answer(content))
    content["search"]["metric"] = "accuracy"
    said = " ".join(answer(content))
    assert "In balanced accuracy, which is not the metric of the search, tuned is" in said
    assert "Use the default" not in said
    assert "helps here" not in said


@pytest.mark.usefixtures("plain_figures")
def test_a_search_by_fine_tuning_is_kept_training_by_training(image_folder: Path, tmp_path: Path) -> None:
    fields = TINY | {"epochs": 1}
    asked = {"trials": 1, "folds": 3, "recipe": "quick", "out": tmp_path / "s", **fields}
    found = search(image_folder, "focal", **asked)  # type: ignore[arg-type]
    result = found.settings["result"]
    assert result["trainings"] == 6
    kept = list((tmp_path / "s" / "trainings").glob("*.safetensors"))
    assert len(kept) == 6 + 3  # the default's, too
    assert not list((tmp_path / "s" / "trainings").glob(".*"))
    # Without its trials, what was trained is found again.
    for name in ("search.json", "trials.journal"):
        (tmp_path / "s" / name).unlink()
    times = {path: path.stat().st_mtime_ns for path in kept}
    again = search(image_folder, "focal", **asked).settings["result"]  # type: ignore[arg-type]
    assert {path: path.stat().st_mtime_ns for path in kept} == times
    assert again["nested"] == result["nested"]
    assert again["best"] == result["best"]


@pytest.mark.usefixtures("plain_figures")
def test_the_penalty_of_heads_at_their_minimum_can_be_searched(image_folder: Path, tmp_path: Path) -> None:
    found = search(image_folder, "ce", out=tmp_path / "s", trials=3, folds=3, space=["l2=0.01:1:log"], **TINY)
    best = found.settings["result"]["best"]
    assert 0.01 <= best["recipe"]["l2"] <= 1
    assert found.settings["result"]["values"]["l2"]["default"] == "0.1"
