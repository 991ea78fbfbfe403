"""The paper's tables against arithmetic: what no test set can give, and what its own numbers say. See docs/paper.md."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fixtures.published_tables import (
    DATASETS,
    TABLES,
    agrees,
    balanced_accuracy,
    cells,
    columns,
    found,
    given,
    held_out_images,
    train_images,
)
from tametail.evaluation.intervals import wilson

DOCUMENT = Path(__file__).parents[2] / "docs" / "paper.md"
COLUMNS = columns()
METHODS = ("ALPA", "ASL", "CE", "Focal")
BENCHMARKS = ("3", "4", "5")

Place = tuple[str, str, str, str, str]


def _impossible() -> set[Place]:
    """All (table, column, class, measure, published) that no number of images gives."""
    places: set[Place] = set()
    for table, column in COLUMNS:
        images = sum(held_out_images(TABLES[table]["dataset"]).values())
        for cell in cells(table, column):
            hits = found(cell.recall, cell.n)
            if not hits:
                places.add((table, column, cell.label, "recall", cell.recall))
            elif not any(given(k, cell.f1, cell.n, images) for k in hits):
                places.add((table, column, cell.label, "F1", cell.f1))
    for table, column in COLUMNS:
        for published in TABLES[table]["balanced_accuracy"][_at(table, column) :][:1]:
            if not agrees(balanced_accuracy(table, column) / 100, published):
                places.add((table, column, "all", "balanced accuracy", published))
    return places


def _at(table: str, column: str) -> int:
    return int(TABLES[table]["columns"].index(column))


def test_the_numbers_that_fail_are_those_that_the_document_lists() -> None:
    section = (
        DOCUMENT.read_text(encoding="utf-8").partition("## Numbers that cannot be")[2].partition("\n## ")[0]
    )
    rows = [[entry.strip() for entry in line.strip("|").split("|")] for line in section.splitlines()]
    listed = {tuple(row[:5]) for row in rows if len(row) == 6 and row[0].isdecimal()}
    assert listed == _impossible()
    assert len(listed) == 4


def test_a_wrong_number_is_found() -> None:
    """The check that finds four numbers in 274 can find more."""
    assert list(found("33.33", 36)) == [12]
    assert not found("33.34", 36)
    assert list(given(12, "0.44", 36, 733)) == [18, 19]
    assert not given(12, "0.51", 36, 733)  # 12 given and all of them right: 24/48
    assert not given(12, "0.02", 36, 733)  # all 697 others given it too: 24/745
    assert given(0, "0.00", 71, 2003)
    assert not given(0, "0.01", 71, 2003)


@pytest.mark.parametrize("dataset", DATASETS)
def test_training_and_test_images_make_the_data_set(dataset: str) -> None:
    train, test = train_images(dataset), held_out_images(dataset)
    assert sum(train.values()) + sum(test.values()) == DATASETS[dataset]["samples"]
    assert sum(test.values()) == pytest.approx(0.2 * DATASETS[dataset]["samples"], abs=1)


def test_aptos_training_counts_stand_beside_the_wrong_classes() -> None:
    """As published two exceed their whole class, and for two others no test count near a fourth of them fits."""
    classes = DATASETS["APTOS2019"]["classes"]
    published = {label: row["train"] for label, row in classes.items()}
    assert sorted(published.values()) == sorted(train_images("APTOS2019").values())
    assert [label for label, row in classes.items() if row["train"] > row["total"]] == ["Mild", "Severe"]
    of_aptos = [(table, column) for table, column in COLUMNS if TABLES[table]["dataset"] == "APTOS2019"]
    recalls: dict[str, list[str]] = {label: [] for label in classes}
    for place in of_aptos:
        for cell in cells(*place):
            recalls[cell.label].append(cell.recall)

    def fits(label: str, n: int) -> bool:
        return all(found(recall, n) for recall in recalls[label])

    # An 80/20 split leaves n close to a fourth of the training images: search from a fifth to a third.
    near = {
        label: [n for n in range(train // 5, train // 3) if fits(label, n)]
        for label, train in published.items()
    }
    assert near == {
        "No DR": [351, 352],
        "Mild": [204],
        "Moderate": [],
        "Severe": [72],
        "Proliferative DR": [],
    }
    swapped = train_images("APTOS2019")
    near = {
        label: [n for n in range(train // 5, train // 3) if fits(label, n)]
        for label, train in swapped.items()
    }
    assert near == {
        "No DR": [351, 352],
        "Mild": [68],
        "Moderate": [213],
        "Severe": [36],
        "Proliferative DR": [65],
    }
    assert near.keys() == held_out_images("APTOS2019").keys()
    assert all(n in near[label] for label, n in held_out_images("APTOS2019").items())


def test_severe_v1_f1_exceeds_what_its_recall_allows() -> None:
    """F1 <= 2r / (1 + r), reached where every image given the label has it. 0.05 would be possible."""
    severe = next(cell for cell in cells("2", "v1") if cell.label == "Severe")
    assert (severe.recall, severe.f1, list(found(severe.recall, severe.n))) == ("2.78", "0.5", [1])
    assert Fraction(2, 36) / (1 + Fraction(1, 36)) == Fraction(2, 37)
    assert given(1, "0.05", severe.n, 733)


def test_lyi_recalls_are_no_elevenths() -> None:
    lyi = {column: next(cell for cell in cells("5", column) if cell.label == "LYI") for column in METHODS}
    assert {column: list(found(cell.recall, 11)) for column, cell in lyi.items()} == {
        "ALPA": [4],
        "ASL": [],
        "CE": [],
        "Focal": [1],
    }
    # No test set of any plausible size has them; ASL's repeats the number two rows below.
    smallest = {
        lyi[column].recall: next(n for n in range(1, 999) if found(lyi[column].recall, n))
        for column in ("ASL", "CE")
    }
    assert smallest == {"36.98": 192, "27.77": 443}
    assert next(cell.recall for cell in cells("5", "ASL") if cell.label == "MMZ") == lyi["ASL"].recall
    # 4 and 3 of 11 would fit the F1 beside them.
    assert given(4, lyi["ASL"].f1, 11, 29581)
    assert given(3, lyi["CE"].f1, 11, 29581)


def test_version_2_is_the_alpa_that_is_compared() -> None:
    """Chosen among three on the images on which it is then compared."""
    assert [cell[2:] for cell in cells("2", "v2")] == [cell[2:] for cell in cells("3", "ALPA")]


@pytest.mark.parametrize(
    ("table", "recomputed"),
    [
        ("2", {"v1": 55.54, "v2": 64.85, "v3": 57.03}),
        ("3", {"ALPA": 64.85, "ASL": 56.91, "CE": 47.49, "Focal": 47.51}),
        ("4", {"ALPA": 39.18, "ASL": 34.84, "CE": 23.39, "Focal": 31.27}),
        ("5", {"ALPA": 76.86, "ASL": 75.51, "CE": 75.98, "Focal": 75.77}),
    ],
)
def test_balanced_accuracies_recomputed(table: str, recomputed: dict[str, float]) -> None:
    for column, value in recomputed.items():
        assert float(balanced_accuracy(table, column)) == pytest.approx(value, abs=0.005)


def test_the_one_balanced_accuracy_that_differs_fits_a_corrected_cell() -> None:
    corrected = balanced_accuracy("5", "ASL") + (Fraction(400, 11) - Fraction("36.98")) / 17
    assert not agrees(balanced_accuracy("5", "ASL") / 100, "0.75")
    assert agrees(corrected / 100, "0.75")


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_predicted_labels_can_add_up_to_the_test_set(table: str, column: str) -> None:
    """Every image is given one label, so that the p of a column sum to the test images. They can, everywhere."""
    images = sum(held_out_images(TABLES[table]["dataset"]).values())
    low = high = 0
    for cell in cells(table, column):
        ranges = [p for k in found(cell.recall, cell.n) if (p := given(k, cell.f1, cell.n, images))]
        # A cell that is impossible says nothing about p.
        low += min((p.start for p in ranges), default=0)
        high += max((p[-1] for p in ranges), default=images)
    assert low <= images <= high


def test_without_one_class_of_four_images_alpa_is_third() -> None:
    without = {column: float(balanced_accuracy("5", column, without="KSC")) for column in METHODS}
    assert without == pytest.approx({"ALPA": 75.4, "ASL": 75.5, "CE": 76.0, "Focal": 74.3}, abs=0.05)
    lead = float(balanced_accuracy("5", "ALPA") - balanced_accuracy("5", "CE"))
    assert held_out_images("BoneMarrow")["KSC"] == 4
    assert lead == pytest.approx(0.88, abs=0.005)
    assert lead < 100 / 4 / 17  # what a single image of KSC moves


def test_classes_with_a_handful_of_images_tell_no_method_apart() -> None:
    """Wilson's 95 % intervals of ALPA's recall and of every rival's overlap."""
    small = {label: n for label, n in held_out_images("BoneMarrow").items() if n <= 11}
    assert small == {"FGC": 6, "KSC": 4, "LYI": 11}
    for label, n in small.items():
        recalls = {
            column: next(float(cell.recall) / 100 for cell in cells("5", column) if cell.label == label)
            for column in METHODS
        }
        low, high = wilson(list(recalls.values()), n)
        assert max(low) < min(high)


