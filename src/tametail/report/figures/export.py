"""Figures as SVG, PNG and PDF files in print quality, on white; the same drawing gives the same bytes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tametail.report.figures.svg import INK, Drawing, drawing_in_colour

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_FORMATS = ("pdf", "png", "svg")
DOTS_PER_INCH = 300
_UNDATED = {  # metadata that changes from day to day or from one version to the next
    "svg": ("Date", "Creator"),
    "png": ("Software",),
    "pdf": ("CreationDate", "Creator", "Producer"),
}


def printed(drawn: Drawing, formats: Sequence[str]) -> dict[str, bytes]:
    """Render a drawing to one file per format.

    A PDF embeds its letters as TrueType and an SVG has their outlines, so that both are the same wherever they are
    opened. Letters that matplotlib's own font lacks are boxes.

    Args:
        drawn: the figure.
        formats: of `FIGURE_FORMATS`.
    """
    with drawing_in_colour(drawn.width, drawn.height) as (figure, colours), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        axes = figure.subplots()
        drawn.draw(figure, axes)
        if drawn.title:
            axes.set_title(drawn.title, loc="left", fontsize=10.5, color=colours[INK])
        if axes.get_legend_handles_labels()[0] and not figure.legends:
            axes.legend()
        settle(figure)
        return {suffix: saved(figure, suffix, DOTS_PER_INCH) for suffix in formats}


def saved(figure: Figure, suffix: str, dots_per_inch: int) -> bytes:
    """The content of a file with a figure whose layout is settled."""
    content = io.BytesIO()
    undated = dict.fromkeys(_UNDATED[suffix])
    figure.savefig(content, format=suffix, dpi=dots_per_inch, metadata=undated)
    return content.getvalue()


def settle(figure: Figure) -> None:
    """Fix the layout and round it, as the last digits of the layout solver differ from call to call."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.get_axes():
        left, bottom, width, height = (round(number, 6) for number in axes.get_position(original=True).bounds)
        axes.set_position((left, bottom, width, height))
