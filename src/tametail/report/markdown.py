"""results.md: the paper's table (classes × losses) with intervals, the ranking, and the state of the test part."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tametail.evaluation import Estimate, Evaluation
from tametail.report import wording
from tametail.report.study_results import LossResults, StudyResults

_NUMBER = "---:"


def results_markdown(results: StudyResults) -> str:
    """The results as Markdown. Losses are in the order of their rank."""
    blocks = [f"# {_text(results.settings['name'])}: losses compared"]
    if results.settings["synthetic"]:
        blocks.append(f"**{wording.SYNTHETIC}**")
    blocks.append(_text(" ".join(wording.answer(results))))
    blocks += _test_part(results)
    ranked = results.ranking
    if ranked:
        blocks += [
            "## Ranking, out of fold",
            _ranking(ranked),
            "## Classes, out of fold",
            _classes(results, ranked, lambda result: result.out_of_fold),
        ]
    tested = [result for result in ranked if result.test is not None]
    if tested:
        blocks += [
            "## Classes, test part, mean over fold models",
            _classes(results, tested, lambda result: result.test),
            "## Classes, test part, ensemble of fold models",
            _classes(results, tested, lambda result: result.test_ensemble),
        ]
    waiting = wording.not_ranked(results)
    if waiting:
        blocks += ["## Not finished", "\n".join(f"- {_text(line)}" for line in waiting)]
    if ranked:
        blocks.append(
            "Acc is recall in %; 95 % intervals in brackets; n counts images that were held out, each predicted by "
            "a model that did not train on it."
        )
    return "\n\n".join(blocks) + "\n"


def _test_part(results: StudyResults) -> list[str]:
    blocks = [_text(" ".join(wording.state_of_test_part(results)))]
    if results.opened:
        blocks.append("\n".join(f"- {_text(wording.opening_in_words(entry))}" for entry in results.openings))
    return blocks


def _ranking(ranked: Sequence[LossResults]) -> str:
    rows = []
    for rank, result in enumerate(ranked, start=1):
        evidence = result.out_of_fold
        assert evidence is not None
        rows.append(
            [
                str(rank),
                _text(result.loss),
                _percent(evidence.balanced_accuracy),
                _score(evidence.macro_f1),
                _percent(evidence.accuracy),
                str(evidence.n),
            ]
        )
    header = ["Rank", "Loss", "Balanced accuracy, %", "Macro-F1", "Accuracy, %", "n"]
    return _table(header, [_NUMBER, "---", *[_NUMBER] * 4], rows)


def _classes(
    results: StudyResults,
    losses: Sequence[LossResults],
    choose: Callable[[LossResults], Evaluation | None],
) -> str:
    evaluations = [evaluation for result in losses if (evaluation := choose(result)) is not None]
    header = ["Class", "Training images", "n"]
    for result in losses:
        header += [f"{_text(result.loss)} Acc", f"{_text(result.loss)} F1"]
    rows = []
    for index in results.class_order:
        name = results.class_names[index]
        row = [_text(name), str(results.counts.train[name]), str(evaluations[0].classes[index].n)]
        for evaluation in evaluations:
            row += [_percent(evaluation.classes[index].recall), _score(evaluation.classes[index].f1)]
        rows.append(row)
    last = ["Balanced accuracy, macro-F1", str(sum(results.counts.train.values())), str(evaluations[0].n)]
    for evaluation in evaluations:
        last += [f"**{_percent(evaluation.balanced_accuracy)}**", f"**{_score(evaluation.macro_f1)}**"]
    return _table(header, ["---", *[_NUMBER] * (len(header) - 1)], [*rows, last])


def _percent(estimate: Estimate) -> str:
    interval = wording.percent_interval(estimate)
    return wording.percent(estimate.value) + (f" ({interval})" if interval else "")


def _score(estimate: Estimate) -> str:
    interval = wording.score_interval(estimate)
    return wording.score(estimate.value) + (f" ({interval})" if interval else "")


def _table(header: Sequence[str], alignment: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, alignment, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(text: str) -> str:
    """Text that Markdown and the HTML in it leave as it is, on one line."""
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", text)
