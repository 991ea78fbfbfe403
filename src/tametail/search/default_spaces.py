"""The default search space of each built-in loss.

Ranges are those of the papers where they are given, otherwise plausible values around the defaults. Only parameters that
shape a loss are included; ``tau``, the strength of the prior adjustment, is added with ``--space tau=0:2``.
"""

from __future__ import annotations

# The space of ALPA is that of the paper, Section 6.1.
DEFAULT_SPACES: dict[str, tuple[str, ...]] = {
    "alpa": ("alpha=0.5:2", "beta=0.5:2", "gamma_pos=0:5", "gamma_neg=0:5"),
    "asl": ("gamma_pos=0:5", "gamma_neg=0:5", "clip=0:0.2"),
    "asl_single_label": ("gamma_pos=0:5", "gamma_neg=0:5", "label_smoothing=0:0.3"),
    "apl": ("gamma_pos=0:5", "gamma_neg=0:5", "clip=0:0.2", "epsilon_1=-1:3", "epsilon_2=-3:3"),
    "ral": ("gamma_pos=0:5", "gamma_neg=0:5", "clip=0:0.2", "epsilon_1=-1:3", "epsilon_2=-3:3", "lam=1:2"),
    "hill": ("lam=1:2", "margin=0:2", "gamma=0:5"),
    "focal": ("alpha=0.1:0.9", "gamma=0:5"),
    "focal_softmax": ("gamma=0:5",),
    "ce": ("label_smoothing=0:0.3",),
    "bce": ("label_smoothing=0:0.3",),
    "weighted_ce": ("power=0:1",),
    "class_balanced": ("beta=0.9|0.99|0.999|0.9999",),
    "poly1": ("epsilon=-1:5",),
    "balanced_softmax": ("tau=0:2",),
    "logit_adjusted": ("tau=0:2",),
    "vs": ("gamma=0:0.5", "tau=0:2"),
    "lade": ("weight=0.01:1:log", "remine_lambda=0.01:1:log", "tau=0:2"),
    "seql": ("gamma=0.5:1", "threshold=0.01:0.5:log"),
    "label_aware_smoothing": (
        "smoothing_head=0.1:0.45",
        "smoothing_tail=0:0.1",
        "shape=concave|linear|convex",
    ),
    "corn": ("decide=rank|class",),
    "soft_ordinal": ("distance=absolute|squared", "scale=0.3:3:log"),
    "ldam": ("max_margin=0.1:1", "scale=5:50:log"),
}
