"""Load the model of a study and predict images.

The model is the ensemble of the fold models of one method, by default the best in cross-validation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Unpack, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tametail.core.arrays import IntArray
from tametail.core.console import Console
from tametail.core.errors import DataError, TametailError, UsageError
from tametail.core.option import takes
from tametail.core.options import LoadOptions, MethodOptions
from tametail.core.run_files import PREDICTIONS, is_finished
from tametail.core.text import counted
from tametail.core.trust import Trust, code_name
from tametail.data import DICOM_SUFFIXES, IMAGE_SUFFIXES, decode_image
from tametail.data.decoding.bit_depth import BitDepth, find_bit_depth
from tametail.data.decoding.slices import is_nifti, is_volume, stored_slices
from tametail.data.reading import say_new_depth
from tametail.data.table import LABEL_SEPARATOR, join_classes
from tametail.deployment.fold_ensemble import FoldModel, predict_classes, predict_labels
from tametail.deployment.prevalence import prevalence_vector, read_prevalence
from tametail.deployment.quality import QUALITY, quality_of
from tametail.deployment.unlikeness import (
    COLUMNS,
    UNKNOWN,
    UNLIKE,
    UNLIKE_IMAGES,
    UNLIKENESS_COLUMN,
    StudyUnlikeness,
    of_group,
    study_unlikeness,
)
from tametail.evaluation.calibration_maps import CalibrationMap
from tametail.evaluation.conformal import (
    DEFAULT_COVERAGE,
    ScoreDistribution,
    class_thresholds,
    needed_groups,
    prevalence_thresholds,
    sets_of,
)
from tametail.evaluation.label_calibration import LabelMap, deployed_thresholds
from tametail.models.backbones import BackboneSpec, channels_last
from tametail.models.heads import Standardise
from tametail.predictions.by_group import PredictBy, combined
from tametail.predictions.multi_label import read_label_predictions
from tametail.report import best_method
from tametail.report.study.calibration_file import calibration_for_new_images
from tametail.storage import study_file
from tametail.storage.run_file import intact
from tametail.study.image_digests import ImageDigests, file_digests, recognise_held_out
from tametail.study.inputs import restore_backbone, studied_backbone
from tametail.training.hardware import check_one_process, make_accelerator
from tametail.training.inference import eval_mode
from tametail.training.recipe import recorded_recipe
from tametail.training.run import all_runs, load_class_counts, load_trained_model
from tametail.training.strategies import Method, parse_method
from tametail.training.training_data import evaluation_transform, frozen

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Classifier", "FoundImages", "find_images", "load", "read_prevalence"]
_CPU_BATCH, _GPU_BATCH = 16, 128
_AHEAD = 2  # batches that are decoded before they are needed
_P, _SCORE, _THRESHOLD, _HAS = "p_", "score_", "threshold_", "has_"
_SET, _SET_SIZE = "prediction_set", "set_size"
SetKind = Literal["class", "prevalence"]


@dataclass(frozen=True)
class Classifier:
    """Ensemble of the fold models of one method: the mean of their probabilities. Made by `load`.

    Attributes:
        method: the method that they were trained with.
        class_names: C names, in the order of the probabilities.
        spec: the backbone and the images it takes.
        backbone: maps images to the inputs of ``fold_models``: a shared frozen backbone, or the identity.
        fold_models: one per fold and seed.
        device: of the models.
        calibration: of the probabilities of each fold model.
        distributions: the scores of each class (C,) for prediction sets; empty for several labels.
        thresholds: (C,) of the calibrated probabilities of the labels; None if images have exactly one class.
        bit_depth: at which the study read its grey images of more than 8 bits; None if it had none of them. New images
            are read at this depth too, unless their values exceed it, see `predict`.
        slices: the rule by which the study's images were taken from volumes; None if they were not. New volumes are read by it.
        predict_by: what the thresholds are of, and what `predict` gives rows for: images, or groups of them.
        unlikeness: of new images to the training images.
        grey: share of the training images that are grey; None if the study does not say.
        study: its folder, where predictions of held-out images are recorded; None for no study.
    """

    method: str
    class_names: tuple[str, ...]
    spec: BackboneSpec
    backbone: nn.Module
    fold_models: tuple[FoldModel, ...]
    device: torch.device
    calibration: CalibrationMap | LabelMap
    distributions: tuple[ScoreDistribution, ...] = ()
    thresholds: NDArray[np.float64] | None = None
    bit_depth: int | None = None
    slices: str | None = None
    study: Path | None = None
    predict_by: PredictBy = "image"
    unlikeness: StudyUnlikeness = UNKNOWN
    grey: float | None = None

    def __repr__(self) -> str:
        kind = "classes" if self.thresholds is None else "labels"
        return (
            f"Classifier({self.method}: {len(self.class_names)} {kind}, mean of {len(self.fold_models)} fold models of "
            f"{self.spec.name} at {self.spec.image_size} px on {self.device})"
        )

    @property
    def link(self) -> str:
        """Name of the function that maps outputs to probabilities."""
        return self.fold_models[0].decision_rule.link

    @property
    def ceiling(self) -> float:
        """The largest possible probability, before rows are scaled to sum to one."""
        return self.fold_models[0].decision_rule.ceiling

    def predict_proba(
        self, images: Sequence[str | Path], *, prevalence: Mapping[str, float] | None = None
    ) -> NDArray[np.float64]:
        """Predict class probabilities.

        Args:
            images: paths of N images.
            prevalence: see `predict`.

        Returns:
            (N, C) probabilities. Rows sum to one, unless images may have several labels.

        Raises:
            DataError: an image cannot be read; the message names it. (`predict` continues instead.)
        """
        table = self.predict(images, prevalence=prevalence)
        failed = table[table["error"] != ""]
        if len(failed):
            first = failed.iloc[0]
            raise DataError(
                f"{len(failed)} of {len(table)} images cannot be read: {first['image']}: {first['error']}"
            )
        return table[[_P + name for name in self.class_names]].to_numpy(dtype=np.float64)

    def predict(
        self,
        images: Sequence[str | Path],
        console: Console | None = None,
        *,
        prevalence: Mapping[str, float] | None = None,
        groups: Sequence[str] | None = None,
        coverage: float | None = None,
        sets: SetKind = "class",
    ) -> pd.DataFrame:
        """Predict images, one row each, or of a classifier that predicts by group, groups of images.

        Without ``prevalence`` the probabilities are for a population with the class frequencies of the training set, and
        ``predicted`` is the decision of the method, which after logit-adjusted training favours rare classes and need not
        be the most probable class. With it both are for the given prevalence.

        If images may have several labels, ``predicted`` joins the predicted labels by ``|``, and each label has columns
        ``p_<label>``, ``threshold_<label>`` and ``has_<label>`` (1 if the probability reaches the threshold).

        Grey images of more than 8 bits are read at the depth of the study. If a value of the N images exceeds it, or the
        study had no such images, the depth is decided from all N: give images of one origin together.

        Of a study of slices, NIfTI volumes and DICOM files of several frames are read as slices by the rule of the study, each a
        row: ``scan.nii.gz/slice_021.png``.

        The prediction set of an image has the classes that cannot be excluded at the required coverage, joined by ``|``, the most
        probable first; it is empty if no class is probable enough, see `tametail.evaluation.conformal`. A class of too few
        groups is in every set, and named on the console.

        Images of the study's held-out test set are recognised, also if they were renamed or saved again: a warning is shown,
        and the prediction recorded in the study as a look at its test set.

        Args:
            images: paths of N images. An image that cannot be read gets a row with its error and no prediction.
            console: for progress and messages; None for silence, except for warnings of grey values beyond the study's, of
                held-out images, and of images that are unlike the training images or of poor quality.
            prevalence: prevalence of each class by name, scaled to sum to one.
            groups: N, the group of each image; needed by a classifier that predicts by group. The probabilities of its readable
                images are combined; column image is then the group, and column images their number.
            coverage: of prediction sets, above 0 and below 1; by default 0.9.
            sets: ``class`` for sets with this coverage in each class, at any prevalence; ``prevalence`` for this coverage over all
                images, at the given prevalence or that of the training set.

        Returns:
            A data frame with the columns image, predicted, most_probable, prediction_set and set_size, ``score_<class>`` (these
            not for several labels; the predicted class has the highest score), ``p_<class>`` for each class, saturated (the
            probability of the prediction is at the limit of the link), unlikeness (to the training images; above 1 for one in twenty
            images that are like them), unlike_training (1 if it is above 1; both are missing if the study does not know), quality (blank,
            tiny or in another colour mode than the training images, joined by ``|``), method, link and error. A group is as unlike
            as its most unlike image, and has the number of those as unlike_images.

        Raises:
            UsageError: a class is missing in ``prevalence`` or unknown, a value is negative, images may have several
                labels, or a coverage or kind of sets that does not exist or is given for several labels.
        """
        import pandas as pd

        if prevalence is not None and self.thresholds is not None:
            raise UsageError(
                f"expected no prevalence for {self.method}, as its images may have several labels, whose prevalences do not "
                f"sum to one; leave it out"
            )
        if self.thresholds is not None and (coverage is not None or sets != "class"):
            raise UsageError(
                f"expected no coverage or kind of prediction sets for {self.method}, as its images may have several labels, each "
                f"predicted at its threshold; leave out --coverage and --sets"
            )
        if (groups is None) != (self.predict_by == "image") or (
            groups is not None and len(groups) != len(images)
        ):
            given = "none" if groups is None else f"{len(groups)} for {len(images)} images"
            raise UsageError(
                f"expected the group of each image, and only with predict_by other than image, got {given}"
            )
        target_prevalence = None if prevalence is None else prevalence_vector(prevalence, self.class_names)
        console = console or Console(quiet=True, warnings=True)
        if self.thresholds is not None:
            chosen = zip(self.class_names, self.thresholds, strict=True)
            named = ", ".join(f"{name} {threshold:.3g}" for name, threshold in chosen)
            console.say(f"Thresholds of the labels (chosen by F1 in cross-validation): {named}")
        images, names = _slices_of(images, self.slices, console)
        if groups is not None and len(groups) != len(images):
            raise UsageError(
                "expected single images with predict_by other than image, got volumes; predict their slices, and combine them"
            )
        set_thresholds = None
        if self.distributions:
            asked = DEFAULT_COVERAGE if coverage is None else coverage
            set_thresholds = self._set_thresholds(asked, sets, target_prevalence, console)
        bit_depth = self._find_depth(images, console).bits
        rows: list[dict[str, object]] = []
        seen: list[ImageDigests] = []
        content = file_digests([Path(image) for image in images])
        with console.track("Images", len(images)) as advance:
            size = _CPU_BATCH if self.device.type == "cpu" else _GPU_BATCH
            for chunk, decoded in _decoded_ahead(images, self.spec.canvas, bit_depth, size):
                own = zip(content[len(rows) :], decoded, strict=False)
                read = [(digest, one) for digest, one in own if not isinstance(one, DataError)]
                seen.append(ImageDigests.of([one for _, one in read], [digest for digest, _ in read]))
                rows += self._predict_chunk(chunk, decoded, target_prevalence, set_thresholds)
                advance(len(chunk))
        if self.study is not None:
            recognise_held_out(self.study, "predict", seen, console)
        of_sets = [] if set_thresholds is None else [_SET, _SET_SIZE]
        decided = ["predicted"] if self.thresholds is not None else ["predicted", "most_probable"]
        columns = [
            "image",
            *decided,
            *of_sets,
            *self._columns,
            "saturated",
            *COLUMNS,
            "method",
            "link",
            "error",
        ]
        has = [column for column in self._columns if column.startswith(_HAS)]  # missing after an error
        has += [*of_sets[1:], UNLIKE]
        table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(has, "Int64"))
        table = table.assign(image=np.array(names, dtype=object))
        if groups is None:
            self.unlikeness.say(table, console)
            return table
        failed = table[table["error"] != ""]
        if len(failed):
            console.warn(
                f"{len(failed)} of {counted(len(table), 'image')} could not be read, and left out of the groups: "
                f"{failed['error'].iloc[0]}"
            )
        combined_table = self._by_group(table, np.array(groups, dtype=object))
        self.unlikeness.say(combined_table, console, grouped=True)
        return combined_table

    def _by_group(self, table: pd.DataFrame, groups: NDArray[np.object_]) -> pd.DataFrame:
        """One row per group, in the order of their names; with an error if none of its images could be read."""
        import pandas as pd

        assert self.thresholds is not None
        rows: list[dict[str, object]] = []
        for name in sorted(set(groups.tolist())):
            own = table[groups == name]
            read = own[own["error"] == ""]
            row: dict[str, object] = {
                "image": name,
                "images": len(read),
                "method": self.method,
                "link": self.link,
                "error": ""
                if len(read)
                else f"none of {len(own)} images could be read: {own['error'].iloc[0]}",
            }
            if len(read):
                p = read[[_P + each for each in self.class_names]].to_numpy(dtype=np.float64)
                both = combined(p, np.zeros(len(p), dtype=np.int64), self.predict_by)[0]
                row |= self._decided(both) | {"saturated": bool(read["saturated"].any())} | of_group(read)
            rows.append(row)
        columns = ["image", "images", "predicted", *self._columns, "saturated"]
        columns += [UNLIKENESS_COLUMN, UNLIKE, UNLIKE_IMAGES, QUALITY, "method", "link", "error"]
        has = [column for column in self._columns if column.startswith(_HAS)]
        has += [UNLIKE, UNLIKE_IMAGES]
        return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(has, "Int64"))

    def _set_thresholds(
        self, coverage: float, sets: SetKind, prevalence: NDArray[np.float64] | None, console: Console
    ) -> NDArray[np.float64]:
        """The threshold (C,) of each class for prediction sets; says what they are and which classes are too rare."""
        if sets not in get_args(SetKind):
            raise UsageError(
                f"expected prediction sets of kind {' or '.join(get_args(SetKind))}, got {sets!r}"
            )
        try:
            needed = needed_groups(coverage)
        except ValueError as error:
            raise UsageError(f"{error}; give another --coverage") from error
        asked = f"{100 * coverage:.6g} %"
        if sets == "class":
            console.say(f"Prediction sets: coverage of {asked} in each class, at any prevalence")
            thresholds = class_thresholds(self.distributions, coverage)
        else:
            images = np.array([each.images for each in self.distributions], dtype=np.float64)
            at = images / images.sum() if prevalence is None else prevalence
            where = "of the training set" if prevalence is None else "given"
            console.say(f"Prediction sets: coverage of {asked} over all images, at the prevalence {where}")
            thresholds = prevalence_thresholds(self.distributions, coverage, at)
        counts = zip(self.class_names, self.distributions, thresholds, strict=True)
        rare = [f"{name} ({each.groups})" for name, each, threshold in counts if np.isinf(threshold)]
        if rare:
            console.warn(
                f"too rare for prediction sets of {asked} coverage, which take {counted(needed, 'group')} (patients) with the "
                f"class, and so in every set: {', '.join(rare)}; a lower --coverage takes fewer"
            )
        return thresholds

    def _find_depth(self, images: Sequence[str | Path], console: Console) -> BitDepth:
        """The depth at which these grey images are read, as in external evaluation."""
        with ThreadPoolExecutor(min(len(images), os.cpu_count() or 1) or 1) as pool:
            depth = find_bit_depth([Path(image) for image in images], pool).for_study(self.bit_depth)
        say_new_depth(depth, self.bit_depth, console)
        return depth

    @property
    def _columns(self) -> list[str]:
        """The columns of the classes."""
        if self.thresholds is None:
            return [kind + name for kind in (_SCORE, _P) for name in self.class_names]
        return [kind + name for name in self.class_names for kind in (_P, _THRESHOLD, _HAS)]

    def _predict_chunk(
        self,
        images: Sequence[str | Path],
        decoded: Sequence[NDArray[np.uint8] | DataError],
        target_prevalence: NDArray[np.float64] | None,
        set_thresholds: NDArray[np.float64] | None,
    ) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        readable, pixels = [], []
        for image, found in zip(images, decoded, strict=True):
            row: dict[str, object] = {
                "image": str(image),
                "method": self.method,
                "link": self.link,
                "error": "",
            }
            if isinstance(found, DataError):
                row["error"] = str(found)
            else:
                row[QUALITY] = quality_of(Path(image), found, self.grey)
                readable.append(row)
                pixels.append(found)
            rows.append(row)
        if readable:
            features = self._features(np.stack(pixels))
            single = self.thresholds is None
            with self.unlikeness.watching([each.model for each in self.fold_models], features) as scores:
                predicted = list(
                    self._classes(features, target_prevalence, set_thresholds)
                    if single
                    else self._labels(features)
                )
            for row, values in zip(readable, predicted, strict=True):
                row |= values
            for row, values in zip(readable, self.unlikeness.values(scores), strict=False):
                row |= values
        return rows

    @torch.no_grad()
    def _features(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Inputs of the fold models, from decoded images (N, K, K, 3)."""
        inputs = evaluation_transform(self.spec)(torch.from_numpy(pixels).to(self.device))
        with eval_mode(self.backbone):
            features: torch.Tensor = self.backbone(inputs)
        return features

    def _classes(
        self,
        features: torch.Tensor,
        target_prevalence: NDArray[np.float64] | None,
        set_thresholds: NDArray[np.float64] | None,
    ) -> Iterator[dict[str, object]]:
        assert isinstance(self.calibration, CalibrationMap)
        predicted = predict_classes(self.fold_models, features, self.calibration, target_prevalence)
        for p, score, saturated, trained in zip(*predicted, strict=True):
            row: dict[str, object] = {
                "predicted": self.class_names[int(score.argmax())],
                "most_probable": self.class_names[int(p.argmax())],
                "saturated": bool(saturated),
            }
            if set_thresholds is not None:
                order = np.argsort(-trained, kind="stable")
                inside = order[sets_of(trained, set_thresholds)[order]]
                row[_SET] = LABEL_SEPARATOR.join(self.class_names[index] for index in inside)
                row[_SET_SIZE] = len(inside)
            yield row | self._named(_SCORE, score) | self._named(_P, p)

    def _labels(self, features: torch.Tensor) -> Iterator[dict[str, object]]:
        assert self.thresholds is not None
        assert isinstance(self.calibration, LabelMap)
        for p, saturated in zip(*predict_labels(self.fold_models, features, self.calibration), strict=True):
            yield self._decided(p) | {"saturated": bool((saturated & (p >= self.thresholds)).any())}

    def _decided(self, p: NDArray[np.float64]) -> dict[str, object]:
        """The predicted labels and the columns of the labels, from their probabilities (C,)."""
        assert self.thresholds is not None
        given = p >= self.thresholds
        names = join_classes(name for name, has in zip(self.class_names, given, strict=True) if has)
        columns = self._named(_P, p) | self._named(_THRESHOLD, self.thresholds) | self._named(_HAS, given)
        return {"predicted": names} | columns

    def _named(self, kind: str, values: NDArray[np.generic]) -> dict[str, object]:
        """Values (C,) by column; booleans as 1 or 0."""
        as_python = values.astype(np.int64).tolist() if values.dtype == np.bool_ else values.tolist()
        return {kind + name: value for name, value in zip(self.class_names, as_python, strict=True)}


