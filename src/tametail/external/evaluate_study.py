"""External validation: evaluate the models of a study on another data set."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tametail.core.arrays import IntArray
from tametail.core.console import Console
from tametail.core.errors import DataError, TametailError, UsageError, as_usage_error
from tametail.core.option import command_line
from tametail.core.options import EvaluateOptions
from tametail.core.text import sample_of
from tametail.core.trust import Trust, code_name
from tametail.data import (
    DecodedImages,
    ImageTable,
    Splits,
    decoded_images,
    read_images,
    reading_facts,
    say_reading,
)
from tametail.data.decoding.bit_depth import BitDepth
from tametail.data.decoding.cache import table_bit_depth
from tametail.data.reading import say_new_depth
from tametail.evaluation.calibration_maps import apply_map, calibrate_out_of_fold
from tametail.evaluation.class_order import ordinal_classes
from tametail.evaluation.label_calibration import LabelMap, apply_label_map, deployed_thresholds
from tametail.evaluation.operating import threshold_for
from tametail.evaluation.subgroups import as_texts, subgroup_values
from tametail.external.class_mapping import MappedTable, map_classes, map_labels
from tametail.external.evaluate_files import (
    OperatingPoints,
    check_operating,
    refuse_for_labels,
    store,
    written_options,
)
from tametail.predictions.multi_label import LabelPredictions, ensemble_labels
from tametail.predictions.single_label import Predictions, ensemble
from tametail.report import write_report
from tametail.report.study.calibration_file import calibration_for_new_images
from tametail.report.study.runs import find_runs
from tametail.storage import study_file
from tametail.storage.evaluation_file import EvaluationSettings, ModelPredictions, prepare_evaluation
from tametail.study.image_digests import SIMILAR, ImageDigests, load_study_images, warn_of_look
from tametail.study.inputs import StudyInputs, restore_backbone, studied_backbone
from tametail.training.hardware import Hardware, check_one_process, make_accelerator
from tametail.training.recipe import recorded_recipe
from tametail.training.run import (
    Run,
    RunContext,
    all_runs,
    compute_outputs,
    finished_runs,
    load_class_counts,
    load_trained_model,
    make_predictions,
)
from tametail.training.strategies import parse_method, split_methods


def evaluate_study(
    study: Path,
    data: str | Path | ImageTable,
    out: Path,
    *,
    methods: Sequence[str] | str | None = None,
    mapping: Mapping[str, str] | None = None,
    drop_unknown: bool = False,
    columns: Mapping[str, Any] | None = None,
    by: Sequence[str] = (),
    ordered: bool | None = None,
    class_order: Sequence[str] | None = None,
    operating: OperatingPoints = (),
    device: str = "auto",
    trust_code: bool = False,
    console: Console | None = None,
) -> Path:
    """Evaluate the fold models of a study's methods, and their ensembles, on other images.

    Each fold model of a method predicts all images: the fold models are the replicates. Calibration maps and thresholds, of
    operating points or of labels, are fitted on the out-of-fold predictions of the study, never on these images.

    Args:
        study: the study's folder.
        data: what `read_images` takes, or a table.
        out: folder of the evaluation; it must contain neither the study nor the data.
        methods: separated by commas; None for all whose runs are finished.
        mapping: label of the data → class of the study.
        drop_unknown: leave out images with labels that the study lacks; of several labels per image, only these labels.
        columns: options of `read_images`, when ``data`` is not a table.
        by: columns of the data that define subgroups.
        ordered: whether the classes are ordinal; None if they are where ``class_order`` or the study has their order.
        class_order: all classes from the lowest grade to the highest; None or empty for the order in the study.
        operating: from `tametail.core.option.read_operating`.
        trust_code: run code that the study's files name.

    Returns:
        The path of report.html.

    Raises:
        UsageError, DataError, TametailError: see their messages.
    """
    console = console or Console(quiet=True)
    by = tuple(dict.fromkeys(by))
    described = study_file.read_study_file(study)
    check_one_process("evaluate")
    several = bool(described.get("multi_label"))
    if several:
        refuse_for_labels(by, ordered, class_order, operating)
    class_names = tuple(described["class_names"])
    check_operating(operating, class_names)
    known = class_order or described.get("class_order")
    order = () if several else ordinal_classes(class_names, ordered=ordered, given=known)
    runs = _runs(study, described, methods, trust_code, console)
    named = [] if isinstance(data, ImageTable) or not Path(data).exists() else [Path(data)]
    prepare_evaluation(out, [study, *named])
    given = (
        data
        if isinstance(data, ImageTable)
        else read_images(data, **_read_as_studied(columns or {}, described))
    )
    say_reading(given, console)
    unknown = [column for column in by if column not in given.frame.columns[4:]]
    if unknown:
        raise UsageError(
            f"expected a column of the data for --by, got {unknown[0]!r}; found "
            f"{sample_of(list(given.frame.columns[4:]), most=20) or 'none except image, label, group and split'}"
        )
    map_to_study = map_labels if several else map_classes
    mapped = map_to_study(given, class_names, mapping or {}, drop_unknown=drop_unknown)
    _report_mapping(mapped, console)
    depth = _depth(described, mapped.table, console)
    context, decoded = _run_context(study, described, mapped.table.read_at(depth), device, console)
    warning = _check_known(study, described, decoded, console)
    table = context.training_data.table
    subgroup_columns = {
        column: subgroup_values(as_texts(table.frame[column].tolist()), column) for column in by
    }
    if several:
        predictions = _label_predictions(runs, context, console)
    else:
        predictions = _predictions(runs, context, operating, console)
    options = {
        "data": given.name,
        "multi_label": (columns or {}).get("multi_label"),
        "methods": list(runs) if methods else None,
        "map": ["=".join(pair) for pair in (mapping or {}).items()],
        "drop_unknown": drop_unknown or None,
        **written_options(by, ordered, class_order, operating),
    }
    about = EvaluationSettings(
        name=f"{described['name']} on {given.name}",
        class_names=class_names,
        models=(),
        class_order=order,
        grouped=len(set(table.groups)) < len(table),
        by=by,
        operating=operating,
        facts=_facts(described, given.read_at(depth), mapped, decoded, warning),
        command=command_line("evaluate", ["STUDY"], options, EvaluateOptions),
        synthetic=given.synthetic,
        multi_label=several,
    )
    store(out, predictions, subgroup_columns, about, console)
    return write_report(out)


def _runs(
    study: Path,
    described: Mapping[str, Any],
    methods: Sequence[str] | str | None,
    trust_code: bool,
    console: Console,
) -> dict[str, list[Run]]:
    """The runs of the requested methods, which must be finished, or of all finished ones."""
    study_file.refuse_shared(study, described)
    known = list(described["methods"])
    wanted, trust = known, Trust(trust_code)
    if methods is not None:
        with as_usage_error(f"the methods of this study are {', '.join(known)}"):
            texts = split_methods(methods) if isinstance(methods, str) else methods
            wanted = [parse_method(text).text for text in texts]
        unknown = [text for text in wanted if text not in known]
        if unknown:
            raise UsageError(f"expected methods of this study ({', '.join(known)}), got {', '.join(unknown)}")
        trust = Trust(trust_code, frozenset(map(code_name, wanted)))
    finished = {text: finished_runs(study, described, text) for text in wanted}
    unfinished = {text: done.count(False) for text, done in finished.items() if not all(done)}
    if unfinished and (methods is not None or len(unfinished) == len(finished)):
        states = ", ".join(
            f"{text} lacks {n} of {len(finished[text])} runs" for text, n in unfinished.items()
        )
        raise TametailError(
            f"expected methods whose runs are all finished in {study}, but {states}; finish them with tametail resume"
        )
    if unfinished:
        console.warn(f"left out, as their runs are not all finished: {', '.join(unfinished)}")
    chosen = [text for text in finished if text not in unfinished]
    runs = all_runs(study, described, trust, chosen)
    return {text: [run for run in runs if run.method.text == text] for text in chosen}


def _report_mapping(mapped: MappedTable, console: Console) -> None:
    for theirs, (ours, count) in mapped.renamed.items():
        console.say(f"{theirs} is mapped to {ours}: {count} images")
    if mapped.dropped:
        listed = ", ".join(f"{label} ({count} images)" for label, count in sorted(mapped.dropped.items()))
        console.warn(f"left out, as the study has no such class: {listed}")
    if mapped.unlabelled:
        console.warn(
            f"no image has {', '.join(mapped.unlabelled)}, so that it may not have been looked for: taken as unknown and left "
            f"out of all metrics; if it is called otherwise here, name it with --map THEIRS=OURS"
        )


def _run_context(
    study: Path, described: Mapping[str, Any], table: ImageTable, device: str, console: Console
) -> tuple[RunContext, DecodedImages]:
    """The context to predict the readable images with the study's models."""
    recipe = recorded_recipe(described)
    spec = studied_backbone(described)
    accelerator = make_accelerator(recipe, device, training=False)
    with console.track("Images", len(table)) as advance:
        decoded = decoded_images(table, spec.canvas, advance=advance)
    if decoded.errors:
        some = "; ".join(f"{image}: {why}" for image, why in list(decoded.errors.items())[:3])
        console.warn(f"{len(decoded.errors)} of {len(table)} images cannot be read and are left out ({some})")
        table = table.take(decoded.readable)
    rows = len(table)
    nowhere = np.full(rows, -1, dtype=np.int64)
    splits = Splits(table.images, np.full(rows, "test", dtype="U5"), nowhere, 0, 0, True, "")
    inputs = StudyInputs(table, splits, decoded, recipe, spec, restore_backbone(study, spec))
    training_data = inputs.training_data(accelerator, console)
    return RunContext(training_data, recipe, accelerator, study, Hardware(device)), decoded


