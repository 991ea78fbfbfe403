"""The record of test-set evaluations, the lock of a folder, and the removal of leftovers."""

from __future__ import annotations

import errno
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fixtures.class_study import write_study
from fixtures.leftovers import contents, left_over, make, make_home
from tametail.core.atomic import atomic_path
from tametail.core.errors import DataError
from tametail.core.removal import temporary_sibling
from tametail.storage.json_lines import append_line, read_lines
from tametail.storage.locks import lock_folder
from tametail.storage.study_file import (
    finish_test_set_evaluation,
    read_study_file,
    read_test_set_evaluations,
    read_test_set_looks,
    record_test_set_evaluation,
    remove_leftovers,
)


def test_evaluations_of_the_test_set_are_numbered(tmp_path: Path) -> None:
    assert read_test_set_evaluations(tmp_path) == []
    for runs in (1, 2):
        record_test_set_evaluation(tmp_path, {"runs": runs, "best_out_of_fold": "ce·é"})
    assert [(one["evaluation"], one["runs"]) for one in read_test_set_evaluations(tmp_path)] == [
        (1, 1),
        (2, 2),
    ]
    assert read_test_set_evaluations(tmp_path)[0]["best_out_of_fold"] == "ce·é"


def test_an_interrupted_evaluation_is_continued_and_a_finished_one_repeated(tmp_path: Path) -> None:
    facts = {"methods": ["ce"], "runs": 3, "new_runs": 3}
    assert record_test_set_evaluation(tmp_path, facts)["evaluation"] == 1
    assert record_test_set_evaluation(tmp_path, facts | {"new_runs": 1})["evaluation"] == 1
    assert record_test_set_evaluation(tmp_path, facts | {"runs": 4})["evaluation"] == 2, "of other runs"
    finish_test_set_evaluation(tmp_path, 2)
    assert record_test_set_evaluation(tmp_path, facts | {"runs": 4})["evaluation"] == 3
    assert [one["runs"] for one in read_test_set_evaluations(tmp_path)] == [3, 4, 4]


def test_a_line_is_added_by_each_of_several_writers(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    record.write_text('{"half": ', encoding="utf-8")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: append_line(record, {"number": number}), range(12)))
    with pytest.raises(ValueError, match="Expecting value"):
        read_lines(record)
    lines = record.read_text(encoding="utf-8").splitlines()
    assert lines.pop(0) == '{"half": '
    assert sorted(json.loads(line)["number"] for line in lines) == list(range(12))
    assert read_lines(tmp_path / "absent.jsonl") == []


def test_a_damaged_record_of_test_set_evaluations_is_reported_and_not_overwritten(tmp_path: Path) -> None:
    record_test_set_evaluation(tmp_path, {"runs": 1})
    record = tmp_path / "test_set_evaluations.jsonl"
    record.write_text(record.read_text() + '{"evaluation": 2, "ti')
    before = record.read_bytes()
    with pytest.raises(DataError, match=r"test_set_evaluations\.jsonl.* cannot be read"):
        record_test_set_evaluation(tmp_path, {"runs": 1})
    assert record.read_bytes() == before


