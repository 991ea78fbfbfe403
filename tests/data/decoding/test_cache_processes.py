"""What several processes, or killed ones, do to the cache."""

from __future__ import annotations

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


AT_ONCE = """
import sys
import numpy as np
from tametail.data import decoded_images, read_images
found = decoded_images(read_images(sys.argv[1]), 64)
print(found.key, int(np.asarray(found.pixels).astype(np.int64).sum()))
"""


def test_processes_at_once_get_the_same(image_folder: Path) -> None:
    words = [sys.executable, "-c", AT_ONCE, str(image_folder)]
    processes = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    results = {process.communicate(timeout=120)[0] for process in processes}
    assert {process.returncode for process in processes} == {0}
    (result,) = results
    assert int(result.split()[1]) == int(expected(image_folder, 64).astype(np.int64).sum())


SLOWLY = """
import sys, time
from tametail.data import decoded_images, read_images
from tametail.data.decoding import cache
fast = cache.decode_image
def slow(path, size, **options):
    time.sleep(0.2)
    return fast(path, size, **options)
cache.decode_image = slow
chunks = cache.ChunkSettings(images=2)
decoded_images(read_images(sys.argv[1]), 16, chunks=chunks, advance=lambda done: print(done, flush=True))
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
    assert list(own_cache.glob(".*.npy.*.tmp"))
    assert not [path for path in own_cache.glob("*.json") if not path.name.endswith(".lock.json")]
    found = decoded_images(read_images(image_folder), 16)
    assert np.array_equal(found.pixels, expected(image_folder, 16))
    assert not list(own_cache.glob("*.tmp"))