def _read_as_studied(columns: Mapping[str, Any], described: Mapping[str, Any]) -> dict[str, Any]:
    """The options for the data, with the study's rule for slices of volumes.

    Raises:
        UsageError: another rule is given.
    """
    rule, given = described["table"].get("slices"), columns.get("slices")
    if rule and given and given != rule:
        raise UsageError(
            f"expected --slices {rule}, by which the study's images were taken from volumes, got {given}; leave it out"
        )
    return {**columns, "slices": given or rule}


def _depth(described: Mapping[str, Any], table: ImageTable, console: Console) -> BitDepth:
    """The depth at which the grey images of the data are read: as given for the data, or else as `predict` reads them."""
    studied = described["table"].get("bit_depth")
    depth = table_bit_depth(table)
    if table.bit_depth is None:
        depth = depth.for_study(studied)
    say_new_depth(depth, studied, console)
    return depth


def _check_known(study: Path, described: Mapping[str, Any], decoded: DecodedImages, console: Console) -> str:
    """Warn of images that are images of the study, byte for byte, by equal pixels or similar.

    Returns:
        The warnings; empty if there are none.

    Images that are exactly those of the test set are refused with a `DataError`: their evaluation would not be recorded.
    """
    own = load_study_images(study, described)
    if own.unchecked:
        console.say(own.unchecked)
    content = np.array(decoded.digests)[decoded.readable].tolist()
    found = own.recognise(ImageDigests.of(decoded.pixels, content))
    if set(found.held_out) - {SIMILAR}:
        raise DataError(
            f"expected images from elsewhere, but {found.describe(held_out=True)}, whose evaluations are recorded: use tametail "
            f"test-set {shlex.quote(str(study))} for it, and leave these images out"
        )
    warnings = [warn_of_look(study, "evaluate", found, console)] if found.held_out else []
    if found.trained:
        trained = (
            f"{found.describe(held_out=False)}: results are optimistic, and this is no external validation"
        )
        console.warn(trained)
        warnings.append(trained)
    return "; ".join(warnings)


