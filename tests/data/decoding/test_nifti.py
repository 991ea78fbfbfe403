from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from fixtures.hostile_samples import processor_seconds
from fixtures.nifti_samples import nifti_bytes, write_nifti
from tametail.core.errors import DataError
from tametail.data.decoding.nifti import nifti_slices, read_nifti_header

BODY = np.random.default_rng(0).integers(0, 1000, (5, 6, 7)).astype(np.int16)
"""(X, Y, Z) towards right, front and head."""


def slices(path: Path) -> list[np.ndarray]:
    header = read_nifti_header(path)
    return list(nifti_slices(path, header, range(header.slices)))


def expected(body: np.ndarray) -> list[np.ndarray]:
    """Front up, the patient's right at the left, feet first."""
    low, high = np.percentile(body, (0.5, 99.5))
    scaled = np.rint(np.clip((body.astype(float) - low) * (255 / (high - low)), 0, 255)).astype(np.uint8)
    return [scaled[::-1, ::-1, at].T for at in range(body.shape[2])]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_slices_are_axial_in_every_stored_orientation(tmp_path: Path, suffix: str) -> None:
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        affine = np.zeros((4, 4))
        stored = BODY.transpose(order)
        for axis, direction in enumerate(order):
            affine[direction, axis] = 2.0 * signs[axis]
            if signs[axis] < 0:
                stored = np.flip(stored, axis)
        path = write_nifti(tmp_path / f"a{suffix}", stored, affine=affine)
        for found, wanted in zip(slices(path), expected(BODY), strict=True):
            assert np.array_equal(found, wanted), (order, signs)


@pytest.mark.parametrize("seed", range(8))
def test_orientation_and_values_agree_with_nibabel(tmp_path: Path, seed: int) -> None:
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.5, 3, 3)
    kind = nibabel.Nifti2Image if seed % 2 else nibabel.Nifti1Image
    image = kind(BODY, affine)
    image.header.set_slope_inter(*((-2.0, 40.0) if seed % 3 else (0.5, -1024.0)))
    if seed % 4 > 1:
        image.set_sform(None, 0)
        image.set_qform(affine, 1)
    path = tmp_path / "a.nii.gz"
    image.to_filename(path)
    canonical = nibabel.as_closest_canonical(nibabel.load(path))
    for found, wanted in zip(slices(path), expected(np.asarray(canonical.get_fdata())), strict=True):
        assert np.abs(found.astype(int) - wanted).max() <= 1


def test_floats_with_holes_and_constant_volumes(tmp_path: Path) -> None:
    body = BODY.astype(np.float32)
    body[0, 0, 0] = np.nan
    assert slices(write_nifti(tmp_path / "a.nii", body))[0][-1, -1] == 0
    assert not np.any(slices(write_nifti(tmp_path / "b.nii", np.full((3, 3, 3), 7, np.int16))))
    assert len(slices(write_nifti(tmp_path / "c.nii", BODY, shape=(5, 6, 7, 1)))) == 7


def test_percentiles_are_of_all_columns_of_a_large_volume(tmp_path: Path) -> None:
    stripes = np.zeros((100, 100, 250), np.uint8)
    stripes[1::2] = 200  # every second voxel in the order of the file
    shown = slices(write_nifti(tmp_path / "a.nii", stripes))[0]
    assert sorted(np.unique(shown)) == [0, 255]


def declared(**header: object) -> Callable[[Path], None]:
    return lambda path: write_nifti(path, BODY, **header) and None


def many_zeros(path: Path) -> None:
    """Of 500 MB of zeros gzip makes 500 kB."""
    head = nifti_bytes(np.zeros((1, 1, 1), np.int16), shape=(500, 500, 1000))
    path.write_bytes(gzip.compress(head) + gzip.compress(bytes(10_000_000), 1) * 50)


def inflating(path: Path) -> None:
    """More than its header declares, which is not expanded."""
    path.write_bytes(gzip.compress(nifti_bytes(BODY)[:-2] + bytes(50_000_000))[:-9])


def truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 40)).astype(np.uint8)
    content = gzip.compress(nifti_bytes(noise))
    path.write_bytes(content[: len(content) // 2])


def damaged(path: Path) -> None:
    content = bytearray(gzip.compress(nifti_bytes(BODY)))
    content[-6] ^= 1  # of the checksum
    path.write_bytes(content)


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "declares 10^12 voxels": (declared(shape=(9999, 9999, 9999)), "at most 536,870,912 bytes and 10,000 voxels"),
    "declares more than it has": (declared(shape=(500, 500, 100)), r"declares 50,000,000 bytes of voxels"),
    "zeros": (many_zeros, "less than 1/200 of them"),
    "truncated": (truncated, r"declares 163,840 bytes of voxels, but [\d,]+ are there"),
    "damaged": (damaged, "cannot be read .*is damaged"),
    "negative": (declared(shape=(5, -6, 7)), "expected one volume"),
    "several volumes": (declared(shape=(5, 6, 1, 7)), "of a series of volumes save the one that is meant"),
    "colours": (declared(code=128), "expected grey values"),
    "voxels before the header": (declared(offset=4), "at byte 4; convert"),
    "voxels far behind": (declared(offset=3e9), "convert the volume"),
    "not a number": (declared(offset=float("nan")), "convert the volume"),
    "of two files": (declared(magic=b"ni1\0"), "expected a NIfTI volume"),
    "noise": (lambda path: path.write_bytes(os.urandom(5000)) and None, "expected a NIfTI volume"),
    "compressed noise": (lambda path: path.write_bytes(b"\x1f\x8b" + os.urandom(5000)) and None, "cannot be read"),
    "empty": (lambda path: path.write_bytes(b"") and None, "expected a NIfTI volume"),
    "folder": (Path.mkdir, "cannot be read"),
    "pipe": (lambda path: os.mkfifo(path), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_hostile_volumes_are_refused_by_name(tmp_path: Path, case: str, name: str) -> None:
    write, message = HOSTILE[case]
    write(tmp_path / name)
    started = processor_seconds()
    with pytest.raises(DataError, match=message) as error:
        slices(tmp_path / name)
    assert processor_seconds() - started < 10
    assert name in str(error.value)


def test_no_more_is_expanded_than_declared(tmp_path: Path) -> None:
    inflating(tmp_path / "a.nii.gz")
    assert len(slices(tmp_path / "a.nii.gz")) == 7


def test_memory_is_that_of_the_volume(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 999, (256, 256, 8)).astype(np.int16)
    path = write_nifti(tmp_path / "a.nii.gz", np.tile(noise, (1, 1, 100)))  # 105 MB
    measured = (
        "import resource, sys; from pathlib import Path\n"
        "from tametail.data.decoding.nifti import nifti_slices, read_nifti_header as header\n"
        "path = Path(sys.argv[1]); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert len(list(nifti_slices(path, header(path), [0, 5]))) == 2\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", measured, str(path)], capture_output=True, text=True, check=True
    )
    assert float(ran.stdout) < 1.3 * 105


def test_many_empty_parts_take_little_time(tmp_path: Path) -> None:
    content = nifti_bytes(BODY)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(
        gzip.compress(content[:400]) + gzip.compress(b"") * 50_000 + gzip.compress(content[400:])
    )
    started = processor_seconds()
    found = slices(path)
    assert processor_seconds() - started < 2
    assert np.array_equal(found[0], expected(BODY)[0])


def test_zeros_after_a_compressed_volume_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(nifti_bytes(BODY)) + bytes(512))
    assert np.array_equal(slices(path)[0], expected(BODY)[0])


@pytest.mark.filterwarnings("error")
def test_values_of_too_wide_a_range_are_refused(tmp_path: Path) -> None:
    wide = np.random.default_rng(0).uniform(-1, 1, BODY.shape) * 1.7e308
    with pytest.raises(DataError, match="expected values of which the range is a 64-bit number"):
        slices(write_nifti(tmp_path / "wide.nii", wide))
    one = BODY.astype(np.float64)
    one[0, 0, 0] = 1.7e308
    assert slices(write_nifti(tmp_path / "one.nii", one))[0].max() == 255


def test_what_a_volume_lacks_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(nifti_bytes(BODY)[:-20])
    with pytest.raises(
        DataError, match=r"420 bytes of voxels, but the file has 752, of which voxels begin at 352; fetch"
    ):
        slices(path)
