from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fixtures.leftovers import left_over, make
from tametail.core.errors import DataError, TametailError
from tametail.data import ImageTable, decoded_images, make_splits, read_images
from tametail.data.demo import demo

FEW = {"blast": 4, "lymphocyte": 9, "neutrophil": 12}


# 25 images instead of 1375: writing does not depend on how many there are.
write_few = partial(demo.write_demo, cells=FEW, patients=4)
few = sum(FEW.values())


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """An entry for each cell that was drawn."""
    cells: list[None] = []
    draw_cell = demo.draw_cell

    def recorded(*given: Any, **options: Any) -> None:
        cells.append(None)
        draw_cell(*given, **options)

    monkeypatch.setattr(demo, "draw_cell", recorded)
    return cells


def digests(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def roster_table(seed: int) -> ImageTable:
    rows = sorted((entry.image, entry.label, entry.group, "") for entry in demo.list_images(seed))
    frame = pd.DataFrame(rows, columns=["image", "label", "group", "split"], dtype=object)
    return ImageTable(frame, Path("/demo"), demo.DEMO_CLASSES, "demo", synthetic=True)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_seven_classes_with_a_tail_and_groups_for_the_hold_out_and_five_folds(seed: int) -> None:
    table = roster_table(seed)
    assert len(table.class_names) == 7
    assert table.imbalance_ratio == 40
    assert len(table) == 1375
    patients = defaultdict(set)
    for label, group in zip(table.frame["label"], table.groups, strict=True):
        patients[label].add(group)
    assert min(len(groups) for groups in patients.values()) == 13
    splits = make_splits(table, folds=5, seed=seed)
    for fold in range(-1, 5):
        assert set(table.frame["label"][splits.fold == fold]) == set(table.class_names)


def test_patients_have_several_kinds_of_cells() -> None:
    """Else a patient's stain would give the class away."""
    kinds = defaultdict(set)
    for entry in demo.list_images(0):
        kinds[entry.group].add(entry.label)
    assert min(len(labels) for labels in kinds.values()) >= 4


def test_file_names_do_not_give_the_class_away() -> None:
    labels = [entry.label for entry in demo.list_images(0)]
    alike = np.mean([left == right for left, right in pairwise(labels)])
    by_chance = sum((count / len(labels)) ** 2 for count in Counter(labels).values())
    assert abs(alike - by_chance) < 0.05


def test_an_image_depends_on_the_seed_and_its_entry_alone() -> None:
    entries = demo.list_images(0)[:6]
    images = [demo.draw_image(entry, 0) for entry in entries]
    for entry, image in reversed(list(zip(entries, images, strict=True))):
        assert np.array_equal(demo.draw_image(entry, 0), image)
        assert image.shape == (96, 96, 3)
        assert image.dtype == np.uint8
        assert image.std() > 10
    assert not np.array_equal(demo.draw_image(entries[0], 1), images[0])
    assert not np.array_equal(
        demo.draw_image(demo.DemoImage(7, "blast", 1), 0), demo.draw_image(demo.DemoImage(8, "blast", 1), 0)
    )


def test_cells_differ_as_real_ones_do() -> None:
    """Blasts have the largest nucleus, nucleated red cells the smallest; eosinophils alone are orange."""
    nucleus, orange = {}, {}
    for label in demo.DEMO_CLASSES:
        images = np.stack([demo.draw_image(demo.DemoImage(n, label, n), 0) for n in range(1, 25)]).astype(
            float
        )
        red, green, blue = np.moveaxis(images, -1, 0)
        nucleus[label] = ((green < 110) & (blue > red)).mean()
        middle = np.s_[:, 28:68, 28:68]
        orange[label] = ((red - blue)[middle] > 50).mean()
    assert max(nucleus, key=nucleus.__getitem__) == "blast"
    assert min(nucleus, key=nucleus.__getitem__) == "erythroblast"
    assert orange.pop("eosinophil") > 3 * max(orange.values())


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        write_few(tmp_path / name, seed=seed)
    first, again, other = (digests(tmp_path / name) for name in ("first", "again", "other"))
    assert len(first) == few + 2
    assert first == again
    assert all(first[name] != other[name] for name in first if name in other)
    readme = (tmp_path / "first" / "README.txt").read_text(encoding="utf-8")
    assert "SYNTHETIC" in readme


def test_the_word_demo_reads_it_and_says_that_it_is_synthetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[None]
) -> None:
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path))
    monkeypatch.setattr(demo, "write_demo", write_few)
    for _ in range(2):  # drawn, then found
        table = read_images("demo")
        assert (table.name, table.synthetic) == ("demo", True)
        assert table.root == demo.demo_directory(tmp_path)
        assert table.counts() == FEW
    assert len(drawn) == few
    decoded = decoded_images(table, 96)
    assert decoded.readable.all()
    entries = sorted(demo.list_images(0, cells=FEW, patients=4), key=lambda entry: entry.image)
    assert [entry.label for entry in entries] == table.frame["label"].tolist()
    assert [entry.group for entry in entries] == table.groups.tolist()
    for pixels, entry in zip(decoded.pixels, entries, strict=True):
        assert np.array_equal(pixels, demo.draw_image(entry, 0))


def test_what_was_interrupted_is_not_taken_for_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "set"
    draw_cell, drawn = demo.draw_cell, []

    def interrupted(*given: Any, **options: Any) -> None:
        drawn.append(None)
        if len(drawn) == 10:
            raise KeyboardInterrupt
        draw_cell(*given, **options)

    monkeypatch.setattr(demo, "draw_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_few(directory)
    assert not directory.exists()
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    make(left_over(tmp_path / "set") / "images" / "cell_9999.png")  # by a process that was killed
    monkeypatch.undo()
    write_few(directory)
    write_few(tmp_path / "undisturbed")
    assert digests(directory) == digests(tmp_path / "undisturbed")
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"set", "undisturbed"}


@pytest.mark.parametrize("damage", ["image", "empty image", "labels", "edited"])
def test_a_damaged_set_is_drawn_again(tmp_path: Path, damage: str) -> None:
    write_few(tmp_path / "set")
    before = digests(tmp_path / "set")
    match damage:
        case "image":
            (tmp_path / "set" / "images" / "cell_0003.png").unlink()
        case "empty image":
            (tmp_path / "set" / "images" / "cell_0003.png").write_bytes(b"")
        case "labels":
            (tmp_path / "set" / "labels.csv").unlink()
        case "edited":
            with open(tmp_path / "set" / "labels.csv", "a", encoding="utf-8") as file:
                file.write("images/cell_0001.png,other,patient_01\n")
    write_few(tmp_path / "set")
    assert digests(tmp_path / "set") == before


def test_an_empty_folder_is_filled_and_others_data_stay(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_few(tmp_path / "empty")
    assert len(digests(tmp_path / "empty")) == few + 2

    write_few(tmp_path / "other", seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for name in ("mine", "other"):
        before = digests(tmp_path / name)
        with pytest.raises(DataError, match="found other files in it"):
            write_few(tmp_path / name, seed=0)
        assert digests(tmp_path / name) == before


def test_a_place_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "set", tmp_path / "file"):
        with pytest.raises(TametailError, match=r"cannot be used .*TAMETAIL_CACHE") as caught:
            write_few(place)
        assert caught.value.exit_code == 1


def test_of_several_at_once_one_draws(tmp_path: Path, drawn: list[None]) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: write_few(tmp_path / "set"), range(4)))
    assert len(drawn) == few
    assert len(digests(tmp_path / "set")) == few + 2
