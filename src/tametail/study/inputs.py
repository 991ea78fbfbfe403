"""Data, splits and backbone of a study: prepared and checked before training, and loaded again later."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tametail.audit import LEAKS, Finding, audit, stats_of_pixels
from tametail.audit.image_stats import is_grey
from tametail.core.atomic import atomic_path, write_atomically
from tametail.core.console import Console
from tametail.core.errors import DataError, explain_save_error
from tametail.core.json_file import read_json
from tametail.core.parquet_file import read_frame
from tametail.core.version import __version__
from tametail.data import (
    DecodedImages,
    ImageTable,
    Splits,
    decoded_images,
    make_splits,
    save_splits,
)
from tametail.data.decoding.shards import absent_images
from tametail.data.reading import GIVEN, GREY_LEVELS, SourceReading
from tametail.data.table import COLUMNS, UNKNOWN_COLUMN
from tametail.models.backbones import BackboneSpec, build_backbone, state_digest
from tametail.storage import study_file
from tametail.storage.identity import SCHEMA
from tametail.study.image_digests import ImageDigests
from tametail.study.study_splits import SPLITS_FILE, study_splits
from tametail.training.checkpointing.checkpoint import load_weights, save_weights
from tametail.training.checkpointing.checkpointer import Stop, Stopped
from tametail.training.recipe import Recipe, recorded_recipe
from tametail.training.training_data import (
    TrainingData,
    cached_features,
    training_data_from_features,
    training_data_from_images,
)

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

TABLE_FILE = "table.parquet"
BACKBONE_FILE = "backbone.safetensors"
_COLOURS_OF = 100  # images by which the set is known to be in colour or grey


@dataclass(frozen=True)
class StudyInputs:
    """Inputs of a study's runs. ``table``, ``splits`` and ``decoded.pixels`` have the same images in the same rows."""

    table: ImageTable
    splits: Splits
    decoded: DecodedImages
    recipe: Recipe
    spec: BackboneSpec
    backbone: nn.Module
    findings: tuple[Finding, ...] = ()

    @property
    def content_digests(self) -> list[str]:
        """Digests of the readable images' bytes, in table order."""
        return _digests(self.decoded)

    @property
    def content(self) -> str:
        """Fingerprint of the readable images' bytes, in table order."""
        return hashlib.sha256("\n".join(self.content_digests).encode()).hexdigest()

    @property
    def grey(self) -> float:
        """Share of images without colour, among at most 100 that are evenly spaced."""
        rows = np.unique(np.linspace(0, len(self.table) - 1, _COLOURS_OF).round().astype(np.int64))
        return round(sum(is_grey(self.decoded.pixels[row]) for row in rows.tolist()) / len(rows), 4)

    def describe(self, methods: list[str], seeds: list[int], run_folds: list[int]) -> dict[str, Any]:
        """The content of study.json."""
        return {
            "schema": SCHEMA,
            "tametail": __version__,
            "name": self.table.name,
            "synthetic": self.table.synthetic,
            "table": {
                "fingerprint": self.table.fingerprint,
                "content": self.content,
                "images": len(self.table),
                "groups": len(set(self.table.groups)),
                **({} if self.table.bit_depth is None else {"bit_depth": self.table.bit_depth}),
                **({} if self.table.slices is None else {"slices": self.table.slices}),
                "unreadable": [{"image": image, "error": why} for image, why in self.decoded.errors.items()],
            },
            "findings": [finding.summary() for finding in self.findings],
            "class_names": list(self.table.class_names),
            "multi_label": self.table.multi_label,
            "grey": self.grey,
            "reading": (self.table.reading or GIVEN).as_dict(),
            "splits": {
                "folds": self.splits.folds,
                "seed": self.splits.seed,
                "given": self.splits.given,
                "fingerprint": self.splits.fingerprint,
            },
            "redrawn_folds": self.splits.redrawn_fingerprints,
            "recipe": self.recipe.model_dump(mode="json"),
            "backbone": self.spec.name,
            "spec": self.spec.described(),
            "weights": self.recipe.weights,
            "weights_digest": state_digest(self.backbone),
            "image_size": self.spec.image_size,
            "features": self.spec.summary if self.recipe.trains == "head" else None,
            "canvas": self.spec.canvas if self.spec.enlarged else None,
            "methods": methods,
            "seeds": seeds,
            "run_folds": run_folds,
        }

    def save(self, directory: Path) -> None:
        """Save what evaluation, the test set and prediction need later to the study's folder.

        Raises:
            TametailError: a file cannot be written.
        """
        with explain_save_error(directory / TABLE_FILE), atomic_path(directory / TABLE_FILE) as temporary:
            self.table.frame.to_parquet(temporary, index=False)
        save_splits(self.splits, directory / SPLITS_FILE)
        self.save_digests(directory)
        remember_root(directory, self.table.root)
        save_weights(self.backbone, directory / BACKBONE_FILE)

    def save_digests(self, directory: Path) -> None:
        """Save the digests by which the images are recognised later, unless they are there.

        Raises:
            TametailError: they cannot be written.
        """
        present = ImageDigests.load(self.table.images, directory)
        if present is None or present.content.tolist() != self.content_digests:
            ImageDigests.of(self.decoded.pixels, self.content_digests).save(self.table.images, directory)

    def training_data(
        self,
        accelerator: Accelerator,
        console: Console,
        threads: int | None = None,
        *,
        stop: Stop | None = None,
        shared: Path | None = None,
    ) -> TrainingData:
        """The arrays to train on; for the ``head`` recipe the features, computed or found in the cache.

        Args:
            threads: number of CPU threads of a run; None for torch's default.
            stop: whether a stop was requested.
            shared: the folder of the study, search or recommendation, whose processes share the work; None for this one alone.

        Raises:
            Stopped: requested; what was computed is kept.
        """
        if self.recipe.trains == "all":
            return training_data_from_images(
                self.table, self.splits, self.decoded, self.spec, self.backbone, self.recipe, threads
            )
        with console.track("Features", len(self.table)) as show:

            def advance(rows: int) -> None:
                if stop is not None and stop.requested:
                    raise Stopped
                show(rows)

            features = cached_features(
                self.decoded,
                self.spec,
                self.backbone,
                accelerator,
                advance=advance,
                shared=None if shared is None else shared / study_file.WORK_FOLDER,
            )
        return training_data_from_features(self.table, self.splits, features, self.spec, self.recipe)