def _predictions(
    runs: Mapping[str, Sequence[Run]], context: RunContext, operating: OperatingPoints, console: Console
) -> dict[str, ModelPredictions]:
    """Predictions of the fold models of each method, and of their ensemble if there are several."""
    predictions: dict[str, ModelPredictions] = {}
    own = {each.method: each for each in find_runs(context.study, study_file.read_study_file(context.study))}
    with console.track("Models", sum(map(len, runs.values()))) as advance:
        for text, of_method in runs.items():
            tables, counts = [], np.zeros(len(context.training_data.table.class_names), dtype=np.int64)
            for run in of_method:
                table = _predict(run, context)
                assert isinstance(table, Predictions)
                tables.append(table)
                counts += _class_counts(run, context)
                advance(1)
            calibrated = calibrate_out_of_fold(own[text].replicates)
            tables = [apply_map(calibrated.map, table) for table in tables]
            cuts = _thresholds(calibrated.tables, operating)
            per_model = _per_model(counts, len(of_method))
            predictions[text] = ModelPredictions(tables, cuts, per_model)
            if len(tables) > 1:
                mean = ModelPredictions([ensemble(tables)], cuts, per_model)
                predictions[f"{text}, ensemble of {len(tables)}"] = mean
    return predictions


def _label_predictions(
    runs: Mapping[str, Sequence[Run]], context: RunContext, console: Console
) -> dict[str, ModelPredictions]:
    """The same for images that may have several labels, with the calibration maps and thresholds that `predict` uses."""
    predictions: dict[str, ModelPredictions] = {}
    own = {each.method: each for each in find_runs(context.study, study_file.read_study_file(context.study))}
    with console.track("Models", sum(map(len, runs.values()))) as advance:
        for text, of_method in runs.items():
            found = calibration_for_new_images(context.study, text).map
            assert isinstance(found, LabelMap)
            tables, counts = [], np.zeros(len(found.slope), dtype=np.int64)
            for run in of_method:
                table = _predict(run, context)
                assert isinstance(table, LabelPredictions)
                tables.append(apply_label_map(found, table))
                counts += _class_counts(run, context)
                advance(1)
            fitted: dict[str, Any] = {
                "label_thresholds": deployed_thresholds(own[text].label_replicates, found).tolist(),
                "train_counts": _per_model(counts, len(of_method)),
            }
            predictions[text] = ModelPredictions(tables, **fitted)
            if len(tables) > 1:
                mean = ModelPredictions([ensemble_labels(tables)], **fitted)
                predictions[f"{text}, ensemble of {len(tables)}"] = mean
    return predictions


