"""Measure how far exported models are from torch, for every loss, and how fast they are; write docs/results/export.md.

    python scripts/export_parity.py -o docs/results/export.md
    python scripts/export_parity.py --study runs/demo --study runs/results/default-ham10000 -o docs/results/export.md

The rows of losses have the real backbone with its ImageNet weights and random heads of that loss, whose outputs cover the range of
the link; fine-tuned rows have several copies of the backbone. Both runtimes get the same pixels: images of the demo. With --study
the best method of that study is exported as well, and its example, which reads image files by itself, is compared with
``tametail predict`` on training images.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import tametail
from tametail.core.text import counted
from tametail.data import decode_image, read_images
from tametail.deployment.facts import ModelFacts, Said
from tametail.deployment.model_folder import EXAMPLE
from tametail.deployment.network import Network, TrainedModel
from tametail.deployment.program import LABEL_OUTPUTS, OUTPUTS, exported, run_onnx, write_onnx
from tametail.deployment.study_model import run_torch
from tametail.deployment.study_unlikeness import StudyUnlikeness
from tametail.deployment.unlikeness import Likeness
from tametail.evaluation.calibration_maps import CalibrationMap
from tametail.evaluation.conformal import ScoreDistribution, class_thresholds, sets_of
from tametail.evaluation.label_calibration import LabelMap
from tametail.evaluation.unlikeness import fit_unlikeness
from tametail.losses import list_losses
from tametail.models.backbones import OFFLINE_BACKBONE, build_backbone
from tametail.models.heads import Standardise
from tametail.report.writers.markdown_table import NUMBER, markdown_lines
from tametail.storage.study_file import remembered_root
from tametail.study.study_splits import study_splits
from tametail.training.multi_label import suitable_losses
from tametail.training.recipe import load_recipe
from tametail.training.strategies import Method, parse_method
from tametail.training.training_data import backbone_of, evaluation_transform, frozen

CLASSES, HEADS, COPIES = 7, 5, 2
COUNTS = [300, 120, 60, 30, 15, 8, 4]
BATCH, ROUNDS = 16, 9
MOST_FILES = 1000


@dataclass(frozen=True)
class Row:
    """What is measured of one exported model."""

    loss: str
    trains: str
    labels: str
    probabilities: float
    scores: float
    unlikeness: float
    decided: int
    sets: int
    images: int
    megabytes: float
    seconds: float


@dataclass(frozen=True)
class Speed:
    """Images per second of torch, and how many times as fast onnxruntime is: medians over interleaved rounds, with their range."""

    trains: str
    torch_speed: float
    ratio: float
    low: float
    high: float


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/results/export.md"))
    parser.add_argument(
        "--study", type=Path, action="append", default=[], help="compare its example from files"
    )
    parser.add_argument("--only", default="", help="losses, with commas")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list_losses()
    table = read_images("demo")
    pixels = demo_pixels(table)
    rows: list[Row] = []
    speeds: list[Speed] = []
    for several in (False, True):
        for trains in ("head", "fine-tuned"):
            for name in names:
                if several and name not in suitable_losses():
                    continue
                method = parse_method(name).in_order(tuple(range(CLASSES)))
                row, speed = measured(method, trains, several, pixels, timed=name == names[0] and not several)
                rows.append(row)
                speeds += [speed] if speed else []
                print(row, flush=True)
    files = [from_files(study) for study in arguments.study]
    arguments.out.write_text(page(rows, speeds, files, arguments.study), encoding="utf-8")
    worst = max(max(row.probabilities, row.scores) for row in rows)
    print(f"largest difference {worst:.1e}; {arguments.out}")
    return 0 if worst <= 1e-5 and all(each.same >= 0.995 for each in files) else 1


def demo_pixels(table: tametail.ImageTable) -> dict[int, NDArray[np.uint8]]:
    """Images (64, K, K, 3) for the canvas of each recipe."""
    chosen = np.random.default_rng(0).permutation(len(table))[:64]
    files = [table.paths[at] for at in chosen]
    sides = {backbone_of(recipe(trains)).canvas for trains in ("head", "fine-tuned")}
    return {side: np.stack([decode_image(file, side) for file in files]) for side in sides}


def recipe(trains: str) -> Any:
    """The recipe of a row, with the offline backbone."""
    given = load_recipe("head" if trains == "head" else "quick")
    return given.model_copy(update={"backbone": OFFLINE_BACKBONE, "weights": "offline"})


def measured(
    method: Method, trains: str, several: bool, pixels: dict[int, NDArray[np.uint8]], *, timed: bool
) -> tuple[Row, Speed | None]:
    """Export one model, and run it beside torch."""
    torch.manual_seed(0)
    settings = recipe(trains)
    spec = backbone_of(settings)
    images = pixels[spec.canvas]
    backbone = build_backbone(spec, "offline").eval()
    with torch.no_grad():
        features = torch.cat([
            backbone(evaluation_transform(spec)(torch.from_numpy(part))) for part in np.array_split(images, 4)
        ])  # fmt: skip
    standardise = Standardise(spec.blocks)
    standardise.fit(features)
    models = []
    for _ in range(HEADS if trains == "head" else COPIES):
        head = method.build_head(spec.features, CLASSES, settings.head)
        with torch.no_grad():
            outputs = head(standardise(features) if trains == "head" else features)
            for each in head.parameters():  # logits of a standard deviation of 4
                if each.ndim == 2 and method.loss.create(COUNTS).head == "linear":
                    each.mul_(4 / outputs.std())
        representation = standardise if trains == "head" else frozen(copy.deepcopy(backbone), spec)
        models.append(TrainedModel(representation, head, method.decision_rule(COUNTS, sum(COUNTS), settings)))
    calibration, distributions, thresholds = answers(several)
    facts = ModelFacts(
        method.text, tuple("abcdefg"), tuple(map(float, COUNTS)), spec, len(models), False, models[0].rule.link,
        models[0].rule.ceiling, calibration, distributions, thresholds=thresholds, likeness=Likeness(len(images), len(images)),
    )  # fmt: skip
    shared = frozen(backbone, spec) if trains == "head" else nn.Identity()
    fitted = fit_unlikeness(features.numpy(), spec.blocks, np.arange(len(features)).astype(str))
    gaussians = (fitted.gaussian,) * (1 if trains == "head" else len(models))
    unlikeness = StudyUnlikeness(facts.likeness, gaussians, fitted.held_out.threshold(0.95))
    network = Network(spec, shared, models, calibration, unlikeness)
    in_torch = run_torch(copy.deepcopy(network), torch.device("cpu"))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        outputs = LABEL_OUTPUTS if several else OUTPUTS
        write_onnx(exported(network, facts, 0.9), path, {"class_names": list(facts.class_names)}, outputs)
        seconds, size = time.monotonic() - began, path.stat().st_size / 1e6
        in_onnx = run_onnx(path, facts)
        expected, found = (joined(run, images) for run in (in_torch, in_onnx))
        speed = speed_of(trains, in_torch, in_onnx, images[:BATCH]) if timed else None
    if thresholds is not None:
        decided = int(
            (
                ((expected.probabilities >= thresholds) == (found.probabilities >= thresholds)).all(axis=1)
            ).sum()
        )
        same_sets = decided
    else:
        decided = int((expected.scores.argmax(axis=1) == found.scores.argmax(axis=1)).sum())
        limits = class_thresholds(distributions, 0.9)
        same_sets = int(
            (sets_of(expected.probabilities, limits) == sets_of(found.probabilities, limits))
            .all(axis=1)
            .sum()
        )
    row = Row(
        method.text, trains, "several" if several else "one",
        float(np.abs(expected.probabilities - found.probabilities).max()),
        float(np.abs(expected.scores - found.scores).max()),
        float(np.abs(expected.unlikeness - found.unlikeness).max()),
        decided, same_sets, len(images), size, seconds,
    )  # fmt: skip
    return row, speed


def answers(
    several: bool,
) -> tuple[CalibrationMap | LabelMap, tuple[ScoreDistribution, ...], NDArray[np.float64] | None]:
    """A calibration map that is not the identity, the scores of prediction sets, and thresholds of labels."""
    rng = np.random.default_rng(0)
    slope, bias = rng.uniform(0.5, 1.5, CLASSES), rng.normal(0, 0.5, CLASSES)
    if several:
        return LabelMap(slope, bias), (), np.full(CLASSES, 0.4)
    scores = [np.sort(rng.uniform(0, 1, 40)) for _ in range(CLASSES)]
    sets = tuple(ScoreDistribution(each, np.arange(1, 41) / 40, 40, 40) for each in scores)
    return CalibrationMap("vector", slope, bias, np.zeros(CLASSES)), sets, None


def joined(run: Callable[[NDArray[np.uint8]], Said], images: NDArray[np.uint8]) -> Said:
    parts = [run(part) for part in np.array_split(images, -(-len(images) // BATCH))]
    return Said(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def speed_of(
    trains: str,
    one: Callable[[NDArray[np.uint8]], Said],
    other: Callable[[NDArray[np.uint8]], Said],
    images: NDArray[np.uint8],
) -> Speed:
    """The speed of two runtimes, in interleaved rounds after one to warm up."""
    taken: list[tuple[float, float]] = []
    for _ in range(ROUNDS + 1):
        times = []
        for run in (one, other):
            began = time.perf_counter()
            run(images)
            times.append(time.perf_counter() - began)
        taken.append((times[0], times[1]))
    rounds = np.array(taken[1:])
    ratio = rounds[:, 0] / rounds[:, 1]
    speed = len(images) / float(np.median(rounds[:, 0]))
    return Speed(trains, speed, float(np.median(ratio)), float(ratio.min()), float(ratio.max()))


@dataclass(frozen=True)
class Files:
    """The example of an exported model beside ``tametail predict``, from the same image files.

    Attributes:
        same: share of images of which both predict the same class.
        most, mean: difference of a probability.
        unlike: share of images that ``tametail predict`` flags as unlike the training images, and that the example flags.
    """

    data: str
    method: str
    n: int
    same: float
    most: float
    mean: float
    unlike: tuple[float, float]


def from_files(study: Path) -> Files:
    """Measure the best method of a study on its training images."""
    with tempfile.TemporaryDirectory() as folder:
        model = tametail.export(study, Path(folder, "model"))
        splits = study_splits(study, described := tametail.Study(study).settings)
        source = remembered_root(study)
        assert source is not None
        training = np.flatnonzero(splits.part == "train")
        chosen = np.random.default_rng(0).permutation(training)[:MOST_FILES]
        files = [source / splits.image[at] for at in np.sort(chosen)]
        expected = model.predict_table(files)
        example = loaded(Path(folder, "model", EXAMPLE))
        p, predicted, unlike = [], [], []
        for file in files:
            inputs = {
                "pixels": example.square(str(file))[None],
                "prevalence": np.zeros(len(example.classes), np.float32),
            }
            probabilities, scores, *_, unlikeness = example.session.run(None, inputs)
            p.append(probabilities[0])
            predicted.append(example.classes[int(scores[0].argmax())])
            unlike.append(unlikeness[0] > 1)
    apart = np.abs(np.array(p) - expected[[f"p_{name}" for name in model.classes_]].to_numpy())
    same = float((np.array(predicted) == expected["predicted"].to_numpy()).mean())
    flagged = float(expected["unlike_training"].astype(float).mean()), float(np.mean(unlike))
    return Files(
        described["name"], model.method, len(files), same, float(apart.max()), float(apart.mean()), flagged
    )


def loaded(path: Path) -> ModuleType:
    """The example as a module, in its folder, as it is run."""
    before = os.getcwd()
    os.chdir(path.parent)
    sys.argv[1:], given = [], sys.argv[1:]
    try:
        spec = importlib.util.spec_from_file_location("example_of_use", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        os.chdir(before)
        sys.argv[1:] = given
    return module


def page(rows: list[Row], speeds: list[Speed], files: list[Files], studies: list[Path]) -> str:
    """The page as Markdown."""
    header = ["Loss", "Trained", "Labels per image", "Largest difference of a probability", "of a score", "of the unlikeness", "Same decision", "Same set", "File, MB", "Export, s"]  # fmt: skip
    lines = [
        [
            f"`{row.loss}`",
            row.trains,
            row.labels,
            f"{row.probabilities:.1e}",
            f"{row.scores:.1e}",
            f"{row.unlikeness:.1e}",
            f"{row.decided} of {row.images}",
            f"{row.sets} of {row.images}",
            f"{row.megabytes:.1f}",
            f"{row.seconds:.0f}",
        ]
        for row in rows
    ]
    worst = max(max(row.probabilities, row.scores) for row in rows)
    text = [
        "# Exported models beside torch",
        "",
        "    python scripts/export_parity.py " + " ".join(f"--study {study}" for study in named(studies)),
        "",
        f"{counted(len(rows), 'model')}: the backbone {OFFLINE_BACKBONE} with its ImageNet weights, and heads of each loss with random weights, whose outputs cover the range "
        f"of its link; {HEADS} heads on the frozen backbone, or {COPIES} copies of the backbone as after fine-tuning; a vector calibration map or a map of each label. Both runtimes get the same pixels of "
        f"{rows[0].images} demo images.",
        "",
        f"- Largest difference of a probability or score: {worst:.1e} (required: 1e-5).",
        f"- Speed, {BATCH} images at a time on {counted(os.cpu_count() or 1, 'core')}, medians of {ROUNDS} interleaved rounds, which differ little by loss: "
        + "; ".join(
            f"{'heads' if each.trains == 'head' else f'{COPIES} fine-tuned backbones'}: torch {each.torch_speed:.1f} images/s, onnxruntime {each.ratio:.2f} times as fast ({each.low:.2f} to {each.high:.2f})"
            for each in speeds
        )
        + ".",
        "",
        markdown_lines(header, ["---"] * 3 + [NUMBER] * 7, lines),
        "",
    ]
    if files:
        text += [
            "## From image files",
            "",
            "The example beside an exported model reads files with Pillow alone, whose decoder of JPEG and resize differ from those of training (which decodes JPEG at a reduced size). The best method of each study, on",
            f"at most {MOST_FILES:,} training images:",
            "",
            markdown_lines(
                [
                    "Data",
                    "Method",
                    "n",
                    "Same class",
                    "Largest difference of a probability",
                    "Mean difference",
                    "Unlike the training images, from tametail predict",
                    "from the example",
                ],
                ["---", "---", *[NUMBER] * 6],
                [
                    [
                        each.data,
                        f"`{each.method}`",
                        f"{each.n:,}",
                        f"{100 * each.same:.2f} %",
                        f"{each.most:.3f}",
                        f"{each.mean:.5f}",
                        *(f"{100 * share:.1f} %" for share in each.unlike),
                    ]
                    for each in files
                ],
            ),
            "",
        ]
    return "\n".join(text)


def named(studies: list[Path]) -> list[str]:
    """The folders of the studies without where they are on this machine."""
    return [f"runs/{study.resolve().name}" for study in studies]


if __name__ == "__main__":
    sys.exit(main())
