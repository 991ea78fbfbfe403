"""What a finished search says, as the content of search.json and trials.csv."""

from __future__ import annotations

import csv
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tametail.evaluation import Estimate
from tametail.evaluation.paired import describe
from tametail.search.choice import Nested, estimate_of
from tametail.search.nested_search import TrialRecord, failures
from tametail.search.space import OF_RECIPE, Space

if TYPE_CHECKING:
    from optuna.study import Study


def result_of(
    trials: Sequence[TrialRecord],
    best: TrialRecord,
    chosen: Mapping[int, TrialRecord],
    found: Nested,
    alike: Sequence[TrialRecord],
    space: Space,
    metric: str,
    importance: Mapping[str, float] | str,
) -> dict[str, Any]:
    """What was found, for search.json.

    Args:
        trials: of all searches.
        best: of the search over all folds.
        chosen: by outer fold.
        found: what the chosen ones reach.
        alike: trials that are not significantly different from the best.
        importance: share of each dimension, or why there is none.
    """
    final = [trial for trial in trials if trial.outer is None]
    tuned, default = (estimate_of(one, metric) for one in (found.tuned, found.default))
    return {
        "best": _choice(best, space) | {"score": best.score, "n": best.n},
        "nested": {
            "tuned": _estimate(tuned),
            "default": _estimate(default),
            "balanced_accuracy": {
                "tuned": _estimate(found.tuned.balanced_accuracy),
                "default": _estimate(found.default.balanced_accuracy),
                "difference": _estimate(found.paired.difference),
                "p": found.paired.p,
                "verdict": found.paired.verdict,
                "in_words": describe(found.paired, "tuned", "the default"),
            },
            "n": found.tuned.n,
            "groups": found.tuned.groups,
        },
        "optimism": best.score - tuned.value,
        "folds": [
            _choice(trial, space)
            | {
                "fold": fold,
                "inner_score": trial.score,
                "inner_n": trial.n,
                "score": found.by_fold[fold][0],
                "default_score": found.by_fold[fold][1],
                "n": int(found.tuned.n - trial.n),
            }
            for fold, trial in sorted(chosen.items())
        ],
        "values": {
            dimension.name: {
                "best": best.values[dimension.name],
                "default": _default(dimension.name, space),
                "folds": [chosen[fold].values[dimension.name] for fold in sorted(chosen)],
                "alike": _spread([trial.values[dimension.name] for trial in alike]),
            }
            for dimension in space.dimensions
        },
        "alike": len(alike),
        "trials": {
            state: sum(trial.state == state for trial in final)
            for state in ("complete", "given up", "failed")
        },
        "failures": failures(trials)[:5],
        "importance": importance if isinstance(importance, Mapping) else None,
        "importance_note": "" if isinstance(importance, Mapping) else importance,
    }


def trials_csv(trials: Sequence[TrialRecord], alike: Sequence[TrialRecord], space: Space) -> str:
    """Every trial of every search, one line each, those over all folds first."""
    names = [dimension.name for dimension in space.dimensions]
    beside = {trial.number for trial in alike}
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("search", "trial", "state", "score", "n", "alike", *names, "method", "message"))
    for trial in trials:
        final = trial.outer is None
        writer.writerow(
            (
                "all folds" if final else f"without fold {trial.outer}",
                trial.number,
                trial.state,
                f"{trial.score:.6f}" if math.isfinite(trial.score) else "",
                trial.n,
                ("yes" if trial.number in beside else "no") if final and trial.state == "complete" else "",
                *(trial.values[name] for name in names),
                _method(trial, space),
                trial.message,
            )
        )
    return text.getvalue()


def importances(study: Study, space: Space) -> dict[str, float] | str:
    """How much of the scores' spread each dimension accounts for, by Optuna's fANOVA (Hutter et al. 2014); or why not."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    varied = [d.name for d in space.dimensions if len({trial.params.get(d.name) for trial in complete}) > 1]
    if len({trial.value for trial in complete}) < 2 or not varied:
        return "The scores do not differ, so there is no importance to tell."
    if len(complete) < 10:
        return f"{len(complete)} finished trials are too few to tell importance; 10 are the least."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), params=varied)
    return {name: float(share) for name, share in found.items()}


def _choice(trial: TrialRecord, space: Space) -> dict[str, Any]:
    """A trial's values, and the method and recipe that they come to."""
    recipe = {name: float(trial.values[name]) for name in OF_RECIPE if name in trial.values}
    return {
        "trial": trial.number,
        "method": _method(trial, space),
        "values": dict(trial.values),
        "recipe": recipe,
    }


def _method(trial: TrialRecord, space: Space) -> str:
    try:
        return space.trial(trial.values).method.text
    except (ValueError, TypeError):
        return ""


def _default(name: str, space: Space) -> str:
    """The value that a dimension has where nothing is drawn."""
    if name in OF_RECIPE:
        return f"{getattr(space.recipe.optimizer, name):g}"
    value = getattr(space.method.loss.create([1, 1]), name, None)
    if isinstance(value, tuple):
        return "/".join(map(str, value))
    return "none" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)


def _spread(values: Sequence[str]) -> list[str]:
    """The lowest and the highest, or, of what is no number, all there are."""
    try:
        ordered = sorted(values, key=float)
    except ValueError:
        return sorted(set(values))
    return [ordered[0], ordered[-1]]


def _estimate(estimate: Estimate) -> dict[str, float | int | None]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in asdict(estimate).items()
    }