@takes(MethodOptions, LoadOptions)
def load(study: str | Path, method: str | None = None, **options: Unpack[LoadOptions]) -> Classifier:
    """Load the model of a study.

    Args:
        study: the study's folder.
        method: one of its methods. Default: the one with the best cross-validation result.
        options: see below.

    Returns:
        The mean of the method's fold models.

    Raises:
        DataError: there is no study.
        UsageError: the study has no such method, or it names code that is not trusted.
        TametailError: no run of the method is finished.
    """
    directory = Path(study)
    predict_by = options["predict_by"] or "image"
    described = study_file.read_study_file(directory)
    check_one_process("predict")
    chosen = _canonical(method, described["methods"]) if method else best_method(directory)
    trust = Trust(options["trust_code"], frozenset([code_name(method)] if method else ()))
    wanted = [run for run in all_runs(directory, described, trust, [chosen]) if run.method.text == chosen]
    runs = [run for run in wanted if is_finished(run.directory(directory))]
    if not runs:
        raise TametailError(f"no run of {chosen} is finished in {directory}; repeat tametail compare")
    spec = studied_backbone(described)
    recipe = recorded_recipe(described)
    class_names = tuple(described["class_names"])
    target = make_accelerator(recipe, options["device"], training=False).device
    heads_only = recipe.trains == "head"

    def new_model(method: Method, _: IntArray | None) -> nn.Sequential:
        representation = Standardise(spec.blocks) if heads_only else restore_backbone(directory, spec)
        return nn.Sequential(representation, method.build_head(spec.features, len(class_names), recipe.head))

    fold_models = []
    for run in runs:
        counts, images = load_class_counts(run.directory(directory), class_names)
        model = load_trained_model(run, directory, new_model).to(target)
        model = model if heads_only else channels_last(model)
        decision_rule = run.method.decision_rule(counts, images, recipe)
        fold_models.append(FoldModel(model, decision_rule, np.array(counts, dtype=np.float64)))
    backbone = frozen(restore_backbone(directory, spec), spec) if heads_only else nn.Identity()
    thresholds = None
    calibration, distributions = calibration_for_new_images(directory, chosen)
    if isinstance(calibration, LabelMap):
        tables = [read_label_predictions(intact(run.directory(directory) / PREDICTIONS)) for run in runs]
        thresholds = deployed_thresholds(tables, calibration, predict_by)
    elif predict_by != "image":
        raise UsageError(
            f"expected --predict-by image, as the images of {directory} have one class each, got {predict_by}"
        )
    return Classifier(
        chosen,
        class_names,
        spec,
        backbone.to(target),
        tuple(fold_models),
        target,
        calibration,
        distributions,
        thresholds,
        described["table"].get("bit_depth"),
        described["table"].get("slices"),
        directory,
        predict_by,
        study_unlikeness(directory, described, runs, frozen=heads_only),
        described.get("grey"),
    )


