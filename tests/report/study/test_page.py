from __future__ import annotations

import base64
import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

from tametail.core.errors import TametailError
from tametail.report import read_results, write_report
from tametail.report.study.page import results_html

MakeStudy = Callable[..., Path]
_VOID = {"meta", "br", "wbr", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags nest, and gathers attributes and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(study: Path) -> Page:
    return Page((study / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(params=["held_out_study", "evaluated_study"])
def study(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def test_one_file_that_asks_for_nothing(study: Path) -> None:
    html = (study / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert len(html) < 5_000_000
    assert not {"link", "iframe", "object", "embed", "image", "form"} & set(page.tags)
    references = [value for name, value in page.attributes if name in ("href", "src", "xlink:href", "action")]
    assert references
    assert all(value.startswith(("#", "data:image/jpeg;base64,")) for value in references)
    assert not re.search(r"https?:|//[a-z]|@import|@font-face", html)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))


def test_ids_are_unique_and_references_lead_somewhere(study: Path) -> None:
    page = page_of(study)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {value[1:] for name, value in page.attributes if name == "href"}
    targets |= {target for _, value in page.attributes for target in re.findall(r"url\(#([^)]*)\)", value)}
    assert targets <= set(ids)


def test_headings_skip_no_level_and_what_takes_the_focus_has_a_name(study: Path) -> None:
    html = (study / "report.html").read_text(encoding="utf-8")
    levels = [int(level) for level in re.findall(r"<h([1-6])\b", html)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    focusable = re.findall(r'<div[^>]*tabindex="0"[^>]*>', html)
    assert focusable
    assert all('role="region" aria-label="' in tag for tag in focusable)


def test_figures_take_the_colours_of_the_page(study: Path) -> None:
    html = (study / "report.html").read_text(encoding="utf-8")
    figures = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert not re.findall(r"#[0-9a-fA-F]{6}\b", figures)
    used, defined = set(re.findall(r"var\((--[\w-]+)\)", html)), set(re.findall(r"(--[\w-]+):", html))
    assert used <= defined


def test_the_policy_allows_the_one_script_and_nothing_else(study: Path) -> None:
    html = (study / "report.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", html, flags=re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.group(1).split(";"))
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": "'unsafe-inline'",
        "script-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not re.search(r"<[^>]* on[a-z]+=", html)


def test_every_loss_has_its_figures(held_out_study: Path) -> None:
    page = page_of(held_out_study)
    assert page.tags["svg"] == 3 + 2 + 3 + 3  # overview and classes; reliability; curves; training
    assert [value for name, value in page.attributes if name == "class"].count("confusion") == 3


def test_a_header_sorts_by_the_column_that_it_heads(study: Path) -> None:
    html = (study / "report.html").read_text(encoding="utf-8")
    tables = re.findall(r"<table.*?</table>", html, flags=re.DOTALL)
    sorted_by = 0
    for table in tables:
        columns = [int(number) for number in re.findall(r'<th[^>]* data-column="(\d+)"', table)]
        row = re.search(r"<tbody>\s*<tr.*?</tr>", table, flags=re.DOTALL)
        assert row is not None
        cells = re.findall(r"<t[dh]\b", row.group())
        assert sorted(columns) == sorted(set(columns))
        assert not columns or max(columns) < len(cells)
        sorted_by += bool(columns)
    assert sorted_by >= 4


def test_no_group_is_shown(study: Path) -> None:
    for name in ("report.html", "results.md", "results.csv"):
        assert "patient-" not in (study / name).read_text(encoding="utf-8")
    assert str(study) not in (study / "report.html").read_text(encoding="utf-8")


def test_wording_before_the_test_set_evaluation(held_out_study: Path) -> None:
    text = page_of(held_out_study).text
    assert "Test set held out" in text
    assert "“tametail test-set STUDY”" in text
    assert "was evaluated" not in text
    assert "Synthetic" not in text
    assert "In cross-validation, alpa has the highest balanced accuracy:" in text
    assert "n = 548 images of 187 groups (out-of-fold predictions)." in text
    assert "1 unreadable file excluded. 1: an empty file study.json names them." in text
    assert "a<b>.png" not in text, "its name may tell who a patient is"


def test_wording_after_the_test_set_evaluation(evaluated_study: Path) -> None:
    text = page_of(evaluated_study).text
    assert "Test set evaluated twice" in text
    assert "2026-01-02. Evaluation 2:" in text
    assert "Choices made after the first evaluation may depend on it" in text
    assert re.search(
        r"the balanced accuracy of \S+ is [\d.]+ % \(95 % interval [\d.]+ to [\d.]+\) as the mean over its 6 fold models",
        text,
    )
    assert "not yet evaluated" not in text


def test_names_are_escaped(make_study: MakeStudy) -> None:
    names = ("<script>alert(1)</script>", "=cmd()", "白血球 $x$ & y", "\"quoted\" 'name'")
    study = make_study(methods=("ce",), class_names=names, counts=(30, 30, 40, 60), synthetic=True)
    page = Page(results_html(read_results(study)))
    assert page.tags["script"] == 1, "the page's own"
    assert "Synthetic demo images: these numbers say nothing about real images." in page.text
    for name in names:
        assert page.words.count(name) >= 1, "in the table of classes"
    assert "It is the only method of this study" in page.text


@pytest.mark.usefixtures("without_figures")
def test_unfinished_losses_are_told_with_their_failures(
    make_study: MakeStudy, fail_run: Callable[[Path, str], None]
) -> None:
    study = make_study(methods=("alpa", "ce", "asl"))
    fail_run(study / "runs" / "alpa" / "seed0-fold2", "the loss became <nan> at step 7")
    shutil.rmtree(study / "runs" / "ce" / "seed0-fold0")
    text = Page(results_html(read_results(study))).text
    assert "alpa: 2 of 3 runs finished; failed: seed 0, fold 2: the loss became <nan> at step 7" in text
    assert "ce: 2 of 3 runs finished" in text
    assert "It is the only method with all its runs finished, so there is no comparison." in text


@pytest.mark.usefixtures("without_figures")
def test_no_answer_without_a_finished_loss(make_study: MakeStudy) -> None:
    study = make_study(methods=("alpa", "ce"))
    for method in ("alpa", "ce"):
        shutil.rmtree(study / "runs" / method / "seed0-fold0")
    shutil.rmtree(study / "runs" / "ce")
    write_report(study)
    page = page_of(study)
    assert "No answer yet" in page.text
    assert "alpa (2 of 3 runs) and ce (0 of 3 runs)" in page.text
    assert page.tags["svg"] == 2  # the tail, and the curve of the loss that has runs


def test_many_classes_have_no_matrix_but_a_table(make_study: MakeStudy) -> None:
    names = [f"class {number:02d}" for number in range(45)]
    study = make_study(methods=("ce",), class_names=names, counts=[15] * 44 + [600])
    page = Page(results_html(read_results(study)))
    assert "A confusion matrix of 45 classes does not fit on the page" in page.text
    assert page.words.count("class 44") == 3, (
        "in the tables of classes, of the one loss, and of prediction sets"
    )


@pytest.mark.usefixtures("without_figures")
def test_of_many_losses_and_classes_the_best_are_shown(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(methods=("alpa", "asl", "ce", "focal"), test_set_evaluations=1)
    whole = Page(results_html(read_results(study)))
    assert "are shown;" not in whole.text
    monkeypatch.setattr(
        import_module("tametail.report.study.sections"), "MOST_CELLS", 43
    )  # of 7 classes: 3 tables of 2, 1 of 6, a matrix more than it has
    cut = Page(results_html(read_results(study)))
    assert cut.text.count("Only the best 3 of 4 are shown; metrics.json has all.") == 2  # classes, test set
    assert (
        cut.text.count("Only the best 0 of 3 are shown; metrics.json has all.") == 1
    )  # all class metrics of others
    assert cut.tags["td"] < whole.tags["td"]


@pytest.mark.usefixtures("without_figures")
def test_a_folder_that_cannot_be_written_is_named(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(import_module("tametail.report.study.write"), "write_atomically", full)
    with pytest.raises(TametailError, match="No space left"):
        write_report(make_study(methods=("ce",)))
