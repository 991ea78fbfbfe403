"""Files of predictions of images that may have several labels, made by other models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.test_app import run
from cli.test_evaluate import rows_of
from fixtures.plain_figures import figures_not_rendered
from tametail.core.errors import DataError, UsageError
from tametail.evaluation import evaluate_labels
from tametail.evaluation.label_thresholds import cross_fitted_thresholds
from tametail.evaluation.paired_labels import paired_label_table
from tametail.external.evaluate_files import evaluate_files
from tametail.external.label_table import read_label_table
from tametail.external.prediction_files import read_label_files
from tametail.predictions.multi_label import LabelPredictions, write_label_predictions
from tametail.report import write_report
from tametail.report.ranks.benchmark_scores import read_data_sets

NAMES = ("edema", "mass", "scar")
Change = Callable[[pd.DataFrame], pd.DataFrame]


def made(seed: int = 0, *, skill: float = 1.5, images: int = 120) -> LabelPredictions:
    """Predictions of images of which a tenth of the labels is unknown; images and labels are the same for every seed."""
    shared, rng = np.random.default_rng(99), np.random.default_rng(seed)
    labels = shared.random((images, 3)) < (0.4, 0.25, 0.15)
    unknown = shared.random((images, 3)) < 0.1
    z = (rng.normal(-1, 1, (images, 3)) + skill * labels).astype(np.float32)
    return LabelPredictions(
        np.array([f"{number:04}.png" for number in range(images)]),
        np.array([f"patient{number // 2}" for number in range(images)]),
        labels & ~unknown,
        np.zeros(images, dtype=np.int64),
        z,
        NAMES,
        (1 / (1 + np.exp(-z.astype(np.float64)))).astype(np.float32),
        unknown,
    )


def frame_of(table: LabelPredictions) -> pd.DataFrame:
    """Columns image, group, label_<name> (blank where unknown) and p_<name>."""
    frame = pd.DataFrame({"image": table.image, "group": table.group})
    for c, name in enumerate(table.class_names):
        cells = np.where(table.known[:, c], table.labels[:, c].astype(int).astype(str), "")
        frame[f"label_{name}"] = cells
        frame[f"p_{name}"] = table.posterior[:, c].astype(np.float64)
    return frame


def write(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path, index=False)
    return path


def same(found: LabelPredictions, expected: LabelPredictions) -> None:
    assert found.class_names == expected.class_names
    for name in ("image", "group", "labels", "unknown", "fold"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(found.posterior, expected.posterior, atol=1e-6)
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-4)


def with_logits(frame: pd.DataFrame) -> pd.DataFrame:
    for name in NAMES:
        p = frame.pop(f"p_{name}")
        frame[f"logit_{name}"] = np.log(p / (1 - p))
    return frame


def in_words(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.replace({f"label_{name}": {"1": "True", "0": "false"} for name in NAMES})


def marked(frame: pd.DataFrame) -> pd.DataFrame:
    for name in NAMES:
        frame[f"unknown_{name}"] = frame[f"label_{name}"] == ""
    return frame.replace({f"label_{name}": {"": "0"} for name in NAMES})


CHANGES: list[Change] = [
    lambda frame: frame,
    lambda frame: frame.sample(frac=1, random_state=1),
    lambda frame: frame[sorted(frame.columns, reverse=True)],
    lambda frame: frame.rename(columns=lambda name: name.replace("p_", "prob_")),
    with_logits,
    in_words,
    marked,
]


@pytest.mark.parametrize("change", CHANGES)
def test_files_of_every_form(tmp_path: Path, change: Change) -> None:
    table = made()
    found = read_label_table(write(change(frame_of(table)), tmp_path / "a.csv"))
    assert found.grouped
    assert found.thresholds == ()
    same(found.rows, table)


def test_predictions_of_a_study_and_a_table_are_compared(tmp_path: Path) -> None:
    ours, theirs = made(0), made(1, skill=0.5)
    write_label_predictions(ours, tmp_path / "ours.parquet")
    paths = [tmp_path / "ours.parquet", write(frame_of(theirs), tmp_path / "theirs.csv")]
    found = read_label_files(paths)
    same(found.models["ours"], ours)
    same(found.models["theirs"], theirs)
    out = tmp_path / "out"
    with figures_not_rendered():
        code, output, errors = run("evaluate", *paths, "-o", out)
    assert code == 0, errors
    assert "Mean AP, %" in output
    content = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert content["multi_label"]
    (pair,) = content["pairs"]
    expected = paired_label_table({"ours": [ours], "theirs": [theirs]}).pair(0, 1)
    assert pair["p"] == pytest.approx(expected.p, rel=0.02)
    assert pair["p"] < 0.01
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Unknown labels, left out" in page
    assert "Lowest AP: " in page
    assert "on other fifths of the groups" in page
    shutil.copytree(out, tmp_path / "copy")
    ranked = read_data_sets([out, tmp_path / "copy"])[0]
    row = rows_of(out)["ours"]
    assert ranked.scores["ours"].value == pytest.approx(float(row["mean_average_precision"]), abs=1e-6)
    before = (out / "results.csv").read_bytes()
    write_report(out)
    assert (out / "results.csv").read_bytes() == before


def evaluated(frame: pd.DataFrame, folder: Path) -> dict[str, str]:
    out = folder / "out"
    with figures_not_rendered():
        evaluate_files([write(frame, folder / "a.csv")], out)
    return rows_of(out)["a"]


def test_thresholds_of_the_file_or_of_other_images(tmp_path: Path) -> None:
    table = made()
    frame = frame_of(table)
    for name, of_frame, thresholds in (
        ("file", frame.assign(threshold_edema=0.5, threshold_mass=0.3, threshold_scar=0.2), [0.5, 0.3, 0.2]),
        ("fifths", frame, cross_fitted_thresholds(table)),
        ("folds", frame.assign(fold=[number // 2 % 3 for number in range(len(frame))]), None),
    ):
        (tmp_path / name).mkdir()
        row = evaluated(of_frame, tmp_path / name)
        folds = np.arange(len(table)) // 2 % 3 if name == "folds" else table.fold
        expected = evaluate_labels([replace(table, fold=folds)], thresholds)
        for metric in ("macro_f1", "hamming_loss", "mean_average_precision"):
            assert float(row[metric]) == pytest.approx(expected[metric].value, abs=1e-6), name
            assert float(row[f"{metric}_low"]) == pytest.approx(expected[metric].low, abs=1e-6)
        if name == "file":
            assert [float(row[f"threshold_{label}"]) for label in NAMES] == thresholds


def test_thresholds_of_a_fifth_are_chosen_on_the_others() -> None:
    table = made()
    found = cross_fitted_thresholds(table)
    assert all(1 < len(set(of_label)) <= 5 for of_label in found.T.tolist())
    changed = False
    for group in list(dict.fromkeys(table.group))[:20]:
        own = table.group == group
        swapped = np.where(own[:, None], 1 - table.posterior, table.posterior).astype(np.float32)
        again = cross_fitted_thresholds(replace(table, posterior=swapped))
        np.testing.assert_array_equal(again[own], found[own])
        changed |= not np.array_equal(again, found)
    assert changed


def set_cell(column: str, value: object) -> Change:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame[column] = frame[column].astype(object)
        frame.loc[3, column] = value
        return frame

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_cell("label_mass", -1), r"1, 0 or, where it is unknown, a blank cell in column 'label_mass'.*found -1 in row 4"),
        (set_cell("label_mass", "maybe"), "found maybe in row 4"),
        (set_cell("p_scar", 1.2), r"probabilities in 0\.\.1 in column 'p_scar'.*found 1\.2 in row 4"),
        (set_cell("p_scar", ""), "found an empty cell in row 4"),
        (set_cell("image", "0000.png"), "each image once"),
        (lambda frame: frame.drop(columns="p_mass"), "but mass have no prediction and none no true label"),
        (lambda frame: frame.drop(columns="label_mass"), "none have no prediction and mass no true label"),
        (lambda frame: frame.drop(columns=[f"p_{name}" for name in NAMES]), "a column p_NAME or logit_NAME for each label"),
        (lambda frame: frame[["image", "label_mass", "p_mass"]], "two labels or more"),
        (lambda frame: frame.drop(columns="image"), "expected a column 'image'"),
        (lambda frame: frame.assign(threshold_mass=0.5), "but edema, scar have none"),
        (
            lambda frame: frame.assign(threshold_edema=0.5, threshold_mass=frame["p_mass"], threshold_scar=0.2),
            "one threshold in 0..1 in all rows of column 'threshold_mass'",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_place(tmp_path: Path, change: Change, message: str) -> None:
    path = write(change(frame_of(made())), tmp_path / "a.csv")
    with pytest.raises(DataError, match=message):
        evaluate_files([path], tmp_path / "out")
    assert not (tmp_path / "out" / "evaluation.json").exists()


def test_files_that_contradict_each_other(tmp_path: Path) -> None:
    frame = frame_of(made())
    first = write(frame, tmp_path / "a.csv")
    for change, message in (
        (lambda f: f.assign(label_mass=f["label_scar"]), "one label for an image in every file"),
        (lambda f: f.iloc[1:], "the same images in every file"),
        (lambda f: f.rename(columns=lambda n: n.replace("scar", "node")), "the same classes in every file"),
        (lambda f: f.assign(group="one"), "one group for an image"),
    ):
        with pytest.raises(DataError, match=message):
            read_label_files([first, write(change(frame.copy()), tmp_path / "b.csv")])
    single = write(frame.assign(label="x"), tmp_path / "c.csv")
    with pytest.raises(DataError, match="all have one label per image or all several"):
        evaluate_files([first, single], tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": ("group",)}, "--by can only"),
        ({"operating": (("mass", 0.9),)}, "--operating can only"),
        ({"classes": NAMES}, "--classes can only"),
        ({"class_order": NAMES}, "--class-order can only"),
    ],
)
def test_options_for_one_class_per_image(tmp_path: Path, options: dict[str, object], message: str) -> None:
    path = write(frame_of(made()), tmp_path / "a.csv")
    with pytest.raises(UsageError, match=message):
        evaluate_files([path], tmp_path / "out", **options)  # type: ignore[arg-type]


def test_labels_without_positives_or_negatives_are_undefined(tmp_path: Path) -> None:
    frame = frame_of(made()).assign(label_mass="0")
    row = evaluated(frame, tmp_path)
    assert (row["average_precision_mass"], row["n_mass"]) == ("", "0")
    frame = frame.assign(label_edema="1", label_scar="0")
    with pytest.raises(DataError, match="a label that some images have and others do not"):
        evaluate_files([write(frame, tmp_path / "b.csv")], tmp_path / "none")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("label_thresholds", [0.5]),
        ("label_thresholds", [0.5, 0.5, 2.0]),
        ("multi_label", False),
        ("by", ["sex"]),
    ],
)
def test_damage_of_an_evaluation_is_named(tmp_path: Path, key: str, value: object) -> None:
    frame = frame_of(made()).assign(threshold_edema=0.5, threshold_mass=0.3, threshold_scar=0.2)
    evaluated(frame, tmp_path)
    path = tmp_path / "out" / "evaluation.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    place = content["models"][0] if key == "label_thresholds" else content
    place[key] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="damaged"):
        write_report(tmp_path / "out")


@given(content=st.text(alphabet='ab01.,-\n\r"x ', max_size=80))
@settings(max_examples=60, deadline=None)
def test_any_text_is_read_or_reported(content: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "a.csv"
    header = "image,label_a,label_b,p_a,p_b,unknown_b\n"
    path.write_text(f"{header}i,1,0,0.5,0.25,0\n{content}", encoding="utf-8", newline="")
    try:
        found = read_label_table(path).rows
    except DataError:
        return
    assert len(set(found.image)) == len(found) >= 1
    assert ((found.posterior >= 0) & (found.posterior <= 1)).all()
    assert np.isfinite(found.logits).all()
