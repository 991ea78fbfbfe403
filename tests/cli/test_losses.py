"""The commands losses and gradients, and a loss of the user's own all the way through a study."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fixtures.tiny_study import STEP_BY_STEP, TINY, words
from tametail.cli.app import app
from tametail.losses import describe_losses, list_losses

pytestmark = pytest.mark.usefixtures("without_figures")
OPTIONS = words(TINY)
OWN = """
import torch
class Doubled(torch.nn.Module):
    \"\"\"Twice cross-entropy.\"\"\"
    def __init__(self, class_counts, gamma=2.0):
        super().__init__()
        self.gamma, self.classes = gamma, len(class_counts)
    def forward(self, logits, target):
        return self.gamma * torch.nn.functional.cross_entropy(logits, target)
"""


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def test_the_list_is_aligned_to_the_longest_name() -> None:
    code, output, _ = run("losses")
    width = max(map(len, list_losses()))
    assert code == 0
    assert output.splitlines() == [f"{name:{width}}  {text}" for name, text in describe_losses().items()]


@pytest.mark.parametrize("name", list_losses())
def test_each_loss_is_shown_plainly_where_there_is_no_terminal(name: str) -> None:
    code, output, errors = run("losses", name)
    assert (code, errors) == (0, "")
    for word in ("formula", "family", "head", "link", "class counts", "Parameters", "Use it", "tau  number"):
        assert word in output
    assert "\x1b" not in output
    assert not any(line.endswith(" ") for line in output.splitlines())


def test_parameters_in_brackets_are_shown_in_use() -> None:
    _, output, _ = run("losses", "alpa[variant=pade,order=2/1]")
    assert "order  two whole numbers (2/1) or none; default none, here 2/1" in output
    assert "alpha  number or none; default none, here 0.875" in output


def test_json_of_one_and_of_all() -> None:
    one = json.loads(run("losses", "alpa", "--json")[1])
    assert set(one) == {
        "loss", "summary", "formula", "family", "head", "link", "exact_link", "ceiling", "uses_class_counts",
        "stochastic", "batchwise", "parameters", "use", "notes", "reference",
    }  # fmt: skip
    assert all(key in run("losses", "--help")[1] for key in one)
    assert set(one["parameters"][0]) == {"name", "type", "required", "default", "value", "meaning"}
    assert one["ceiling"] == pytest.approx(0.918, abs=1e-3)
    everything = json.loads(run("losses", "--json")[1])
    assert [loss["loss"] for loss in everything] == list_losses()
    assert one in everything


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["losses", "alpah"], "did you mean alpa"),
        (["losses", "alpah", "--json"], "did you mean alpa"),
        (["losses", "alpa[gama=1]"], "among variant, preset"),
        (["losses", "absent.module:Loss"], "No module named 'absent'"),
        (["gradients", "-o", "x.gif"], "ends in .svg, .png, .pdf, .csv, got x.gif"),
        (["gradients", "-o", "x"], "got x"),
        (["gradients", "--over", "q"], "one of p, z, both, got q"),
        (["gradients", "--losses", "alpah"], "did you mean alpa"),
        (["gradients", "--losses", "alpa,,ce"], "separated by commas"),
    ],
)
def test_mistakes_are_wrong_usage(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output, errors = run(*words)
    assert (code, output) == (2, "")
    assert message in errors
    assert errors.startswith("Error: expected ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("suffix", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF"), ("csv", b"group,")]
)
def test_figure_1_is_written_in_each_format(suffix: str, start: bytes, tmp_path: Path) -> None:
    out = tmp_path / "deep" / f"figure1.{suffix.upper()}"
    code, output, errors = run("gradients", "-o", out)
    assert (code, output.strip(), errors) == (0, str(out), "")
    assert out.read_bytes().startswith(start)


def test_the_numbers_of_figure_1(tmp_path: Path) -> None:
    run("gradients", "-o", tmp_path / "f.csv")
    with (tmp_path / "f.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    described = [row for row in rows if row["group"] == "as described"]
    assert {row["target"] for row in described} == {"negative"}
    assert {row["loss"] for row in described} == {
        "ALPA (γ⁻ = 4)", "ASL (m = 0.01, γ⁻ = 0.01)", "CE (m = 0, γ⁻ = 0)", "Focal (γ = 0.5)",
    }  # fmt: skip
    for row in rows:
        p, slope = 1 / (1 + math.exp(-float(row["z"]))), float(row["slope"])
        assert float(row["p"]) == pytest.approx(p, rel=1e-9)
        if row["loss"] == "ALPA (γ⁻ = 4)":
            assert slope == pytest.approx(5 * p**5 * (1 - p), rel=1e-8)
        if row["loss"].startswith("ALPA, Eq. 11") and row["target"] == "negative":
            assert slope == pytest.approx(1.625 * 9 * p**9 * (1 - p), rel=1e-8)
        if row["loss"].startswith("ALPA") and row["target"] == "positive":
            assert slope == pytest.approx(-1.5 * 0.875 * p * (1 - p), rel=1e-8)
    peaks = {}
    for row in rows:
        if row["target"] == "negative" and row["loss"].startswith("ALPA"):
            peaks[row["loss"]] = max(
                peaks.get(row["loss"], (0.0, 0.0)), (float(row["slope"]), float(row["p"]))
            )
    assert peaks["ALPA (γ⁻ = 4)"][1] == pytest.approx(0.83, abs=0.005), "as the panel's title says"
    assert peaks["ALPA, Eq. 11 (β, W; preset v2)"][1] == pytest.approx(0.90, abs=0.005)


def test_chosen_losses_are_drawn_under_their_own_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output, _ = run("gradients", "--losses", "alpa,asl[clip=0],ce,alpa", "--over", "z")
    assert (code, output.strip()) == (0, "gradients.svg")
    run("gradients", "--losses", "alpa,asl[clip=0],ce,alpa", "-o", "g.csv")
    with (tmp_path / "g.csv").open(encoding="utf-8", newline="") as handle:
        kinds = {(row["loss"], row["target"]) for row in csv.DictReader(handle)}
    assert kinds == {(loss, t) for loss in ("alpa", "asl[clip=0]", "ce") for t in ("positive", "negative")}


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, errors = run("gradients", "--losses", "ce", "-o", tmp_path / "file" / "g.csv")
    assert code == 1
    assert "give another file with -o" in errors


def test_a_module_that_is_no_such_loss_is_told_before_any_work(image_folder: Path, tmp_path: Path) -> None:
    wrong = "torch.nn:BCEWithLogitsLoss"  # takes labels (B, C) alone
    for command in (("gradients", "--losses", wrong, "-o", tmp_path / "g.csv"),
                    ("compare", image_folder, "--methods", f"ce,{wrong}", "-o", tmp_path / "study", "--folds", 2, *OPTIONS)):  # fmt: skip
        code, _, errors = run(*command)
        assert code == 2
        assert f"expected {wrong} to take logits" in errors


def test_a_loss_of_ones_own_goes_through_a_study(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_loss.py").write_text(OWN, encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    text = "own_loss:Doubled[gamma=1]"
    code, output, errors = run(
        "compare", image_folder, "--methods", f"{text},ce", "--folds", 2, "--epochs", 2, "-o", "study", "--quiet",
        *OPTIONS, "--set", STEP_BY_STEP,
    )  # fmt: skip
    assert (code, errors) == (0, "")
    assert text in output
    assert {folder.name for folder in Path("study/runs").iterdir()} == {"own_loss@~doubled--gamma-1", "ce"}
    scores = {line.split()[1]: line.split()[2] for line in output.splitlines() if line[:1].isdigit()}
    assert scores[text] == scores["ce"], "gamma 1 is cross-entropy"
    code, _, errors = run("predict", "study", image_folder / "images", "--method", text, "-o", "p.csv")
    assert code == 0, errors
    assert "link softmax" in errors
    assert run("report", "study")[0] == 0
    assert "own_loss:Doubled" in Path("study/report.html").read_text(encoding="utf-8")