@pytest.mark.parametrize("number", ["1000000000000", "Infinity", "0", '"1"', "null"])
def test_a_number_that_no_evaluation_has_is_refused(tmp_path: Path, number: str) -> None:
    (tmp_path / "test_set_evaluations.jsonl").write_text(f'{{"evaluation": {number}}}\n', encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        read_test_set_evaluations(tmp_path)


@pytest.mark.parametrize("images", ["[1]", '{"similar": "many"}', "3"])
def test_damaged_numbers_of_looks_are_refused(tmp_path: Path, images: str) -> None:
    (tmp_path / "test_set_looks.jsonl").write_text(f'{{"command": "predict", "images": {images}}}\n')
    with pytest.raises(DataError, match="cannot be read"):
        read_test_set_looks(tmp_path)


def test_an_error_under_the_lock_is_not_mistaken_for_an_error_of_the_lock(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="elsewhere"), lock_folder(tmp_path):
        raise OSError(errno.EIO, "elsewhere")
    with lock_folder(tmp_path):
        pass


DIGEST = "0123456789abcdef" * 2


def test_only_checkpoints_of_finished_runs_are_removed(tmp_path: Path) -> None:
    runs, name = tmp_path / "runs" / "ce", f"checkpoint-00000001-{DIGEST}.safetensors"
    gone = make(runs / ".seed0-fold0.checkpoint" / name)
    together = make(runs / ".seed0-fold0-0123456789abcdef.checkpoint" / name)
    make(runs / "seed0-fold0" / "run.json", '{"status": "finished"}')
    weights = make(runs / "seed0-fold0" / "model.safetensors")
    make(runs / "seed0-fold0" / "predictions.parquet")
    failed = make(runs / ".seed0-fold1.checkpoint" / name)
    make(runs / "seed0-fold1" / "run.json", '{"status": "failed"}')
    begun = make(runs / ".seed0-fold2.checkpoint" / name)
    half_written = make(left_over(begun))
    remove_leftovers(tmp_path)
    assert not gone.parent.exists()
    assert not together.parent.exists()
    assert weights.exists()
    assert failed.exists()
    assert begun.exists()
    with atomic_path(begun) as temporary:  # as the next checkpoint is written
        temporary.touch()
    assert not half_written.exists()


def test_only_what_ended_processes_left_in_the_study_is_removed(tmp_path: Path) -> None:
    kept = [make(tmp_path / name) for name in ("study.json", "notes.tmp", ".hidden", ".notes.tmp")]
    kept.append(make(temporary_sibling(tmp_path / "report.html")))  # this process still writes it
    stale = [
        make(left_over(tmp_path / name))
        for name in ("results.csv", "runs/ce/seed0-fold0/test_predictions.parquet")
    ]
    stale.append(make(left_over(tmp_path / "runs" / "ce" / "seed0-fold0") / "history.csv"))
    remove_leftovers(tmp_path)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in stale)


@pytest.mark.parametrize(
    "place", ["runs", "runs/ce", "runs/ce/seed0-fold0", "runs/ce/.seed0-fold0.checkpoint", "predictions"]
)
def test_what_is_foreign_stays_behind_links_and_in_the_study(tmp_path: Path, place: str) -> None:
    home, study = make_home(tmp_path / "home"), tmp_path / "study"
    name = f"checkpoint-00000001-{DIGEST}.safetensors"
    for made in ("seed0-fold0/run.json", "ce/seed0-fold0/run.json", "run.json"):
        make(home / made, '{"status": "finished"}')
        make((home / made).with_name("model.safetensors"))
        make((home / made).with_name("predictions.parquet"))
    for made in (f".seed0-fold0.checkpoint/{name}", f"ce/.seed0-fold0.checkpoint/{name}", name):
        make(home / made)  # what would be removed if it were in the study
    make(left_over(home / "ce" / "a"))
    before = contents(home)
    (study / place).parent.mkdir(parents=True, exist_ok=True)
    (study / place).symlink_to(home)
    if place.endswith("checkpoint"):
        shutil.copytree(home / "seed0-fold0", study / "runs" / "ce" / "seed0-fold0")
    remove_leftovers(study)
    assert contents(home) == before
    make_home(study / "runs" / "own")
    kept = make_home(study / "runs" / "own" / ".seed1-fold0.checkpoint")
    remove_leftovers(study)
    assert contents(kept).items() <= contents(make_home(tmp_path / "same")).items()
    assert len(contents(kept)) == len(contents(tmp_path / "same"))


def test_a_study_that_is_named_by_a_link_is_cleaned(tmp_path: Path) -> None:
    stale = make(left_over(tmp_path / "study" / "study.json"))
    (tmp_path / "link").symlink_to(tmp_path / "study")
    remove_leftovers(tmp_path / "link")
    assert not stale.exists()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("class_names", ["a", "a"]), ("class_names", "ab"), ("methods", []), ("methods", [1]), ("seeds", [10**400]), ("run_folds", [7]),
        ("splits.folds", 1), ("splits.folds", "2"), ("table.images", -1), ("table.images", float("nan")), ("spec.canvas", "224"),
        ("spec", {}), ("spec", []), ("recipe", None), ("class_order", ["a"]), ("findings", [{}]), ("name", "x" * 100_000),
    ],
)  # fmt: skip
def test_damage_of_a_study_is_named_with_its_place(place: str, value: object, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", methods=["ce"])
    content = json.loads((study / "study.json").read_text(encoding="utf-8"))
    assert read_study_file(study) == content
    *above, last = place.split(".")
    (content[above[0]] if above else content)[last] = value
    (study / "study.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=rf"study.json is damaged \({place}|study.json is damaged \(.*{last}"):
        read_study_file(study)
