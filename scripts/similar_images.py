"""How often other images are taken for images of a study, and changed copies recognised, on real images.

    python scripts/similar_images.py FOLDER [--images N] [--halves K]

FOLDER has labels.csv with the columns image and group. Its groups are divided at random into two halves, K times: an image of one half that is
recognised as one of the other is a false alarm. Then copies of N images are made in several ways and looked for among all images. Prints
both rates, and the time that the digests of all images take.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tametail.data import decoded_images, read_images
from tametail.study.image_digests import ImageDigests, StudyImages, digests_of_files

SIDE = 224
COPIES = {  # factor of the side, suffix, options of the encoder
    "PNG": (1, ".png", {}),
    "JPEG quality 90": (1, ".jpg", {"quality": 90}),
    "JPEG quality 60": (1, ".jpg", {"quality": 60}),
    "half the size": (0.5, ".jpg", {"quality": 90}),
    "twice the size": (2, ".jpg", {"quality": 90}),
}


def take(digests: ImageDigests, rows: np.ndarray) -> ImageDigests:
    """Some rows of digests."""
    return ImageDigests(digests.content[rows], digests.pixels[rows], digests.perceptual[rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--halves", type=int, default=5)
    options = parser.parse_args()
    table = read_images(options.folder)
    decoded = decoded_images(table, SIDE)
    began = time.perf_counter()
    digests = ImageDigests.of(decoded.pixels, decoded.digests)
    print(f"{len(table)} images, digests of all in {time.perf_counter() - began:.1f} s")
    rng = np.random.default_rng(0)
    names, member = np.unique(table.groups, return_inverse=True)
    alarms, seen = 0, 0
    for _ in range(options.halves):
        one = (rng.permutation(len(names)) < len(names) // 2)[member]
        study = StudyImages(take(digests, one), np.ones(one.sum(), dtype=np.bool_))
        found = study.recognise(take(digests, ~one))
        alarms, seen = alarms + sum(found.held_out.values()), seen + found.images
    print(f"false alarms: {alarms} of {seen} ({100 * alarms / seen:.3f} %)")
    study = StudyImages(digests, np.ones(len(table), dtype=np.bool_))
    rows = rng.choice(len(table), min(options.images, len(table)), replace=False)
    for name, (factor, suffix, encoder) in COPIES.items():
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{row}{suffix}" for row in rows]
            for row, path in zip(rows, paths, strict=True):
                image = Image.open(table.paths[row]).convert("RGB")
                size = (round(image.width * factor), round(image.height * factor))
                image.resize(size, Image.Resampling.BICUBIC).save(path, **encoder)
            found = study.recognise(digests_of_files(paths, {"spec": {"canvas": SIDE}, "table": {}}))
        ways = ", ".join(f"{count} {way}" for way, count in found.held_out.items())
        print(f"{name}: {100 * sum(found.held_out.values()) / len(rows):.1f} % of {len(rows)} ({ways})")


if __name__ == "__main__":
    main()
