"""The result of a finished search as the content of search.json and trials.csv."""

from __future__ import annotations

import csv
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tametail.evaluation.paired import describe
from tametail.search.nested_estimate import NestedEstimate
from tametail.search.nested_search import TrialRecord, failures
from tametail.search.space import Space, recipe_values
from tametail.training.recipe import RECIPE_PARAMETERS

if TYPE_CHECKING:
    from optuna.study import Study

_MIN_TRIALS = 10  # for importances


def result_content(
    trials: Sequence[TrialRecord],
    best: TrialRecord,
    selected: Mapping[int, TrialRecord],
    nested: NestedEstimate,
    indistinguishable: Sequence[TrialRecord],
    space: Space,
    metric: str,
    importance: Mapping[str, float] | str,
) -> dict[str, Any]:
    """The result, for search.json.

    Args:
        trials: of all searches.
        best: the best one of the search over all folds.
        selected: the best one of each outer fold's search.
        nested: how the selected ones perform.
        indistinguishable: trials that do not differ significantly from ``best``.
        importance: share of each dimension, or why there is none.
    """
    states = [trial.state for trial in trials if trial.outer is None]
    tuned, default = (evaluation[metric] for evaluation in (nested.tuned, nested.default))
    return {
        "best": _selection(best, space) | {"score": best.score, "n": best.n},
        "nested": {
            "tuned": tuned.as_dict(),
            "default": default.as_dict(),
            nested.tuned.headline: {
                "tuned": nested.tuned.score.as_dict(),
                "default": nested.default.score.as_dict(),
                "difference": nested.paired.difference.as_dict(),
                "p": nested.paired.p,
                "verdict": nested.paired.verdict,
                "in_words": describe(nested.paired, "tuned", "the default"),
            },
            "n": nested.tuned.n,
            "groups": nested.tuned.groups,
        },
        # Of several labels the best score is a mean over folds, which is compared with the same mean.
        "optimism": best.score
        - (np.mean([on for on, _ in nested.by_fold.values()]) if nested.tuned.multi_label else tuned.value),
        "folds": [
            _selection(trial, space)
            | {
                "fold": fold,
                "inner_score": trial.score,
                "inner_n": trial.n,
                "score": nested.by_fold[fold][0],
                "default_score": nested.by_fold[fold][1],
                "n": int(nested.tuned.n - trial.n),
            }
            for fold, trial in sorted(selected.items())
        ],
        "values": {
            dimension.name: {
                "best": best.values[dimension.name],
                "default": _default(dimension.name, space),
                "folds": [selected[fold].values[dimension.name] for fold in sorted(selected)],
                "indistinguishable": _range([trial.values[dimension.name] for trial in indistinguishable]),
            }
            for dimension in space.dimensions
        },
        "indistinguishable": len(indistinguishable),
        "trials": {state: states.count(state) for state in ("complete", "pruned", "failed")},
        "failures": failures(trials)[:5],
        "importance": importance if isinstance(importance, Mapping) else None,
        "importance_note": "" if isinstance(importance, Mapping) else importance,
    }


def trials_csv(trials: Sequence[TrialRecord], indistinguishable: Sequence[TrialRecord], space: Space) -> str:
    """Every trial of every search, one line each, those over all folds first."""
    names = [dimension.name for dimension in space.dimensions]
    numbers = {trial.number for trial in indistinguishable}
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    header = ("search", "trial", "state", "score", "n", "indistinguishable", *names, "method", "message")
    writer.writerow(header)
    for trial in trials:
        tested = trial.outer is None and trial.state == "complete"
        writer.writerow(
            (
                "all folds" if trial.outer is None else f"without fold {trial.outer}",
                trial.number,
                trial.state,
                f"{trial.score:.6f}" if math.isfinite(trial.score) else "",
                trial.n,
                ("yes" if trial.number in numbers else "no") if tested else "",
                *(trial.values[name] for name in names),
                _method(trial, space),
                trial.message,
            )
        )
    return text.getvalue()


def importances(study: Study, space: Space) -> dict[str, float] | str:
    """Share of the variance of the scores due to each dimension, by fANOVA (Hutter et al. 2014); or why there is none."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    varied = [d.name for d in space.dimensions if len({trial.params.get(d.name) for trial in complete}) > 1]
    if len({trial.value for trial in complete}) < 2 or not varied:
        return "All scores are equal, so no importance can be computed."
    if len(complete) < _MIN_TRIALS:
        return f"Importances need at least {_MIN_TRIALS} finished trials; there are {len(complete)}."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), params=varied)
    return {name: float(share) for name, share in found.items()}


def _selection(trial: TrialRecord, space: Space) -> dict[str, Any]:
    """A trial's values, and the method and recipe that result from them."""
    return {
        "trial": trial.number,
        "method": _method(trial, space),
        "values": dict(trial.values),
        "recipe": recipe_values(trial.values),
    }


def _method(trial: TrialRecord, space: Space) -> str:
    try:
        return space.trial(trial.values).method.text
    except (ValueError, TypeError):
        return ""


def _default(name: str, space: Space) -> str:
    """The value of a dimension where nothing is sampled."""
    if name in RECIPE_PARAMETERS:
        value: Any = space.recipe.model_dump()
        for field in RECIPE_PARAMETERS[name].split("."):
            value = value[field]
        return f"{value:g}" if isinstance(value, float) else str(value)
    value = getattr(space.method.loss.create([1, 1]), name, None)
    if isinstance(value, tuple):
        return "/".join(map(str, value))
    return "none" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)


def _range(values: Sequence[str]) -> list[str]:
    """Lowest and highest value, or, if they are not numbers, the distinct values."""
    try:
        ordered = sorted(values, key=float)
    except ValueError:
        return sorted(set(values))
    return [ordered[0], ordered[-1]]
