"""Methods of ordinal classes in a study and a search: they need the order of the classes, say it, and are trained with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

import tametail
from cli.test_app import run
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import TINY, words
from tametail.core.errors import UsageError
from tametail.deployment.study_model import study_model
from tametail.losses import CORNLoss
from tametail.predictions.single_label import read_predictions
from tametail.study.study import Study, compare

ORDER = ["blue", "amber", "crimson"]  # by the alphabet amber is the first
METHODS = ["ce", "corn", "corn+la", "soft_ordinal"]


@pytest.fixture(scope="module")
def study(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    with figures_not_rendered():
        out = tmp_path_factory.mktemp("ordinal") / "study"
        return compare(image_folder, METHODS, class_order=ORDER, folds=3, out=out, **TINY)


def test_without_an_order_they_are_refused_before_any_work(image_folder: Path, tmp_path: Path) -> None:
    code, _, errors = run(
        "compare", image_folder, "--methods", "ce,corn", *words(TINY), "--folds", "3", "-o", tmp_path / "s"
    )
    assert code == 2
    assert "for corn, from the lowest grade to the highest" in errors
    assert "--class-order" in errors
    assert not (tmp_path / "s" / "study.json").exists()
    code, _, errors = run(
        "search", image_folder, "--loss", "corn", "--space", "tau=0:1", *words(TINY), "--folds", "3"
    )
    assert (code, "--class-order" in errors) == (2, True)


def test_they_are_trained_and_predict_in_the_order(study: Study, image_folder: Path) -> None:
    assert study.failed == ()
    assert study.settings["class_order"] == ORDER
    model = tametail.load(study.directory, "corn")
    loss: Any = study_model(study.directory, "corn").network.rules[0].rule.loss
    assert isinstance(loss, CORNLoss)
    assert loss.class_order == (1, 0, 2)
    images = [image_folder / "images" / f"0{index}5.png" for index in range(7)]
    p = model.predict_proba(images)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    tables = [
        read_predictions(path) for path in sorted(study.directory.glob("runs/corn/*/predictions.parquet"))
    ]
    for table in tables:
        np.testing.assert_allclose(table.probabilities.sum(axis=1), 1, rtol=1e-6)
        assert sk.accuracy_score(table.target, table.predicted) > 0.7
    row = study.results.set_index("method").loc["corn"]
    assert row["kappa"] > 0.6
    assert row["mean_absolute_error"] < 0.4


def test_the_order_stays_while_methods_are_added(study: Study, image_folder: Path) -> None:
    with pytest.raises(
        UsageError, match="trains corn, corn\\+la, soft_ordinal, blue < amber < crimson, got amber"
    ):
        compare(image_folder, ["ce"], class_order=sorted(ORDER), folds=3, out=study.directory, **TINY)
    again = compare(image_folder, ["corn[decide=class]"], folds=3, out=study.directory, **TINY)
    assert again.settings["class_order"] == ORDER
    assert again.settings["methods"] == [*METHODS, "corn[decide=class]"]
