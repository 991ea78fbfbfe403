"""Several studies as data sets: what is read of each, which methods are ranked, and what is refused."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fixtures.label_study import write_label_study
from fixtures.several_studies import rename, write_sets
from tametail.core.errors import DataError, UsageError
from tametail.evaluation import METRICS, ConfusionMetric, Estimate
from tametail.evaluation.metrics import accuracy
from tametail.report import read_results
from tametail.report.figures.svg import inlined
from tametail.report.ranks.benchmark_scores import BenchmarkScores, DataSet, compare_data_sets, read_data_sets
from tametail.report.ranks.figure import critical_difference_drawing
from tametail.report.ranks.narrative import answer, left_out
from tametail.report.ranks.page import ranks_html, write_ranks
from tametail.report.ranks.tables import ranks_csv, ranks_markdown, rows

MakeStudy = Callable[..., Path]
NAMES = ("skin", "eyes", "<b>=blood</b>", "breast", "bone")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five studies; tests only read them."""
    return write_sets(tmp_path_factory.mktemp("sets"), NAMES)


@pytest.fixture(scope="module")
def compared(studies: list[Path]) -> BenchmarkScores:
    return compare_data_sets(read_data_sets(studies))


def a_set(name: str, scores: dict[str, float], **fields: object) -> DataSet:
    estimates = {method: Estimate(value, value - 0.1, value + 0.1, 100) for method, value in scores.items()}
    made = DataSet(name, "balanced accuracy", estimates, (), 100, 50, 3, "made up", "")
    return replace(made, **fields)  # type: ignore[arg-type]


def made_up(*scores: tuple[float, ...]) -> BenchmarkScores:
    return compare_data_sets(
        [a_set(f"set{k}", {f"m{i}": v for i, v in enumerate(of_set)}) for k, of_set in enumerate(scores)]
    )


def test_scores_and_intervals_are_those_of_the_studies(
    studies: list[Path], compared: BenchmarkScores
) -> None:
    for study, found in zip(studies, compared.sets, strict=True):
        for result in read_results(study).methods:
            assert result.out_of_fold is not None
            assert found.scores[result.method] == result.out_of_fold.score
            assert (found.images, found.groups) == (result.out_of_fold.n, result.out_of_fold.groups)
    assert [one.name for one in compared.sets] == list(NAMES)
    assert (
        compared.sets[0].protocol
        == "cross-validation, 3 of 3 folds, 1 repeat, tf_efficientnet_lite0, recipe head"
    )


def test_tests_are_those_of_scipy(compared: BenchmarkScores) -> None:
    ranks = compared.ranks
    scores = [[one.scores[method].value for one in compared.sets] for method in ranks.methods]
    expected = stats.friedmanchisquare(*scores)
    assert ranks.friedman is not None
    assert ranks.friedman.statistic == pytest.approx(expected.statistic)
    assert ranks.friedman.p == pytest.approx(expected.pvalue)
    for row in rows(compared):
        assert row.mean_rank == pytest.approx(sum(on.rank for on in row.on) / len(row.on))
    assert all(one.mean_rank <= other.mean_rank for one, other in pairwise(rows(compared)))


def test_the_table_has_every_score_and_rank(compared: BenchmarkScores) -> None:
    table = list(csv.DictReader(io.StringIO(ranks_csv(compared))))
    assert [row["method"] for row in table] == list(compared.ranks.methods)
    for row in table:
        for one in compared.sets:
            assert float(row[f"score {one.name}"]) == pytest.approx(one.scores[row["method"]].value, abs=6e-7)
            assert int(row[f"n {one.name}"]) == one.images
    for one in compared.sets:
        assert sorted(float(row[f"rank {one.name}"]) for row in table) == [1, 2, 3, 4]
    cells = [cell for line in csv.reader(io.StringIO(ranks_csv(compared))) for cell in line]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_names_are_escaped(compared: BenchmarkScores) -> None:
    for text in (ranks_html(compared), ranks_markdown(compared)):
        assert "<b>=blood" not in text
        assert "&lt;b&gt;=" in text


