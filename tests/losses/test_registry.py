"""Losses by name: built-in ones, those of packages, and text with brackets."""

from __future__ import annotations

import inspect

import pytest
import torch

from tametail import losses
from tametail.losses import (
    ALPALoss,
    Loss,
    create_loss,
    describe_losses,
    failed_losses,
    list_losses,
    register_loss,
)

# As it was before losses registered themselves, with weighted_ce and the ordinal losses added.
ORDER = (
    "alpa asl asl_single_label apl ral hill focal focal_softmax ce bce weighted_ce class_balanced poly1 "
    "balanced_softmax logit_adjusted vs lade seql label_aware_smoothing ldam corn soft_ordinal"
)


def test_the_built_in_losses_have_a_fixed_order() -> None:
    assert list_losses() == ORDER.split()
    assert list(describe_losses()) == list_losses()
    assert "Padé" in describe_losses()["alpa"]
    assert failed_losses() == []


@pytest.mark.parametrize("name", list_losses())
def test_every_parameter_and_the_use_of_a_loss_are_documented(name: str) -> None:
    loss = create_loss(name, [3, 1])
    documentation = inspect.getdoc(type(loss)) or ""
    assert all(part in documentation for part in ("Use it ", "\nArgs:\n")), documentation
    assert all(parameter in documentation for parameter in inspect.signature(type(loss)).parameters)


def test_create_passes_parameters_on() -> None:
    loss = create_loss("alpa", class_counts=[3, 4], preset="v1", gamma_neg=2, reduction="sum")
    assert isinstance(loss, ALPALoss)
    assert (loss.alpha, loss.gamma_neg, loss.reduction) == (1, 2, "sum")


def test_create_reads_brackets_and_keywords_together() -> None:
    assert repr(create_loss("focal[gamma=1]")) == repr(create_loss("focal", gamma=1))
    loss = create_loss(" focal[ gamma = 1 ]", alpha=0.5, reduction="none")
    assert (loss.gamma, loss.alpha, loss.reduction) == (1, 0.5, "none")
    assert create_loss("vs[tau=0.5]", [3, 1]).tau == 0.5
    with pytest.raises(
        ValueError, match=r"each parameter of focal once, got gamma in 'focal\[gamma=1\]' and as a key"
    ):
        create_loss("focal[gamma=1]", gamma=2)
    with pytest.raises(ValueError, match="expected parameter=value"):
        create_loss("focal[gamma]")


def test_an_unknown_name_says_the_nearest_or_all() -> None:
    with pytest.raises(ValueError, match=r"one of the losses of tametail, got 'alpha'; did you mean alpa"):
        create_loss("alpha")
    with pytest.raises(ValueError, match=r"got 'xyzzy'; known: alpa, apl, asl, .*corn, .*soft_ordinal"):
        create_loss("xyzzy")


def test_an_unknown_parameter_lists_the_known() -> None:
    with pytest.raises(
        ValueError, match=r"expected parameters of focal among alpha, gamma, .*, got gama; did you mean gamma"
    ):
        create_loss("focal", gama=2)


def test_all_public_names_exist() -> None:
    assert sorted(losses.__all__) == list(losses.__all__)
    assert all(hasattr(losses, name) for name in losses.__all__)


def _declaring(**declarations: object) -> type[Loss]:
    return type("Declaring", (Loss,), {"formula": "0", "family": "softmax"} | declarations)


@pytest.mark.parametrize(
    ("declarations", "message"),
    [
        ({}, "declare name, formula and family, got none for name"),
        ({"name": "focal"}, "expected a new name among the losses of tametail, got 'focal'"),
        ({"name": "my loss"}, "letters, digits and _, starting with a letter, got 'my loss'"),
        ({"name": "a:b"}, "letters, digits and _"),
        ({"name": "mine", "family": "tree"}, "one of softmax, sigmoid, got 'tree'"),
        ({"name": "mine", "head": "none"}, "one of linear, normalised, got 'none'"),
    ],
)
def test_only_complete_declarations_register(declarations: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register_loss(_declaring(**declarations))
    with pytest.raises(TypeError, match=r"expected a subclass of tametail\.losses\.Loss"):
        register_loss(torch.nn.CrossEntropyLoss)  # type: ignore[type-var]
    assert list_losses() == ORDER.split()
