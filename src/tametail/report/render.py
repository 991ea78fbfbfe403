"""Render templates to self-contained HTML pages that work offline and without JavaScript.

Style and script are part of the page. Its content security policy allows this one script by its hash and nothing else; the
script only adds sorting, enlarging and the choice of a theme.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from functools import cache
from importlib import resources
from typing import Any

from tametail.report import formatting

_FORMATS = (
    "percent",
    "percent_interval",
    "score",
    "score_interval",
    "points",
    "points_interval",
    "three_decimals",
    "threshold",
    "p_value",
)
_STYLES = ("style.css", "report.css", "narrow.css")
_SCRIPT = "report.js"


def render(template: str, **context: Any) -> str:
    """Render a page from one of the templates, with the style and script of reports; text is escaped."""
    return render_part(template, **context) + "\n"


def render_part(template: str, **context: Any) -> str:
    """Render a template without a line break at its end.

    Args:
        template: name of a template of reports, or ``package:path`` for a file in another package.
        context: its variables.
    """
    return str(_environment().get_template(template).render(**context))


@cache
def _environment() -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup, escape

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(read_part),
    )
    environment.globals.update(
        {name: getattr(formatting, name) for name in _FORMATS},
        sort_key=cell_sort_key,
        light=Markup(read_part("colours.css")),
        dark=Markup(read_part("dark.css")),
        style=Markup("".join(map(read_part, _STYLES))),
        script=Markup(read_part(_SCRIPT)),
        script_hash=script_hash(read_part(_SCRIPT)),
    )
    environment.filters["breakable"] = lambda text: Markup(
        re.sub(r"([,_+=\[])", r"\1<wbr>", str(escape(text)))
    )
    # No line break between "n =" and its number, or between a number and its %.
    environment.filters["tied"] = lambda text: re.sub(
        r"(?<=n) (?==)|(?<=n =) (?=\d)|(?<=\d) (?=%)", "\u00a0", text
    )
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["sentence"] = formatting.sentence_case
    return environment


@cache
def read_part(name: str) -> str:
    """Read a template, a style or the script: a name in the templates of reports, or ``package:path``."""
    package, _, path = name.rpartition(":")
    place = resources.files(package) if package else resources.files("tametail.report") / "templates"
    return place.joinpath(*path.split("/")).read_text(encoding="utf-8")


def script_hash(script: str) -> str:
    """The hash of an inline script in a content security policy."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def cell_sort_key(value: float) -> str:
    """The key of a table cell for sorting, with six decimals; empty for an undefined value, which sorts last."""
    return f"{value:.6f}" if math.isfinite(value) else ""