def test_files_are_the_same_bytes_again(studies: list[Path], tmp_path: Path) -> None:
    first, second = ({} for _ in range(2))
    for files, out in ((first, tmp_path / "a"), (second, tmp_path / "b")):
        for _ in range(1 + bool(first)):  # the second folder is written twice
            write_ranks(studies[:2], out, figures=("pdf",))
        files |= {path.name: path.read_bytes() for path in out.iterdir()}
    assert first == second
    assert set(first) == {"ranks.html", "ranks.csv", "ranks.md", "critical-difference.pdf"}


def test_only_methods_that_all_sets_have_are_ranked(tmp_path: Path) -> None:
    one, other = write_sets(tmp_path, ("one", "other"), methods=("alpa", "ce", "asl", "focal"))
    shutil.rmtree(other / "runs" / "asl" / "seed0-fold1")
    settings = (other / "study.json").read_text(encoding="utf-8")
    (other / "study.json").write_text(settings.replace(', "focal"', ""), encoding="utf-8")
    found = compare_data_sets(read_data_sets([one, other]))
    assert set(found.ranks.methods) == {"alpa", "ce"}
    assert left_out(found) == ["asl: not finished on other", "focal: not on other"]
    assert "asl: not finished on other" in ranks_markdown(found)
    assert "asl: not finished on other" in ranks_html(found)


def test_evaluations_are_sets_too(tmp_path: Path, studies: list[Path]) -> None:
    from fixtures.predictions_csv import frame_of, write
    from tametail.external.evaluate_files import evaluate_files

    paths = [write(frame_of(k), tmp_path / f"{name}.csv") for k, name in enumerate(("alpa", "ce", "mine"))]
    evaluate_files(paths, tmp_path / "elsewhere")
    found = compare_data_sets(read_data_sets([studies[0], tmp_path / "elsewhere"]))
    assert set(found.ranks.methods) == {"alpa", "ce"}
    assert ("mine", ("skin",)) in found.left_out
    assert found.sets[1].protocol == "existing predictions"
    assert found.sets[1].images == 150


def test_sets_of_several_labels_are_ranked_among_themselves(tmp_path: Path, studies: list[Path]) -> None:
    labels = [rename(write_label_study(tmp_path / name), name, name) for name in ("a", "b")]
    assert compare_data_sets(read_data_sets(labels)).score_name == "mean average precision"
    with pytest.raises(UsageError, match="cannot be ranked together"):
        compare_data_sets(read_data_sets([labels[0], studies[0]]))


def test_fewer_than_two_sets_and_one_twice_are_refused(studies: list[Path]) -> None:
    with pytest.raises(UsageError, match="at least two studies"):
        read_data_sets(studies[:1])
    with pytest.raises(UsageError, match="comes twice"):
        read_data_sets([studies[0], studies[1], studies[0]])


def test_no_shared_methods_and_no_study_are_refused(studies: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"found 1 \(one: a, b; other: b, c\)"):
        compare_data_sets([a_set("one", {"a": 0.1, "b": 0.2}), a_set("other", {"b": 0.1, "c": 0.2})])
    with pytest.raises(DataError, match="expected a study"):
        read_data_sets([studies[0], tmp_path])
    with pytest.raises(DataError, match="undefined: b on other"):
        compare_data_sets([a_set("one", {"a": 0.1, "b": 0.2}), a_set("other", {"a": 0.1, "b": float("nan")})])


def test_few_sets_and_the_same_images_are_warned_of(studies: list[Path], compared: BenchmarkScores) -> None:
    assert compared.warnings == ()
    four = compare_data_sets(read_data_sets(studies[:4]))
    assert four.warnings[0].startswith("With 4 data sets the tests have little power")
    assert four.warnings[0] in ranks_html(four)
    same = [a_set(name, {"a": 0.1, "b": 0.2}, fingerprint="f" * (name != "z")) for name in "vwxyz"]
    assert compare_data_sets(same).warnings[0].startswith("v and w and x and y have the same images")


def test_sets_of_one_name_are_named_by_their_folders(tmp_path: Path) -> None:
    studies = write_sets(tmp_path, ("skin", "skin"), methods=("alpa", "ce"))
    assert [one.name for one in read_data_sets(studies)] == ["skin (set0)", "skin (set1)"]


