"""Settings of a study or a search, checked before any long work: methods, folds, repeats, recipe, hardware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tametail.core.console import Console
from tametail.core.errors import DataError, UsageError, as_usage_error
from tametail.core.option import pick
from tametail.core.options import RecipeOptions
from tametail.core.trust import code_name
from tametail.data import ImageTable
from tametail.data.readers.known_sets import DEMO_SETS
from tametail.engines.choose import EngineChoice, choose_engine
from tametail.evaluation.class_order import order_in_words, order_sentence, ordinal_classes
from tametail.evaluation.evaluate import headline
from tametail.losses.registry import package_of
from tametail.models.backbones import BACKBONES, BackboneSpec, check_weights
from tametail.storage import search_file
from tametail.storage.study_file import STUDY_FOLDER, read_study_file
from tametail.training.hardware import Hardware
from tametail.training.optimisation import label_smoothing_for
from tametail.training.ordinal import check_same_order, ordinal_methods, required_order
from tametail.training.recipe import Recipe, load_recipe, with_recipe_values
from tametail.training.step import check_whole_batches
from tametail.training.strategies import Method, parse_method, split_methods
from tametail.training.strategies.strategy import STRATEGIES

HEAD_REPEATS = 3  # of the cross-validation, by default, where features are frozen

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


def packages_of(methods: Sequence[Method], spec: BackboneSpec) -> list[str]:
    """The installed packages, with their versions, that methods and a backbone come from."""
    found = {BACKBONES.packages.get(spec.provider)}
    for method in methods:
        found |= {package_of(method.loss.name), *(STRATEGIES.packages.get(s.name) for s in method.strategies)}
    return sorted(package for package in found if package)


def check_counts(options: Mapping[str, Any]) -> list[int]:
    """Check the numbers of folds and repeats, and return the folds to run in order.

    Raises:
        UsageError: fewer than 2 folds or 1 repeat, a fold that does not exist, or several repeats of some folds.
    """
    folds, only_folds, repeats = options["folds"], options.get("only_folds"), options["repeats"]
    if folds < 2:
        raise UsageError(f"expected at least 2 folds, got {folds}")
    if only_folds is not None and (repeats or 1) > 1:
        raise UsageError(
            f"expected --repeats 1 with --only-folds, got {repeats}: every repeat draws its own folds, so that some folds "
            f"of several repeats hold different images"
        )
    if repeats is not None and repeats < 1:
        raise UsageError(f"expected at least 1 repeat, got {repeats}")
    run_folds = sorted(set(range(folds) if only_folds is None else only_folds))
    if not run_folds or run_folds[0] < 0 or run_folds[-1] >= folds:
        raise UsageError(f"expected folds among 0 to {folds - 1}, got {only_folds}")
    return run_folds


def check_class_order(given: Sequence[str] | None, data: ImageTable) -> list[str] | None:
    """Check the order of ordinal classes; None if it was not given, empty to remove that of an earlier study.

    Raises:
        UsageError: it is not every class once, or images may have several labels.
    """
    if given and data.multi_label:
        raise UsageError(
            "expected images of one class each with --class-order, got several labels per image; leave it out"
        )
    return given if given is None else list(ordinal_classes(data.class_names, ordered=None, given=given))


def order_methods(
    methods: Sequence[Method],
    class_order: list[str] | None,
    class_names: Sequence[str],
    directory: Path,
    console: Console,
) -> tuple[list[str] | None, list[Method]]:
    """The order of the classes of a study, and its methods with it, of which ordinal ones need one.

    Args:
        methods: of the command; those that the study has already are checked too.
        class_order: see `check_class_order`.
        directory: of the study, which need not exist.

    Raises:
        UsageError: a method needs the order of the classes, which is unknown; or the study trained one with another order.
    """
    present: dict[str, Any] = {}
    if (directory / STUDY_FOLDER.file).is_file():
        present = read_study_file(directory)
    needed = required_order(methods, class_names, class_order or present.get("class_order"))
    if needed is not None:
        console.say(f"{', '.join(ordinal_methods(methods))}: {order_sentence(order_in_words(needed))}")
        class_order = list(needed)
    with as_usage_error():
        trained = [parse_method(text) for text in present.get("methods", ()) if not code_name(text)]
    check_same_order(trained, present.get("class_order"), class_order)
    indices = [list(class_names).index(name) for name in needed or ()]
    return class_order, [method.in_order(indices or None) for method in methods]


def count_repeats(
    options: Mapping[str, Any], recipe: Recipe, directory: Path | None = None, *, given_folds: bool = False
) -> int:
    """The number of repeats: that given, or the default of the recipe; at least that of a study which is continued.

    Folds that the table gives are the same in every repeat, so that one is the default.
    """
    given, present = options["repeats"], 0
    if directory is not None and (directory / STUDY_FOLDER.file).is_file():
        present = len(read_study_file(directory)["seeds"])
    if given is None and not present:
        redrawn = options.get("only_folds") is None and not given_folds
        return HEAD_REPEATS if recipe.trains == "head" and redrawn else 1
    return max(given or 0, present)


def recipe_from(options: Mapping[str, Any], data: object = None) -> Recipe:
    """The recipe with the changes in `TrainingOptions`; the demo sets use the installed weights by default.

    Raises:
        UsageError: an unknown recipe, field or weights.
    """
    fields = pick(RecipeOptions, options)
    recipe = fields.pop("recipe")
    if data in DEMO_SETS and fields["backbone"] is None and fields["weights"] is None:
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


def engine_from(
    options: Mapping[str, Any], accelerator: Accelerator, threads: int | None = None
) -> EngineChoice:
    """Where trainings run, from the values of `EngineOptions`.

    Raises:
        UsageError: an invalid choice, or an engine that is not installed.
    """
    gpus = torch.cuda.device_count() if accelerator.device.type == "cuda" else 0
    return choose_engine(options, gpus=gpus, threads=threads or options.get("threads") or 1)


def threads_of(directory: Path, recipe: Recipe, given: int | None, *, several: bool) -> int:
    """CPU threads of a run of a study: those of an existing study, or those given, or the default.

    Args:
        directory: of the study, which need not exist.
        several: whether several processes train at a time.

    Raises:
        UsageError: another number than that of the existing study was given.
    """
    if (directory / STUDY_FOLDER.file).is_file():
        present = int(read_study_file(directory)["threads"])
        if given is not None and given != present and recipe.trains == "all":
            raise UsageError(
                f"expected --threads {present}, with which {directory} was started and on which the last bits of its results "
                f"depend, got {given}; leave it out, or give another folder with -o"
            )
        return present
    if recipe.trains == "head":
        return 1  # its products are too small for several threads
    return given or (1 if several else torch.get_num_threads())


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


@dataclass(frozen=True)
class Tuned:
    """The best method of a finished search.

    Attributes:
        directory: of the search.
        method: its text.
        content: search.json.
    """

    directory: Path
    method: str
    content: Mapping[str, Any]

    @property
    def file(self) -> Path:
        """The file that names the method."""
        return self.directory / search_file.SEARCH_FOLDER.file

    @property
    def note(self) -> dict[str, Any]:
        """The entry of study.json: source of the parameter values, and the nested estimate."""
        asked, result = self.content["search"], self.content["result"]
        score = headline(multi_label=self.content.get("multi_label", False))
        return {
            "searched": asked["method"],
            "trials": asked["trials"],
            "metric": asked["metric"],
            "searched_recipe": result["best"]["recipe"],
            "score": result["best"]["score"],
            "nested": result["nested"]["tuned"],
            f"nested_{score}": result["nested"][score]["tuned"],
        }

    def check(self, described: Mapping[str, Any]) -> None:
        """Check that the study has the same images, splits, weights and recipe.

        Args:
            described: the content of the study's study.json.

        Raises:
            UsageError: it names what differs.
        """
        recipe = with_recipe_values(self.content["recipe"], self.content["result"]["best"]["recipe"])
        search_file.check_same_data(self.directory, {**self.content, "recipe": recipe}, described)


def read_tuned(directories: Sequence[str | Path] | str | Path | None) -> list[Tuned]:
    """The best methods of finished searches.

    Raises:
        DataError: there is no search, or it is damaged.
        UsageError: a search is not done.
    """
    if directories is None:
        return []
    folders = [directories] if isinstance(directories, str | Path) else directories
    return [_read_tuned(Path(folder)) for folder in folders]


def _read_tuned(directory: Path) -> Tuned:
    content = search_file.read_finished(directory)
    found = Tuned(directory, "", content)
    try:
        _ = found.note, content["recipe"]["optimizer"], content["result"]["best"]["recipe"]
        return Tuned(directory, str(content["result"]["best"]["method"]), content)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"expected a finished search at {directory}, but its {search_file.SEARCH_FOLDER.file} lacks {error}; search anew in another folder"
        ) from error
