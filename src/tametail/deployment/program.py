"""A network in a file that runs without the code that made it: ONNX, or a program of torch (``torch.export``).

The graph takes decoded images and says everything: inputs ``pixels`` (N, K, K, 3) uint8 and, for exclusive classes, ``prevalence``
(C,) float32, all 0 for the class frequencies of the training set; outputs as in `OUTPUTS` and `LABEL_OUTPUTS`, each (N, C) but
for ``unlikeness`` (N,), which is nan where it is not known.
"""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tametail.core.errors import DataError, TametailError
from tametail.deployment.facts import ModelFacts, Said
from tametail.deployment.network import Network, for_prevalence
from tametail.evaluation.conformal import class_thresholds, least_probabilities

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Format = Literal["onnx", "torch"]
FILES: dict[Format, str] = {"onnx": "model.onnx", "torch": "model.pt2"}
OUTPUTS = ("probabilities", "scores", "saturated", "prediction_set", "unlikeness")
LABEL_OUTPUTS = ("probabilities", "scores", "saturated", "labels", "unlikeness")
_OPSET = 18
_DESCRIBED = "model.json"  # the metadata in a program of torch
# What nodes keep of where their operations are in the source, with paths of this machine.
_ORIGINS = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "torch_fn")


class Graph(nn.Module):
    """A network with what follows from its probabilities, as it is exported.

    Args:
        network: on the CPU.
        facts: of the model.
        coverage: of the prediction sets, in each class.
    """

    trained: Tensor
    least: Tensor  # (C,) probability from which a class is in the prediction set, or a label given

    def __init__(self, network: Network, facts: ModelFacts, coverage: float) -> None:
        super().__init__()
        self.network = network
        least = facts.thresholds
        if least is None:
            least = least_probabilities(class_thresholds(facts.distributions, coverage))
        self.register_buffer("trained", torch.from_numpy(facts.trained_prevalence))
        self.register_buffer("least", torch.from_numpy(least))

    def forward(self, pixels: Tensor, prevalence: Tensor | None = None) -> tuple[Tensor, ...]:
        p, scores, saturated, unlikeness = self.network(pixels)
        inside = p >= self.least
        if prevalence is None:  # several labels
            return p.float(), scores.float(), saturated, inside, unlikeness
        target = prevalence.double()
        valid = (torch.isfinite(target) & (target >= 0)).all()
        target = torch.where(valid, target, math.nan)
        given = (target.sum() > 0) | ~valid
        target = torch.where(given, target / torch.where(given, target.sum(), 1.0), self.trained)
        there = for_prevalence(p, self.trained, target)
        return (
            torch.where(given, there, p).float(),
            torch.where(given, there, scores).float(),
            saturated,
            inside,
            unlikeness,
        )


def exported(network: Network, facts: ModelFacts, coverage: float) -> ExportedProgram:
    """The network as a program for any number of images; the network itself is changed and not to be used for anything else."""
    network = network.cpu().eval()
    with _quiet():
        network.trace()
        inputs: tuple[Tensor, ...] = (network.example(),)
        shapes: tuple[Any, ...] = ({0: torch.export.Dim("images", min=1)},)
        if not facts.several_labels:
            inputs, shapes = (*inputs, torch.zeros(len(facts.class_names))), (*shapes, None)
        with torch.no_grad():
            program = torch.export.export(
                Graph(network, facts, coverage), inputs, dynamic_shapes=shapes, strict=False
            )
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for name in _ORIGINS:
                    node.meta.pop(name, None)
    return program


def check_packages(kind: Format) -> None:
    """Check that what a format needs is installed, before any long work.

    Raises:
        TametailError: a package is missing.
    """
    for name in ("onnx", "onnxscript", "onnxruntime") if kind == "onnx" else ():
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            raise TametailError(
                f"--format onnx needs {name}, which is not installed: pip install 'tametail[export]', or give --format torch"
            ) from error


