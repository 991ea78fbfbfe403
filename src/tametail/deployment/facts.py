"""What is known about a trained model, and its form as JSON. Shape legend: N images, C classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tametail.core.arrays import BoolArray, FloatArray
from tametail.core.errors import DataError
from tametail.deployment.unlikeness import UNKNOWN, Likeness
from tametail.evaluation.calibration_maps import CalibrationMap
from tametail.evaluation.conformal import ScoreDistribution
from tametail.evaluation.label_calibration import LabelMap
from tametail.evaluation.label_shift import ShiftReference
from tametail.models.backbones import BackboneSpec
from tametail.predictions.by_group import PredictBy

_MOST_PIXELS = 8192  # to a side, of the images that a model takes


class Said(NamedTuple):
    """What a model says of N images, see `tametail.deployment.network.Outputs`."""

    probabilities: FloatArray
    scores: FloatArray
    saturated: BoolArray
    unlikeness: FloatArray


@dataclass(frozen=True)
class ModelFacts:
    """What is known about a trained model.

    Attributes:
        method: that it was trained with.
        class_names: C names, in the order of the probabilities.
        class_counts: (C,) training images of each class, the mean over the models.
        spec: the backbone and the images it takes.
        models: number of models whose mean it is.
        refitted: whether it was trained on all training images, after cross-validation.
        link: name of the function that maps outputs to probabilities.
        ceiling: the largest possible probability, before rows are scaled to sum to one.
        calibration: of the probabilities of each model.
        distributions: the scores of each class (C,) for prediction sets; empty for several labels.
        shift: the reference for the prevalence in a batch of images; None for several labels.
        thresholds: (C,) of the calibrated probabilities of the labels; None if images have exactly one class.
        bit_depth: at which the study read its grey images of more than 8 bits; None if it had none of them. New images
            are read at this depth too, unless their values exceed it.
        slices: the rule by which the study's images were taken from volumes; None if they were not. New volumes are read by it.
        predict_by: what the thresholds are of, and what predictions are of: images, or groups of them.
        name: of the data set.
        synthetic: whether the training images were generated.
        likeness: by what the model says whether an image is like its training images.
    """

    method: str
    class_names: tuple[str, ...]
    class_counts: tuple[float, ...]
    spec: BackboneSpec
    models: int
    refitted: bool
    link: str
    ceiling: float
    calibration: CalibrationMap | LabelMap
    distributions: tuple[ScoreDistribution, ...] = ()
    shift: ShiftReference | None = None
    thresholds: FloatArray | None = None
    bit_depth: int | None = None
    slices: str | None = None
    predict_by: PredictBy = "image"
    name: str = ""
    synthetic: bool = False
    likeness: Likeness = UNKNOWN

    @property
    def several_labels(self) -> bool:
        """Whether images may have several labels."""
        return self.thresholds is not None

    @property
    def trained_prevalence(self) -> FloatArray:
        """(C,) the share of each class in the training set."""
        counts = np.array(self.class_counts, dtype=np.float64)
        return np.asarray(counts / counts.sum())

    @property
    def trained_as(self) -> str:
        """``mean of 5 fold models``, or ``trained on all training images``."""
        return "trained on all training images" if self.refitted else f"mean of {self.models} fold models"


def described(facts: ModelFacts) -> dict[str, Any]:
    """Facts about a model as JSON: what `facts_from` takes."""
    thresholds = facts.thresholds
    return {
        "name": facts.name,
        "synthetic": facts.synthetic,
        "method": facts.method,
        "class_names": list(facts.class_names),
        "class_counts": list(facts.class_counts),
        "spec": facts.spec.described(),
        "models": facts.models,
        "refitted": facts.refitted,
        "link": facts.link,
        "ceiling": facts.ceiling,
        "calibration": facts.calibration.described(),
        "prediction_sets": [each.described() for each in facts.distributions],
        "label_shift": None if facts.shift is None else facts.shift.described(),
        # An infinite threshold, of a label that is never predicted, has no number in JSON.
        "thresholds": None
        if thresholds is None
        else [float(each) if np.isfinite(each) else None for each in thresholds],
        "bit_depth": facts.bit_depth,
        "slices": facts.slices,
        "predict_by": facts.predict_by,
        "likeness": asdict(facts.likeness),
    }


def facts_from(content: Mapping[str, Any], path: Path) -> ModelFacts:
    """The facts that `described` wrote.

    Raises:
        DataError: the calibration map, the scores of the prediction sets or the reference of label shift are damaged.
    """
    classes, thresholds = len(content["class_names"]), content["thresholds"]
    try:
        calibration: CalibrationMap | LabelMap
        if thresholds is None:
            calibration = CalibrationMap.from_description(content["calibration"])
            if len(calibration.slope) != classes:
                raise ValueError(f"expected a calibration map of {classes} classes")
        else:
            calibration = LabelMap.from_description(content["calibration"], classes)
        distributions = tuple(map(ScoreDistribution.from_description, content["prediction_sets"]))
        saved = content.get("label_shift")
        shift = None if saved is None else ShiftReference.from_description(saved)
        if shift is not None and len(shift.images) != classes:
            raise ValueError(f"expected out-of-fold probabilities of {classes} classes")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(
            f"expected the calibration map of an exported model in {path}, but it is damaged ({error!r}); export it again"
        ) from error
    spec = BackboneSpec.from_description(content["spec"])
    if not 1 <= spec.image_size <= spec.canvas <= _MOST_PIXELS:
        raise DataError(
            f"expected a model of images of 1 to {_MOST_PIXELS:,} pixels to a side in {path}, found {spec.image_size} of {spec.canvas}; "
            f"export it again"
        )
    return ModelFacts(
        method=content["method"],
        class_names=tuple(content["class_names"]),
        class_counts=tuple(content["class_counts"]),
        spec=spec,
        models=content["models"],
        refitted=content["refitted"],
        link=content["link"],
        ceiling=content["ceiling"],
        calibration=calibration,
        distributions=distributions,
        shift=shift,
        thresholds=None
        if thresholds is None
        else np.array([np.inf if each is None else each for each in thresholds], dtype=np.float64),
        bit_depth=content.get("bit_depth"),
        slices=content.get("slices"),
        predict_by=content["predict_by"],
        name=content["name"],
        synthetic=content["synthetic"],
        likeness=Likeness(**content["likeness"]),
    )