def _slices_of(
    images: Sequence[str | Path], rule: str | None, console: Console
) -> tuple[list[str | Path], list[str]]:
    """The images with volumes replaced by their slices, and their names. Volumes that cannot be read stay, with a warning."""
    files: list[str | Path] = []
    names: list[str] = []
    for image in images:
        files.append(image)
        names.append(str(image))
        path = Path(image).absolute()
        try:
            if rule is None or not path.is_file() or not is_volume(path):
                continue
            place, (slices,), _ = stored_slices(path.parent, [path.name], rule)
        except DataError as error:
            console.warn(str(error))
            continue
        files[-1:] = [place / each for each in slices]
        names[-1:] = [f"{image}{each.removeprefix(path.name)}" for each in slices]
    return files, names


def _decoded_ahead(
    images: Sequence[str | Path], side: int, bit_depth: int | None, size: int
) -> Iterator[tuple[Sequence[str | Path], list[NDArray[np.uint8] | DataError]]]:
    """Batches of images with their pixels, or why they cannot be read; the next ones are decoded in the meantime."""
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(_decoded, batch, side, bit_depth) for batch in batches[:_AHEAD]]
        for at, batch in enumerate(batches):
            found = waiting.pop(0).result()
            if at + _AHEAD < len(batches):
                waiting.append(pool.submit(_decoded, batches[at + _AHEAD], side, bit_depth))
            yield batch, found


