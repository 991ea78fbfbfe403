"""What a reader does with the page of predictions: filters, sorts by a column or a class, with the mouse and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.browser_page import HOSTILE, Open


def shown(page: Any) -> list[str]:
    """The images of the visible rows, from the first down."""
    rows = page.locator("table.predictions tbody tr")
    return [row.locator("th").inner_text() for row in rows.all() if row.is_visible()]


@pytest.mark.parametrize("width", [390, 1280])
def test_rows_that_need_attention_are_filtered(predicted: Path, open_page: Open, width: int) -> None:
    opened = open_page(predicted, width=width)
    page = opened.page
    everything = shown(page)
    assert len(everything) == 6
    found = {}
    for name in ("Unlike training", "Quality", "Uncertain", "Errors"):
        page.locator("#predictions .segments label", has_text=name).click()
        found[name] = shown(page)
        assert page.get_by_role("status").text_content() == f"{len(found[name])} of 6 images shown"
    assert found["Errors"] == ["broken.png"]
    assert found["Unlike training"] == found["Quality"] == [f"{HOSTILE[3]}.png"]
    assert f"{'a' * 120}.png" in found["Uncertain"]
    page.locator("#predictions input").first.focus()
    page.keyboard.press("ArrowDown")
    assert shown(page) == found["Unlike training"]
    page.locator("#predictions .segments label", has_text="All").click()
    assert shown(page) == everything
    assert opened.complaints == []


def test_rows_are_sorted_by_columns_and_by_the_probability_of_a_class(
    predicted: Path, open_page: Open
) -> None:
    page = open_page(predicted).page
    for header in ("Unlikeness", "Highest probability", "Size of the prediction set", "Number of flags"):
        page.get_by_role("button", name=header, exact=True).click()
        column = int(page.locator("th[aria-sort]").get_attribute("data-column"))
        keys = [str(row.locator("th, td").nth(column).get_attribute("data-v")) for row in page.locator("table.predictions tbody tr").all()]  # fmt: skip
        defined = [float(key) for key in keys if key]
        assert defined == sorted(defined, reverse=True)
        assert "" not in keys[: len(defined)], "what is undefined is last"
    choice = page.get_by_role("combobox", name="Sort by the probability of")
    for at, name in enumerate(HOSTILE[:3]):
        choice.select_option(label=name)
        asked = page.locator(".asked")
        assert asked.count() == 5
        assert asked.first.inner_text().startswith(f"{name} ")
        values = [float(text.rsplit(" ", 1)[1]) for text in asked.all_inner_texts()]
        assert values == sorted(values, reverse=True)
        assert (
            shown(page)[0]
            == (f"{HOSTILE[0]}.png".replace("/", "_"), f"{HOSTILE[1]}.png", f"{HOSTILE[2]}.png")[at]
        )
        assert shown(page)[-1] == "broken.png"
        assert page.locator("th[aria-sort]").count() == 0
    assert (
        page.get_by_role("status").text_content() == f"Sorted by the probability of {HOSTILE[2]}, descending"
    )
    assert page.title() == "Predictions of 6 images"


def test_without_a_script_rows_are_there_and_filtered(predicted: Path, open_page: Open) -> None:
    page = open_page(predicted, java_script_enabled=False).page
    assert page.locator("select").count() == 0
    assert page.locator("table.predictions img").first.is_visible()
    page.locator("#predictions .segments label", has_text="Errors").click()
    assert shown(page) == ["broken.png"]
