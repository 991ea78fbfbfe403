"""The figure of gradients: every format, the same bytes each time, and the numbers as they were given."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from tametail.report.figures.gradients import Group, Line, Panel, draw_gradients, gradient_table
from tametail.report.figures.svg import INK, SERIES, page_colours

Z = np.linspace(-4, 4, 41)
P = 1 / (1 + np.exp(-Z))
STARTS = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF", "csv": b"group,loss"}


def _groups(lines: int = 2) -> list[Group]:
    negative = [Line(f"loss {i}", -np.log(1 - P) * (i + 1), P * (i + 1), i) for i in range(lines)]
    positive = [Line(f"loss {i}", -np.log(P) * (i + 1), (P - 1) * (i + 1), i) for i in range(lines)]
    first = Group("one", "The first", [Panel("negative", "pushed down", negative)])
    second = Group(
        "two", "The second", [Panel("negative", "down", negative), Panel("positive", "pushed up", positive)]
    )
    return [first, second]


@pytest.fixture(scope="module")
def svg() -> bytes:
    return draw_gradients(_groups(), Z, ("p", "z"), "svg")


@pytest.mark.parametrize(
    ("suffix", "over"),
    [("svg", ("p", "z")), ("png", ("p",)), ("pdf", ("z",)), ("csv", ("p", "z"))],
)
def test_every_format_is_written_the_same_each_time(suffix: str, over: tuple[str, ...], svg: bytes) -> None:
    content = svg if suffix == "svg" else draw_gradients(_groups(), Z, over, suffix)
    assert content.startswith(STARTS[suffix])
    assert content == draw_gradients(_groups(), Z, over, suffix)


def test_the_svg_has_colours_of_its_own_and_no_date(svg: bytes) -> None:
    text = svg.decode()
    assert "<dc:date>" not in text
    assert "Matplotlib v" not in text
    assert not any(stand_in in text for stand_in in (INK, *SERIES))
    assert page_colours()[SERIES[0]] in text


def test_colours_are_those_of_the_page_in_light() -> None:
    colours = page_colours()
    assert len(set(colours.values())) == len(colours) == 11
    assert colours[SERIES[0]] == "#0b6a9f"
    assert colours[INK] == "#16202b"


@pytest.mark.parametrize("lines", [1, 5, 20])
def test_nothing_is_outside_the_picture_and_no_two_lines_look_alike(
    lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    draw_gradients(_groups(lines), Z, ("p", "z"), "png")
    (figure,) = drawn
    figure.draw_without_rendering()  # at the resolution that extents are measured in
    for part in figure.subfigs:
        boxes = [part.legends[0].get_window_extent(), part._suptitle.get_window_extent()]
        boxes += [axes.get_tightbbox() for axes in part.axes]
        for index, box in enumerate(boxes):
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y0 >= 0
            assert box.y1 <= figure.bbox.y1
            assert not any(_overlap(box, other) for other in boxes[:index])
        looks = [(line.get_color(), line._unscaled_dash_pattern) for line in part.axes[0].lines[1:]]
        assert len(set(map(str, looks))) == lines
    heights = {round(part.axes[0].get_window_extent().y1) for part in figure.subfigs}
    assert len(heights) == 1, "the panels of all groups stand at one height"


def _overlap(one: object, other: object) -> bool:
    x = min(one.x1, other.x1) - max(one.x0, other.x0)
    y = min(one.y1, other.y1) - max(one.y0, other.y0)
    return x > 1 and y > 1


def test_the_table_holds_the_numbers() -> None:
    rows = list(csv.DictReader(io.StringIO(gradient_table(_groups(), Z))))
    assert len(rows) == 41 * (2 + 4)
    assert list(rows[0]) == ["group", "loss", "target", "z", "p", "value", "slope"]
    chosen = [
        row for row in rows if (row["group"], row["loss"], row["target"]) == ("two", "loss 1", "positive")
    ]
    assert [float(row["z"]) for row in chosen] == pytest.approx(Z)
    assert [float(row["p"]) for row in chosen] == pytest.approx(P, rel=1e-9)
    assert [float(row["slope"]) for row in chosen] == pytest.approx(2 * (P - 1), rel=1e-9)
    assert [float(row["value"]) for row in chosen] == pytest.approx(-2 * np.log(P), rel=1e-9)
