"""A package with one file for a strategy and one for a backbone, installed in a folder: the commands use both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.skin import write_skin

STRATEGY = '''
from tametail.training.strategies import Strategy, register_strategy

@register_strategy
class OftenBalanced(Strategy):
    """Class-balanced sampling by another name."""

    name = "often"
    source = "Doe, 2027"

    def change_recipe(self):
        return {"sampler": "balanced"}
'''
BACKBONE = '''
from torch import nn
from tametail.models.backbones import BackboneProvider, BackboneSpec, register_backbone

@register_backbone
class Thumbnail(BackboneProvider):
    """Four channels of a convolution, averaged."""

    name = "thumbnail"

    def describe(self, name, image_size):
        size = image_size or 24
        return BackboneSpec(name, 4, size, size, seen=1.0) if name == "thumbnail" else None

    def build(self, spec, weights):
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
'''
METADATA = "Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n"
POINTS = (
    "[tametail.strategies]\noften = my_strategy\n\n[tametail.backbones]\nthumbnail = my_backbone:Thumbnail\n"
)
SESSION = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import pandas as pd
from tametail.study.study import compare, resume
from tametail.training.strategies import list_strategies
print("often" in list_strategies())
compare(
    sys.argv[2], ["ce", "ce+often+la"], out=sys.argv[3], recipe="head", folds=2, epochs=1,
    backbone="thumbnail", weights="none", device="cpu",
)
results = Path(sys.argv[3], "results.csv")
print(sorted(set(pd.read_csv(results).iloc[:, 0])))
before = results.read_bytes()
import shutil
shutil.rmtree(next(Path(sys.argv[3], "runs").glob("ce+often/seed0-fold1")))
resume(sys.argv[3])
print(results.read_bytes() == before)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "my_package-1.0.dist-info").mkdir(parents=True)
    (folder / "my_strategy.py").write_text(STRATEGY)
    (folder / "my_backbone.py").write_text(BACKBONE)
    (folder / "my_package-1.0.dist-info" / "METADATA").write_text(METADATA)
    (folder / "my_package-1.0.dist-info" / "entry_points.txt").write_text(POINTS)
    return folder


def test_a_study_is_made_and_resumed_with_them(package: Path, tmp_path: Path) -> None:
    arguments = [str(package), str(write_skin(tmp_path / "skin")), str(tmp_path / "study")]
    done = subprocess.run(
        [sys.executable, "-c", SESSION, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.splitlines()[-3:] == ["True", "['ce', 'ce+often+la']", "True"], done.stderr
