from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tametail.report.study.thumbnails import SIDE, THUMBNAILS, remove_thumbnails, small_copy, thumbnails


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def sides(copy: bytes) -> tuple[int, ...]:
    return tuple(cv2.imdecode(np.frombuffer(copy, np.uint8), cv2.IMREAD_COLOR).shape)


def test_a_copy_is_the_centre_square_in_its_colours(tmp_path: Path) -> None:
    pixels = np.zeros((300, 500, 3), dtype=np.uint8)
    pixels[:, 100:400] = (200, 60, 20)  # blue, green, red
    copy = small_copy(write(tmp_path / "a.png", pixels))
    assert copy is not None
    assert sides(copy) == (SIDE, SIDE, 3)
    decoded = cv2.imdecode(np.frombuffer(copy, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_allclose(decoded[5:-5, 5:-5].mean(axis=(0, 1)), (200, 60, 20), atol=3)


def test_a_copy_that_would_be_large_is_made_smaller(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    copy = small_copy(write(tmp_path / "noise.png", noise))
    assert copy is not None
    assert sides(copy) == (SIDE // 2, SIDE // 2, 3)
    assert len(copy) < 30_000
    assert 48 * len(copy) * 4 / 3 < 2_000_000, "the most that a page can have"


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_what_cannot_be_read_has_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    assert small_copy(tmp_path / "a.png") is None


def test_copies_are_kept_and_used_without_the_images(tmp_path: Path) -> None:
    root, study = tmp_path / "images", tmp_path / "study"
    study.mkdir()
    for number in range(3):
        write(root / f"{number}.png", np.full((40, 40, 3), 60 * number, np.uint8))
    names = {number + 1: f"{number}.png" for number in range(3)}
    made = thumbnails(study, names, root)
    assert set(made) == {1, 2, 3}
    assert thumbnails(study, names, None) == made
    (root / "0.png").unlink()
    assert thumbnails(study, names, root) == made
    (study / THUMBNAILS / "0000001.jpg").write_bytes(b"no JPEG")
    assert set(thumbnails(study, names, root)) == {2, 3}
    assert len(list((study / THUMBNAILS).iterdir())) == 3, "nothing is removed while something is missing"
    fewer = {2: names[2]}
    assert set(thumbnails(study, fewer, root)) == {2}
    assert [path.name for path in (study / THUMBNAILS).iterdir()] == ["0000002.jpg"]


def test_without_images_no_folder_is_made(tmp_path: Path) -> None:
    assert thumbnails(tmp_path, {1: "a.png"}, None) == {}
    assert thumbnails(tmp_path, {1: "a.png"}, tmp_path / "nowhere") == {}
    assert thumbnails(tmp_path, {1: "a.png"}, tmp_path) == {}
    assert not (tmp_path / THUMBNAILS).exists()


def test_those_of_a_study_that_is_named_by_a_link_are_removed(tmp_path: Path) -> None:
    study, link = tmp_path / "study", tmp_path / "link"
    (study / THUMBNAILS).mkdir(parents=True)
    (study / THUMBNAILS / "0000001.jpg").touch()
    link.symlink_to(study, target_is_directory=True)
    remove_thumbnails(link)
    assert not (study / THUMBNAILS).exists()
