"""Load a model for prediction: that of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from tametail.core.option import takes
from tametail.core.options import LoadOptions, MethodOptions
from tametail.deployment.classifier import Classifier
from tametail.deployment.study_model import run_torch, study_model
from tametail.training.hardware import check_one_process, make_accelerator

_CPU_BATCH, _GPU_BATCH = 16, 128


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
    check_one_process("predict")
    facts, network, recipe = study_model(
        directory, method, trust_code=options["trust_code"], predict_by=options["predict_by"]
    )
    device = make_accelerator(recipe, options["device"], training=False).device
    batch = _CPU_BATCH if device.type == "cpu" else _GPU_BATCH
    return Classifier(facts, run_torch(network, device), f"torch on {device}", directory, batch)
