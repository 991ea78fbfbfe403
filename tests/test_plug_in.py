"""A package with a loss, a reader, a strategy and a backbone: one file each there, nothing here, and every command uses them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fixtures.forked import fork_server

Run = Callable[..., str]
LOSS = '''
import torch
from torch import Tensor
from tametail.losses import Loss, register_loss

@register_loss
class SquaredLoss(Loss):
    """Squared error of the class probabilities (Brier score)."""

    name = "squared"
    formula = "Σ_c (s_c - y_c)²"
    family = "softmax"

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        return (torch.softmax(z, dim=1) - y) ** 2
'''
READER = '''
from pathlib import Path
import pandas as pd
from tametail.data import ImageTable
from tametail.data.readers import Reader, register_reader

@register_reader
class ListReader(Reader):
    """A text file with a label and an image in each line."""

    name = "list"

    def matches(self, source):
        return str(source).endswith(".list")

    def read(self, source, options):
        rows = [line.split() for line in Path(source).read_text().splitlines()]
        frame = pd.DataFrame({"image": [row[1] for row in rows], "label": [row[0] for row in rows]}, dtype=object)
        return ImageTable.from_frame(frame, Path(source).parent, Path(source).stem)
'''
STRATEGY = '''
from dataclasses import dataclass
from tametail.training.strategies import Strategy, register_strategy

@register_strategy
@dataclass(frozen=True)
class Decay(Strategy):
    """Weight decay of the method's own."""

    name = "decayed"
    source = "a test"
    rate: float = 0.1

    def change_recipe(self):
        return {"optimizer.weight_decay": self.rate}
'''
BACKBONE = '''
from torch import nn
from tametail.models.backbones import BackboneProvider, BackboneSpec, register_backbone

@register_backbone
class Colours(BackboneProvider):
    """The mean colour."""

    name = "colours"

    def describe(self, name, image_size):
        return BackboneSpec(name, 3, image_size or 32, canvas=image_size or 32, crop=1.0) if name == "colours" else None

    def build(self, spec, weights):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
'''
POINTS = """
[tametail.losses]
squared = plug_in_loss:SquaredLoss
[tametail.readers]
list = plug_in_reader:ListReader
[tametail.strategies]
decayed = plug_in_strategy:Decay
[tametail.backbones]
colours = plug_in_backbone:Colours
"""
METHOD = "squared+decayed"
# `python -m tametail`, without the figures of its reports.
COMMAND = """
import runpy
from fixtures.plain_figures import figures_not_rendered
with figures_not_rendered():
    runpy.run_module("tametail", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with one of somebody else."""
    folder = tmp_path_factory.mktemp("site")
    parts = {"loss": LOSS, "reader": READER, "strategy": STRATEGY, "backbone": BACKBONE}
    for name, text in parts.items():
        (folder / f"plug_in_{name}.py").write_text(text, encoding="utf-8")
    info = folder / "plug_in-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(POINTS, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three colours and their list."""
    folder = tmp_path_factory.mktemp("images")
    rng, lines = np.random.default_rng(0), []
    for label, count in {"red": 30, "green": 15, "blue": 9}.items():
        channel = ("red", "green", "blue").index(label)
        for number in range(count):
            pixels = rng.integers(0, 120, (32, 32, 3), dtype=np.uint8)
            pixels[..., channel] += 90
            Image.fromarray(pixels).save(folder / f"{label}{number}.png")
            lines.append(f"{label} {label}{number}.png")
    source = folder / "colours.list"
    source.write_text("\n".join(lines), encoding="utf-8")
    return source


@pytest.fixture(scope="module")
def run(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command in a new process that finds the packages, and returns what it said."""
    folder = tmp_path_factory.mktemp("work")

    def run_command(*words: object) -> str:
        done = fork_server().run("-c", COMMAND, *words, directory=folder, path=[site, Path(__file__).parent])
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run_command


@pytest.fixture(scope="module")
def study(run: Run, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    words = [
        "--methods",
        f"ce,{METHOD}",
        "--backbone",
        "colours",
        "--weights",
        "none",
        "--folds",
        3,
        "--epochs",
        5,
    ]
    run("compare", images, *words, "-o", folder / "study")
    return folder / "study"


def test_a_study_uses_all_of_them(study: Path) -> None:
    results = pd.read_csv(study / "results.csv")
    assert set(results["method"]) == {"ce", METHOD}
    assert set(results["status"]) == {"complete"}
    content = json.loads((study / "study.json").read_text(encoding="utf-8"))
    assert content["class_names"] == ["blue", "green", "red"]
    assert content["backbone"] == "colours"
    assert METHOD in (study / "report.html").read_text(encoding="utf-8")


def test_a_run_that_is_lost_is_done_again_on_resume(run: Run, study: Path) -> None:
    before = (study / "results.csv").read_bytes()
    shutil.rmtree(next((study / "runs").glob("squared*/seed0-fold1")))
    run("resume", study)
    assert (study / "results.csv").read_bytes() == before


def test_commands_that_read_a_study_find_them_again(run: Run, study: Path, images: Path) -> None:
    out = study.parent / "predictions.csv"
    run("predict", study, images.parent, "--method", METHOD, "-o", out)
    assert set(pd.read_csv(out)["method"]) == {METHOD}
    run("test-set", study)
    assert (study / "test_set_evaluations.jsonl").is_file()


def test_they_are_listed(run: Run, study: Path, images: Path) -> None:
    assert "Brier score" in run("losses")
    assert "Weight decay of the method's own" in run("strategies")
    assert '"blue"' in run("inspect", images, "--json")
