"""Compare the average precision of a study of demo-multilabel, where a fifth of the labels is unknown, with that by all true labels.

    tametail compare demo-multilabel --methods asl,alpa,bce --repeats 1 -o runs/demo-labels
    python scripts/demo_truth.py runs/demo-labels

Exits with 1 if the average precision by the true labels is outside the interval of more than two of the labels of a method.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from tametail.data.demo.films import FINDINGS, list_films
from tametail.evaluation import evaluate_labels
from tametail.predictions.multi_label import LabelPredictions
from tametail.report.study.runs import find_runs
from tametail.storage.study_file import read_study_file

MOST_OUTSIDE = 2  # of 30 intervals of 95 %


def main() -> int:
    """Print a line per method."""
    directory = Path(sys.argv[1])
    findings = {film.image: film.findings for film in list_films(0)}

    def with_truth(table: LabelPredictions) -> LabelPredictions:
        labels = [[name in findings[image] for name in FINDINGS] for image in table.image.tolist()]
        return replace(table, labels=np.array(labels), unknown=None)

    most = 0
    for runs in find_runs(directory, read_study_file(directory)):
        known = evaluate_labels(runs.label_replicates)
        true = evaluate_labels([with_truth(table) for table in runs.label_replicates])
        pairs = [(known["average_precision", name], true["average_precision", name]) for name in FINDINGS]
        outside = sum(not given.low <= one.value <= given.high for given, one in pairs)
        most = max(most, outside)
        score = known.score
        print(
            f"{runs.method}: mAP of known labels {100 * score.value:.1f} ({100 * score.low:.1f} to {100 * score.high:.1f}), of all true "
            f"labels {100 * true.score.value:.1f}, n = {score.n}; AP of {len(FINDINGS) - outside} of {len(FINDINGS)} labels inside"
        )
    return int(most > MOST_OUTSIDE)


if __name__ == "__main__":
    sys.exit(main())
