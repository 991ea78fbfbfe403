"""The page of predict --html: what it shows, and that names of images and classes do no harm."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from fixtures.browser_page import HOSTILE
from fixtures.colour_classifier import NAMES, colour_classifier, scores_of
from tametail.cli.app import app
from tametail.core.console import Console
from tametail.deployment import load as loading
from tametail.deployment import predictions_page
from tametail.deployment.classifier import Classifier
from tametail.deployment.predictions_page import Thumbnails, predictions_html

RULE = "the method's decision rule"


class Table(HTMLParser):
    """The rows of the body of the table: classes of the row, texts of the cells, sources of pictures."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.kinds: list[str] = []
        self.keys: list[list[str | None]] = []
        self.pictures: list[str] = []
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "table":
            self._inside = "predictions" in str(given.get("class"))
        if not self._inside:
            return
        if tag == "tr":
            self.rows.append([])
            self.keys.append([])
            self.kinds.append(given.get("class") or "")
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
            self.keys[-1].append(given.get("data-v"))
        elif tag == "img":
            self.pictures.append(str(given["src"]))
        elif tag in {"small", "span"}:
            self.rows[-1][-1] += " "

    def handle_data(self, data: str) -> None:
        if self._inside and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "table"

    def column(self, header: str) -> list[str]:
        """The cells below a header."""
        at = [text.strip() for text in self.rows[0]].index(header)
        return [" ".join(row[at].split()) for row in self.rows[1:]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A red, a green, a blue and a grey image, and one that is damaged."""
    for name, colour in {"a": (255, 0, 0), "b": (0, 255, 0), "c": (0, 0, 255), "d": (99, 99, 90)}.items():
        pixels = np.full((120, 200, 3), colour, np.uint8)
        pixels[::8] //= 2  # so that they are not blank
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "e.png").write_bytes(b"\x89PNG")
    return tmp_path


def page_of(
    model: Classifier, images: Any, *, extra: Mapping[str, Any] | None = None, **options: Any
) -> tuple[str, pd.DataFrame]:
    """The page, and the table of predictions with ``extra`` columns."""
    thumbnails, console = Thumbnails(), Console(quiet=True)
    with console.recorded() as said:
        table = model.predict_table(images, console, on_image=thumbnails, **options)
    table = table.assign(**extra or {})
    prevalence = options.get("prevalence")
    page = predictions_html(table, model.facts, RULE, thumbnails=thumbnails, said=said, prevalence=prevalence)
    return page, table


def test_a_row_has_its_picture_prediction_probabilities_set_and_flags(folder: Path) -> None:
    page, table = page_of(colour_classifier(), folder)
    shown = Table(page)
    assert shown.column("Image") == [f"{name}.png" for name in "abcde"]
    assert shown.column("Predicted")[:4] == table["predicted"].tolist()[:4] == [*NAMES, "red"]
    p = table[[f"p_{name}" for name in NAMES]].to_numpy()
    first = [f"{name} {100 * value:.1f}" for value, name in sorted(zip(p[0], NAMES, strict=True), key=lambda each: -each[0])]  # fmt: skip
    assert shown.column("Probabilities, %")[0] == " ".join(first)
    sets = [" ".join(text.replace(",", "").split()) for text in shown.column("Prediction set")]
    assert sets[:4] == [text.replace("|", " ") for text in table["prediction_set"][:4]]
    assert table["set_size"].tolist()[:4] == [1, 1, 1, 3]
    assert shown.column("Flags")[:4] == ["", "", "", "set of 3 classes"]
    assert shown.kinds == ["", "", "", "", "uncertain", "errors"]
    error = shown.column("Flags")[4]
    assert error == f"cannot be read: {table['error'][4]}"
    keys = [row[3] for row in shown.keys[1:]]
    assert keys == [f"{value:.6f}" for value in p[:4].max(axis=1)] + [""]
    copies = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in shown.pictures]
    assert [(copy.format, *copy.size) for copy in copies] == [("JPEG", 32, 32)] * 4
    np.testing.assert_allclose(np.array(copies[1])[16, 16], (0, 255, 0), atol=20)
    assert "4 images predicted, 1 could not be read." in page
    assert "All 5" in page
    assert "Uncertain 1" in page
    assert "Errors 1" in page


def test_the_head_says_by_what_was_decided(folder: Path) -> None:
    model = colour_classifier(method="ce+la", synthetic=True)
    shares = {"red": 2.0, "green": 1.0, "blue": 1.0}
    page, _ = page_of(model, folder, prevalence=shares, operating={"blue": 0.8}, coverage=0.85)
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    for said in (
        "Model ce+la, mean of 5 fold models; colour at 32 px",
        "link softmax; calibration: ",
        RULE.replace("'", "&#39;"),
        "Prevalence in training red 54.5 %, green 27.3 %, blue 18.2 %",
        "Given prevalence red 50 %, green 25 %, blue 25 %",
        "Prediction sets coverage of 85 % in each class, at any prevalence",
        "Operating point blue is predicted from a probability of",
        f"Folder of the images {folder}/",
        "Trained on colours",
        "Synthetic demo images",
    ):
        assert said in text, said
    assert "Synthetic" not in page_of(colour_classifier(), folder)[0]


def test_rows_of_a_table_that_was_said_stay_together(folder: Path) -> None:
    model, console = colour_classifier(), Console(quiet=True)
    with console.recorded() as said:
        for line in (
            "Prevalence in 5 images:",
            "class   prevalence",
            "red         20.0 %",
            "Predictions are adapted",
            "A: b",
        ):
            console.say(line)
        console.warn("do not rely on the estimate")
    table = model.predict_table(folder)
    page = predictions_html(table, model.facts, RULE, thumbnails={}, said=said)
    head = '<tr><th scope="col">class</th><th scope="col">prevalence</th></tr>'
    row = '<tr><th scope="row">red</th><td>20.0 %</td></tr>'
    found = page.replace("\n", "")
    assert f'<dd>Prevalence in 5 images:<table class="said">{head}{row}</table></dd>' in found
    assert "<dt>Note</dt><dd>Predictions are adapted</dd><dt>A</dt><dd>b</dd>" in page
    assert '<p class="warning" role="note">Do not rely on the estimate</p>' in page
    console.say("not recorded")
    assert len(said) == 6


def test_a_decision_that_is_not_the_most_probable_class_is_shown(folder: Path) -> None:
    page, table = page_of(colour_classifier(), folder, operating={"blue": 0.97})
    assert table["predicted"][3] == "blue" != table["most_probable"][3]
    assert Table(page).column("Predicted")[3] == "blue most probable: red"


def test_sets_that_are_empty_or_without_the_predicted_class_are_uncertain(folder: Path) -> None:
    sure = tuple(scores_of(np.linspace(0.9999, 1, 40)) for _ in NAMES)
    page, table = page_of(colour_classifier(distributions=sure), folder / "d.png")
    assert table["set_size"][0] == 0
    assert Table(page).column("Flags") == ["no class is probable enough for the set"]
    assert Table(page).column("Prediction set") == ["empty"]
    assert Table(page).kinds[1] == "uncertain"
    other = (*sure[:2], scores_of(np.linspace(0.1, 0.2, 40)))
    page, table = page_of(colour_classifier(distributions=other), folder / "d.png")
    assert (table["predicted"][0], table["prediction_set"][0]) == ("red", "blue")
    assert Table(page).column("Flags") == ["predicted class not in the set"]
    assert Table(page).kinds[1] == "uncertain"


def test_unlike_and_poor_images_are_shown_where_the_table_says_so(folder: Path) -> None:
    extra = {
        "unlikeness": [0.3, 2.5, None, 1.0, None],
        "unlike_training": pd.array([0, 1, None, 0, None], dtype="Int64"),
        "quality": ["", "blank|tiny", None, "", None],
    }
    page, _ = page_of(colour_classifier(), folder, extra=extra)
    shown = Table(page)
    assert shown.kinds[1:] == ["", "unlike quality", "", "uncertain", "errors"]
    assert shown.column("Unlikeness") == ["0.30", "2.50", "", "1.00", ""]
    flags = "unlike the training images: do not use the prediction blank tiny"
    assert shown.column("Flags")[1] == flags
    assert "Unlike training 1" in page
    assert "Quality 1" in page
    plain = page_of(colour_classifier(), folder)[0]
    assert "Unlike" not in re.sub(r"<style.*?</style>|<script.*?</script>", "", plain, flags=re.DOTALL)


def test_labels_are_all_shown_and_have_no_sets(folder: Path) -> None:
    page, table = page_of(colour_classifier(labels=True), folder)
    shown = Table(page)
    assert shown.column("Predicted")[:4] == ["red", "green", "blue", "no label"]
    assert table["predicted"].tolist()[3] == ""
    assert "Prediction set" not in page
    assert "Uncertain" not in page
    assert "Thresholds of the labels" in page


def test_a_group_is_one_row_with_the_first_image_that_can_be_read(folder: Path, tmp_path: Path) -> None:
    model = colour_classifier(labels=True, predict_by="group")
    images = [folder / f"{name}.png" for name in "ebcad"]
    groups = ["p2", "p2", "p2", "p1", "p1"]
    thumbnails = Thumbnails(dict(zip(map(str, images), groups, strict=True)))
    table = model.predict_table(images, groups=groups, on_image=thumbnails)
    shown = Table(predictions_html(table, model.facts, RULE, thumbnails=thumbnails))
    assert shown.column("Group") == ["p1 2 images", "p2 2 images"]
    colours = [
        np.array(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))[9, 9].argmax()
        for source in shown.pictures
    ]
    assert colours == [0, 1]
    table = table.assign(unlikeness=[0.5, 2.0], unlike_training=[0, 1], unlike_images=[0, 1])
    shown = Table(predictions_html(table, model.facts, RULE, thumbnails=thumbnails))
    flag = "1 of 2 images unlike the training images: do not use the prediction"
    assert shown.column("Flags") == ["", flag]
    assert shown.kinds[1:] == ["", "unlike"]


def test_of_more_rows_the_first_are_shown_and_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions_page, "MOST_ROWS", 3)
    page, _ = page_of(colour_classifier(), folder)
    shown = Table(page)
    assert shown.column("Image") == ["a.png", "b.png", "c.png"]
    assert len(shown.pictures) == 3
    assert "The first 3 images; the table of predictions (CSV) has the other 2 too." in page
    assert "4 images predicted, 1 could not be read." in page
    assert "Errors 0" in page


def test_names_do_no_harm_and_nothing_is_loaded(tmp_path: Path) -> None:
    files = ['"><img src=x onerror=alert(2)>.png', "=cmd().png", "a\u202eb\n<b>.png", "<script>alert(1)<.png"]
    for name in files:
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    (tmp_path / "<b>broken.png").write_bytes(b"")
    page, _ = page_of(colour_classifier(HOSTILE[:3], method="<i>ce</i>"), tmp_path)
    assert page.count("<script") == 1
    assert page.count("<img") == 4
    for tag in ("<b>b", "<i>", "<b>.png", "<img src=x"):
        assert tag not in page
    assert "\u202e" not in page
    assert set(Table(page).column("Image")) >= {files[0], "=cmd().png", "a\ufffdb\ufffd<b>.png"}
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in sources)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "default-src 'none'; img-src data:" in policy[1].replace("&#39;", "'")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs predict with a model that need not be trained: its exit code, output and errors."""
    monkeypatch.setattr(loading, "load", lambda study, **options: colour_classifier())

    def run(*words: object) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["predict", "study", *map(str, words)])
        return result.exit_code, result.stdout, result.stderr

    return run


