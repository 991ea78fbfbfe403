"""Folder trees: what each level means, what is refused, and that what a refusal proposes works."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tametail.core.errors import DataError, UsageError
from tametail.data import ImageTable, read_images, reading_facts
from tametail.data.readers.split_names import split_folders


def make(root: Path, *folders: str, images: int = 8, suffix: str = ".png") -> Path:
    """Folders with empty image files, as reading opens none."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            (root / folder / f"{folder.replace('/', '_')}_{number}{suffix}").touch()
    return root


def splits_of(table: ImageTable) -> dict[str, int]:
    return dict(table.frame["split"].value_counts())


def facts(root: Path, **options: Any) -> dict[str, str]:
    return dict(reading_facts(read_images(root, **options)))


def proposed(error: DataError) -> list[dict[str, str]]:
    """The options that a refusal proposes, in the order of the message."""
    return [
        {name.replace("-", "_"): value}
        for name, value in re.findall(r"--(class-level|group-from) (\w+(?::\d+)?)", str(error))
    ]


NESTED = (
    "lower/findings/polyps",
    "lower/landmarks/cecum",
    "upper/landmarks/pylorus",
    "upper/findings/oesophagitis",
)


def test_the_class_is_the_folder_an_image_lies_in(tmp_path: Path) -> None:
    read = facts(make(tmp_path / "gut", *NESTED))
    assert read["Class"] == "folder level 3 below gut/: cecum, oesophagitis, polyps, pylorus (4 classes)"
    assert (
        read["Left out"]
        == "folder level 1 (2 names: lower, upper); folder level 2 (2 names: findings, landmarks)"
    )
    assert read["Groups"] == "none: every image counts as its own patient"


def test_a_level_above_can_be_chosen(tmp_path: Path) -> None:
    root = make(tmp_path, *NESTED)
    assert read_images(root, class_level=1).counts() == {"lower": 16, "upper": 16}
    assert read_images(root, class_level="2").counts() == {"findings": 16, "landmarks": 16}
    assert (
        read_images(root, class_level="deepest").fingerprint == read_images(root, class_level=3).fingerprint
    )
    for level in (0, 4, "4"):
        with pytest.raises(UsageError, match="--class-level from 1 to 3"):
            read_images(root, class_level=level)
    with pytest.raises(UsageError, match="a number or deepest, got 'lowest'"):
        read_images(root, class_level="lowest")


def test_names_that_repeat_below_several_folders_are_not_guessed(tmp_path: Path) -> None:
    root = make(tmp_path, "siteA/benign", "siteA/malignant", "siteB/benign", "siteB/malignant")
    with pytest.raises(DataError, match="benign, malignant repeat below siteA, siteB") as refused:
        read_images(root)
    first, second = proposed(refused.value)
    assert read_images(root, **first).counts() == {"siteA": 16, "siteB": 16}
    assert read_images(root, **second).counts() == {"benign": 16, "malignant": 16}


def test_many_small_folders_below_the_classes_are_offered_as_groups(tmp_path: Path) -> None:
    patients = [f"{name}/patient{number}" for name in ("cancer", "none") for number in range(40)]
    root = make(tmp_path, *patients, images=2)
    with pytest.raises(DataError, match="40 folders of level 2 are patients or series") as refused:
        read_images(root)
    upper, lower, groups = proposed(refused.value)
    assert read_images(root, **lower).counts() == {
        f"patient{number}": 4 for number in sorted(map(str, range(40)))
    }
    table = read_images(root, **upper, **groups)
    assert table.counts() == {"cancer": 80, "none": 80}
    assert len(set(table.groups)) == 40
    assert dict(reading_facts(table))["Groups"] == "folder level 2 (40 groups)"
    ungrouped = dict(reading_facts(read_images(root, **upper)))
    assert "--group-from folder:2 keeps the images of each of the 40 folders" in ungrouped["Groups"]


def test_patients_above_the_classes_are_offered_as_groups(tmp_path: Path) -> None:
    root = make(tmp_path, *(f"{number}/{name}" for number in range(10250, 10290) for name in "01"))
    with pytest.raises(DataError, match="add --group-from folder:1"):
        read_images(root)
    table = read_images(root, class_level=2, group_from="folder:1")
    assert table.counts() == {"0": 320, "1": 320}
    assert len(set(table.groups)) == 40
    with pytest.raises(UsageError, match="at another level"):
        read_images(root, class_level=2, group_from="folder:2")


def test_images_at_different_depths_are_not_guessed(tmp_path: Path) -> None:
    root = make(tmp_path, "benign", "malignant", "malignant/rare")
    with pytest.raises(DataError, match="several ways") as refused:
        read_images(root)
    first, deepest = proposed(refused.value)
    assert read_images(root, **first).counts() == {"benign": 8, "malignant": 16}
    assert read_images(root, **deepest).counts() == {"benign": 8, "malignant": 8, "rare": 8}


