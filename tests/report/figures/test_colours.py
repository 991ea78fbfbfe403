"""Contrast of the pages' colours by the formula of WCAG 2, and whether the colour-blind can tell them apart."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest

from tametail.report.render import read_part

# Machado, Oliveira & Fernandes 2009, full severity, on linear RGB.
BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
TEXT = [
    ("ink", "page"), ("ink", "card"), ("muted", "page"), ("muted", "card"), ("muted", "soft"), ("ink", "soft"), ("accent", "card"),
    ("accent", "page"), ("card", "accent"), ("warn", "warn-soft"), ("warn", "card"), ("better", "card"), ("worse", "card"),
    ("ink", "better-soft"), ("ink", "worse-soft"), ("grave", "card"),
]  # fmt: skip


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    light, dark = sorted((float(each @ [0.2126, 0.7152, 0.0722]) for each in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.fixture(params=["colours.css", "dark.css"])
def colours(request: pytest.FixtureRequest) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", read_part(request.param)))


def test_both_themes_have_the_same_colours() -> None:
    names = [set(re.findall(r"--([\w-]+):", read_part(part))) for part in ("colours.css", "dark.css")]
    assert names[0] == names[1]


@pytest.mark.parametrize(("letters", "ground"), TEXT)
def test_letters_can_be_read(colours: dict[str, str], letters: str, ground: str) -> None:
    assert contrast(linear(colours[letters]), linear(colours[ground])) >= 4.5


def test_lines_and_markers_can_be_seen(colours: dict[str, str]) -> None:
    for number in range(1, 9):
        assert contrast(linear(colours[f"series-{number}"]), linear(colours["card"])) >= 3


def test_letters_in_every_shade_of_a_confusion_matrix_can_be_read(colours: dict[str, str]) -> None:
    def code(name: str) -> np.ndarray:
        return np.array([int(colours[name][place : place + 2], 16) for place in (1, 3, 5)], dtype=float)

    ground = 0.45 * code("soft") + 0.55 * code("card")
    for share in range(1, 101):
        mixed = share / 100 * code("heat") + (1 - share / 100) * ground
        shade = "#" + "".join(f"{round(value):02x}" for value in mixed)
        letters = "on-heat" if share > 61 else "off-heat"
        assert contrast(linear(colours[letters]), linear(shade)) >= 4.5, share


@pytest.mark.parametrize("kind", BLIND)
def test_the_colour_blind_can_tell_apart_what_is_told_apart_by_colour(
    colours: dict[str, str], kind: str
) -> None:
    """Verdicts have signs and words besides, and series markers: blue and green are alike to the one in ten thousand
    who see no blue."""
    assert least_difference(colours, ["better", "worse"], kind) > 0.1
    series = (1, 2) if kind == "tritanopia" else (1, 2, 3)
    assert least_difference(colours, [f"series-{number}" for number in series], kind) > 0.08


def least_difference(colours: dict[str, str], names: list[str], kind: str) -> float:
    """The least of the largest differences in a channel of any two colours, as they are seen."""
    seen = [np.clip(np.array(BLIND[kind]) @ linear(colours[name]), 0, 1) ** (1 / 2.2) for name in names]
    return min(float(np.abs(one - other).max()) for one, other in combinations(seen, 2))
