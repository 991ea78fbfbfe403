"""What an audit learned from files is found again by their content alone, and never trusted if it is damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.planted_faults import FAULTS, Set
from tametail.audit import AuditResult, audit, image_stats, stats_cache
from tametail.core.errors import UsageError
from tametail.data import read_images


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "inspected"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one for each image that is decoded."""
    seen: list[str] = []
    decode = image_stats.decode_whole

    def counting(data: bytes, *arguments: object, **options: object) -> object:
        seen.append("")
        return decode(data, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(image_stats, "decode_whole", counting)
    return seen


@pytest.fixture
def images(tmp_path: Path) -> Set:
    found = Set(tmp_path / "set")
    FAULTS["near_duplicates"][1](found)
    FAULTS["wrong_extension"][1](found)
    FAULTS["burned_in_text"][1](found)
    found.write()
    return found


def _audit(folder: Path) -> AuditResult:
    return audit(read_images(folder, allow_leaks=True), folds=4)


def _found(result: AuditResult) -> dict[str, object]:
    return {key: value for key, value in result.as_dict().items() if key not in {"name", "fingerprint"}}


def test_a_second_audit_decodes_nothing_and_finds_the_same(
    images: Set, cache: Path, decoded: list[str]
) -> None:
    first = _audit(images.folder)
    assert len(decoded) == len(images.rows)
    again = _audit(images.folder)
    assert len(decoded) == len(images.rows)
    assert _found(again) == _found(first)
    assert [file.std for file in again.stats.files] == [file.std for file in first.stats.files]
    assert (again.stats.thumbnails == first.stats.thumbnails).all()


def test_names_places_and_labels_are_of_no_consequence(
    images: Set, cache: Path, decoded: list[str], tmp_path: Path
) -> None:
    first = _audit(images.folder)
    other = Set(tmp_path / "other")
    shutil.rmtree(other.folder / "images")
    (other.folder / "images").mkdir()
    other.rows = []
    for number, row in enumerate(reversed(images.rows)):
        name = f"images/z{number:03}{Path(row['image']).suffix}"
        shutil.copy(images.folder / row["image"], other.folder / name)
        other.rows.append({"image": name, "label": ("x", "y")[number % 2], "group": f"g{number}"})
    other.write()
    decoded.clear()
    again = _audit(other.folder)
    assert decoded == []
    assert (len(again.duplicates.near), again.sizes()) == (len(first.duplicates.near), first.sizes())


def test_the_extension_is_that_of_the_file_and_not_of_the_cache(
    images: Set, cache: Path, decoded: list[str]
) -> None:
    assert "wrong_extension" in {finding.code for finding in _audit(images.folder).findings}
    row = next(row for row in images.rows if row["image"].endswith("claimed.jpg"))
    (images.folder / row["image"]).rename(images.folder / "images/real.png")
    row["image"] = "images/real.png"
    images.write()
    decoded.clear()
    assert "wrong_extension" not in {finding.code for finding in _audit(images.folder).findings}
    assert decoded == []


def test_a_changed_or_new_image_is_read(images: Set, cache: Path, decoded: list[str]) -> None:
    _audit(images.folder)
    decoded.clear()
    images.path(3).write_bytes(images.path(5).read_bytes())
    images.add("new.png", "nevus", "new")
    images.write()
    result = _audit(images.folder)
    assert len(decoded) == 1, "the other one has a known content"
    assert result.duplicates.exact == ((3, 5),)


def _flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 255
    path.write_bytes(bytes(data))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "empty": lambda path: path.write_bytes(b""),
    "another byte": _flip_a_byte,
    "of another kind": lambda path: path.write_text('{"found": {}, "checksum": ""}', encoding="utf-8"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_replaced(damage: str, images: Set, cache: Path, decoded: list[str]) -> None:
    first = _audit(images.folder)
    for path in (*cache.glob("*.bin"), *cache.glob("*.json")):
        DAMAGE[damage](path)
    decoded.clear()
    assert _found(_audit(images.folder)) == _found(first)
    assert len(decoded) == len(images.rows)
    decoded.clear()
    assert _found(_audit(images.folder)) == _found(first)
    assert decoded == []


def test_another_version_or_bit_depth_is_another_entry(
    images: Set, cache: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _audit(images.folder)
    decoded.clear()
    monkeypatch.setattr(stats_cache, "STATS_VERSION", stats_cache.STATS_VERSION + 1)
    _audit(images.folder)
    assert len(decoded) == len(images.rows)


def test_unreadable_files_are_tried_again(images: Set, cache: Path, decoded: list[str]) -> None:
    images.path(5).write_bytes(b"no image")
    first = _audit(images.folder)
    decoded.clear()
    assert _found(_audit(images.folder)) == _found(first)
    assert len(decoded) == 1


def test_an_audit_needs_no_cache(images: Set, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _audit(images.folder)
    shutil.rmtree(cache)
    cache.write_text("in the way", encoding="utf-8")
    assert _found(_audit(images.folder)) == _found(first)
    monkeypatch.setenv("TAMETAIL_CACHE_GB", "0.0000001")
    assert _found(_audit(images.folder)) == _found(first)
    monkeypatch.setenv("TAMETAIL_CACHE_GB", "much")
    with pytest.raises(UsageError, match="TAMETAIL_CACHE_GB"):
        _audit(images.folder)


def test_the_cache_keeps_within_its_limit(images: Set, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _audit(images.folder)
    size = sum(path.stat().st_size for path in cache.iterdir())
    monkeypatch.setenv("TAMETAIL_CACHE_GB", str(1.2 * max(size, 300_000) / 1e9))
    monkeypatch.setattr(stats_cache, "STATS_VERSION", stats_cache.STATS_VERSION + 1)
    before = {path.name for path in cache.glob("*.bin")}
    _audit(images.folder)
    assert before.isdisjoint(path.name for path in cache.glob("*.bin")), "the older block had to go"
