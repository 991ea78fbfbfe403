from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.class_study import write_study
from tametail.core.errors import DataError
from tametail.predictions.multi_label import LabelPredictions
from tametail.predictions.single_label import Predictions, read_predictions
from tametail.report import read_results, write_report
from tametail.report.study.gallery import (
    IMAGES_MISSING,
    MOST_ERRORS,
    MOST_OF_A_CLASS,
    Gallery,
    GalleryImage,
    gallery,
    select_images,
    select_labels,
)
from tametail.report.study.thumbnails import THUMBNAILS
from tametail.report.study.write import NO_IMAGES

pytestmark = pytest.mark.usefixtures("without_figures")


def predictions(seed: int, images: int, groups: int, classes: int) -> Predictions:
    rng = np.random.default_rng(seed)
    return Predictions(
        np.array([f"{row:05d}.png" for row in range(images)]),
        np.array([f"g{code}" for code in rng.integers(0, groups, images)]),
        rng.integers(0, classes, images),
        np.zeros(images, dtype=np.int64),
        rng.normal(size=(images, classes)).astype(np.float32),
        tuple(f"class {index}" for index in range(classes)),
        "softmax",
    )


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 120), st.integers(1, 60), st.integers(2, 30))
def test_the_surest_errors_and_the_rarest_classes(seed: int, images: int, groups: int, classes: int) -> None:
    table = predictions(seed, images, groups, classes)
    order = np.random.default_rng(seed).permutation(classes).tolist()
    chosen = select_images(table, order)
    p, predicted = table.probabilities, table.predicted
    sure = [p[row, predicted[row]] for row in chosen.errors]
    assert sure == sorted(sure, reverse=True)
    assert all(predicted[row] != table.target[row] for row in chosen.errors)
    of_group = Counter(table.group[list(chosen.errors)].tolist())
    assert max(of_group.values(), default=0) <= 2
    # What is left out is no surer than the least sure one, or of a group that has two already.
    left = set(np.flatnonzero(predicted != table.target).tolist()) - set(chosen.errors)
    if len(chosen.errors) < MOST_ERRORS:
        assert all(of_group[str(table.group[row])] == 2 for row in left)
    else:
        assert all(p[row, predicted[row]] <= sure[-1] or of_group[str(table.group[row])] == 2 for row in left)
    assert [index for index, _ in chosen.rarest] == order[::-1][: min(max(classes // 3, 1), 6)]
    for index, rows in chosen.rarest:
        own = np.flatnonzero(table.target == index)
        assert len(rows) == len(set(rows)) == min(MOST_OF_A_CLASS, len(own))
        assert set(rows) <= set(own.tolist())
        if len(rows):
            assert p[rows[0], index] == p[own, index].max()
            assert p[rows[-1], index] == p[own, index].min()
    assert len({*chosen.errors, *(row for _, rows in chosen.rarest for row in rows)}) <= 48


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study and its images; tests copy it."""
    folder = tmp_path_factory.mktemp("gallery")
    write_study(
        folder / "study",
        methods=("alpa",),
        seeds=(0, 1),
        test_set_evaluations=1,
        image_root=folder / "images",
    )
    return folder


@pytest.fixture
def study(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    source = json.dumps({"image_root": str(tmp_path / "images")})
    (tmp_path / "study" / "source.json").write_text(source, encoding="utf-8")
    return tmp_path / "study"


def read(study: Path, root: Path | None) -> Gallery | str:
    return gallery(study, read_results(study), root)


def test_pictures_say_what_the_tables_say(study: Path, tmp_path: Path) -> None:
    shown = read(study, tmp_path / "images")
    assert isinstance(shown, Gallery)
    table = pd.read_parquet(study / "table.parquet")
    parts = pd.read_csv(study / "splits.csv").set_index("image")["part"]
    of_seed = [
        [read_predictions(path) for path in sorted(study.glob(f"runs/alpa/seed{seed}-*/predictions.parquet"))]
        for seed in (0, 1)
    ]
    mean: dict[str, np.ndarray] = {}
    for tables in of_seed:
        for each in tables:
            for image, p in zip(each.image, each.probabilities, strict=True):
                mean[image] = mean.get(image, 0) + p / 2
    names = of_seed[0][0].class_names
    pictures = [*shown.errors, *(one for group in shown.rarest for one in group.pictures)]
    assert len(shown.errors) == MOST_ERRORS
    for one in pictures:
        row = table.iloc[one.number - 1]
        assert parts[row["image"]] == "train", "the test set stays out of it"
        assert row["label"] == one.true
        assert names[int(mean[row["image"]].argmax())] == one.predicted
        assert one.probability == pytest.approx(mean[row["image"]].max(), abs=1e-6)
        assert one.source.startswith("data:image/jpeg;base64,/9j/")
        assert f"True: {one.true}. Predicted: {one.predicted}, " in one.alt
    assert not any(one.correct for one in shown.errors)
    assert [group.name for group in shown.rarest] == ["basophil", "smudge cell"]
    assert shown.missing == 0


def test_copies_outlast_the_images(study: Path, tmp_path: Path) -> None:
    first = read(study, tmp_path / "images")
    shutil.rmtree(tmp_path / "images")
    assert read(study, tmp_path / "images") == first
    assert read(study, None) == first
    (study / "report.html").unlink(missing_ok=True)
    assert 'src="data:image/jpeg' in write_report(study).read_text(encoding="utf-8")
    shutil.rmtree(study / THUMBNAILS)
    assert read(study, tmp_path / "images") == IMAGES_MISSING


def test_images_that_cannot_be_read_are_counted(study: Path, tmp_path: Path) -> None:
    shown = read(study, tmp_path / "images")
    assert isinstance(shown, Gallery)
    shutil.rmtree(study / THUMBNAILS)
    image = pd.read_parquet(study / "table.parquet")["image"][shown.errors[0].number - 1]
    (tmp_path / "images" / image).write_bytes(b"no image")
    broken = read(study, tmp_path / "images")
    assert isinstance(broken, Gallery)
    assert broken.missing == 1
    assert broken.errors == shown.errors[1:]
    html = write_report(study).read_text(encoding="utf-8")
    assert "1 image could not be read." in html


def test_no_name_of_an_image_or_group_is_on_the_page(study: Path) -> None:
    html = write_report(study).read_text(encoding="utf-8")
    assert html.count('src="data:image/jpeg') > 24
    for text in ("patient-", ".png", "images/0", str(study)):
        assert text not in html
    assert len(html) < 5_000_000


def test_images_are_left_out_where_asked_and_so_it_stays(study: Path) -> None:
    html = write_report(study, images=False).read_text(encoding="utf-8")
    assert "data:image" not in html
    assert NO_IMAGES in html
    assert not (study / THUMBNAILS).exists()
    assert write_report(study).read_text(encoding="utf-8") == html
    assert "data:image" in write_report(study, images=True).read_text(encoding="utf-8")
    assert "data:image" in write_report(study).read_text(encoding="utf-8")
    write_report(study, images=False)
    assert not (study / THUMBNAILS).exists()


def test_another_folder_of_the_images_can_be_named(study: Path, tmp_path: Path) -> None:
    (tmp_path / "images").rename(tmp_path / "moved")
    assert IMAGES_MISSING in write_report(study).read_text(encoding="utf-8")
    assert "data:image" in write_report(study, image_root=tmp_path / "moved").read_text(encoding="utf-8")


def test_a_damaged_setting_is_a_data_error(study: Path) -> None:
    for content in ("{", "[]", '{"by": 3}', '{"operating": ["x"]}', '{"predict_by": "eye"}'):
        (study / "report.json").write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=r"expected .*report\.json"):
            write_report(study)
    (study / "report.json").unlink()
    page = write_report(study, images=False)
    assert json.loads(page.with_name("report.json").read_text())["images"] is False


def test_images_that_the_table_lacks_are_a_data_error(study: Path, tmp_path: Path) -> None:
    results = read_results(study)
    table = pd.read_parquet(study / "table.parquet")
    table["image"] += "x"
    table.to_parquet(study / "table.parquet")
    with pytest.raises(DataError, match="expected every image of the predictions in the table"):
        gallery(study, results, tmp_path / "images")


@pytest.mark.parametrize(
    ("p", "said"), [(0.974, "probability 97 %"), (0.9951, "probability > 99 %"), (0.1, "probability 10 %")]
)
def test_how_sure_in_words(p: float, said: str) -> None:
    one = GalleryImage(3, "a", "b", p, "")
    assert one.alt == f"Image 3. True: a. Predicted: b, {said}."


def test_errors_of_labels_are_the_most_confident_of_known_labels() -> None:
    rng = np.random.default_rng(0)
    n, names = 60, ("effusion", "mass")
    labels = rng.random((n, 2)) < 0.4
    unknown = ~labels & (rng.random((n, 2)) < 0.3)
    p = rng.random((n, 2)).astype(np.float32)
    image = np.array([f"{index:02d}" for index in range(n)])
    logits = np.log(p / (1 - p))
    table = LabelPredictions(image, image, labels, np.zeros(n, np.int64), logits, names, p, unknown)
    thresholds = np.array([0.5, 0.3])
    found = select_labels(table, thresholds, [0, 1])
    decided = p >= thresholds
    confidence = np.where(decided, p, 1 - p)
    wrong = (decided != labels) & ~unknown
    rows = [one.row for one in found.errors]
    assert len(set(rows)) == len(rows)
    assert wrong[rows].any(axis=1).all()
    for false_positive in (True, False):
        of_kind = wrong & (decided == false_positive)
        shown = [one.probability for one in found.errors if one.predicted.startswith("no ") != false_positive]
        assert shown == sorted(shown, reverse=True)
        assert shown[0] == pytest.approx(confidence[of_kind].max())
    for one in found.errors:
        name = one.true.removeprefix("no ")
        assert {one.true, one.predicted} == {name, f"no {name}"}
        at = names.index(name)
        assert labels[one.row, at] == (one.true == name)
    ((name, rare),) = found.rarest
    assert name == "mass"
    assert all(labels[one.row, 1] for one in rare)
