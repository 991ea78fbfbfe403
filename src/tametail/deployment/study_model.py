"""The model of a study: the ensemble of the fold models of one method, by default the best in cross-validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tametail.core.arrays import IntArray
from tametail.core.errors import TametailError, UsageError
from tametail.core.run_files import PREDICTIONS, is_finished
from tametail.core.trust import Trust, code_name
from tametail.deployment.facts import ModelFacts, Said
from tametail.deployment.network import Network, TrainedModel
from tametail.deployment.study_unlikeness import study_unlikeness
from tametail.evaluation.label_calibration import LabelMap, deployed_thresholds
from tametail.models.heads import Standardise
from tametail.predictions.by_group import PredictBy
from tametail.predictions.multi_label import read_label_predictions
from tametail.report import best_method
from tametail.report.study.calibration_file import calibration_for_new_images
from tametail.storage import study_file
from tametail.storage.run_file import intact
from tametail.study.inputs import restore_backbone, studied_backbone
from tametail.training.recipe import Recipe, recorded_recipe
from tametail.training.run import ALL_FOLDS, Run, all_runs, load_class_counts, load_trained_model
from tametail.training.strategies import Method, parse_method
from tametail.training.training_data import frozen


class StudyModel(NamedTuple):
    """The model of a study, in evaluation mode on the CPU."""

    facts: ModelFacts
    network: Network
    recipe: Recipe


def study_model(
    directory: Path,
    method: str | None,
    *,
    trust_code: bool = False,
    predict_by: PredictBy | None = None,
    refitted: bool = False,
) -> StudyModel:
    """Load the ensemble of the fold models of a method, or the model that was trained on all training images.

    Args:
        directory: the study's folder.
        method: one of its methods. Default: the one with the best cross-validation result.
        trust_code: run code that the study names.
        predict_by: for several labels; by default ``image``.
        refitted: load the model of `tametail.study.refit.refit`. Its calibration, prediction sets and thresholds are those of the
            out-of-fold predictions.

    Raises:
        DataError: there is no study.
        UsageError: the study has no such method, or it names code that is not trusted.
        TametailError: no run of the method is finished.
    """
    predict_by = predict_by or "image"
    described = study_file.read_study_file(directory)
    chosen = chosen_method(directory, method)
    trust = Trust(trust_code, frozenset([code_name(method)] if method else ()))
    wanted = [run for run in all_runs(directory, described, trust, [chosen]) if run.method.text == chosen]
    runs = [run for run in wanted if is_finished(run.directory(directory))]
    if not runs:
        raise TametailError(f"no run of {chosen} is finished in {directory}; repeat tametail compare")
    spec = studied_backbone(described)
    recipe = recorded_recipe(described)
    class_names = tuple(described["class_names"])
    heads_only = recipe.trains == "head"

    def new_model(method: Method, _: IntArray | None) -> nn.Sequential:
        representation = Standardise(spec.blocks) if heads_only else restore_backbone(directory, spec)
        return nn.Sequential(representation, method.build_head(spec.features, len(class_names), recipe.head))

    models, totals = [], []
    used = [Run(runs[0].method, 0, ALL_FOLDS)] if refitted else runs
    for run in used:
        counts, images = load_class_counts(run.directory(directory), class_names)
        model = load_trained_model(run, directory, new_model)
        representation = model[0] if heads_only else frozen(model[0], spec)
        models.append(
            TrainedModel(representation, model[1], run.method.decision_rule(counts, images, recipe))
        )
        totals.append(counts)
    backbone = frozen(restore_backbone(directory, spec), spec) if heads_only else nn.Identity()
    thresholds = None
    calibration, distributions, shift = calibration_for_new_images(directory, chosen)
    if isinstance(calibration, LabelMap):
        tables = [read_label_predictions(intact(run.directory(directory) / PREDICTIONS)) for run in runs]
        thresholds = deployed_thresholds(tables, calibration, predict_by)
    elif predict_by != "image":
        raise UsageError(
            f"expected --predict-by image, as the images of {directory} have one class each, got {predict_by}"
        )
    unlikeness = study_unlikeness(directory, described, used, frozen=heads_only)
    facts = ModelFacts(
        method=chosen,
        class_names=class_names,
        class_counts=tuple(np.mean(totals, axis=0).tolist()),
        spec=spec,
        models=len(models),
        refitted=refitted,
        link=models[0].rule.link,
        ceiling=models[0].rule.ceiling,
        calibration=calibration,
        distributions=distributions,
        shift=shift,
        thresholds=thresholds,
        bit_depth=described["table"].get("bit_depth"),
        slices=described["table"].get("slices"),
        predict_by=predict_by,
        name=described["name"],
        synthetic=described.get("synthetic", False),
        likeness=unlikeness.likeness,
    )
    return StudyModel(facts, Network(spec, backbone, models, calibration, unlikeness), recipe)


def run_torch(network: Network, device: torch.device) -> Callable[[NDArray[np.uint8]], Said]:
    """A network on a device as a function of decoded images (N, K, K, 3)."""
    network.place(device)

    @torch.inference_mode()
    def run(pixels: NDArray[np.uint8]) -> Said:
        outputs = network(torch.from_numpy(pixels).to(device))
        return Said(*(each.cpu().numpy() for each in outputs))

    return run


def chosen_method(directory: Path, method: str | None) -> str:
    """A method of a study as its text stands there; None for the best in cross-validation.

    Raises:
        DataError: there is no study.
        UsageError: the study has no such method.
    """
    if method is None:
        return best_method(directory)
    known = study_file.read_study_file(directory)["methods"]
    try:
        text = parse_method(method).text
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    if text not in known:
        raise UsageError(f"expected a method of this study ({', '.join(known)}), got {method}")
    return text
