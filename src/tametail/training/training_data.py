"""The data that all runs of a study share: features or images, targets, and a factory for models.

Shape legend: N images, D features, K canvas side.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from tametail.core.arrays import IntArray
from tametail.core.atomic import atomic_path, make_folder
from tametail.core.errors import TametailError
from tametail.core.regular_file import regular
from tametail.data import DecodedImages, ImageTable, Splits, cache_dir
from tametail.data.decoding.cache_folder import cache_lock, explain_cache_error, make_room, mark_used
from tametail.data.row_store import ArrayRows, RowStore
from tametail.data.sampling.augmentation import Preprocess
from tametail.models.backbones import BackboneSpec, channels_last, describe_backbone, state_digest
from tametail.models.folding import fold_batch_norms
from tametail.models.heads import Standardise
from tametail.training.feature_blocks import FeatureBlocks
from tametail.training.hardware import disable_malloc_trim
from tametail.training.inference import Transform, predict_logits
from tametail.training.large_tensors import RowBlocks
from tametail.training.recipe import Recipe
from tametail.training.strategies import Method

NewModel = Callable[[Method, IntArray | None], nn.Sequential]
_CPU_BATCH, _GPU_BATCH = 16, 256  # a CPU is faster on batches that fit in its cache; both divide `BLOCK_ROWS`


@dataclass(frozen=True)
class TrainingData:
    """Inputs of a study's runs.

    Attributes:
        store: (N, D) features, or (N, K, K, 3) decoded images.
        table, splits: N images in the same order.
        train_transform, eval_transform: from rows of ``store`` to inputs of the model; None for none.
        new_model: builds a model, representation and head, for a method and its training rows (None for a model whose
            weights will be loaded); the same weights for the same torch seed.
        features: (N, D) of all images by a model's representation; cached on disk for images.
        extra_draws: random numbers per image that ``train_transform`` needs in addition to the usual ones.
        threads: number of CPU threads of a run; None for torch's default.
        feature_count: D of the models' representation.
    """

    store: RowStore
    table: ImageTable
    splits: Splits
    train_transform: Transform | None
    eval_transform: Transform | None
    new_model: NewModel
    features: Callable[[nn.Module, Accelerator], RowStore]
    extra_draws: int = 0
    threads: int | None = None
    feature_count: int = 0

    @property
    def array(self) -> NDArray[Any]:
        """All rows of ``store`` as one array: memory-mapped if they are in one file, else in memory."""
        return np.asarray(self.store)

    @cached_property
    def targets(self) -> NDArray[np.int64] | NDArray[np.float32]:
        """Targets: (N,) class indices, or (N, C) labels of a multi-label table, nan where unknown."""
        if not self.table.multi_label:
            return self.table.targets
        return np.where(self.table.unknown, np.float32(np.nan), self.table.labels.astype(np.float32))

    def class_counts(self, rows: IntArray) -> list[int]:
        """Images per class in some rows."""
        counts: list[int] = self.table.labels[rows].sum(axis=0).tolist()
        return counts


def training_data_from_features(
    table: ImageTable, splits: Splits, features: RowStore, spec: BackboneSpec, recipe: Recipe
) -> TrainingData:
    """Data for training heads on features of a frozen backbone."""

    def new_model(method: Method, rows: IntArray | None) -> nn.Sequential:
        standardise = Standardise(spec.blocks)
        if rows is not None:
            standardise.fit(RowBlocks(features, rows))
        head = method.build_head(spec.features, len(table.class_names), recipe.head)
        return nn.Sequential(standardise, head)

    # A head's products are too small for several threads: on a busy machine they were ten times slower.
    return TrainingData(
        features,
        table,
        splits,
        None,
        None,
        new_model,
        lambda model, _: _Transformed(features, model),
        threads=1,
        feature_count=spec.features,
    )


def training_data_from_images(
    table: ImageTable,
    splits: Splits,
    decoded: DecodedImages,
    spec: BackboneSpec,
    backbone: nn.Module,
    recipe: Recipe,
    threads: int | None = None,
) -> TrainingData:
    """Data for fine-tuning a copy of the backbone together with its head."""
    augment = Preprocess(spec.image_size, spec.mean, spec.std, **dict(recipe.augmentation))
    classes = len(table.class_names)
    return TrainingData(
        decoded.pixels,
        table,
        splits,
        augment,
        evaluation_transform(spec),
        lambda method, _: channels_last(
            nn.Sequential(copy.deepcopy(backbone), method.build_head(spec.features, classes, recipe.head))
        ),
        lambda model, accelerator: cached_features(decoded, spec, model, accelerator),
        extra_draws=augment.extra_draws,
        threads=threads,
        feature_count=spec.features,
    )


def backbone_of(recipe: Recipe) -> BackboneSpec:
    """The backbone of a recipe, with its feature vector and the canvas at which images are cached.

    Training and evaluation images must be equally sharp: random crops get the resolution that the smallest crop needs,
    up to twice the network's, and evaluation resamples the same canvas in the same way.
    """
    spec = describe_backbone(recipe.backbone, recipe.image_size)
    if recipe.trains == "head":
        features = recipe.features
        return spec.pooled(features.pooling if features.stages == "all" else None, features.views)
    least = math.ceil(spec.image_size / recipe.augmentation.scale[0])
    return spec.on_canvas(min(least, 2 * spec.image_size))


def evaluation_transform(spec: BackboneSpec) -> Preprocess:
    """The deterministic preprocessing for evaluation."""
    return Preprocess(spec.image_size, spec.mean, spec.std, crop=spec.crop)


def frozen(backbone: nn.Module, spec: BackboneSpec) -> nn.Module:
    """A backbone as its features are computed fastest, in evaluation mode; its weights are not to be trained or saved."""
    disable_malloc_trim()
    return channels_last(fold_batch_norms(backbone, spec.image_size))


def features_key(decoded_key: str, spec: BackboneSpec, backbone: nn.Module, precision: str = "no") -> str:
    """Cache key of the features of these images by this backbone, from their content.

    Args:
        precision: the accelerator's ``mixed_precision``, ``"no"`` for float32.
    """
    described = [decoded_key, spec.name, spec.image_size, spec.mean, spec.std, state_digest(backbone)]
    described += [[asdict(stage) for stage in spec.stages if spec.pooling], spec.pooling, spec.views]
    if spec.enlarged:
        described.append(spec.canvas)
    if precision != "no":
        described.append(precision)
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:32]


def cached_features(
    decoded: DecodedImages,
    spec: BackboneSpec,
    backbone: nn.Module,
    accelerator: Accelerator,
    *,
    advance: Callable[[int], None] | None = None,
    shared: Path | None = None,
) -> RowStore:
    """Features (N, D) float32 of a backbone, computed and written by blocks once, and memory-mapped from the cache by content.

    Of several processes under a launcher the main one computes them and the others wait; all must call it. Other processes
    that need the same features at the same time share the blocks.

    Args:
        advance: called with the number of rows that are done, and what it raises ends the work.
        shared: folder of the blocks, in which they stay, for processes that have other caches; None for the cache.

    Raises:
        TametailError: the cache folder cannot be written, or the features do not fit.
    """
    key = features_key(decoded.key, spec, backbone, accelerator.mixed_precision)
    path = cache_dir() / "features" / f"{key}.npy"
    shape = (len(decoded.pixels), spec.features)
    blocks = FeatureBlocks(shared or path.parent, key, shape)
    with accelerator.main_process_first():
        found = _open(path, shape)
        if found is not None:
            mark_used(path)
            if advance:
                advance(len(found))
            return found
        in_cache = 0 if shared else blocks.bytes_missing
        make_room(shape[0] * shape[1] * 4 + in_cache, keep=decoded.shards | {key})
        network, transform = frozen(backbone, spec), evaluation_transform(spec)

        def compute(rows: IntArray) -> NDArray[np.float32]:
            return predict_logits(
                network,
                decoded.pixels,
                rows,
                accelerator,
                transform=transform,
                batch_size=_CPU_BATCH if accelerator.device.type == "cpu" else _GPU_BATCH,
                shared=False,
                advance=advance,
            )

        try:
            blocks.share(compute, advance or (lambda _: None), lambda: _open(path, shape) is not None)
        except TametailError as error:
            if shared is None and isinstance(error.__cause__, OSError):
                with explain_cache_error(path.parent):
                    raise error.__cause__ from None
            raise
        with explain_cache_error(path.parent):
            make_folder(path.parent)
            with cache_lock(path.parent, key):
                if _open(path, shape) is None:
                    with atomic_path(path) as temporary, temporary.open("wb") as handle:
                        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                        np.lib.format.write_array_header_1_0(handle, header)
                        for start in blocks.starts:
                            handle.write(blocks.load(start, compute).astype("<f4", copy=False).data)
                found = _open(path, shape)
                if shared is None:
                    blocks.remove()
    if found is None:
        raise TametailError(f"the features in {path} were changed while they were written; try again")
    return found


def _open(path: Path, shape: tuple[int, int]) -> RowStore | None:
    """The features in a file, memory-mapped; None if it is absent or damaged."""
    try:
        features: NDArray[np.float32] = np.load(regular(path), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return ArrayRows([features]) if features.shape == shape and features.dtype == np.float32 else None


@final
class _Transformed(RowStore):
    """The rows of a store after a module for which each row is by itself, computed when they are taken."""

    def __init__(self, store: RowStore, module: nn.Module) -> None:
        self._store, self._module = store, module
        self.shape, self.dtype = store.shape, store.dtype

    @torch.no_grad()
    def take(self, rows: IntArray) -> NDArray[np.float32]:
        inputs = torch.from_numpy(self._store.take(rows))
        outputs: torch.Tensor = self._module(inputs.to(next(self._module.buffers()).device))
        return outputs.cpu().numpy()
