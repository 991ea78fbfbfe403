"""Settings of a study or a search, checked before any long work: methods, folds, repeats, recipe, hardware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tametail.core.errors import UsageError, as_usage_error
from tametail.core.option import pick
from tametail.core.options import RecipeOptions
from tametail.models.backbones import check_weights
from tametail.training.hardware import Hardware
from tametail.training.optimisation import label_smoothing_for
from tametail.training.recipe import Recipe, load_recipe
from tametail.training.step import check_whole_batches
from tametail.training.strategies import Method, parse_method, split_methods

if TYPE_CHECKING:
    from accelerate import Accelerator


def parse_methods(texts: Sequence[str] | str) -> list[Method]:
    """Parse methods from texts, or from one comma-separated text, without duplicates.

    Raises:
        UsageError: a text is no method, or there is none.
    """
    with as_usage_error("tametail losses and tametail strategies list them"):
        parsed = [parse_method(text) for text in (split_methods(texts) if isinstance(texts, str) else texts)]
    if not parsed:
        raise UsageError("expected at least one method, got none; tametail losses lists the losses")
    return list({method.text: method for method in parsed}.values())


def check_counts(options: Mapping[str, Any]) -> list[int]:
    """Check the numbers of folds and repeats, and return the folds to run in order.

    Args:
        options: with folds, repeats and perhaps only_folds.

    Raises:
        UsageError: fewer than 2 folds or 1 repeat, or a fold that does not exist.
    """
    folds, only_folds, repeats = options["folds"], options.get("only_folds"), options["repeats"]
    if folds < 2:
        raise UsageError(f"expected at least 2 folds, got {folds}")
    if repeats < 1:
        raise UsageError(f"expected at least 1 repeat, got {repeats}")
    run_folds = sorted(set(range(folds) if only_folds is None else only_folds))
    if not run_folds or run_folds[0] < 0 or run_folds[-1] >= folds:
        raise UsageError(f"expected folds among 0 to {folds - 1}, got {only_folds}")
    return run_folds


def recipe_from(options: Mapping[str, Any], data: object = None) -> Recipe:
    """The recipe with the changes in the options; the demo set uses the installed weights by default.

    Args:
        options: the values of `TrainingOptions`.
        data: the data set as it was given.

    Raises:
        UsageError: an unknown recipe, field or weights.
    """
    fields = pick(RecipeOptions, options)
    recipe = fields.pop("recipe")
    if data == "demo" and fields["backbone"] is None and fields["weights"] is None:
        fields["weights"] = "offline"  # so that the demo needs no network
    settings = load_recipe(recipe, fields=fields, assignments=options["set"] or ())
    check_weights(settings.weights, settings.backbone)
    return settings


def hardware_from(options: Mapping[str, Any]) -> Hardware:
    """How runs use the machine, from the values of `MachineOptions` and, if they are there, `MonitorOptions`."""
    return Hardware(
        options["device"],
        options["micro_batch"],
        options["compile"],
        options["workers"],
        options.get("validate", False),
    )


def try_out(
    methods: Sequence[Method], recipe: Recipe, classes: int, hardware: Hardware, accelerator: Accelerator
) -> None:
    """Compute every method's loss on a batch like those it will be trained with, before any long work."""
    for method in methods:
        configured = method.configure(recipe)
        loss = method.loss.create([1] * classes)
        check_whole_batches(loss, configured.batch_size, hardware.micro_batch, accelerator.num_processes)
        soft = configured.mixing.kind != "none" or label_smoothing_for(loss, configured) > 0
        with as_usage_error():
            method.loss.try_out(classes, soft=soft)
