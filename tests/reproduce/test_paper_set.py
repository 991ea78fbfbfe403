from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fixtures.skin import SIZES, write_skin
from tametail.core.errors import DataError
from tametail.data import ImageTable, read_images
from tametail.reproduce.experiments import EXPERIMENTS
from tametail.reproduce.paper_set import file_sizes, match_classes, read_paper_set

TABLE4 = EXPERIMENTS["table4"]


def table_of(*names: str) -> ImageTable:
    frame = pd.DataFrame({"image": [f"{n}.png" for n in range(len(names))], "label": names})
    frame["group"], frame["split"] = frame["image"], ""
    return ImageTable(frame, Path(), tuple(sorted(names)), "some")


def test_a_folder_with_labels_is_read_as_it_is(skin: Path) -> None:
    table = read_paper_set(TABLE4, skin)
    assert table.counts() == SIZES
    assert list(match_classes(TABLE4, table)) == list(TABLE4.published.classes)


def test_a_download_is_read_by_its_known_set(tmp_path: Path) -> None:
    lines = ["lesion_id,image_id,dx"]
    for number, label in enumerate(name for name in SIZES for _ in range(2)):
        Image.new("RGB", (6, 4)).save(tmp_path / f"ISIC_{number}.png")
        lines.append(f"HAM_{number // 2},ISIC_{number},{label}")
    (tmp_path / "HAM10000_metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = read_paper_set(TABLE4, tmp_path)
    assert table.name == "ham10000"
    assert len(set(table.groups)) == 7


@pytest.mark.parametrize("root", [None, Path("absent")])
def test_an_absent_set_is_reported_with_where_to_get_it(root: Path | None) -> None:
    with pytest.raises(DataError, match=r"folder of ham10000 in --root.*Harvard Dataverse"):
        read_paper_set(TABLE4, root)


@pytest.mark.parametrize(
    "names",
    [
        ("No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR"),
        ("no_dr", "mild", "moderate", "severe", "proliferative_dr"),
        ("No DR", "Mild DR", "Moderate DR", "Severe DR", "Proliferative DR"),
        ("0", "1", "2", "3", "4"),
    ],
)
def test_grades_are_known_in_their_usual_spellings(names: tuple[str, ...]) -> None:
    matched = match_classes(EXPERIMENTS["table3"], table_of(*names))
    assert list(matched.items()) == list(zip(EXPERIMENTS["table3"].published.classes, names, strict=True))


def test_the_names_of_medmnist_are_known() -> None:
    from tametail.data.readers.medmnist import MEDMNIST_SETS

    matched = match_classes(TABLE4, table_of(*MEDMNIST_SETS["dermamnist"].classes))
    assert matched["nv"] == "melanocytic nevi"


@pytest.mark.parametrize(
    ("names", "missing", "unknown"),
    [
        (("akiec", "bcc", "bkl", "df", "mel", "nv"), "vasc", "none"),
        ((*SIZES, "scc"), "none", "scc"),
        ((*SIZES, "nevus"), "none", "nv"),  # the same class twice: the second one is superfluous
    ],
)
def test_unknown_classes_are_refused_and_both_sides_named(
    names: tuple[str, ...], missing: str, unknown: str
) -> None:
    with pytest.raises(
        DataError, match=rf"7 classes akiec.*some has.*missing: {missing}, unknown: {unknown}\."
    ):
        match_classes(TABLE4, table_of(*names))


def test_bone_marrow_has_seventeen_classes(skin: Path) -> None:
    with pytest.raises(DataError, match=r"17 classes BAS.*the 7 classes akiec"):
        match_classes(EXPERIMENTS["table5"], read_images(skin))


def test_sizes_of_files_are_read_from_some_of_them(tmp_path: Path) -> None:
    skin = write_skin(tmp_path / "skin")
    Image.fromarray(np.zeros((9, 7, 3), dtype=np.uint8)).save(skin / "akiec0.png")
    (skin / "bcc0.png").write_bytes(b"no image")
    assert file_sizes(read_images(skin).paths) == [(7, 9), (40, 32)]
