"""One process and two (over gloo, on the CPU) give the same study, also in parts, and when one of them was killed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tametail.__main__
from fixtures.forked import fork_server
from fixtures.plain_figures import figures_not_rendered
from tametail.cli.app import app
from tametail.predictions.single_label import read_predictions
from tametail.training.checkpointing.checkpoint import CheckpointStore
from tametail.training.checkpointing.checkpointer import SECONDS, checkpoint_directory

STUDY = "--methods ce,ce+la,alpa+drw --recipe quick --folds 2 --only-folds 1 --epochs 3 --batch-size 16 --backbone test_vit --weights none"
STUDY += " --set ema_decay=0.5 --set precision=float32 --image-size 32"
PARTS = "--micro-batch 3"
PLACE = "seed0-fold1"
# torchrun twice: the second of its two processes is killed in its fourth step, and the command is repeated. They are
# forked from this process, which has imported what they need.
TORCHRUN = """
import os, shutil, signal, socket, sys
import torch.distributed.run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from fixtures.plain_figures import figures_not_rendered
from tametail.training.step import Stepper

script, out, *command = sys.argv[1:]
steps, real = 0, Stepper.update

def update(*given):
    global steps
    steps += 1
    if steps == 4 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given)

def run():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--nproc-per-node=2", "--master-addr=127.0.0.1", f"--master-port={port}"]
    with figures_not_rendered():
        torch.distributed.run.main([*where, "--start-method=fork", "--run-path", script, *command])

Stepper.update = update
try:
    run()
except ChildFailedError as error:
    assert error.get_first_failure()[1].exitcode == -signal.SIGKILL, error
else:
    raise SystemExit("the first run was not interrupted")
shutil.copytree(out, out + "-killed")
Stepper.update = real
run()
"""


@pytest.fixture(scope="module")
def studies(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One process's study, and that of two in parts of 3 images, of which one was killed in training.

    The parts' gradients are summed over processes once; what the same command does after the kill, it does from the
    checkpoint that was there. All save after every step.
    """
    folder = tmp_path_factory.mktemp("processes")
    one, two = folder / "1", folder / "2"
    with pytest.MonkeyPatch.context() as patch, figures_not_rendered():
        patch.setenv(SECONDS, "0")
        alone = CliRunner().invoke(app, ["compare", str(image_folder), "-o", str(one), *STUDY.split()])
        assert alone.exit_code == 0, alone.output
        command = ["compare", image_folder, "-o", two, *STUDY.split(), *PARTS.split()]
        script = ["-c", TORCHRUN, tametail.__main__.__file__, two]
        done = fork_server().run(*script, *command, directory=folder, path=[Path(__file__).parents[1]])
    assert done.returncode == 0, done.stderr
    killed = folder / "2-killed" / "runs/ce" / PLACE
    assert not killed.exists()
    found = CheckpointStore(checkpoint_directory(killed)).load()
    assert found is not None
    assert (found.state["epoch"], found.state["step"]) > (0, 0)
    assert not checkpoint_directory(two / "runs/ce" / PLACE).exists()
    return one, two


def runs(studies: tuple[Path, Path], method: str) -> list[Path]:
    return [study / "runs" / method / PLACE for study in studies]


@pytest.mark.parametrize("method", ["ce", "ce+la", "alpa+drw"])
def test_two_processes_give_the_predictions_of_one(studies: tuple[Path, Path], method: str) -> None:
    one, two = (read_predictions(run / "predictions.parquet") for run in runs(studies, method))
    assert one.image.tolist() == two.image.tolist()
    assert np.abs(one.logits - two.logits).max() <= 1e-5 * np.abs(one.logits).max()


@pytest.mark.parametrize("method", ["ce", "alpa+drw"])
def test_two_processes_write_one_history(studies: tuple[Path, Path], method: str) -> None:
    one, two = (
        np.genfromtxt(run / "history.csv", delimiter=",", skip_header=1) for run in runs(studies, method)
    )
    assert len(one) == 3
    np.testing.assert_allclose(one, two, rtol=1e-5)
    assert (studies[1] / "report.html").is_file()


def test_the_parts_are_as_asked_for(studies: tuple[Path, Path]) -> None:
    described = [json.loads((run / "run.json").read_text(encoding="utf-8")) for run in runs(studies, "ce")]
    assert [each["micro_batch"] for each in described] == [None, 3]
    assert [each["environment"]["processes"] for each in described] == [1, 2]
