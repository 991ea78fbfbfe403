"""The pictures of docs/images: the report of the demo study as it is seen on a screen, in the dark and on a phone.

    make demo && sh scripts/setup_browser.sh && .venv/bin/python scripts/screenshots.py runs/demo docs/images

Only of synthetic images: a study of real ones is refused.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
COLOURS = 256  # of a palette: a third of the size


def main(study: Path, folder: Path) -> None:
    """Write report.png (1280 pixels wide), report-dark.png, report-images.png and report-390.png."""
    if not json.loads((study / "study.json").read_text(encoding="utf-8"))["synthetic"]:
        raise SystemExit(f"{study} holds real images; give the demo study")
    chromium = os.environ.get("TAMETAIL_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))

        def opened(width: int, height: int, scheme: str = "light") -> Any:
            size = {"width": width, "height": height}
            page = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            page.goto((study / "report.html").resolve().as_uri())
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
        page.goto(page.url + "#pairs")
        kept(page, "report-dark.png")
        page = opened(1280, 900)
        page.goto(page.url + "#images")
        kept(page, "report-images.png")
        kept(opened(390, 1240), "report-390.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
