"""ranks.html: methods ranked over several data sets as a self-contained page, with its tables and figure as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tametail.core.atomic import make_folder, write_atomically
from tametail.core.errors import TametailError, UsageError
from tametail.evaluation.significance import SIGNIFICANCE_LEVEL
from tametail.report.figures.export import FIGURE_FORMATS, printed
from tametail.report.figures.svg import Drawing, inlined
from tametail.report.formatting import p_equals
from tametail.report.ranks.benchmark_scores import BenchmarkScores, compare_data_sets, read_data_sets
from tametail.report.ranks.figure import critical_difference_drawing
from tametail.report.ranks.narrative import HOW_TO_READ_RANKS, answer, left_out
from tametail.report.ranks.tables import rank_text, ranks_csv, ranks_markdown, rows
from tametail.report.render import render

Bars = Literal["nemenyi", "wilcoxon"]
BARS: tuple[Bars, ...] = ("nemenyi", "wilcoxon")
RANKS_HTML, RANKS_CSV, RANKS_MD = "ranks.html", "ranks.csv", "ranks.md"
_TITLES = {
    "nemenyi": "Bars join methods without significant difference (Nemenyi)",
    "wilcoxon": "Bars join methods without significant difference (Wilcoxon, Holm)",
}


def write_ranks(
    directories: Sequence[Path],
    out: Path,
    *,
    bars: Bars = "nemenyi",
    metric: str | None = None,
    figures: Sequence[str] = (),
) -> tuple[BenchmarkScores, Path]:
    """Rank the methods of several studies or evaluations, and write ranks.html, ranks.csv and ranks.md.

    All files are computed first; each is then replaced atomically.

    Args:
        directories: two or more.
        out: a folder that is empty or holds an earlier ranking.
        bars: the test that the bars of the critical-difference plot show.
        metric: name of a registered metric over all classes; None for the one that ranks the methods of a study.
        figures: formats of `FIGURE_FORMATS` for the plot.

    Returns:
        The scores, and the path of ranks.html.

    Raises:
        UsageError, DataError: see `read_data_sets` and `compare_data_sets`; or the folder holds other files.
        TametailError: the folder cannot be written.
    """
    compared = compare_data_sets(read_data_sets(directories, metric))
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
            ("Friedman", f"chi² = {found.statistic:.2f}, p {p_equals(found.p)}"),
            ("Iman and Davenport", f"F = {found.iman_davenport:.2f}, p {p_equals(found.iman_davenport_p)}"),
            ("By permutation", f"p {p_equals(found.permutation_p)}"),
            ("Critical difference", f"{ranks.critical_difference:.2f} mean ranks, Nemenyi, 5 %"),
        ]
    matrix = [
        (
            method,
            [
                None if i == j else (p_equals(float(p)).removeprefix("= "), bool(p <= SIGNIFICANCE_LEVEL))
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
        rank_text=rank_text,
        figure=Markup(inlined(drawn)),
        bars=drawn.title,
        tests=tests,
        matrix=matrix,
        left_out=left_out(compared),
        reading=HOW_TO_READ_RANKS,
    )


def _drawing(compared: BenchmarkScores, bars: Bars) -> Drawing:
    """The critical-difference plot; for two methods always by Wilcoxon's test."""
    ranks = compared.ranks
    used: Bars = bars if ranks.friedman is not None else "wilcoxon"
    cliques = ranks.cliques if used == "nemenyi" else ranks.wilcoxon_cliques
    title = _TITLES[used] + ("" if cliques else "; there are none")
    return critical_difference_drawing(ranks, cliques, title)
