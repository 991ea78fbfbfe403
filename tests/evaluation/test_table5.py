"""The documented example: the paper's Table 5, in which ALPA and CE do not differ significantly."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from tametail.evaluation.mcnemar import mcnemar_by_class
from tametail.evaluation.paired import paired_table

ROOT = Path(__file__).parents[2]
EXAMPLE = runpy.run_path(str(ROOT / "examples" / "table5.py"))


def test_the_page_shows_what_the_example_prints(capsys: pytest.CaptureFixture[str]) -> None:
    EXAMPLE["main"]()
    printed = capsys.readouterr().out
    assert printed.count("ALPA is not significantly different from CE: +0.9 points") == 3
    page = (ROOT / "docs" / "table5.md").read_text(encoding="utf-8")
    shown = page.split("```text\n")[1].split("```")[0]
    assert shown == printed


def test_counts_give_the_printed_percentages() -> None:
    table = EXAMPLE["table"]
    off = {
        (column, name)
        for column in table.columns
        for name, k, n in zip(table.classes, EXAMPLE["hits"](column), EXAMPLE["images"], strict=True)
        # Some percentages are cut and not rounded.
        if abs(100 * k / n - float(table.recall[column, name])) > 0.01
    }
    assert off == {("CE", "LYI"), ("ASL", "LYI")}


def test_no_pairing_tells_them_apart_and_every_pairing_tells_three_classes() -> None:
    # ALPA has all four images of KSC and CE three, so one is discordant however the hits are paired. It moves 1.47 points.
    # The signs of the others are symmetric, so with it for ALPA the sum is at least 0.91 as often as they give -0.56 or
    # more: p > 1/2. McNemar's p, at a given difference, grows with the discordant images: it is largest for the most.
    images, alpa, ce = EXAMPLE["images"], EXAMPLE["hits"]("ALPA"), EXAMPLE["hits"]("CE")
    rng = np.random.default_rng(1)
    a = EXAMPLE["model"]([np.arange(n) < k for n, k in zip(images, alpa, strict=True)])
    chance = EXAMPLE["model"]([rng.permutation(n) < k for n, k in zip(images, ce, strict=True)])
    most = EXAMPLE["model"]([np.arange(n) >= n - k for n, k in zip(images, ce, strict=True)])
    assert paired_table({"ALPA": [a], "CE": [chance]}, seed=1).pair(0, 1).p > 0.5
    verdicts = {test.name: test.verdict for test in mcnemar_by_class([a], [most])}
    told = {name: verdict for name, verdict in verdicts.items() if verdict != "no significant difference"}
    assert told == {"MYB": "better", "MMZ": "worse", "BLA": "worse"}
