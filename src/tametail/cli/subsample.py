"""tametail subsample: a long tail drawn from a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tametail.cli.command import command
from tametail.core.atomic import write_output
from tametail.core.console import Console
from tametail.core.errors import UsageError
from tametail.core.options import RatioOptions, SubsampleOptions

if TYPE_CHECKING:
    from tametail.data import ImageTable

_TOLERANCE = 0.2  # relative difference from the requested ratio above which a warning is printed


@command(
    RatioOptions,
    SubsampleOptions,
    arguments=("data",),
    example="tametail subsample skin/ --ratio 100 -o skin-lt.csv",
)
def subsample(console: Console, /, data: str, ratio: float, out: str, **options: Any) -> None:
    """Draw an exponential long tail from a data set, in whole groups, as a CSV that every command reads."""
    from tametail.core.option import pick
    from tametail.core.options import TableOptions
    from tametail.data import read_images, say_reading
    from tametail.data.splitting.subsample import subsample as draw

    path = Path(out)
    if path.suffix.lower() != ".csv":
        raise UsageError(f"expected a file that ends in .csv, got {path}; give another one with -o")
    if path.exists():
        raise UsageError(f"{path} already exists; remove it, or give another file with -o")
    whole = read_images(data, **pick(TableOptions, options))
    say_reading(whole, console)
    if path.resolve().parent == whole.root.resolve() and path.stem in {"labels", "metadata"}:
        raise UsageError(f"{path} would change how {whole.root} is read; give another name with -o")
    table = draw(whole, ratio, seed=options["seed"], single_images=options["single_images"])
    write_output(path, table.frame.convert_dtypes().to_csv(index=False))
    _summarise(table, ratio, options["single_images"], console)
    console.say(f"Use it with --image-root {table.root}")
    typer.echo(out)


def _summarise(table: ImageTable, ratio: float, single_images: bool, console: Console) -> None:
    drawn = table.training_set
    counts = sorted(drawn.counts().items(), key=lambda one: -one[1])
    given = len(table) - len(drawn)
    test = f", and {given:,} of the given test set" if given else ""
    listed = ", ".join(f"{name} {count:,}" for name, count in counts)
    reached = f"{drawn.imbalance_ratio:.1f}"
    console.say(f"{len(drawn):,} images, ratio {reached}{test}: {listed}")
    if abs(drawn.imbalance_ratio / ratio - 1) > _TOLERANCE:
        console.warn(
            f"the classes are too small for a ratio of {ratio:g}; the nearest is {reached}"
            if single_images
            else f"with whole groups the nearest to a ratio of {ratio:g} is {reached}; "
            f"--single-images leaves out single images of a group, and still no group is split between two sets"
        )
