"""tametail recipe: the recipes, and one of them field by field."""

from __future__ import annotations

from typing import Any

import typer

from tametail.cli.command import command, print_table
from tametail.core.console import Console
from tametail.core.options import SetOptions


@command(example="tametail recipe list")
def list_(console: Console, /) -> None:
    """List the recipes with one line each."""
    from tametail.training.recipe import list_recipes, load_recipe

    print_table({name: load_recipe(name).summary for name in list_recipes()})


@command(
    SetOptions,
    arguments=("recipe_name",),
    example="tametail recipe show modern --set optimizer.lr=3e-4 > my_recipe.yaml",
)
def show(console: Console, /, recipe_name: str, **options: Any) -> None:
    """Show a recipe as YAML: every field with its value and meaning. The output is a recipe file."""
    from tametail.training.recipe import load_recipe, recipe_yaml

    typer.echo(recipe_yaml(load_recipe(recipe_name, assignments=options["set"] or ())), nl=False)
