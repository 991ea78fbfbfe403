"""What tells who a patient is: in no output where it comes from DICOM headers, and in no byte of a shared copy."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cli.test_app import run
from fixtures.dicom_samples import dicom_bytes
from fixtures.label_study import write_label_study
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import COLOURS, TINY, words
from tametail.core.errors import UsageError
from tametail.data import load_splits
from tametail.report import write_report
from tametail.study.share import share
from tametail.study.study import Study
from tametail.training.recipe import load_recipe

HEADER = {  # in the tags of every file; nothing of it may come out
    "PatientName": "Zyxname^Quillon",
    "PatientID": "ZyxId",
    "PatientBirthDate": "19230517",
    "InstitutionName": "Zyxhospital",
    "ReferringPhysicianName": "Zyxdoctor^A",
    "AccessionNumber": "ZyxAcc77",
    "StationName": "Zyxstation",
    "OperatorsName": "Zyxoperator",
    "PatientAddress": "Zyxstreet 5",
    "StudyDate": "19991224",
}
IN_HEADERS = ["Zyxname", "Quillon", "ZyxId", "19230517", "Zyxhospital", "Zyxdoctor", "ZyxAcc77", "Zyxstation", "Zyxoperator", "Zyxstreet", "19991224"]  # fmt: skip
PLANTED = [
    "Zyxfolder",
    "Zyxfile",
    "patient_0",
    "Zyxuser",
    "Zyxhost",
    "Zyxextra",
    "Zyxcolumn",
    "Zyxmaker",
    "Zyxcell",
]
OPTIONS = [*words(TINY), "--epochs", "2", "--lr", "0.01", "--folds", "2"]


@pytest.fixture(autouse=True)
def _plain() -> Iterator[None]:
    with figures_not_rendered():
        yield


def write_dicom(folder: Path, seed: int) -> Path:
    """Two images of each of 14 patients in three classes."""
    rng = np.random.default_rng(seed)
    for number in range(28):
        label = sorted(COLOURS)[0 if number < 12 else 1 if number < 20 else 2]
        patient = number // 2
        pixels = np.array(COLOURS[label]) + rng.normal(0, 60, (40, 48, 3))
        path = folder / label / f"Zyxfile-{patient:02d}-{number}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        tags = HEADER | {"PatientID": f"ZyxId{patient:02d}", "Manufacturer": "Zyxmaker"}
        tags |= {"PatientSex": "FM"[patient % 2], "PatientAge": f"{30 + number:03d}Y"}
        path.write_bytes(dicom_bytes(pixels.clip(0, 255).astype(np.uint8), **tags))
    return folder


def texts_of(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every file as text, Parquet decoded too, and the names of files and folders."""
    for path in sorted(folder.rglob("*")):
        yield path, str(path.relative_to(folder))
        if path.is_file():
            yield path, path.read_bytes().decode("latin-1")
        if path.suffix == ".parquet":
            yield path, str(pq.read_schema(path).metadata) + pd.read_parquet(path).to_csv()


def found_in(folder: Path, tokens: list[str]) -> list[tuple[str, str]]:
    return [
        (path.name, token)
        for path, text in texts_of(folder)
        for token in tokens
        if token.lower() in text.lower()
    ]


