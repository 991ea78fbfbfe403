"""The candidates of a recommendation, from plain cross-entropy to a second training. Text only, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Step = Literal["nothing", "post-hoc", "another loss", "re-training"]
STEPS: tuple[Step, ...] = ("nothing", "post-hoc", "another loss", "re-training")  # the simplest first
BASELINE = "ce"
CHOSEN = "chosen"
TAUS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)


@dataclass(frozen=True)
class Candidate:
    """Something that may be recommended.

    Attributes:
        name: a method, with the word ``chosen`` in place of a parameter that is tuned.
        step: what it adds to training with plain cross-entropy.
        adjusts: whether it counters class imbalance; the others leave the class prior as it is.
        methods: the methods to choose from, the first of equally good ones; a single one where nothing is tuned.
        offsets: whether an offset for each class is added to the logits, tuned for balanced accuracy.
    """

    name: str
    step: Step
    adjusts: bool
    methods: tuple[str, ...]
    offsets: bool = False

    @property
    def tuned(self) -> int:
        """How much is tuned: 0 nothing, 1 a single parameter, 2 an offset for each class."""
        return 2 if self.offsets else int(len(self.methods) > 1)

    @property
    def simplicity(self) -> tuple[int, int]:
        """Sort key, the simplest first: by step, then by how much is tuned."""
        return STEPS.index(self.step), self.tuned


def _fixed(step: Step, adjusts: bool, *methods: str) -> list[Candidate]:
    return [Candidate(method, step, adjusts, (method,)) for method in methods]


def _with_tau(strategy: str) -> Candidate:
    # The smallest tau comes first: of equally good ones, it changes the least.
    methods = (f"{BASELINE}+{strategy}" + (f"[tau={tau:g}]" if tau != 1 else "") for tau in TAUS)
    return Candidate(f"{BASELINE}+{strategy}[tau={CHOSEN}]", "post-hoc", True, tuple(methods))


CANDIDATES: tuple[Candidate, ...] = (
    *_fixed("nothing", False, BASELINE),
    *_fixed("post-hoc", True, "ce+la", "ce+la[tau=0.5]", "ce+taunorm", "ce+ncm"),
    _with_tau("la"),
    _with_tau("taunorm"),
    Candidate("ce+thresholds", "post-hoc", True, (BASELINE,), offsets=True),
    *_fixed("another loss", False, "focal", "asl", "alpa"),
    *_fixed(
        "another loss", True, "balanced_softmax", "bce[tau=1]", "alpa[tau=1]", "class_balanced", "ldam+drw"
    ),
    *_fixed("re-training", True, "ce+lws", "ce+crt"),
)


def method_texts(candidates: tuple[Candidate, ...] = CANDIDATES) -> list[str]:
    """The distinct methods that must be trained for the candidates."""
    return list(dict.fromkeys(text for candidate in candidates for text in candidate.methods))
