"""Blocks of features: shared by processes, checked when they are read, and continued after a kill."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from tametail.core.arrays import IntArray
from tametail.core.interruption import Interrupted
from tametail.data import DecodedImages, decoded_images, read_images
from tametail.models.backbones import build_backbone, describe_backbone
from tametail.storage.study_file import WORK_FOLDER, remove_work_folder
from tametail.training import feature_blocks, training_data
from tametail.training.feature_blocks import FeatureBlocks
from tametail.training.inference import predict_logits
from tametail.training.training_data import cached_features

SPEC = describe_backbone("test_efficientnet", 32)
KEY = "0123456789abcdef" * 2
ROWS = 16


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(feature_blocks, "BLOCK_ROWS", ROWS)
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def decoded(image_folder: Path) -> DecodedImages:
    return decoded_images(read_images(image_folder), SPEC.canvas)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first rows of all blocks that are computed from here on."""
    seen: list[int] = []

    def watched(model: object, array: object, rows: IntArray, *rest: object, **named: object) -> object:
        seen.append(int(rows[0]))
        return predict_logits(model, array, rows, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(training_data, "predict_logits", watched)
    return seen


def features(
    decoded: DecodedImages, shared: Path | None = None, advance: Callable[[int], None] | None = None
) -> NDArray[np.float32]:
    torch.manual_seed(0)
    backbone, accelerator = build_backbone(SPEC, "none"), Accelerator(cpu=True)
    return np.array(cached_features(decoded, SPEC, backbone, accelerator, shared=shared, advance=advance))


def cached(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (cache / "features").iterdir() if path.suffix != ".lock"}


def test_a_killed_extraction_continues(decoded: DecodedImages, tmp_path: Path, computed: list[int]) -> None:
    def kill(_: int) -> None:
        if len(list((tmp_path / "cache/features").glob("*.safetensors"))) == 3:
            raise Interrupted

    with suppress(Interrupted):
        features(decoded, advance=kill)
    assert len(computed) == 3
    assert all(name.endswith(".safetensors") for name in cached(tmp_path / "cache"))
    rows: list[int] = []
    found = features(decoded, advance=rows.append)
    assert sorted(computed) == list(range(0, len(found), ROWS)), "each block is computed once"
    assert sum(rows) == len(found)
    continued = cached(tmp_path / "cache")
    assert [Path(name).suffix for name in continued] == [".npy"], "blocks are removed"
    (tmp_path / "cache/features" / next(iter(continued))).unlink()
    features(decoded)
    assert cached(tmp_path / "cache") == continued


def test_another_cache_is_filled_from_blocks(
    decoded: DecodedImages, tmp_path: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = features(decoded)
    before = cached(tmp_path / "cache")
    work = tmp_path / "study" / WORK_FOLDER
    for node in ("a", "b"):
        monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / node))
        computed.clear()
        assert np.array_equal(features(decoded, work), alone)
        assert cached(tmp_path / node) == before
        assert len(computed) == (len(list(work.glob("*.safetensors"))) if node == "a" else 0)
    damaged = sorted(work.glob("*.safetensors"))[1]
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "c"))
    assert np.array_equal(features(decoded, work), alone)
    assert len(computed) == 1, "a damaged block is computed again"
    assert cached(tmp_path / "c") == before
    remove_work_folder(tmp_path / "study")
    assert not work.exists()


def test_processes_share_the_blocks(tmp_path: Path) -> None:
    computed: list[int] = []

    def compute(rows: IntArray) -> NDArray[np.float32]:
        computed.append(int(rows[0]))
        time.sleep(0.02)
        return np.repeat(rows[:, None], 2, axis=1).astype(np.float32)

    blocks = FeatureBlocks(tmp_path, KEY, (20 * ROWS + 3, 2))
    seen: list[list[int]] = [[], [], []]
    workers = [
        threading.Thread(target=blocks.share, args=(compute, rows.append, lambda: False)) for rows in seen
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(computed) <= 21 + 2, "at worst one that was claimed twice"
    assert set(computed) == set(blocks.starts)
    whole = np.concatenate([blocks.load(start, compute) for start in blocks.starts])
    assert np.array_equal(whole[:, 1], np.arange(20 * ROWS + 3))
    blocks.remove()
    assert not list(tmp_path.iterdir())


def test_waiting_for_the_block_of_another_process_ends_on_request(tmp_path: Path) -> None:
    blocks = FeatureBlocks(tmp_path, KEY, (ROWS, 2))
    calls: Iterator[int] = iter(range(3))

    def advance(_: int) -> None:
        if next(calls) == 2:
            raise Interrupted

    def never(_: IntArray) -> NDArray[np.float32]:
        raise AssertionError

    with blocks._store.claimed(f"{KEY}-0") as ours:
        assert ours
        with pytest.raises(Interrupted):
            blocks.share(never, advance, lambda: False)
