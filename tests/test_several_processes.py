"""One process and two (DDP over gloo, on the CPU) give the same study."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tametail.predictions import read_predictions

STUDY = "--losses ce,ce+la,alpa+drw --recipe quick --folds 2 --only-folds 1 --epochs 1 --batch-size 16 --backbone test_vit --weights none"
STUDY += " --set ema_decay=0.5 --set precision=float32 --image-size 160"


def compare(images: Path, out: Path, processes: int) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        launcher += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
        launcher += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    command = [*launcher, "-m", "tametail", "compare", str(images), "-o", str(out), *STUDY.split()]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def studies(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("processes")
    for processes in (1, 2):
        done = compare(image_folder, folder / str(processes), processes)
        assert done.returncode == 0, done.stderr
    return folder / "1", folder / "2"


@pytest.mark.parametrize("loss", ["ce", "ce+la", "alpa+drw"])
def test_two_processes_give_the_predictions_of_one(studies: tuple[Path, Path], loss: str) -> None:
    one, two = (read_predictions(study / f"runs/{loss}/seed0-fold1/predictions.parquet") for study in studies)
    assert one.image.tolist() == two.image.tolist()
    assert np.abs(one.logits - two.logits).max() <= 1e-5 * np.abs(one.logits).max()


def test_two_processes_write_one_history(studies: tuple[Path, Path]) -> None:
    one, two = (
        np.genfromtxt(study / "runs/ce/seed0-fold1/history.csv", delimiter=",", skip_header=1)
        for study in studies
    )
    np.testing.assert_allclose(one, two, rtol=1e-5)
    assert (studies[1] / "report.html").is_file()
