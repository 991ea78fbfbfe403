"""An installed package's loss: the commands list it, and the contract tests run on it from any folder."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures.forked import fork_server
from tametail.testing import test_losses as contract

LOSS = '''
from typing import Unpack

import torch
from torch import Tensor
from tametail.losses import CommonParameters, Loss, register_loss


@register_loss
class BrierLoss(Loss):
    """Brier loss: the squared distance between probabilities and labels.

    Args:
        weight: factor >= 0.
    """

    name = "brier"
    formula = "weight Σ_c (y_c - s_c)^2"
    family = "softmax"
    exact_link = False

    def __init__(self, *, weight: float = 1.0, **common: Unpack[CommonParameters]) -> None:
        super().__init__(**common)
        if isinstance(weight, (str, bool)) or not 0 <= weight < float("inf"):
            raise ValueError(f"expected weight >= 0, got {weight!r}")
        self.weight = float(weight)

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        return self.weight * (y - torch.softmax(z, dim=1)) ** 2


class LeakyLoss(BrierLoss):
    """Brier loss that ignores the reduction."""

    name = "leaky"

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return super().forward(input, target).sum()
'''
FAST = "declares or parameters or reductions or class_counts"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder on the path with an installed package that has a loss, and one whose loss cannot be imported."""
    for name, module, target in (
        ("brier_package", LOSS, "brier_package:BrierLoss"),
        ("broken_package", "import nothing_of_this_name", "broken_package:Loss"),
    ):
        (tmp_path / f"{name}.py").write_text(module, encoding="utf-8")
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", "utf-8")
        entry = f"[tametail.losses]\n{name.removesuffix('_package')} = {target}\n"
        (info / "entry_points.txt").write_text(entry, encoding="utf-8")
    # As the installed tametail has it, in case the one that is tested was installed before it had it.
    plugin = tmp_path / "plugin-1.0.dist-info"
    plugin.mkdir()
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n", encoding="utf-8")
    (plugin / "entry_points.txt").write_text("[pytest11]\ntametail = tametail.testing.plugin\n", "utf-8")
    (tmp_path / "empty").mkdir()
    return tmp_path


def run(package: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return fork_server().run(*words, directory=package / "empty", path=[package])


def test_the_commands_list_and_describe_it_and_say_what_could_not_be_loaded(package: Path) -> None:
    listed = run(package, "-m", "tametail", "losses")
    assert listed.returncode == 0, listed.stderr
    last = listed.stdout.splitlines()[-1]
    assert last.split(maxsplit=1) == [
        "brier",
        "Brier loss: the squared distance between probabilities and labels.",
    ]
    assert "broken_package:Loss, which could not be loaded: ModuleNotFoundError" in listed.stderr
    described = run(package, "-m", "tametail", "losses", "brier[weight=2]", "--json")
    assert '"loss": "brier[weight=2]"' in described.stdout, described.stderr


@pytest.mark.slow
def test_the_contract_runs_on_it_from_an_empty_folder(package: Path) -> None:
    options = ("-q", "-p", "no:cacheprovider", "-k", FAST)
    good = run(
        package, "-m", "pytest", "--pyargs", "tametail.testing", *options, "-p", "no:xdist",
        "--loss", "brier", "--loss", "brier_package:BrierLoss[weight=2]",
    )  # fmt: skip
    assert good.returncode == 0, good.stdout + good.stderr
    assert " passed" in good.stdout
    bad = run(
        package, "-m", "pytest", "--pyargs", "tametail.testing", *options, "--loss", "brier_package:LeakyLoss"
    )
    assert bad.returncode == 1
    assert "reduction none must return shape (B,), not ()" in bad.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("torch.nn:CrossEntropyLoss", "expected a subclass of tametail.losses.Loss"),
        ("alpha", "did you mean alpa"),
        ("alpa[gamma=1]", "expected parameters of alpa"),
    ],
)
def test_what_is_no_loss_of_tametail_is_wrong_usage(text: str, message: str) -> None:
    metafunc = SimpleNamespace(fixturenames=[])
    with pytest.raises(pytest.UsageError, match=message):
        contract.parametrize(metafunc, [text])


def test_without_pytest_the_message_says_what_to_install(package: Path) -> None:
    found = run(package, "-c", "import sys; sys.modules['pytest'] = None; import tametail.testing")
    assert found.returncode != 0
    assert "tametail.testing needs pytest, which is not installed: pip install pytest" in found.stderr
