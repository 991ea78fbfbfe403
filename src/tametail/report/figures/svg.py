"""Matplotlib figures as inline SVG with the colours and font of the page, in light and dark themes.

Figures name their colours by position in matplotlib's colour cycle. On the page, these are placeholders that become CSS
variables in the SVG, and text stays text; in a file, they are the colours of the light theme.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tametail.report.render import read_part

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SERIES = tuple(f"C{index}" for index in range(8))
INK, MUTED, GRID = "C8", "C9", "C10"
_PLACEHOLDERS = {colour: f"#0600{index:02x}" for index, colour in enumerate((*SERIES, INK, MUTED, GRID))}

_CSS = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
}
_CSS |= {colour: f"var(--series-{index + 1})" for index, colour in enumerate(SERIES)}

Layout = Literal["constrained"] | None
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a class may be called $x$
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 10,
    "ytick.major.size": 0,
    "xtick.minor.visible": False,
    "ytick.minor.visible": False,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn on the page or to a file.

    Attributes:
        name: prefix of its ids on the page, and name of its file.
        description: text alternative for screen readers.
        width, height: points.
        draw: draws on a figure and its axes.
        title: shown above it in a file.
        margins: left (None for as much as the labels of the axis need), bottom, right and top of the axes on the page, in
            points; None to find them by a layout, which takes a third of the time.
    """

    name: str
    description: str
    width: float
    height: float
    draw: Callable[[Figure, Any], None]
    title: str = ""
    margins: tuple[float | None, float, float, float] | None = None


def inlined(drawn: Drawing) -> str:
    """A drawing as an ``<svg>`` element of the page."""
    layout: Layout = "constrained" if drawn.margins is None else None
    with _page_figure(drawn.width, drawn.height, layout) as (figure, axes):
        drawn.draw(figure, axes)
        if drawn.margins is not None:
            left, bottom, right, top = drawn.margins
            left = _labels_width(axes) + 8 if left is None else left
            across = {"left": left / drawn.width, "right": 1 - right / drawn.width}
            figure.subplots_adjust(**across, bottom=bottom / drawn.height, top=1 - top / drawn.height)
        return _svg_element(figure, drawn.name, drawn.description)


def _labels_width(axes: Any) -> float:
    """Width of the widest label of the vertical axis, in points."""
    renderer = axes.figure.canvas.get_renderer()
    widths = [label.get_window_extent(renderer).width for label in axes.get_yticklabels()]
    return float(max(widths, default=0.0) * 72 / axes.figure.dpi)


@contextmanager
def _page_figure(width: float, height: float, layout: Layout) -> Iterator[tuple[Figure, Any]]:
    """A figure of the given size in points, and its axes, in the style of the report."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE | _cycle(_PLACEHOLDERS)), warnings.catch_warnings():
        # The browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = _empty(width, height, layout)
        yield figure, figure.subplots()


@contextmanager
def drawing_in_colour(width: float, height: float) -> Iterator[tuple[Figure, dict[str, str]]]:
    """An empty figure for a file, and its colours by position: those of the light theme, on white, with text as outlines."""
    import matplotlib as mpl

    colours = page_colours()
    style = {key: colours.get(value, value) for key, value in _STYLE.items()}
    paper = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "white")
    kept = {"svg.fonttype": "path", "svg.hashsalt": "tametail", "pdf.fonttype": 42}
    with mpl.rc_context(style | paper | kept | _cycle(colours)):
        yield _empty(width, height, "constrained"), colours


def _cycle(colours: Mapping[str, str]) -> dict[str, Any]:
    """The setting of matplotlib's colour cycle for these colours by position."""
    from matplotlib.rcsetup import cycler

    return {"axes.prop_cycle": cycler(color=[colours[place] for place in _PLACEHOLDERS])}


def page_colours() -> dict[str, str]:
    """The colours of the light theme (colours.css) by position in the cycle."""
    light = dict(re.findall(r"--([\w-]+): (#\w+)", read_part("colours.css")))
    named = {place: css.removeprefix("var(--").removesuffix(")") for place, css in _CSS.items()}
    return {place: light["ink" if name == "currentColor" else name] for place, name in named.items()}


def _empty(width: float, height: float, layout: Layout) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _svg_element(figure: Figure, name: str, description: str) -> str:
    """The figure as an ``<svg>`` element whose ids start with ``name``; deterministic."""
    import matplotlib as mpl

    text = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns:xlink="[^"]*"| xmlns="[^"]*"| version="[^"]*"', "", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    for place, css in _CSS.items():
        svg = svg.replace(_PLACEHOLDERS[place], css)
    width = re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)
    natural = float(width.group(1)) if width else 374.0
    svg = re.sub(
        r'(<svg[^>]*?) width="[^"]*"',
        r"\1",
        re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1),
        count=1,
    )
    label = _attribute(description)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{label}" style="--natural: {natural:.0f}"', 1)
    return re.sub(r"\s*\n\s*", "\n", svg)


def _attribute(text: str) -> str:
    from html import escape

    return escape(text, quote=True)
