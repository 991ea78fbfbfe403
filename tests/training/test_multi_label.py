from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tametail.core.errors import UsageError
from tametail.data import ImageTable
from tametail.losses import parse_loss
from tametail.training.multi_label import (
    check_methods,
    make_label_predictions,
    suitable_losses,
    why_unsuitable,
)
from tametail.training.recipe import load_recipe
from tametail.training.strategies import parse_method

RECIPE = load_recipe("head")
LABELS = ["a|c", "", "b", "a|b|c", "c", "a"]


def make_table(*, multi_label: bool = True) -> ImageTable:
    frame = pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(6)],
            "label": LABELS if multi_label else list("abcabc"),
            "group": [f"p{number // 2}" for number in range(6)],
            "split": "",
        },
        dtype=object,
    )
    return ImageTable(frame, Path("/data"), ("a", "b", "c"), "drawn", multi_label=multi_label)


@pytest.mark.parametrize(
    "method",
    ["bce", "asl", "alpa[variant=pade]+la", "focal+mixup", "hill+normalised", "bce+balanced", "asl+drs"],
)
def test_the_sigmoid_family_is_let_through(method: str) -> None:
    check_methods([parse_method(method)], make_table(), RECIPE)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            "ce",
            r"ce cannot be trained .* softmax makes labels mutually exclusive.* alpa, asl, apl, ral, hill, focal, bce",
        ),
        ("ldam+drw", "ldam cannot be trained"),
        ("class_balanced[base=bce]", "assume one label per image"),
        ("bce[tau=1]", "tau=1 adjusts for the prior"),
        ("bce+drw", "expected reweighting none .* got deferred"),
        ("bce+remix", "none, mixup or cutmix .* got remix"),
        ("bce+crt", "no strategy after training but la .* got crt"),
        ("bce+taunorm+la", "got taunorm"),
    ],
)
def test_what_needs_one_label_per_image_is_refused(method: str, message: str) -> None:
    methods = [parse_method("asl"), parse_method(method)]
    with pytest.raises(UsageError, match=message):
        check_methods(methods, make_table(), RECIPE)
    check_methods(methods, make_table(multi_label=False), RECIPE)


def test_the_recipe_is_checked_too() -> None:
    recipe = load_recipe("head", assignments=["reweighting=always"])
    with pytest.raises(UsageError, match=r"expected reweighting none .* got always"):
        check_methods([parse_method("bce")], make_table(), recipe)


def test_what_fits_can_be_trained_and_gives_each_label_its_own_probability() -> None:
    assert {"alpa", "asl", "focal", "bce"} <= set(suitable_losses())
    torch.manual_seed(0)
    for name in suitable_losses():
        loss = parse_loss(name).create([5, 3, 2])
        logits = torch.randn(6, 3, requires_grad=True)
        target = torch.from_numpy(make_table().labels.astype(np.float32))
        loss(logits, target).backward()
        slope = torch.sign(logits.grad)
        assert (slope[target == 1] <= 0).all(), name
        changed = logits.detach().clone()
        changed[:, 1:] += 1
        torch.testing.assert_close(loss.link(logits)[:, 0], loss.link(changed)[:, 0])
    assert "softmax" in why_unsuitable(parse_loss("ce").create([1, 1]), 2)


def test_outputs_become_predictions_of_their_rows() -> None:
    table, rows = make_table(), np.array([5, 0, 3])
    outputs = np.array([[1, -2, 0], [3, 0.5, -1], [0, 0, 2]], dtype=np.float32)
    decision_rule = parse_method("alpa").decision_rule([3, 2, 3], images=6)
    found = make_label_predictions(outputs, decision_rule, table, rows, fold=2)
    assert found.image.tolist() == ["5.png", "0.png", "3.png"]
    assert found.group.tolist() == ["p2", "p0", "p1"]
    np.testing.assert_array_equal(found.labels, table.labels[rows])
    np.testing.assert_array_equal(found.logits, outputs)
    link = parse_loss("alpa").create([3, 2, 3]).link
    np.testing.assert_allclose(found.posterior, link(torch.from_numpy(outputs)).numpy())
    assert found.fold.tolist() == [2, 2, 2]


def test_logit_adjustment_moves_no_probability_and_no_order() -> None:
    rows = np.arange(6)
    outputs = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    plain, adjusted = (
        make_label_predictions(
            outputs, parse_method(text).decision_rule([3, 2, 3], images=6), make_table(), rows, 0
        )
        for text in ("bce", "bce+la")
    )
    np.testing.assert_array_equal(plain.posterior, adjusted.posterior)
    np.testing.assert_array_equal(plain.logits.argsort(axis=0), adjusted.logits.argsort(axis=0))
    assert not np.allclose(plain.logits[:, 1], adjusted.logits[:, 1])
