"""What a reader does with the report: sorts, filters, switches, enlarges; with the mouse and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixtures.browser_page import HOSTILE, Open


def column(table: Any, number: int) -> list[str]:
    """What the rows sort by, from the first row down."""
    cells = [row.locator("th, td").nth(number) for row in table.locator("tbody tr").all()]
    keys = [cell.get_attribute("data-v") for cell in cells]
    return [str(cell.text_content()) if key is None else key for cell, key in zip(cells, keys, strict=True)]


def test_a_click_on_a_header_sorts_and_another_turns_it_round(report: Path, open_page: Open) -> None:
    page = open_page(report).page
    page.locator("summary", has_text="Classes by method").click()
    table = page.get_by_role("region", name="Classes by method").locator("table")
    counts = [float(value) for value in column(table, 1)]
    assert counts == sorted(counts, reverse=True)
    button = page.get_by_role("button", name="F1 of ce", exact=True).first
    header = table.locator("th", has=button)
    number = int(header.get_attribute("data-column"))
    button.click()
    assert header.get_attribute("aria-sort") == "descending"
    values = [float(value) for value in column(table, number)]
    assert values == sorted(values, reverse=True)
    assert values != [float(value) for value in column(table, 1)]
    assert page.get_by_role("status").text_content() == "Sorted by F1 of ce, descending"
    button.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    assert [float(value) for value in column(table, number)] == sorted(values)
    table.get_by_role("button", name="Class", exact=True).click()
    assert column(table, 0) == sorted(column(table, 0))
    assert table.locator("th[aria-sort]").count() == 1


def test_undefined_values_are_last_whichever_way(label_report: Path, open_page: Open) -> None:
    page = open_page(label_report).page
    table = page.locator("#methods table").first
    table.evaluate("table => { table.tBodies[0].rows[1].cells[2].dataset.v = ''; }")
    header = table.locator("th[data-column='2']")
    assert header.count() == 1
    for _ in range(2):
        header.locator("button").click()
        assert column(table, 2)[-1] == ""
        assert "" not in column(table, 2)[:-1]


def test_classes_are_filtered_by_class_group(report: Path, open_page: Open) -> None:
    page = open_page(report).page
    section = page.locator("#classes")
    rows = section.locator("table.results").first.locator("tbody tr")
    shown = {}
    for group in ("Many-shot", "Medium-shot", "Few-shot", "All"):
        section.locator("label", has_text=group).first.click()
        shown[group] = [row.locator("th").inner_text() for row in rows.all() if row.is_visible()]
    assert [name.split(" few")[0] for name in shown["Few-shot"]] == ["smudge cell", "basophil"]
    assert shown["Many-shot"] + shown["Medium-shot"] + shown["Few-shot"] == shown["All"]
    assert len(shown["All"]) == 7
    section.locator("input").first.focus()
    page.keyboard.press("ArrowRight")
    assert sum(row.is_visible() for row in rows.all()) == 2
    assert page.get_by_role("status").text_content() == "2 of 7 classes shown"


def test_confusion_matrices_show_rates_or_counts(report: Path, open_page: Open) -> None:
    page = open_page(report).page
    cell = page.locator("#confusions td.hit").first
    rate = cell.inner_text()
    page.locator("#confusions label", has_text="Images").click()
    count = cell.inner_text()
    assert float(rate) <= 100 < float(count)


def test_images_are_enlarged_and_leafed_through(report: Path, open_page: Open) -> None:
    page = open_page(report).page
    images = page.locator(".gallery .zoom")
    dialog = page.locator("dialog")
    images.nth(1).focus()
    page.keyboard.press("Enter")
    assert dialog.is_visible()
    large = dialog.locator("img")
    assert large.bounding_box()["width"] > 2 * images.nth(1).bounding_box()["width"]
    assert large.get_attribute("alt") == images.nth(1).locator("img").get_attribute("alt")
    page.keyboard.press("ArrowRight")
    assert large.get_attribute("src") == images.nth(2).locator("img").get_attribute("src")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert large.get_attribute("alt") == images.last.locator("img").get_attribute("alt")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.className") == "zoom"
    images.first.click()
    page.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()
    images.first.click()
    page.mouse.click(5, 5)
    assert not dialog.is_visible()


def test_the_theme_follows_the_system_and_can_be_chosen(report: Path, open_page: Open) -> None:
    page = open_page(report, color_scheme="dark").page

    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    system = ground()
    page.get_by_role("button", name="Light").click()
    light = ground()
    page.emulate_media(color_scheme="light")
    assert ground() == light != system
    page.get_by_role("button", name="Dark").click()
    assert ground() == system
    assert page.get_by_role("button", name="Dark").get_attribute("aria-pressed") == "true"
    page.reload()
    assert ground() == system, "remembered"
    page.get_by_role("button", name="System").click()
    assert ground() == light


def test_the_keyboard_reaches_the_results_first_and_sees_where_it_is(report: Path, open_page: Open) -> None:
    page = open_page(report, reduced_motion="reduce").page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#methods"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert abs(page.locator("#methods").bounding_box()["y"] - 64) < 8, "below the bar that stays on top"


def test_names_that_would_do_harm_are_text(hostile_report: Path, open_page: Open) -> None:
    opened = open_page(hostile_report)
    page = opened.page
    assert page.locator("script").count() == 1
    assert page.locator("img[src='x']").count() == 0
    for name in HOSTILE:
        assert page.locator("#classes th", has_text=name).count() >= 1
    page.locator(".zoom").first.click()
    assert "True: " in page.locator("dialog p").text_content()
    assert opened.complaints == []


def test_the_first_screen_has_the_answer(hostile_report: Path, report: Path, open_page: Open) -> None:
    page = open_page(report).page
    bottom = page.locator(".answer").bounding_box()
    assert bottom["y"] + bottom["height"] < 450
    for shown in (".strip", "#main figure svg >> nth=0", "#main figure svg >> nth=1"):
        box = page.locator(shown).first.bounding_box()
        assert box["y"] + box["height"] < 900, shown
    assert page.locator(".strip .held-out").inner_text().split("\n")[1] == "held out"
    page = open_page(hostile_report).page
    assert page.locator(".strip .attention").inner_text().split("\n")[1] == "evaluated twice"
