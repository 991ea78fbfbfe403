"""Export a model to a folder that can be handed over."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Unpack

from tametail.core.atomic import atomic_directory, write_atomically
from tametail.core.console import Console
from tametail.core.errors import DataError, UsageError, explain_save_error
from tametail.core.option import takes
from tametail.core.options import ExportOptions
from tametail.core.removal import is_temporary
from tametail.core.text import counted
from tametail.core.trust import Trust, code_name
from tametail.core.version import __version__
from tametail.deployment.classifier import Classifier
from tametail.deployment.facts import ModelFacts, described
from tametail.deployment.model_folder import (
    CARD,
    CHECKSUMS,
    EXAMPLE,
    is_model_file,
    load_model_folder,
)
from tametail.deployment.program import (
    FILES,
    LABEL_OUTPUTS,
    OUTPUTS,
    Format,
    check_packages,
    exported,
    write_onnx,
    write_program,
)
from tametail.deployment.study_model import chosen_method, study_model
from tametail.evaluation.conformal import DEFAULT_COVERAGE, checked_coverage
from tametail.models.backbones import state_digest
from tametail.report import read_results
from tametail.report.writers.model_card import model_card
from tametail.storage.model_file import MODEL_JSON, MODEL_SCHEMA, model_json, read_model_file
from tametail.storage.run_file import file_digest
from tametail.study.refit import refit as refit_method


@takes(ExportOptions)
def export(
    study: str | Path, model: str | Path, *, console: Console | None = None, **options: Unpack[ExportOptions]
) -> Classifier:
    """Export the model of a study to a folder that can be handed over.

    The folder holds the network in one file, which takes decoded images and says scores, probabilities and prediction sets; its
    description, model.json; a model card; an example that needs onnxruntime, pillow and numpy alone; and checksums. It holds no
    image, no file name and no code of a patient, but the classes and probabilities of training images, to estimate a prevalence. `tametail.load` reads it.

    Args:
        study: the study's folder.
        model: the folder to write; an exported model in it is replaced.
        console: where progress is shown; None for silence.
        options: see below.

    Returns:
        The exported model, as it is read from the folder.

    Raises:
        DataError: there is no study, or with ``refit`` its images have changed.
        UsageError: the study has no such method, or the folder holds something else.
        TametailError: no run of the method is finished, or the model cannot be written.
    """
    console = console or Console(quiet=True)
    directory, out = Path(study), Path(model)
    kind = options["format"]
    coverage = check_export(out, kind, options["coverage"])
    chosen = chosen_method(directory, options["method"])
    if options["refit"]:
        trust = Trust(options["trust_code"], frozenset([code_name(chosen)] if options["method"] else ()))
        refit_method(
            directory,
            chosen,
            image_root=options["image_root"],
            device=options["device"],
            trust=trust,
            console=console,
        )
    facts, network, _ = study_model(
        directory,
        options["method"],
        trust_code=options["trust_code"],
        predict_by=options["predict_by"],
        refitted=options["refit"],
    )
    if facts.shift is not None:  # rows of images, whose order must not tell which they are
        facts = replace(facts, shift=facts.shift.unordered())
    console.say(
        f"Exporting {facts.method} ({facts.trained_as}) as {kind}; this takes up to a few minutes ..."
    )
    digest = state_digest(network)
    program = exported(network, facts, coverage)
    outputs = LABEL_OUTPUTS if facts.several_labels else OUTPUTS
    metadata = {
        "tametail": __version__,
        "method": facts.method,
        "class_names": list(facts.class_names),
        "canvas": facts.spec.canvas,
        "prevalence": facts.trained_prevalence.tolist(),
        "coverage": None if facts.several_labels else coverage,
        "thresholds": described(facts)["thresholds"],
        "weights_digest": digest,
        "synthetic": facts.synthetic,
    }
    with explain_save_error(out), atomic_directory(out, is_model_file, MODEL_JSON) as folder:
        path = folder / FILES[kind]
        if kind == "onnx":
            write_onnx(program, path, metadata, outputs)
            write_atomically(
                folder / EXAMPLE,
                files("tametail.deployment").joinpath("example_of_use.py").read_text("utf-8"),
            )
        else:
            write_program(program, path, metadata)
        content = {
            "schema": MODEL_SCHEMA,
            "tametail": __version__,
            "format": kind,
            "coverage": None if facts.several_labels else coverage,
            "weights_digest": digest,
            **described(facts),
            "files": {path.name: file_digest(path)},
        }
        write_atomically(folder / MODEL_JSON, model_json(content))
        about = _facts_of_file(kind, facts, coverage, outputs)
        card = model_card(read_results(directory), facts.method, trained_as=facts.trained_as, file=about)
        write_atomically(folder / CARD, card)
        sums = [f"{file_digest(each)}  {each.name}\n" for each in sorted(folder.iterdir())]
        write_atomically(folder / CHECKSUMS, "".join(sums))
    return load_model_folder(out, method=None, predict_by=None, trust_code=True)


def check_export(out: Path, kind: Format, coverage: float | None) -> float:
    """The coverage, after checks that the format can be written, and the folder without removing anything else.

    Raises:
        TametailError: a package is missing.
        UsageError: it holds something else than a model, or is a file; or the coverage is not between 0 and 1.
    """
    check_packages(kind)
    if out.exists() and not out.is_dir():
        raise UsageError(f"expected a new folder for the model at {out}, found a file; give another one")
    names = {each.name for each in out.iterdir()} if out.is_dir() else set()
    foreign = {name for name in names if not is_model_file(name)}
    if not foreign and any(not is_temporary(name) for name in names):
        try:
            read_model_file(out)
        except DataError:
            foreign = names
    if foreign:
        raise UsageError(
            f"expected a new folder or an exported model at {out}, found {', '.join(sorted(foreign)[:3])}; give another folder"
        )
    try:
        return checked_coverage(DEFAULT_COVERAGE if coverage is None else coverage)
    except ValueError as error:
        raise UsageError(f"{error}; give another --coverage") from error


def _facts_of_file(
    kind: str, facts: ModelFacts, coverage: float, outputs: tuple[str, ...]
) -> list[tuple[str, str]]:
    side, classes = facts.spec.canvas, len(facts.class_names)
    prevalence = f"; prevalence, {classes} float32, all 0 for that of the training set"
    said = [
        (
            "Format",
            "ONNX"
            if kind == "onnx"
            else "a program of torch (torch.export.load); it can hold code, as any program",
        ),
        ("Inputs", f"pixels, N × {side} × {side} × 3 uint8, RGB{'' if facts.several_labels else prevalence}"),
        (
            "Outputs",
            f"{', '.join(outputs)}, each N × {classes}, in the order {', '.join(facts.class_names)}; unlikeness N, to the training images, not to be used above 1",
        ),
    ]
    if facts.refitted:
        text = "The results below, the calibration and the prediction sets are those of models trained without each fold."
        said.append(("Evidence", text))
    if facts.shift is not None:
        images = counted(len(facts.shift.p), "image")
        text = f"out-of-fold probabilities and classes of {images} in model.json, to estimate a prevalence, without names and in another order"
        said.append(("Kept of the training images", text))
    if not facts.several_labels:
        said.append(("Prediction sets", f"coverage of {100 * coverage:g} % in each class"))
    return said
