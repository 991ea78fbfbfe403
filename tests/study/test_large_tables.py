"""A study whose images are in many shards and whose features are in many blocks, as those of large tables are."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fixtures.tiny_study import TINY
from tametail.data import decoded_images, row_store
from tametail.data.decoding.cache import ChunkSettings
from tametail.predictions.single_label import read_predictions
from tametail.study import inputs
from tametail.study.study import compare
from tametail.training import feature_blocks, large_tensors

pytestmark = pytest.mark.slow

METHODS = "ce,alpa,ldam,ce+crt,ce+ncm,logistic_regression"


def test_shards_and_blocks_change_no_more_than_the_last_bits(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TINY | {"folds": 2, "recipe": "head", "epochs": 2}
    compare(image_folder, METHODS, out=tmp_path / "whole", **settings)
    monkeypatch.setenv("TAMETAIL_CACHE", str(tmp_path / "cache"))
    shards = ChunkSettings(shard=9 * 34 * 34 * 3)
    monkeypatch.setattr(inputs, "decoded_images", partial(decoded_images, chunks=shards))
    monkeypatch.setattr(feature_blocks, "BLOCK_ROWS", 16)
    monkeypatch.setattr(row_store, "BLOCK_BYTES", 10 * 256 * 4)
    monkeypatch.setattr(large_tensors, "IN_MEMORY_BYTES", 0)
    compare(image_folder, METHODS, out=tmp_path / "parts", **settings)
    assert len(list((tmp_path / "cache" / "decoded").glob("*.npy"))) > 4
    paths = sorted((tmp_path / "whole").glob("runs/*/*/predictions.parquet"))
    assert len(paths) == 12
    for path in paths:
        whole, parts = (
            read_predictions(tmp_path / name / path.relative_to(tmp_path / "whole"))
            for name in ("whole", "parts")
        )
        assert whole.image.tolist() == parts.image.tolist()
        np.testing.assert_allclose(parts.posterior, whole.posterior, atol=2e-4)
        convergence = json.loads((path.parent / "run.json").read_text()).get("convergence")
        assert convergence is None or convergence["converged"]
    tables = [
        json.loads((tmp_path / name / "study.json").read_text())["table"] for name in ("whole", "parts")
    ]
    assert tables[0] == tables[1]
