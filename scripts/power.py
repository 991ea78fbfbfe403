"""Power of the verdict of a paired comparison, by simulation, compared with an oracle.

    python scripts/power.py [--simulations 2000] [-o docs/results/power.md]    (make power)

Two models whose balanced accuracies differ by 5 points are compared on images with the class proportions of HAM10000, as in
`false_alarms.py`. The oracle knows how often the models disagree in each class: it rejects if the difference exceeds what
5 % of data sets show in which each image (or patient) has the same chance to be discordant, in a random direction. Exits 1
if the power of the verdict is below 0.8 times the oracle's with 300 images, or 0.9 times with more.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from false_alarms import (
    RECALL_SKIN,
    SIGNIFICANCE_LEVEL,
    SKIN,
    FloatArray,
    Setting,
    compared,
    percent,
    single_images,
)

POINTS = 0.05
CLASSES = len(SKIN)
UNITS = (300, 650, 1500)  # images, or patients
AGREEMENTS = (0.5, 0.8, 0.95)
FLIPS = 5  # of each simulated difference: data of models that do not differ
EQUAL = 1e-9  # differences that are equal on paper
# Where the models differ: proportion of the difference in each class, with a mean of 1.
PLACES = {
    "all classes": np.ones(CLASSES),
    "the four common classes": CLASSES / 4 * (np.arange(CLASSES) < 4),
    "the three rare classes": CLASSES / 3 * (np.arange(CLASSES) >= 4),
}


@dataclass(frozen=True)
class Measured:
    """Proportions of significant results."""

    verdict: float
    flips: float
    oracle: float

    @property
    def ratio(self) -> float:
        return self.verdict / self.oracle if self.oracle else float("inf")


def required(units: int) -> float:
    """The least power of the verdict relative to the oracle's."""
    return 0.9 if units >= 650 else 0.8


def setting(units: int, place: str, agreement: float, each: int) -> Setting:
    """Patients with ``each`` images; the rarest class has 3 of 300."""
    counts = [each * round(units * number / SKIN.sum()) for number in SKIN.tolist()]
    shift = POINTS * PLACES[place]
    # Centred where all classes differ: 0.95 + 0.05 would be a perfect recall.
    a = RECALL_SKIN + POINTS / 2 if place == "all classes" else RECALL_SKIN
    return Setting(place, POINTS, single_images(counts, a, a - shift, agreement, each=each))


def measure(chosen: Setting, simulations: int, seed: int) -> Measured:
    """Proportions of the simulations in which each method finds the difference."""
    rng = np.random.default_rng(seed)
    values, none = np.zeros(simulations), np.zeros((simulations, FLIPS))
    found = []
    for index in range(simulations):
        drawn = chosen.draw(rng)
        differences = (drawn.a.mean(axis=0) - drawn.b.mean(axis=0)) / np.bincount(drawn.target)[drawn.target]
        of_groups: FloatArray = np.bincount(drawn.group, differences) / CLASSES
        values[index] = abs(of_groups.sum())
        none[index] = abs(of_groups @ rng.choice([-1, 1], (len(of_groups), FLIPS)))
        pair = compared(drawn, CLASSES, index)
        found.append((pair.verdict == "better", pair.p <= SIGNIFICANCE_LEVEL))
    verdict, flips = np.mean(found, axis=0)
    return Measured(float(verdict), float(flips), oracle(values, none))


def oracle(values: FloatArray, none: FloatArray) -> float:
    """Power of the test of exactly 5 % whose critical value is known.

    Args:
        values: (S,) sizes of simulated differences.
        none: sizes of models that do not differ; one that would exceed 5 % is significant in a part of all cases.
    """
    critical = np.quantile(none, 1 - SIGNIFICANCE_LEVEL, method="higher")

    def beyond(sizes: FloatArray) -> tuple[float, float]:
        return float((sizes > critical + EQUAL).mean()), float((abs(sizes - critical) <= EQUAL).mean())

    above, at = beyond(none)
    part = (SIGNIFICANCE_LEVEL - above) / at
    above, at = beyond(values)
    return above + part * at


def main() -> int:
    """Simulate, print, write; return 1 if the verdict finds too few of the differences."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("-o", "--out", type=Path)
    chosen = parser.parse_args()
    start = time.monotonic()
    lines, low = [], []
    for each in (1, 2):
        for place in PLACES:
            where = place if each == 1 else f"{place}; patients with {each} images"
            for units in UNITS if each == 1 else UNITS[:2]:
                for agreement in AGREEMENTS:
                    found = measure(setting(units, place, agreement, each), chosen.simulations, len(lines))
                    if found.ratio < required(units):
                        low.append(f"{where}, {units}, agreement {agreement}")
                    cells = [percent(one) for one in (found.oracle, found.flips, found.verdict)]
                    lines.append(
                        f"| {where} | {units:,} | {agreement} | {' | '.join(cells)} | {found.ratio:.2f} |"
                    )
                    print(lines[-1], flush=True)
    text = report(lines, chosen.simulations, time.monotonic() - start)
    if chosen.out:
        chosen.out.write_text(text)
    for line in low:
        print(f"less power than required: {line}")
    return int(bool(low))


def report(lines: list[str], simulations: int, seconds: float) -> str:
    """The results as Markdown."""
    return (
        "\n".join(
            [
                "# Paired comparisons: power",
                "",
                f"    python scripts/power.py --simulations {simulations}    (make power)",
                "",
                f"Each line is {simulations:,} simulated comparisons of two models whose balanced accuracies differ by 5 points; results",
                f"in %, with a standard error of at most {percent(0.5 / simulations**0.5)} points. Took {seconds / 60:.0f} min on one core. The seven classes have the",
                "proportions of HAM10000; of 300 images or patients the rarest has 3. For a proportion of the images (agreement) both",
                "models use the same random number. Type I errors of the same verdict: [false alarms](false-alarms.md).",
                "",
                "The oracle is a test of exactly 5 % that knows how often the models disagree in each class: its critical value is the",
                "95 % quantile of the difference if each image (or patient) favours either model equally often.",
                "",
                "| the models differ in | images or patients | agreement | oracle | sign-flip test | verdict: test and interval | verdict / oracle |",
                "|---|---:|---:|---:|---:|---:|---:|",
                *lines,
                "",
                "Required: 0.8 of the oracle's power with 300 images or patients and 0.9 with more. Not reached by 300 images of models that only",
                "differ in the three rare classes: 21 images are too few to estimate how often the models disagree on them, which the",
                "oracle knows, and where two or three of them are discordant a sign-flip test, which needs six, cannot find them. It",
                "can exceed the oracle elsewhere, as it takes account of the number of discordant images in each class.",
            ]
        )
        + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
