"""Files of predictions of other models: the supported forms, and the errors for others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.close import assert_same
from fixtures.predictions_csv import CLASSES, expected_of, frame_of, write
from fixtures.small_blocks import use_small_blocks
from tametail.core.errors import DataError, UsageError
from tametail.external.prediction_files import check_files, read_prediction_files
from tametail.predictions.single_label import Predictions, write_predictions

Change = Callable[[pd.DataFrame], pd.DataFrame]


def same(found: Predictions, expected: Predictions) -> None:
    assert found.class_names == expected.class_names
    for name in ("image", "group", "target", "fold"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
    np.testing.assert_array_equal(found.predicted, expected.predicted)


def read(path: Path, **options: object) -> Predictions:
    return read_prediction_files([path], **options).models[path.stem]  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_probabilities_of_every_kind_of_file(tmp_path: Path, ending: str) -> None:
    frame = frame_of()
    same(read(write(frame.sample(frac=1, random_state=0), tmp_path / f"a.{ending}")), expected_of(frame))


@pytest.mark.parametrize("prefix", ["prob_", "p_", ""])
def test_columns_are_called_in_three_ways(tmp_path: Path, prefix: str) -> None:
    frame = frame_of()
    renamed = frame.rename(columns=lambda name: name.replace("prob_", prefix))
    same(read(write(renamed, tmp_path / "a.csv")), expected_of(frame))


@pytest.mark.parametrize("prefix", ["logit_", ""])
def test_logits_with_a_prefix_and_without(tmp_path: Path, prefix: str) -> None:
    frame = frame_of()
    expected = expected_of(frame)
    for name in CLASSES:
        frame[f"{prefix}{name}"] = np.log(frame.pop(f"prob_{name}")) + 3
    found = read(write(frame, tmp_path / "a.csv"))
    same(found, expected)
    assert found.posterior is None


def test_of_both_kinds_the_logits_decide_and_the_probabilities_stay(tmp_path: Path) -> None:
    frame = frame_of()
    for name in CLASSES:
        frame[f"logit_{name}"] = np.log(frame[f"prob_{name}"]) + (9 if name == "mel" else 0)
    found = read(write(frame, tmp_path / "a.csv"))
    assert (found.predicted == 1).all()
    np.testing.assert_allclose(found.probabilities, expected_of(frame).probabilities, atol=1e-6)


def test_truth_in_columns_of_the_classes_is_not_taken_for_predictions(tmp_path: Path) -> None:
    frame = frame_of()
    expected = expected_of(frame)
    for name in CLASSES:
        frame[name] = (frame["label"] == name).astype(int)
    same(read(write(frame, tmp_path / "a.csv")), expected)


def test_a_studys_own_table_is_read_as_it_is(tmp_path: Path) -> None:
    own = dataclasses.replace(expected_of(frame_of()), link="sigmoid", fold=np.arange(150) % 5)
    write_predictions(own, tmp_path / "ours.parquet")
    found = read(tmp_path / "ours.parquet")
    same(found, own)
    assert found.link == "sigmoid"
    np.testing.assert_array_equal(found.logits, own.logits)


def test_folds_and_groups_are_known_where_the_file_has_them(tmp_path: Path) -> None:
    frame = frame_of().assign(fold=np.arange(150) % 3)
    assert set(read(write(frame, tmp_path / "a.csv")).fold.tolist()) == {0, 1, 2}
    without = read_prediction_files([write(frame.drop(columns="group"), tmp_path / "b.csv")])
    assert not without.grouped
    assert without.models["b"].group.tolist() == without.models["b"].image.tolist()


@pytest.mark.parametrize("kind", ["prob_", "logit_", "", "both"])
def test_classes_are_sorted_whatever_the_order_of_columns_and_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    use_small_blocks(monkeypatch)
    frame = frame_of()
    p = frame[[f"prob_{name}" for name in CLASSES]].to_numpy()
    for c, name in enumerate(CLASSES):
        del frame[f"prob_{name}"]
        if kind in ("prob_", "", "both"):
            frame.insert(0, f"{'prob_' if kind == 'both' else kind}{name}", p[:, c])
        if kind in ("logit_", "both"):
            frame.insert(1, f"logit_{name}", np.log(p[:, c]))
    found = read(write(frame.sample(frac=1, random_state=0), tmp_path / "a.csv"))
    assert found.class_names == CLASSES
    np.testing.assert_allclose(found.logits, np.log(p), rtol=1e-6)
    np.testing.assert_allclose(found.probabilities, p, rtol=1e-6)
    assert (found.posterior is None) == (kind == "logit_")


def test_a_class_that_no_image_has_keeps_its_place(tmp_path: Path) -> None:
    frame = frame_of(classes=("bcc", "mel", "nv", "vasc"))
    frame = frame[frame["label"] != "vasc"]
    assert read(write(frame, tmp_path / "a.csv")).class_names == ("bcc", "mel", "nv", "vasc")
    bare = write(frame.rename(columns=lambda name: name.replace("prob_", "")), tmp_path / "b.csv")
    with pytest.raises(DataError, match=r"sum to one.*--classes"):
        read(bare)
    found = read(bare, classes=("vasc", "nv", "mel", "bcc"))
    assert found.class_names == ("vasc", "nv", "mel", "bcc")
    with pytest.raises(DataError, match="found bcc too"):
        read(bare, classes=("vasc", "nv", "mel"))
    with pytest.raises(DataError, match=r"--classes writes it.*1 of 5 classes have none \(xyz\)"):
        read(bare, classes=("vasc", "nv", "mel", "bcc", "xyz"))


def test_several_models_of_one_set_of_images(tmp_path: Path) -> None:
    first, second = frame_of(0), frame_of(1)
    order = ["image", "prob_nv", "prob_bcc", "prob_mel", "label"]
    paths = [
        write(first, tmp_path / "a.csv"),
        write(second[order].sample(frac=1, random_state=1), tmp_path / "b.tsv"),
    ]
    found = read_prediction_files(paths, by=("sex", "age"))
    same(found.models["a"], expected_of(first))
    same(found.models["b"], expected_of(second))
    assert found.subgroup_columns["sex"].tolist() == first["sex"].tolist()
    assert len(set(found.subgroup_columns["age"].tolist())) == 4
    assert all(" to " in value for value in found.subgroup_columns["age"])


def test_names_of_models(tmp_path: Path) -> None:
    paths = []
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        paths.append(write(frame_of(), tmp_path / folder / "test.csv"))
    assert list(read_prediction_files(paths).models) == ["x/test", "y/test"]
    with pytest.raises(UsageError, match="more than once"):
        read_prediction_files([paths[0], paths[0]])
    with pytest.raises(UsageError, match="at least one file"):
        read_prediction_files([])


def at(row: int, column: str, value: object) -> Change:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.astype({column: object})
        frame.loc[row, column] = value
        return frame

    return change


BROKEN: list[tuple[str, Change, str]] = [
    ("no label", lambda f: f.drop(columns="label"), r"expected a column 'label'.*found image, group.*prob_NAME"),
    ("no image", lambda f: f.drop(columns="image"), "expected a column 'image'"),
    ("two images", lambda f: f.assign(Image=f["image"]), "one column for the image.*image, Image"),
    ("no numbers", lambda f: f[["image", "label", "sex"]], "3 of 3 classes have none .*found sex. Rename"),
    ("a class short", lambda f: f.drop(columns="prob_mel"), r"1 of 3 classes have none \(mel\)"),
    ("codes as labels", lambda f: f.assign(label=f["label"].map({"bcc": 0, "mel": 1, "nv": 2})), r"none \(0, 1, 2\)"),
    ("a label of its own", at(4, "label", "melanoma"), r"have none \(melanoma\)"),
    ("no label in a row", at(4, "label", ""), "found none in row 5 below the header"),
    ("no group in a row", at(0, "group", ""), "column 'group'"),
    ("an empty cell", at(6, "prob_nv", ""), "an empty cell in row 7 below the header"),
    ("nan", at(6, "prob_nv", "nan"), "finite number in every row of column 'prob_nv'"),
    ("infinity", at(6, "prob_nv", "inf"), "finite number"),
    ("a word", at(6, "prob_nv", "high"), "found ''?high'? in row 7"),
    ("a decimal comma", at(6, "prob_nv", "0,5"), "'0,5' in row 7"),
    ("above one", at(6, "prob_nv", 1.5), r"in 0\.\.1 .* found 1.5 in row 7.*logit_NAME"),
    ("below zero", at(6, "prob_nv", -0.1), "found -0.1"),
    ("a sum", at(6, "prob_nv", 0.999), "sum to one in every row, found"),
    ("twice", lambda f: pd.concat([f, f.iloc[:1]]), r"each image once .* found 1 more than once \(0000.png\)"),
    ("one class", lambda f: f.assign(label="nv", prob_nv=1.0).drop(columns=["prob_bcc", "prob_mel"]), "two classes or more"),
    ("no rows", lambda f: f.iloc[:0], "header only"),
    (
        "per cent",
        lambda f: f.assign(**{c: 100 * f[c] for c in f if c.startswith("prob_")}),
        "found percentages; divide by 100",
    ),
    (
        "bare per cent",
        lambda f: f.assign(**{c: 100 * f[c] for c in f if c.startswith("prob_")}).rename(columns=lambda n: n.replace("prob_", "")),
        "found percentages",
    ),
    ("a far logit", lambda f: f.assign(logit_bcc=1e300, logit_mel=0.0, logit_nv=0.0), r"up to 1e\+37"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_a_broken_file_is_reported_with_what_was_found(tmp_path: Path, change: Change, message: str) -> None:
    with pytest.raises(DataError, match=message) as told:
        read_prediction_files([write(change(frame_of()), tmp_path / "a.csv")])
    assert "a.csv" in str(told.value)
    assert "expected" in str(told.value) or "a header only" in str(told.value)


@pytest.mark.parametrize(
    "change",
    [lambda frame: frame, *(case[1] for case in BROKEN)],
    ids=["sound", *(case[0] for case in BROKEN)],
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_size_of_blocks_changes_neither_numbers_nor_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, ending: str
) -> None:
    frame = change(frame_of().sample(frac=1, random_state=0).reset_index(drop=True))
    mixed = [column for column in frame if frame[column].map(type).nunique() > 1]
    path = write(frame.astype(dict.fromkeys(mixed, str)), tmp_path / f"a.{ending}")

    def found() -> Predictions | str:
        try:
            return read(path)
        except DataError as error:
            return str(error)

    whole = found()
    for rows in (3, 149):
        use_small_blocks(monkeypatch, rows)
        blocks = found()
        if isinstance(whole, Predictions):
            assert_same(blocks, whole)
        else:
            assert blocks == whole


DIFFERENT: list[tuple[str, Change, str]] = [
    ("fewer images", lambda f: f.iloc[3:], r"3 of .*a.csv are not in .*b.csv \(0000.png, .*other way round \(none\)"),
    ("other images", lambda f: f.assign(image="x" + f["image"]), "same images in every file"),
    ("another label", at(7, "label", "mel"), "1 images differ: 0007.png is"),
    ("another group", at(7, "group", "patient9"), "one group for an image in every file, but 1 images differ"),
    ("another sex", at(7, "sex", "x"), "one sex for an image"),
    ("another class", lambda f: f.rename(columns={"prob_bcc": "prob_x"}).replace({"label": {"bcc": "x"}}), "bcc are in .*a.csv alone and x in"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"), [case[1:] for case in DIFFERENT], ids=[case[0] for case in DIFFERENT]
)
def test_files_that_contradict_each_other(tmp_path: Path, change: Change, message: str) -> None:
    frame = frame_of()
    frame.loc[7, "label"] = "nv"
    paths = [write(frame, tmp_path / "a.csv"), write(change(frame.copy()), tmp_path / "b.csv")]
    with pytest.raises(DataError, match=message):
        read_prediction_files(paths, by=("sex",))


def test_columns_to_evaluate_by(tmp_path: Path) -> None:
    frame = frame_of().assign(serial=[f"s{number}" for number in range(150)])
    path = write(frame, tmp_path / "a.csv")
    with pytest.raises(UsageError, match=r"at most 30 values .* found 150 in 'serial'"):
        read_prediction_files([path], by=("serial",))
    with pytest.raises(UsageError, match=r"expected a column 'site' to evaluate by .*found sex, age, serial"):
        read_prediction_files([path], by=("site",))
    with pytest.raises(UsageError, match="expected a column 'group'"):
        read_prediction_files([path], by=("group",))


def test_missing_files_are_reported_before_any_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data"):
        check_files([tmp_path])
    with pytest.raises(DataError, match="nothing is there"):
        check_files([tmp_path / "absent.csv"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"PAR1 no parquet"),
        ("a.parquet", b""),
        ("a.csv", b"\x00\x01"),
        ("a.csv", b""),
        ("a.jsonl", b"{"),
    ],
)
def test_files_of_no_kind(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        read_prediction_files([tmp_path / name])


def test_tables_of_several_labels_are_refused(tmp_path: Path) -> None:
    from tametail.predictions.multi_label import LabelPredictions, write_label_predictions

    images, p = np.array(["a", "b"]), np.full((2, 2), 0.5, dtype=np.float32)
    table = LabelPredictions(images, images, p > 0.2, np.zeros(2, dtype=np.int64), p, ("x", "y"), p)
    write_label_predictions(table, tmp_path / "labels.parquet")
    with pytest.raises(DataError, match="expected kind single_label, found multi_label"):
        read_prediction_files([tmp_path / "labels.parquet"])


@given(content=st.text(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_text_is_read_or_reported(content: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "a.csv"
    path.write_text("image,label,prob_a,prob_b\n" + content, encoding="utf-8", newline="")
    try:
        found = read(path)
    except DataError:
        return
    assert np.isfinite(found.probabilities).all()
