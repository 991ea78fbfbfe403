"""What a close reading of the paper says of its tables (docs/paper.md, where the tests behind it are named too)."""

from __future__ import annotations

from dataclasses import dataclass

from tametail.reproduce.experiments import FIGURE


@dataclass(frozen=True)
class Remark:
    """One remark.

    Attributes:
        text: in words.
        experiments: what it touches.
        impossible: printed numbers that no test set can give, as (column, class, ``recall`` or ``f1``).
    """

    text: str
    experiments: tuple[str, ...]
    impossible: tuple[tuple[str, str, str], ...] = ()


_APTOS = ("table2", "table3")
_COMPARED = ("table3", "table4", "table5")

REMARKS = (
    Remark(
        "Severe, v1: an F1 of 0.5 cannot be. A recall of 2.78 % is 1 of 36 images, so that F1 is at most 0.054.",
        ("table2",),
        (("v1", "Severe", "f1"),),
    ),
    Remark(
        "The printed training counts are sorted by size and stand beside the wrong classes: Mild and Moderate, and "
        "Severe and Proliferative, are swapped. Here each count stands beside its class.",
        _APTOS,
    ),
    Remark(
        "v2 is the ALPA of Table 3: its parameters were chosen, among three versions, on the test images that it is then "
        "compared on.",
        _APTOS,
    ),
    Remark(
        "v3 read literally would reward confident false alarms; here it has the factor λ − p of Hill loss, which the paper "
        "cites. The released code has no v3.",
        ("table2",),
    ),
    Remark(
        "ALPA's printed lead over ASL, 7.9 points, has a 95 % interval of 1.7 to 13.8 for the images alone, before "
        "allowing for the choice of its parameters on them.",
        ("table3",),
    ),
    Remark(
        "The set called DermaMNIST is HAM10000, 8,012 images to train and 2,003 to test. It has several images of some "
        "lesions; split by image, lesions lie on both sides.",
        ("table4",),
    ),
    Remark(
        "ALPA's printed lead over ASL, 4.3 points, has a 95 % interval of −1.5 to 9.7 for the images alone.", ("table4",)
    ),
    Remark(
        "Cross-entropy at 23 % is far below what it reaches when it is trained until it has learned: the printed "
        "baselines look under-trained.",
        ("table4",),
    ),
    Remark(
        "LYI has 11 test images: ASL's recall of 36.98 % and CE's of 27.77 % cannot be (4 and 3 of 11 are 36.36 and 27.27). "
        "ASL's is the number of MMZ in the same column.",
        ("table5",),
        (("ASL", "LYI", "recall"), ("CE", "LYI", "recall")),
    ),
    Remark(
        "ASL's printed balanced accuracy, 0.75, is not what its column gives, 0.755; with 36.36 for LYI it is.", ("table5",)
    ),
    Remark(
        "ALPA's printed lead, 0.9 points over CE, rests on classes of 4 to 11 test images (KSC, FGC, LYI): one image of KSC "
        "moves balanced accuracy by 1.5 points. Without KSC it is CE 76.0, ASL 75.5, ALPA 75.4, focal 74.3.",
        ("table5",),
    ),
    Remark(
        "Which classes of the public set were left out is not told; the 17 here are the only ones that leave 147,904 images.",
        ("table5",),
    ),
    Remark("One run per loss, no interval, and nothing on the spread over seeds.", ("table2", *_COMPARED)),
    Remark(
        "ALPA's curve leaves out β and the second focus W of Eq. 11, with which the slope peaks at p = 0.90 instead of 0.83.",
        (FIGURE,),
    ),
    Remark(
        "The slope falls to 0 as p goes to 1: the most confident false alarms teach least. The figure shows negatives "
        "alone; a hard positive gets hardly any push from ALPA (−0.009 at z = −5), where cross-entropy has −1.",
        (FIGURE,),
    ),
    Remark(
        "The rivals are drawn with settings that hardly focus (ASL γ− = 0.01 and m = 0.01, focal γ = 0.5); in common use are "
        "4 and 0.05, and 2.",
        (FIGURE,),
    ),
)  # fmt: skip


def remarks_on(experiment: str) -> tuple[Remark, ...]:
    """Those that touch an experiment, by its name."""
    return tuple(remark for remark in REMARKS if experiment in remark.experiments)


def impossible_numbers(experiment: str) -> frozenset[tuple[str, str, str]]:
    """(column, class, ``recall`` or ``f1``) of an experiment's printed numbers that cannot be."""
    return frozenset(place for remark in remarks_on(experiment) for place in remark.impossible)
