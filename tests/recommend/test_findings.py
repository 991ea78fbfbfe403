"""What is recommended where it is known what helps, and what a page says of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.planted_clouds import found_on
from tametail.recommend.console_table import shown
from tametail.recommend.files import as_json, as_markdown
from tametail.recommend.findings import Findings
from tametail.recommend.narrative import Circumstances, answer
from tametail.recommend.page import page

OF = Circumstances(
    name="<b>clouds</b>",
    synthetic=False,
    class_counts={"a": 3, "b": 2, "c": 1},
    test_images=10,
    folds=3,
    seeds=1,
    backbone="none",
    recipe={},
    splits="0123456789abcdef",
    options=("my data", "--folds", "3"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clouds")


@pytest.fixture
def unequal(folder: Path) -> Findings:
    """A long tail: the prior decides."""
    return found_on((480, 60, 40), 1.5, folder / "unequal")


@pytest.fixture
def equal(folder: Path) -> Findings:
    return found_on((160, 160, 160), 1.5, folder / "equal")


@pytest.fixture
def random(folder: Path) -> Findings:
    """Labels that say nothing about the features."""
    return found_on((300, 100, 60), 0.0, folder / "random")


def test_where_the_prior_matters_an_adjusted_method_is_recommended_and_surely(unequal: Findings) -> None:
    use = unequal.tried[unequal.choice.use]
    assert use.candidate.adjusts
    assert use.candidate.step == "post-hoc"
    assert unequal.first_adjusting > 0.99
    assert {"focal", "asl", "alpa", "ce"}.isdisjoint(unequal.choice.alike)
    assert unequal.followed.gain.difference.low > 0
    said = answer(unequal)
    assert re.match(r"Use ce\+\S+: balanced accuracy .* above plain cross-entropy\.", said[0])
    assert "It costs nothing" in " ".join(said)
    assert "balanced accuracy is bought with it" in " ".join(said)


@pytest.mark.parametrize("which", ["equal", "random"])
def test_where_nothing_helps_no_gain_is_claimed(which: str, request: pytest.FixtureRequest) -> None:
    findings = request.getfixturevalue(which)
    assert not findings.choice.beats_plain
    assert set(findings.choice.alike) == set(findings.tried)
    said = " ".join(answer(findings))
    first = answer(findings)[0]
    if findings.choice.use == "ce":
        assert first.startswith("Use ce, plain cross-entropy as it is")
    else:
        assert "not significantly different from plain cross-entropy: " in first
        assert "of such a recommendation over plain cross-entropy is not shown" in said
    assert "above plain cross-entropy" not in said
    assert "is bought with it" not in said
    gain = findings.followed.gain.difference
    assert gain.low <= 0 <= gain.high


def test_of_random_labels_the_nested_estimate_is_at_chance(random: Findings) -> None:
    for followed in (random.followed, random.highest):
        nested = followed.result.balanced_accuracy
        assert nested.low <= 1 / 3 <= nested.high
    best = random.tried[random.choice.best].result.balanced_accuracy
    assert (
        best.value > random.highest.result.balanced_accuracy.value
    )  # chosen by the numbers it is shown with


def test_another_than_plain_is_said_to_be_not_told_apart_from_it(random: Findings) -> None:
    choice = replace(random.choice, use=random.choice.best)
    assert choice.use != "ce"
    said = answer(replace(random, choice=choice))
    assert re.search(
        r"not significantly different from plain cross-entropy: \+\d+\.\d points \(-\S+ to \+", said[0]
    )
    assert "take it as one to be confirmed" in " ".join(said)
    assert "is bought with it" not in " ".join(said)


def test_plain_before_another_is_said_with_the_standard_error(equal: Findings) -> None:
    best = equal.choice.best
    said = answer(replace(equal, choice=replace(equal.choice, use="ce")))
    assert best != "ce"
    assert said[1].startswith(f"{best} has the highest estimate, ")
    assert re.search(r"puts ce before it, .* points below, at a standard error of \d\.\d\.$", said[1])


def test_shares_of_first_places_sum_to_1(unequal: Findings) -> None:
    assert sum(tried.first for tried in unequal.tried.values()) == pytest.approx(1)


@pytest.mark.parametrize("which", ["unequal", "equal", "random"])
def test_the_page_says_it_and_needs_no_network(which: str, request: pytest.FixtureRequest) -> None:
    findings = request.getfixturevalue(which)
    html = page(findings, OF)
    assert not re.search(r"https?:|//[a-z]|@import|@font-face", html)
    assert "<b>clouds" not in html
    assert "&lt;b&gt;clouds" in html
    assert all(sentence.split(" ", 1)[0] in html for sentence in answer(findings))
    assert html.count("<svg") == 1
    assert page(findings, OF) == html
    markdown = as_markdown(findings, OF)
    assert markdown.startswith("# &lt;b&gt;clouds")
    assert "tametail compare 'my data' --losses" in markdown


def test_all_numbers_are_in_the_json(unequal: Findings) -> None:
    content = json.loads(json.dumps(as_json(unequal, OF), allow_nan=False))
    assert content["use"] == unequal.choice.use
    assert len(content["candidates"]) == len(unequal.tried)
    near = [one["name"] for one in content["candidates"] if one["standard_errors_below_best"] <= 1]
    assert near == content["within_one_standard_error"] == list(unequal.choice.near)
    thresholds = next(one for one in content["candidates"] if one["name"] == "ce+thresholds")
    assert [len(numbers) for numbers in thresholds["chosen"]["by_fold"]] == [3, 3, 3]
    tuned = next(one for one in content["candidates"] if one["name"] == "ce+la[tau=chosen]")
    assert len(tuned["chosen"]["by_fold"]) == 3
    text = shown(content)
    assert text.count("\n*  ") == 1
    assert content["next_command"] in text
