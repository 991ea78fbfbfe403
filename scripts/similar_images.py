"""How often other images are taken for copies, and changed copies found, on real images.

    python scripts/similar_images.py FOLDER ... [--images 500] [--halves 5] [--copies 50] [-o docs/results/copies.md]

Each FOLDER has labels.csv with the columns image and group. Two searches are measured:

- `tametail inspect`: all images are compared; pairs of different groups are false alarms, unless they are copies that the groups do not
  know. Then copies of some images are made in several ways and added, 50 of a way at a time: more than 2 % would raise the limits.
- The digests of a study, by which `predict` and `evaluate` recognise its images: the groups are divided at random into two halves, K times,
  and an image of one half that is recognised as one of the other is a false alarm. Then copies of N images are looked for among all.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tametail.audit import collect_stats, find_duplicates
from tametail.audit.image_stats import ImageStats
from tametail.data import ImageTable, decoded_images, read_images
from tametail.evaluation.intervals import wilson
from tametail.study.image_digests import ImageDigests, StudyImages, digests_of_files

SIDE = 224
COPIES = {  # factor of the side, suffix, options of the encoder
    "PNG": (1, ".png", {}),
    "JPEG quality 90": (1, ".jpg", {"quality": 90}),
    "JPEG quality 60": (1, ".jpg", {"quality": 60}),
    "half the size": (0.5, ".jpg", {"quality": 90}),
    "twice the size": (2, ".jpg", {"quality": 90}),
}
Change = Callable[[Image.Image], Image.Image]


def cropped(share: float, shift: float = 0) -> Change:
    """Crop to a share of each side, in the middle or moved by a share of the margin, and enlarge to the old size."""

    def change(image: Image.Image) -> Image.Image:
        margins = [side * (1 - share) / 2 for side in image.size]
        left, top = (round(margin * (1 + shift)) for margin in margins)
        width, height = (round(side * share) for side in image.size)
        part = image.crop((left, top, left + width, top + height))
        return part.resize(image.size, Image.Resampling.BICUBIC)

    return change


def halved(image: Image.Image) -> Image.Image:
    """Half the size."""
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)


# Way → (change, quality of the JPEG). Of each family one is planted at a time, as each has a limit of its own.
FAMILIES: tuple[dict[str, tuple[Change, int]], ...] = (
    {
        "JPEG quality 90": (lambda image: image, 90),
        "JPEG quality 60": (lambda image: image, 60),
        "half the size": (halved, 90),
        "brightened by 20 %": (lambda image: image.point(lambda value: min(round(1.2 * value), 255)), 90),
        "inverted": (ImageOps.invert, 90),
    },
    {
        "mirrored": (ImageOps.mirror, 90),
        "upside down": (ImageOps.flip, 90),
        "rotated by 90°": (lambda image: image.transpose(Image.Transpose.ROTATE_90), 90),
        "rotated by 180°": (lambda image: image.transpose(Image.Transpose.ROTATE_180), 90),
        "mirrored, JPEG quality 60": (ImageOps.mirror, 60),
    },
    {
        "cropped to 95 % of the side": (cropped(0.95), 90),
        "cropped to 90 %": (cropped(0.9), 90),
        "cropped to 80 %": (cropped(0.8), 90),
        "cropped to 65 %": (cropped(0.65), 90),
        "cropped to 80 %, moved by half the margin": (cropped(0.8, 0.5), 90),
    },
)


def with_interval(hits: int, n: int, digits: int = 1) -> str:
    """A proportion in percent with its Wilson interval."""
    low, high = (float(limit) for limit in wilson(hits / n, n))
    value, low, high = (f"{100 * one:.{digits}f}" for one in (hits / n, low, high))
    return f"{value} ({low} to {high})"


def joined(one: ImageStats, other: ImageStats) -> ImageStats:
    """Statistics of two sets of files as one."""
    return ImageStats([*one.files, *other.files], np.concatenate([one.thumbnails, other.thumbnails]))


def of_inspect(table: ImageTable, copies: int, rng: np.random.Generator) -> Iterator[str]:
    """False alarms and detection of the audit."""
    stats = collect_stats(table.paths)
    groups, images = table.groups, table.images
    found = find_duplicates(stats)
    crossing = [pair for pair in (*found.near, *found.changed) if groups[pair[0]] != groups[pair[1]]]
    touched = len({row for pair in crossing for row in pair})
    pairs = "; ".join(" and ".join(Path(images[row]).stem for row in pair) for pair in crossing)
    yield (
        f"{len(table):,} images, {len(set(groups.tolist())):,} groups. Pairs of different groups: {len(crossing)}"
        f"{f' ({pairs})' if pairs else ''}, that is {touched} of {len(table):,} images, {with_interval(touched, len(table), 2)} %.\n"
    )
    yield "| copies | found, % | n |"
    yield "|---|---:|---:|"
    results: dict[str, int] = {}
    for ways in zip(*FAMILIES, strict=True):
        rows = rng.choice(np.flatnonzero(stats.readable), (len(ways), copies), replace=False)
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for family, way, of_way in zip(FAMILIES, ways, rows, strict=True):
                change, quality = family[way]
                for row in of_way:
                    paths.append(Path(folder) / f"{len(paths)}.jpg")
                    change(Image.open(table.paths[row]).convert("RGB")).save(paths[-1], quality=quality)
            search = find_duplicates(joined(stats, collect_stats(paths)))
        linked = {*search.near, *search.changed}
        for place, way in enumerate(ways):
            at = len(table) + place * copies
            results[way] = sum((int(row), at + number) in linked for number, row in enumerate(rows[place]))
    for family in FAMILIES:
        for way in family:
            yield f"| {way} | {with_interval(results[way], copies)} | {copies} |"


def take(digests: ImageDigests, rows: np.ndarray) -> ImageDigests:
    """Some rows of digests."""
    return ImageDigests(digests.content[rows], digests.pixels[rows], digests.perceptual[rows])


def of_studies(table: ImageTable, halves: int, images: int, rng: np.random.Generator) -> Iterator[str]:
    """False alarms and recognition of the digests of a study."""
    decoded = decoded_images(table, SIDE)
    began = time.perf_counter()
    digests = ImageDigests.of(decoded.pixels, decoded.digests)
    seconds = time.perf_counter() - began
    names, member = np.unique(table.groups, return_inverse=True)
    alarms, seen = 0, 0
    for _ in range(halves):
        one = (rng.permutation(len(names)) < len(names) // 2)[member]
        study = StudyImages(take(digests, one), np.ones(one.sum(), dtype=np.bool_))
        found = study.recognise(take(digests, ~one))
        alarms, seen = alarms + sum(found.held_out.values()), seen + found.images
    yield f"False alarms: {alarms:,} of {seen:,} images of other halves. Digests of all images take {seconds:.1f} s.\n"
    yield "| copies | recognised, % | n | how |"
    yield "|---|---:|---:|---|"
    study = StudyImages(digests, np.ones(len(table), dtype=np.bool_))
    rows = rng.choice(len(table), min(images, len(table)), replace=False)
    for name, (factor, suffix, encoder) in COPIES.items():
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{row}{suffix}" for row in rows]
            for row, path in zip(rows, paths, strict=True):
                image = Image.open(table.paths[row]).convert("RGB")
                size = (round(image.width * factor), round(image.height * factor))
                image.resize(size, Image.Resampling.BICUBIC).save(path, **encoder)
            found = study.recognise(digests_of_files(paths, {"spec": {"canvas": SIDE}, "table": {}}))
        ways = ", ".join(f"{count} {way}" for way, count in found.held_out.items())
        yield f"| {name} | {with_interval(sum(found.held_out.values()), len(rows))} | {len(rows)} | {ways} |"


def report(options: argparse.Namespace) -> Iterator[str]:
    """The whole page, line by line."""
    names = " ".join(Path(folder).name for folder in options.folders)
    yield "# Copies of images: false alarms and detection\n"
    yield f"    python scripts/similar_images.py {names} --images {options.images} --halves {options.halves} --copies {options.copies}\n"
    yield (
        "Copies are made of images drawn at random, saved as JPEG of quality 90 unless said otherwise, and added to the set. Proportions in %, with 95 % "
        "intervals over images (Wilson)."
    )
    for folder in options.folders:
        table = read_images(folder, allow_leaks=True)
        yield f"\n## {table.name}, `tametail inspect`\n"
        yield from of_inspect(table, options.copies, np.random.default_rng(0))
        if options.halves:
            yield f"\n## {table.name}, recognised as images of a study\n"
            yield from of_studies(table, options.halves, options.images, np.random.default_rng(0))


def main() -> int:
    """Print or write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--halves", type=int, default=5, help="0 to leave the digests of studies out")
    parser.add_argument("--copies", type=int, default=50)
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    lines = []
    for line in report(options):
        print(line, flush=True)
        lines.append(line)
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