def _class_counts(run: Run, context: RunContext) -> IntArray:
    """(C,) training images per class of a run."""
    names = context.training_data.table.class_names
    return np.array(load_class_counts(run.directory(context.study), names)[0], dtype=np.int64)


def _per_model(counts: IntArray, models: int) -> list[int]:
    """Mean over the models of their training images (C,), and at least 1 where there are any."""
    found: list[int] = np.maximum(counts // models, counts > 0).tolist()
    return found


def _predict(run: Run, context: RunContext) -> Predictions | LabelPredictions:
    table = context.training_data.table
    rows = np.arange(len(table))
    model = load_trained_model(run, context.study, context.training_data.new_model)
    counted = load_class_counts(run.directory(context.study), table.class_names)
    decision_rule = run.method.decision_rule(*counted, context.recipe)
    return make_predictions(run, table, rows, compute_outputs(model, context, rows), decision_rule)


def _thresholds(held_out: Sequence[Predictions], operating: OperatingPoints) -> list[float | None]:
    """Threshold of each operating point, chosen on the out-of-fold predictions of the study."""
    found: list[float | None] = []
    for name, sensitivity in operating:
        index = held_out[0].class_names.index(name)
        positive = np.concatenate([table.target == index for table in held_out])
        p = np.concatenate([table.probabilities[:, index] for table in held_out])
        cut = threshold_for(positive, p, sensitivity)
        found.append(None if np.isnan(cut) else cut)
    return found


def _facts(
    described: Mapping[str, Any],
    given: ImageTable,
    mapped: MappedTable,
    decoded: DecodedImages,
    warning: str,
) -> tuple[tuple[str, str], ...]:
    """(term, text) about the origin of the predictions; a warning is shown above all results."""
    facts = [
        *([("Warning", warning)] if warning else []),
        ("Models", f"fold models of the study {described['name']}, trained on images of that study only"),
        ("Images from", given.name),
    ]
    if mapped.renamed:
        pairs = [f"{theirs} as {ours} ({count} images)" for theirs, (ours, count) in mapped.renamed.items()]
        facts.append(("Classes mapped", ", ".join(pairs)))
    if mapped.dropped:
        listed = [f"{label} ({count} images)" for label, count in sorted(mapped.dropped.items())]
        facts.append(("Left out, unknown class", ", ".join(listed)))
    if mapped.unlabelled:
        facts.append(("Labels of no image, taken as unknown", ", ".join(mapped.unlabelled)))
    if absent := [name for name in mapped.absent if name not in mapped.unlabelled]:
        facts.append(("Classes without an image", ", ".join(absent)))
    if decoded.errors:
        facts.append(("Images that cannot be read", str(len(decoded.errors))))
    return (
        *facts,
        *((f"{term} (as read)", text) for term, text in reading_facts(given)),
    )
