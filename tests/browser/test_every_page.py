"""What holds for every page that is written: it keeps to itself, harms no one, fits, and can be read by all."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from fixtures.browser_page import Open

GRAVE = ("serious", "critical")


def faults(page: Any) -> list[str]:
    """What axe-core finds grave, each with where it is."""
    axe = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert found["passes"], "axe has looked at the page"
    return [
        f"{fault['id']}: {node['html'][:160]} {node['failureSummary']}"
        for fault in found["violations"]
        if fault["impact"] in GRAVE
        for node in fault["nodes"]
    ]


def test_nothing_is_asked_for_and_nothing_complained_of(any_page: Path, open_page: Open) -> None:
    opened = open_page(any_page)
    for section in opened.page.locator("section").all():
        section.scroll_into_view_if_needed()
    outside = [url for url in opened.requests if not url.startswith("data:")]
    assert outside == [any_page.as_uri()]
    assert opened.complaints == []
    assert any_page.stat().st_size < 5_000_000


def test_the_policy_stops_a_script_that_is_not_the_page_s_own(
    report: Path, open_page: Open, tmp_path: Path
) -> None:
    html = report.read_text(encoding="utf-8").replace(
        "</main>", "<script>document.title = 'harm'</script></main>"
    )
    changed = tmp_path / "changed.html"
    changed.write_text(html, encoding="utf-8")
    opened = open_page(changed)
    assert opened.page.title() != "harm"
    assert any("Content Security Policy" in complaint for complaint in opened.complaints)  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave(any_page: Path, open_page: Open, scheme: str) -> None:
    page = open_page(any_page, color_scheme=scheme).page
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert faults(page) == []


def test_axe_would_find_a_fault(report: Path, open_page: Open) -> None:
    page = open_page(report).page
    page.evaluate("document.querySelector('.gallery img').removeAttribute('alt')")
    page.evaluate("document.querySelector('h1').style.color = 'var(--grid)'")
    found = " ".join(faults(page))
    assert "color-contrast" in found
    assert "name" in found or "alt" in found


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_page_is_wider_than_the_screen(any_page: Path, open_page: Open, width: int) -> None:
    page = open_page(any_page, width=width, height=844).page
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_paper_is_white_and_shows_what_is_closed_or_filtered(report: Path, open_page: Open) -> None:
    page = open_page(report, color_scheme="dark", width=720).page
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#classes label", has_text="Few-shot").first.click()
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)" != dark
    assert not page.locator(".bar").is_visible()
    assert not page.locator(".choice").first.is_visible()
    rows = page.locator("#classes table.results").first.locator("tbody tr")
    assert all(row.is_visible() for row in rows.all())
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert all(each.get_attribute("open") is not None for each in page.locator("details").all())
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
    assert len(page.pdf()) > 10_000


def test_everything_but_comfort_is_there_without_a_script(report: Path, open_page: Open) -> None:
    page = open_page(report, java_script_enabled=False).page
    assert page.locator("th > button, .zoom, .theme").count() == 0
    assert page.locator(".gallery img").first.is_visible()
    rows = page.locator("#classes table.results").first.locator("tbody tr")
    page.locator("#classes label", has_text="Few-shot").first.click()
    assert sum(row.is_visible() for row in rows.all()) == 2
    count = page.locator("#confusions td .count").first
    assert not count.is_visible()
    page.locator("#confusions label", has_text="Images").click()
    assert count.is_visible()
