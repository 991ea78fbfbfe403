"""How far workers are: each appends to a file of its unit, which the coordinator and `tametail status` read.

Nothing depends on these files but what is shown: what is finished is seen in the folders of the runs.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tametail.core.atomic import make_folder
from tametail.core.errors import explain_save_error
from tametail.core.regular_file import regular
from tametail.storage.locks import scheduler_job
from tametail.storage.study_file import WORK_FOLDER
from tametail.training.history import EpochRecord

_SECONDS = 5.0  # between two lines of a training
_TAIL_BYTES = 2**16


def progress_file(study: Path, unit: int) -> Path:
    """The file in which the worker of a unit says how far it is."""
    return study / WORK_FOLDER / f"unit-{unit}.jsonl"


class ProgressFile:
    """Progress of the trainings of a unit, as a `tametail.training.trainer.Callback`, and warnings.

    Raises:
        TametailError: it cannot be written.
    """

    def __init__(self, study: Path, unit: int) -> None:
        self._path = progress_file(study, unit)
        self._title, self._steps, self._last = "", 0, -math.inf
        with explain_save_error(self._path):
            make_folder(self._path.parent)
            worker = {
                "host": platform.node(),
                "process": os.getpid(),
                "job": scheduler_job(),
            }
            self._append({name: value for name, value in worker.items() if value})

    def starts(self, title: str) -> None:
        """Name the training that the next steps are of."""
        self._title = title
        self._append({"training": title})

    def warn(self, text: str) -> None:
        """Pass a warning to whoever reads."""
        self._append({"warning": text})

    def begin(self, epochs: int, steps_per_epoch: int) -> None:
        self._steps = epochs * steps_per_epoch

    def step(self, epoch: int, step: int, loss: float, lr: float, images: int) -> None:
        pass

    def epoch(self, record: EpochRecord) -> None:
        if time.monotonic() - self._last >= _SECONDS:
            self._last = time.monotonic()
            loss = {} if math.isnan(record.loss) else {"loss": float(f"{record.loss:.4g}")}
            self._append({"training": self._title, "step": record.step, "steps": self._steps, **loss})

    def _append(self, entry: dict[str, Any]) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **entry}
        with suppress(OSError), self._path.open("a", encoding="utf-8") as handle:  # for display only
            handle.write(json.dumps(line, ensure_ascii=False) + "\n")


@dataclass
class ProgressReader:
    """Reads what workers have appended since the last look."""

    study: Path
    _read: dict[str, int] = field(default_factory=dict)

    def new_entries(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Numbers of units with their new entries; what is damaged or incomplete is left out."""
        for path in sorted((self.study / WORK_FOLDER).glob("unit-*.jsonl")):
            with suppress(OSError, ValueError):
                unit = int(path.stem.removeprefix("unit-"))
                start = self._read.get(path.name, 0)
                size = regular(path).stat().st_size
                if size == start:
                    continue
                with path.open("rb") as handle:
                    handle.seek(max(start, size - _TAIL_BYTES))
                    content = handle.read(_TAIL_BYTES)
                end = content.rfind(b"\n") + 1
                self._read[path.name] = size - len(content) + end
                for line in content[:end].splitlines():
                    with suppress(ValueError):
                        entry = json.loads(line)
                        if isinstance(entry, dict):
                            yield unit, entry
