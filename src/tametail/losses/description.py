"""Descriptions of losses, from the declarations, signature and docstring of their classes."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from tametail.losses.base import Loss
from tametail.losses.grammar import parameter_types, parse_loss
from tametail.losses.registry import list_losses, loss_class, loss_parameters

_COUNTS = (1, 1)
_WORDS = {
    float: "number",
    int: "whole number",
    bool: "true or false",
    str: "word",
    Any: "number, word, true, false or none",
    type(None): "none",
}


@dataclass(frozen=True)
class ParameterDescription:
    """A hyper-parameter that may be set in brackets."""

    name: str  # its name
    type: str  # the allowed values, in words
    required: bool  # whether it has no default
    default: Any  # its default; None also where there is none
    value: Any  # the value of the described loss
    meaning: str  # its description in the docstring, with the range


@dataclass(frozen=True)
class LossDescription:
    """A loss and its hyper-parameters."""

    loss: str  # canonical text, such as ``alpa[variant=pade]``
    summary: str  # one line
    formula: str  # one line of mathematics
    family: str  # ``softmax`` or ``sigmoid``
    head: str  # the classifier it expects: ``linear`` or ``normalised``
    link: str  # how logits become probabilities
    exact_link: bool  # whether these are the posteriors where the loss is at its minimum
    ceiling: float  # the largest probability that the link can return
    uses_class_counts: bool  # whether it needs or uses the training samples per class
    stochastic: bool  # whether two calls on the same batch may differ
    batchwise: bool  # whether a sample's loss may depend on the others of its batch
    parameters: tuple[ParameterDescription, ...]  # those that may be set in brackets
    use: str  # when to use it
    notes: tuple[str, ...]  # the other paragraphs of its docstring, and the rows of its tables
    reference: str  # the paper and the released code


def describe_loss(text: str) -> LossDescription:
    """Describe ``name`` or ``name[parameter=value,...]``.

    Raises:
        ValueError, TypeError: as :func:`parse_loss`.
    """
    spec = parse_loss(text)
    loss = spec.create(_COUNTS)
    link = loss.link
    sections = dict(_sections(loss_class(spec.name)))
    summary, *paragraphs = _paragraphs(sections.get("", "")) or [""]
    use = [paragraph for paragraph in paragraphs if paragraph.startswith("Use it")]
    return LossDescription(
        loss=spec.text,
        summary=summary,
        formula=loss.formula,
        family=loss.family,
        head=loss.head,
        link=link.name,
        exact_link=link.exact,
        ceiling=link.ceiling,
        uses_class_counts=loss.uses_class_counts or loss.tau != 0,
        stochastic=loss.stochastic,
        batchwise=loss.batchwise,
        parameters=tuple(_parameters(spec.name, loss, spec.params)),
        use=" ".join(use),
        notes=tuple(paragraph for paragraph in paragraphs if paragraph not in use),
        reference=" ".join(_paragraphs(sections.get("Reference", ""))),
    )


def _parameters(name: str, loss: Loss, given: Mapping[str, Any]) -> Iterator[ParameterDescription]:
    kind = loss_class(name)
    meanings = _arguments(kind)
    others = {"Loss": Loss} | {other.__name__: other for other in map(loss_class, list_losses())}
    signature = loss_parameters(kind)
    for parameter, declared in parameter_types(kind).items():
        default, meaning = signature[parameter].default, meanings.get(parameter, "")
        required = default is inspect.Parameter.empty
        elsewhere = re.match(r"see (\w+)", meaning)
        if elsewhere and elsewhere[1] in others:
            meaning = _arguments(others[elsewhere[1]]).get(parameter, meaning)
        yield ParameterDescription(
            name=parameter,
            type=type_in_words(declared),
            required=required,
            default=None if required else default,
            value=getattr(loss, parameter, given.get(parameter, None if required else default)),
            meaning=meaning,
        )


def type_in_words(kind: Any) -> str:
    """The allowed values of a parameter of this type, in words."""
    if get_origin(kind) in (Union, types.UnionType):
        options = [option for option in get_args(kind) if option not in (int, type(None))] or [int]
        return " or ".join([*map(type_in_words, options), *["none"] * (type(None) in get_args(kind))])
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    if get_origin(kind) is tuple:
        return "two whole numbers (2/1)"
    return _WORDS.get(kind) or f"{getattr(kind, '__name__', kind)}, only in Python"


def _sections(loss: type) -> Iterator[tuple[str, str]]:
    """The sections of a docstring by their titles; the text before the first has the title ``""``."""
    parts = re.split(r"^([A-Z]\w*(?:, \w+)*):$", inspect.getdoc(loss) or "", flags=re.MULTILINE)
    yield "", parts[0]
    yield from zip(parts[1::2], (inspect.cleandoc(part) for part in parts[2::2]), strict=True)


def _arguments(loss: type) -> dict[str, str]:
    """The description of each argument in the docstring."""
    section = dict(_sections(loss)).get("Args", "")
    entries = re.split(r"^(\w[\w, ]*)(?: \([^)]*\))?:", section, flags=re.MULTILINE)
    found: dict[str, str] = {}
    for names, meaning in zip(entries[1::2], entries[2::2], strict=True):
        found |= dict.fromkeys(re.split(r",\s*", names), _plain(" ".join(meaning.split())))
    return found


def _paragraphs(text: str) -> list[str]:
    """Paragraphs and rows of tables, one line each."""
    text = re.sub(r"^=[= ]+\n((?:.*\n)*?)=[= ]+$", _rows, text, flags=re.MULTILINE)
    return [_plain(" ".join(block.split())) for block in re.split(r"\n\s*\n", text.strip()) if block]


def _rows(table: re.Match[str]) -> str:
    """The rows of a table as paragraphs with a colon after the first column."""
    return re.sub(r"^(\S+) {2,}", r"\n\1: ", table[1], flags=re.MULTILINE)


def _plain(text: str) -> str:
    """Text without the markup of reStructuredText."""
    return re.sub(r":\w+:`([^`]*)`|``([^`]*)``", lambda mark: mark[1] or mark[2], text)