def prepare_inputs(
    table: ImageTable,
    recipe: Recipe,
    spec: BackboneSpec,
    *,
    folds: int,
    seed: int,
    group_duplicates: bool,
    repeats: int = 1,
    console: Console,
) -> StudyInputs:
    """Decode the images, warn about unreadable ones, audit and split the others, and load the weights."""
    console.say(
        f"{table.name}: {len(table)} images, {len(set(table.groups))} groups, {len(table.class_names)} classes, "
        f"imbalance ratio {table.training_set.imbalance_ratio:.1f}{' (synthetic images)' if table.synthetic else ''}"
    )
    if recipe.trains == "head":
        console.say(f"Features of {spec.name}: {spec.summary}")
        if recipe.features.stages == "all" and spec.pooling is None:
            console.warn(
                f"the stages of {spec.name} cannot be found, so that its own features are taken alone"
            )
    decoded = _decode(table, spec, console)
    table = table.read_at(decoded.bit_depth)
    if decoded.bit_depth.bits is not None:
        console.say(f"{GREY_LEVELS}: {decoded.bit_depth}")
    if decoded.errors:
        first = "; ".join(f"{image}: {why}" for image, why in list(decoded.errors.items())[:3])
        console.warn(
            f"{len(decoded.errors)} of {len(table)} images cannot be read and are left out ({first})"
        )
        table = table.take(decoded.readable)
    result = audit(
        table,
        folds=folds,
        group_duplicates=group_duplicates,
        stats=stats_of_pixels(
            decoded.pixels,
            _digests(decoded),
            [decoded.notes.get(image, "") for image in table.frame["image"]],
        ),
    )
    for finding in result.findings:
        if finding.severity == "unsafe" or (finding.code in LEAKS and finding.severity != "note"):
            console.warn(f"{finding.message}; {finding.advice}")
    table = result.table
    splits = make_splits(table, folds=folds, seed=seed, repeats=repeats)
    return StudyInputs(
        table, splits, decoded, recipe, spec, _initial_backbone(recipe, spec, seed, console), result.findings
    )


