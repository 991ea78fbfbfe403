"""tametail monitor: reading of predictions, what is found of which change, and the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from fixtures.browser_page import HOSTILE
from fixtures.colour_classifier import NAMES, colour_classifier
from fixtures.drifting_predictions import TRAINED, drawn, facts_of, stream, write
from tametail.cli.app import app
from tametail.core.errors import DataError, UsageError
from tametail.deployment import load as loading
from tametail.deployment.monitor import Monitoring, Signal, monitored
from tametail.deployment.monitor_page import monitor_html, summary_rows
from tametail.deployment.prediction_batches import read_batches
from tametail.deployment.unlikeness import Likeness
from tametail.evaluation.intervals import wilson
from tametail.evaluation.label_shift import estimate_prevalence


def signal(found: Monitoring, name: str) -> Signal:
    return next(each for each in found.signals if each.name == name)


def test_without_drift_there_is_no_alarm_and_estimates_are_those_of_their_functions(tmp_path: Path) -> None:
    facts = facts_of()
    files = stream(tmp_path, flagged=0.0)
    found = monitored(facts, files)
    assert found.alarms == ()
    tables = [pd.read_csv(file) for file in files]
    own = signal(found, "Images unlike the training images").estimates[2]
    share = tables[2]["unlike_training"].mean()
    low, high = wilson(share, 250)
    assert (own.value, own.low, own.high, own.n) == pytest.approx((share, low, high, 250))
    p = tables[2][[f"p_{name}" for name in NAMES]].to_numpy()
    assert facts.shift is not None
    expected = estimate_prevalence(p, facts.shift)
    for at, name in enumerate(NAMES):
        each = signal(found, f"Prevalence of {name}")
        assert each.estimates[2].value == pytest.approx(expected.prevalence[at])
        assert each.estimates[2].high == pytest.approx(expected.high[at])
        assert each.means[2] == pytest.approx(p[:, at].mean())
    assert signal(found, "Highest probability, mean").estimates[2].value == pytest.approx(
        p.max(axis=1).mean()
    )
    table = found.table
    assert len(table) == 7 * 8
    assert not table["alarm"].any()


@pytest.mark.parametrize(
    ("drift", "name"),
    [
        ({"unlike": 0.3}, "Images unlike the training images"),
        ({"flagged": 0.3}, "Images with a quality flag"),
        ({"unreadable": 60}, "Images that cannot be read"),
        ({"prevalence": [0.2, 0.3, 0.5]}, "Prevalence of blue"),
    ],
)
def test_a_drift_raises_the_alarm_of_its_signal(tmp_path: Path, drift: dict[str, Any], name: str) -> None:
    found = monitored(facts_of(), stream(tmp_path, **drift), baseline=2)
    raised = signal(found, name)
    assert raised.alarm in {4, 5}
    assert raised.began == 4
    if "prevalence" not in drift:
        assert [each.name for each in found.alarms] == [name]
    rows = {row[0]: row[2] for row in summary_rows(found)}
    assert rows[name].startswith(f"alarm at week_{raised.alarm + 1}: the ")
    assert rows[name].endswith("most probably since week_5")


def test_less_confident_predictions_raise_an_alarm(tmp_path: Path) -> None:
    files = stream(tmp_path)
    rng = np.random.default_rng(1)
    for at in (5, 6, 7):
        p, _ = drawn(rng, 250, TRAINED)
        write(files[at], p**0.2 / (p**0.2).sum(axis=1, keepdims=True))
    found = signal(monitored(facts_of(), files, baseline=2), "Highest probability, mean")
    assert found.alarm in {5, 6}
    assert found.change is found.fall


def test_what_is_not_known_or_too_few_is_said(tmp_path: Path) -> None:
    facts = facts_of(likeness=Likeness(reason="too few groups"), shift=None)
    p, _ = drawn(np.random.default_rng(0), 12, TRAINED)
    empty = pd.Series([None] * 12, dtype=object)
    file = write(tmp_path / "a.csv", p, unlikeness=empty, unlike_training=empty)
    found = monitored(facts, [file])
    assert summary_rows(found)[0][2] == "not known: too few groups"
    assert {row[2] for row in summary_rows(found)[1:]} == {
        "not tested: no batch after the first batch to compare with"
    }
    page = monitor_html(found, facts)
    assert "Expected more batches than the first batch" in page
    assert "the model holds no out-of-fold predictions" in page
    assert signal(monitored(facts_of(likeness=facts.likeness), [file]), "Prevalence of red").notes == (
        "fewer than 20 images",
    )


def test_files_are_ordered_by_their_dates_or_their_names(tmp_path: Path) -> None:
    p, _ = drawn(np.random.default_rng(0), 5, TRAINED)

    def order(*names: str) -> tuple[list[str], str]:
        files = [write(tmp_path / f"{name}.csv", p, seed=at) for at, name in enumerate(names)]
        found, order = read_batches(files, facts_of())
        return [batch.name for batch in found], order

    assert order("b2026-11-03", "a2026-11-10", "20261020x")[0] == ["20261020x", "b2026-11-03", "a2026-11-10"]
    names, by = order("week10", "week9", "2026-01-01")
    assert names == ["2026-01-01", "week9", "week10"]
    assert by.startswith("by name")


def test_an_unreadable_file_of_predictions_is_named(tmp_path: Path) -> None:
    facts = facts_of()
    p, _ = drawn(np.random.default_rng(0), 30, TRAINED)
    good = write(tmp_path / "good.csv", p)
    text = good.read_text(encoding="utf-8")
    lines = text.splitlines()
    bad = tmp_path / "bad.csv"
    cases: dict[str, str | bytes] = {
        "it is empty": "",
        "a header only": lines[0] + "\n",
        "cannot be read": b"\xff\xfe" + text.encode(),
        "expected 16 columns in row 3": "\n".join([*lines[:3], lines[3].rpartition(",")[0], *lines[4:]]),
        "no column method, error": text.replace("method", "x", 1).replace("error", "y", 1),
        "found one twice": text.replace("p_green", "p_red", 1),
        "found those of red, blue, green": text.replace("p_green", "p_?", 1)
        .replace("p_blue", "p_green", 1)
        .replace("p_?", "p_blue", 1),
        "found alpa: it is of another model": text.replace(",ce,", ",alpa,", 2),
        "expected link softmax": text.replace("softmax", "sigmoid"),
        "sum to one": "\n".join([lines[0], re.sub(r"(0\.\d+),False", "0.99999,False", lines[1]), *lines[2:]]),
        "expected numbers": "\n".join([lines[0], re.sub(r"[\d.e-]+,False", "?,False", lines[1]), *lines[2:]]),
        "expected 0 or 1 in column unlike_training": text.replace("0.5,0,", "0.5,,", 1),
        "those of several labels": text.replace("most_probable", "has_red", 1),
    }
    for message, content in cases.items():
        bad.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(DataError, match=re.escape(message)) as error:
            monitored(facts, [good, bad])
        assert "bad.csv" in str(error.value)
    bad.write_text(text, encoding="utf-8")
    for again in (bad, good):
        with pytest.raises(DataError, match="same content"):
            monitored(facts, [good, again])
    for absent in (tmp_path / "no.csv", tmp_path):
        with pytest.raises(DataError, match="check the path"):
            monitored(facts, [absent])
    with pytest.raises(DataError, match="at least one CSV file"):
        monitored(facts, [])


def test_predictions_for_a_given_prevalence_are_refused(tmp_path: Path) -> None:
    for name, colour in {"a": (120, 99, 90), "b": (99, 105, 90), "c": (99, 99, 108)}.items():
        Image.new("RGB", (60, 60), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "d.png").write_bytes(b"\x89PNG")
    model = colour_classifier()
    for name, prevalence in (("plain", None), ("given", {"red": 0.01, "green": 0.01, "blue": 0.98})):
        table = model.predict_table(tmp_path, prevalence=prevalence, coverage=0.9)
        table.to_csv(tmp_path / f"{name}.csv", index=False, float_format="%.9g")
    found, _ = read_batches([tmp_path / "plain.csv"], model.facts)
    assert (found[0].rows, found[0].unreadable, found[0].unlike) == (4, 1, None)
    with pytest.raises(DataError, match="without --prevalence"):
        read_batches([tmp_path / "given.csv"], model.facts)


def test_models_of_several_labels_and_wrong_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="several labels cannot be monitored"):
        monitored(colour_classifier(labels=True).facts, [tmp_path / "a.csv"])
    for options, message in (({"false_alarms": 1.0}, "--false-alarms"), ({"baseline": 0}, "--baseline")):
        with pytest.raises(UsageError, match=message):
            monitored(facts_of(), [tmp_path / "a.csv"], **options)


def test_the_page_says_the_rate_the_alarm_what_to_do_and_what_it_cannot_see(tmp_path: Path) -> None:
    facts = facts_of()
    page = monitor_html(monitored(facts, stream(tmp_path, unlike=0.3), baseline=2, false_alarms=0.1), facts)
    text = " ".join(re.sub(r"<[^>]+>", " ", page).replace("\u00a0", " ").split())
    for said in (
        "1 alarm in 8 batches, 2,000 images.",
        "Without drift the probability of any alarm is at most 10 %, over all signals and all batches, also those to come.",
        "Alarm at week_5: the rate is above",
        "What to do. Look at these images",
        "it is not seen whether predictions are right",
        "compared with the first 2 batches",
    ):
        assert said in text, said
    assert page.count("<svg") == 7
    assert page.count("What to do.") == 1
    assert page.count("<details><summary>Table of 8 batches") == 7
    assert "default-src 'none'" in page.replace("&#39;", "'")


def test_names_do_no_harm(tmp_path: Path) -> None:
    names = tuple(HOSTILE[:3])
    facts = facts_of(names, method="<i>ce</i>")
    p, _ = drawn(np.random.default_rng(0), 40, TRAINED)
    files = [
        write(tmp_path / f"<b>{at}\u202e.csv", p, names=names, seed=at, method="<i>ce</i>") for at in range(2)
    ]
    page = monitor_html(monitored(facts, files), facts)
    assert page.count("<script") == 1
    for tag in ("<b>0", "<i>", "<img"):
        assert tag not in page
    assert "\u202e" not in page
    assert all(source.startswith("#") for source in re.findall(r'(?:src|href)="([^"]*)"', page))


def test_the_command_writes_the_page_and_ends_with_0_also_with_alarms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load_facts", lambda *_, **__: facts_of())
    files = list(map(str, stream(tmp_path, unlike=0.3)))
    out = tmp_path / "deep" / "monitor.html"
    result = CliRunner().invoke(app, ["monitor", "study", *files, "-o", str(out), "--baseline", "2"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["signal", "latest", "(95", "%", "interval)", "finding"]
    assert re.match(r"Images unlike the training images +\d.*alarm at week_5", lines[1])
    assert lines[-1] == str(out)
    assert "at most 5 %" in lines[-2]
    assert "exit code is 0 also with alarms" in result.stderr
    assert "1 alarm in 8 batches" in out.read_text(encoding="utf-8").replace("\u00a0", " ")
    assert CliRunner().invoke(app, ["monitor", "study", *files, "-o", "m.csv"]).exit_code == 2
