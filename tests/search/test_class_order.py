"""A search by quadratic kappa: in the order of the grades, which it asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk

from cli.test_app import run
from cli.test_search import SEARCH
from fixtures.plain_figures import figures_not_rendered
from fixtures.small_search import search_in, settings, small_folds, small_space
from tametail.search.space import make_space
from tametail.search.trainings import SelectionMetric, predicted_classes
from tametail.storage.search_file import read_search
from tametail.training.recipe import load_recipe
from tametail.training.run import leave_one_fold_out
from tametail.training.strategies import parse_method

ORDER = (1, 0, 2)


@pytest.fixture
def plain_figures() -> Iterator[None]:
    with figures_not_rendered():
        yield


def test_the_score_is_the_kappa_of_numbered_grades(tmp_path: Path) -> None:
    folds = small_folds()
    requested = replace(settings(3), metric="kappa", order=ORDER)
    records = search_in(tmp_path / "s", folds, requested, small_space())
    grade = np.argsort(ORDER)
    for record in (record for record in records if record.outer is None):
        target, said = [], []
        for training in leave_one_fold_out(folds.folds, [0]):
            target.append(folds.targets_of(training.left_out[0]))
            said.append(predicted_classes(record.outputs[training.name]))
        pair = (np.concatenate(target), np.concatenate(said))
        expected = sk.cohen_kappa_score(*(grade[codes] for codes in pair), weights="quadratic")
        assert record.score == pytest.approx(expected)
        assert abs(expected - sk.cohen_kappa_score(*pair, weights="quadratic")) > 1e-4


def test_metrics_without_an_order_do_not_depend_on_it() -> None:
    counts = np.random.default_rng(0).integers(1, 30, (3, 3)).astype(np.float64)
    for name in ("balanced_accuracy", "macro_f1", "accuracy", "mcc"):
        value = SelectionMetric(name).value(counts)
        assert SelectionMetric(name, ORDER).value(counts) == pytest.approx(value)
    assert SelectionMetric("kappa", ORDER).value(counts) != SelectionMetric("kappa").value(counts)


def test_trials_of_an_ordinal_loss_are_trained_in_the_order() -> None:
    space = make_space(parse_method("corn+la").in_order(ORDER), load_recipe("head"), ["tau=0:1"])
    trial = space.trial({"tau": "0.5"})
    assert trial.method.text == "corn[tau=0.5]+la"
    made: Any = trial.method.loss.create([5, 5, 5])
    assert (made.tau, made.class_order) == (0.5, ORDER)


@pytest.mark.usefixtures("plain_figures")
def test_an_ordinal_loss_is_searched_in_the_order(image_folder: Path, tmp_path: Path) -> None:
    words = ["search", image_folder, "--loss", "corn", "--space", "l2=0.1:1:log", "--trials", "2"]
    words += [*SEARCH, "-o", tmp_path / "s"]
    code, _, errors = run(*words)
    assert (code, "for corn, from the lowest grade" in errors) == (2, True)
    code, output, errors = run(*words, "--class-order", "blue,amber,crimson")
    assert (code, errors) == (0, "")
    assert "The classes are ordinal: blue < amber < crimson." in output
    assert read_search(tmp_path / "s")["search"]["class_order"] == ["blue", "amber", "crimson"]


@pytest.mark.usefixtures("plain_figures")
def test_kappa_asks_for_the_order_and_says_it(image_folder: Path, tmp_path: Path) -> None:
    words = ["search", image_folder, "--loss", "ce", "--space", "l2=0.1:1:log", "--trials", "2"]
    words += ["--metric", "kappa", *SEARCH, "-o", tmp_path / "s"]
    code, _, errors = run(*words)
    assert code == 2
    assert "for --metric kappa" in errors
    assert "here by name: amber, blue, crimson" in errors
    code, output, errors = run(*words, "--class-order", "blue,amber,crimson")
    assert (code, errors) == (0, "")
    assert "The classes are ordinal: blue < amber < crimson." in output
    asked = read_search(tmp_path / "s")["search"]
    assert asked["class_order"] == ["blue", "amber", "crimson"]
    page = (tmp_path / "s" / "search.html").read_text(encoding="utf-8")
    assert "--class-order blue,amber,crimson" in page
    code, _, errors = run(*words, "--class-order", "amber,blue,crimson")
    assert code == 2
    assert "its class_order is blue, amber, crimson, not amber, blue, crimson" in errors


def test_an_order_of_other_classes_is_refused_whatever_the_metric(image_folder: Path, tmp_path: Path) -> None:
    code, _, errors = run(
        "search", image_folder, *SEARCH, "-o", tmp_path / "s", "--class-order", "blue,amber"
    )
    assert code == 2
    assert "(missing: crimson)" in errors
