"""Options: checked values, signatures, and their text on a command line."""

from __future__ import annotations

import inspect
import shlex
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pytest

from fixtures.forked import fork_server
from tametail.core.errors import UsageError
from tametail.core.option import as_given, command_line, declared, pick, read_operating, recorded, takes
from tametail.core.options import (
    CompareOptions,
    EvaluateOptions,
    MachineOptions,
    MethodsOptions,
    SearchOptions,
    TrainingOptions,
    WriteReportOptions,
)

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "list_options.py"


@takes(MethodsOptions, CompareOptions)
def compare(
    data: str, methods: str | None = None, *, console: object = None, **options: Unpack[CompareOptions]
) -> dict[str, Any]:
    """Compare."""
    return {"data": data, "methods": methods, "console": console, **options}


def test_a_function_gets_every_option_checked_and_complete() -> None:
    got = compare(
        "skin", "ce", lr=1, folds=np.int64(3), only_folds="0, 2", set={"optimizer.lr": 1e-4, "x": "y"}
    )
    assert (got["data"], got["methods"], got["console"]) == ("skin", "ce", None)
    assert (got["lr"], got["folds"], got["only_folds"]) == (1.0, 3, [0, 2])
    assert got["set"] == ["optimizer.lr=0.0001", "x=y"]
    assert got["label_col"] is None
    assert got["validate"] is True
    assert set(got) == {"data", "console", *declared(MethodsOptions, CompareOptions)}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lr": "fast"}, "expected a number for --lr, got 'fast'"),
        ({"lr": float("nan")}, "expected a number for --lr"),
        ({"folds": True}, "expected a whole number for --folds, got True"),
        ({"folds": 2.5}, "expected a whole number for --folds, got 2.5"),
        ({"folds": None}, "expected a whole number for --folds, got None"),
        ({"seed": -1}, "expected --seed of at least 0, got -1"),
        ({"multi_label": 1}, "expected True or False for --multi-label, got 1"),
        ({"label_col": 3}, "expected a text for --label-col, got 3"),
        ({"image_root": 3}, "expected a text or a path for --image-root, got 3"),
        ({"only_folds": "a"}, "expected whole numbers with commas for --only-folds, got 'a'"),
        ({"only_folds": [True]}, "expected whole numbers with commas for --only-folds"),
        ({"tuned": 3}, "expected a list of texts for --tuned, got 3"),
        ({"tuned": {"a": 1}}, "expected a list of texts for --tuned"),
        ({"methods": 5}, "expected a list of texts for --methods, got 5"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace(".", r"\.")):
        compare("skin", **wrong)


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(
        TypeError, match=r"compare\(\) got an unknown option 'lable_col'; did you mean label_col"
    ):
        compare("skin", lable_col="dx")  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="repeats"):
        compare("skin", repeat=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"multiple values|too many"):
        compare("skin", "ce", "surplus")  # type: ignore[misc]


def test_a_choice_is_one_of_those_declared() -> None:
    sampler = declared(SearchOptions)["sampler"]
    assert sampler.check("tpe") == "tpe"
    with pytest.raises(UsageError, match="expected --sampler as one of random, tpe, got 'grid'"):
        sampler.check("grid")


def test_signature_and_docstring_list_every_option() -> None:
    parameters = inspect.signature(compare).parameters
    assert list(parameters)[:2] == ["data", "methods"]
    assert parameters["folds"].default == 5
    assert parameters["folds"].annotation is int
    assert set(declared(CompareOptions)) < set(parameters)
    assert "label_col: Column of labels." in (compare.__doc__ or "")


def test_a_command_line_is_read_back_as_the_same_options() -> None:
    options = {
        "methods": ["alpa[order=1/1]", "ce"],
        "lr": 1e-3,
        "set": ["a=1", "b=x y"],
        "multi_label": True,
        "validate": False,
    }
    text = command_line("compare", ["my data"], options | {"track": None}, MethodsOptions, CompareOptions)
    assert shlex.split(text) == [
        "tametail", "compare", "my data", "--methods", "alpa[order=1/1],ce", "--lr", "0.001", "--set", "a=1", "--set", "b=x y",
        "--multi-label", "--no-validate",
    ]  # fmt: skip


def test_what_was_given_is_stored_without_machine_and_folders() -> None:
    values = compare(
        "skin",
        lr=0.1,
        workers=3,
        image_root="/secret/place",
        weights="/home/me/w.pt",
        out="x",
        folds=5,
        tuned=["/a/b"],
    )
    assert as_given(CompareOptions, values) == {
        "lr": 0.1, "image_root": "place", "weights": "w.pt", "tuned": ["b"],
    }  # fmt: skip
    assert pick(MachineOptions, values) == {
        "device": "auto",
        "micro_batch": None,
        "workers": 3,
        "compile": False,
    }
    assert set(pick(TrainingOptions, values)) == set(declared(TrainingOptions))


def test_a_function_may_vary_default_and_help_of_an_option() -> None:
    assert declared(WriteReportOptions)["ordered"].flags == ["--ordered/--unordered"]
    assert declared(CompareOptions)["class_order"] == declared(SearchOptions)["class_order"]
    assert declared(EvaluateOptions)["out"].default == "evaluation"
    assert declared(CompareOptions)["validate"].flags == ["--validate/--no-validate"]


@pytest.mark.parametrize(
    "text", ["blast", "blast=", "=0.9", "blast=0", "blast=1.1", "blast=often", "blast=nan"]
)
def test_an_operating_point_needs_a_class_and_a_sensitivity(text: str) -> None:
    assert read_operating(["blast=0.9", "a=b=1", "blast=0.9"]) == (("blast", 0.9), ("a=b", 1.0))
    with pytest.raises(UsageError, match="expected --operating CLASS=SENSITIVITY"):
        read_operating([text])


def test_every_option_is_declared_once_and_the_same_in_python() -> None:
    found = fork_server().run("-c", SCRIPT.read_text(encoding="utf-8"), directory=ROOT)
    assert found.returncode == 0, found.stderr
    assert "--label-col" in found.stdout


def test_recorded_options_of_another_version_are_left_out() -> None:
    options = {
        "folds": 3,
        "out": "x",
        "\u202e": 1,
        "seed": "zero",
        "methods": ["ce", "alpa"],
        "label_col": [1],
        "repeats": 10**400,
    }
    assert recorded(options, MethodsOptions, CompareOptions) == {
        "folds": 3,
        "out": "x",
        "methods": ["ce", "alpa"],
        "repeats": 10**400,
    }
    assert list(recorded({"seed": 1, "folds": 3}, CompareOptions)) == ["seed", "folds"]