@pytest.fixture(scope="module")
def dicom_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the outputs of all commands on DICOM images, and what they printed in said.txt."""
    place = tmp_path_factory.mktemp("dicom")
    data, other = (write_dicom(place / "Zyxfolder" / name, seed) for seed, name in enumerate(("a", "b")))
    out, said = place / "out", []
    with pytest.MonkeyPatch.context() as patch, figures_not_rendered():
        patch.setenv("TAMETAIL_CACHE", str(place / "cache"))
        for command in (
            ("inspect", data, "-o", out / "page.html"),
            ("inspect", data, "--json"),
            ("compare", data, "--methods", "ce,ce+la", "-o", out / "study", *OPTIONS),
            ("test-set", out / "study"),
            ("predict", out / "study", data, "-o", out / "predictions.csv"),
            ("report", out / "study", "--by", "sex", "--by", "age", "--operating", "blue=0.9"),
            ("evaluate", out / "study", "--data", other, "--by", "sex", "-o", out / "evaluation"),
        ):
            code, output, errors = run(*command)
            assert code == 0 or command[0] == "inspect", output + errors
            said.append(output + errors)
    (out / "said.txt").write_text("\n".join(said), encoding="utf-8")
    return out


@pytest.mark.slow
def test_nothing_of_a_patient_in_dicom_headers_comes_out(dicom_study: Path) -> None:
    assert len(list(dicom_study.rglob("*"))) > 30
    assert found_in(dicom_study, IN_HEADERS) == []
    said = (dicom_study / "said.txt").read_text(encoding="utf-8")
    assert said.count("tametail share writes a copy") == 1, "said once, where the folder is made"


@pytest.fixture
def study(dicom_study: Path, tmp_path: Path) -> Path:
    """The study with more than a study has: unknown files, fields, metadata and a column."""
    planted = tmp_path / "study"
    shutil.copytree(dicom_study / "study", planted)
    for name in (
        "notes.txt",
        "events.out.Zyxhost",
        "thumbnails/Zyxextra.jpg",
        "runs/ce/seed0-fold0/Zyxextra.log",
    ):
        (planted / name).parent.mkdir(exist_ok=True)
        (planted / name).write_text("Zyxuser", encoding="utf-8")
    for path in (planted / "study.json", *planted.glob("runs/*/*/run.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        content |= {"user": "Zyxuser", "message": "Zyxextra", "command": "compare /home/Zyxuser/Zyxfolder"}
        content |= {"options": {"image_root": "Zyxfolder", "group_col": "Zyxcolumn", "folds": 2}}
        if "environment" in content:
            content["environment"]["host"] = "Zyxhost"
        path.write_text(json.dumps(content), encoding="utf-8")
    (planted / "source.json").write_text(
        json.dumps({"image_root": "/home/Zyxuser/Zyxfolder"}), encoding="utf-8"
    )
    table = pd.read_parquet(planted / "table.parquet").assign(Zyxcolumn="Zyxcell")
    table.attrs = {"made by": "Zyxuser"}
    table.to_parquet(planted / "table.parquet", index=False)
    return planted


def test_no_byte_of_a_copy_tells_who_or_where(study: Path, tmp_path: Path) -> None:
    code, output, errors = run("share", study, tmp_path / "copy")
    assert code == 0, errors
    assert output.strip() == str(tmp_path / "copy")
    assert found_in(study, PLANTED), "the tokens are found where they are"
    assert found_in(tmp_path / "copy", [*IN_HEADERS, *PLANTED, str(tmp_path)]) == []
    assert found_in(tmp_path / "copy", ["image/jpeg", ".safetensors", "/home/"]) == []
    for unknown in ("notes.txt", "Zyxextra.log", "study.json: user", "run.json: environment: host"):
        assert unknown in errors, "what is unknown is named to the user"
    assert "results_long.csv" not in errors
    text = (tmp_path / "copy" / "shared.md").read_text(encoding="utf-8")
    for said in ("thumbnails", "weights", "by sex, age", "No longer".lower()):
        assert said in text
    times = {path.stat().st_mtime for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert len(times) == 1


def test_the_results_of_a_copy_are_those_of_its_study(study: Path, tmp_path: Path) -> None:
    share(study, tmp_path / "copy", name="a")
    tables = ("results.csv", "results_long.csv", "results.md", "results.tex", "calibration.json")
    for name in tables:
        assert (tmp_path / "copy" / name).read_bytes() == (study / name).read_bytes(), name
    before, after = (json.loads((at / "metrics.json").read_text()) for at in (study, tmp_path / "copy"))
    for content in (before, after):
        del content["protocol"]["table"], content["protocol"]["splits"]
    assert after == before
    for name in tables:
        (tmp_path / "copy" / name).unlink()
    assert run("report", tmp_path / "copy")[0] == 0
    assert (tmp_path / "copy" / "results.csv").read_bytes() == (study / "results.csv").read_bytes()


def test_numbers_of_subgroups_become_their_ranges(study: Path, tmp_path: Path) -> None:
    table = pd.read_parquet(study / "table.parquet")
    table.assign(age=[30.5 + number for number in range(len(table))]).to_parquet(study / "table.parquet")
    assert run("report", study)[0] == 0
    share(study, tmp_path / "copy", name="a")
    assert pd.read_parquet(tmp_path / "copy" / "table.parquet")["age"].nunique() <= 5
    assert "age" in (study / "results.csv").read_text(encoding="utf-8")
    for name in ("results.csv", "results.md"):
        assert (tmp_path / "copy" / name).read_bytes() == (study / name).read_bytes()


def test_images_and_groups_have_one_number_in_all_files(study: Path, tmp_path: Path) -> None:
    copy = share(study, tmp_path / "copy").directory
    one, other = (pd.read_parquet(at / "table.parquet") for at in (study, copy))
    images = dict(zip(one["image"], other["image"], strict=True))
    groups = dict(zip(one["group"], other["group"], strict=True))
    assert len(set(images.values())) == len(images)
    assert len(set(groups.values())) == len(groups) == 14
    assert set(other.columns) == {"image", "label", "group", "split", "sex", "age"}
    for path in study.glob("runs/*/*/*predictions.parquet"):
        before, after = pd.read_parquet(path), pd.read_parquet(copy / path.relative_to(study))
        expected = before.assign(image=before["image"].map(images), group=before["group"].map(groups))
        pd.testing.assert_frame_equal(after, expected)
    settings = Study(copy).settings
    split = {key: settings["splits"][key] for key in ("folds", "seed", "given", "fingerprint")}
    splits = load_splits(copy / "splits.csv", **split, redrawn=settings["redrawn_folds"])
    assert splits.image.tolist() == list(images.values())


def test_thumbnails_come_along_on_request(study: Path, tmp_path: Path) -> None:
    share(study, tmp_path / "copy", with_thumbnails=True)
    assert "image/jpeg" in (tmp_path / "copy" / "report.html").read_text(encoding="utf-8")
    assert found_in(tmp_path / "copy", [*IN_HEADERS, *PLANTED]) == []


def test_a_place_that_holds_something_or_is_in_the_study_is_refused(study: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(study, target_is_directory=True)
    for place in (study, study / "copy", tmp_path / "link" / "copy", tmp_path):
        with pytest.raises(UsageError, match="folder for the copy"):
            share(study, place)


def test_an_interrupted_copy_leaves_nothing(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tametail.study.share.write_report", interrupt)
    with pytest.raises(KeyboardInterrupt):
        share(study, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_what_needs_weights_or_images_refuses_a_copy(dicom_study: Path, study: Path, tmp_path: Path) -> None:
    copy, data = share(study, tmp_path / "copy").directory, dicom_study.parent / "Zyxfolder" / "a"
    for command in (
        ("resume", copy),
        ("test-set", copy),
        ("predict", copy, data),
        ("evaluate", copy, "--data", data),
        ("compare", data, "--methods", "ce", "-o", copy, *OPTIONS),
    ):
        code, _, errors = run(*command)
        assert code == 2, errors
        assert "tametail share" in errors
    code, _, errors = run("rank", study, copy, "-o", tmp_path / "ranks")
    assert code == 0, errors
    assert "Made by tametail share: study" in errors


@pytest.fixture
def label_study(tmp_path: Path) -> Path:
    study = write_label_study(tmp_path / "study", images=120, test_set_evaluations=1)
    changed_settings(
        study,
        splits={"fingerprint": hashlib.sha256((study / "splits.csv").read_bytes()).hexdigest()},
        recipe=load_recipe("head").model_dump(mode="json"),
    )
    return study


def changed_settings(study: Path, **changes: Any) -> None:
    described = json.loads((study / "study.json").read_text(encoding="utf-8"))
    for key, value in changes.items():
        described[key] = described.get(key, {}) | value if isinstance(value, dict) else value
    (study / "study.json").write_text(json.dumps(described), encoding="utf-8")


def test_a_recipe_file_that_keeps_the_name_of_a_recipe_is_not_told(label_study: Path, tmp_path: Path) -> None:
    options = {"recipe": "Zyxfile.yaml", "folds": 3, "set": ["summary=Zyxextra", "epochs=3"]}
    changed_settings(label_study, recipe={"summary": "Zyxextra"}, options=options)
    copy = share(label_study, tmp_path / "copy")
    assert copy.settings["recipe"]["name"] == "own"
    assert found_in(copy.directory, PLANTED) == []


def test_a_method_whose_name_is_a_path_writes_nothing_outside(label_study: Path, tmp_path: Path) -> None:
    described = json.loads((label_study / "study.json").read_text(encoding="utf-8"))
    changed_settings(label_study, methods=[*described["methods"], "ce+/../../../theirs"])
    (label_study / "runs" / "ce+").mkdir()
    theirs = tmp_path / "theirs" / "seed0-fold0"
    theirs.mkdir(parents=True)
    (theirs / "run.json").write_text('{"status": "failed"}', encoding="utf-8")
    (tmp_path / "out").mkdir()
    share(label_study, tmp_path / "out" / "copy")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["copy"]


def test_what_others_put_into_the_folder_meanwhile_stays(
    label_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(_: Path) -> None:
        (tmp_path / "copy").mkdir()
        (tmp_path / "copy" / "theirs").touch()

    monkeypatch.setattr("tametail.study.share.write_report", put)
    with pytest.raises(UsageError, match="empty folder"):
        share(label_study, tmp_path / "copy")
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["theirs"]


def test_a_study_of_several_labels_per_image(label_study: Path, tmp_path: Path) -> None:
    study = label_study
    write_report(study)
    share(study, tmp_path / "copy", name="lungs")
    for name in ("results.csv", "results.md"):
        assert (tmp_path / "copy" / name).read_bytes() == (study / name).read_bytes()
    assert found_in(tmp_path / "copy", ["patient-", "images/0"]) == []
