"""What a study or a search is asked to do, checked before any long work: methods, folds, seeds, recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tametail.core.errors import UsageError, as_usage_error
from tametail.data import ImageTable
from tametail.models.backbones import check_weights
from tametail.training.hardware import Hardware
from tametail.training.optimisation import label_smoothing_for
from tametail.training.recipe import Recipe, load_recipe
from tametail.training.step import check_whole_batches
from tametail.training.strategies import Method, parse_method, split_methods

if TYPE_CHECKING:
    from accelerate import Accelerator


def parse_methods(losses: Sequence[str] | str) -> list[Method]:
    """Methods from texts, or from one text with commas; each once.

    Raises:
        UsageError: one cannot be read, or there is none.
    """
    with as_usage_error("tametail losses and tametail strategies list them"):
        texts = split_methods(losses) if isinstance(losses, str) else list(losses)
        parsed = [parse_method(text) for text in texts]
    if not parsed:
        raise UsageError("expected at least one loss, got none; tametail losses lists them")
    return list({method.text: method for method in parsed}.values())


def check_counts(folds: int, only_folds: Sequence[int] | None, seeds: int) -> list[int]:
    """The folds to run, in order; None asks for all.

    Raises:
        UsageError: fewer than 2 folds or 1 seed, or a fold that is none.
    """
    if folds < 2:
        raise UsageError(f"expected at least 2 folds, got {folds}")
    if seeds < 1:
        raise UsageError(f"expected at least 1 seed, got {seeds}")
    places = sorted(set(range(folds) if only_folds is None else only_folds))
    if not places or places[0] < 0 or places[-1] >= folds:
        raise UsageError(f"expected folds among 0 to {folds - 1}, got {list(only_folds or ())}")
    return places


def asked_recipe(
    data: str | Path | ImageTable,
    recipe: str | Path,
    fields: Mapping[str, Any] | None,
    assignments: Sequence[str],
) -> Recipe:
    """The recipe with the changes that are asked for; the demo set needs no network.

    Args:
        data: what is to be read, as only the demo's name matters here.
        recipe, fields, assignments: see `load_recipe`; fields that are None are left as they are.

    Raises:
        UsageError: an unknown recipe, field or weights.
    """
    fields = {name: value for name, value in (fields or {}).items() if value is not None}
    if data == "demo" and "backbone" not in fields:
        fields = {"weights": "offline"} | fields  # the demo needs no network
    settings = load_recipe(recipe, fields=fields, assignments=assignments)
    check_weights(settings.weights, settings.backbone)
    return settings


def try_out(
    methods: Sequence[Method], recipe: Recipe, classes: int, hardware: Hardware, accelerator: Accelerator
) -> None:
    """Take every loss through a batch of the kind it is to be trained with, before any long work."""
    for method in methods:
        configured = method.configure(recipe)
        loss = method.loss.create([1] * classes)
        check_whole_batches(loss, configured.batch_size, hardware.micro_batch, accelerator.num_processes)
        soft = configured.mixing.kind != "none" or label_smoothing_for(loss, configured) > 0
        with as_usage_error():
            method.loss.try_out(classes, soft=soft)