def write_program(program: ExportedProgram, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write a program of torch, with texts that describe it."""
    with _quiet():
        torch.export.save(program, path, extra_files={_DESCRIBED: json.dumps(metadata)})


def write_onnx(
    program: ExportedProgram, path: Path, metadata: Mapping[str, Any], outputs: tuple[str, ...]
) -> None:
    """Write a program as ONNX, with metadata as JSON.

    Raises:
        TametailError: torch cannot convert an operation of the network.
    """
    inputs = ["pixels", "prevalence"][: len(program.graph_signature.user_inputs)]
    try:
        with _quiet():
            converted = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=_OPSET,
                verbose=False,
                input_names=inputs,
                output_names=list(outputs),
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        reason = next(
            (line for line in str(error).splitlines() if "No ONNX function" in line),
            str(error).splitlines()[0],
        )
        raise TametailError(f"this model cannot be written as ONNX: {reason}; give --format torch") from error
    assert converted is not None
    for node in converted.model.graph.all_nodes():
        node.metadata_props.clear()
    for name, value in metadata.items():
        converted.model.metadata_props[name] = json.dumps(value, ensure_ascii=False)
    try:
        converted.save(path, external_data=False)  # one file, whose digest is checked
    except Exception as error:  # of protobuf and others
        raise TametailError(
            f"this model cannot be written as one ONNX file, which has at most 2 GB ({type(error).__name__}); give --format torch, or "
            f"--refit in place of the mean of the fold models"
        ) from error


def run_onnx(path: Path, facts: ModelFacts) -> Callable[[NDArray[np.uint8]], Said]:
    """An ONNX file as a function of decoded images (N, K, K, 3), by onnxruntime on the CPU.

    Raises:
        TametailError: onnxruntime is not installed.
        DataError: it cannot read the file.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise TametailError(
            "an exported model in the ONNX format needs onnxruntime, which is not installed: pip install 'tametail[export]'"
        ) from error
    try:
        # From memory: what was checked is what is run, and no other file beside it is read.
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    except Exception as error:  # of many kinds
        raise DataError(f"expected an ONNX model at {path}, but it cannot be read: {error}") from error
    _check_classes(session.get_modelmeta().custom_metadata_map.get("class_names", ""), facts, path)
    more = {} if facts.several_labels else {"prevalence": np.zeros(len(facts.class_names), np.float32)}
    names = [*OUTPUTS[:3], OUTPUTS[4]]

    def run(pixels: NDArray[np.uint8]) -> Said:
        try:
            found = session.run(names, {"pixels": pixels, **more})
        except Exception as error:  # of many kinds
            raise DataError(_other_graph(path, str(error))) from error
        return _checked(found, len(pixels), facts, path)

    return run


def run_program(path: Path, facts: ModelFacts) -> Callable[[NDArray[np.uint8]], Said]:
    """A program of torch as a function of decoded images (N, K, K, 3), on the CPU.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with _quiet():
            described = {_DESCRIBED: ""}
            module = torch.export.load(path, extra_files=described).module()
    except Exception as error:  # of many kinds
        raise DataError(f"expected a program of torch at {path}, but it cannot be read: {error}") from error
    metadata = json.loads(described[_DESCRIBED] or "{}")
    _check_classes(json.dumps(metadata.get("class_names", "")), facts, path)
    more = () if facts.several_labels else (torch.zeros(len(facts.class_names)),)

    @torch.inference_mode()
    def run(pixels: NDArray[np.uint8]) -> Said:
        try:
            p, scores, saturated, _, unlikeness = module(torch.from_numpy(pixels), *more)
        except Exception as error:  # of many kinds
            raise DataError(_other_graph(path, str(error))) from error
        return _checked(
            [each.numpy() for each in (p, scores, saturated, unlikeness)], len(pixels), facts, path
        )

    return run


def _check_classes(stated: str, facts: ModelFacts, path: Path) -> None:
    """Check that the classes of a graph, as JSON, are those of model.json."""
    names = list(facts.class_names)
    if json.loads(stated or "null") != names:
        raise DataError(_other_graph(path, f"its classes are {stated}, and those of model.json {names}"))


def _checked(found: Sequence[Any], images: int, facts: ModelFacts, path: Path) -> Said:
    """What a graph says of images, after a check that it is what such a graph says."""
    shape = (images, len(facts.class_names))
    shapes = [getattr(each, "shape", None) for each in found]
    kinds = [getattr(each, "dtype", np.dtype(object)).kind for each in found]
    if shapes != [shape, shape, shape, (images,)] or kinds != ["f", "f", "b", "f"]:
        raise DataError(_other_graph(path, f"its outputs are {shapes}"))
    p, scores, saturated, unlikeness = found
    if not all((each >= 0).all() and (each <= 1 + 1e-5).all() for each in (p, scores)):  # also nan
        raise DataError(_other_graph(path, "its outputs are no probabilities"))
    return Said(p.astype(np.float64), scores.astype(np.float64), saturated, unlikeness)


def _other_graph(path: Path, why: str) -> str:
    return (
        f"expected a graph of an exported model in {path}, but it is another one ({why[:300]}); export the model again, with this "
        f"version of tametail"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the messages that exporting writes, which are about its own steps."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
