"""The sets of the paper, laid out as they are downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tametail.core.errors import DataError, UsageError
from tametail.data import KNOWN_SETS, read_images
from tametail.data.readers.known_sets import BONE_MARROW_CLASSES, BONE_MARROW_LEFT_OUT


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_aptos(tmp_path: Path) -> None:
    root = touch(tmp_path, *(f"train_images/{name}.png" for name in "abcde"), "test_images/f.png", "test.csv")
    (root / "train.csv").write_text("id_code,diagnosis\na,0\nb,1\nc,2\nd,3\ne,4\n")
    table = read_images("aptos2019", root=root)
    assert table.name == "aptos2019"
    assert dict(zip(table.images, table.frame["label"], strict=True)) == {
        "train_images/a.png": "no_dr",
        "train_images/b.png": "mild",
        "train_images/c.png": "moderate",
        "train_images/d.png": "severe",
        "train_images/e.png": "proliferative_dr",
    }
    assert table.groups.tolist() == table.images.tolist()
    assert all(path.is_file() for path in table.paths)
    (root / "train.csv").write_text("id_code,diagnosis\na,0\nb,5\n")
    with pytest.raises(DataError, match=r"grades 0 to 4 .* found 5"):
        read_images("aptos2019", root=root)


HAM = "lesion_id,image_id,dx,dx_type,age,sex,localization\n" + "".join(
    f"{lesion},{image},{dx},histo,{age},female,back\n"
    for lesion, image, dx, age in [
        ("L1", "I1", "nv", "40.0"),
        ("L1", "I2", "nv", ""),
        ("L2", "I3", "mel", "70.0"),
    ]
)


@pytest.mark.parametrize(
    "names",
    [
        ["HAM10000_images_part_1/I1.jpg", "HAM10000_images_part_1/I2.jpg", "HAM10000_images_part_2/I3.jpg"],
        ["all/I1.jpg", "all/I2.jpg", "all/I3.jpg", "masks/I1_segmentation.png"],
        # Kaggle's copy holds each image twice
        [
            *(f"HAM10000_images_part_1/I{n}.jpg" for n in (1, 2, 3)),
            *(f"ham10000_images_part_1/I{n}.jpg" for n in (1, 2, 3)),
        ],
    ],
)
@pytest.mark.parametrize("metadata", ["HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata"])
def test_ham10000(tmp_path: Path, names: list[str], metadata: str) -> None:
    root = touch(tmp_path, *names)
    (root / metadata).write_text(HAM.replace(",", "\t") if metadata.endswith("tab") else HAM)
    table = read_images("ham10000", root=root)
    assert table.images.tolist() == names[:3]
    assert table.frame["label"].tolist() == ["nv", "nv", "mel"]
    assert table.groups.tolist() == ["L1", "L1", "L2"]
    assert list(table.frame)[4:] == ["dx_type", "age", "sex", "localization"]


def test_ham10000_with_missing_or_doubled_images(tmp_path: Path) -> None:
    root = touch(tmp_path, "a/I1.jpg", "a/I2.jpg")
    (root / "HAM10000_metadata.csv").write_text(HAM)
    with pytest.raises(DataError, match=r"every image of the table \(1 of 3: I3\).*10\.7910/DVN/DBW86T"):
        read_images("ham10000", root=root)
    touch(tmp_path, "b/I2.jpg", "a/I3.jpg")
    with pytest.raises(DataError, match=r"one file per image .* a/I2\.jpg and b/I2\.jpg"):
        read_images("ham10000", root=root)


@pytest.mark.parametrize(
    "above", ["", "BM_cytomorphology_data", "bone_marrow_cell_dataset/BM_cytomorphology_data"]
)
def test_bone_marrow(tmp_path: Path, above: str) -> None:
    folder = tmp_path / above
    touch(
        folder, *(f"{code}/0001-1000/{code}_00001.jpg" for code in BONE_MARROW_CLASSES), "abbreviations.csv"
    )
    every = read_images("bone_marrow_all", root=tmp_path)
    assert every.class_names == BONE_MARROW_CLASSES
    table = read_images("bone_marrow", root=tmp_path)
    assert (table.name, table.root) == ("bone_marrow", folder)
    assert len(table) == len(table.class_names) == 17
    assert not set(BONE_MARROW_LEFT_OUT) & set(table.class_names)
    assert "BAS/0001-1000/BAS_00001.jpg" in table.images

    (folder / "BAS" / "0001-1000" / "BAS_00001.jpg").unlink()
    touch(folder, "XYZ/1.jpg")
    with pytest.raises(
        DataError, match=r"the 17 classes of bone_marrow .* missing: BAS, unknown: XYZ; is the download"
    ):
        read_images("bone_marrow", root=tmp_path)


def test_the_classes_left_out_are_the_only_four_that_give_the_number_of_the_paper() -> None:
    """Counts per class: Matek et al., Blood 138 (2021), 171,374 images; the paper's Table 1 has 147,904 in 17."""
    from itertools import combinations

    sizes = [8, 19630, 441, 11973, 27395, 5883, 47, 409, 42, 65, 26242, 3055, 4040, 6557, 9968, 29424]
    sizes += [3538, 294, 2740, 7629, 11994]
    counts = dict(zip(BONE_MARROW_CLASSES, sizes, strict=True))
    assert sum(counts.values()) == 171374
    fitting = [
        four
        for four in combinations(counts, 4)
        if sum(counts.values()) - sum(counts[code] for code in four) == 147904
    ]
    assert fitting == [BONE_MARROW_LEFT_OUT]


@pytest.mark.parametrize(
    ("name", "fetched"),
    [
        (
            "aptos2019",
            r"kaggle\.com/competitions/aptos2019-blindness-detection \(terms: those of the competition\)",
        ),
        ("ham10000", r"Harvard Dataverse, doi 10\.7910/DVN/DBW86T \(terms: CC BY-NC 4\.0\)"),
        ("bone_marrow", r"doi 10\.7937/TCIA\.AXH3-T579 \(terms: CC BY 4\.0\)"),
    ],
)
def test_what_to_fetch_is_said(tmp_path: Path, name: str, fetched: str) -> None:
    with pytest.raises(DataError, match=rf"folder of {name} in --root, but it was not given; .*{fetched}"):
        read_images(name)
    with pytest.raises(DataError, match=rf"absent is none; .*{fetched}"):
        read_images(name, root=tmp_path / "absent")
    with pytest.raises(DataError, match=rf"but there is none; .*{fetched}"):
        read_images(name, root=tmp_path)
    with pytest.raises(UsageError, match=rf"--download is for MedMNIST sets; .*{fetched}"):
        read_images(name, root=tmp_path, download=True)
    with pytest.raises(UsageError, match=f"{name} has fixed columns"):
        read_images(name, root=tmp_path, group_col="x")


def test_a_path_of_that_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "ham10000/u/a.png", "ham10000/v/b.png")
    monkeypatch.chdir(tmp_path)
    for source in ("./ham10000", Path("ham10000")):
        assert read_images(source).class_names == ("u", "v")


def test_every_set_says_where_it_is_from() -> None:
    for known in KNOWN_SETS.values():
        assert known.title
        assert known.terms
        assert "doi" in known.source or known.source.startswith("https://")
