"""A shown recipe explains every field and can be read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.test_app import run
from tametail.training.recipe import (
    AugmentationSettings,
    MixingSettings,
    OptimizerSettings,
    Recipe,
    field_descriptions,
    list_recipes,
    load_recipe,
    recipe_yaml,
)


@pytest.mark.parametrize("name", list_recipes())
def test_a_shown_recipe_is_the_recipe(name: str, tmp_path: Path) -> None:
    file = tmp_path / "shown.yaml"
    file.write_text(recipe_yaml(load_recipe(name)), encoding="utf-8")
    assert load_recipe(file) == load_recipe(name)


@pytest.mark.parametrize("model", [Recipe, OptimizerSettings, AugmentationSettings, MixingSettings])
def test_every_field_is_explained(model: type) -> None:
    assert all(field_descriptions(model).values())


def test_recipes_are_listed_and_shown(tmp_path: Path) -> None:
    code, output, _ = run("recipe", "list")
    assert code == 0
    assert [line.split()[0] for line in output.splitlines()] == list_recipes()
    code, output, _ = run(
        "recipe", "show", "head", "--set", "optimizer.lr=3e-4", "--set", "mixing.kind=mixup"
    )
    assert code == 0
    assert "# number of training epochs." in output
    file = tmp_path / "mine.yaml"
    file.write_text(output, encoding="utf-8")
    mine = load_recipe(file)
    assert (mine.optimizer.lr, mine.mixing.kind) == (3e-4, "mixup")
    assert mine == load_recipe("head", assignments=["optimizer.lr=3e-4", "mixing.kind=mixup"])


def test_an_unknown_recipe_is_named() -> None:
    code, _, errors = run("recipe", "show", "heads")
    assert code == 2
    assert "did you mean head?" in errors
