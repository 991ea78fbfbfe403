"""Tables of classes and losses for the page: the paper's layout, every number of one loss, and the ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tametail.evaluation import Estimate, Evaluation
from tametail.evaluation.paired import Paired
from tametail.report import formatting
from tametail.report.study import narrative
from tametail.report.study.results import MethodResults, StudyResults


@dataclass(frozen=True)
class Cell:
    """Recall and F1 under one loss, and whether each is the highest of its row."""

    recall: Estimate
    f1: Estimate
    best_recall: bool
    best_f1: bool


@dataclass(frozen=True)
class ClassRow:
    """A class: its group (empty if unknown), whether a group begins with it, its counts and its cells."""

    name: str
    class_group: str
    next: bool
    train: int
    n: int
    groups: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Total:
    """A mean over the classes of a group, or over all classes. Groups are None where they are not counted."""

    name: str
    train: int
    n: int
    groups: int | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ClassTable:
    """Classes × losses, the most frequent class first, and means below.

    Attributes:
        losses: the columns.
        class_groups: names of the class groups, many-shot first, and their numbers of classes.
        show_n: n is not the number of training images and needs a column of its own.
    """

    methods: tuple[str, ...]
    rows: tuple[ClassRow, ...]
    totals: tuple[Total, ...]
    class_groups: tuple[tuple[str, int], ...]
    show_n: bool


def class_table(
    results: StudyResults,
    methods: Sequence[MethodResults],
    choose: Callable[[MethodResults], Evaluation | None],
    *,
    show_n: bool,
) -> ClassTable:
    """The paper's table: each loss with recall and F1 of each class."""
    chosen = [(result.method, evaluation) for result in methods if (evaluation := choose(result)) is not None]
    evaluations = [evaluation for _, evaluation in chosen]
    if not evaluations:
        return ClassTable((), (), (), (), show_n)
    first, class_groups, train = evaluations[0], class_group_of(evaluations[0]), results.counts.train
    rows: list[ClassRow] = []
    for index in results.class_order:
        name, group = results.class_names[index], class_groups.get(index, "")
        of_class = [evaluation.classes[index] for evaluation in evaluations]
        rows.append(
            ClassRow(
                name,
                group,
                bool(rows) and rows[-1].class_group != group,
                train[name],
                of_class[0].n,
                of_class[0].groups,
                _cells([(one.recall, one.f1) for one in of_class]),
            )
        )
    counted = tuple((group.name, len(group.classes)) for group in first.class_groups)
    return ClassTable(
        tuple(method for method, _ in chosen),
        tuple(rows),
        (*_class_groups(results, evaluations), _all(results, evaluations)),
        counted,
        show_n,
    )


def _class_groups(results: StudyResults, evaluations: Sequence[Evaluation]) -> list[Total]:
    names, train = results.class_names, results.counts.train
    return [
        Total(
            f"{group.name.capitalize()}-shot, mean of {len(group.classes)}",
            sum(train[names[index]] for index in group.classes),
            group.recall.n,
            None,
            _cells([(e.class_groups[place].recall, e.class_groups[place].f1) for e in evaluations]),
        )
        for place, group in enumerate(evaluations[0].class_groups)
    ]


def _all(results: StudyResults, evaluations: Sequence[Evaluation]) -> Total:
    first = evaluations[0]
    cells = _cells([(evaluation.balanced_accuracy, evaluation.macro_f1) for evaluation in evaluations])
    return Total("Balanced accuracy, macro-F1", results.counts.train_images, first.n, first.groups, cells)


def _cells(pairs: Sequence[tuple[Estimate, Estimate]]) -> tuple[Cell, ...]:
    recalls = _highest([recall.value for recall, _ in pairs])
    f1s = _highest([f1.value for _, f1 in pairs])
    return tuple(Cell(*pair, *best) for pair, *best in zip(pairs, recalls, f1s, strict=True))


def _highest(values: Sequence[float]) -> list[bool]:
    """Which values are the highest; none if all are equal, as where there is but one."""
    distinct = {value for value in values if value == value}
    return [len(distinct) > 1 and value == max(distinct) for value in values]


def class_group_of(evaluation: Evaluation) -> dict[int, str]:
    """Name of the class group by class index; empty without training counts."""
    return {index: group.name for group in evaluation.class_groups for index in group.classes}


