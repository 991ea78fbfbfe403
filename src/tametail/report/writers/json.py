"""metrics.json: every number of a study for other programs, in the format of metrics.schema.json.

It contains no time, path or name of a group; the same results give the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib import resources
from itertools import combinations
from typing import Any

from tametail.evaluation import Estimate, Evaluation
from tametail.evaluation.calibration import Calibration
from tametail.evaluation.conformal import PredictionSets
from tametail.evaluation.evaluate import headline
from tametail.evaluation.label_calibration import LabelCalibration, LabelQuality
from tametail.evaluation.mcnemar import ClassTest
from tametail.evaluation.net_benefit import DecisionCurve
from tametail.evaluation.operating import OperatingPoint
from tametail.evaluation.paired import PairedTable
from tametail.evaluation.subgroup_contrasts import SubgroupContrasts
from tametail.evaluation.subgroups import Subgroup
from tametail.report.study.comparisons import RunComparison
from tametail.report.study.results import MethodResults, StudyResults
from tametail.storage.study_file import folds_to_run

METRICS_JSON = "metrics.json"
SCHEMA_NAME = "tametail.metrics/3"
MOST_JSON_CLASSES = 100  # larger confusion matrices are left out; the predictions contain them
_DIGITS = 9

Json = dict[str, Any]


def metrics_schema() -> Json:
    """The JSON Schema (draft 2020-12) of `metrics_json`."""
    text = (
        resources.files("tametail.report.writers").joinpath("metrics.schema.json").read_text(encoding="utf-8")
    )
    schema: Json = json.loads(text)
    return schema


def metrics_json(results: StudyResults) -> str:
    """All results as JSON. Undefined and unfinished values are null, never 0 or NaN."""
    settings, ranking = results.settings, results.ranking
    ranks = {result.method: rank for rank, result in enumerate(ranking, start=1)}
    content = {
        "schema": SCHEMA_NAME,
        "tametail": settings["tametail"],
        "kind": "evaluation" if results.is_evaluation else "study",
        "name": settings["name"],
        "synthetic": bool(settings["synthetic"]),
        "multi_label": results.multi_label,
        "ranked_by": headline(multi_label=results.multi_label),
        "predict_by": results.predict_by,
        "protocol": None if results.is_evaluation else _protocol(settings),
        "images": _images(results),
        "classes": _classes(results),
        "class_order": list(results.class_order) or None,
        "metrics": _metrics(results),
        "test_set_evaluations": len(results.test_set_evaluations),
        "methods": [_method(result, ranks.get(result.method)) for result in results.methods],
        "pairs": None if results.pairs is None else _pairs(results.pairs),
        "by_class": [
            _class_test(results, other, test) for other, tests in results.by_class.items() for test in tests
        ],
        "across_runs": [
            _run_comparison(results, other, found) for other, found in results.across_runs.items()
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _protocol(settings: Mapping[str, Any]) -> Json:
    return {
        "folds": settings["splits"]["folds"],
        "held_out": folds_to_run(settings),
        "seeds": list(settings["seeds"]),
        "recipe": str(settings["recipe"].get("name", "")),
        "backbone": str(settings["backbone"]),
        "table": settings["table"]["fingerprint"],
        "splits": settings["splits"]["fingerprint"],
    }


def _images(results: StudyResults) -> Json:
    counts = results.counts
    if results.is_evaluation:
        return {"evaluated": counts.train_images, "groups": counts.train_groups}
    return {
        "train": counts.train_images,
        "train_groups": counts.train_groups,
        "test": counts.test_images,
        "test_groups": counts.test_groups,
    }


def _classes(results: StudyResults) -> list[Json]:
    counts = results.counts
    if results.is_evaluation:
        return [{"name": name, "evaluated": counts.train[name]} for name in results.class_names]
    return [
        {"name": name, "train": counts.train[name], "test": counts.test[name]} for name in results.class_names
    ]


def _method(result: MethodResults, rank: int | None) -> Json:
    return {
        "method": result.method,
        "rank": rank,
        "runs": {"finished": result.finished, "expected": result.expected},
        "failures": list(result.failures),
        "score": _number(result.score),
        "thresholds": [_number(value) for value in result.thresholds] or None,
        "out_of_fold": _evaluation(result.out_of_fold),
        "test": _evaluation(result.test),
        "test_ensemble": _evaluation(result.test_ensemble),
        "calibration": _calibration(result.calibration),
        "prediction_sets": _sets(result.prediction_sets),
        "label_calibration": _label_calibration(result.label_calibration),
        "operating_points": [_operating(point) for point in result.operating],
        "subgroups": [_subgroup(one) for one in result.subgroups],
        "contrasts": [_contrasts(one) for one in result.contrasts],
        "decision_curve": _decision(result.decision),
    }


def _evaluation(evaluation: Evaluation | None) -> Json | None:
    if evaluation is None:
        return None
    confusion, names = evaluation.confusion, [one.name for one in evaluation.classes]
    few = confusion is not None and len(names) <= MOST_JSON_CLASSES
    of_class: dict[str, Json] = {name: {} for name in ("", *names)}
    for metric, name, estimate in evaluation:
        of_class[name][metric.name] = _estimate(estimate)
    return {
        "n": evaluation.n,
        "groups": evaluation.groups,
        "replicates": evaluation.replicates,
        "metrics": of_class[""],
        "class_groups": {
            group: [names[index] for index in members] for group, members in evaluation.class_groups.items()
        },
        "classes": [
            {
                "name": one.name,
                "n": one.n,
                "others": one.others,
                "groups": one.groups,
                "metrics": of_class[one.name],
            }
            for one in evaluation.classes
        ],
        "confusion": [[_number(count) for count in row] for row in confusion] if few else None,  # type: ignore[union-attr]
    }


def _metrics(results: StudyResults) -> Json:
    """What is known of each metric that a method has."""
    evaluations = (result.out_of_fold for result in results.ranking[:1])
    found = {metric.name: metric for evaluation in evaluations for metric, _, _ in evaluation or ()}
    return {
        name: {
            "title": metric.title,
            "low": _number(metric.low),
            "high": _number(metric.high),
            "greater_is_better": metric.greater_is_better,
            "by_class": metric.by_class,
            "interval": metric.interval_kind,
        }
        for name, metric in found.items()
    }


def _calibration(found: Calibration | None) -> Json | None:
    if found is None:
        return None
    return _reliability(found) | {
        "map": found.map.described() if found.map else None,
        "after": None if found.after is None else _reliability(found.after),
    }


def _label_calibration(found: LabelCalibration | None) -> Json | None:
    if found is None:
        return None
    return {
        "ece": _estimate(found.ece),
        "ece_after": _estimate(found.ece_after),
        "map": found.map.described(),
        "labels": [
            {"label": name, "given": _quality(found.labels[name]), "after": _quality(found.after[name])}
            for name in found.labels
        ],
    }


def _quality(found: LabelQuality) -> Json:
    return {name: _number(value) for name, value in asdict(found).items()}


def _reliability(found: Calibration) -> Json:
    shown = ("confidence", "accuracy", "low", "high")
    return {
        "brier": _estimate(found.brier),
        **{
            name: _number(getattr(found, name))
            for name in ("log_loss", "uniform_log_loss", "ece", "class_wise_ece", "intercept", "slope")
        },
        "bins": [{**{name: _number(getattr(one, name)) for name in shown}, "n": one.n} for one in found.bins],
    }


def _sets(found: PredictionSets | None) -> Json | None:
    if found is None:
        return None
    return {
        "required_coverage": _number(found.required),
        **_estimates(found, ("coverage", "size", "single", "empty")),
        "classes": [
            {
                "name": one.name,
                "groups": one.groups,
                "too_rare": one.too_rare,
                **_estimates(one, ("coverage", "size")),
            }
            for one in found.classes
        ],
    }


def _operating(point: OperatingPoint) -> Json:
    return {
        "class": point.class_name,
        "required_sensitivity": _number(point.required_sensitivity),
        "threshold": _number(point.threshold),
        **_estimates(point, ("sensitivity", "specificity", "ppv")),
        "alert_rate": _estimate(point.alert_rate),
        **{
            name: _number(getattr(point.decisions, name))
            for name in ("true_positives", "false_positives", "false_negatives", "true_negatives")
        },
        "false_positives_of": {name: _number(n) for name, n in point.decisions.false_positives_of},
    }


def _subgroup(one: Subgroup) -> Json:
    return {
        "column": one.column,
        "value": one.value,
        "n": one.n,
        "groups": one.groups,
        "absent": list(one.absent),
        **{name: _estimate(found) for name, found in one.estimates.items()},
    }


def _contrasts(found: SubgroupContrasts) -> Json:
    gap = found.gap
    return {
        "column": found.column,
        "contrasts": [
            {
                "value": one.value,
                "n": one.n,
                "rest": one.rest,
                "classes": list(one.classes),
                "difference": _estimate(one.difference),
                "p": _number(one.p),
                "p_holm": _number(one.p_holm),
            }
            for one in found.contrasts
        ],
        "worst_group_gap": None
        if gap is None
        else {
            "best": gap.best,
            "worst": gap.worst,
            "gap": _estimate(gap.gap),
            "by_chance": _number(gap.by_chance),
            "classes": list(gap.classes),
        },
        "left_out": dict(found.left_out),
    }


def _decision(curve: DecisionCurve | None) -> Json | None:
    if curve is None:
        return None
    return {
        "class": curve.class_name,
        "positives": curve.positives,
        "points": [
            {
                "threshold": _number(point.threshold),
                **_estimates(point, ("model", "treat_all", "over_treat_all")),
            }
            for point in curve.points
        ],
    }


def _pairs(table: PairedTable) -> list[Json]:
    found = []
    for i, j in combinations(range(len(table.names)), 2):
        paired = table.pair(i, j)
        found.append(
            {
                "a": table.names[i],
                "b": table.names[j],
                "difference": _estimate(paired.difference),
                "p": _number(paired.p),
                "p_holm": _number(paired.p_holm),
                "verdict": paired.verdict,
                "additional_images": paired.required_sample_size,
                "groups": paired.groups,
                "discordant": paired.discordant,
            }
        )
    return found


def _class_test(results: StudyResults, other: str, test: ClassTest) -> Json:
    return {
        "a": results.ranking[0].method,
        "b": other,
        "class": test.name,
        "n": test.n,
        "groups": test.groups,
        "only_a": _number(test.only_a),
        "only_b": _number(test.only_b),
        "difference": _estimate(test.difference),
        "p": _number(test.p),
        "p_holm": _number(test.p_holm),
        "verdict": test.verdict,
    }


def _run_comparison(results: StudyResults, other: str, compared: RunComparison) -> Json:
    limits = {name: _number(getattr(compared.found, name)) for name in ("difference", "low", "high", "p")}
    return {
        "a": results.ranking[0].method,
        "b": other,
        **limits,
        "p_holm": _number(compared.p_holm),
        "runs": compared.found.runs,
    }


def _estimates(of: object, names: Iterable[str]) -> Json:
    return {name: _estimate(getattr(of, name)) for name in names}


def _estimate(estimate: Estimate | None) -> Json | None:
    if estimate is None:
        return None
    limits = {name: _number(getattr(estimate, name)) for name in ("value", "low", "high")}
    return {**limits, "n": estimate.n}


def _number(value: float | None) -> float | None:
    """Rounded to nine decimals; null where it is undefined."""
    return round(float(value), _DIGITS) + 0.0 if value is not None and math.isfinite(value) else None