@pytest.mark.parametrize(
    ("table", "rival", "difference", "low", "high"),
    [("3", "ASL", 7.9, 1.7, 13.8), ("4", "ASL", 4.3, -1.5, 9.7), ("5", "CE", 0.9, -3.8, 5.2)],
)
def test_leads_in_balanced_accuracy_with_intervals(
    table: str, rival: str, difference: float, low: float, high: float
) -> None:
    """MOVER on the Wilson limits of all recalls, the two methods taken as independent."""
    values, squares_low, squares_high = [], 0.0, 0.0
    for column, sign in (("ALPA", 1), (rival, -1)):
        share = np.array([float(cell.recall) / 100 for cell in cells(table, column)])
        below, above = wilson(share, [cell.n for cell in cells(table, column)])
        down, up = (share - below, above - share)[::sign]
        squares_low += float((down**2).sum())
        squares_high += float((up**2).sum())
        values.append(sign * share.mean())
    classes = len(cells(table, "ALPA"))
    limits = [sum(values) - squares_low**0.5 / classes, sum(values) + squares_high**0.5 / classes]
    assert [100 * sum(values), *(100 * limit for limit in limits)] == pytest.approx(
        [difference, low, high], abs=0.05
    )


def test_imbalance_ratios() -> None:
    """HAM10000's published ratio is that of the whole set, bone marrow's that of the training set."""
    ratios = {}
    for dataset, facts in DATASETS.items():
        whole = [row["total"] for row in facts["classes"].values()]
        train = list(train_images(dataset).values())
        ratios[dataset] = (Fraction(max(whole), min(whole)), Fraction(max(train), min(train)))
    assert [f"{float(whole):.2f} {float(train):.2f}" for whole, train in ratios.values()] == [
        "9.35 9.26",
        "58.30 61.08",
        "700.57 621.79",
    ]
    assert ratios["BoneMarrow"][1] == Fraction(23628, 38)
    agreeing = {
        dataset: [agrees(ratio, DATASETS[dataset]["ratio"]) for ratio in pair]
        for dataset, pair in ratios.items()
    }
    # APTOS's 10 is neither: both would round to 9.
    assert agreeing == {"APTOS2019": [False, False], "HAM10000": [True, False], "BoneMarrow": [False, True]}


def test_alpa_is_not_the_best_in_most_small_classes() -> None:
    """Classes with fewer than 500 training images: alone at the top, tied there, behind."""
    standing: dict[str, list[str]] = {"alone": [], "tied": [], "behind": []}
    for table in BENCHMARKS:
        train = train_images(TABLES[table]["dataset"])
        for row in zip(*(cells(table, column) for column in METHODS), strict=True):
            alpa, *rivals = (Fraction(cell.recall) for cell in row)
            if train[row[0].label] < 500:
                place = "alone" if alpa > max(rivals) else "tied" if alpa == max(rivals) else "behind"
                standing[place].append(row[0].label)
    assert standing == {
        "alone": ["Mild", "Severe", "Proliferative DR", "df"],
        "tied": ["FGC", "KSC"],
        "behind": ["akiec", "bcc", "vasc", "BAS", "HAC", "LYI"],
    }
