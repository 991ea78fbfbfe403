"""A clean set of images, and one fault of each kind to plant into it."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES = ("bcc", "melanoma", "nevus")
PER_CLASS = 14


def picture(seed: int, side: int = 160) -> NDArray[np.uint8]:
    """A smooth picture with fine noise, another for each seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(20, 200, (6, 6, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return (smooth + rng.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)


class Set:
    """A folder of images with a labels.csv that can be changed and written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, str]] = []
        (folder / "images").mkdir(parents=True)
        for number in range(PER_CLASS * len(CLASSES)):
            self.add(f"{number:03}.png", CLASSES[number % len(CLASSES)], f"p{number // 2}")

    def add(self, name: str, label: str, group: str, pixels: NDArray[np.uint8] | None = None) -> Path:
        """One more image; its row is the last."""
        path = self.folder / "images" / name
        cv2.imwrite(str(path), picture(len(self.rows)) if pixels is None else pixels)
        self.rows.append({"image": f"images/{name}", "label": label, "group": group})
        return path

    def path(self, row: int) -> Path:
        return self.folder / self.rows[row]["image"]

    def write(self) -> Path:
        """Write labels.csv; returns the folder."""
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        with (self.folder / "labels.csv").open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)
        return self.folder


def _same_file_other_patient(images: Set) -> None:
    path = images.add("again.png", images.rows[4]["label"], "another")
    shutil.copy(images.path(4), path)


def _same_file_same_patient(images: Set) -> None:
    path = images.add("again.png", images.rows[4]["label"], images.rows[4]["group"])
    shutil.copy(images.path(4), path)


def _saved_again(images: Set) -> None:
    jpeg = images.folder / "images" / "again.jpg"
    images.add("again.jpg", images.rows[4]["label"], "another")
    cv2.imwrite(str(jpeg), picture(4), [cv2.IMWRITE_JPEG_QUALITY, 60])


def _two_labels(images: Set) -> None:
    path = images.add("again.png", "nevus", images.rows[4]["group"])
    assert images.rows[4]["label"] != "nevus"
    shutil.copy(images.path(4), path)


def _duplicate_in_test(images: Set) -> None:
    for number, row in enumerate(images.rows):
        row["split"] = "test" if number >= 24 else "train"
    path = images.add("again.png", images.rows[4]["label"], images.rows[30]["group"])
    images.rows[-1]["split"] = "test"
    shutil.copy(images.path(4), path)


def _group_in_test(images: Set) -> None:
    for number, row in enumerate(images.rows):
        row["split"] = "test" if number >= 25 else "train"


def _small_class(images: Set) -> None:
    images.add("rare.png", "rare", "r1")
    images.add("rarer.png", "rare", "r2")


def _spelling(images: Set) -> None:
    for number in (1, 4, 7, 10, 13, 16):
        images.rows[number]["label"] = "Melanoma"
    for number in range(6):
        images.add(f"more{number}.png", "Melanoma", f"m{number}")


def _patient_column(images: Set) -> None:
    for number, row in enumerate(images.rows):
        row["patient_id"] = f"X{number // 6:03}"
        row["age"] = str(40 + number % 9)
        row["sex"] = "mf"[number % 2]


def _truncated(images: Set) -> None:
    data = images.path(5).read_bytes()
    images.path(5).write_bytes(data[: len(data) // 2])


def _text_file(images: Set) -> None:
    images.path(5).write_text("not an image", encoding="utf-8")


def _blank(images: Set) -> None:
    images.add("blank.png", "nevus", "b", np.full((160, 160, 3), 17, np.uint8))


def _name_on_image(images: Set) -> None:
    pixels = picture(900, 400) // 3
    cv2.putText(
        pixels, "DOE JANE 1971", (8, 26), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2, cv2.LINE_AA
    )
    images.add("named.png", "nevus", "n", pixels)


def _tiny(images: Set) -> None:
    images.add("tiny.png", "nevus", "t", picture(901, 20))


def _long(images: Set) -> None:
    images.add("long.png", "nevus", "l", cv2.resize(picture(902), (900, 100)))


def _wrong_name(images: Set) -> None:
    images.add("real.png", "nevus", "w").rename(images.folder / "images" / "claimed.jpg")
    images.rows[-1]["image"] = "images/claimed.jpg"


def _frames(images: Set) -> None:
    from PIL import Image

    images.add("stack.png", "nevus", "f").unlink()
    stack = [Image.fromarray(picture(seed)) for seed in (903, 904)]
    stack[0].save(images.folder / "images" / "stack.tif", save_all=True, append_images=stack[1:])
    images.rows[-1]["image"] = "images/stack.tif"


def _names_of_patients(images: Set) -> None:
    for number, row in enumerate(images.rows):
        new = images.path(number).with_name(f"patient{number // 3:02}_{number % 3}.png")
        images.path(number).rename(new)
        row["image"] = f"images/{new.name}"
        del row["group"]


# finding → (severity, how to plant it, how many sets or things it must name)
FAULTS: dict[str, tuple[str, Callable[[Set], None], int]] = {
    "duplicates_apart": ("unsafe", _same_file_other_patient, 1),
    "exact_duplicates": ("note", _same_file_same_patient, 1),
    "near_duplicates": ("note", _saved_again, 1),
    "conflicting_labels": ("warning", _two_labels, 1),
    "duplicates_cross_split": ("unsafe", _duplicate_in_test, 1),
    "groups_cross_split": ("unsafe", _group_in_test, 1),
    "classes_too_small": ("unsafe", _small_class, 1),
    "alike_labels": ("unsafe", _spelling, 1),
    "unused_ids": ("unsafe", _patient_column, 1),
    "unreadable_files": ("warning", _truncated, 1),
    "unreadable_files, text": ("warning", _text_file, 1),
    "blank_images": ("warning", _blank, 1),
    "burned_in_text": ("warning", _name_on_image, 1),
    "tiny_images": ("warning", _tiny, 1),
    "long_images": ("note", _long, 1),
    "wrong_extension": ("note", _wrong_name, 1),
    "several_frames": ("note", _frames, 1),
    "grouped_by_name": ("warning", _names_of_patients, 0),
}
# What a fault brings with it, beside itself.
ALONG = {
    "duplicates_apart": {"exact_duplicates"},
    "near_duplicates": {"duplicates_apart"},
    "conflicting_labels": {"exact_duplicates"},
    "duplicates_cross_split": {"exact_duplicates", "duplicates_apart"},
}
