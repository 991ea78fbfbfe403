"""search.html: a finished search as one self-contained page in the report's style."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tametail.core.atomic import write_atomically
from tametail.core.errors import explain_save_error
from tametail.core.option import command_line, recorded
from tametail.core.options import LossOptions, SearchOptions
from tametail.report.figures.svg import inlined
from tametail.report.render import render
from tametail.report.search.figures import (
    contour_drawings,
    estimates_drawing,
    importance_drawing,
    slice_drawings,
)
from tametail.report.search.narrative import HOW_TO_READ_SEARCH, answer, facts, gap, is_optimistic, shown
from tametail.report.search.results import SearchResults, read_search_results
from tametail.storage.search_file import PAGE

_MOST_TRIALS = 20


def write_search_page(directory: Path) -> Path:
    """Write search.html from the contents of the search's folder, and return its path.

    Raises:
        DataError, UsageError: see `read_search_results`.
        TametailError: it cannot be written.
    """
    page = search_html(read_search_results(directory))
    with explain_save_error(directory / PAGE):
        write_atomically(directory / PAGE, page)
    return directory / PAGE


def search_html(results: SearchResults) -> str:
    """The page."""
    from markupsafe import Markup

    result, importance = results.result, importance_drawing(results)
    slices, contours = slice_drawings(results), contour_drawings(results)
    return render(
        "search.html.j2",
        results=results,
        result=result,
        search=results.search,
        name=results.settings["name"],
        synthetic=results.settings["synthetic"],
        answer=answer(results.settings),
        estimates=Markup(inlined(estimates_drawing(results))),
        importance=Markup(inlined(importance)) if importance else None,
        slices=[(one.description, Markup(inlined(one))) for one in slices],
        contours=[(one.description, Markup(inlined(one))) for one in contours],
        rows=results.trials[:_MOST_TRIALS],
        ranges={name: _range(of_one["folds"]) for name, of_one in result["values"].items()},
        indistinguishable={
            name: _range(of_one["indistinguishable"]) for name, of_one in result["values"].items()
        },
        shown=lambda value: shown(results, value),
        gap=lambda value: gap(results, value),
        is_optimistic=is_optimistic(results),
        facts=facts(results),
        reading=HOW_TO_READ_SEARCH,
        command=_command(results),
    )


def _range(values: Sequence[str]) -> str:
    """``0.379 to 3.51``; a single value, or values that are not numbers, as they are."""
    try:
        ordered = sorted(set(values), key=float)
    except ValueError:
        return ", ".join(sorted(set(values)))
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"


def _command(results: SearchResults) -> str:
    """The command that repeats the search, without paths, which are private."""
    settings, search = results.settings, results.search
    options = (
        {"loss": search["method"]}
        | recorded(settings.get("options", {}), LossOptions, SearchOptions)
        | {"trials": search["trials"], "out": "SEARCH"}
    )
    data = settings["name"] if settings["synthetic"] else "DATA"
    return command_line("search", [data], options, LossOptions, SearchOptions)
