"""The folder of an exported model: the network in a file, model.json, a model card, an example and checksums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tametail.core.errors import UsageError
from tametail.core.removal import is_temporary
from tametail.deployment.classifier import Classifier
from tametail.deployment.facts import ModelFacts, facts_from
from tametail.deployment.program import FILES, Format, run_onnx, run_program
from tametail.storage.model_file import MODEL_JSON, intact_model, read_model_file

CARD, EXAMPLE, CHECKSUMS = "MODEL_CARD.md", "predict.py", "checksums.txt"


def is_model_file(name: str) -> bool:
    """Whether a file of this name in the folder of a model is written by this program."""
    return name in {*FILES.values(), MODEL_JSON, CARD, EXAMPLE, CHECKSUMS} or is_temporary(name)


def is_model_folder(directory: Path) -> bool:
    """Whether a folder holds an exported model."""
    return (directory / MODEL_JSON).is_file()


def folder_facts(
    directory: Path, *, method: str | None = None, predict_by: str | None = None
) -> tuple[dict[str, Any], ModelFacts]:
    """The content of model.json and the facts about an exported model; its network is not loaded.

    Args:
        method, predict_by: must be those of the model, if given.

    Raises:
        DataError: model.json is absent or damaged.
        UsageError: another method or ``predict_by`` than the model's.
    """
    content = read_model_file(directory)
    if method not in (None, content["method"]):
        raise UsageError(
            f"expected the method of the exported model, {content['method']}, got {method}; leave it out"
        )
    if predict_by not in (None, content["predict_by"]):
        raise UsageError(
            f"expected --predict-by {content['predict_by']}, for which the model's thresholds were chosen, got {predict_by}; leave "
            f"it out, or export the model with it"
        )
    return content, facts_from(content, directory / MODEL_JSON)


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
    content, facts = folder_facts(directory, method=method, predict_by=predict_by)
    kind: Format = content["format"]
    path = intact_model(directory, content, FILES[kind])
    if kind == "onnx":
        return Classifier(facts, run_onnx(path, facts), "onnxruntime on cpu")
    if not trust_code:
        raise UsageError(
            f"expected --trust-code for {path}: a program of torch can hold code that is run; add the option (in Python "
            f"trust_code=True) if you trust where it comes from, or export the model as ONNX"
        )
    return Classifier(facts, run_program(path, facts), "torch on cpu")
