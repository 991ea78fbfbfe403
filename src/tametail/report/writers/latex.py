r"""results.tex: the ranking and the table of the paper (classes × methods), for ``\input`` with booktabs.

Each value is printed above its 95 % interval. The highest value of a row, or of a column of the ranking, is bold, as are
all that are equal to it as printed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tametail.evaluation.multi_label import LabelEvaluation
from tametail.report import formatting
from tametail.report.study import narrative
from tametail.report.study.results import MethodResults, StudyResults
from tametail.report.study.summary import (
    AnyEvaluation,
    ShownMetric,
    class_images,
    class_means,
    class_metrics,
    overall_metrics,
)
from tametail.report.writers.latex_text import (
    ABSENT_TEX,
    breakable,
    interval_tex,
    row_of_best,
    signed,
    tabular,
    tex,
)

RESULTS_TEX = "results.tex"
MOST_ACROSS = 3  # methods side by side that fit on a page with their intervals
_LONG = 14  # letters of a method's name from which it is broken
# Columns of the ranking, by name: only these fit on a page.
_TITLES = {
    "balanced_accuracy": r"Bal.\ acc., \%",
    "average_precision": r"mAP, \%",
    "auroc": r"AUROC, \%",
    "macro_f1": "Macro-F1",
    "accuracy": r"Acc., \%",
    "recall_few": r"Few-shot recall, \%",
}
_Row = tuple[
    str, tuple[str, str], Sequence[tuple[ShownMetric, ShownMetric]]
]  # name, counts, a pair per method


def results_tex(results: StudyResults) -> str:
    """All tables as TeX, methods in the order of their rank."""
    head = [
        f"% {' '.join(tex(results.settings['name']).split())}: made by tametail, to be read with \\input{{results}}",
        "% In the preamble: \\usepackage{booktabs}",
    ]
    if results.settings["synthetic"]:
        head.append(f"% {narrative.SYNTHETIC}")
    waiting = [
        f"% Not finished, and therefore not ranked: {tex(line)}" for line in narrative.not_ranked(results)
    ]
    blocks = ["\n".join([*head, *waiting])]
    where = narrative.comparison_terms(results).where
    chosen = [(result, result.evaluation) for result in results.ranking if result.evaluation is not None]
    tested = [(result, result.on_test) for result in results.ranking if result.on_test is not None]
    if chosen:
        blocks += [_ranking(results, chosen, where), *_classes(results, chosen, "oof", where)]
    if tested:
        mean, ensemble = "test set, mean over the fold models", "test set, ensemble of the fold models"
        blocks += _classes(results, [(result, found[0]) for result, found in tested], "test", mean)
        blocks += _classes(results, [(result, found[1]) for result, found in tested], "ensemble", ensemble)
    return "\n\n".join(blocks) + "\n"


Chosen = Sequence[tuple[MethodResults, AnyEvaluation]]


def _ranking(results: StudyResults, chosen: Chosen, where: str) -> str:
    shown = [[metric for metric in overall_metrics(found) if metric.name in _TITLES] for _, found in chosen]
    columns = [_best(list(column)) for column in zip(*shown, strict=True)]
    pairs = results.pairs
    method = formatting.sentence_case(narrative.comparison_terms(results).method)
    header = ["", method, *(_TITLES[metric.name] for metric in shown[0])]
    header += ["Compared with the first"] if pairs else []
    body = []
    for place, ((result, _), metrics) in enumerate(zip(chosen, shown, strict=True)):
        first = [str(place + 1), _name(result.method), *(column[place] for column in columns)]
        second = ["", "", *map(_limits, metrics)]
        if pairs and not place:
            first, second = [*first, ""], [*second, ""]
        elif pairs:
            paired = pairs.pair(place, 0)
            p = formatting.p_equals(paired.p_holm).replace(" ", "")
            first.append(f"{signed(formatting.points(paired.difference.value))}, $p{p}$")
            second.append(_small(interval_tex(paired.difference, formatting.points, " to ")))
        body += [first, second]
    test = (
        " Compared with the first: difference in points of balanced accuracy, with $p$ of a paired sign-flip permutation "
        r"test, Holm-corrected over all pairs; significant where $p \le 0.05$ and the interval excludes 0."
    )
    caption = f"Ranking. {_caption(results, chosen[0][1], where)}{test if pairs else ''}"
    return _float(tabular("rl" + "r" * (len(header) - 2), [header], [body]), caption, "ranking")


def _classes(results: StudyResults, chosen: Chosen, key: str, where: str) -> list[str]:
    """Classes × methods, in several tables for many methods; bold is the best of all of them."""
    evaluations = [evaluation for _, evaluation in chosen]
    first, train = evaluations[0], results.counts.train
    rows: list[_Row] = [
        (
            tex(results.class_names[index]),
            (str(train[results.class_names[index]]), str(class_images(first, index))),
            [class_metrics(evaluation, index) for evaluation in evaluations],
        )
        for index in results.by_frequency
    ]
    counts = (str(results.counts.train_images), str(first.n))
    mean: _Row = ("Mean", counts, [class_means(evaluation) for evaluation in evaluations])
    titles = ["AP", "AUROC"] if isinstance(first, LabelEvaluation) else ["Recall", "F1"]
    unit = "Label" if results.multi_label else "Class"
    parts = -(-len(chosen) // MOST_ACROSS)
    blocks = []
    for start in range(0, len(chosen), MOST_ACROSS):
        shown = range(start, min(start + MOST_ACROSS, len(chosen)))
        names = [rf"\multicolumn{{2}}{{c}}{{{_name(chosen[place][0].method)}}}" for place in shown]
        rules = "".join(rf"\cmidrule(lr){{{4 + 2 * k}-{5 + 2 * k}}}" for k in range(len(shown)))
        columns = [unit, "Images" if results.is_evaluation else "Train", "$n$", *titles * len(shown)]
        table = tabular(
            "lrr" + "rr" * len(shown),
            [["", "", "", *names], [rules], columns],
            [[line for row in rows for line in _lines(row, shown)], _lines(mean, shown)],
        )
        number = start // MOST_ACROSS + 1
        part = f" Part {number} of {parts}." if parts > 1 else ""
        counted = "" if results.is_evaluation else " Train: training images."
        caption = f"{unit} by {unit.lower()}.{part} {_caption(results, first, where)}{counted}"
        blocks.append(_float(table, caption, f"{key}-{number}" if parts > 1 else key))
    return blocks


def _lines(row: _Row, shown: range) -> list[list[str]]:
    """The line of values and the line of their intervals."""
    name, counts, pairs = row
    best = [_best([pair[side] for pair in pairs]) for side in (0, 1)]
    values = [best[side][place] for place in shown for side in (0, 1)]
    limits = [_limits(pairs[place][side]) for place in shown for side in (0, 1)]
    return [[name, *counts, *values], ["", "", "", *limits]]


def _best(metrics: Sequence[ShownMetric]) -> list[str]:
    return row_of_best([metric.estimate for metric in metrics], _write(metrics[0]))


def _limits(metric: ShownMetric) -> str:
    return _small(interval_tex(metric.estimate, _write(metric)))


def _write(metric: ShownMetric) -> Callable[[float], str]:
    return formatting.percent if metric.in_percent else formatting.score


def _small(text: str) -> str:
    return rf"{{\scriptsize {text}}}" if text else ""


def _name(method: str) -> str:
    if len(method) <= _LONG:
        return tex(method)
    return rf"\parbox[b]{{8em}}{{\raggedright\hspace{{0pt}}{breakable(method)}}}"


def _caption(results: StudyResults, evaluation: AnyEvaluation, where: str) -> str:
    groups = f" of {evaluation.groups} groups" if evaluation.groups != evaluation.n else ""
    synthetic = f" {narrative.SYNTHETIC}" if results.settings["synthetic"] else ""
    said = (
        f"{tex(results.settings['name'])}, {where}, $n$ = {evaluation.n} images{groups}; 95\\,\\% intervals below the values; "
        f"{ABSENT_TEX}: undefined."
    )
    return f"{said} Bold is the highest value; this is not a test.{synthetic}"


def _float(table: str, caption: str, key: str) -> str:
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering\footnotesize\setlength{\tabcolsep}{2.5pt}",
            rf"\caption{{{caption}}}\label{{tab:tametail-{key}}}\par\smallskip",
            table,
            r"\end{table}",
        ]
    )
