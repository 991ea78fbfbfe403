"""Figures as files: which there are, that they are what they say, and the same bytes when made again."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fixtures.label_study import write_label_study
from tametail.core.errors import UsageError
from tametail.report import read_results, write_report
from tametail.report.figures.confusion import confusion_drawing
from tametail.report.figures.export import DOTS_PER_INCH, printed
from tametail.report.figures.files import FIGURE_NAMES, drawings, figure_files, formats_of, formats_there
from tametail.report.figures.svg import inlined, page_colours
from tametail.report.study.results import StudyResults

MakeStudy = Callable[..., Path]


@pytest.fixture(scope="module")
def results(held_out_study: Path) -> StudyResults:
    return read_results(held_out_study)


@pytest.fixture(scope="module")
def files(results: StudyResults) -> dict[str, bytes]:
    return figure_files(results, ("pdf", "svg", "png"))


@pytest.mark.slow
def test_every_figure_is_there_in_every_format(files: dict[str, bytes]) -> None:
    names = ("tail", "ranking", "recall", "confusion", "reliability")
    assert set(files) == {f"figures/{name}.{suffix}" for name in names for suffix in ("pdf", "svg", "png")}


def test_they_are_the_same_bytes_when_made_again(results: StudyResults, files: dict[str, bytes]) -> None:
    for drawn in drawings(replace(results))[1::3]:  # bars with intervals, and a curve with text beside it
        for suffix, content in printed(drawn, ("pdf", "svg", "png")).items():
            assert files[f"figures/{drawn.name}.{suffix}"] == content


def test_pictures_have_300_dots_to_the_inch_on_white(results: StudyResults, files: dict[str, bytes]) -> None:
    for drawn in drawings(results):
        picture = cv2.imdecode(
            np.frombuffer(files[f"figures/{drawn.name}.png"], np.uint8), cv2.IMREAD_UNCHANGED
        )
        height, width = picture.shape[:2]
        assert width == pytest.approx(drawn.width * DOTS_PER_INCH / 72, abs=2)
        assert height == pytest.approx(drawn.height * DOTS_PER_INCH / 72, abs=2)
        assert (picture[0, 0, :3] == 255).all()


def test_colours_are_those_of_the_page_in_light(files: dict[str, bytes]) -> None:
    for name, content in files.items():
        if name.endswith(".svg"):
            text = content.decode()
            assert page_colours()["C0"] in text or "<image" in text
            assert "var(--" not in text
            assert not re.search(r"#0600[01]\d", text), "a stand-in"


def test_letters_are_embedded_or_outlines(files: dict[str, bytes]) -> None:
    for name, content in files.items():
        if name.endswith(".pdf"):
            assert b"/FontFile2" in content, "TrueType inside"
            assert b"/Type3" not in content
        elif name.endswith(".svg"):
            assert b"<text" not in content


def test_no_file_says_when_it_was_made(files: dict[str, bytes]) -> None:
    for content in files.values():
        assert b"CreationDate" not in content
        assert b"<dc:date" not in content


def test_the_page_s_figures_have_its_variables(results: StudyResults) -> None:
    for drawn in drawings(results):
        svg = inlined(drawn)
        assert not re.search(r"#0600[01][0-9a-f]", svg)
        assert "var(--" in svg
        assert f'aria-label="{drawn.description[:9]}' in svg


def test_the_confusion_figure_shows_shares_of_each_row(results: StudyResults) -> None:
    best = results.ranking[0]
    assert best.out_of_fold is not None
    drawn = confusion_drawing(best.method, best.out_of_fold, results.by_frequency)
    counts = best.out_of_fold.confusion
    for index in results.by_frequency:
        share = counts[index, index] / counts[index].sum()
        assert f"{results.class_names[index]} {100 * share:.0f} %" in drawn.description


def test_an_absent_class_and_many_classes_are_drawn(results: StudyResults) -> None:
    best = results.ranking[0].out_of_fold
    assert best is not None
    confusion = best.confusion.copy()
    confusion[0] = 0
    assert printed(confusion_drawing("ce", replace(best, confusion=confusion), range(7)), ("svg",))["svg"]
    many = replace(best, classes=best.classes * 3, confusion=np.tile(best.confusion, (3, 3)))
    assert printed(confusion_drawing("ce", many, range(21)), ("svg",))["svg"]


def test_of_labels_there_is_average_precision(tmp_path: Path) -> None:
    found = read_results(write_label_study(tmp_path / "study"))
    assert [drawn.name for drawn in drawings(found)] == ["tail", "ranking", "average-precision"]


def test_without_a_ranking_there_is_the_tail(make_study: MakeStudy) -> None:
    study = make_study(methods=("ce",))
    (study / "runs" / "ce" / "seed0-fold1" / "run.json").unlink()
    assert [drawn.name for drawn in drawings(read_results(study))] == ["tail"]


def test_every_name_is_known(results: StudyResults, tmp_path: Path) -> None:
    labels = read_results(write_label_study(tmp_path / "study"))
    assert {drawn.name for found in (results, labels) for drawn in drawings(found)} == set(FIGURE_NAMES)


def test_formats_are_read_from_text() -> None:
    assert formats_of("PDF, .svg,png,pdf") == ("pdf", "svg", "png")
    for text in ("pdf,eps", "", ","):
        with pytest.raises(UsageError, match="--figures as some of pdf, png, svg"):
            formats_of(text)


@pytest.mark.usefixtures("without_figures")
def test_figures_that_are_there_are_made_again_with_the_report(make_study: MakeStudy) -> None:
    study = make_study(methods=("ce",))
    write_report(study, figures=("svg",))
    assert formats_there(study) == ("svg",)
    first = (study / "figures" / "ranking.svg").read_bytes()
    (study / "figures" / "ranking.svg").write_bytes(b"old")
    (study / "figures" / "mine.svg").write_bytes(b"kept")
    write_report(study)
    assert (study / "figures" / "ranking.svg").read_bytes() == first
    assert (study / "figures" / "mine.svg").read_bytes() == b"kept"
    (study / "runs" / "ce" / "seed0-fold1" / "run.json").unlink()
    write_report(study)
    assert sorted(path.name for path in (study / "figures").iterdir()) == ["mine.svg", "tail.svg"]


def test_pdf_pages_are_drawn_in_the_colours_of_the_page(files: dict[str, bytes]) -> None:
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", files["figures/tail.pdf"], flags=re.DOTALL)
    drawn = b"".join(zlib.decompress(one) for one in streams if one[:1] == b"\x78")
    red = int(page_colours()["C0"][1:3], 16) / 255
    assert f"{red:.10f}"[:8].encode() in drawn
