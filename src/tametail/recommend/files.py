"""recommend.json, recommend.md and recommend.html: all that a recommendation says, each file replaced in one step."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tametail.core.atomic import write_atomically
from tametail.core.errors import DataError, explain_save_error
from tametail.core.version import __version__
from tametail.evaluation import Estimate
from tametail.evaluation.paired import Paired
from tametail.recommend.candidates import PLAIN
from tametail.recommend.choice import RULE
from tametail.recommend.findings import CandidateResult, Findings, Followed
from tametail.recommend.narrative import READING, Circumstances, answer, losses_to_compare, next_command
from tametail.recommend.page import page
from tametail.report import formatting
from tametail.report.formatting import percent_with_interval
from tametail.report.study import narrative
from tametail.report.writers.markdown_table import NUMBER, markdown_table, markdown_text
from tametail.storage.identity import SCHEMA

RECOMMEND_JSON, RECOMMEND_MD, RECOMMEND_HTML = "recommend.json", "recommend.md", "recommend.html"


def write_files(directory: Path, findings: Findings, circumstances: Circumstances) -> None:
    """Write the three files, once all of them could be made.

    Raises:
        TametailError: one cannot be written.
    """
    files = {
        RECOMMEND_MD: as_markdown(findings, circumstances),
        RECOMMEND_HTML: page(findings, circumstances),
        # The last one: where it is there, the others are of the same findings.
        RECOMMEND_JSON: json.dumps(as_json(findings, circumstances), indent=1, ensure_ascii=False) + "\n",
    }
    for name, content in files.items():
        with explain_save_error(directory / name):
            write_atomically(directory / name, content)


def read_recommendation(directory: Path) -> dict[str, Any]:
    """The content of recommend.json.

    Raises:
        DataError: it is absent or cannot be read.
    """
    try:
        content: dict[str, Any] = json.loads((directory / RECOMMEND_JSON).read_text(encoding="utf-8"))
        return content
    except (OSError, ValueError) as error:
        raise DataError(
            f"expected a finished recommendation at {directory} (a folder with {RECOMMEND_JSON}), but it cannot be read: "
            f"{error}; make it with tametail recommend"
        ) from error


def as_json(findings: Findings, circumstances: Circumstances) -> dict[str, Any]:
    """All numbers; shares in 0..1, null where undefined."""
    choice = findings.choice
    plain = findings.tried[PLAIN].result
    return {
        "schema": SCHEMA,
        "tametail": __version__,
        "name": circumstances.name,
        "synthetic": circumstances.synthetic,
        "use": choice.use,
        "use_in_compare": losses_to_compare(findings),
        "best": choice.best,
        "within_one_standard_error": list(choice.near),
        "not_significantly_different_from_best": list(choice.alike),
        "better_than_plain": list(choice.beats_plain),
        "answer": answer(findings),
        "next_command": next_command(findings, circumstances),
        "rule": RULE,
        "images": plain.n,
        "groups": plain.groups,
        "class_counts": dict(circumstances.class_counts),
        "test_images_sealed": circumstances.test_images,
        "folds": circumstances.folds,
        "seeds": circumstances.seeds,
        "splits": circumstances.splits,
        "backbone": circumstances.backbone,
        "recipe": dict(circumstances.recipe),
        "adjusting_first": findings.first_adjusting,
        "nested": _followed(findings.followed),
        "nested_highest": _followed(findings.highest),
        "candidates": [_tried(findings, tried) for tried in findings.tried.values()],
        "failed": dict(findings.failed),
    }


def _followed(followed: Followed) -> dict[str, Any]:
    return {
        "balanced_accuracy": _estimate(followed.result.balanced_accuracy),
        "accuracy": _estimate(followed.result.accuracy),
        "against_plain": _pair(followed.gain),
        "used_by_fold": list(followed.used),
    }


def _tried(findings: Findings, tried: CandidateResult) -> dict[str, Any]:
    choice, candidate, result = findings.choice, tried.candidate, tried.result
    name = candidate.name
    return {
        "name": name,
        "step": candidate.step,
        "adjusts": candidate.adjusts,
        "method": tried.final.method,
        "chosen": _chosen(tried),
        "balanced_accuracy": _estimate(result.balanced_accuracy),
        "accuracy": _estimate(result.accuracy),
        "macro_f1": _estimate(result.macro_f1),
        "recall_by_class_group": {group.name: _estimate(group.recall) for group in result.class_groups},
        "recall_by_class": {one.name: _estimate(one.recall) for one in result.classes},
        "comes_first": tried.first,
        "standard_errors_below_best": choice.standard_errors_below(name),
        "not_significantly_different_from_best": name in choice.alike,
        "against_best": None if name == choice.best else _pair(choice.against_best[name].reversed()),
        "against_plain": None if name == PLAIN else _pair(choice.against_plain[name].reversed()),
    }


def _chosen(tried: CandidateResult) -> dict[str, Any] | None:
    if not tried.candidate.choices:
        return None
    if tried.final.offsets is None:
        return {"by_fold": [pick.method for pick in tried.picks], "by_all": tried.final.method}
    offsets = [pick.offsets for pick in (*tried.picks, tried.final) if pick.offsets is not None]
    rounded = [np.round(of_one, 6).tolist() for of_one in offsets]
    return {"by_fold": rounded[:-1], "by_all": rounded[-1]}


def _estimate(estimate: Estimate) -> dict[str, float | int | None]:
    return {key: _number(value) for key, value in asdict(estimate).items()}


def _number(value: float | int) -> float | int | None:
    return value if math.isfinite(value) else None


def _pair(pair: Paired) -> dict[str, Any]:
    return {
        "difference": _estimate(pair.difference),
        "standard_error": pair.standard_error,
        "p": _number(pair.p),
        "p_holm": _number(pair.p_holm),
        "verdict": pair.verdict,
    }


def chosen_in_words(tried: CandidateResult) -> str:
    """``τ = 0.75 (by fold 0.5, 0.75, 0.75)``; nothing where nothing was chosen."""
    if not tried.candidate.choices:
        return ""
    if tried.candidate.offsets:
        return f"{len(tried.result.classes)} numbers"
    taus = Counter(pick.method for pick in tried.picks)
    by_fold = ", ".join(f"{_tau(method)} in {count}" for method, count in taus.most_common())
    return f"τ {_tau(tried.final.method)} (by fold: {by_fold})"


def _tau(method: str) -> str:
    return method.partition("tau=")[2].rstrip("]") or "1"


def as_markdown(findings: Findings, circumstances: Circumstances) -> str:
    """The answer, the table, and how to read them."""
    names = [group.name for group in findings.tried[PLAIN].result.class_groups]
    header = [
        "Candidate",
        "Step",
        "Balanced accuracy, %",
        *(f"Recall {name}-shot, %" for name in names),
        "Accuracy, %",
        "Beside ce, points",
        "p, Holm",
        "Below the best, standard errors",
        "Told apart from the best",
        "Comes first, %",
    ]
    lines = [_line(findings, tried) for tried in findings.tried.values()]
    notes = [*([narrative.SYNTHETIC] if circumstances.synthetic else []), *circumstances.unsafe]
    left_out = [f"{name}: {why}" for name, why in findings.failed.items()]
    blocks = [
        f"# {markdown_text(circumstances.name)}: what to use",
        *(f"**{markdown_text(note)}**" for note in notes),
        *map(markdown_text, answer(findings)),
        f"Next:\n\n    {next_command(findings, circumstances)}",
        "## Candidates, out of fold",
        markdown_table(header, ["---", "---", *[NUMBER] * (len(header) - 4), "---", NUMBER], lines),
        *(
            ["## Left out, as a training failed", "\n".join(f"- {markdown_text(line)}" for line in left_out)]
            * bool(left_out)
        ),
        "## How to read this",
        *map(markdown_text, READING),
    ]
    return "\n\n".join(blocks) + "\n"


def _line(findings: Findings, tried: CandidateResult) -> list[str]:
    choice, name, result = findings.choice, tried.candidate.name, tried.result
    beside = None if name == PLAIN else choice.against_plain[name].reversed()
    difference = None if beside is None else beside.difference
    shown = f"**{markdown_text(name)}**" if name == choice.use else markdown_text(name)
    chosen = chosen_in_words(tried)
    return [
        shown + (f", {markdown_text(chosen)}" if chosen else ""),
        tried.candidate.step,
        percent_with_interval(result.balanced_accuracy),
        *(percent_with_interval(group.recall) for group in result.class_groups),
        percent_with_interval(result.accuracy),
        formatting.ABSENT
        if difference is None
        else f"{100 * difference.value:+.1f} ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})",
        formatting.ABSENT if beside is None else markdown_text(formatting.p_value(beside.p_holm)),
        formatting.ABSENT if name == choice.best else f"{choice.standard_errors_below(name):.2f}",
        "best" if name == choice.best else "no" if name in choice.alike else "yes",
        f"{100 * tried.first:.1f}",
    ]