def test_a_folder_of_images_inside_each_class_is_no_class(tmp_path: Path) -> None:
    assert set(read_images(make(tmp_path, "a/images", "b/images", "c/imgs")).class_names) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        ("train test", "train test"),
        ("train_set test_set", "train test"),
        ("Training_Set Evaluation_Set", "train test"),
        ("Training_Set Evaluation_Set Test_Set", "train val test"),
        ("train_data test_data", "train test"),
        ("stage_2_train_images stage_2_test_images", "train test"),
        ("ISIC2018_Task3_Training_Input ISIC2018_Task3_Validation_Input", "train val"),
        ("Training Testing", "train test"),
        ("trainset valset testset", "train val test"),
        ("train dev holdout", "train val test"),
        ("development hold-out", "train test"),
        ("TrainImages TestImages", "train test"),
        ("TRAIN VALID", "train val"),
        ("trainval test2", "train test"),
        ("Train TestA TestB", "train test test"),
        ("train unlabelled", "train unlabelled"),
        ("labeled_images unlabeled_images", "- unlabelled"),
        ("train_test", "-"),
        ("test_negative test_positive", "- -"),
        ("benign_test malignant_test", "- -"),
        ("trained contest validity", "- - -"),
    ],
)
def test_split_folders_are_recognised_by_their_words(names: str, splits: str) -> None:
    expected = dict(zip(names.split(), splits.split(), strict=True))
    assert split_folders(names.split()) == {name: split for name, split in expected.items() if split != "-"}


def test_split_folders_become_the_split(tmp_path: Path) -> None:
    root = make(tmp_path, "train_set/a", "train_set/b", "test_set/a", "test_set/b")
    table = read_images(root)
    assert table.counts() == {"a": 16, "b": 16}
    assert splits_of(table) == {"train": 16, "test": 16}
    assert facts(root)["Split"] == "folders test_set/ as test, train_set/ as train (16 train, 16 test)"


def test_split_folders_inside_the_classes_and_below_a_wrapper(tmp_path: Path) -> None:
    inside = make(tmp_path / "in", "a/train", "a/test", "b/train", "b/test")
    below = make(tmp_path / "out", "set/train/a", "set/train/b", "set/test/a", "set/test/b")
    twice = make(tmp_path / "twice", "train/train/a", "train/train/b", "test/test/a", "test/test/b")
    for root in (inside, below, twice):
        assert read_images(root).counts() == {"a": 16, "b": 16}
        assert splits_of(read_images(root)) == {"train": 16, "test": 16}


def test_unlabelled_images_are_left_out_and_counted(tmp_path: Path) -> None:
    root = make(tmp_path, "train/a", "train/b", "unlabelled")
    assert read_images(root).counts() == {"a": 8, "b": 8}
    assert "8 unlabelled images" in facts(root)["Left out"]


def proposed_folder(error: DataError) -> str:
    found = re.search(
        r"give (?:the folder |one of the folders instead, such as )?(\S+?)(?: instead| alone|,|$)", str(error)
    )
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("folders", "message", "counts"),
    [
        (
            (
                "train/a",
                "train/b",
                "test/a",
                "test/b",
                "chest/train/a",
                "chest/train/b",
                "chest/test/a",
                "chest/test/b",
            ),
            "looks like a copy",
            {"a": 16, "b": 16},
        ),
        (("a", "b", "copy/a", "copy/b"), "looks like a copy", {"a": 8, "b": 8}),
        (("train/a", "train/b", "extra/a", "extra/b"), r"mixed with others \(extra/\)", {"a": 8, "b": 8}),
        (("train/a", "train/b", "test"), "lie outside", {"a": 8, "b": 8}),
    ],
)
def test_trees_of_two_minds_are_refused_and_the_proposed_folder_reads(
    folders: tuple[str, ...], message: str, counts: dict[str, int], tmp_path: Path
) -> None:
    root = make(tmp_path, *folders)
    with pytest.raises(DataError, match=message) as refused:
        read_images(root)
    assert read_images(Path(proposed_folder(refused.value))).counts() == counts


@pytest.mark.parametrize(
    "folders",
    [
        ("benign", "malignant", "test"),
        ("train_benign", "train_malignant", "test_benign", "test_malignant"),
        ("a/train", "b/train", "b/rest"),
        ("train/a", "test/b", "val/train"),
    ],
)
def test_a_class_called_like_a_split_is_an_error(folders: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="split"):
        read_images(make(tmp_path, *folders))


def test_the_level_of_the_split_is_no_level_of_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="named like a split"):
        read_images(make(tmp_path, "train/a", "train/b", "test/a"), class_level=1)


def test_options_on_folders_are_refused_for_tables(tmp_path: Path) -> None:
    make(tmp_path, "a", "b")
    (tmp_path / "labels.csv").write_text("image,label\na/a_0.png,x\nb/b_0.png,y\n")
    for source in (tmp_path, tmp_path / "labels.csv", "demo"):
        with pytest.raises(UsageError, match="--class-level can only be given for a folder of class folders"):
            read_images(source, class_level=1)


