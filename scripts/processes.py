"""How much results depend on the number of processes, with batch normalisation and without; prints a Markdown table.

    python scripts/processes.py [--processes 1,2,4] [--batch-size 64]

Fine-tunes on the demo set, on the CPU, by `tametail launch`. Batch normalisation uses the share of the batch that a process
has; everything else is computed over the whole batch.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tametail.predictions.single_label import Predictions, read_predictions

STUDY = "demo --recipe quick --methods ce --folds 2 --only-folds 0 --epochs 8 --set min_steps=1 --weights none --image-size 64"
BACKBONES = {"resnet10t": "batch", "test_vit": "layer"}  # and their normalisation


def predictions(processes: int, backbone: str, batch_size: str, folder: Path) -> Predictions:
    """Out-of-fold predictions of a network that this number of processes has trained."""
    out = folder / f"{backbone}-{processes}"
    launch = ["launch", "--processes", str(processes), "compare", *STUDY.split(), "--device", "cpu"]
    options = ["--threads", "1", "--backbone", backbone, "--batch-size", batch_size, "-o", str(out)]
    subprocess.run([sys.executable, "-m", "tametail", *launch, *options], check=True, stdout=sys.stderr)
    return read_predictions(out / "runs/ce/seed0-fold0/predictions.parquet")


def recall(found: Predictions) -> float:
    """Balanced accuracy."""
    right = found.logits.argmax(axis=1) == found.target
    return float(np.mean([right[found.target == label].mean() for label in np.unique(found.target)]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--processes", default="1,2,4")
    parser.add_argument("--batch-size", default="64")
    asked = parser.parse_args()
    print(
        "| network | normalisation | processes | largest difference of logits | mean | other class, % | balanced accuracy, % |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for backbone, kind in BACKBONES.items():
            first: Predictions | None = None
            for processes in map(int, asked.processes.split(",")):
                found = predictions(processes, backbone, asked.batch_size, Path(folder))
                first = first or found
                apart = np.abs(found.logits - first.logits)
                other = 100 * np.mean(found.logits.argmax(axis=1) != first.logits.argmax(axis=1))
                numbers = f"{apart.max():.2g} | {apart.mean():.2g} | {other:.1f} | {100 * recall(found):.1f}"
                print(f"| {backbone} | {kind} | {processes} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
