"""The paper's experiments as data: images, classes, and losses with their parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tametail.core.errors import UsageError
from tametail.core.registry import nearest
from tametail.losses.alpa import Variant
from tametail.reproduce.published import PublishedTable, published_table

Rivals = Literal["figure1", "defaults"]
FIGURE = "figure1"


@dataclass(frozen=True)
class Experiment:
    """One table of the paper.

    Attributes:
        name: ``table2`` to ``table5``.
        title: what it compares, and on what.
        number: of the published table.
        layouts: data sets that are read as downloaded, the first is that of the paper → file patterns that identify them.
        spellings: other names of each published class; case and punctuation do not matter.
        presets: published column → preset of ALPA; the other columns are other losses.
        file_size: width and height of the image files, if stated in the paper.
    """

    name: str
    title: str
    number: str
    layouts: Mapping[str, tuple[str, ...]]
    spellings: Mapping[str, tuple[str, ...]]
    presets: Mapping[str, str]
    file_size: tuple[int, int] | None = None

    @property
    def published(self) -> PublishedTable:
        """The published table."""
        return published_table(self.number)

    def methods(self, variant: Variant, rivals: Rivals) -> dict[str, str]:
        """Published column → method, without columns for which there is none (v3 of the released code)."""
        texts = {}
        for column in self.published.columns:
            preset = self.presets.get(column)
            if preset is None:
                texts[column] = RIVALS[rivals][column]
            elif not (preset == "v3" and variant == "code"):
                texts[column] = _alpa(preset, variant)
        return texts


RIVALS: dict[str, dict[str, str]] = {
    "figure1": {
        "ASL": "asl[gamma_pos=0,gamma_neg=0.01,clip=0.01]",
        "CE": "ce",
        "Focal": "focal[alpha=none,gamma=0.5]",
    },
    "defaults": {"ASL": "asl", "CE": "ce", "Focal": "focal"},
}
"""Parameters of the other losses: those of Figure 1's caption, the only published ones, or those in common use.

What the caption does not state follows from its text: CE is ASL with m = 0 and γ- = 0, so that γ+ is 0, and γ = 0 makes focal
loss binary cross-entropy (after Eq. 2), so that there is no α.
"""

_EYES = {
    "No DR": ("no_dr", "0", "normal"),
    "Mild": ("mild", "mild_dr", "1"),
    "Moderate": ("moderate", "moderate_dr", "2"),
    "Severe": ("severe", "severe_dr", "3"),
    "Proliferative DR": ("proliferative_dr", "proliferate_dr", "proliferative", "pdr", "4"),
}
_SKIN = {
    "akiec": ("actinic keratoses and intraepithelial carcinoma", "actinic keratosis", "actinic keratoses"),
    "bcc": ("basal cell carcinoma",),
    "bkl": ("benign keratosis-like lesions", "benign keratosis"),
    "df": ("dermatofibroma",),
    "mel": ("melanoma",),
    "nv": ("melanocytic nevi", "melanocytic nevus", "nevus"),
    "vasc": ("vascular lesions", "vascular lesion"),
}
_APTOS = {"aptos2019": ("train.csv", "train_images")}
_METHODS = {"ALPA": "v2"}

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "table2", "versions of ALPA on APTOS 2019", "2", _APTOS, _EYES, {"v1": "v1", "v2": "v2", "v3": "v3"}
        ),
        Experiment("table3", "losses on APTOS 2019", "3", _APTOS, _EYES, _METHODS),
        Experiment(
            "table4",
            "losses on HAM10000, called DermaMNIST there",
            "4",
            {"ham10000": ("HAM10000_metadata*",), "dermamnist": ("dermamnist.npz",)},
            _SKIN,
            _METHODS,
            (600, 450),
        ),
        Experiment(
            "table5",
            "losses on bone marrow cells",
            "5",
            {"bone_marrow": ("BM_cytomorphology_data", "*/BM_cytomorphology_data", "BLA", "BAS")},
            {},
            _METHODS,
        ),
    )
}  # fmt: skip
"""Name → experiment. Figure 1 is drawn without any image, see `FIGURE`."""


def find_experiment(name: str) -> Experiment:
    """The experiment of a name.

    Raises:
        UsageError: unknown; the message lists the names.
    """
    if name not in EXPERIMENTS:
        known = (*EXPERIMENTS, FIGURE)
        raise UsageError(f"expected one of {', '.join(known)}, got {name!r}; {nearest(name, known)}")
    return EXPERIMENTS[name]


def _alpa(preset: str, variant: str) -> str:
    given = {"variant": variant} if variant != "paper" else {}
    given |= {"preset": preset} if preset != "v2" else {}
    inside = ",".join(f"{key}={value}" for key, value in given.items())
    return f"alpa[{inside}]" if inside else "alpa"
