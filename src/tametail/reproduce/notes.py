"""Notes on the paper's tables from a close reading (docs/paper.md, which also names the tests behind them)."""

from __future__ import annotations

from dataclasses import dataclass

from tametail.reproduce.experiments import FIGURE


@dataclass(frozen=True)
class Note:
    """A note on published results.

    Attributes:
        text: one or more sentences.
        experiments: names of the experiments that it concerns.
        impossible: published numbers that no test set can give, as (column, class, ``recall`` or ``f1``).
    """

    text: str
    experiments: tuple[str, ...]
    impossible: tuple[tuple[str, str, str], ...] = ()


_APTOS = ("table2", "table3")
_COMPARED = ("table3", "table4", "table5")

NOTES = (
    Note(
        "Severe, v1: an F1 of 0.5 is impossible. A recall of 2.78 % is 1 of 36 images, so that F1 is at most 0.054.",
        ("table2",),
        (("v1", "Severe", "f1"),),
    ),
    Note(
        "The published training counts are sorted by size and are assigned to the wrong classes: Mild and Moderate, and "
        "Severe and Proliferative, are swapped. Here each count is that of its class.",
        _APTOS,
    ),
    Note(
        "v2 is the ALPA of Table 3: its parameters were chosen, among three versions, on the test images of that "
        "comparison.",
        _APTOS,
    ),
    Note(
        "v3 read literally would reward confident false alarms; here it has the factor λ − p of Hill loss, which the paper "
        "cites. The released code has no v3.",
        ("table2",),
    ),
    Note(
        "ALPA's published lead over ASL, 7.9 points, has a 95 % interval of 1.7 to 13.8 for the images alone, before "
        "allowing for the choice of its parameters on them.",
        ("table3",),
    ),
    Note(
        "The set called DermaMNIST is HAM10000, 8,012 images to train and 2,003 to test. It has several images of some "
        "lesions; splitting by image puts images of one lesion into both sets.",
        ("table4",),
    ),
    Note(
        "ALPA's published lead over ASL, 4.3 points, has a 95 % interval of −1.5 to 9.7 for the images alone.", ("table4",)
    ),
    Note(
        "Cross-entropy at 23 % is far below what it reaches when trained to convergence: the published baselines look "
        "under-trained.",
        ("table4",),
    ),
    Note(
        "LYI has 11 test images: ASL's recall of 36.98 % and CE's of 27.77 % are impossible (4 and 3 of 11 are 36.36 and 27.27). "
        "ASL's is the number of MMZ in the same column.",
        ("table5",),
        (("ASL", "LYI", "recall"), ("CE", "LYI", "recall")),
    ),
    Note(
        "ASL's published balanced accuracy, 0.75, differs from the mean of its column, 0.755; with 36.36 for LYI it agrees.", ("table5",)
    ),
    Note(
        "ALPA's published lead, 0.9 points over CE, rests on classes of 4 to 11 test images (KSC, FGC, LYI): one image of KSC "
        "moves balanced accuracy by 1.5 points. Without KSC it is CE 76.0, ASL 75.5, ALPA 75.4, focal 74.3.",
        ("table5",),
    ),
    Note(
        "The paper does not state which classes of the public set were left out; the 17 here are the only ones that leave 147,904 images.",
        ("table5",),
    ),
    Note("One run per loss, no interval, and no spread over seeds.", ("table2", *_COMPARED)),
    Note(
        "ALPA's curve omits β and the second focus W of Eq. 11, with which the gradient peaks at p = 0.90 instead of 0.83.",
        (FIGURE,),
    ),
    Note(
        "The gradient falls to 0 as p approaches 1: the most confident false alarms contribute least. The figure shows negatives "
        "alone; for a hard positive ALPA has almost no gradient (−0.009 at z = −5), where cross-entropy has −1.",
        (FIGURE,),
    ),
    Note(
        "The other losses are drawn with parameters that hardly focus (ASL γ− = 0.01 and m = 0.01, focal γ = 0.5); common "
        "values are 4 and 0.05, and 2.",
        (FIGURE,),
    ),
)  # fmt: skip


def notes_on(experiment: str) -> tuple[Note, ...]:
    """The notes on an experiment, by its name."""
    return tuple(note for note in NOTES if experiment in note.experiments)


def impossible_numbers(experiment: str) -> frozenset[tuple[str, str, str]]:
    """(column, class, ``recall`` or ``f1``) of an experiment's impossible published numbers."""
    return frozenset(place for note in notes_on(experiment) for place in note.impossible)
