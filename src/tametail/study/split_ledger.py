"""The ledger of splits: which test sets were drawn from the same images before, and which of them were evaluated.

It lies in the cache folder, one file for each set of images, and holds no paths. Images are known by their content, so that neither
names nor folders matter. It is a memory, no lock: without it, or where it is damaged, a study is made as ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tametail.core.atomic import make_folder
from tametail.core.errors import TametailError
from tametail.data import Splits, cache_dir
from tametail.storage.json_lines import append_line, read_lines


def other_splits(content: Sequence[str], splits: Splits) -> dict[str, Any]:
    """What the ledger holds about the images of a study.

    Args:
        content: digests of the bytes of the N images.
        splits: of the study.

    Returns:
        Number of other test sets (``splits``), their ``seeds``, how many of them were ``evaluated``, and whether the ``same``
        test set was; empty if none of them was drawn.
    """
    ledger, test = _place(content, splits)
    entries: list[dict[str, Any]] = []
    with suppress(OSError, ValueError):
        entries = [
            entry for entry in read_lines(ledger, skip_damaged=True) if isinstance(entry.get("test"), str)
        ]
    others = {entry.get("test"): entry.get("seed") for entry in entries if entry.get("test") != test}
    evaluated = {entry.get("test") for entry in entries if entry.get("evaluated")}
    if not others and test not in evaluated:
        return {}
    seeds = sorted({seed for seed in others.values() if isinstance(seed, int)})
    return {
        "splits": len(others),
        "seeds": seeds,
        "evaluated": len(evaluated & set(others)),
        "same": test in evaluated,
    }


def record_split(content: Sequence[str], splits: Splits, study: Path, *, evaluated: bool = False) -> None:
    """Record the test set of a study, as far as the ledger can be written.

    Args:
        content, splits: see `other_splits`.
        study: its folder; only the name is kept.
        evaluated: whether it is evaluated now.
    """
    ledger, test = _place(content, splits)
    seed = None if splits.given else splits.seed
    entry = {"study": study.resolve().name, "seed": seed, "test": test, "evaluated": evaluated}
    with suppress(OSError, ValueError, TametailError):
        make_folder(ledger.parent)
        append_line(ledger, entry)


def _place(content: Sequence[str], splits: Splits) -> tuple[Path, str]:
    """The file of these images, and the name of their test set."""
    test = (digest for digest, part in zip(content, splits.part, strict=True) if part == "test")
    return cache_dir() / "splits" / f"{_digest(content)}.jsonl", _digest(test)


def _digest(digests: Iterable[str]) -> str:
    """Digest of contents in any order."""
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()[:40]
