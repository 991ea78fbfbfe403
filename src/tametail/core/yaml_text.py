"""Read YAML of limited size, depth and number of aliases, which would otherwise fill the memory or the stack."""

from __future__ import annotations

from typing import Any

import yaml

_MOST_CHARACTERS, _MOST_LEVELS, _MOST_ALIASES = 1_000_000, 20, 10


def parse_yaml(text: str) -> Any:
    """The value of a YAML text without tags.

    Raises:
        ValueError: it is not YAML, too large or deep, has many aliases, or one inside the value that it names.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"expected at most {_MOST_CHARACTERS:,} characters")
    try:
        _check(text)
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from error


def _check(text: str) -> None:
    open_anchors: list[str | None] = []
    aliases = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_anchors.append(event.anchor)
            if len(open_anchors) > _MOST_LEVELS:
                raise ValueError(f"expected at most {_MOST_LEVELS} levels of nested values")
        elif isinstance(event, yaml.CollectionEndEvent):
            open_anchors.pop()
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
            if aliases > _MOST_ALIASES or event.anchor in open_anchors:
                raise ValueError(
                    f"expected at most {_MOST_ALIASES} aliases, and none inside the value that it names"
                )
