"""Prevalence of the classes in a target population. Shape legend: C classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tametail.core.errors import UsageError
from tametail.core.regular_file import regular


def read_prevalence(text: str, class_names: Sequence[str]) -> dict[str, float]:
    """Read ``even``, ``name=share,name=share,...``, or the path of a JSON file {"name": share, ...}.

    Raises:
        UsageError: the text has another form.
    """
    if text == "even":
        return dict.fromkeys(class_names, 1.0)
    try:
        if text.endswith(".json"):
            pairs = json.loads(regular(Path(text)).read_text(encoding="utf-8"), object_pairs_hook=list)
        else:
            pairs = [part.rpartition("=")[::2] for part in text.split(",")]
        named = [(str(name).strip(), float(share)) for name, share in pairs]
        names = [name for name, _ in named]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError("each class once, by name")
        return dict(named)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"expected a prevalence as even, as name=share,name=share,..., or as a JSON file of shares by class name, "
            f"got {text!r} ({error})"
        ) from error


def prevalence_vector(prevalence: Mapping[str, float], class_names: Sequence[str]) -> NDArray[np.float64]:
    """Prevalences (C,) that sum to one, in the order of the classes.

    Raises:
        UsageError: a class is missing or unknown, or a value is negative or not finite.
    """
    missing = [name for name in class_names if name not in prevalence]
    unknown = [name for name in prevalence if name not in class_names]
    if missing or unknown:
        raise UsageError(
            f"expected a prevalence for each class of the model ({', '.join(class_names)}); "
            f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}"
        )
    shares = np.array([prevalence[name] for name in class_names], dtype=np.float64)
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise UsageError(f"expected prevalences >= 0, one of them above 0, got {dict(prevalence)}")
    return np.asarray(shares / shares.sum())
