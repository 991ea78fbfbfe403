"""What must be seen before any result: possible leaks, and how grey levels were read; also with --quiet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tametail
from cli.test_app import OPTIONS, run
from tametail.core.console import Console

pytestmark = pytest.mark.usefixtures("without_figures")

STUDY = [*OPTIONS, "--methods", "ce", "--folds", "2", "--epochs", "2", "--lr", "0.01", "--quiet"]


def write_patients(folder: Path) -> Path:
    """Two classes of 12-bit grey images, three of each patient, told by the file name."""
    rng = np.random.default_rng(0)
    for patient in range(20):
        for number in range(3):
            name = "ab"[patient % 2]
            values = rng.normal(700 + 900 * (patient % 2), 300, (32, 32)).clip(0, 4000).astype(np.uint16)
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(folder / name / f"scan{patient}_{number}.png")
    return folder


def test_possible_leaks_and_the_bit_depth_are_shown(tmp_path: Path) -> None:
    data, out = write_patients(tmp_path / "scans"), tmp_path / "study"
    code, _, errors = run("compare", data, "-o", out, *STUDY)
    assert code == 0
    assert errors.count("Warning") == 1
    said = "60 of 60 images share a folder or the beginning of the file name with a few others (20 such sets)"
    assert said in " ".join(errors.split())
    first_screen = (out / "report.html").read_text(encoding="utf-8").partition("At a glance")[0]
    assert said in first_screen
    assert said in (out / "results.md").read_text(encoding="utf-8")
    settings = json.loads((out / "study.json").read_text(encoding="utf-8"))
    assert settings["table"]["bit_depth"] == 12
    assert "read as 12 bits" in settings["reading"]["grey"]
    assert "read as 12 bits" in (out / "report.html").read_text(encoding="utf-8")
    classifier = tametail.load(out)
    assert classifier.facts.bit_depth == 12  # also for images that alone would pass for 8 bits
    assert run("compare", data, "-o", out, *STUDY, "--bit-depth", 16)[0] == 2, (
        "other pixels are another study"
    )


def test_with_groups_nothing_needs_to_be_said(tmp_path: Path) -> None:
    data = write_patients(tmp_path / "scans")
    rule = r"name:^scan(\d+)_"
    code, _, errors = run("compare", data, "-o", tmp_path / "study", *STUDY, "--group-from", rule)
    assert code == 0
    assert "share a folder" not in errors
    settings = json.loads((tmp_path / "study" / "study.json").read_text(encoding="utf-8"))
    assert settings["table"]["groups"] == 20
    assert rule.partition(":")[2] in settings["reading"]["groups"]


def test_rows_that_are_left_out_are_shown(image_folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    lines = (image_folder / "labels.csv").read_text(encoding="utf-8")
    table.write_text(lines.replace("images/003.png,amber", "images/003.png,"), encoding="utf-8")
    words = [*STUDY, "--image-root", image_folder, "--missing", "skip"]
    code, _, errors = run("compare", table, "-o", tmp_path / "study", *words)
    assert code == 0, errors
    assert "Warning: Left out: " in errors


@pytest.mark.parametrize(
    ("quiet", "warnings", "said"), [(False, False, "sw"), (True, True, "w"), (True, False, "")]
)
def test_a_quiet_console_says_warnings_only(
    quiet: bool, warnings: bool, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(quiet, warnings=warnings)
    console.say("s")
    console.warn("w")
    assert "".join(line.removeprefix("Warning: ") for line in capsys.readouterr().err.split("\n")) == said
