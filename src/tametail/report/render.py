"""From a template of page/ and what it shows to one HTML file that needs no network, and no script either.

What a page has besides text is its style, written into it, and one script, written into it too: the page's content
security policy allows that script by its hash, and nothing else. The script only adds (sorting, enlarging, the theme).
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
    """One of the templates as a page with the reports' style and script; text is escaped."""
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
        sort_key=sort_key,
        light=Markup(read_part("colours.css")),
        dark=Markup(read_part("dark.css")),
        style=Markup("".join(map(read_part, _STYLES))),
        script=Markup(read_part(_SCRIPT)),
        script_hash=script_hash(read_part(_SCRIPT)),
    )
    environment.filters["breakable"] = lambda text: Markup(
        re.sub(r"([,_+=\[])", r"\1<wbr>", str(escape(text)))
    )
    # A line does not end between "n =" and its number, or between a number and its %.
    environment.filters["tied"] = lambda text: re.sub(
        r"(?<=n) (?==)|(?<=n =) (?=\d)|(?<=\d) (?=%)", "\u00a0", text
    )
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["sentence"] = formatting.sentence_case
    return environment.get_template(template).render(**context) + "\n"


@cache
def read_part(name: str) -> str:
    """A file of page/ as text: a template, a style or the script."""
    return (
        resources.files("tametail.report").joinpath("templates", *name.split("/")).read_text(encoding="utf-8")
    )


def script_hash(script: str) -> str:
    """What a content security policy knows an inline script by."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def sort_key(value: float) -> str:
    """What a table is sorted by, six decimals; nothing where the value is undefined, which goes to the end."""
    return f"{value:.6f}" if math.isfinite(value) else ""
