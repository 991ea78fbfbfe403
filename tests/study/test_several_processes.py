"""One process and two (over gloo, on the CPU) give the same study, also in parts, and when one of them was killed;
tametail launch prints and ends as one."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple

import numpy as np
import pytest
from typer.testing import CliRunner

from fixtures.forked import fork_server
from fixtures.plain_figures import figures_not_rendered
from tametail.cli.app import app
from tametail.predictions.single_label import read_predictions
from tametail.training.checkpointing.checkpoint import CheckpointStore
from tametail.training.checkpointing.checkpointer import SECONDS, checkpoint_directory

pytestmark = pytest.mark.slow

STUDY = "--methods ce,ce+la,alpa+drw --recipe quick --folds 2 --only-folds 1 --epochs 3 --batch-size 16 --backbone test_vit --weights none"
STUDY += " --set ema_decay=0.5 --set precision=float32 --image-size 32"
PARTS = "--micro-batch 3"
PLACE = "seed0-fold1"
# tametail launch; its processes are forked from this one, which has imported what they need. What they do is patched before.
LAUNCH = """
import os, signal, sys, time
from dataclasses import replace
import torch.distributed.launcher.api as launcher
from fixtures.plain_figures import figures_not_rendered
from tametail.__main__ import main
from tametail.training.step import Stepper

STEP, WHAT, *command = sys.argv[1:]
steps, real, start = 0, Stepper.update, launcher.elastic_launch

def update(*given):
    global steps
    steps += 1
    if steps == int(STEP):
        exec(WHAT)
    return real(*given)

def work(*words):
    # Of forked processes, unlike new ones, PyTorch reports only one that it finds ended: it must be the first.
    end, os._exit = os._exit, lambda code: (time.sleep(code == 1), end(code))
    sys.argv[1:] = words[3:]  # after -P -m tametail
    main()

Stepper.update = update
launcher.elastic_launch = lambda config, _: start(replace(config, start_method="fork"), work)
sys.argv[1:] = ["launch", "--processes", "2", *command]
with figures_not_rendered():
    main()
"""
KILL_ONE = "if os.environ['RANK'] == '1': os.kill(os.getpid(), signal.SIGKILL)"
STOP_ALL = "if os.environ['RANK'] == '1': os.kill(os.getppid(), signal.SIGTERM)"


def launch(command: list[object], directory: Path, step: int = 0, what: str = "") -> CompletedProcess[str]:
    """Run a command in two processes, which do something in one of their steps."""
    script = ["-c", LAUNCH, step, what, *command]
    return fork_server().run(*script, directory=directory, path=[Path(__file__).parents[1]])


class Studies(NamedTuple):
    """Folders of studies that must be the same, and what was printed."""

    one: Path  # by one process
    two: Path  # by two processes, of which one was killed
    resumed: Path  # begun by the two, and resumed by one after the kill
    killed: CompletedProcess[str]
    finished: CompletedProcess[str]

    def runs(self, method: str) -> list[Path]:
        """The folders of a run."""
        return [folder / "runs" / method / PLACE for folder in (self.one, self.two, self.resumed)]


@pytest.fixture(scope="module")
def studies(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Studies:
    """One process's study, and that of two in parts of 3 images, of which one was killed in training.

    The parts' gradients are summed over processes once; what the same command does after the kill, it does from the
    checkpoint that was there. All save after every step.
    """
    folder = tmp_path_factory.mktemp("processes")
    one, two, resumed = folder / "1", folder / "2", folder / "resumed"
    command = ["compare", image_folder, "-o", two, *STUDY.split(), *PARTS.split()]
    with pytest.MonkeyPatch.context() as patch, figures_not_rendered():
        patch.setenv(SECONDS, "0")
        alone = CliRunner().invoke(app, ["compare", str(image_folder), "-o", str(one), *STUDY.split()])
        assert alone.exit_code == 0, alone.output
        killed = launch(command, folder, 4, KILL_ONE)
        shutil.copytree(two, resumed)
        run = resumed / "runs/ce" / PLACE
        assert not run.exists()
        found = CheckpointStore(checkpoint_directory(run)).load()
        assert found is not None
        assert (found.state["epoch"], found.state["step"]) > (0, 0)
        again = CliRunner().invoke(app, ["resume", str(resumed)])
        assert again.exit_code == 0, again.output
        finished = launch(command, folder)
    assert not checkpoint_directory(two / "runs/ce" / PLACE).exists()
    return Studies(one, two, resumed, killed, finished)


@pytest.mark.parametrize("method", ["ce", "ce+la", "alpa+drw"])
def test_two_processes_give_the_predictions_of_one(studies: Studies, method: str) -> None:
    one, *others = (read_predictions(run / "predictions.parquet") for run in studies.runs(method))
    for other in others:
        assert one.image.tolist() == other.image.tolist()
        assert np.abs(one.logits - other.logits).max() <= 1e-5 * np.abs(one.logits).max()


@pytest.mark.parametrize("method", ["ce", "alpa+drw"])
def test_two_processes_write_one_history(studies: Studies, method: str) -> None:
    one, *others = (
        np.genfromtxt(run / "history.csv", delimiter=",", skip_header=1) for run in studies.runs(method)
    )
    assert len(one) == 3
    for other in others:
        np.testing.assert_allclose(one, other, rtol=1e-5)
    assert (studies.two / "report.html").is_file()


def test_the_parts_are_as_asked_for(studies: Studies) -> None:
    described = [json.loads((run / "run.json").read_text(encoding="utf-8")) for run in studies.runs("ce")]
    assert [each["micro_batch"] for each in described] == [None, 3, 3]
    assert [each["environment"]["processes"] for each in described] == [1, 2, 1]


def test_results_are_printed_once(studies: Studies) -> None:
    assert studies.finished.returncode == 0
    lines = studies.finished.stdout.splitlines()
    assert sorted(line.split()[1] for line in lines[2:5]) == ["alpa+drw", "ce", "ce+la"]
    assert lines[5:] == [f"Report: {studies.two / 'report.html'}"]
    assert studies.finished.stderr.count("3 runs (0 already finished)") == 1


def test_a_killed_process_ends_the_others_and_is_named(studies: Studies) -> None:
    assert studies.killed.returncode == 128 + signal.SIGKILL
    first, second = [line for line in studies.killed.stderr.splitlines() if "Error" in line]
    assert first.startswith("Error: the process of rank 1 (of 2) was killed")
    assert first.endswith("repeat the command to resume.")
    assert second == "Error: the process of rank 1 was ended by SIGKILL; repeat the command to resume"
    assert "Traceback" not in studies.killed.stderr


def test_a_signal_stops_all_processes_after_they_have_saved(image_folder: Path, tmp_path: Path) -> None:
    command = ["compare", image_folder, "-o", tmp_path / "study", *STUDY.split()]
    done = launch(command, tmp_path, 3, STOP_ALL)
    assert done.returncode == 128 + signal.SIGTERM
    said = done.stderr.splitlines()
    assert said.count("Saving ... (once more to quit at once)") == 1
    assert said[-1] == "Interrupted. Finished work is saved; repeat the command to continue."
    assert CheckpointStore(checkpoint_directory(tmp_path / "study/runs/ce" / PLACE)).load() is not None
