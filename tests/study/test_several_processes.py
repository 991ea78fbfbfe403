"""One process and two (over gloo, on the CPU) give the same study, also in parts, and when one of them was killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tametail.predictions.single_label import read_predictions
from tametail.training.checkpointing.checkpoint import CheckpointStore
from tametail.training.checkpointing.checkpointer import SECONDS, checkpoint_directory

STUDY = "--methods ce,ce+la,alpa+drw --recipe quick --folds 2 --only-folds 1 --epochs 3 --batch-size 16 --backbone test_vit --weights none"
STUDY += " --set ema_decay=0.5 --set precision=float32 --image-size 160"
PARTS = "--micro-batch 3"
PLACE = "seed0-fold1"


def start(images: Path, out: Path, processes: int, options: str = "") -> subprocess.Popen[str]:
    """The command, which saves after every step."""
    launcher = [sys.executable]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        launcher += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
        launcher += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    command = [*launcher, "-m", "tametail", "compare", str(images), "-o", str(out), *STUDY.split()]
    environment = os.environ | {"OMP_NUM_THREADS": "1", SECONDS: "0"}
    return subprocess.Popen(
        [*command, *options.split()],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def studies(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One process's study, and that of two in parts of 3 images, of which one was killed in training.

    The parts' gradients are summed over processes once; what the same command does after the kill, it does from the
    checkpoint that was there.
    """
    folder = tmp_path_factory.mktemp("processes")
    one, two = folder / "1", folder / "2"
    finish(start(image_folder, one, 1))
    kept = checkpoint_directory(two / "runs/ce" / PLACE)
    begun = start(image_folder, two, 2, PARTS)
    while not list(kept.glob("checkpoint-*")):
        assert begun.poll() is None, begun.communicate()
        time.sleep(0.01)
    second = next(p for p in psutil.Process(begun.pid).children() if p.environ()["RANK"] == "1")
    second.send_signal(signal.SIGKILL)
    begun.communicate(timeout=120)
    assert begun.returncode != 0
    assert not (two / "runs/ce" / PLACE).exists()
    found = CheckpointStore(kept).load()
    assert found is not None
    assert (found.state["epoch"], found.state["step"]) > (0, 0)
    finish(start(image_folder, two, 2, PARTS))
    assert not kept.exists()
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
