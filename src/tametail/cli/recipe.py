"""The commands about recipes: what there is, and what one says, field by field."""

from __future__ import annotations

from typing import Annotated

import typer

from tametail.cli.run_command import Debug, run
from tametail.core.console import Console

recipe = typer.Typer(
    no_args_is_help=True,
    help="List the recipes, or show one as YAML that can be changed and given back with --recipe FILE.yaml.",
)


@recipe.command("list")
def list_(debug: Debug = False) -> None:
    """List the recipes with one line each."""

    def work(_: Console) -> None:
        from tametail.training.recipe import list_recipes, load_recipe

        names = list_recipes()
        for name in names:
            typer.echo(f"{name:{max(map(len, names))}}  {load_recipe(name).summary}")

    run(work, debug=debug)


@recipe.command()
def show(
    name: Annotated[str, typer.Argument(help="A recipe's name, or a YAML file.", show_default=False)],
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="Any field: optimizer.lr=3e-4", show_default=False)
    ] = None,
    debug: Debug = False,
) -> None:
    """Show a recipe: every field with its value and what it means. The output is a recipe file."""

    def work(_: Console) -> None:
        from tametail.training.recipe import load_recipe
        from tametail.training.recipe_text import recipe_yaml

        typer.echo(recipe_yaml(load_recipe(name, assignments=assignments or ())), nl=False)

    run(work, debug=debug)
