"""Gradient figures of losses: the paper's Figure 1 next to the complete losses, or any losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import torch

from tametail.core.atomic import write_output
from tametail.core.errors import UsageError, as_usage_error
from tametail.losses import Curve, gradient_curve, parse_loss, split_losses
from tametail.losses.gradients import figure1
from tametail.report.figures.gradients import GRADIENT_FORMATS, Group, Line, Over, Panel, draw_gradients

Target = Literal["positive", "negative"]
OVER: dict[str, tuple[Over, ...]] = {"p": ("p",), "z": ("z",), "both": ("p", "z")}
_CLASS_COUNTS = (1, 1)  # two classes, equally frequent
_Z = torch.linspace(-8, 8, 321, dtype=torch.float64)

# The complete losses next to the paper's Figure 1: label, text, and the index of the line style.
_COMPLETE = (
    ("ALPA, Eq. 11 (β, W; preset v2)", "alpa", 0),
    ("ALPA, released code (clip 0.05)", "alpa[variant=code]", 4),
    ("ASL (γ⁺ = 1, γ⁻ = 4, clip 0.05)", "asl", 1),
    ("cross-entropy", "bce", 2),
    ("focal (α = 0.25, γ = 2)", "focal", 3),
)


def write_gradients(out: str | Path, losses: str | None = None, *, over: str = "both") -> Path:
    """Draw the gradients of losses with respect to a logit, or write them as numbers.

    Args:
        out: file to write; its suffix (.svg, .png, .pdf, .csv) determines the format.
        losses: texts separated by commas, such as ``alpa,asl[clip=0],ce``. None for the paper's Figure 1, with the
            parameters of its caption (ALPA γ- = 4, ASL m = 0.01 and γ- = 0.01, CE, focal γ = 0.5), next to the complete
            losses.
        over: ``p``, ``z`` or ``both``. Losses that need class counts are drawn for two equally frequent classes.

    Raises:
        UsageError: an unknown suffix, loss or axis.
        TametailError: the file cannot be written.
    """
    path = Path(out)
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in GRADIENT_FORMATS:
        raise UsageError(f"expected a file that ends in .{', .'.join(GRADIENT_FORMATS)}, got {path.name}")
    if over not in OVER:
        raise UsageError(f"expected --over as one of {', '.join(OVER)}, got {over}")
    groups = _figure_1() if losses is None else [_chosen(losses)]
    content = draw_gradients(groups, _Z.numpy(), OVER[over], suffix)
    write_output(path, content)
    return path


def _figure_1() -> list[Group]:
    described = [_line(label, curve, style) for style, (label, curve) in enumerate(figure1(_Z).items())]
    titles: Mapping[Target, str] = {
        "negative": "Negatives: with double focus, ALPA is\nsmall below p = 0.5, largest at p = 0.90",
        "positive": "Positives: for a miss (p near 0) ALPA\nhas no gradient, CE has −1",
    }
    complete = {label: (_curves_of(text), style) for label, text, style in _COMPLETE}
    return [
        Group(
            "as described",
            "Figure 1 as the paper describes it",
            [
                Panel(
                    "negative",
                    "Negatives: ALPA is largest at p = 0.83,\nand vanishes for the worst errors",
                    described,
                )
            ],
        ),
        Group("complete", "The complete losses", _panels(titles, complete)),
    ]


def _chosen(losses: str) -> Group:
    titles: Mapping[Target, str] = {
        "negative": "Negatives (y = 0): above 0,\nthe logit decreases",
        "positive": "Positives (y = 1): below 0,\nthe logit increases",
    }
    with as_usage_error():
        texts = dict.fromkeys(parse_loss(text).text for text in split_losses(losses))
        curves = {text: (_curves_of(text), style) for style, text in enumerate(texts)}
        return Group("chosen", "Gradients with respect to a class's logit", _panels(titles, curves))


def _curves_of(text: str) -> Callable[[Target], Curve]:
    loss = parse_loss(text).create(_CLASS_COUNTS)
    return lambda target: gradient_curve(loss, _Z, positive=target == "positive")


def _panels(
    titles: Mapping[Target, str], losses: Mapping[str, tuple[Callable[[Target], Curve], int]]
) -> list[Panel]:
    return [
        Panel(
            target, title, [_line(label, curves(target), style) for label, (curves, style) in losses.items()]
        )
        for target, title in titles.items()
    ]


def _line(label: str, curve: Curve, style: int) -> Line:
    return Line(label, curve.value.numpy(), curve.gradient.numpy(), style)
