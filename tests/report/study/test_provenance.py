from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tametail.report import read_results
from tametail.report.study.provenance import citation, methods, unreadable


def test_a_study_is_cited_by_its_fingerprints(held_out_study: Path) -> None:
    said = citation(read_results(held_out_study))
    assert "study “cells”, table ab12ab12ab12, splits cd34cd34cd34." in said
    assert "BMVC 2024" in said


def test_the_protocol_in_words(held_out_study: Path, evaluated_study: Path) -> None:
    said = methods(read_results(held_out_study))
    assert said.startswith(
        "3 methods were compared on 548 images of 187 groups by cross-validation (3 folds, stratified by class, "
        "1 repeat; images of one group were never split between sets or folds)."
    )
    assert "Primary test: methods were compared in pairs" in said
    assert (
        "a paired sign-flip permutation test of balanced accuracy clustered by group, with Holm’s correction"
        in said
    )
    assert "was not evaluated." in said
    twice = methods(read_results(evaluated_study))
    assert "2 repeats" in twice
    assert "was evaluated twice." in twice
    assert "sign-flip" not in methods(replace(read_results(held_out_study), pairs=None))


def test_unreadable_files_are_counted_by_reason_and_not_named() -> None:
    entries = [{"image": f"patient-{number}.png", "error": "an empty file"} for number in range(3)]
    entries.append({"image": "x.png", "error": "the file is damaged"})
    found = unreadable({"table": {"unreadable": entries}})
    assert found == [("an empty file", 3), ("the file is damaged", 1)]
