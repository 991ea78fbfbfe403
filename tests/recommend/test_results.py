"""Recommendations where the best method is known, and the pages that present them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.planted_clouds import results_on
from tametail.recommend.metric_text import heading
from tametail.recommend.narrative import Provenance, answer
from tametail.recommend.results import SHOWN, RecommendationResults
from tametail.recommend.writers import as_json, as_markdown, console_text, page

OF = Provenance(
    name="<b>clouds</b>",
    synthetic=False,
    class_counts={"a": 3, "b": 2, "c": 1},
    test_images=10,
    folds=3,
    seeds=1,
    backbone="none",
    features="1,280 of its last layer",
    recipe={},
    splits="0123456789abcdef",
    options=("my data", "--folds", "3"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clouds")


@pytest.fixture
def unequal(folder: Path) -> RecommendationResults:
    """A long tail: the class prior matters."""
    return results_on((480, 60, 40), 1.5, folder / "unequal")


@pytest.fixture
def equal(folder: Path) -> RecommendationResults:
    return results_on((160, 160, 160), 1.5, folder / "equal")


@pytest.fixture
def random(folder: Path) -> RecommendationResults:
    """Labels independent of the features."""
    return results_on((300, 100, 60), 0.0, folder / "random")


def test_where_the_prior_matters_an_adjusted_method_is_recommended_and_surely(
    unequal: RecommendationResults,
) -> None:
    use = unequal.recommended
    assert use.candidate.adjusts
    assert use.candidate.step == "post-hoc"
    assert unequal.share_adjusting_best > 0.99
    assert {"focal", "asl", "alpa", "ce"}.isdisjoint(unequal.selection.indistinguishable)
    assert unequal.nested.gain.difference.low > 0
    said = answer(unequal)
    assert re.match(
        r"Use ce\+\S+: balanced accuracy .* compared with plain cross-entropy \+.*, significantly better\.",
        said[0],
    )
    assert "It costs no training" in " ".join(said)
    assert "balanced accuracy is gained at the cost of accuracy" in " ".join(said)


@pytest.mark.parametrize("which", ["equal", "random"])
def test_where_nothing_helps_no_gain_is_claimed(which: str, request: pytest.FixtureRequest) -> None:
    results = request.getfixturevalue(which)
    assert not results.selection.better_than_baseline
    assert set(results.selection.indistinguishable) == set(results.candidates)
    said = " ".join(answer(results))
    first = answer(results)[0]
    if results.selection.recommended == "ce":
        assert first.startswith("Use ce, plain cross-entropy: ")
    else:
        assert first.endswith(", no significant difference.")
        assert "no gain over plain cross-entropy is shown" in said
    assert "significantly better" not in said
    assert "at the cost of accuracy" not in said
    gain = results.nested.gain.difference
    assert gain.low <= 0 <= gain.high


def test_of_random_labels_the_nested_estimate_is_at_chance(random: RecommendationResults) -> None:
    for followed in (random.nested, random.nested_best):
        nested = followed.result["balanced_accuracy"]
        assert nested.low <= 1 / 3 <= nested.high
    best = random.candidates[random.selection.best].result["balanced_accuracy"]
    assert best.value > random.nested_best.result["balanced_accuracy"].value  # selection optimism


def test_a_recommendation_without_a_significant_gain_says_so(random: RecommendationResults) -> None:
    selection = replace(random.selection, recommended=random.selection.best)
    assert selection.recommended != "ce"
    said = answer(replace(random, selection=selection))
    assert re.search(
        r"compared with plain cross-entropy \+\d+\.\d points \(−\S+ to \+.*, no significant difference\.$",
        said[0],
    )
    assert "confirm the recommendation before you rely on it" in " ".join(said)
    assert "at the cost of accuracy" not in " ".join(said)


def test_plain_before_another_is_said_with_the_standard_error(equal: RecommendationResults) -> None:
    best = equal.selection.best
    said = answer(replace(equal, selection=replace(equal.selection, recommended="ce")))
    assert best != "ce"
    assert said[1].startswith(f"{best} has the highest estimate, ")
    assert re.search(r"prefers ce, .* points below, with a standard error of \d\.\d points\.$", said[1])


def test_shares_of_first_places_sum_to_1(unequal: RecommendationResults) -> None:
    assert sum(one.share_best for one in unequal.candidates.values()) == pytest.approx(1)


@pytest.mark.parametrize("which", ["unequal", "equal", "random"])
def test_the_page_says_it_and_needs_no_network(which: str, request: pytest.FixtureRequest) -> None:
    results = request.getfixturevalue(which)
    html = page(results, OF)
    assert not re.search(r"https?:|//[a-z]|@import|@font-face", html)
    assert "<b>clouds" not in html
    assert "&lt;b&gt;clouds" in html
    assert all(sentence.split(" ", 1)[0] in html for sentence in answer(results))
    assert html.count("<svg") == 1
    assert page(results, OF) == html
    markdown = as_markdown(results, OF)
    assert markdown.startswith("# &lt;b&gt;clouds")
    assert "tametail compare 'my data' --methods" in markdown


def test_all_numbers_are_in_the_json(unequal: RecommendationResults) -> None:
    content = json.loads(json.dumps(as_json(unequal, OF), allow_nan=False))
    assert content["recommended"] == unequal.selection.recommended
    assert len(content["candidates"]) == len(unequal.candidates)
    near = [one["name"] for one in content["candidates"] if one["standard_errors_below_best"] <= 1]
    assert near == content["within_one_standard_error"] == list(unequal.selection.near)
    thresholds = next(one for one in content["candidates"] if one["name"] == "ce+thresholds")
    assert [len(numbers) for numbers in thresholds["tuned"]["by_fold"]] == [3, 3, 3]
    tuned = next(one for one in content["candidates"] if one["name"] == "ce+la[tau=chosen]")
    assert len(tuned["tuned"]["by_fold"]) == 3
    text = console_text(content)
    assert text.count("\n*  ") == 1
    assert content["next_command"] in text


NEW = ("net_benefit:class2@0.1", "worst_group:site")


@pytest.mark.parametrize("name", ["macro_f1", "log_loss", *NEW])
def test_every_file_names_the_objective_and_shows_all_metrics(name: str, folder: Path) -> None:
    results = results_on((480, 60, 40), 1.5, folder / "unequal", objective=name)
    title = results.objective.title
    content = json.loads(json.dumps(as_json(results, OF), allow_nan=False))
    assert content["objective"] == name
    assert all(set(SHOWN) < set(one) for one in [*content["candidates"], content["nested"]])
    values = [round(one[name]["value"], 3) for one in content["candidates"]]
    assert values == sorted(values, reverse=name != "log_loss")
    texts = as_markdown(results, OF), page(results, OF), console_text(content)
    for text in texts:
        assert f"{title}, the {'lowest' if name == 'log_loss' else 'highest'}" in text
        for metric in ("Balanced accuracy, %", "Macro-F1, %", "Accuracy, %", "Log-loss", heading(name)):
            assert metric in text
    assert answer(results)[0].startswith(f"Use {content['recommended'].partition('[')[0]}")
    assert f"{title} " in answer(results)[0]


def test_a_lower_log_loss_is_the_better_one(folder: Path) -> None:
    results = results_on((480, 60, 40), 1.5, folder / "unequal", objective="log_loss")
    losses = {name: one.log_loss.value for name, one in results.candidates.items()}
    assert losses[results.selection.best] == pytest.approx(min(losses.values()), abs=0.001)
    ranking, worst = results.selection.ranking, results.selection.ranking[-1]
    # Post-hoc adjustment changes no probability, and the simplest of equals comes before it.
    assert ranking.index("ce") < min(
        ranking.index(name) for name in ("ce+la", "ce+la[tau=0.5]", "ce+thresholds")
    )
    pair = results.selection.from_baseline(worst)
    assert pair is not None
    assert pair.verdict == "worse"
    assert pair.difference.value < 0
    shown = next(one for one in as_json(results, OF)["candidates"] if one["name"] == worst)
    assert shown["against_baseline"]["difference"]["value"] > 0
    assert shown["log_loss"]["value"] > results.baseline.log_loss.value
    same = {one.log_loss.value for name, one in results.candidates.items() if name.startswith("ce+la")}
    assert list(same) == pytest.approx([results.baseline.log_loss.value] * len(same), abs=1e-5)


@pytest.mark.parametrize("name", NEW)
def test_estimates_of_the_objective_have_intervals_and_are_nested(name: str, folder: Path) -> None:
    results = results_on((480, 60, 40), 1.5, folder / "unequal", objective=name)
    values = [one.estimate(name).value for one in results.candidates.values()]
    assert values == sorted(values, reverse=True)
    for one in (*results.candidates.values(), results.nested, results.nested_best):
        found = one.estimate(name)
        assert found.low < found.value < found.high
        assert found.n == 580
    gain = results.nested.gain
    nested, plain = results.nested.estimate(name).value, results.baseline.estimate(name).value
    assert gain.difference.value == pytest.approx(nested - plain, abs=1e-6)
    assert gain.difference.low <= gain.difference.value <= gain.difference.high
    if name == "worst_group:site":
        # Of two halves at random the worse is below the whole.
        assert all(
            one.estimate(name).value <= one.result["balanced_accuracy"].value + 0.02
            for one in results.candidates.values()
        )
        assert results.recommended.candidate.adjusts
    else:
        same = [one.estimate(name).value for key, one in results.candidates.items() if key[:5] == "ce+la"]
        assert same == pytest.approx([plain] * len(same), abs=1e-6)  # the probabilities are those of ce


def test_half_the_prior_is_a_candidate_between_none_and_all(unequal: RecommendationResults) -> None:
    few = {
        name: list(unequal.candidates[name].result.class_group_recall.values())[-1].value
        for name in ("ce", "ce+la[tau=0.5]", "ce+la")
    }
    assert few["ce"] < few["ce+la[tau=0.5]"] < few["ce+la"]
