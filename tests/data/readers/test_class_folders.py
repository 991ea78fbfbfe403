"""Files in class folders: what is read, what is left out and counted, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features
from typer.testing import CliRunner

from fixtures.dicom_samples import dicom_bytes
from tametail.cli.app import app
from tametail.core.errors import DataError
from tametail.data import decode_image, read_images, reading_facts
from tametail.data.decoding.file_kinds import is_image

HEIC = b"\0\0\0\x18ftypheic" + bytes(64)


def picture(path: Path, seed: int = 0, *, kind: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format=kind)
    return path


def classes(root: Path, *names: str) -> Path:
    for place, name in enumerate(names):
        for number in range(8):
            picture(root / name / f"{Path(name).name} ({number}).png", 100 * place + number)
    return root


def left_out(root: Path, **options: bool) -> str:
    return dict(reading_facts(read_images(root, **options)))["Left out"]


def inspect(*words: object) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["inspect", *map(str, words)])
    return found.exit_code, found.stdout, found.stderr


def test_class_folders_of_unread_kinds_are_refused_or_left_out_with_their_number(tmp_path: Path) -> None:
    root = classes(tmp_path, "benign", "malignant", "bare")
    for path in (root / "bare").iterdir():
        path.rename(path.with_suffix(""))
    for number in range(3):
        for name, data in (
            ("phone/{}.heic", HEIC),
            ("scan/{}.dcm", b"x"),
            ("export/IM{}", bytes(128) + b"DICM"),
        ):
            path = root / name.format(number)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
    (root / "nothing").mkdir()
    code, _, errors = inspect(root)
    assert code == 3
    for text in (
        "of 4 no file",
        "export/ (3 × DICOM)",
        "nothing/ (empty)",
        "phone/ (3 × .heic (HEIC is not read",
        "scan/ (3 × DICOM)",
    ):
        assert text in errors
    (option,) = re.findall(r"leave these folders out with (--\S+)", errors)
    _, output, _ = inspect(root, option)
    assert "bare, benign, malignant (3 classes)" in output
    for text in ("folder phone/ (3 files)", "folder nothing/ (0 files)", "6 × DICOM", "3 × .heic"):
        assert text in output.splitlines()[3]
    assert len(read_images(root, skip_empty_classes=True)) == 24


def test_other_files_are_counted_by_kind(tmp_path: Path) -> None:
    root = classes(tmp_path, "a", "b")
    for name in ("a/1.txt", "b/2.TXT", "b/x.dcm", "table.csv", "LICENSE", "b/v.nii.gz"):
        (root / name).touch()
    (root / "a" / "void").mkdir()
    notes = left_out(root).split("; ")
    assert notes[0] == "folder a/void/ (empty)"
    assert {"2 × .txt", "1 × DICOM", "1 × .csv", "1 × without extension"} <= set(notes)
    assert any(
        note.startswith("1 × .nii.gz (NIfTI volumes are read as slices with --slices middle")
        for note in notes
    )


def test_a_split_of_which_nothing_is_read_is_refused(tmp_path: Path) -> None:
    root = classes(tmp_path, "train/a", "train/b")
    (root / "test" / "a").mkdir(parents=True)
    (root / "test" / "a" / "1.heic").write_bytes(HEIC)
    with pytest.raises(DataError, match=r"no file is read: folder test/ \(1 × \.heic"):
        read_images(root)


def test_a_class_without_images_in_one_split_is_noted(tmp_path: Path) -> None:
    root = classes(tmp_path, "train/a", "train/b", "test/a")
    (root / "test" / "b").mkdir()
    assert left_out(root) == "folder test/b/ (empty)"


def test_masks_with_a_suffix_are_left_out(tmp_path: Path) -> None:
    root = classes(tmp_path, "benign", "malignant")
    for path in sorted(root.glob("*/*.png")):
        picture(path.with_name(f"{path.stem}_mask.png"), 7)
    picture(root / "benign" / "benign (0)_mask_1.png")
    picture(root / "benign" / "benign (1)_Segmentation.png")
    picture(root / "benign" / "benign (2)-heatmap.png")
    assert read_images(root).counts() == {"benign": 8, "malignant": 8}
    assert left_out(root) == "19 masks of other images (--keep-masks reads them as images)"
    assert read_images(root, keep_masks=True).counts() == {"benign": 19, "malignant": 16}


@pytest.mark.parametrize(
    "tree", ["{}/images {}/masks", "images/{} masks/{}", "{}/photos {}/ground_truth", "{} {}_masks"]
)
def test_masks_in_folders_are_left_out(tree: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("COVID", "Normal"):
        for number in range(8):
            for place in tree.split():
                picture(root / place.format(name) / f"{name}-{number}.png", number)
    table = read_images(root)
    assert table.counts() == {"COVID": 8, "Normal": 8}
    assert not [image for image in table.images if "mask" in image or "truth" in image]
    assert "16 masks of other images" in left_out(root)


def test_a_mask_without_its_image_is_refused(tmp_path: Path) -> None:
    root = classes(tmp_path, "a", "b")
    picture(root / "a" / "lost_mask.png")
    with pytest.raises(DataError, match=r"1 files are named like the mask .*a/lost_mask\.png.*--keep-masks"):
        read_images(root)
    assert len(read_images(root, keep_masks=True)) == 17


def test_classes_named_mask_are_classes(tmp_path: Path) -> None:
    assert read_images(classes(tmp_path, "mask", "no mask")).class_names == ("mask", "no mask")


@pytest.mark.parametrize(
    "names",
    [
        ("BAS", "EOS", "SEG"),
        ("normal", "tumour", "mask"),
        ("normal", "with_annotation"),
        ("siteA/no", "siteA/mask"),
    ],
)
def test_a_class_that_is_named_like_masks_does_not_vanish(names: tuple[str, ...], tmp_path: Path) -> None:
    """The images of each are numbered anew, so that equal names prove nothing."""
    for name in names:
        for number in range(6):
            picture(tmp_path / name / f"{number}.png", number)
    with pytest.raises(DataError, match=rf"{names[-1]}/ is beside .* may be a class; .*--keep-masks"):
        read_images(tmp_path)
    assert read_images(tmp_path, keep_masks=True).counts() == {Path(name).name: 6 for name in names}


def test_a_class_beside_masks_alone_says_so(tmp_path: Path) -> None:
    for number in range(6):
        picture(tmp_path / "images" / "benign" / f"{number}.png", number)
        picture(tmp_path / "masks" / "benign" / f"{number}.png", number)
    with pytest.raises(DataError, match="found only 'benign' beside 6 files that look like masks"):
        read_images(tmp_path)


def test_images_without_extension_are_known_by_their_content(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for place, kind in enumerate(("JPEG", "PNG", "TIFF", "WEBP", "GIF", "JPEG2000")):
        path = picture(root / "ab"[place % 2] / f"1.2.{place}", place, kind=kind)
        assert is_image(path.read_bytes())
        assert decode_image(path, 8).shape == (8, 8, 3)
    (root / "a" / "README").write_text("An image is not text.")
    assert read_images(root).counts() == {"a": 3, "b": 3}
    assert left_out(root) == "1 × without extension"


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read(tmp_path: Path) -> None:
    root = classes(tmp_path, "a", "b")
    path = picture(root / "a" / "new.avif", kind="AVIF")
    assert decode_image(path, 8).shape == (8, 8, 3)
    assert "a/new.avif" in read_images(root).images
    assert is_image(path.read_bytes())


def test_heic_named_as_something_else_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(HEIC)
    with pytest.raises(
        DataError, match="HEIC is not read, as its decoders are under the GPL or LGPL: convert"
    ):
        decode_image(tmp_path / "a.jpg", 8)


def test_volumes_say_what_they_are_also_where_a_table_lists_them(tmp_path: Path) -> None:
    rows = []
    for number in range(4):
        path = tmp_path / "ab"[number % 2] / f"sub-{number}_T1w.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\x1f\x8b")
        rows.append(f"{path.relative_to(tmp_path)},{number % 2}\n")
    (tmp_path / "participants.csv").write_text("image,label\n" + "".join(rows))
    for source in (tmp_path, tmp_path / "participants.csv"):
        code, _, errors = inspect(source)
        assert code == 3
        assert "4 files such as" in errors
        assert (
            "(.nii.gz): NIfTI volumes are read as slices with --slices middle (or all, every:N), in class folders or named by a table"
            in errors
        )


def test_reasons_for_unreadable_files_are_on_the_console(tmp_path: Path) -> None:
    root = classes(tmp_path, "a", "b")
    (root / "a" / "broken.png").write_bytes(b"nothing")
    _, output, _ = inspect(root)
    assert "a/broken.png: not an image of a known format" in " ".join(output.split())


def test_an_entry_without_extension_that_fits_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("x.jpg", "x.png", "y.png"):
        (tmp_path / name).touch()
    (tmp_path / "t.csv").write_text("image,label\nx,a\ny,b\n")
    with pytest.raises(DataError, match=r"'x' has no extension, and x\.jpg, x\.png fit"):
        read_images(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("image,label\nx.png,a\ny,b\n")
    assert read_images(tmp_path / "t.csv").images.tolist() == ["x.png", "y.png"]


def test_a_dicom_tree_is_read_by_the_same_rules(tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    for split in ("train_set", "test_set"):
        for name in ("a", "b"):
            for number in range(2):
                path = tmp_path / split / name / f"{number}.dcm"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(dicom_bytes(pixels, PatientID=f"{split}{number}"))
    (tmp_path / "train_set" / "a" / "notes.txt").touch()
    facts = dict(reading_facts(read_images(tmp_path)))
    assert facts["Class"].startswith("folder level 2 below ")
    assert facts["Groups"] == "patient of the DICOM header (4 groups)"
    assert facts["Split"] == "folders test_set/ as test, train_set/ as train (4 train, 4 test)"
    assert facts["Left out"] == "1 × .txt"
    (tmp_path / "train_set" / "c").mkdir()
    with pytest.raises(DataError, match="no file is read: folder train_set/c/"):
        read_images(tmp_path)
    assert len(read_images(tmp_path, skip_empty_classes=True)) == 8


def test_compare_shows_the_reading_without_training(tmp_path: Path) -> None:
    root = classes(tmp_path / "set", "a", "b")
    out = tmp_path / "study"
    words = ["compare", str(root), "--dry-run", "--folds", "3", "-o", str(out), "--weights", "none"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.stderr
    assert found.stdout.startswith("Class: folder level 1 below set/: a, b (2 classes)\n")
    assert "split into 3 folds. Nothing was trained." in found.stdout
    assert not out.exists()
    refused = CliRunner().invoke(app, [*words, "--folds", "12"])
    assert refused.exit_code == 3
    assert "use at most" in refused.stderr
