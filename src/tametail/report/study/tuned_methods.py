"""What a report says of methods that a search has tuned on the study's own folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tametail.evaluation import Estimate
from tametail.report import formatting


def tuned_in_words(settings: Mapping[str, Any]) -> list[str]:
    """A warning for each method of a study whose values were chosen on its folds.

    Args:
        settings: the content of study.json.
    """
    return [
        f"The values of {method} were chosen on these very folds, as the best of {note['trials']} trials, so its number out of fold "
        f"flatters it. An estimate is the nested one of its search: balanced accuracy "
        f"{formatting.percent_in_words(Estimate.from_dict(note['nested_balanced_accuracy']))}; search.html has it beside the default."
        + (
            f" The learning rate, {settings['recipe']['optimizer']['lr']:g}, was searched for it too, and the whole study uses it: the other methods were not searched for."
            if note.get("searched_rate")
            else ""
        )
        for method, note in (settings.get("tuned") or {}).items()
    ]
