"""The pictures of docs/images: the report of the demo study as it is seen on a screen, in the dark and on a phone.

    make demo && sh scripts/setup_browser.sh && .venv/bin/python scripts/screenshots.py runs/demo docs/images

Of a recommendation and a search as well, once they are made:

    tametail recommend demo && tametail search demo --trials 30
    .venv/bin/python scripts/screenshots.py runs/demo docs/images --recommend runs/recommend-demo --search runs/search-demo-alpa

Only of synthetic images: folders made from real ones are refused.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
COLOURS = 256  # of a palette: a third of the size


def check_synthetic(folder: Path, name: str) -> None:
    """Refuse a folder whose file ``name`` says that it was made from real images."""
    if json.loads((folder / name).read_text(encoding="utf-8")).get("synthetic") is not True:
        raise SystemExit(f"{folder} was made from real images; give that of the demo set")


def main(study: Path, folder: Path, recommended: Path | None = None, searched: Path | None = None) -> None:
    """Write report.png (1280 pixels wide), report-dark.png, report-images.png, report-390.png; recommend.png, search.png."""
    check_synthetic(study, "study.json")
    others = {"recommend": recommended, "search": searched}
    pages = {name: where for name, where in others.items() if where is not None}
    for name, where in pages.items():
        check_synthetic(where, f"{name}.json")
    chromium = os.environ.get("TAMETAIL_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))

        def opened(width: int, height: int, scheme: str = "light", file: Path = study / "report.html") -> Any:
            size = {"width": width, "height": height}
            page = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            page.goto(file.resolve().as_uri())
            return page

        def kept(page: Any, name: str) -> None:
            path = folder / name
            page.screenshot(path=path)
            Image.open(path).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
                path, optimize=True
            )
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")

        kept(opened(1280, 940), "report.png")
        page = opened(1280, 900, "dark")
        page.goto(page.url + "#methods")
        kept(page, "report-dark.png")
        page = opened(1280, 900)
        page.goto(page.url + "#images")
        kept(page, "report-images.png")
        kept(opened(390, 1240), "report-390.png")
        for name, where in pages.items():
            kept(opened(1280, 1500, file=where / f"{name}.html"), f"{name}.png")
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Pictures of pages of the demo set.")
    parser.add_argument("study", type=Path)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--recommend", type=Path, help="folder of tametail recommend demo")
    parser.add_argument("--search", type=Path, help="folder of tametail search demo")
    asked = parser.parse_args()
    main(asked.study, asked.folder, asked.recommend, asked.search)
