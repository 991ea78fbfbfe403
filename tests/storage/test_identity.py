"""Folders of another schema, of another kind or with other settings are refused before any work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fixtures.predictions_csv import frame_of, write
from tametail.cli.app import app
from tametail.core.errors import DataError, TametailError, UsageError
from tametail.storage.identity import (
    SCHEMA,
    FolderKind,
    check_same,
    difference,
    prepare_directory,
    read_settings,
)

KIND = FolderKind("a study", "study.json", "tametail compare", frozenset({"splits.csv", ".lock"}))
STUDY, SEARCH, EVALUATION, RECOMMENDATION = "study.json", "search.json", "evaluation.json", "settings.json"


def old_folder(path: Path, file: str, key: str = "format", schema: int = 1) -> Path:
    path.mkdir()
    (path / file).write_text(json.dumps({key: schema, "tametail": "0.1.0", "models": []}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("file", "words", "again"),
    [
        (STUDY, ["compare", "demo", "-o", "OLD", "--quiet"], "compare"),
        (STUDY, ["resume", "OLD"], "compare"),
        (STUDY, ["test-set", "OLD"], "compare"),
        (STUDY, ["report", "OLD"], "compare"),
        (STUDY, ["predict", "OLD", "IMAGES", "-o", "OUT.csv"], "compare"),
        (STUDY, ["evaluate", "OLD", "--data", "demo", "-o", "OUT"], "compare"),
        (STUDY, ["rank", "OLD", "OTHER", "-o", "OUT"], "compare"),
        (EVALUATION, ["report", "OLD"], "evaluate"),
        (EVALUATION, ["rank", "OLD", "OTHER", "-o", "OUT"], "evaluate"),
        (EVALUATION, ["evaluate", "PREDICTIONS", "-o", "OLD"], "evaluate"),
        (SEARCH, ["search", "demo", "--loss", "focal", "-o", "OLD"], "search"),
        (SEARCH, ["compare", "demo", "--tuned", "OLD", "-o", "OUT"], "search"),
        (RECOMMENDATION, ["recommend", "demo", "-o", "OLD"], "recommend"),
    ],
)
def test_every_command_refuses_a_folder_of_another_schema(
    file: str, words: list[str], again: str, tmp_path: Path
) -> None:
    old, other = (old_folder(tmp_path / name, file) for name in ("old", "other"))
    (tmp_path / "image.png").touch()
    before = (old / file).read_bytes()
    places = {
        "OLD": old,
        "OTHER": other,
        "IMAGES": tmp_path,
        "PREDICTIONS": write(frame_of(), tmp_path / "p.csv"),
    }
    places |= {name: tmp_path / name for name in ("OUT", "OUT.csv")}
    there = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(app, [str(places.get(word, word)) for word in words])
    message = " ".join(result.stderr.split())
    assert result.exit_code == DataError.exit_code, message
    assert "made by an older tametail (schema 1); this version reads schema 6" in message
    assert f"run tametail {again} again in another folder" in message
    assert "use the version that made it (tametail 0.1.0)" in message
    assert sorted(tmp_path.rglob("*")) == there
    assert (old / file).read_bytes() == before


@pytest.mark.parametrize(("key", "schema", "age"), [("format", 1, "an older"), ("schema", 7, "a newer")])
def test_both_versions_are_named(key: str, schema: int, age: str, tmp_path: Path) -> None:
    old = old_folder(tmp_path / "old", STUDY, key, schema)
    for refuse in (read_settings, prepare_directory):
        with pytest.raises(DataError, match=rf"made by {age} tametail \(schema {schema}\).*reads schema 6"):
            refuse(old, KIND)


@pytest.mark.parametrize("content", ["{", "[]", "{}", "null"])
def test_damaged_settings_are_reported(content: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="make one with tametail compare"):
        read_settings(tmp_path / "absent", KIND)
    (tmp_path / STUDY).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="run tametail compare again in another folder"):
        read_settings(tmp_path, KIND)


def test_a_folder_of_the_same_kind_is_accepted_and_anything_else_refused(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    prepare_directory(out, KIND)
    for name in ("splits.csv", ".study.json.0123abcd.tmp", ".hidden", ".lock"):
        (out / name).touch()
    prepare_directory(out, KIND)
    (out / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"empty folder or a study at .*, found notes\.txt"):
        prepare_directory(out, KIND)
    (out / STUDY).write_text(json.dumps({"schema": SCHEMA}), encoding="utf-8")
    prepare_directory(out, KIND)
    with pytest.raises(TametailError, match="cannot be written"):
        prepare_directory(out / "notes.txt" / "out", KIND)


def test_the_first_difference_is_named() -> None:
    present = {"splits": {"folds": 3, "seed": 0}, "classes": ["a", "b"]}
    check_same("x holds another study", present, present, ["splits", "classes"])
    wanted = {"splits": {"folds": 3, "seed": 1}, "classes": ["a"]}
    with pytest.raises(
        UsageError, match=r"x holds another study: its splits\.seed is 0, not 1; give another"
    ):
        check_same("x holds another study", present, wanted, ["splits", "classes"])
    assert difference("classes", present["classes"], wanted["classes"]) == "its classes is a, b, not a"
