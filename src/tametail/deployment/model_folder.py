"""The folder of an exported model: the network in a file, model.json, a model card, an example and checksums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tametail.core.errors import DataError, UsageError
from tametail.core.removal import is_temporary
from tametail.deployment.classifier import Classifier, ModelFacts
from tametail.deployment.program import FILES, Format, run_onnx, run_program
from tametail.deployment.unlikeness import Likeness
from tametail.evaluation.calibration_maps import CalibrationMap
from tametail.evaluation.conformal import ScoreDistribution
from tametail.evaluation.label_calibration import LabelMap
from tametail.evaluation.label_shift import ShiftReference
from tametail.models.backbones import BackboneSpec
from tametail.storage.model_file import MODEL_JSON, intact_model, read_model_file

CARD, EXAMPLE, CHECKSUMS = "MODEL_CARD.md", "predict.py", "checksums.txt"


def is_model_file(name: str) -> bool:
    """Whether a file of this name in the folder of a model is written by this program."""
    return name in {*FILES.values(), MODEL_JSON, CARD, EXAMPLE, CHECKSUMS} or is_temporary(name)


def is_model_folder(directory: Path) -> bool:
    """Whether a folder holds an exported model."""
    return (directory / MODEL_JSON).is_file()


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
    return ModelFacts(
        method=content["method"],
        class_names=tuple(content["class_names"]),
        class_counts=tuple(content["class_counts"]),
        spec=BackboneSpec.from_description(content["spec"]),
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


def load_model_folder(
    directory: Path, *, method: str | None, predict_by: str | None, trust_code: bool
) -> Classifier:
    """Load an exported model; its files are checked against the digests in model.json.

    Args:
        method, predict_by: must be those of the model, if given.
        trust_code: needed for a program of torch, which can hold code.

    Raises:
        DataError: a file is absent, damaged or changed.
        UsageError: another method or ``predict_by`` than the model's, or code that is not trusted.
    """
    content = read_model_file(directory)
    kind: Format = content["format"]
    if method not in (None, content["method"]):
        raise UsageError(
            f"expected the method of the exported model, {content['method']}, got {method}; leave it out"
        )
    if predict_by not in (None, content["predict_by"]):
        raise UsageError(
            f"expected --predict-by {content['predict_by']}, for which the model's thresholds were chosen, got {predict_by}; leave "
            f"it out, or export the model with it"
        )
    path = intact_model(directory, content, FILES[kind])
    facts = facts_from(content, directory / MODEL_JSON)
    if kind == "onnx":
        return Classifier(facts, run_onnx(path, facts), "onnxruntime on cpu")
    if not trust_code:
        raise UsageError(
            f"expected --trust-code for {path}: a program of torch can hold code that is run; add the option (in Python "
            f"trust_code=True) if you trust where it comes from, or export the model as ONNX"
        )
    return Classifier(facts, run_program(path, facts), "torch on cpu")
