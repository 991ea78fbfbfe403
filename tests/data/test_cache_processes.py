"""What several processes, or killed ones, do to the cache."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tametail.data import decode_image, decoded_images, read_images


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decoded"


def expected(folder: Path, size: int) -> np.ndarray:
    return np.stack([decode_image(path, size) for path in read_images(folder).paths])


def _decode_in_process(folder: Path) -> tuple[str, int]:
    found = decoded_images(read_images(folder), 64)
    return found.key, int(found.pixels.astype(np.int64).sum())


def test_processes_at_once_get_the_same(image_folder: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        results = pool.map(_decode_in_process, [image_folder] * 2)
    assert set(results) == {(results[0][0], int(expected(image_folder, 64).astype(np.int64).sum()))}


SLOWLY = """
import sys, time
from tametail.data import cache, decoded_images, read_images
fast = cache.decode_image
def slow(path, size):
    time.sleep(0.2)
    return fast(path, size)
cache.decode_image = slow
cache._CHUNK = 2
decoded_images(read_images(sys.argv[1]), 16, advance=lambda done: print(done, flush=True))
"""


def test_a_process_killed_while_it_decodes_leaves_nothing_that_counts(
    image_folder: Path, own_cache: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLOWLY, str(image_folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "2\n"  # in the middle of it
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert list(own_cache.glob("*.npy.tmp"))
    assert not list(own_cache.glob("*.json"))
    found = decoded_images(read_images(image_folder), 16)
    assert np.array_equal(found.pixels, expected(image_folder, 16))
    assert not list(own_cache.glob("*.tmp"))