def rename(root: Path, folder: Path) -> None:
    folder.rename(folder.with_name("renamed"))


def stray(name: str) -> Callable[[Path, Path], None]:
    return lambda root, folder: (folder / name).touch()


MUTATIONS = [
    rename,
    stray("stray.jpg"),
    stray("notes.txt"),
    stray("scan.dcm"),
    stray("README"),
    stray("volume.nii.gz"),
    lambda root, folder: (folder / "empty").mkdir(),
    lambda root, folder: make(folder, "new"),
]
TREES = [
    NESTED,
    ("a", "b", "c"),
    ("train/a", "train/b", "test/a", "test/b"),
    ("set/a/images", "set/b/images"),
    ("Training_Set/a", "Training_Set/b", "Test_Set/a", "Test_Set/b", "Evaluation_Set/a", "Evaluation_Set/b"),
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tree=st.sampled_from(TREES),
    mutation=st.sampled_from(MUTATIONS),
    at=st.integers(0, 99),
    depth=st.integers(0, 3),
)
def test_no_change_of_the_tree_goes_unsaid(
    tree: tuple[str, ...],
    mutation: Callable[[Path, Path], None],
    at: int,
    depth: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A renamed folder or a stray file changes what is printed, or is refused."""
    root = make(tmp_path_factory.mktemp("tree") / "data", *tree)
    before = reading_facts(read_images(root))
    folder = root.joinpath(*Path(tree[at % len(tree)]).parts[:depth])
    if mutation is rename and folder == root:
        return  # the folder that is given has any name
    mutation(root, folder)
    try:
        after = reading_facts(read_images(root))
    except DataError:
        return
    assert after != before


def test_few_folders_named_with_numbers_are_not_taken_for_classes(tmp_path: Path) -> None:
    root = make(
        tmp_path, *(f"benign/p{n}" for n in range(3)), *(f"malignant/p{n}" for n in range(3, 6)), images=20
    )
    with pytest.raises(
        DataError, match="6 folders of level 2 are patients or series, add --group-from folder:2"
    ):
        read_images(root)
    assert len(set(read_images(root, class_level=1, group_from="folder:2").groups)) == 6


def test_a_table_that_names_the_images_is_not_passed_over(tmp_path: Path) -> None:
    root = make(tmp_path, "part_1", "part_2")
    images = sorted(root.rglob("*.png"))
    rows = [f"{image.name},{'ab'[number % 2]}" for number, image in enumerate(images)]
    (root / "befunde.csv").write_text("\n".join(["Bild,Diagnose", *rows]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"befunde\.csv names its images in column 'Bild'") as refused:
        read_images(root)
    assert "befunde.csv --image-col Bild" in str(refused.value)
    assert read_images(root, class_level=1).class_names == ("part_1", "part_2")
    (root / "befunde.csv").write_text("site,scanner\nA,3\nB,4\n", encoding="utf-8")
    assert read_images(root).class_names == ("part_1", "part_2")


@pytest.mark.parametrize("group_from", ["folder", "folder:-1", "folder:-2", "folder:1"])
def test_groups_from_the_image_are_checked_like_those_from_the_top(group_from: str, tmp_path: Path) -> None:
    root = make(tmp_path, *(f"{name}/p{n}" for name in ("benign", "malignant") for n in range(6)))
    of_class = group_from in ("folder:-2", "folder:1")
    for level in (1, 2):
        options = {"class_level": level, "group_from": group_from}
        if of_class == (level == 1):
            with pytest.raises(UsageError, match="at another level than the classes and the split"):
                read_images(root, **options)  # type: ignore[arg-type]
        else:
            assert facts(root, **options)["Left out"] == "nothing"
    with pytest.raises(UsageError, match="from 1 to 2"):
        read_images(root, class_level=1, group_from="folder:-3")


def test_groups_from_folders_at_different_depths(tmp_path: Path) -> None:
    root = make(tmp_path, "benign/p1", "malignant/p2", "malignant/more/p3")
    with pytest.raises(UsageError, match="another level than the classes"):
        read_images(root, class_level="deepest", group_from="folder")
    assert set(read_images(root, class_level=1, group_from="folder").groups) == {"p1", "p2", "p3"}


@pytest.mark.parametrize(
    "names", [("patient_a", "patient_b"), ("Case A", "Case B"), ("p1", "p2"), ("x01", "y02")]
)
def test_names_of_patients_are_not_in_the_reading(names: tuple[str, ...], tmp_path: Path) -> None:
    root = make(tmp_path, *(f"{label}/{name}" for label in ("benign", "malignant") for name in names))
    assert facts(root, class_level=1)["Left out"] == "folder level 2 (2 names)"
