"""Recipes as commented YAML, which can be loaded again."""

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
    """YAML for `load_recipe`, with a comment above each field that describes it."""
    return "\n".join(_lines(recipe, "")) + "\n"


def field_descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Description of each field from the ``Attributes`` of the docstring; empty where there is none."""
    _, _, listed = inspect.cleandoc(model.__doc__ or "").partition("Attributes:\n")
    descriptions: dict[str, str] = {}
    for entry in re.split(r"\n(?= {4}\w+:)", listed.split("\n\n")[0]):
        name, _, description = entry.strip().partition(":")
        descriptions[name] = " ".join(description.split()).replace("``", "")
    return {name: descriptions.get(name, "") for name in model.model_fields}


def _lines(settings: BaseModel, indent: str) -> Iterator[str]:
    descriptions = field_descriptions(type(settings))
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if descriptions[name]:
            for line in textwrap.wrap(descriptions[name], _WIDTH - len(indent)):
                yield f"{indent}# {line}"
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, f"{indent}  ")
        else:
            plain = list(value) if isinstance(value, tuple) else value
            written = yaml.safe_dump([plain], default_flow_style=True, width=10**6, allow_unicode=True)
            yield f"{indent}{name}: {written.strip()[1:-1]}"