def _decoded(
    images: Sequence[str | Path], side: int, bit_depth: int | None
) -> list[NDArray[np.uint8] | DataError]:
    found: list[NDArray[np.uint8] | DataError] = []
    for image in images:
        try:
            found.append(decode_image(Path(image), side, bit_depth=bit_depth))
        except DataError as error:
            found.append(error)
    return found


class FoundImages(NamedTuple):
    """What `find_images` finds.

    Attributes:
        images: paths, each once.
        duplicates: how many of the paths were found again.
        skipped: files in folders that are not images by their names; hidden ones are not counted.
    """

    images: list[Path]
    duplicates: int
    skipped: int


def find_images(paths: Sequence[str | Path], *, volumes: bool = False) -> FoundImages:
    """Find the given images and all images, and NIfTI ``volumes``, below the given folders, sorted; hidden files and folders are ignored.

    Raises:
        DataError: a path does not exist, or a folder has no image.
    """
    found: list[Path] = []
    skipped: set[str] = set()
    known = {*IMAGE_SUFFIXES, *DICOM_SUFFIXES}

    def is_known(file: Path) -> bool:
        return file.suffix.lower() in known or (volumes and is_nifti(file.name))

    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if not _is_hidden(p.relative_to(path)) and p.is_file())
            inside = [file for file in files if is_known(file)]
            if not inside:
                raise DataError(f"expected images in {path}, found none ({', '.join(sorted(known))})")
            found += inside
            skipped |= {os.path.abspath(file) for file in files if not is_known(file)}
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"expected an image or a folder of images at {path}, but nothing is there")
    images: dict[str, Path] = {}
    for image in found:
        images.setdefault(os.path.abspath(image), image)
    return FoundImages(list(images.values()), len(found) - len(images), len(skipped))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _canonical(method: str, known: Sequence[str]) -> str:
    try:
        text = parse_method(method).text
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    if text not in known:
        raise UsageError(f"expected a method of this study ({', '.join(known)}), got {method}")
    return text