def _initial_backbone(recipe: Recipe, spec: BackboneSpec, seed: int, console: Console) -> nn.Module:
    """The backbone with its initial weights."""
    if recipe.weights == "auto":
        console.say(f"Weights of {spec.name}: from the hub, or from its cache on this machine ...")
    torch.manual_seed(seed)
    return build_backbone(spec, recipe.weights)


def load_inputs(
    directory: Path,
    described: Mapping[str, Any],
    *,
    image_root: str | Path | None,
    training: bool = False,
    console: Console,
) -> StudyInputs:
    """Load the result of `prepare_inputs` from a study's folder and its images.

    Args:
        training: check the initial weights of the backbone, for runs that are still to be trained.

    Raises:
        DataError: images are missing, or images or weights have changed.
    """
    recipe = recorded_recipe(described)
    spec = studied_backbone(described)
    table = saved_table(directory, described, image_root)
    missing = absent_images(table.root, table.frame["image"].tolist())
    if missing:
        raise DataError(
            f"expected the study's images under {table.root}, but {len(missing)} of {len(table)} are missing "
            f"({', '.join(missing[:3])}); name their folder with --image-root"
        )
    splits = study_splits(directory, described)
    backbone = restore_backbone(directory, spec)
    if training and state_digest(backbone) != described["weights_digest"]:
        raise DataError(
            f"expected the initial weights of {spec.name} in {directory / BACKBONE_FILE}, but they are not those that the study "
            f"was started with; restore the file from a copy, or start a new study in another folder"
        )
    inputs = StudyInputs(table, splits, _decode(table, spec, console), recipe, spec, backbone)
    if inputs.content != described["table"]["content"]:
        raise DataError(f"the images under {table.root} have changed since {directory} was started")
    return inputs


def remember_root(directory: Path, root: Path) -> None:
    """Record the folder of the images in the study.

    Raises:
        TametailError: it cannot be written; the previous record is unchanged.
    """
    with explain_save_error(directory / study_file.SOURCE_FILE):
        write_atomically(
            directory / study_file.SOURCE_FILE, json.dumps({"image_root": str(root.resolve())}) + "\n"
        )


def studied_backbone(described: Mapping[str, Any]) -> BackboneSpec:
    """The study's backbone, with its feature vector and the canvas size of its decoded images."""
    return BackboneSpec.from_description(described["spec"])


def restore_backbone(directory: Path, spec: BackboneSpec) -> nn.Module:
    """The backbone of a study with its initial weights, which a ``head`` study keeps.

    Args:
        spec: see `studied_backbone`.
    """
    return load_weights(build_backbone(spec, "none"), directory / BACKBONE_FILE)


def _digests(decoded: DecodedImages) -> list[str]:
    """Digests of the readable images."""
    return [digest for digest, ok in zip(decoded.digests, decoded.readable, strict=True) if ok]


def _decode(table: ImageTable, spec: BackboneSpec, console: Console) -> DecodedImages:
    with console.track("Images", len(table)) as advance:
        return decoded_images(table, spec.canvas, advance=advance)


def saved_table(directory: Path, described: Mapping[str, Any], root: str | Path | None) -> ImageTable:
    """The images of a study, from its table.parquet.

    Args:
        described: the content of study.json.
        root: the folder of the images; None for that of source.json.

    Raises:
        DataError: a file is absent or damaged, or the table is not that of such a study.
    """
    from pandas.api.types import infer_dtype

    try:
        frame = read_frame(directory / TABLE_FILE)
        for name in (*COLUMNS, UNKNOWN_COLUMN):
            if name in frame and infer_dtype(frame[name], skipna=False) not in {"string", "empty"}:
                raise ValueError(f"expected texts in column {name}")
        root = Path(root or read_json(directory / study_file.SOURCE_FILE)["image_root"])
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # it may be absent
            os.stat(root)  # an error where it cannot be a path, as it is too long
        return ImageTable(
            frame,
            root,
            tuple(described["class_names"]),
            described["name"],
            described.get("synthetic", False),
            described.get("multi_label", False),
            SourceReading.from_dict(described["reading"]) if described.get("reading") else None,
            described["table"].get("bit_depth"),
            described["table"].get("slices"),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"expected {TABLE_FILE} and {study_file.SOURCE_FILE} of a study in {directory}, but they cannot be read: {error}; "
            f"restore them from a copy"
        ) from error
