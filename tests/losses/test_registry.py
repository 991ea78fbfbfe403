"""Losses by name."""

from __future__ import annotations

import pytest

from tametail import losses
from tametail.losses import ALPALoss, create_loss, describe_losses, list_losses


def test_the_names_of_the_zoo() -> None:
    assert {"alpa", "asl", "focal", "ce", "bce", "ldam"} <= set(list_losses())
    assert list(describe_losses()) == list_losses()
    assert "Padé" in describe_losses()["alpa"]


def test_create_passes_parameters_on() -> None:
    loss = create_loss("alpa", class_counts=[3, 4], preset="v1", gamma_neg=2, reduction="sum")
    assert isinstance(loss, ALPALoss)
    assert (loss.alpha, loss.gamma_neg, loss.reduction) == (1, 2, "sum")


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"one of alpa, asl, .*ldam, got 'alpha'; nearest: alpa"):
        create_loss("alpha")


def test_an_unknown_parameter_lists_the_known() -> None:
    with pytest.raises(
        ValueError, match=r"expected parameters of focal among alpha, gamma, .*, got gama; nearest: gamma"
    ):
        create_loss("focal", gama=2)


def test_all_public_names_exist() -> None:
    assert sorted(losses.__all__) == list(losses.__all__)
    assert all(hasattr(losses, name) for name in losses.__all__)
