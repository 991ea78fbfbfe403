"""The bit depth of a set: one for all of its images, shown, remembered and overridable."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tametail.audit import audit
from tametail.core.errors import UsageError
from tametail.data import decoded_images, read_images, reading_facts
from tametail.data.decoding.bit_depth import BitDepth, find_bit_depth


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(folder: Path, **tops: int) -> Path:
    """A set of two classes; each image is of 3/4 of 200, and has a corner of its largest value."""
    for number, (name, top) in enumerate(tops.items()):
        values = np.full((32, 32), 150, np.uint16)
        values[28:, 28:] = top
        path = folder / "ab"[number % 2] / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    return folder


def depth_of(folder: Path) -> BitDepth:
    with ThreadPoolExecutor(2) as pool:
        return find_bit_depth(sorted(folder.rglob("*.*")), pool)


@pytest.mark.parametrize(
    ("tops", "bits"),
    [((200, 255), 8), ((200, 256), 12), ((4000, 4095), 12), ((200, 4096), 16), ((200, 65535), 16)],
)
def test_the_largest_value_of_the_set_decides(tmp_path: Path, tops: tuple[int, int], bits: int) -> None:
    found = depth_of(write(tmp_path, dark=tops[0], spot=tops[1]))
    assert (found.bits, found.images, found.largest) == (bits, 2, tops[1])


def test_images_of_one_set_show_the_same_tissue_at_the_same_grey(tmp_path: Path) -> None:
    """A published failing: 3000 of 65535 with and without one bright spot."""
    table = read_images(write(tmp_path / "set", dark=3000, spot=60000))
    pixels = decoded_images(table, 32).pixels
    assert pixels[0][0, 0, 0] == pixels[1][0, 0, 0] == round(150 * 255 / 65535)


def test_files_of_8_bits_and_colour_take_no_part(tmp_path: Path) -> None:
    folder = write(tmp_path, deep=4000)
    (folder / "b").mkdir()
    grey = np.full((8, 8), 9, np.uint8)
    Image.fromarray(grey).save(folder / "a" / "grey.png")
    Image.fromarray(grey).save(folder / "a" / "grey.tif")
    Image.fromarray(np.dstack([grey] * 3)).save(folder / "b" / "colour.jpg")
    Image.fromarray(grey.astype(np.float32) * 1000).save(folder / "b" / "float.tif")
    (folder / "b" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(16) + b"\x10\0")
    found = depth_of(folder)
    assert (found.bits, found.images) == (12, 1)
    (folder / "a" / "deep.png").unlink()
    assert depth_of(folder) == BitDepth()
    assert str(depth_of(folder)) == ""


def test_the_depth_is_part_of_the_reading_and_can_be_given(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", one=900, two=200)
    decided = audit(read_images(folder), folds=2).table
    assert decided.bit_depth == 12
    assert (
        "2 images store grey in more than 8 bits, with values up to 900: read as 12 bits"
        in dict(reading_facts(decided))["Grey levels"]
    )
    assert "1 of them would fit into fewer bits" in dict(reading_facts(decided))["Grey levels"]
    table = read_images(folder, bit_depth=10)
    assert decoded_images(table, 32).pixels[0][0, 0, 0] == round(150 * 255 / 1023)
    assert "as given" in dict(reading_facts(audit(table, folds=2).table))["Grey levels"]
    assert "256 and above are shown as white" in str(
        decoded_images(replace(table, bit_depth=8), 32).bit_depth
    )
    with pytest.raises(UsageError, match="--bit-depth from 1 to 16, got 17"):
        read_images(folder, bit_depth=17)


def test_a_set_that_is_read_again_at_the_decided_depth_is_found_in_the_cache(
    tmp_path: Path, own_cache: Path
) -> None:
    table = read_images(write(tmp_path / "set", one=900, two=200))
    first = decoded_images(table, 16)
    assert decoded_images(table.read_at(first.bit_depth), 16).key == first.key
    assert decoded_images(replace(table, bit_depth=16), 16).key != first.key
    assert len(list((own_cache / "bit_depth").iterdir())) == 1


@pytest.mark.parametrize(
    ("largest", "studied", "bits"),
    [
        (900, None, 12),
        (200, 12, 12),
        (900, 10, 10),
        (1023, 10, 10),
        (1024, 10, 12),
        (4096, 12, 16),
        (9000, 13, 16),
        (9000, 14, 14),
    ],
)
def test_new_images_have_the_depth_of_the_study_unless_a_value_exceeds_it(
    tmp_path: Path, largest: int, studied: int | None, bits: int
) -> None:
    found = depth_of(write(tmp_path, one=largest)).for_study(studied)
    assert found.bits == bits
    assert ("as in the study" in str(found)) == (bits == studied)


def test_nothing_is_decided_for_new_images_of_8_bits() -> None:
    assert BitDepth().for_study(12) == BitDepth() == BitDepth().for_study(None)
