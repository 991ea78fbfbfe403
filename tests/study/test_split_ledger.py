"""Other splits of the same images are remembered in the cache folder, whatever the images are called."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cli.test_app import run
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import TINY, words
from tametail.data import Splits
from tametail.report.study.narrative import other_splits_in_words
from tametail.study.split_ledger import other_splits, record_split

WORDS = [*words(TINY), "--methods", "ce", "--folds", "2"]
EVALUATED = "The same images were split once before, with seed 0; of these other test sets 1 was evaluated."


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    with figures_not_rendered():
        yield


def compare(images: Path, out: Path, seed: int) -> str:
    """What was said of it."""
    code, _, errors = run("compare", images, "-o", out, *WORDS, "--seed", seed)
    assert code == 0, errors
    return " ".join(errors.split())


def test_splits_whose_test_sets_were_evaluated_are_told_once(image_folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert "were split" not in compare(image_folder, first, 0)
    assert run("test-set", first)[0] == 0
    renamed = shutil.copytree(image_folder, tmp_path / "renamed")
    shutil.move(renamed / "images", renamed / "pictures")
    listed = (renamed / "labels.csv").read_text(encoding="utf-8").replace("images/0", "pictures/0")
    (renamed / "labels.csv").write_text(listed, encoding="utf-8")
    assert EVALUATED in compare(renamed, second, 1)
    assert EVALUATED not in compare(renamed, second, 1)
    assert EVALUATED in (second / "report.html").read_text(encoding="utf-8")
    (ledger,) = (tmp_path / "cache" / "splits").glob("*.jsonl")
    assert "/" not in ledger.read_text(encoding="utf-8")
    said = " ".join(run("test-set", second)[2].split())
    assert EVALUATED in said
    assert "in another study" not in said


def splits_of(seed: int, part: str) -> Splits:
    image, fold = np.array(list("abcdef")), np.zeros(6, dtype=np.int64)
    return Splits(image, np.array(["test" if p == "1" else "train" for p in part]), fold, 2, seed, False, "")


def test_test_sets_are_known_by_the_content_of_their_images(tmp_path: Path) -> None:
    content = list("uvwxyz")
    assert other_splits(content, splits_of(0, "110000")) == {}
    record_split(content, splits_of(0, "110000"), tmp_path / "first")
    record_split(content, splits_of(0, "110000"), tmp_path / "first", evaluated=True)
    record_split(content, splits_of(5, "000011"), tmp_path / "second")
    found = other_splits(content[::-1], splits_of(7, "001100"))
    assert found == {"splits": 2, "seeds": [0, 5], "evaluated": 1, "same": False}
    assert "split twice before, with seeds 0 and 5" in other_splits_in_words(found)
    found = other_splits(content[::-1], splits_of(9, "000011"))
    assert found == {"splits": 1, "seeds": [5], "evaluated": 0, "same": True}
    assert "This test set was evaluated before, in another study." in other_splits_in_words(found)
    record = next((tmp_path / "cache" / "splits").glob("*.jsonl")).read_text(encoding="utf-8")
    assert str(tmp_path) not in record


@pytest.mark.parametrize("damage", ["lines", "file", "folder", "absent"])
def test_a_damaged_or_absent_ledger_is_no_error(tmp_path: Path, damage: str) -> None:
    content, folder = list("uvwxyz"), tmp_path / "cache" / "splits"
    record_split(content, splits_of(0, "110000"), tmp_path / "first", evaluated=True)
    (ledger,) = folder.glob("*.jsonl")
    if damage == "lines":
        ledger.write_bytes(b"\xff{\n[1]\n" + ledger.read_bytes() + b'{"test": ')
    elif damage == "file":
        ledger.unlink()
        ledger.mkdir()
    else:
        shutil.rmtree(folder)
    if damage == "folder":
        folder.write_text("no folder", encoding="utf-8")
    found = other_splits(content, splits_of(1, "011000"))
    assert found.get("evaluated", 0) == (damage == "lines")
    record_split(content, splits_of(1, "011000"), tmp_path / "second")
    known = other_splits(content, splits_of(2, "001100")).get("seeds", [])
    assert known == {"lines": [0, 1], "absent": [1]}.get(damage, [])
