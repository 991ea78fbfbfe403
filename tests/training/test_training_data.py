"""Features that are kept by all that they depend on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from numpy.typing import NDArray

from tametail.core.errors import TametailError
from tametail.data import DecodedImages, ImageTable, decoded_images, make_splits, read_images
from tametail.data.decoding.cache import ChunkSettings
from tametail.data.row_store import as_rows
from tametail.models.backbones import build_backbone, describe_backbone
from tametail.training import feature_blocks, training_data
from tametail.training.recipe import load_recipe
from tametail.training.strategies import parse_method
from tametail.training.training_data import backbone_of, cached_features, features_key

SPEC = describe_backbone("test_efficientnet", 32)


@pytest.fixture
def table(image_folder: Path) -> ImageTable:
    return read_images(image_folder)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def features(decoded: DecodedImages, precision: str) -> NDArray[np.float32]:
    import torch

    torch.manual_seed(0)
    AcceleratorState._reset_state(True)
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    try:
        return np.asarray(cached_features(decoded, SPEC, build_backbone(SPEC, "none"), accelerator))
    finally:
        AcceleratorState._reset_state(True)


def test_features_of_another_precision_are_not_taken(table: ImageTable, own_cache: Path) -> None:
    decoded = decoded_images(table, SPEC.canvas)
    coarse = features(decoded, "bf16")
    fine = features(decoded, "no")
    assert np.abs(fine - coarse).max() > 0
    assert np.array_equal(features(decoded, "bf16"), coarse)
    assert np.array_equal(features(decoded, "no"), fine)
    assert len(list(own_cache.glob("*.npy"))) == 2


def test_damaged_features_are_computed_again(table: ImageTable, own_cache: Path) -> None:
    decoded = decoded_images(table, SPEC.canvas)
    whole = features(decoded, "no").copy()
    (path,) = own_cache.glob("*.npy")
    data = path.read_bytes()
    for damaged in (b"", data[:-4], data[:40]):
        path.write_bytes(damaged)
        assert np.array_equal(features(decoded, "no"), whole)
        assert path.read_bytes() == data


def test_features_are_memory_mapped_and_blocks_change_nothing(
    table: ImageTable, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = decoded_images(table, SPEC.canvas)
    whole = features(decoded, "no")
    assert not whole.flags.owndata
    (path,) = own_cache.glob("*.npy")
    written = path.read_bytes()
    path.unlink()
    monkeypatch.setattr(feature_blocks, "BLOCK_ROWS", 16)
    assert len(whole) > 2 * 16
    assert np.array_equal(features(decoded, "no"), whole)
    assert path.read_bytes() == written
    with path.open("rb") as handle:  # as np.save writes it
        assert np.array_equal(np.lib.format.read_array(handle, allow_pickle=False), whole)


def test_features_take_no_room_of_the_images_that_they_are_computed_from(
    table: ImageTable, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = decoded_images(table, SPEC.canvas, chunks=ChunkSettings(shard=20 * SPEC.canvas**2 * 3))
    shards = sorted((own_cache.parent / "decoded").glob("*.npy"))
    assert {path.stem for path in shards} == decoded.shards
    assert len(shards) == 4
    monkeypatch.setenv("TAMETAIL_CACHE_GB", str((sum(path.stat().st_size for path in shards) + 9000) / 1e9))
    with pytest.raises(TametailError, match="no space for"):
        features(decoded, "no")
    assert sorted((own_cache.parent / "decoded").glob("*.npy")) == shards


def test_a_study_of_heads_has_standardised_features_of_its_images(table: ImageTable) -> None:
    array = np.random.default_rng(0).normal(3, 2, (len(table), SPEC.features)).astype(np.float32)
    recipe = load_recipe("head", fields={"backbone": SPEC.name, "image_size": SPEC.image_size})
    splits = make_splits(table, folds=2, seed=0)
    data = training_data.training_data_from_features(table, splits, as_rows(array), SPEC, recipe)
    rows = np.arange(0, len(table), 2)
    model = data.new_model(parse_method("ce"), rows)
    found = data.features(model[0], Accelerator(cpu=True))
    assert found.shape == array.shape
    expected = (array - array[rows].mean(axis=0)) / np.sqrt(array[rows].var(axis=0).mean())
    np.testing.assert_allclose(found.take(rows[::-1]), expected[rows[::-1]], rtol=1e-4, atol=1e-5)
    assert np.array_equal(np.asarray(data.array), array)


def test_the_key_tells_precisions_apart_and_keeps_the_names_of_float32() -> None:
    backbone = build_backbone(SPEC, "none")
    keys = {features_key("x", SPEC, backbone, precision) for precision in ("no", "bf16", "fp16")}
    assert len(keys) == 3
    assert features_key("x", SPEC, backbone) in keys


@pytest.mark.parametrize(
    ("name", "low", "side"),
    [("head", 0.5, SPEC.canvas), ("quick", 0.7, 46), ("quick", 1.0, SPEC.canvas), ("quick", 0.1, 64)],
)
def test_images_have_the_pixels_that_the_smallest_part_shown_needs(name: str, low: float, side: int) -> None:
    fields = {"backbone": SPEC.name, "image_size": SPEC.image_size}
    recipe = load_recipe(name, fields=fields, assignments=[f"augmentation.scale=[{low}, 1.0]"])
    assert backbone_of(recipe).canvas == side


def test_features_of_other_stages_or_views_are_kept_apart() -> None:
    keys = set()
    for change in ("stages=none", "stages=all", "pooling=mean", "views=flips"):
        fields = {"backbone": SPEC.name, "image_size": SPEC.image_size}
        spec = backbone_of(load_recipe("head", fields=fields, assignments=[f"features.{change}"]))
        keys.add(features_key("x", spec, build_backbone(SPEC, "none"), "no"))
    assert len(keys) == 4
