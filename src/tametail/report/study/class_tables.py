"""Tables of the page: classes × methods as in the paper, and the ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tametail.evaluation import Estimate, Evaluation
from tametail.evaluation.paired import Paired
from tametail.report.study.results import MethodResults, StudyResults
from tametail.report.study.summary import AnyEvaluation, ShownMetric, group_title, is_best, overall_metrics

# Columns of the table of one method: an attribute of `ClassResult`, its title, and whether it is shown in %.
CLASS_COLUMNS = (
    ("recall", "Recall, %", True),
    ("precision", "Precision, %", True),
    ("f1", "F1", False),
    ("specificity", "Specificity, %", True),
    ("auroc", "AUROC, %", True),
    ("average_precision", "Average precision, %", True),
)


@dataclass(frozen=True)
class ClassCell:
    """Recall and F1 of one method, and whether each is the highest of its row."""

    recall: Estimate
    f1: Estimate
    best_recall: bool
    best_f1: bool


@dataclass(frozen=True)
class ClassTableRow:
    """A class, or a mean over classes.

    Attributes:
        name: as shown.
        group: ``many``, ``medium`` or ``few``; empty for a mean and without training counts.
        starts_group: whether the row above is of another group.
        train, n, groups: training images, images evaluated and their groups; None if not counted.
        cells: one per method.
        index: of the class; -1 for a mean.
    """

    name: str
    group: str
    starts_group: bool
    train: int
    n: int
    groups: int | None
    cells: tuple[ClassCell, ...]
    index: int = -1


@dataclass(frozen=True)
class ClassTable:
    """Classes × methods, the most frequent class first, with means below.

    Attributes:
        methods: the columns.
        rows: the classes.
        totals: means over each class group, and over all classes.
        class_groups: names of the groups, many-shot first, with their numbers of classes.
        show_n: whether n differs from the number of training images and needs a column.
    """

    methods: tuple[str, ...]
    rows: tuple[ClassTableRow, ...]
    totals: tuple[ClassTableRow, ...]
    class_groups: tuple[tuple[str, int], ...]
    show_n: bool


def class_table(
    results: StudyResults,
    methods: Sequence[MethodResults],
    choose: Callable[[MethodResults], Evaluation | None],
    *,
    show_n: bool,
) -> ClassTable:
    """Recall and F1 of each class under each method that has the chosen evaluation."""
    chosen = [(result.method, evaluation) for result in methods if (evaluation := choose(result)) is not None]
    evaluations = [evaluation for _, evaluation in chosen]
    if not evaluations:
        return ClassTable((), (), (), (), show_n)
    first, names, train = evaluations[0], results.class_names, results.counts.train
    group_of = {index: group.name for group in first.class_groups for index in group.classes}
    rows: list[ClassTableRow] = []
    for index in results.by_frequency:
        group, of_class = group_of.get(index, ""), [evaluation.classes[index] for evaluation in evaluations]
        rows.append(
            ClassTableRow(
                names[index],
                group,
                bool(rows) and rows[-1].group != group,
                train[names[index]],
                of_class[0].n,
                of_class[0].groups,
                _cells([(one.recall, one.f1) for one in of_class]),
                index,
            )
        )
    totals = [
        ClassTableRow(
            f"{group_title(group.name)}, mean of {len(group.classes)}",
            "",
            False,
            sum(train[names[index]] for index in group.classes),
            group.recall.n,
            None,
            _cells([(one.class_groups[place].recall, one.class_groups[place].f1) for one in evaluations]),
        )
        for place, group in enumerate(first.class_groups)
    ]
    means = _cells([(one.balanced_accuracy, one.macro_f1) for one in evaluations])
    totals.append(
        ClassTableRow(
            "Balanced accuracy, macro-F1",
            "",
            False,
            results.counts.train_images,
            first.n,
            first.groups,
            means,
        )
    )
    return ClassTable(
        tuple(method for method, _ in chosen),
        tuple(rows),
        tuple(totals),
        tuple((group.name, len(group.classes)) for group in first.class_groups),
        show_n,
    )


def _cells(pairs: Sequence[tuple[Estimate, Estimate]]) -> tuple[ClassCell, ...]:
    recalls = is_best([recall for recall, _ in pairs])
    f1s = is_best([f1 for _, f1 in pairs])
    return tuple(ClassCell(*pair, *best) for pair, *best in zip(pairs, recalls, f1s, strict=True))


@dataclass(frozen=True)
class RankedMethod:
    """A method in the ranking.

    Attributes:
        rank: from 1.
        method: its name.
        paired: its test against the best; None for the best, and without tests.
        order: sorts by the verdict of the test.
        metrics: each with whether it is the best of its column.
        evaluation: what the metrics are of.
    """

    rank: int
    method: str
    paired: Paired | None
    order: int
    metrics: tuple[tuple[ShownMetric, bool], ...]
    evaluation: AnyEvaluation


@dataclass(frozen=True)
class MethodTable:
    """Methods by rank with every overall metric; ``tested`` says whether there are paired tests against the best."""

    headings: tuple[str, ...]
    rows: tuple[RankedMethod, ...]
    tested: bool


def method_table(
    results: StudyResults,
    choose: Callable[[MethodResults], AnyEvaluation | None] = lambda result: result.evaluation,
) -> MethodTable:
    """The methods that have the chosen evaluation, by rank; tests are of the out-of-fold predictions only."""
    chosen = [(result, found) for result in results.ranking if (found := choose(result)) is not None]
    shown = [overall_metrics(evaluation) for _, evaluation in chosen]
    best = [
        is_best([one.estimate for one in column], greater_is_better=column[0].greater_is_better)
        for column in zip(*shown, strict=True)
    ]
    tested = results.pairs is not None and all(result.evaluation is found for result, found in chosen)
    order = {"better": 1, "no significant difference": 2, "worse": 3}
    rows = []
    for place, ((result, evaluation), metrics) in enumerate(zip(chosen, shown, strict=True)):
        paired = results.pairs.pair(place, 0) if results.pairs is not None and tested and place else None
        marked = tuple((one, best[column][place]) for column, one in enumerate(metrics))
        rows.append(
            RankedMethod(
                place + 1, result.method, paired, order[paired.verdict] if paired else 0, marked, evaluation
            )
        )
    return MethodTable(tuple(one.heading for one in shown[0]) if shown else (), tuple(rows), tested)