def test_the_command_writes_both_files_and_names_them(command: Any, folder: Path) -> None:
    out, page = folder / "p.csv", folder / "deep" / "p.html"
    code, output, _ = command(folder, "-o", out, "--html", page, "--quiet")
    assert (code, output.split()) == (3, [str(out), str(page)])
    shown = Table(page.read_text(encoding="utf-8"))
    assert shown.column("Predicted")[:4] == pd.read_csv(out)["predicted"].tolist()[:4]
    assert "coverage of 90 % in each class" in page.read_text(encoding="utf-8"), (
        "also if the console is quiet"
    )
    page.unlink()
    assert command(folder / "a.png", "-o", out)[0] == 0
    assert not page.exists()


def test_a_file_name_that_is_not_utf_8_is_written(command: Any, tmp_path: Path) -> None:
    name = os.fsdecode(b"a\xff.png")
    try:
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    assert command(tmp_path, "-o", tmp_path / "p.csv", "--html", tmp_path / "p.html")[0] == 0
    assert pd.read_csv(tmp_path / "p.csv")["image"][0] == f"{tmp_path}/a\\udcff.png"
    assert Table((tmp_path / "p.html").read_text(encoding="utf-8")).column("Image") == ["a\ufffd.png"]


def test_a_page_that_is_the_table_or_no_page_is_refused(
    command: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    code, _, errors = command("a.png", "-o", folder / "p.html", "--html", "./p.html")
    assert code == 2
    assert "expected two files, one for the table and one for the page" in " ".join(errors.split())
    code, _, errors = command("a.png", "-o", "p.csv", "--html", "b.png")
    assert code == 2
    assert "expected a page that ends in .html, got b.png" in " ".join(errors.split())
    assert not (folder / "p.html").exists()
    assert not (folder / "p.csv").exists()
