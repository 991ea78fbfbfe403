"""Options of a study's report, saved in report.json in its folder so that later reports keep them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tametail.core.atomic import write_atomically
from tametail.core.errors import DataError, UsageError
from tametail.core.json_file import read_json
from tametail.evaluation.conformal import DEFAULT_COVERAGE, checked_coverage
from tametail.predictions.by_group import PredictBy, check_predict_by

OPTIONS_FILE = "report.json"


@dataclass(frozen=True)
class ReportOptions:
    """Options of a report.

    Attributes:
        images: whether the page shows images.
        by: columns of the image table that define subgroups.
        operating: classes, each with its required sensitivity.
        ordered: whether the classes are ordinal; None if they are where an order is given here or in the study.
        class_order: all classes from the lowest grade to the highest; empty for the order in the study.
        show: methods that the page shows first, besides the usual ones.
        predict_by: whether each image is evaluated, or each group, see `tametail.predictions.by_group`.
        coverage: of prediction sets, above 0 and below 1.
    """

    images: bool = True
    by: tuple[str, ...] = ()
    operating: tuple[tuple[str, float], ...] = ()
    ordered: bool | None = None
    class_order: tuple[str, ...] = ()
    show: tuple[str, ...] = ()
    predict_by: PredictBy = "image"
    coverage: float = DEFAULT_COVERAGE


def save_options(directory: Path, options: ReportOptions) -> None:
    """Save options for later reports.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(directory / OPTIONS_FILE, json.dumps(asdict(options), ensure_ascii=False) + "\n")


def load_options(directory: Path) -> ReportOptions:
    """Load the options of earlier reports, or the defaults.

    Raises:
        DataError: it cannot be read.
    """
    path = directory / OPTIONS_FILE
    try:
        content = read_json(path)
        ordered = content.get("ordered")
        return ReportOptions(
            bool(content.get("images", True)),
            tuple(map(str, content.get("by", ()))),
            tuple((str(name), float(sensitivity)) for name, sensitivity in content.get("operating", ())),
            None if ordered is None else bool(ordered),
            tuple(map(str, content.get("class_order", ()))),
            tuple(map(str, content.get("show", ()))),
            check_predict_by(str(content.get("predict_by", "image"))),
            checked_coverage(float(content.get("coverage", DEFAULT_COVERAGE))),
        )
    except FileNotFoundError:
        return ReportOptions()
    except (OSError, ValueError, AttributeError, TypeError, UsageError) as error:
        raise DataError(
            f"expected the options of a report in {path}, but it cannot be read: {error}; remove it, and give the options again"
        ) from error
