from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tametail.data import ImageTable, read_images
from tametail.reproduce.differences import STATED, ExperimentSetup, differences_from_paper
from tametail.reproduce.experiments import EXPERIMENTS
from tametail.reproduce.paper_set import match_classes
from tametail.training.recipe import load_recipe

TABLE4 = EXPERIMENTS["table4"]


@pytest.fixture
def table(skin: Path) -> ImageTable:
    return read_images(skin)


def setup(table: ImageTable, **changes: Any) -> ExperimentSetup:
    plain = ExperimentSetup(
        table, match_classes(TABLE4, table), load_recipe("paper"), 5, 1, "paper", "figure1", True
    )
    return replace(plain, **changes)


def stated(*args: Any, **changes: Any) -> list[str]:
    return list(differences_from_paper(TABLE4, setup(*args, **changes)).stated)


def test_recipe_paper_is_what_section_5_2_states(table: ImageTable) -> None:
    """Only the images differ: the recipe has all that the paper states about the training."""
    assert [phrase.partition(":")[0] for phrase in stated(table)] == [
        "images",
        "images per class (the whole set)",
        "imbalance ratio",
        "image files",
    ]


def test_images_are_compared_number_by_number(table: ImageTable) -> None:
    phrases = stated(table)
    assert phrases[0] == "images: 46 (the paper: 10,015)"
    assert "akiec 5 (327), bcc 6 (514)" in phrases[1]
    assert phrases[2] == "imbalance ratio: 3.0 (the whole set: 58.3)"
    assert phrases[3] == "image files: 40×32 pixels (the paper: 600×450)"


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"folds": 3}, "folds: 3 (the paper: 5)"),
        ({"test_set": False}, "the test set stays held out"),
        ({"variant": "code"}, "ALPA: variant code, the released code's form"),
        ({"recipe": {"image_size": 128}}, "image_size: 128 (the paper: 256)"),
        ({"recipe": {"batch_size": 32}}, "batch_size: 32 (the paper: 128)"),
        ({"recipe": {"lr": 3e-4}}, "optimizer.lr: 0.0003 (the paper: 0.0001)"),
        ({"recipe": {"backbone": "convnext_tiny"}}, "backbone: convnext_tiny (the paper: convnext_base)"),
        ({"recipe": {"epochs": 1}}, "not stated in the paper, compared with our recipe paper: epochs 1 ("),
    ],
)
def test_each_change_is_reported_and_nothing_else(
    table: ImageTable, changes: dict[str, Any], phrase: str
) -> None:
    if "recipe" in changes:
        changes = {"recipe": load_recipe("paper", fields=changes["recipe"])}
    new = set(stated(table, **changes)) - set(stated(table))
    assert any(phrase in one for one in new)
    extra = 1 if "backbone" in str(phrase) else 0  # another backbone has another pretrained tag too
    assert len(new) == 1 + extra


def test_every_stated_field_is_compared(table: ImageTable) -> None:
    recipe = load_recipe(
        "head", assignments=["optimizer.kind=sgd", "optimizer.momentum=0.5", "image_size=64", "batch_size=7"]
    )
    phrases = stated(table, recipe=recipe)
    for field in STATED:
        assert any(phrase.startswith(f"{field}: ") for phrase in phrases), field


def test_a_test_set_that_comes_with_the_set_is_stated(table: ImageTable) -> None:
    frame = table.frame.copy()
    frame.loc[frame["group"].str.endswith("0"), "split"] = "test"
    given = replace(table, frame=frame)
    assert "test set: the 8 images (17%) that come with the set (the paper: 20%, drawn)" in stated(given)


def test_what_the_paper_does_not_state_is_listed(table: ImageTable) -> None:
    unstated = differences_from_paper(TABLE4, setup(table, seeds=2)).unstated
    assert any("2 trainings per method and fold" in phrase for phrase in unstated)
    assert any("groups (patients, lesions, copies), none divided" in phrase for phrase in unstated)
    assert any("settings of ASL and focal loss: those of Figure 1's caption" in phrase for phrase in unstated)


def test_the_released_code_has_no_v3(table: ImageTable) -> None:
    table2 = EXPERIMENTS["table2"]
    phrases = differences_from_paper(table2, setup(table, classes={}, variant="code")).stated
    assert "column v3: left out, as the released code has no such loss" in phrases
