"""tametail evaluate on a large file of predictions, compared with pandas and scikit-learn: time and peak memory.

    python benchmarks/evaluate_large.py [--images 1000000] [--classes 100] [--quick] [-o docs/results/evaluate-large.md]

1,000,000 images × 100 classes, imbalanced, about three images per patient, as Parquet (float32) and as CSV (six decimals). Each
program runs in a fresh process, one after the other; the peak is that of the process as the operating system counts it. The
rival reads the file with pandas and computes balanced accuracy, macro F1 and the one-vs-rest AUROC of each class with
scikit-learn: no interval, no average precision, no calibration and no report.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

# The peak of a process that Python starts includes what Python held then: arrays are in other processes only.
TIMES, GIGABYTES = 4.0, 3.0  # at most, of the rival's time, and of memory
IMBALANCE = 500  # images of the most frequent class for one of the rarest
DECIMALS = 6  # of the CSV
BLOCK = 50_000  # images that are written at once
AGREEMENT = 1e-4  # of the two programs' metrics


def write_files(folder: Path, images: int, classes: int, seed: int = 0) -> None:
    """Predictions whose errors are correlated within a patient, as predictions.parquet and predictions.csv."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    share = IMBALANCE ** -np.linspace(0, 1, classes)
    target = rng.choice(classes, images, p=share / share.sum())
    patients = max(1, images // 3)
    group, skill = rng.integers(0, patients, images), rng.normal(size=patients)
    names = [f"class{index:03}" for index in range(classes)]
    texts = [(name, pa.string()) for name in ("image", "label", "group")]

    def schema(kind: pa.DataType) -> pa.Schema:
        return pa.schema([*texts, *((f"prob_{name}", kind) for name in names)])

    with (
        pq.ParquetWriter(folder / "predictions.parquet", schema(pa.float32())) as parquet,
        pyarrow.csv.CSVWriter(folder / "predictions.csv", schema(pa.float64())) as text,
    ):
        for start in range(0, images, BLOCK):
            rows = np.arange(start, min(start + BLOCK, images))
            logits = 1.5 * rng.normal(size=(len(rows), classes))
            logits[np.arange(len(rows)), target[rows]] += 4 + skill[group[rows]]
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            columns = [
                [f"images/{index:08}.png" for index in rows],
                [names[code] for code in target[rows]],
                [f"patient{code:07}" for code in group[rows]],
            ]
            parquet.write_table(pa.table([*columns, *p.astype(np.float32).T], schema=schema(pa.float32())))
            text.write_table(pa.table([*columns, *p.round(DECIMALS).T], schema=schema(pa.float64())))


def rival(path: Path) -> dict[str, object]:
    """What is compared: pandas and scikit-learn, without anything else."""
    import numpy as np
    import pandas as pd
    from sklearn import metrics

    started = time.perf_counter()
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    names = [column.removeprefix("prob_") for column in frame.columns if column.startswith("prob_")]
    target = pd.Categorical(frame["label"], categories=names).codes
    p = frame[[f"prob_{name}" for name in names]].to_numpy()
    read = time.perf_counter() - started
    predicted = p.argmax(axis=1)
    found: dict[str, object] = {
        "balanced_accuracy": metrics.balanced_accuracy_score(target, predicted),
        "macro_f1": metrics.f1_score(target, predicted, average="macro"),
        "auroc": [float(metrics.roc_auc_score(target == code, p[:, code])) for code in np.unique(target)],
    }
    return found | {"read": read}


def ours(evaluation: Path) -> dict[str, object]:
    """The same metrics of an evaluation of tametail."""
    (model,) = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))["methods"]
    found = model["out_of_fold"]
    return {
        "balanced_accuracy": found["metrics"]["balanced_accuracy"]["value"],
        "macro_f1": found["metrics"]["macro_f1"]["value"],
        "auroc": [one["metrics"]["auroc"]["value"] for one in found["classes"] if one["n"]],
    }


class Measured(NamedTuple):
    """Seconds and peak of a process, and what it printed."""

    seconds: float
    gigabytes: float
    printed: str


def run(*command: object) -> Measured:
    """Run a command in a fresh process."""
    with tempfile.TemporaryFile("w+") as printed:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, *map(str, command)], stdout=printed)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(map(str, command))} failed with exit code {process.returncode}")
        printed.seek(0)
        unit = 1 if sys.platform == "darwin" else 1024
        return Measured(seconds, used.ru_maxrss * unit / 1e9, printed.read())


def difference(one: dict[str, object], other: dict[str, object]) -> float:
    """Largest difference of any metric."""
    flat = [
        [content["balanced_accuracy"], content["macro_f1"], *content["auroc"]]  # type: ignore[misc]
        for content in (one, other)
    ]
    return max(abs(a - b) for a, b in zip(*flat, strict=True))


def report(folder: Path, images: int, classes: int) -> Iterator[str]:
    """The whole page, line by line, as it is measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "pandas", "pyarrow", "scikit-learn"))
    yield "# A large file of predictions\n"
    yield "    python benchmarks/evaluate_large.py    (make bench-evaluate-large)\n"
    yield (
        f"`tametail evaluate` on {images:,} images × {classes} classes, with all intervals, calibration and the report, compared "
        f"with reading the file with pandas and computing balanced accuracy, macro F1 and the AUROC of each class with "
        f"scikit-learn. {os.cpu_count()} cores, {platform.processor() or platform.machine()}; Python "
        f"{platform.python_version()}, {versions}.\n"
    )
    run(__file__, "write", folder, images, classes)
    yield "| file | size | tametail evaluate | peak | pandas and scikit-learn | of which reading | peak | × time |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    missed, furthest = [], 0.0
    for name in ("predictions.parquet", "predictions.csv"):
        path, out = folder / name, folder / f"evaluation-of-{name}"
        theirs = run(__file__, "rival", path)
        mine = run("-m", "tametail", "evaluate", path, "-o", out)
        expected = json.loads(theirs.printed)
        furthest = max(furthest, difference(ours(out), expected))
        times = mine.seconds / theirs.seconds
        missed += [name] * (times > TIMES or mine.gigabytes > GIGABYTES)
        yield (
            f"| {name} | {path.stat().st_size / 1e9:.2f} GB | {mine.seconds:.1f} s | {mine.gigabytes:.2f} GB | "
            f"{theirs.seconds:.1f} s | {expected['read']:.1f} s | {theirs.gigabytes:.2f} GB | {times:.2f} |"
        )
    yield f"\nThe metrics of both differ by at most {furthest:.1g}; at most {AGREEMENT:g} is required."
    met = not missed and furthest <= AGREEMENT
    yield (
        f"Required: at most {TIMES:g} times as long and {GIGABYTES:g} GB; {'met' if met else 'MISSED'}. "
        f"Load of other processes when it ended: {os.getloadavg()[0]:.1f}."
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="20,000 images, to see that it runs")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for line in report(Path(folder), 20_000 if given.quick else given.images, given.classes):
            print(line, flush=True)
            lines.append(line)
    if given.output:
        given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if "MISSED" not in lines[-1] else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        write_files(Path(sys.argv[2]), *map(int, sys.argv[3:5]))
    elif sys.argv[1:2] == ["rival"]:
        print(json.dumps(rival(Path(sys.argv[2]))))
    else:
        sys.exit(main())
