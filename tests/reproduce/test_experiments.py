from __future__ import annotations

from typing import get_args

import pytest

from fixtures.published_tables import cells, found, given, held_out_images
from tametail.core.errors import UsageError
from tametail.losses import parse_loss
from tametail.losses.alpa import ALPALoss, Variant
from tametail.reproduce.experiments import EXPERIMENTS, RIVALS, find_experiment, impossible_numbers, notes_on
from tametail.reproduce.published import published_facts, published_table


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("rivals", RIVALS)
@pytest.mark.parametrize("variant", get_args(Variant))
def test_every_column_has_a_loss_that_exists(name: str, rivals: str, variant: str) -> None:
    experiment = EXPERIMENTS[name]
    texts = experiment.methods(variant, rivals)  # type: ignore[arg-type]
    left_out = {"v3"} if (name, variant) == ("table2", "code") else set()
    assert set(texts) == set(experiment.published.columns) - left_out
    assert [parse_loss(text).text for text in texts.values()] == list(texts.values())
    assert len(set(texts.values())) == len(texts)


def test_versions_have_the_parameters_of_section_6_1() -> None:
    def parameters(text: str) -> tuple[float, ...]:
        method = parse_loss(text).create()
        assert isinstance(method, ALPALoss)
        return (method.alpha, method.beta, method.gamma_pos, method.gamma_neg)

    versions = EXPERIMENTS["table2"].methods("paper", "figure1")
    assert {column: parameters(text) for column, text in versions.items()} == {
        "v1": (1, 1, 0, 4),
        "v2": (0.875, 1.625, 0, 4),
        "v3": (1.25, 2, 3, 2),
    }
    assert versions["v2"] == EXPERIMENTS["table3"].methods("paper", "figure1")["ALPA"]


def test_figure1_settings_of_rivals_are_those_of_its_caption() -> None:
    texts = EXPERIMENTS["table4"].methods("paper", "figure1")
    assert parse_loss(texts["ASL"]).params == {"gamma_pos": 0, "gamma_neg": 0.01, "clip": 0.01}
    assert parse_loss(texts["Focal"]).params == {"alpha": None, "gamma": 0.5}


def test_an_unknown_experiment_is_named_with_those_there_are() -> None:
    with pytest.raises(
        UsageError, match=r"table2, table3, table4, table5, figure1, got 'table44'; did you mean table4"
    ):
        find_experiment("table44")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_printed_tables_hold_what_the_json_says(name: str) -> None:
    table = EXPERIMENTS[name].published
    facts = published_facts()["tables"][table.number]
    assert len(table.recall) == len(table.f1) == len(table.columns) * len(table.classes)
    for column in table.columns:
        at = table.columns.index(column)
        for label in table.classes:
            written = f"{table.recall[column, label]} {table.f1[column, label]}"
            assert written == facts["recall_f1"][label][at]
        mean = sum(float(table.recall[column, label]) for label in table.classes) / len(table.classes)
        assert table.mean_recall(column) == pytest.approx(mean / 100)


def test_training_counts_of_aptos_stand_beside_their_classes() -> None:
    images = published_table("3").images
    assert images.test == held_out_images("APTOS2019")
    assert images.test["Severe"] == 36


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_impossible_numbers_are_those_that_arithmetic_finds(name: str) -> None:
    table = EXPERIMENTS[name].published
    images = sum(table.images.test.values())
    places = set()
    for column in table.columns:
        for cell in cells(table.number, column):
            hits = found(cell.recall, cell.n)
            if not hits:
                places.add((column, cell.label, "recall"))
            elif not any(given(k, cell.f1, cell.n, images) for k in hits):
                places.add((column, cell.label, "f1"))
    assert impossible_numbers(name) == places


@pytest.mark.parametrize("name", [*EXPERIMENTS, "figure1"])
def test_every_experiment_has_remarks(name: str) -> None:
    assert notes_on(name)