@dataclass(frozen=True)
class Metric:
    """A column: an attribute of `ClassResult`, its title, and whether it is a score in 0..1 rather than a share in %."""

    name: str
    title: str
    score: bool = False


_METRICS = (
    Metric("recall", "Recall, %"),
    Metric("precision", "Precision, %"),
    Metric("f1", "F1", score=True),
    Metric("specificity", "Specificity, %"),
    Metric("auroc", "AUROC, %"),
    Metric("average_precision", "Average precision, %"),
)


@dataclass(frozen=True)
class DetailRow:
    """A class under one loss, with an estimate for each metric."""

    name: str
    class_group: str
    next: bool
    train: int
    n: int
    groups: int
    estimates: tuple[Estimate, ...]


@dataclass(frozen=True)
class Detail:
    """Every number of one loss, class by class."""

    method: str
    metrics: tuple[Metric, ...]
    rows: tuple[DetailRow, ...]


def details(methods: Sequence[MethodResults], table: ClassTable) -> list[Detail]:
    """Every number out of fold of each loss.

    Args:
        losses: finished ones.
        table: classes and losses out of fold, whose rows these follow.
    """
    found = []
    for result in methods:
        assert result.out_of_fold is not None
        classes = {one.name: one for one in result.out_of_fold.classes}
        rows = tuple(
            DetailRow(
                row.name,
                row.class_group,
                row.next,
                row.train,
                row.n,
                row.groups,
                tuple(getattr(classes[row.name], metric.name) for metric in _METRICS),
            )
            for row in table.rows
        )
        found.append(Detail(result.method, _METRICS, rows))
    return found


@dataclass(frozen=True)
class Number:
    """An estimate of one loss: shown as a score or in %, bold if it is the highest."""

    estimate: Estimate
    score: bool
    best: bool


@dataclass(frozen=True)
class MethodRow:
    """A loss in the ranking; ``paired`` is its test against the best (None for the best), ``order`` sorts by it."""

    rank: int
    method: str
    paired: Paired | None
    order: int
    numbers: tuple[Number, ...]


@dataclass(frozen=True)
class Column:
    """A header of the ranking."""

    title: str
    text: bool = False


@dataclass(frozen=True)
class MethodTable:
    """The ranking with every mean. ``tested`` says whether there are paired tests against the best."""

    columns: tuple[Column, ...]
    rows: tuple[MethodRow, ...]
    tested: bool


_VERDICTS = ("better", "no significant difference", "worse")


def method_table(results: StudyResults) -> MethodTable:
    """The losses by rank: balanced accuracy, macro-F1, MCC, kappa where classes are ordered, accuracy and recall by class group."""
    evaluations = [result.out_of_fold for result in results.ranking if result.out_of_fold is not None]
    shown = [_means(evaluation) for evaluation in evaluations]
    columns = [Column(title) for title, _, _ in shown[0]]
    highest = [_highest([means[place][1].value for means in shown]) for place in range(len(columns))]
    rows = []
    for place, (result, means) in enumerate(zip(results.ranking, shown, strict=True)):
        paired = results.pairs.pair(place, 0) if results.pairs is not None and place else None
        order = _VERDICTS.index(paired.verdict) + 1 if paired else 0
        numbers = tuple(
            Number(estimate, score, highest[column][place])
            for column, (_, estimate, score) in enumerate(means)
        )
        rows.append(MethodRow(place + 1, result.method, paired, order, numbers))
    tested = results.pairs is not None
    against = [Column("Against the best", text=True)] if tested else []
    return MethodTable(
        (
            Column("Rank", text=True),
            Column(formatting.sentence_case(narrative.narrative_of(results).method), text=True),
            *against,
            *columns,
        ),
        tuple(rows),
        tested,
    )


def _means(evaluation: Evaluation) -> list[tuple[str, Estimate, bool]]:
    """Title, estimate, and whether it is shown as a score."""
    means = [
        ("Balanced accuracy, %", evaluation.balanced_accuracy, False),
        ("Macro-F1", evaluation.macro_f1, True),
        ("MCC", evaluation.mcc, True),
        *([("Quadratic kappa", evaluation.kappa, True)] if evaluation.kappa else []),
        ("Accuracy, %", evaluation.accuracy, False),
    ]
    if len(evaluation.class_groups) > 1:
        means += [
            (f"{group.name.capitalize()}-shot recall, %", group.recall, False)
            for group in evaluation.class_groups
        ]
    return means
