r"""results.tex: the ranking and the paper's table (classes × losses), for ``\input`` into a paper with booktabs.

Each value stands over its 95 % interval. The highest of a row, or of a column of the ranking, is bold; so are all
that are equal to it as printed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tametail.evaluation import Estimate, Evaluation
from tametail.evaluation.multi_label import LabelEvaluation
from tametail.report import formatting
from tametail.report.study import narrative
from tametail.report.study.matrices import points
from tametail.report.study.results import MethodResults, StudyResults
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
MOST_ACROSS = 3  # losses side by side: so many fit on a page with their intervals
_LONG = 14  # letters of a loss's name, beyond which it is broken
Either = Evaluation | LabelEvaluation
Write = Callable[[float], str]


@dataclass(frozen=True)
class _Row:
    """A class (or mean): its name and counts in TeX, and for each loss its two estimates."""

    name: str
    counts: tuple[str, str]
    pairs: tuple[tuple[Estimate, Estimate], ...]


def results_tex(results: StudyResults) -> str:
    """All tables as TeX; the losses stand in the order of their rank."""
    head = [
        f"% {' '.join(tex(results.settings['name']).split())}: made by tametail, to be read with \\input{{results}}",
        "% In the preamble: \\usepackage{booktabs}",
    ]
    if results.settings["synthetic"]:
        head.append(f"% {narrative.SYNTHETIC}")
    waiting = [f"% Not finished, so not ranked: {tex(line)}" for line in narrative.not_ranked(results)]
    blocks = ["\n".join([*head, *waiting])]
    if results.ranking:
        blocks += [
            _ranking(results),
            *_classes(results, results.ranking, _out_of_fold, "oof", _where(results)),
        ]
    tested = [result for result in results.ranking if result.on_test is not None]
    if tested:
        mean, together = "test set, mean over the fold models", "test set, ensemble of the fold models"
        blocks += _classes(results, tested, lambda result: _on_test(result)[0], "test", mean)
        blocks += _classes(results, tested, lambda result: _on_test(result)[1], "ensemble", together)
    return "\n\n".join(blocks) + "\n"


def _out_of_fold(result: MethodResults) -> Either:
    assert result.log_posterior is not None
    return result.log_posterior


def _on_test(result: MethodResults) -> tuple[Either, Either]:
    assert result.on_test is not None
    return result.on_test


def _where(results: StudyResults) -> str:
    return narrative.narrative_of(results).where


def _ranking(results: StudyResults) -> str:
    evaluations = [_out_of_fold(result) for result in results.ranking]
    means = [_means(evaluation) for evaluation in evaluations]
    titles = [title for title, _, _ in means[0]]
    columns = [
        row_of_best([of_method[column][1] for of_method in means], means[0][column][2])
        for column in range(len(titles))
    ]
    pairs = results.pairs
    method = formatting.sentence_case(narrative.narrative_of(results).method)
    header = ["", method, *titles, *(["Against the first"] if pairs else [])]
    body = []
    for place, result in enumerate(results.ranking):
        paired = pairs.pair(place, 0) if pairs and place else None
        first = [str(place + 1), _name(result.method), *(column[place] for column in columns)]
        second = ["", "", *(_small(interval_tex(estimate, write)) for _, estimate, write in means[place])]
        if pairs and paired is None:
            first, second = [*first, ""], [*second, ""]
        elif paired is not None:
            p = formatting.p_value(paired.p_holm)
            p = f"$p{p.replace('< ', '<')}$" if p.startswith("<") else f"$p={p}$"
            first.append(f"{signed(points(paired.difference.value))}, {p}")
            second.append(_small(interval_tex(paired.difference, points, " to ")))
        body += [first, second]
    test = (
        " Against the first: points of balanced accuracy, with $p$ of a paired sign-flip test, Holm-corrected over "
        r"all pairs; two differ significantly where $p \le 0.05$ and the interval is beside 0."
        if pairs
        else ""
    )
    caption = f"{_caption(results, evaluations[0], _where(results))}{test}"
    return _float(tabular("rl" + "r" * (len(header) - 2), [header], [body]), f"Ranking. {caption}", "ranking")


def _means(evaluation: Either) -> list[tuple[str, Estimate, Write]]:
    """Title, estimate and form of what stands in the ranking."""
    if isinstance(evaluation, LabelEvaluation):
        return [
            (r"mAP, \%", evaluation.average_precision, formatting.percent),
            (r"AUROC, \%", evaluation.auroc, formatting.percent),
            ("Macro-F1", evaluation.chosen.macro_f1, formatting.score),
        ]
    few = [group.recall for group in evaluation.class_groups if group.name == "few"]
    return [
        (r"Bal.\ acc., \%", evaluation.balanced_accuracy, formatting.percent),
        ("Macro-F1", evaluation.macro_f1, formatting.score),
        (r"Acc., \%", evaluation.accuracy, formatting.percent),
        *(
            [(r"Few-shot recall, \%", few[0], formatting.percent)]
            if few and len(evaluation.class_groups) > 1
            else []
        ),
    ]


def _classes(
    results: StudyResults,
    methods: Sequence[MethodResults],
    choose: Callable[[MethodResults], Either],
    key: str,
    where: str,
) -> list[str]:
    """Classes × losses, in several tables where there are many losses; what is best is best of all of them."""
    evaluations = [choose(result) for result in methods]
    rows = [*(_row(results, index, evaluations) for index in results.class_order)]
    last = _last(results, evaluations)
    titles, writes = _columns(evaluations[0])
    blocks = []
    for start in range(0, len(methods), MOST_ACROSS):
        shown = range(start, min(start + MOST_ACROSS, len(methods)))
        body = [line for row in rows for line in _lines(row, shown, writes)]
        names = [rf"\multicolumn{{2}}{{c}}{{{_name(methods[place].method)}}}" for place in shown]
        unit = "Label" if results.multi_label else "Class"
        counted = formatting.sentence_case(narrative.narrative_of(results).images)
        rules = "".join(rf"\cmidrule(lr){{{4 + 2 * k}-{5 + 2 * k}}}" for k in range(len(shown)))
        table = tabular(
            "lrr" + "rr" * len(shown),
            [
                ["", "", "", *names],
                [rules],
                [unit, "Images" if results.evaluated else "Train", "$n$", *titles * len(shown)],
            ],
            [body, _lines(last, shown, writes)],
        )
        many = len(methods) > MOST_ACROSS
        part = f" Part {start // MOST_ACROSS + 1} of {-(-len(methods) // MOST_ACROSS)}." if many else ""
        counted = "" if results.evaluated else f" Train: {counted.lower()}."
        label = f"{key}-{start // MOST_ACROSS + 1}" if many else key
        caption = f"{unit} by {unit.lower()}.{part} {_caption(results, evaluations[0], where)}{counted}"
        blocks.append(_float(table, caption, label))
    return blocks


def _row(results: StudyResults, index: int, evaluations: Sequence[Either]) -> _Row:
    name = results.class_names[index]
    pairs, n = [], 0
    for evaluation in evaluations:
        if isinstance(evaluation, LabelEvaluation):
            label = evaluation.labels[index]
            pairs.append((label.average_precision, label.auroc))
            n = label.positives
        else:
            of_class = evaluation.classes[index]
            pairs.append((of_class.recall, of_class.f1))
            n = of_class.n
    return _Row(tex(name), (str(results.counts.train[name]), str(n)), tuple(pairs))


def _last(results: StudyResults, evaluations: Sequence[Either]) -> _Row:
    pairs = [
        (one.average_precision, one.auroc)
        if isinstance(one, LabelEvaluation)
        else (one.balanced_accuracy, one.macro_f1)
        for one in evaluations
    ]
    return _Row("Mean", (str(results.counts.train_images), str(evaluations[0].n)), tuple(pairs))


def _columns(evaluation: Either) -> tuple[list[str], tuple[Write, Write]]:
    if isinstance(evaluation, LabelEvaluation):
        return ["AP", "AUROC"], (formatting.percent, formatting.percent)
    return ["Acc", "F1"], (formatting.percent, formatting.score)


def _lines(row: _Row, shown: range, writes: tuple[Write, Write]) -> list[list[str]]:
    """The line of values and the line of their intervals."""
    best = [row_of_best([pair[side] for pair in row.pairs], writes[side]) for side in (0, 1)]
    values = [best[side][place] for place in shown for side in (0, 1)]
    limits = [
        _small(interval_tex(row.pairs[place][side], writes[side])) for place in shown for side in (0, 1)
    ]
    return [[row.name, *row.counts, *values], ["", "", "", *limits]]


def _small(text: str) -> str:
    return rf"{{\scriptsize {text}}}" if text else ""


def _name(method: str) -> str:
    if len(method) <= _LONG:
        return tex(method)
    return rf"\parbox[b]{{8em}}{{\raggedright\hspace{{0pt}}{breakable(method)}}}"


def _caption(results: StudyResults, evaluation: Either, where: str) -> str:
    size = f"{evaluation.n} images" + (
        f" of {evaluation.groups} groups" if evaluation.groups != evaluation.n else ""
    )
    synthetic = f" {narrative.SYNTHETIC}" if results.settings["synthetic"] else ""
    said = f"{tex(results.settings['name'])}, {where}, $n$ = {size}; 95\\,\\% intervals below the values; {ABSENT_TEX}: undefined."
    return f"{said} Bold is the highest value and no test.{synthetic}"


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
