"""What is said about a loss: taken from its class, whole, without marks."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, Literal

import pytest
import torch

from tametail.losses import create_loss, describe_loss, describe_losses, list_losses, parse_loss
from tametail.losses.description import type_in_words
from tametail.losses.registry import loss_class


@pytest.mark.parametrize("name", list_losses())
def test_every_loss_is_described_in_full(name: str) -> None:
    described = describe_loss(name)
    loss = create_loss(name, class_counts=[1, 1])
    assert described.summary == describe_losses()[name]
    assert described.summary.endswith(".")
    assert described.use.startswith("Use it ")
    assert (described.family, described.head, described.formula) == (loss.family, loss.head, loss.formula)
    assert (described.link, described.exact_link) == (loss.link.name, loss.link.exact)
    left_out = {"class_counts", "class_order", "reduction", "ignore_index"}
    wanted = [p for p in inspect.signature(loss_class(name)).parameters if p not in left_out]
    assert [parameter.name for parameter in described.parameters] == wanted
    assert all(len(parameter.meaning) > 5 for parameter in described.parameters)
    assert not any(parameter.required for parameter in described.parameters)
    everything = " ".join([*described.notes, described.use, *(p.meaning for p in described.parameters)])
    assert "``" not in everything
    assert ":class:" not in everything
    assert "===" not in everything
    assert not any("see Loss" in parameter.meaning for parameter in described.parameters)


def test_parameters_given_are_told_with_what_follows_from_them() -> None:
    described = describe_loss("alpa[ variant = pade]")
    assert (described.loss, described.link) == ("alpa[variant=pade]", "inverse")
    assert described.ceiling == pytest.approx(parse_loss(described.loss).create().link.ceiling)
    by_name = {parameter.name: parameter for parameter in described.parameters}
    assert (by_name["variant"].default, by_name["variant"].value) == ("paper", "pade")
    assert (by_name["alpha"].default, by_name["alpha"].value) == (None, 0.875)
    assert by_name["order"].type == "two whole numbers (2/1) or none"
    assert by_name["beta"].meaning == "weight β >= 0 of negatives."
    assert by_name["preset"].meaning.startswith("the paper's α, β, γ+, γ-: v1")


def test_class_counts_count_with_a_prior_inside() -> None:
    assert not describe_loss("ce").uses_class_counts
    assert describe_loss("ce[tau=1]").uses_class_counts
    assert describe_loss("ldam").uses_class_counts


def test_a_table_becomes_a_paragraph_per_row() -> None:
    notes = describe_loss("alpa").notes
    rows = [note.split(":")[0] for note in notes if note.split(":")[0] in ("paper", "code", "pade")]
    assert rows == ["paper", "code", "pade"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (float, "number"),
        (float | None, "number or none"),
        (int | float, "number"),
        (int, "whole number"),
        (bool, "true or false"),
        (str | None, "word or none"),
        (Literal["a", "b"], "one of a, b"),
        (torch.Tensor | None, "Tensor, only in Python or none"),
        (Any, "number, word, true, false or none"),
        (ClassVar, "ClassVar, only in Python"),
    ],
)
def test_types_in_words(kind: Any, words: str) -> None:
    assert type_in_words(kind).replace("typing.", "") == words


def test_an_unknown_loss_is_an_error() -> None:
    with pytest.raises(ValueError, match="did you mean alpa"):
        describe_loss("alpah")