def test_a_clear_winner_is_said_to_win() -> None:
    scores = [(0.9 - 0.001 * k, 0.7 - 0.001 * k, 0.5 + 0.001 * k, 0.3) for k in range(12)]
    found = made_up(*scores)
    first, second, third = answer(found)
    assert first == "Over 12 data sets, m0 has the best mean rank, 1.00, of 4 methods."
    assert second.endswith("the methods differ significantly.")
    assert third.startswith(
        "By Nemenyi’s critical difference (1.35), m0 ranks significantly better than m2 and m3"
    )
    assert third.endswith("is not significantly different from the other.")


def test_no_difference_is_no_winner() -> None:
    found = made_up((0.9, 0.7, 0.5), (0.5, 0.9, 0.7), (0.7, 0.5, 0.9))
    first, second = answer(found)
    assert first.startswith("Over 3 data sets, m0, m1 and m2 share the best mean rank, 2.00")
    assert second.endswith("no significant difference between the methods.")


def test_of_two_methods_wilcoxon_speaks() -> None:
    found = made_up(*[(0.9, 0.7 + 0.001 * k) for k in range(8)])
    assert answer(found)[1] == "Wilcoxon’s signed-rank test finds a significant difference (p = 0.008)."
    assert "without significant difference (Wilcoxon, Holm); there are none" in ranks_html(found)
    undecided = made_up((0.9, 0.7), (0.7, 0.9))
    assert "finds no significant difference (p = 1.00)" in answer(undecided)[1]


def test_equal_scores_share_their_rank() -> None:
    found = made_up((0.5, 0.5, 0.1), (0.5, 0.5, 0.1))
    assert [on.rank for on in rows(found)[0].on] == [1.5, 1.5]
    assert [row.on[0].best for row in rows(found)] == [True, True, False]
    assert "**50.0 (40.0–60.0)**, 1.5" in ranks_markdown(found)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(2, 9).flatmap(
        lambda methods: st.lists(
            st.tuples(*[st.floats(0.01, 0.99) for _ in range(methods)]), min_size=2, max_size=5
        )
    )
)
def test_any_ranking_can_be_drawn_and_said(scores: list[tuple[float, ...]]) -> None:
    found = made_up(*scores)
    assert all(sentence.endswith(".") for sentence in answer(found))
    svg = inlined(critical_difference_drawing(found.ranks, found.ranks.cliques, ""))
    for method, rank in zip(found.ranks.methods, found.ranks.mean_ranks, strict=True):
        assert f"{method} {rank:.2f}" in svg


def test_a_folder_with_other_things_is_refused(studies: list[Path], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"found mine\.txt"):
        write_ranks(studies[:2], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_methods_are_ranked_by_another_metric(studies: list[Path]) -> None:
    by_f1 = compare_data_sets(read_data_sets(studies[:2], "macro_f1"))
    assert by_f1.score_name == "macro f1"
    for study, found in zip(studies, by_f1.sets, strict=False):
        for result in read_results(study).methods:
            assert result.out_of_fold is not None
            assert found.scores[result.method] == result.out_of_fold["macro_f1"]


@pytest.mark.slow
def test_a_registered_metric_of_which_less_is_better_ranks_the_lowest_first(studies: list[Path]) -> None:
    METRICS.register(
        ConfusionMetric("error_rate", "Error rate", lambda c: 1 - accuracy(c), greater_is_better=False)
    )
    try:
        errors = compare_data_sets(read_data_sets(studies[:2], "error_rate"))
    finally:
        METRICS.unregister("error_rate")
    assert (
        errors.ranks.mean_ranks == compare_data_sets(read_data_sets(studies[:2], "accuracy")).ranks.mean_ranks
    )


@pytest.mark.parametrize(
    ("metric", "said"),
    [("recall", "which is of one class"), ("kappa", "got kappa"), ("nonsense", "nonsense")],
)
def test_a_metric_that_is_not_defined_for_every_set_is_refused(
    studies: list[Path], metric: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        read_data_sets(studies[:2], metric)
