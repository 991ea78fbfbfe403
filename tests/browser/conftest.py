"""Pages in a headless Chromium, with what they ask for and complain of written down.

The browser is one that is installed already: TAMETAIL_CHROMIUM, or the first found. Nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.browser_page import HOSTILE, BrowserPage, Open
from fixtures.class_study import write_study
from fixtures.label_study import write_label_study
from fixtures.predictions_csv import frame_of, write
from fixtures.several_studies import write_sets
from tametail.report import write_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = (
    "--no-sandbox",  # tests run as root in many a container
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="make test-browser installs Playwright")
    found = os.environ.get("TAMETAIL_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium is installed; TAMETAIL_CHROMIUM names one that is elsewhere")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """Opens a file: its path, and options of a browser context."""
    contexts = []

    def opened(path: Path, *, width: int = 1280, height: int = 900, **options: Any) -> BrowserPage:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        found = BrowserPage(context.new_page())
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.on("console", lambda message: found.complaints.append(message.text))
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.on("dialog", lambda dialog: (found.complaints.append(dialog.message), dialog.dismiss()))
        found.page.goto(path.as_uri())
        return found

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every section but that of a test set, and with images."""
    folder = tmp_path_factory.mktemp("browser")
    study = write_study(
        folder / "study",
        methods=("alpa", "asl", "ce", "focal"),
        image_root=folder / "images",
        synthetic=True,
        unreadable=[("a<b>.png", "an empty file")],
        findings=[
            {"code": "x", "severity": "unsafe", "message": "two <b>groups</b> cross the split", "advice": "join them", "affected": 2},
            {"code": "y", "severity": "warning", "message": "3 images are twice there", "advice": "", "affected": 3},
        ],
    )  # fmt: skip
    return write_report(study)


@pytest.fixture(scope="session")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a study of two repeats after the test-set evaluation, whose classes have names that would do harm."""
    folder = tmp_path_factory.mktemp("hostile")
    study = write_study(
        folder / "study",
        methods=("ce", "alpa[variant=code]"),
        class_names=HOSTILE,
        counts=(60, 40, 30, 25),
        seeds=(0, 3),
        test_set_evaluations=2,
        image_root=folder / "images",
    )
    return write_report(study)


@pytest.fixture(scope="session")
def label_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of images that have several labels, or none."""
    return write_report(
        write_label_study(tmp_path_factory.mktemp("labels") / "study", test_set_evaluations=1)
    )


@pytest.fixture(scope="session")
def inspected(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    """The page of tametail inspect."""
    from tametail.audit import audit
    from tametail.data import read_images
    from tametail.report.audit.page import audit_html

    path = tmp_path_factory.mktemp("inspected") / "inspect.html"
    path.write_text(audit_html(audit(read_images(image_folder))), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def ranking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of tametail rank, of sets whose names would do harm."""
    from tametail.report.ranks.page import write_ranks

    folder = tmp_path_factory.mktemp("ranking")
    return write_ranks(write_sets(folder, HOSTILE), folder / "ranks")[1]


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two models that were trained elsewhere, with operating points and subgroups."""
    from typer.testing import CliRunner

    from tametail.cli.app import app

    folder = tmp_path_factory.mktemp("evaluated")
    files = [str(write(frame_of(0), folder / "a.csv")), str(write(frame_of(1, skill=0.5), folder / "b.csv"))]
    options = ("-o", str(folder / "out"), "--by", "sex", "--by", "age", "--operating", "mel=0.9", "--quiet")
    assert CliRunner().invoke(app, ["evaluate", *files, *options]).exit_code == 0
    return folder / "out" / "report.html"


@pytest.fixture(scope="session")
def recommended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of tametail recommend, with a name, a warning and a class that would do harm."""
    from fixtures.planted_clouds import results_on
    from tametail.recommend.narrative import Provenance
    from tametail.recommend.writers import page

    folder = tmp_path_factory.mktemp("recommended")
    provenance = Provenance(
        name=HOSTILE[0],
        synthetic=True,
        class_counts=dict(zip(HOSTILE, (480, 60, 40), strict=False)),
        test_images=10,
        folds=3,
        seeds=1,
        backbone="none",
        features="1,280 of its last layer",
        recipe={},
        splits="0123456789abcdef",
        unsafe=(HOSTILE[2],),
        options=(HOSTILE[0],),
    )
    path = folder / "recommend.html"
    path.write_text(page(results_on((480, 60, 40), 1.5, folder), provenance), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of tametail predict, of images and classes whose names would do harm."""
    from PIL import Image

    from fixtures.colour_classifier import colour_classifier
    from tametail.core.console import Console
    from tametail.deployment.predictions_page import Thumbnails, predictions_html

    folder = tmp_path_factory.mktemp("predicted")
    (folder / "images").mkdir()
    colours = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (99, 99, 90), (90, 99, 99))
    for name, colour in zip((*HOSTILE, "a" * 120), colours, strict=True):
        Image.new("RGB", (90, 60), colour).save(folder / "images" / f"{name.replace('/', '_')}.png")
    (folder / "images" / "broken.png").touch()
    model, thumbnails, console = (
        colour_classifier(HOSTILE[:3], synthetic=True),
        Thumbnails(),
        Console(quiet=True),
    )
    with console.recorded() as said:
        table = model.predict_table(
            folder / "images", console, on_image=thumbnails, operating={HOSTILE[2]: 0.97}
        )
    unlike = table["image"].str.contains("白血球")
    table = table.assign(
        unlikeness=unlike * 1.5 + 0.25,
        unlike_training=unlike.astype("Int64"),
        quality=unlike.map({True: "tiny", False: ""}),
    )
    path = folder / "predictions.html"
    path.write_text(
        predictions_html(table, model.facts, "the operating points", thumbnails=thumbnails, said=said),
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="session")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of tametail monitor, with alarms and classes whose names would do harm."""
    from fixtures.drifting_predictions import facts_of, stream
    from tametail.deployment.monitor import monitored
    from tametail.deployment.monitor_page import monitor_html

    folder, names = tmp_path_factory.mktemp("monitored"), tuple(HOSTILE[:3])
    facts = facts_of(names, synthetic=True)
    files = stream(folder, names=names, unlike=0.3, prevalence=[0.2, 0.3, 0.5])
    path = folder / "monitor.html"
    path.write_text(monitor_html(monitored(facts, files), facts), encoding="utf-8")
    return path


PAGES = (
    "report",
    "hostile_report",
    "label_report",
    "inspected",
    "evaluated",
    "ranking",
    "recommended",
    "predicted",
    "monitored",
)


@pytest.fixture(params=PAGES)
def any_page(request: pytest.FixtureRequest) -> Path:
    """Each kind of page in turn."""
    return Path(request.getfixturevalue(request.param))
