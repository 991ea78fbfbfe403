"""Read JSON of limited size and depth: a damaged or hostile file ends in an error that says what is wrong, not in a full memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tametail.core.regular_file import regular

MOST_BYTES = 16 * 2**20
MOST_LEVELS = 50


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: it is not JSON in UTF-8, or larger or deeper than any that is written.
    """
    return parse_json(read_limited(path).decode("utf-8"))


def read_limited(path: Path) -> bytes:
    """The bytes of a regular file; an `OSError` or `ValueError` as `read_json` raises them."""
    with regular(path).open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"expected at most {MOST_BYTES:,} bytes")
    return data


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, too deep, or has characters that cannot be written.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"expected at most {MOST_LEVELS} levels of nested values") from error
    level = [value]
    for _ in range(MOST_LEVELS):
        level = [inner for outer in level for inner in _inside(outer)]
    if level:
        raise ValueError(f"expected at most {MOST_LEVELS} levels of nested values")
    if "\\ud" in text.lower():  # half of a surrogate pair, which cannot be written as UTF-8
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
