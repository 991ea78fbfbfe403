"""Size of the page and time of a report by methods × classes and by runs, on studies with made-up predictions.

    python benchmarks/report_size.py [--quick]

Time is to grow no faster than the number of methods × classes, or of runs: the ratio of two sizes is printed beside that of the
times. The studies are those of the tests (tests/fixtures/class_study.py), with ten training images of each class.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fixtures.class_study import write_study
from tametail.report import write_report

MEGABYTES = 5.0  # most of a page
SIZES = ((12, 50), (12, 100), (25, 100), (25, 200))  # methods, classes
RUNS = (250, 500, 1000)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for methods, classes in ((3, 5), (6, 10)) if quick else SIZES:
            study = Path(folder) / f"classes-{methods}-{classes}"
            names = [f"class {number:03}" for number in range(classes)]
            write_study(study, methods=_methods(methods), class_names=names, counts=[13] * classes)
            rows.append((f"{methods} methods × {classes} classes", methods * classes, *_measured(study)))
        print(_table("methods × classes", rows))
        rows = []
        for runs in (30, 60) if quick else RUNS:
            study = Path(folder) / f"runs-{runs}"
            write_study(study, methods=_methods(5), folds=5, seeds=range(runs // 25))
            rows.append((f"{runs} runs", runs, *_measured(study)))
        print(_table("runs", rows))


def _methods(count: int) -> tuple[str, ...]:
    """Methods with parameters, as names of losses are not enough."""
    return ("ce", *(f"focal[gamma={number}]" for number in range(1, count)))


def _measured(study: Path) -> tuple[float, float]:
    """Seconds of the second report, and megabytes of its page."""
    write_report(study, images=False)
    begin = time.perf_counter()
    page = write_report(study)
    return time.perf_counter() - begin, page.stat().st_size / 1e6


def _table(what: str, rows: list[tuple[str, int, float, float]]) -> str:
    lines = [
        f"| study | report | page | {what}, ratio to the first | time, ratio |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, size, seconds, megabytes in rows:
        ratios = f"{size / rows[0][1]:.2f} | {seconds / rows[0][2]:.2f}"
        much = "" if megabytes <= MEGABYTES else f" (more than {MEGABYTES:g})"
        lines.append(f"| {name} | {seconds:.1f} s | {megabytes:.2f} MB{much} | {ratios} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
