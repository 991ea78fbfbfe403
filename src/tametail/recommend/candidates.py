"""What is tried: a fixed list, from doing nothing to training twice. Texts alone, so that no page needs torch for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Step = Literal["nothing", "post-hoc", "another loss", "re-training"]
STEPS: tuple[Step, ...] = ("nothing", "post-hoc", "another loss", "re-training")  # from the simplest
PLAIN = "ce"
CHOSEN = "chosen"
TAUS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)


@dataclass(frozen=True)
class Candidate:
    """One thing that may be recommended.

    Attributes:
        name: as it is called; where a number is chosen, with the word ``chosen`` in its place.
        step: how simple it is.
        adjusts: it counters the classes' unequal numbers; others leave the prior as it is.
        methods: texts of the methods, the first of equally good ones is taken; one where nothing is chosen.
        offsets: a number for each class is added to the logits of the method, chosen for balanced accuracy.
    """

    name: str
    step: Step
    adjusts: bool
    methods: tuple[str, ...]
    offsets: bool = False

    @property
    def choices(self) -> int:
        """0 where nothing is chosen, 1 for a number, 2 for one of each class: the more, the less simple."""
        return 2 if self.offsets else int(len(self.methods) > 1)

    @property
    def simplicity(self) -> tuple[int, int]:
        """The simplest first: by step, then by what is chosen."""
        return STEPS.index(self.step), self.choices


def _fixed(step: Step, adjusts: bool, *methods: str) -> list[Candidate]:
    return [Candidate(method, step, adjusts, (method,)) for method in methods]


def _tuned(strategy: str) -> Candidate:
    # The least tau stands first: of equally good ones it is the one that changes least.
    texts = (f"{PLAIN}+{strategy}" + (f"[tau={tau:g}]" if tau != 1 else "") for tau in TAUS)
    return Candidate(f"{PLAIN}+{strategy}[tau={CHOSEN}]", "post-hoc", True, tuple(texts))


CANDIDATES: tuple[Candidate, ...] = (
    *_fixed("nothing", False, PLAIN),
    *_fixed("post-hoc", True, "ce+la", "ce+taunorm", "ce+ncm"),
    _tuned("la"),
    _tuned("taunorm"),
    Candidate("ce+thresholds", "post-hoc", True, (PLAIN,), offsets=True),
    *_fixed("another loss", False, "focal", "asl", "alpa"),
    *_fixed(
        "another loss", True, "balanced_softmax", "bce[tau=1]", "alpa[tau=1]", "class_balanced", "ldam+drw"
    ),
    *_fixed("re-training", True, "ce+lws", "ce+crt"),
)


def method_texts(candidates: tuple[Candidate, ...] = CANDIDATES) -> list[str]:
    """The methods that must be trained for these candidates, each once."""
    return list(dict.fromkeys(text for candidate in candidates for text in candidate.methods))
