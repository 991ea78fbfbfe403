"""Warnings about methods whose hyperparameters a search tuned on the study's own folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tametail.evaluation import Estimate
from tametail.evaluation.evaluate import headline
from tametail.report import formatting


def tuned_in_words(settings: Mapping[str, Any]) -> list[str]:
    """A warning for each method of a study whose hyperparameters were chosen on its folds.

    Args:
        settings: the content of study.json.
    """
    warnings = []
    for method, note in (settings.get("tuned") or {}).items():
        score = headline(multi_label=settings.get("multi_label", False))
        nested = formatting.percent_in_words(Estimate.from_dict(note[f"nested_{score}"]))
        warning = (
            f"The hyperparameters of {method} were selected on these folds, as the best of {note['trials']} trials, so its score in "
            f"cross-validation is optimistic. The nested cross-validation of its search estimates a {score.replace('_', ' ')} of {nested}; "
            "search.html compares it with the default."
        )
        if searched := note.get("searched_recipe"):
            values = ", ".join(f"{name} {value:g}" for name, value in searched.items())
            warning += f" Values of the recipe were also tuned for it and apply to the whole study ({values}): the other methods were not tuned."
        warnings.append(warning)
    return warnings
