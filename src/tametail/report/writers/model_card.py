"""model_card.md: what the study's model is, what it was trained on, how good it is on each class, and what it is not for.

After Mitchell et al. 2019, from the study alone: what only people know is left to be filled in, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from tametail.evaluation import Evaluation
from tametail.report import formatting
from tametail.report.formatting import percent_with_interval, score_with_interval
from tametail.report.study import narrative, provenance
from tametail.report.study.results import MethodResults, StudyResults
from tametail.report.writers.markdown_table import NUMBER, markdown_table, markdown_text

MODEL_CARD = "model_card.md"
_FEW = 30  # images of a class, below which its numbers are said to be rough
_USE = (
    "Research on images like those it was trained on: the same kind of lesion or cell, taken with like devices in like "
    "patients. It is not a medical device. It has not been shown to help anyone, and must not decide on, or be the "
    "reason for, what is done or left undone for a patient."
)
_OUT_OF_SCOPE = (
    "Images of other classes: it always names one of its own. Images from other places, devices or patients before it "
    "has been tried on them (tametail evaluate STUDY --data OTHER does that). Prevalences other than those of training "
    "without tametail predict --prevalence."
)
_COPY = "Made by tametail from the study. Fill in a copy of it: the next report writes this file anew."
_FILL_IN = "_Not known from the study; fill in._"


def model_card(results: StudyResults) -> str:
    """The card of the model that ``tametail predict`` uses: the fold models of the best loss, their mean."""
    name = results.settings["name"]
    blocks = [f"# Model card: {markdown_text(name)}", _COPY]
    if results.settings["synthetic"]:
        blocks.append(f"**{narrative.SYNTHETIC}**")
    if not results.ranking:
        blocks += ["There is no model yet.", markdown_text(" ".join(narrative.answer(results)))]
        return "\n\n".join(blocks) + "\n"
    best = results.ranking[0]
    blocks += [
        "## Model",
        _facts(_model(results, best)),
        "## Intended use",
        _USE,
        "Out of scope. " + _OUT_OF_SCOPE,
        "## Data",
        _facts(provenance.data_rows(results)),
        _counts(results),
        "## Training",
        markdown_text(provenance.methods(results)),
        _facts([*provenance.recipe_rows(results.settings), *_environment(results)]),
        "## Results",
        markdown_text(" ".join([*narrative.answer(results), *narrative.state_of_test_set(results)])),
        *_results(results, best),
        "## Limits",
        "\n".join(f"- {markdown_text(limit)}" for limit in _limits(results, best)),
        "## Licence and citation",
        f"tametail is under the Apache License 2.0. Licence of the images and of the pretrained weights: {_FILL_IN}",
        markdown_text(provenance.citation(results)),
        f"Made again by: `{provenance.command(results.settings).replace('`', '')}`",
        f"Who is responsible for the model, and how to reach them: {_FILL_IN}",
    ]
    return "\n\n".join(blocks) + "\n"


def _model(results: StudyResults, best: MethodResults) -> provenance.Rows:
    settings = results.settings
    said = [
        ("Task", "several labels per image or none" if results.multi_label else "one class per image"),
        ("Loss", best.method),
        ("Backbone", f"{settings['backbone']} at {settings['image_size']} pixels"),
        (
            "Members",
            f"{best.finished} fold models; probabilities are their mean, through the loss's own link",
        ),
    ]
    if best.calibration is not None and best.calibration.after is not None:
        said.append(("Temperature fitted out of fold", f"{best.calibration.temperature:.2f}, not applied"))
    return said


def _environment(results: StudyResults) -> provenance.Rows:
    """Without the time it took, which is another whenever a study is made."""
    return [fact for fact in provenance.environment_rows(results) if fact[0] != provenance.TRAINING_TIME]


def _counts(results: StudyResults) -> str:
    counts, names = results.counts, [results.class_names[index] for index in results.class_order]
    rows = [[markdown_text(name), str(counts.train[name]), str(counts.test[name])] for name in names]
    total = ["Images in all", str(counts.train_images), str(counts.test_images)]
    unit = "Label" if results.multi_label else "Class"
    return markdown_table([unit, "Training images", "Test images"], ["---", NUMBER, NUMBER], [*rows, total])


def _results(results: StudyResults, best: MethodResults) -> list[str]:
    if results.multi_label:
        return [_labels(results, best)]
    blocks = []
    for where, evaluation in (
        ("out of fold", best.out_of_fold),
        ("test set, ensemble of the fold models", best.test_ensemble),
    ):
        if evaluation is not None:
            blocks += [f"### {markdown_text(best.method)}, {where}", _classes(results, evaluation)]
    if best.calibration is not None:
        found = best.calibration
        blocks.append(
            f"Calibration out of fold: expected calibration error {formatting.three_decimals(found.ece)}, Brier score "
            f"{formatting.three_decimals(found.brier.value)} ({formatting.three_decimals(found.brier.low)}–{formatting.three_decimals(found.brier.high)})."
        )
    return [*blocks, "95 % intervals in brackets; n counts images."]


def _classes(results: StudyResults, evaluation: Evaluation) -> str:
    rows = []
    for index in results.class_order:
        one = evaluation.classes[index]
        shares = (one.recall, one.precision, one.specificity)
        rows.append(
            [
                markdown_text(one.name),
                str(one.n),
                *map(percent_with_interval, shares),
                score_with_interval(one.f1),
                percent_with_interval(one.auroc),
            ]
        )
    header = ["Class", "n", "Recall, %", "Precision, %", "Specificity, %", "F1", "AUROC, %"]
    mean = [
        "Balanced accuracy, macro-F1",
        str(evaluation.n),
        percent_with_interval(evaluation.balanced_accuracy),
        "",
        "",
    ]
    rows.append([*mean, score_with_interval(evaluation.macro_f1), ""])
    for group in evaluation.class_groups if len(evaluation.class_groups) > 1 else ():
        title = f"{group.name.capitalize()}-shot, mean of {len(group.classes)}"
        rows.append(
            [
                title,
                str(group.recall.n),
                percent_with_interval(group.recall),
                "",
                "",
                score_with_interval(group.f1),
                "",
            ]
        )
    return markdown_table(header, ["---", *[NUMBER] * (len(header) - 1)], rows)


def _labels(results: StudyResults, best: MethodResults) -> str:
    assert best.labels is not None
    log_posterior = best.labels.out_of_fold
    rows = []
    for index in results.class_order:
        label, at = log_posterior.labels[index], log_posterior.chosen.labels[index]
        cells = [
            percent_with_interval(label.average_precision),
            percent_with_interval(label.auroc),
            percent_with_interval(at.recall),
        ]
        cells += [percent_with_interval(at.specificity), formatting.threshold(best.labels.thresholds[index])]
        rows.append([markdown_text(label.name), str(label.positives), *cells])
    mean = [
        percent_with_interval(log_posterior.average_precision),
        percent_with_interval(log_posterior.auroc),
    ]
    rows.append(["Mean", str(log_posterior.n), *mean, "", "", ""])
    header = ["Label", "With it", "AP, %", "AUROC, %", "Recall, %", "Specificity, %", "Threshold"]
    return markdown_table(header, ["---", *[NUMBER] * (len(header) - 1)], rows)


def _limits(results: StudyResults, best: MethodResults) -> list[str]:
    """What the numbers themselves say of how far they go."""
    counts, unit = results.counts, "label" if results.multi_label else "class"
    said = ["The intervals speak of images like these; on those of another place the model may be worse."]
    few = {name: n for name, n in counts.train.items() if 0 < n < _FEW}
    absent = [name for name, n in counts.train.items() if not n]
    if few:
        listed = formatting.join_names([f"{name} ({n})" for name, n in few.items()])
        said.append(f"Few training images, so that nothing about them is sure: {listed}.")
    if absent:
        said.append(f"Never seen in training: {formatting.join_names(absent)}.")
    worst = _worst(best)
    if worst:
        said.append(worst)
    if not provenance.grouped(results):
        said.append(
            "It is not known which images are of one patient: if several are, the results flatter and the intervals are "
            "too narrow."
        )
    if results.counts.test_images and not results.opened:
        said.append(
            "The best loss was chosen by these results, which flatters a little; the test set is still sealed."
        )
    if len(results.openings) > 1:
        said.append(f"The test set was opened {formatting.times(len(results.openings))}.")
    said += [f"Found in the data: {finding}" for finding in _findings(results)]
    looked_at = dict.fromkeys(group.column for group in best.subgroups)
    if looked_at:
        said.append(f"Looked at by {formatting.join_names(list(looked_at))}: see the report's subgroups.")
        said.append(f"Not looked at: images of no {unit}.")
    else:
        said.append(
            f"Not looked at: how it fares by age, sex, skin or device, and images of no {unit}. tametail report STUDY "
            "--by COLUMN does the first, where that was carried along."
        )
    return said


def _worst(best: MethodResults) -> str:
    if best.out_of_fold is None:
        return ""
    found = [one for one in best.out_of_fold.classes if one.n]
    worst = min(found, key=lambda one: one.recall.value)
    return f"It is worst at {worst.name}: recall {formatting.percent_in_words(worst.recall)}, n = {worst.n}."


def _findings(results: StudyResults) -> list[str]:
    return [
        f"{str(finding['message']).rstrip('.')}."
        for finding in results.settings.get("findings", [])
        if finding.get("severity") != "note"
    ]


def _facts(pairs: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- {markdown_text(term)}: {markdown_text(said)}" for term, said in pairs)
