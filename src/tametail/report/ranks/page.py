"""ranks.html: methods over several data sets as one self-contained page in the report's style, and all that lies beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tametail.core.atomic import make_folder, write_atomically
from tametail.core.errors import TametailError, UsageError
from tametail.evaluation.verdicts import SIGNIFICANCE_LEVEL
from tametail.report import formatting
from tametail.report.figures.export import FIGURE_FORMATS, printed
from tametail.report.figures.svg import Drawing, inlined
from tametail.report.ranks.benchmark_scores import BenchmarkScores, compare_data_sets, read_data_sets
from tametail.report.ranks.figure import critical_difference_drawing
from tametail.report.ranks.narrative import READING, answer, left_out
from tametail.report.ranks.tables import rank_in_words, ranks_csv, ranks_markdown, rows
from tametail.report.render import render

Bars = Literal["nemenyi", "wilcoxon"]
BARS: tuple[Bars, ...] = ("nemenyi", "wilcoxon")
RANKS_HTML, RANKS_CSV, RANKS_MD = "ranks.html", "ranks.csv", "ranks.md"
_TITLES = {
    "nemenyi": "Bars join methods that Nemenyi’s critical difference does not tell apart",
    "wilcoxon": "Bars join methods that Wilcoxon with Holm does not tell apart",
}


def write_ranks(
    directories: Sequence[Path], out: Path, *, bars: Bars = "nemenyi", figures: Sequence[str] = ()
) -> tuple[BenchmarkScores, Path]:
    """Rank the methods of several studies or evaluations, and write ranks.html, ranks.csv and ranks.md.

    Each file is replaced in one step, and only once all of them could be made.

    Args:
        directories: two or more.
        out: folder, empty or of an earlier ranking.
        bars: which test the bars of the critical-difference plot are by.
        figures: formats of `printing.FIGURE_FORMATS` to have the plot in as well.

    Returns:
        What was compared, and the path of ranks.html.

    Raises:
        UsageError, DataError: see `read_data_sets` and `compare_data_sets`; or something else is in the folder.
        TametailError: the folder cannot be written.
    """
    compared = compare_data_sets(read_data_sets(directories))
    files: dict[str, str | bytes] = {
        RANKS_CSV: ranks_csv(compared),
        RANKS_MD: ranks_markdown(compared),
        RANKS_HTML: ranks_html(compared, bars),
    }
    drawn = _drawing(compared, bars)
    files |= {f"{drawn.name}.{suffix}": content for suffix, content in printed(drawn, figures).items()}
    known = {RANKS_HTML, RANKS_CSV, RANKS_MD, *(f"{drawn.name}.{suffix}" for suffix in FIGURE_FORMATS)}
    try:
        make_folder(out)
        foreign = sorted(
            entry.name
            for entry in out.iterdir()
            if entry.name not in known and not entry.name.startswith(".")
        )
        if foreign:
            raise UsageError(
                f"expected an empty folder or an earlier ranking at {out}, found {', '.join(foreign[:3])}; give another one "
                "with -o"
            )
        for name, content in files.items():
            write_atomically(out / name, content)
    except OSError as error:
        raise TametailError(
            f"the ranking cannot be written to {out} ({error.strerror or error}); give another folder with -o"
        ) from error
    return compared, out / RANKS_HTML


def ranks_html(compared: BenchmarkScores, bars: Bars = "nemenyi") -> str:
    """The page."""
    from markupsafe import Markup

    ranks = compared.ranks
    drawn = _drawing(compared, bars)
    found = ranks.friedman
    tests = []
    if found is not None and ranks.critical_difference is not None:
        tests = [
            ("Friedman", f"chi² = {found.statistic:.2f}, p {_p(found.p)}"),
            ("Iman and Davenport", f"F = {found.iman_davenport:.2f}, p {_p(found.iman_davenport_p)}"),
            ("By permutation", f"p {_p(found.permutation_p)}"),
            ("Critical difference", f"{ranks.critical_difference:.2f} mean ranks, Nemenyi, 5 %"),
        ]
    matrix = [
        (
            method,
            [
                None if i == j else (_p(float(p)).removeprefix("= "), bool(p <= SIGNIFICANCE_LEVEL))
                for j, p in enumerate(ranks.wilcoxon_p[i])
            ],
        )
        for i, method in enumerate(ranks.methods)
    ]
    return render(
        "ranks.html.j2",
        answer=answer(compared),
        warnings=compared.warnings,
        undefined=ranks.undefined,
        score_name=compared.score_name,
        sets=compared.sets,
        methods=ranks.methods,
        rows=rows(compared),
        rank_in_words=rank_in_words,
        figure=Markup(inlined(drawn)),
        bars=drawn.title,
        tests=tests,
        matrix=matrix,
        left_out=left_out(compared),
        reading=READING,
    )


def _drawing(compared: BenchmarkScores, bars: Bars) -> Drawing:
    """The plot; of two methods only Wilcoxon speaks."""
    ranks = compared.ranks
    used: Bars = bars if ranks.friedman is not None else "wilcoxon"
    cliques = ranks.cliques if used == "nemenyi" else ranks.wilcoxon_cliques
    title = _TITLES[used] + ("" if cliques else "; there are none")
    return critical_difference_drawing(ranks, cliques, title)


def _p(p: float) -> str:
    text = formatting.p_value(p)
    return text if text.startswith("<") else f"= {text}"
