"""What the report of a study is asked for beyond the usual; remembered in report.json beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tametail.core.atomic import write_atomically
from tametail.core.errors import DataError

NAME = "report.json"


@dataclass(frozen=True)
class ReportOptions:
    """What is asked for.

    Attributes:
        images: the page shows images.
        by: columns carried along with the images, to evaluate by.
        operating: classes, each with the sensitivity that is required for it.
        ordered: the classes are grades, in the order of their names.
    """

    images: bool = True
    by: tuple[str, ...] = ()
    operating: tuple[tuple[str, float], ...] = ()
    ordered: bool = False


def save_options(directory: Path, asked: ReportOptions) -> None:
    """Keep it for later reports.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(directory / NAME, json.dumps(asdict(asked), ensure_ascii=False) + "\n")


def load_options(directory: Path) -> ReportOptions:
    """What was asked for before.

    Raises:
        DataError: it cannot be read.
    """
    path = directory / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return ReportOptions(
            bool(content.get("images", True)),
            tuple(map(str, content.get("by", ()))),
            tuple((str(name), float(sensitivity)) for name, sensitivity in content.get("operating", ())),
            bool(content.get("ordered", False)),
        )
    except FileNotFoundError:
        return ReportOptions()
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f"expected {path} to say what the report is asked for, but it cannot be read: {error}; remove it, and ask again"
        ) from error
