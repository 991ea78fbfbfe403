"""A recipe as YAML that explains itself: every field with its value and what it means. It can be read back."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator

import yaml
from pydantic import BaseModel

from tametail.training.recipe import Recipe

_WIDTH = 100


def recipe_yaml(recipe: Recipe) -> str:
    """YAML that `load_recipe` reads, each field below a comment with its meaning."""
    return "\n".join(_lines(recipe, "")) + "\n"


def field_meanings(model: type[BaseModel]) -> dict[str, str]:
    """What each field means, by the ``Attributes`` of the docstring; empty where that says nothing."""
    _, _, listed = inspect.cleandoc(model.__doc__ or "").partition("Attributes:\n")
    meanings: dict[str, str] = {}
    for entry in re.split(r"\n(?= {4}\w+:)", listed.split("\n\n")[0]):
        name, _, meaning = entry.strip().partition(":")
        meanings[name] = " ".join(meaning.split()).replace("``", "")
    return {name: meanings.get(name, "") for name in model.model_fields}


def _lines(settings: BaseModel, indent: str) -> Iterator[str]:
    meanings = field_meanings(type(settings))
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if meanings[name]:
            for line in textwrap.wrap(meanings[name], _WIDTH - len(indent)):
                yield f"{indent}# {line}"
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, f"{indent}  ")
        else:
            plain = list(value) if isinstance(value, tuple) else value
            written = yaml.safe_dump([plain], default_flow_style=True, width=10**6, allow_unicode=True)
            yield f"{indent}{name}: {written.strip()[1:-1]}"
