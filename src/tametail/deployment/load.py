"""Load a model for prediction: that of a study, or an exported one."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from tametail.core.option import takes
from tametail.core.options import LoadOptions, MethodOptions
from tametail.deployment.classifier import Classifier
from tametail.deployment.facts import ModelFacts
from tametail.deployment.model_folder import folder_facts, is_model_folder, load_model_folder
from tametail.deployment.study_model import run_torch, study_model
from tametail.training.hardware import check_one_process, make_accelerator

_CPU_BATCH, _GPU_BATCH = 16, 128


@takes(MethodOptions, LoadOptions)
def load(study: str | Path, method: str | None = None, **options: Unpack[LoadOptions]) -> Classifier:
    """Load the model of a study, or an exported model.

    Args:
        study: the folder of a study, or of a model that `tametail.export` wrote.
        method: one of the study's methods. Default: the one with the best cross-validation result.
        options: see below.

    Returns:
        The mean of the method's fold models, or the exported model.

    Raises:
        DataError: there is no study or model, or its files are damaged.
        UsageError: the study has no such method, or it names code that is not trusted.
        TametailError: no run of the method is finished.
    """
    directory = Path(study)
    check_one_process("predict")
    if is_model_folder(directory):
        given = options["predict_by"], options["trust_code"]
        return load_model_folder(directory, method=method, predict_by=given[0], trust_code=given[1])
    facts, network, recipe = study_model(
        directory, method, trust_code=options["trust_code"], predict_by=options["predict_by"]
    )
    device = make_accelerator(recipe, options["device"], training=False).device
    batch = _CPU_BATCH if device.type == "cpu" else _GPU_BATCH
    return Classifier(facts, run_torch(network, device), f"torch on {device}", directory, batch)


def load_facts(directory: Path, method: str | None = None, *, trust_code: bool = False) -> ModelFacts:
    """The facts about the model of a study, or about an exported one; of that, the network is not loaded. Errors are those of `load`."""
    if is_model_folder(directory):
        return folder_facts(directory, method=method)[1]
    return study_model(directory, method, trust_code=trust_code).facts
